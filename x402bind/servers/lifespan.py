"""The ASGI lifespan of a seller: prove the chain, settle in the background, end after the application.

An application without a lifespan of its own is given one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, NoReturn

from x402bind.chain.errors import RpcError
from x402bind.seller import Seller
from x402bind.translate.facilitator import FacilitatorUnavailable
from x402core.errors import LocalProtocolError

from .held import App, Message, Receive, Scope, Send

__all__ = ["live", "unproved"]

_log: Final = logging.getLogger("x402bind.asgi")


async def live(
    app: App,
    seller: Seller,
    scope: Scope,
    receive: Receive,
    send: Send,
    *,
    prove: bool,
    audit: Callable[[], object] = lambda: None,
) -> None:
    """Run ``app``'s lifespan with the settler inside it; refuse to start over what ``audit``, or the chain, finds wrong.

    Raises: LocalProtocolError when it refused, once the server was told: a test client shows it to whoever enters it.
    """
    told: list[str] = []
    last: list[Message] = []
    refusal: list[str] = []

    async def noting_receive() -> Message:
        message = await receive()
        told.append(message["type"])
        return message

    async def noting_send(message: Message) -> None:
        if refusal:
            return  # what the application says of our refusal
        told.append(message["type"])
        if message["type"].startswith("lifespan.shutdown."):  # said when the settler has stopped too
            last.append(message)
        elif message["type"] == "lifespan.startup.complete" and (problem := await wrong()) is not None:
            refusal.append(problem)  # only now has the application added what it adds at start-up
            await _refuse(send, problem)
        else:
            await send(message)

    async def wrong() -> str | None:
        problem = _wrong(audit)
        more = problem is None and prove and not seller.proved  # a price may be known, or its seller, only by now
        return await unproved(seller) if more else problem

    if prove and (problem := await unproved(seller)) is not None:
        await receive()
        await _refuse(send, problem)
    async with seller.running():
        try:
            await app(scope, noting_receive, noting_send)
        except Exception:
            if any(kind.startswith("lifespan.startup.") for kind in told):
                raise
        if not any(kind.startswith("lifespan.startup.") for kind in told):
            await _plain(receive, noting_send, started="lifespan.startup" in told)
    for message in last:
        await send(message)
    return


async def _refuse(send: Send, problem: str) -> NoReturn:
    """Tell the server that the application does not start.  Raises: LocalProtocolError, as it does not go on either."""
    await send({"type": "lifespan.startup.failed", "message": problem})
    raise LocalProtocolError(problem)


def _wrong(audit: Callable[[], object]) -> str | None:
    try:
        audit()
    except LocalProtocolError as error:
        return str(error)
    return None


async def unproved(seller: Seller) -> str | None:
    """Return what the chain, or the facilitator, says is wrong with the configuration; None where nothing is, or none answers.

    Nobody answering is our trouble, perhaps a passing one: requests get 503 until it is over.
    """
    try:
        await seller.prove()
    except LocalProtocolError as error:
        return str(error)
    except RpcError as error:
        _log.warning("the chain could not be asked at start-up: %s", error)
    except FacilitatorUnavailable as error:
        _log.warning("the facilitator could not be asked at start-up: %s", error)
    return None


async def _plain(receive: Receive, send: Send, *, started: bool) -> None:
    if not started:
        await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})
