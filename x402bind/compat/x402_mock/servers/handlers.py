"""Handlers as x402-mock's users write them, and as FastAPI does, served alike (A14).

A handler of one parameter that says nothing of itself (or that it is a dict) is given the token's payload, by whatever name;
among several it is the one called ``payload`` or ``authorization``.  Every other parameter is FastAPI's, as are sync handlers.
"""

from __future__ import annotations

import base64
import binascii
import functools
import inspect
import json
import typing
from collections.abc import Callable
from typing import Annotated, Any, Final

from x402core.evm.address import checksum

if typing.TYPE_CHECKING:
    from starlette.requests import Request

__all__ = ["adapted", "payload_of"]

_NAMES: Final = ("payload", "authorization")
_NOTHING: Final = inspect.Parameter.empty


def payload_of(request: Request) -> dict[str, Any]:
    """Return what a handler is told: who paid (``address``), how much of what, by which payment, and the token's times."""
    paid = request.scope["x402"]
    return {
        "address": checksum(paid.payer),
        "payer": checksum(paid.payer),
        "amount": paid.amount,
        "asset": checksum(paid.asset),
        "network": paid.network,
        "payment": paid.payment,
        **_times(request.headers.get("authorization", "")),
    }


def _times(authorization: str) -> dict[str, Any]:
    """Return when the token was made and when it ends; the gate has checked it."""
    text = authorization.partition(" ")[2].strip().partition(".")[0]
    try:
        claims = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (ValueError, binascii.Error):
        return {}  # paid in another way than by a token
    if not isinstance(claims, dict):
        return {}
    return {name: claims[name] for name in ("exp", "iat", "nonce") if name in claims}


def adapted(handler: Callable[..., Any], payload: Callable[..., Any]) -> Callable[..., Any]:
    """Return a handler as FastAPI takes it, its payload, if it wants one, a dependency on ``payload``."""
    from fastapi import Depends

    signature = inspect.signature(handler)
    known = _hints(handler)
    parameters = [each.replace(annotation=known.get(name, each.annotation)) for name, each in signature.parameters.items()]
    wanted = _wanted(parameters)
    given: Any = Annotated[dict, Depends(payload)]
    told = [
        each.replace(annotation=given, kind=inspect.Parameter.KEYWORD_ONLY) if each.name == wanted else each
        for each in parameters
    ]
    if wanted is None:
        told.append(inspect.Parameter("x402_payload", inspect.Parameter.KEYWORD_ONLY, annotation=given))
    told.sort(key=lambda each: each.kind)

    if inspect.iscoroutinefunction(handler):

        @functools.wraps(handler)
        async def wrapper(**kwargs: Any) -> Any:
            return await handler(**_without(kwargs, wanted))

    else:

        @functools.wraps(handler)
        def wrapper(**kwargs: Any) -> Any:
            return handler(**_without(kwargs, wanted))

    returned = known.get("return", signature.return_annotation)
    wrapper.__annotations__ = {each.name: each.annotation for each in told if each.annotation is not _NOTHING}
    if returned is not _NOTHING:
        wrapper.__annotations__["return"] = returned
    wrapper.__signature__ = signature.replace(parameters=told, return_annotation=returned)  # type: ignore[attr-defined]
    return wrapper


def _without(kwargs: dict[str, Any], wanted: str | None) -> dict[str, Any]:
    if wanted is None:
        kwargs.pop("x402_payload", None)
    return kwargs


def _hints(handler: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(handler, include_extras=True)
    except Exception:  # noqa: BLE001 - names known to a type checker only: FastAPI says what it makes of them
        return {}


def _wanted(parameters: list[inspect.Parameter]) -> str | None:
    """Return the name of the parameter that gets the payload, None where none does."""
    if len(parameters) == 1:
        (only,) = parameters
        plain = only.annotation in (_NOTHING, dict) or typing.get_origin(only.annotation) is dict
        return only.name if plain and only.default is _NOTHING else None
    for each in parameters:
        if each.name in _NAMES and each.annotation is _NOTHING and each.default is _NOTHING:
            return each.name
    return None
