"""Signing in instead of paying again (``sign-in-with-x``, x402.md 3.4): what both machines say of it.

Whoever paid for a resource once may have it again by proving the address that paid.  What was bought is what the server
remembers, never what a payer says it paid for.  A sign-in that is wrong in any way is no error: the payment path goes on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from x402core.commands import CheckSignIn
from x402core.errors import Refusal, RemoteProtocolError
from x402core.events import Challenge, Headers
from x402core.evm.keccak import keccak
from x402core.ledger import Grant
from x402core.policy import Terms
from x402core.reads import SignatureValid
from x402core.schemes.judge import Checked
from x402core.schemes.wallets import SignedBy
from x402core.values import Address, Millis, Network, Origin
from x402core.wire import sign_in as wire
from x402core.wire.headers import single
from x402core.wire.json import Json

__all__ = ["SIGN_IN", "SIGN_IN_WITH_X", "Asked", "advertised", "asked", "asked_to_sign_in", "granted"]

SIGN_IN: Final = wire.KEY
SIGN_IN_WITH_X: Final = wire.SIGN_IN_WITH_X
_KEPT: Final = 60_000
"""Milliseconds a used nonce is remembered past the last moment its proof is taken."""


def advertised(terms: Terms, entropy: bytes, now: Millis) -> Mapping[str, Json]:
    """Return the extension of one challenge, its nonce made of an exchange's ``entropy``; nothing where nobody may sign in."""
    if terms.sign_in is None:
        return {}
    origin = terms.sign_in.origin
    nonce = keccak(entropy + b"sign-in")[:16].hex()
    chains = list(dict.fromkeys(offer.network for offer in terms.offers))
    domain = origin.partition("://")[2]
    uri = terms.resource.url if terms.resource.url.startswith(f"{origin}/") else f"{origin}/"
    return wire.advertise(domain, uri, nonce, now, chains, terms.sign_in.statement)


def asked_to_sign_in(headers: Headers, terms: Terms, now: Millis) -> CheckSignIn | None:
    """Return what to ask the ledger of whoever signed in, None where nobody did, or not well.

    Raises: RemoteProtocolError for two such headers.
    """
    text = single(headers, SIGN_IN_WITH_X)
    if text is None or terms.sign_in is None:
        return None
    chains = {offer.network for offer in terms.offers}
    try:
        found = wire.check_sign_in(wire.decode_proof(text), origin=terms.sign_in.origin, now=now, chains=chains)
    except RemoteProtocolError:
        return None
    if isinstance(found, Refusal):
        return None
    resource = _sold(terms)
    if isinstance(found, wire.SignIn):
        return CheckSignIn(resource, found.address, found.nonce, Millis(found.until + _KEPT))
    who = found.sign_in
    contract = SignatureValid(who.address, found.digest, found.signature)
    until = Millis(who.until + _KEPT)
    return CheckSignIn(_of_contract(resource, who.network), who.address, who.nonce, until, (who.network, contract))


def granted(terms: Terms, checked: Checked) -> Grant | None:
    """Return what a payment lets its payer come back for; None where nobody may.

    A key is the same account on every network.  A contract is not: whoever has the code at its address elsewhere is another.
    """
    if terms.sign_in is None:
        return None
    resource, permit = _sold(terms), checked.permit
    return Grant(resource if checked.by is SignedBy.KEY else _of_contract(resource, permit.network), permit.payer)


@lru_cache(maxsize=4096)
def _sold(terms: Terms) -> str:
    """Return the ledger's name for what is sold: whose, what, and for how much; ``terms`` compares by identity.

    For how much, because a path may have several prices, by method, by shop of one ledger, or over time: what was bought
    cheaply is not to open what is dear.
    """
    assert terms.sign_in is not None
    prices = sorted({f"{offer.network}/{offer.asset}/{offer.pay_to}/{offer.amount}" for offer in terms.offers})
    return f"{terms.sign_in.origin}{terms.sign_in.resource} for {keccak(chr(10).join(prices).encode())[:16].hex()}"


def _of_contract(resource: str, network: Network) -> str:
    return f"{resource} on {network}"


@dataclass(frozen=True, slots=True)
class Asked:
    """A sign-in to be signed: the text a wallet shows, its digest, and the header once there is a signature."""

    proof: wire.Proof
    message: str
    digest: bytes

    def header(self, signature: bytes) -> str:
        """Return the text of SIGN-IN-WITH-X."""
        return wire.encode_proof(wire.signed(self.proof, signature))


def asked(challenge: Challenge, origin: Origin, payer: Address, networks: Iterable[Network]) -> Asked | None:
    """Return what a challenge lets a payer sign instead of paying; None where it does not, or asks for the wrong thing."""
    try:
        found = wire.advertised(challenge.extensions, "PAYMENT-REQUIRED")
        for network in networks if found is not None else ():
            assert found is not None
            proof = wire.prove(found, payer, network, origin=origin)
            if not isinstance(proof, Refusal):
                return Asked(proof, wire.message(proof), wire.digest(proof))
    except RemoteProtocolError:
        return None
    return None
