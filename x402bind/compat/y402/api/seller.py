"""The seller behind ``payment_required``, which asks its facilitator at start-up whether it settles what is sold here."""

from __future__ import annotations

from typing import Any

from x402bind.compat.y402.core.types.errors import MisconfigurationError
from x402bind.drive import arun
from x402bind.leaves import shown
from x402bind.seller import Seller
from x402bind.translate.facilitator import supported_by
from x402core.events import Method
from x402core.wire.v2 import EXACT

__all__ = ["Y402Seller"]


class Y402Seller(Seller):
    """A seller through one facilitator; ``open_ended`` when prices are functions, so that not every network may be used."""

    def __init__(self, *, open_ended: bool, **how: Any) -> None:
        super().__init__(**how)
        self.open_ended = open_ended

    async def prepare(self) -> None:
        """Ask the facilitator what it settles, and in which version.

        Raises: MisconfigurationError when it settles nothing that is sold here, or not all; FacilitatorUnavailable.
        """
        group = self.facilitators
        assert group is not None
        async with self._asking() as perform:
            await arun(supported_by(group), perform)
        wanting = [network for network in self.networks if not group.settles(EXACT, Method.EIP3009, network)]
        if wanting and not (self.open_ended and len(wanting) < len(self.networks)):
            where = shown(group.all[0].url)
            raise MisconfigurationError(f"{where} does not settle on {', '.join(wanting)}", field="facilitator_config")
