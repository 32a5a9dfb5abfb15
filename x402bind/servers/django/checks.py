"""Django's system check of where prices are, and the URLconf that it walks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from django.conf import settings  # type: ignore[import-untyped]
from django.core import checks  # type: ignore[import-untyped]

from x402core.errors import LocalProtocolError

__all__ = ["register", "walk"]


def register(check: Callable[[], None]) -> None:
    """Have ``manage.py check`` say what ``check`` raises."""

    def told(app_configs: Any, **_: Any) -> list[Any]:
        try:
            check()
            if getattr(settings, "X402_PAYMENTS", None) is not None:
                from .middleware import configured

                configured()
        except LocalProtocolError as error:
            return [checks.Error(str(error), id="x402.E001")]
        return []

    checks.register(told, checks.Tags.urls)


def walk(patterns: Any, prefix: str = "/") -> Iterator[tuple[str, Any]]:
    """Yield every route of a URLconf, whole, and its view."""
    for each in patterns:
        if hasattr(each, "url_patterns"):
            yield from walk(each.url_patterns, prefix + str(each.pattern))
        else:
            yield prefix + str(each.pattern), each.callback
