"""Which facilitator settles, and how it is to know who asks."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from x402bind.compat.y402.facilitator_client.errors import HeadersBuildingFacilitatorError
from x402bind.translate.facilitator import RemoteFacilitator
from x402core.errors import LocalProtocolError
from x402core.events import Headers

from .errors import MisconfigurationError

__all__ = ["FacilitatorConfig", "FacilitatorHeaders"]

_ENDPOINTS: Final = ("verify", "settle", "supported")
_Made: TypeAlias = Mapping[str, str] | Callable[[], Mapping[str, str]] | Callable[[], Awaitable[Mapping[str, str]]]
FacilitatorHeaders: TypeAlias = Mapping[Literal["verify", "settle", "supported"], _Made] | Mapping[str, str] | _Made
"""Headers for every endpoint, or by endpoint; each a dict, or a function that returns one, async or not (Y24)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FacilitatorConfig:
    """The facilitator at ``url``, which has ``/verify`` and ``/settle`` below it, asked with ``headers``.

    ``timeout`` is in seconds.  Raises: MisconfigurationError naming the field.
    """

    url: str = "https://x402.org/facilitator"
    headers: FacilitatorHeaders | None = field(default=None, repr=False)
    timeout: float = 30.0

    def __post_init__(self) -> None:
        if self.headers is not None and not callable(self.headers) and not isinstance(self.headers, Mapping):
            raise MisconfigurationError("a dict, or a function that returns one", field="headers")
        self.remote()

    def remote(self) -> RemoteFacilitator:
        """Return it as our sellers take it."""
        try:
            auth: Any = self._auth if self.headers else ()
            return RemoteFacilitator(self.url, auth, self.timeout)
        except LocalProtocolError as error:
            raise MisconfigurationError(error.message.removeprefix(f"{error.field}: "), field=error.field) from None

    def _auth(self, path: str) -> Headers | Awaitable[Headers]:
        made = self._of(path.strip("/"))
        if callable(made):
            made = made()
        return _awaited(made) if inspect.isawaitable(made) else _pairs(made)

    def _of(self, endpoint: str) -> Any:
        given: Any = self.headers
        if isinstance(given, Mapping) and any(not isinstance(value, str) for value in given.values()):
            return given.get(endpoint, {})
        if isinstance(given, Mapping) and given and all(name in _ENDPOINTS for name in given):
            raise HeadersBuildingFacilitatorError(f"the headers for {endpoint} are a dict, or a function that returns one")
        return given


async def _awaited(made: Awaitable[Any]) -> Headers:
    return _pairs(await made)


def _pairs(made: Any) -> Headers:
    if not isinstance(made, Mapping):
        raise HeadersBuildingFacilitatorError(f"headers are a dict, not {type(made).__name__}")
    return tuple(made.items())
