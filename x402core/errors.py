"""Whose fault it is, in three words: yours, the peer's, or a refused payment.

* :class:`LocalProtocolError` -- you misused a machine or configured one wrongly.  The machine has not moved.
* :class:`RemoteProtocolError` -- a peer's bytes broke the protocol.  It names the field by an RFC 6901 JSON pointer and
  carries the reply to send.
* :class:`Refusal` -- a well-formed payment that may not pass.  It is a *value*, returned, never raised.

Any other exception out of ``x402core`` is a bug of ours.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum, unique

__all__ = ["LocalProtocolError", "ProtocolError", "Reason", "Refusal", "RemoteProtocolError", "Reply", "problem"]


@unique
class Reason(StrEnum):
    """Every reason a payment can be refused, spelled as the specification spells it where it has a code (x402.md 1.6).

    The names of our own additions carry no ``invalid_exact_evm_`` prefix, so that they cannot be mistaken for official.
    """

    # core specification, v2
    PAYMENT_REQUIRED = "Payment required"
    INSUFFICIENT_FUNDS = "insufficient_funds"
    INVALID_NETWORK = "invalid_network"
    INVALID_PAYLOAD = "invalid_payload"
    INVALID_REQUIREMENTS = "invalid_payment_requirements"
    INVALID_SCHEME = "invalid_scheme"
    UNSUPPORTED_SCHEME = "unsupported_scheme"
    INVALID_VERSION = "invalid_x402_version"
    INVALID_TRANSACTION_STATE = "invalid_transaction_state"
    UNEXPECTED_VERIFY_ERROR = "unexpected_verify_error"
    UNEXPECTED_SETTLE_ERROR = "unexpected_settle_error"
    SETTLEMENT_PENDING = "settlement_pending"
    # exact on EVM
    SIGNATURE = "invalid_exact_evm_payload_signature"
    RECIPIENT_MISMATCH = "invalid_exact_evm_payload_recipient_mismatch"
    VALID_AFTER = "invalid_exact_evm_payload_authorization_valid_after"
    VALID_BEFORE = "invalid_exact_evm_payload_authorization_valid_before"
    VALUE_MISMATCH = "invalid_exact_evm_payload_authorization_value_mismatch"
    UNDEPLOYED_WALLET = "invalid_exact_evm_payload_undeployed_smart_wallet"
    NOT_A_CONTRACT = "asset_not_deployed_contract"
    NONCE_USED = "invalid_exact_evm_nonce_already_used"
    SIMULATION_FAILED = "invalid_exact_evm_transaction_simulation_failed"
    TRANSACTION_FAILED = "transaction_failed"
    FACTORY_NOT_ALLOWED = "eip6492_factory_not_allowed"
    # permit2 on EVM
    PERMIT2_SPENDER = "invalid_permit2_spender"
    PERMIT2_RECIPIENT = "invalid_permit2_recipient_mismatch"
    PERMIT2_DEADLINE = "permit2_deadline_expired"
    PERMIT2_NOT_YET = "permit2_not_yet_valid"
    PERMIT2_AMOUNT = "permit2_amount_mismatch"
    PERMIT2_TOKEN = "permit2_token_mismatch"
    PERMIT2_SIGNATURE = "invalid_permit2_signature"
    PERMIT2_ALLOWANCE = "permit2_allowance_required"
    PERMIT2_SIMULATION = "permit2_simulation_failed"
    PERMIT2_BALANCE = "permit2_insufficient_balance"
    PERMIT2_NO_PROXY = "permit2_proxy_not_deployed"
    PERMIT2_NONCE = "permit2_invalid_nonce"
    SPONSOR_PERMIT_AMOUNT = "permit2_2612_amount_mismatch"
    SPONSOR_PERMIT_FORMAT = "invalid_eip2612_extension_format"
    SPONSOR_PERMIT_FROM = "eip2612_from_mismatch"
    SPONSOR_PERMIT_ASSET = "eip2612_asset_mismatch"
    SPONSOR_PERMIT_SPENDER = "eip2612_spender_not_permit2"
    SPONSOR_PERMIT_DEADLINE = "eip2612_deadline_expired"
    SPONSOR_APPROVAL_FORMAT = "invalid_erc20_approval_extension_format"
    SPONSOR_APPROVAL_FROM = "erc20_approval_from_mismatch"
    SPONSOR_APPROVAL_ASSET = "erc20_approval_asset_mismatch"
    SPONSOR_APPROVAL_SPENDER = "erc20_approval_spender_not_permit2"
    SPONSOR_APPROVAL_TARGET = "erc20_approval_tx_wrong_target"
    SPONSOR_APPROVAL_SELECTOR = "erc20_approval_tx_wrong_selector"
    SPONSOR_APPROVAL_TX_SPENDER = "erc20_approval_tx_wrong_spender"
    SPONSOR_APPROVAL_CALLDATA = "erc20_approval_tx_invalid_calldata"
    SPONSOR_APPROVAL_SIGNER = "erc20_approval_tx_signer_mismatch"
    SPONSOR_APPROVAL_SIGNATURE = "erc20_approval_tx_invalid_signature"
    SPONSOR_APPROVAL_PARSE = "erc20_approval_tx_parse_failed"
    SPONSOR_APPROVAL_FAILED = "erc20_approval_tx_failed"
    # upto on EVM
    UPTO_EXCEEDS = "invalid_upto_evm_payload_settlement_exceeds_amount"
    UPTO_FACILITATOR = "upto_facilitator_mismatch"
    # extensions
    IDENTIFIER_MISSING = "payment_identifier_required"
    IDENTIFIER_CONFLICT = "payment_identifier_used_for_another_payment"
    ECHO_MISMATCH = "extension_echo_mismatch"
    # sign-in-with-x
    SIWX_DOMAIN = "invalid_siwx_domain_mismatch"
    SIWX_URI = "invalid_siwx_uri_mismatch"
    SIWX_ISSUED_AT = "invalid_siwx_issued_at"
    SIWX_TOO_OLD = "invalid_siwx_issued_at_too_old"
    SIWX_IN_FUTURE = "invalid_siwx_issued_at_in_future"
    SIWX_EXPIRATION_TIME = "invalid_siwx_expiration_time"
    SIWX_EXPIRED = "invalid_siwx_expired"
    SIWX_NOT_BEFORE = "invalid_siwx_not_before"
    SIWX_NOT_YET_VALID = "invalid_siwx_not_yet_valid"
    SIWX_NONCE = "invalid_siwx_nonce"
    SIWX_UNSUPPORTED_CHAIN = "invalid_siwx_unsupported_chain"
    SIWX_CHAIN_ID = "invalid_siwx_chain_id"
    SIWX_MALFORMED = "invalid_siwx_malformed_signature"
    SIWX_SIGNATURE = "invalid_siwx_signature"
    SIWX_VERIFIER_ERROR = "invalid_siwx_verifier_error"
    # offer-receipt (the specification has no codes for it)
    OFFER_FORMAT = "offer_receipt_format_unsupported"
    OFFER_SIGNATURE = "offer_receipt_invalid_signature"
    OFFER_SIGNER = "offer_receipt_signer_not_authorised"
    OFFER_MISMATCH = "offer_receipt_mismatch"
    OFFER_EXPIRED = "offer_receipt_expired"
    # a facilitator's own policy
    ASSET_NOT_ALLOWED = "asset_not_allowed"
    QUOTA = "payer_quota_exceeded"
    # the permit-token flow (x402-mock's words for the same)
    TOKEN_MISSING = "Missing authorization token"
    TOKEN_FORMAT = "Invalid token format"
    TOKEN_HEADER = "Invalid authorization header format"
    TOKEN_SIGNATURE = "Signature verification failed"
    TOKEN_EXPIRED = "Token has expired"
    # ours
    NO_MATCH = "No matching payment requirements"
    TOKEN_SCOPE = "token_out_of_scope"
    TOKEN_REVOKED = "token_revoked"
    PAYMENT_IN_PROGRESS = "payment_in_progress"
    PAYMENT_SPENT = "payment_already_used_for_another_request"
    PAYMENT_SERVED = "payment_already_served"
    PAYMENT_REFUNDED = "payment_refunded"
    ASSET_MISMATCH = "asset_mismatch"
    NETWORK_MISMATCH = "network_mismatch"
    PERMIT_NONCE = "permit_nonce_mismatch"
    VALIDITY_TOO_LONG = "validity_too_long"
    UNAVAILABLE = "temporarily_unavailable"
    # why a payer will not pay (policy.py)
    OVER_CAP = "over_payment_cap"
    OVER_BUDGET = "over_budget"
    UNKNOWN_ASSET = "unknown_asset"
    NETWORK_NOT_ALLOWED = "network_not_allowed"
    PAYEE_NOT_ALLOWED = "payee_not_allowed"
    ORIGIN_REFUSED = "origin_refused"
    NOT_REPLAYABLE = "request_body_not_replayable"
    NO_OFFER = "no_acceptable_offer"
    NOT_APPROVED = "not_approved"
    SIGNING_FAILED = "signing_failed"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A payment refused: the code that goes on the wire, and a sentence for a person (no peer text, no secrets)."""

    reason: Reason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer, whole: status, header list (repeats kept, order kept), body bytes."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


class ProtocolError(Exception):
    """The abstract parent of both errors; catch it, never raise it."""

    def __init__(self, message: str) -> None:
        if type(self) is ProtocolError:
            raise TypeError("ProtocolError is abstract: raise LocalProtocolError or RemoteProtocolError")
        super().__init__(message)
        self.message = message


class LocalProtocolError(ProtocolError):
    """You misused the core: an event out of turn, a bad configuration.  ``field`` names the argument at fault."""

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(f"{field}: {message}" if field else message)
        self.field = field


class RemoteProtocolError(ProtocolError):
    """A peer sent bytes that are not the protocol.

    ``pointer`` is an RFC 6901 JSON pointer into the offending document ("" is the whole of it), ``source`` says which
    document (a header's name, ``body``), ``status`` what a server should answer.
    """

    def __init__(
        self,
        message: str,
        *,
        pointer: str = "",
        source: str = "",
        reason: Reason = Reason.INVALID_PAYLOAD,
        status: int = 400,
    ) -> None:
        where = f"{source}{pointer}"
        super().__init__(f"{where}: {message}" if where else message)
        self.text = message
        self.pointer = pointer
        self.source = source
        self.reason = reason
        self.status = status

    def within(self, prefix: str = "", *, source: str | None = None) -> RemoteProtocolError:
        """Return the same error seen from an outer document (``prefix`` goes before the pointer)."""
        return RemoteProtocolError(
            self.text,
            pointer=prefix + self.pointer,
            source=self.source if source is None else source,
            reason=self.reason,
            status=self.status,
        )

    @property
    def reply(self) -> Reply:
        """The answer to send: an RFC 9457 problem document that names the field."""
        return problem(self.status, self.text, reason=self.reason, pointer=self.pointer, source=self.source)


def problem(
    status: int, detail: str, *, reason: Reason, pointer: str = "", source: str = "", headers: tuple[tuple[str, str], ...] = ()
) -> Reply:
    """Build an RFC 9457 ``application/problem+json`` reply; never cached."""
    document = {"type": "about:blank", "status": status, "title": str(reason), "detail": detail}
    if pointer:
        document["pointer"] = pointer
    if source:
        document["source"] = source
    body = json.dumps(document, separators=(",", ":")).encode()
    return Reply(
        status,
        (("Content-Type", "application/problem+json"), ("Cache-Control", "no-store"), *headers),
        body,
    )
