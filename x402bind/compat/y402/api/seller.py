"""The seller behind ``payment_required``, which asks its facilitator at start-up whether it can be asked at all.

y402 asks facilitators in x402 v1, this project in v2 alone, whatever a payer speaks.  A facilitator that knows no v2 would
refuse every payment: it is named before anything is offered.
"""

from __future__ import annotations

from typing import Any

from x402bind.compat.y402.core.types.errors import MisconfigurationError
from x402bind.drive import arun
from x402bind.leaves import shown
from x402bind.seller import Seller
from x402bind.translate.facilitator import supported_by
from x402core.values import Network
from x402core.wire import v1
from x402core.wire.facilitator import Supported
from x402core.wire.v2 import EXACT

__all__ = ["Y402Seller"]


class Y402Seller(Seller):
    """A seller through one facilitator; ``open_ended`` when prices are functions, so that not every network may be used."""

    def __init__(self, *, open_ended: bool, **how: Any) -> None:
        super().__init__(**how)
        self.open_ended = open_ended

    async def prepare(self) -> None:
        """Ask the facilitator what it settles.

        Raises: MisconfigurationError when it settles nothing that is sold here, or not all; FacilitatorUnavailable.
        """
        assert self.facilitators is not None
        async with self._asking() as perform:
            said = await arun(supported_by(self.facilitators), perform)
        wanting = [network for network in self.networks if not said.takes(EXACT, network)]
        older = [network for network in wanting if self._in_v1(said, network)]
        if self.open_ended and (len(wanting) < len(self.networks) or not older):
            return
        where = shown(self.facilitators.all[0].url)
        if older:
            raise MisconfigurationError(
                f"{where} settles {', '.join(map(self._name, older))} in x402 v1 only, and is asked in v2: name one whose "
                f"/supported has x402Version 2 for {', '.join(older)} (payers may go on paying in v1)",
                field="facilitator_config",
            )
        if wanting:
            raise MisconfigurationError(f"{where} does not settle on {', '.join(wanting)}", field="facilitator_config")

    def _in_v1(self, said: Supported, network: Network) -> bool:
        names = (self._name(network), network)
        return any((kind.version, kind.scheme) == (v1.VERSION, v1.EXACT) and kind.network in names for kind in said.kinds)

    def _name(self, network: Network) -> str:
        return self.registry.v1_name(network) or network
