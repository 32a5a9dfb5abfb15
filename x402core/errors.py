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
