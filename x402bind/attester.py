"""A seller's signed word: offers signed as they are advertised, receipts as they are given (``offer-receipt``, x402.md 3.6).

Signed offers carry an end, so terms that advertise them are made anew when half of their time is over.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final, TypeVar

from x402core.commands import Respond, SignTypedData, StreamResponse
from x402core.events import Dialect, Receipt
from x402core.evm.digests import TypedData
from x402core.machines.answers import attested
from x402core.policy import Terms
from x402core.values import Millis, Seconds, seconds
from x402core.wire import offer_receipt as wire
from x402core.wire.json import Json

from .chain.signers import Signer, signer_of

__all__ = ["Attester"]

A = TypeVar("A", Respond, StreamResponse)
_MOST: Final = 1024  # terms whose signed offers are kept
_log: Final = logging.getLogger("x402bind.seller")


class Attester:
    """Sign with ``key``, or do nothing where there is none; offers are good for ``validity`` seconds."""

    def __init__(self, key: str | bytes | Signer | None, validity: int, clock: Callable[[], Millis]) -> None:
        self.signer: Signer | None = None if key is None else signer_of(key, "attest")
        self._validity = Seconds(validity)
        self._clock = clock
        self._current: dict[int, tuple[Terms, Terms]] = {}

    def current(self, terms: Terms) -> Terms:
        """Return terms as they are advertised now."""
        if self.signer is None:
            return terms
        now = self._clock()
        known = self._current.get(id(terms))
        if known is None or known[0] is not terms or known[1].since + self._validity * 500 < now:
            if len(self._current) >= _MOST:
                self._current.clear()
            known = self._current[id(terms)] = (terms, self._signed_terms(terms, now))
        return known[1]

    def _signed_terms(self, terms: Terms, now: Millis) -> Terms:
        signed: list[wire.SignedOffer] = []
        for index, offer in enumerate(each for each in terms.offers if each.dialect is Dialect.V2):
            payload = wire.offer_payload(offer, terms.resource.url, now=seconds(now), validity=self._validity)
            signature = self._sign(wire.offer_typed_data(payload), wire.offer_digest(payload))
            signed.append(wire.SignedOffer(payload, signature, index))
        return replace(terms, extensions={**terms.extensions, **wire.advertised(signed)}, since=now)

    def attest(self, terms: Terms, command: A) -> A:
        """Return an answer with its receipt signed, where receipts are; unsigned it is as good, so trouble is no harm."""
        if self.signer is None or command.attest is None:
            return command
        try:
            return attested(command, lambda receipt: self._signed_receipt(terms, receipt))
        except Exception as error:  # noqa: BLE001 - what was paid for is not withheld over a signature
            _log.warning("a receipt could not be signed: %s", type(error).__name__)
            return command

    def _signed_receipt(self, terms: Terms, receipt: Receipt) -> Mapping[str, Json]:
        assert receipt.payer is not None
        now = seconds(self._clock())
        payload = wire.receipt_payload(receipt.network, terms.resource.url, receipt.payer, issued_at=now)
        signature = self._sign(wire.receipt_typed_data(payload), wire.receipt_digest(payload))
        return wire.attached(wire.SignedReceipt(payload, signature))

    def _sign(self, typed_data: TypedData, digest: bytes) -> bytes:
        assert self.signer is not None
        return self.signer.sign(SignTypedData(self.signer.address, digest, typed_data))
