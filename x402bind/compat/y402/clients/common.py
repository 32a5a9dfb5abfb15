"""What y402's clients have in common: who pays, for which of the offers, and at most how much.

The one argument that y402 does not have is required here: ``policy``, the most that is paid.  Without it a client would sign
whatever a server writes down (Y3).
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from x402bind.clients.purse import Approve, Purse, now
from x402bind.compat.y402.core.types.errors import MisconfigurationError
from x402bind.compat.y402.core.types.requirements import PaymentRequirements
from x402core.commands import SignTypedData
from x402core.errors import LocalProtocolError
from x402core.policy import PayerPolicy
from x402core.registry import KNOWN

from .errors import (
    MissingRequestConfigError,
    PaymentAlreadyAttemptedError,
    PaymentAmountExceededError,
    PaymentError,
    UnsupportedSchemeException,
)
from .naming import DEFAULT_CHAIN_ID_BY_NAME, Names, decode_x_payment_networks
from .signing import signer_of, unsigned

__all__ = [
    "DEFAULT_CHAIN_ID_BY_NAME",
    "SUPPORTED_X402_VERSIONS",
    "MissingRequestConfigError",
    "PaymentAlreadyAttemptedError",
    "PaymentAmountExceededError",
    "PaymentError",
    "PaymentSelectorCallable",
    "Policy",
    "UnsupportedSchemeException",
    "Y402Client",
    "decode_x_payment_networks",
    "decode_x_payment_response",
    "encode_payment",
    "policy_of",
]

SUPPORTED_X402_VERSIONS: Final = [1]
"""The versions a header is made by hand for; the transports speak version 2 besides."""
PaymentSelectorCallable: TypeAlias = Callable[[list[PaymentRequirements]], PaymentRequirements]
"""Told all that a 402 offers, returns the one of them to pay."""
Policy: TypeAlias = PayerPolicy | str
"""The most that is paid for one request: ``"$0.10"``, in dollar tokens wherever those are known, or a policy in full."""


def policy_of(policy: Policy | None) -> PayerPolicy:
    """Return a policy in full.  Raises: MisconfigurationError for none, and for a price that means nothing."""
    if policy is None:
        raise MisconfigurationError(
            'say what may be paid at most: policy="$0.10", or a PayerPolicy (y402 pays whatever a server asks)', field="policy"
        )
    if isinstance(policy, str):
        made = PayerPolicy()
        for network in (info.network for info in KNOWN.networks() if info.network.startswith("eip155:")):
            try:
                asset = KNOWN.by_symbol(network, policy[:1])
            except LocalProtocolError:
                continue
            if "eip3009" in asset.methods:
                made = made.also(policy, network)
        if not made.caps:
            raise MisconfigurationError('write a price such as "$0.10", or a PayerPolicy', field="policy")
        policy = made
    if not isinstance(policy, PayerPolicy):
        raise MisconfigurationError('write a price such as "$0.10", or a PayerPolicy', field="policy")
    return Names.speaking(policy)


def encode_payment(payment_payload: Mapping[str, Any]) -> str:
    """Return a payment as the text of a header: JSON in base64; bytes go as hex, with 0x."""
    text = json.dumps(dict(payment_payload), default=_plain, separators=(",", ":"))
    return base64.b64encode(text.encode()).decode()


def _plain(value: object) -> object:
    if isinstance(value, bytes | bytearray):
        return "0x" + bytes(value).hex()
    if hasattr(value, "to_dict"):
        return value.to_dict()
    raise TypeError(f"{type(value).__name__} is nothing that goes into JSON")


def decode_x_payment_response(header: str) -> dict[str, Any]:
    """Return what an X-PAYMENT-RESPONSE says: ``success``, ``transaction``, ``network``, ``payer``, or ``errorReason``."""
    document: dict[str, Any] = json.loads(base64.b64decode(header))
    return document


class Y402Client:
    """Who pays: an ``eth_account`` account (or a private key), what it pays at most, and which of several offers.

    ``chain_id_by_name`` adds networks' names to those everybody knows.  Raises: MisconfigurationError naming the argument.
    """

    def __init__(
        self,
        account: Any,
        payment_requirements_selector: PaymentSelectorCallable | None = None,
        chain_id_by_name: Mapping[str, int] | None = None,
        *,
        policy: Policy | None = None,
    ) -> None:
        self.account = account
        self.policy = policy_of(policy)
        self.names = Names(chain_id_by_name, self.policy.registry)
        self.signer = signer_of(account)
        self.selector = payment_requirements_selector

    @property
    def chain_id_by_name(self) -> dict[str, int]:
        """The chain ids this client knows by name."""
        return dict(self.names.known)

    def purse(self, approve: Approve) -> Purse:
        """Return what our transports pay from; ``approve`` is asked before each payment."""
        return Purse(self.signer, self.policy, approve=approve)

    @staticmethod
    def default_payment_requirements_selector(accepts: list[PaymentRequirements]) -> PaymentRequirements:
        """Return the first offer of the one scheme there is.  Raises: UnsupportedSchemeException without any."""
        for each in accepts:
            if each.scheme == "exact":
                return each
        raise UnsupportedSchemeException("the server offers no scheme that is spoken here")

    def select_payment_requirements(self, accepts: list[PaymentRequirements]) -> PaymentRequirements:
        """Return the offer to pay.  Raises: what the selector raises."""
        return (self.selector or self.default_payment_requirements_selector)(accepts)

    def create_payment_header(
        self,
        payment_requirements: PaymentRequirements,
        x402_version: int = 1,
        y402_chain_id_by_name: Mapping[str, int] | None = None,
    ) -> str:
        """Return a new signed payment as the text of an X-PAYMENT header; ``y402_chain_id_by_name`` is the server's word.

        Raises: PaymentError and its kin for what the policy does not pay.
        """
        if x402_version not in SUPPORTED_X402_VERSIONS:
            raise PaymentError(f"this makes headers of x402 version 1, not of {x402_version}")
        told = y402_chain_id_by_name or {}
        made = unsigned(payment_requirements, self.signer.address, self.policy, self.names, told, now())
        return made.header(self.signer.sign(SignTypedData(self.signer.address, made.digest, made.typed_data)))

    def generate_nonce(self) -> str:
        """Return 32 random bytes as hex digits."""
        return secrets.token_hex(32)
