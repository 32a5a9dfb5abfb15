"""The paying transport, for servers of both generations of x402-mock (and of x402).

It is the one of ``x402bind.clients.httpx`` with another machine in it: a 402 that has 0.3.0's words is read once more as that
version's, and paid by ERC-3009.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import anyio
import httpx

from x402bind.chain.transports import AsyncHttp
from x402bind.clients.httpx import AsyncPaymentTransport
from x402bind.clients.httpx.exchange import HttpxCall, trail_of
from x402bind.clients.httpx.uploads import akeep
from x402bind.clients.purse import Purse
from x402bind.drive import adispatch, arun
from x402core.commands import SendTokenRequest
from x402core.errors import Reason, Refusal, RemoteProtocolError
from x402core.events import Challenge, Eip2612Permit, Eip3009Permit, Offer, Permit2Permit, ResponseHead
from x402core.machines.client import ClientExchange, ClientInput
from x402core.machines.machine import Commands
from x402core.policy import choose
from x402core.values import Millis
from x402core.wire import permit_token, permit_token3
from x402core.wire.json import loads

__all__ = ["MockTransport", "pay_from"]

_LATER: Final = (b'"payment_scheme"', b'"caip2"')
_READ_ON: Final = (ClientInput.NO_ACCEPTABLE_OFFER, ClientInput.PAYMENT_REQUIRED)


def _money(offer: Offer) -> tuple[object, ...]:
    return offer.dialect, offer.network, offer.asset, offer.amount, offer.pay_to


class MockExchange(ClientExchange):
    """A client exchange that also pays what x402-mock 0.3.0 asks."""

    __slots__ = ()

    def _first_response(self, head: ResponseHead) -> tuple[ClientInput, object]:
        found = super()._first_response(head)
        if found[0] not in _READ_ON or not all(word in head.body for word in _LATER):
            return found
        try:
            challenge = permit_token3.decode_offers(loads(head.body))
        except RemoteProtocolError as error:
            malformed = ClientInput.OFFER_MALFORMED, Refusal(error.reason, str(error))
            return found if found[0] is ClientInput.PAYMENT_REQUIRED else malformed
        chosen = choose(self.policy, challenge) if challenge.offers else None
        return found if chosen is None else self._better(found, challenge, chosen)

    def _better(
        self, found: tuple[ClientInput, object], challenge: Challenge, chosen: Offer | Refusal
    ) -> tuple[ClientInput, object]:
        """Take the later way for the same money: it costs no read of the chain, and payments need not wait for one another."""
        if found[0] is ClientInput.PAYMENT_REQUIRED:
            first: Offer = found[1][1]  # type: ignore[index]
            same = isinstance(chosen, Offer) and _money(chosen) == _money(first)
            return (ClientInput.PAYMENT_REQUIRED, (challenge, chosen)) if same else found
        if isinstance(chosen, Refusal):
            return ClientInput.NO_ACCEPTABLE_OFFER, chosen
        assert self.begun is not None
        if self._token_url(challenge) is None:
            why = "the token endpoint is not of the origin that was asked"
            return ClientInput.ORIGIN_REFUSED, Refusal(Reason.ORIGIN_REFUSED, why)
        if not self.begun.replayable:
            why = f"the request's body cannot be sent a second time: {self.begun.remedy}"
            return ClientInput.NOT_REPLAYABLE, Refusal(Reason.NOT_REPLAYABLE, why)
        return ClientInput.PAYMENT_REQUIRED, (challenge, chosen)

    def do_exchange(self, signature: bytes, now: Millis) -> Commands:
        """Take the permit, of either kind, to the token endpoint."""
        assert self.challenge is not None
        assert isinstance(self.unsigned, Eip2612Permit | Eip3009Permit | Permit2Permit)
        url = self._token_url(self.challenge)
        assert url is not None
        permit = replace(self.unsigned, signature=signature)
        created = permit_token.timestamp(now)
        self.permit = permit
        body = permit_token.encode_token_request(permit, created_at=created, identifier=self._identifier)
        self.asked = SendTokenRequest(url, body)
        return (self.asked,)


class MockTransport(AsyncPaymentTransport):
    """Pay for what ``inner`` is asked to pay for, from what ``purse`` returns at that moment; None: nothing is paid."""

    def __init__(self, inner: httpx.AsyncBaseTransport, purse: Callable[[], Purse | None], *, chain: AsyncHttp) -> None:
        self._inner = inner
        self._purse_now = purse
        self.chain = chain

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, and pay if it takes that.  Raises: as :class:`AsyncPaymentTransport`'s."""
        url, trail = trail_of(request)
        purse = None if trail is None else self._purse_now()
        if trail is None or purse is None:
            return await self._inner.handle_async_request(request)
        await akeep(request)
        call = HttpxCall(purse, request, trail, url)
        call.machine = MockExchange(purse.policy, call.machine.payer, entropy=call.machine.entropy)
        # the leaves of the transport that we are, for the purse of this moment
        leaves = AsyncPaymentTransport(self._inner, purse, chain=self.chain)._leaves
        try:
            await arun(call.steps(), adispatch({**leaves, **call.table}))
            return call.deliver()
        except GeneratorExit:
            raise
        except BaseException:
            if call.open is not None:
                with anyio.CancelScope(shield=True):
                    await call.open.aclose()
            raise


def pay_from(client: httpx.AsyncClient, purse: Callable[[], Purse | None]) -> None:
    """Make a client pay, in place, whichever of its transports a request takes."""
    chain = AsyncHttp()
    client._transport = MockTransport(client._transport, purse, chain=chain)
    client._mounts = {
        pattern: None if inner is None else MockTransport(inner, purse, chain=chain)
        for pattern, inner in client._mounts.items()
    }
