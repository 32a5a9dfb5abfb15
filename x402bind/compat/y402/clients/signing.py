"""One payment signed by hand: the offer a 402's entry is, judged by the policy, prepared for a wallet, put in a header.

The clients do not need it, since their transports drive the core; what does is ``create_payment_header``, and a wallet that
answers only when its page is run again (``streamlit/``).
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, overload

from x402bind.chain.signers import PrivateKeySigner, Signer, shown_digest
from x402bind.compat.y402.core.types.errors import MisconfigurationError
from x402bind.compat.y402.core.types.requirements import PaymentRequirements
from x402core.commands import SignMessage, SignTransactions, SignTypedData
from x402core.errors import LocalProtocolError, Refusal, RemoteProtocolError
from x402core.events import Eip3009Permit, Offer
from x402core.policy import PayerPolicy, choose
from x402core.schemes import of
from x402core.values import Address, Hash32, Millis, Seconds, local, parse_address, seconds
from x402core.wire import v1
from x402core.wire.headers import encode_header

from .errors import PaymentError, refused
from .naming import Names

__all__ = ["AccountSigner", "Unsigned", "signer_of", "unsigned"]


class AccountSigner:
    """Sign with an ``eth_account`` account, or anything that has its ``address`` and ``sign_typed_data``."""

    def __init__(self, account: Any) -> None:
        self._account = account
        self.address: Address = local(parse_address, account.address, "account")

    @overload
    def sign(self, command: SignTypedData | SignMessage) -> bytes: ...
    @overload
    def sign(self, command: SignTransactions) -> tuple[bytes, ...]: ...
    def sign(self, command: SignTypedData | SignMessage | SignTransactions) -> bytes | tuple[bytes, ...]:
        """Sign typed data.  Raises: LocalProtocolError for all else, and for what is not what it says."""
        if not isinstance(command, SignTypedData):
            raise LocalProtocolError("this account signs payments only", field="account")
        if command.account != self.address or shown_digest(command.typed_data) != command.digest:
            raise LocalProtocolError("the digest is not that of the typed data", field="digest")
        return bytes(self._account.sign_typed_data(full_message=_as_numbers(command.typed_data)).signature)


def _as_numbers(typed: Mapping[str, Any]) -> dict[str, Any]:
    """Return typed data with its numbers as numbers, as ``eth_account`` wants them."""
    kinds = {member["name"]: member["type"] for member in typed["types"][typed["primaryType"]]}
    message = {
        name: int(value) if kinds.get(name, "").startswith("uint") else value for name, value in typed["message"].items()
    }
    return {**typed, "message": message}


def signer_of(account: Any) -> Signer:
    """Return what signs for an account: ``eth_account``'s, a private key, or a signer of this project.

    Raises: MisconfigurationError for none of them.
    """
    if hasattr(account, "sign_typed_data"):
        return AccountSigner(account)
    if isinstance(account, str | bytes):
        return PrivateKeySigner(account)
    if hasattr(account, "sign") and hasattr(account, "address"):
        return account  # type: ignore[no-any-return]
    raise MisconfigurationError("give an eth_account account, a private key, or a signer", field="account")


@dataclass(frozen=True, slots=True)
class Unsigned:
    """A payment before its signature: what it answers, and what a wallet is to sign (``eth_signTypedData_v4``)."""

    offer: Offer
    permit: Eip3009Permit
    network: str
    policy: PayerPolicy

    @property
    def typed_data(self) -> Mapping[str, Any]:
        """What a wallet shows."""
        return of(self.offer).typed_data(self.permit, self.offer)

    @property
    def digest(self) -> bytes:
        """What a wallet signs."""
        return of(self.offer).digest(self.permit, self.offer)

    def header(self, signature: bytes) -> str:
        """Return the text of an X-PAYMENT header, in the server's name for the network."""
        document = v1.payment_document(replace(self.permit, signature=signature), self.offer, self.policy.registry)
        return encode_header({**document, "network": self.network})


def unsigned(
    asked: PaymentRequirements,
    payer: Address,
    policy: PayerPolicy,
    names: Names,
    told: Mapping[str, int],
    now: Millis,
) -> Unsigned:
    """Return the payment that an entry of a 402 asks for; ``told`` is the server's map of networks.

    Raises: PaymentError and its kin for what the policy does not pay.
    """
    network = names.network(asked.network, told)
    if network is None:
        raise PaymentError(f"{asked.network!r} is no network that this client, or the server's map, knows")
    name = policy.registry.v1_name(network)
    entry: dict[str, Any] = {
        "scheme": asked.scheme,
        "network": name or asked.network,
        "maxAmountRequired": asked.max_amount_required,
        "asset": asked.asset,
        "payTo": asked.pay_to,
        "resource": asked.resource,
        "description": asked.description,
        "mimeType": asked.mime_type,
        "maxTimeoutSeconds": asked.max_timeout_seconds,
        "extra": dict(asked.extra or {}),
    }
    try:
        challenge = v1.decode_challenge({"x402Version": 1, "accepts": [entry]}, policy.registry)
    except RemoteProtocolError as error:
        raise PaymentError(str(error)) from None
    offer = choose(policy, challenge)
    if isinstance(offer, Refusal):
        raise refused(offer)
    scheme, nonce = of(offer), Hash32("0x" + secrets.token_hex(32))
    validity = Seconds(min(offer.timeout, policy.longest_validity))
    permit = scheme.prepare(offer, payer, now=seconds(now), validity=validity, nonce=nonce, facts=None)
    assert isinstance(permit, Eip3009Permit)
    return Unsigned(offer, permit, asked.network, policy)
