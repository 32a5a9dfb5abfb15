"""The setup that counts for an endpoint: the server's, with the endpoint's own merged in, worked out once."""

from __future__ import annotations

from typing import Any

from .endpoint_settings import settings_of
from .setup import Y402Setup

__all__ = ["FinalEndpointSetupRegistry"]


class FinalEndpointSetupRegistry:
    """Setups by endpoint; ``custom`` is the server's.  Raises: MisconfigurationError for two that contradict each other."""

    def __init__(self, middleware_custom_setup: Y402Setup | None) -> None:
        self._server = middleware_custom_setup or Y402Setup()
        self._known: dict[int, tuple[Any, Y402Setup]] = {}  # by id, which the endpoint's presence here keeps

    def __getitem__(self, endpoint: Any) -> Y402Setup:
        found = self._known.get(id(endpoint))
        if found is None:
            settings = settings_of(endpoint)
            own = None if settings is None else settings.custom_setup
            found = self._known[id(endpoint)] = (endpoint, self._server if own is None else self._server | own)
        return found[1]
