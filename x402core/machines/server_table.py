"""The seller's table: where a request stands, what can happen to it, and what follows from both.

How the machine says what happened (``classify``) and what each action issues is ``server.py``'s.
"""

from __future__ import annotations

from enum import auto

from x402core.commands import (
    CheckPayment,
    CheckSignIn,
    ClaimPayment,
    CommitClaim,
    InvokeHandler,
    KeepClaim,
    RecallPayment,
    ReleaseClaim,
    ReportRefundDue,
    Respond,
    SettlePayment,
    StreamResponse,
    VerifyPayment,
)

from .machine import Input, Row, State

__all__ = ["SERVER_TABLE", "ServerInput", "ServerState"]


class ServerState(State):
    """Where a request stands."""

    IDLE = auto()
    CHECKING_TOKEN = auto()
    CHECKING_SIGN_IN = auto()
    SERVING = auto()
    RECALLING = auto()
    VERIFYING = auto()
    RECALLING_USED = auto()
    CLAIMING = auto()
    SERVING_PAID = auto()
    SETTLING = auto()
    SETTLING_FIRST = auto()
    SERVING_SETTLED = auto()
    SERVING_AGAIN = auto()
    STREAMING = auto()
    DONE = auto()


class ServerInput(Input):
    """What happened, named by outcome."""

    UNPAID = auto()
    MALFORMED = auto()
    UNMATCHED = auto()
    REFUSED = auto()
    TOKEN = auto()
    TOKEN_INVALID = auto()
    TOKEN_LIVE = auto()
    TOKEN_REVOKED = auto()
    SIGN_IN = auto()
    SIGNED_IN = auto()
    PAYMENT = auto()
    NEW = auto()
    ANSWERED = auto()
    HELD = auto()
    PENDING = auto()
    SPENT = auto()
    VOID = auto()
    UNSERVED = auto()
    CONFLICT = auto()
    VERIFIED = auto()
    USED = auto()
    TAKEN_SERVE_FIRST = auto()
    TAKEN_SETTLE_FIRST = auto()
    HANDLER_OK = auto()
    HANDLER_OK_FREE = auto()
    HANDLER_STREAMS = auto()
    HANDLER_MISCHARGED = auto()
    HANDLER_FAILED = auto()
    HANDLER_RAISED = auto()
    STREAM_ENDED = auto()
    STREAM_BROKE = auto()
    SETTLED = auto()
    SETTLE_REFUSED = auto()
    SETTLE_UNAVAILABLE = auto()
    SETTLE_FAILED = auto()
    SETTLE_PENDING = auto()
    SETTLE_UNKNOWN = auto()
    FAILED = auto()
    CANCEL = auto()


S, I = ServerState, ServerInput  # noqa: E741

SERVER_TABLE: tuple[Row, ...] = (
    Row(S.IDLE, I.UNPAID, S.DONE, "do_refuse", (Respond,)),
    Row(S.IDLE, I.MALFORMED, S.DONE, "do_answer", (Respond,)),
    Row(S.IDLE, I.UNMATCHED, S.DONE, "do_refuse", (Respond,)),
    Row(S.IDLE, I.REFUSED, S.DONE, "do_refuse", (Respond,)),
    Row(S.IDLE, I.TOKEN_INVALID, S.DONE, "do_refuse", (Respond,)),
    Row(S.IDLE, I.TOKEN, S.CHECKING_TOKEN, "do_check_token", (CheckPayment,)),
    Row(S.IDLE, I.SIGN_IN, S.CHECKING_SIGN_IN, "do_check_sign_in", (CheckSignIn,)),
    Row(S.IDLE, I.PAYMENT, S.RECALLING, "do_recall", (RecallPayment,)),
    Row(S.CHECKING_TOKEN, I.TOKEN_LIVE, S.SERVING, "do_serve_token", (InvokeHandler,)),
    Row(S.CHECKING_TOKEN, I.TOKEN_REVOKED, S.DONE, "do_refuse", (Respond,)),
    Row(S.CHECKING_TOKEN, I.FAILED, S.DONE, "do_unavailable", (Respond,)),
    Row(S.CHECKING_TOKEN, I.CANCEL, S.DONE, "do_nothing"),
    Row(S.CHECKING_SIGN_IN, I.SIGNED_IN, S.SERVING, "do_serve_signed_in", (InvokeHandler,)),
    Row(S.CHECKING_SIGN_IN, I.UNPAID, S.DONE, "do_refuse", (Respond,)),
    Row(S.CHECKING_SIGN_IN, I.FAILED, S.DONE, "do_unavailable", (Respond,)),
    Row(S.CHECKING_SIGN_IN, I.CANCEL, S.DONE, "do_nothing"),
    Row(S.SERVING, I.HANDLER_OK, S.DONE, "do_respond_private", (Respond,)),
    Row(S.SERVING, I.HANDLER_FAILED, S.DONE, "do_respond_private", (Respond,)),
    Row(S.SERVING, I.HANDLER_RAISED, S.DONE, "do_broken", (Respond,)),
    Row(S.SERVING, I.CANCEL, S.DONE, "do_nothing"),
    Row(S.RECALLING, I.NEW, S.VERIFYING, "do_verify", (VerifyPayment,)),
    Row(S.RECALLING, I.UNMATCHED, S.DONE, "do_refuse", (Respond,)),
    Row(S.RECALLING, I.UNSERVED, S.CLAIMING, "do_claim", (ClaimPayment,)),
    Row(S.RECALLING, I.ANSWERED, S.DONE, "do_answer_again", (Respond,)),
    Row(S.RECALLING, I.HELD, S.DONE, "do_busy", (Respond,)),
    Row(S.RECALLING, I.PENDING, S.DONE, "do_pending", (Respond,)),
    Row(S.RECALLING, I.SPENT, S.DONE, "do_refuse", (Respond,)),
    Row(S.RECALLING, I.VOID, S.DONE, "do_refuse", (Respond,)),
    Row(S.RECALLING, I.CONFLICT, S.DONE, "do_conflict", (Respond,)),
    Row(S.RECALLING, I.FAILED, S.DONE, "do_unavailable", (Respond,)),
    Row(S.RECALLING, I.CANCEL, S.DONE, "do_nothing"),
    Row(S.VERIFYING, I.VERIFIED, S.CLAIMING, "do_claim_verified", (ClaimPayment,)),
    Row(S.VERIFYING, I.USED, S.RECALLING_USED, "do_recall_used", (RecallPayment,)),
    Row(S.VERIFYING, I.REFUSED, S.DONE, "do_refuse", (Respond,)),
    Row(S.VERIFYING, I.FAILED, S.DONE, "do_unavailable", (Respond,)),
    Row(S.VERIFYING, I.CANCEL, S.DONE, "do_nothing"),
    Row(S.RECALLING_USED, I.NEW, S.DONE, "do_refuse_used", (Respond,)),
    Row(S.RECALLING_USED, I.UNSERVED, S.CLAIMING, "do_claim", (ClaimPayment,)),
    Row(S.RECALLING_USED, I.ANSWERED, S.DONE, "do_answer_again", (Respond,)),
    Row(S.RECALLING_USED, I.HELD, S.DONE, "do_busy", (Respond,)),
    Row(S.RECALLING_USED, I.PENDING, S.DONE, "do_pending", (Respond,)),
    Row(S.RECALLING_USED, I.SPENT, S.DONE, "do_refuse", (Respond,)),
    Row(S.RECALLING_USED, I.VOID, S.DONE, "do_refuse", (Respond,)),
    Row(S.RECALLING_USED, I.CONFLICT, S.DONE, "do_conflict", (Respond,)),
    Row(S.RECALLING_USED, I.FAILED, S.DONE, "do_unavailable", (Respond,)),
    Row(S.RECALLING_USED, I.CANCEL, S.DONE, "do_nothing"),
    Row(S.CLAIMING, I.TAKEN_SERVE_FIRST, S.SERVING_PAID, "do_serve_first", (InvokeHandler,)),
    Row(S.CLAIMING, I.TAKEN_SETTLE_FIRST, S.SETTLING_FIRST, "do_settle", (SettlePayment,)),
    Row(S.CLAIMING, I.UNSERVED, S.SERVING_AGAIN, "do_serve_settled", (InvokeHandler,)),
    Row(S.CLAIMING, I.ANSWERED, S.DONE, "do_answer_again", (Respond,)),
    Row(S.CLAIMING, I.HELD, S.DONE, "do_busy", (Respond,)),
    Row(S.CLAIMING, I.PENDING, S.DONE, "do_pending", (Respond,)),
    Row(S.CLAIMING, I.SPENT, S.DONE, "do_refuse", (Respond,)),
    Row(S.CLAIMING, I.VOID, S.DONE, "do_refuse", (Respond,)),
    Row(S.CLAIMING, I.CONFLICT, S.DONE, "do_conflict", (Respond,)),
    Row(S.CLAIMING, I.FAILED, S.DONE, "do_release_unavailable", (ReleaseClaim, Respond)),
    Row(S.CLAIMING, I.CANCEL, S.DONE, "do_release", (ReleaseClaim,)),
    Row(S.SERVING_PAID, I.HANDLER_OK, S.SETTLING, "do_settle_served", (SettlePayment,)),
    Row(S.SERVING_PAID, I.HANDLER_OK_FREE, S.DONE, "do_commit_free", (CommitClaim, Respond)),
    Row(S.SERVING_PAID, I.HANDLER_MISCHARGED, S.DONE, "do_release_broken", (ReleaseClaim, Respond)),
    Row(S.SERVING_PAID, I.HANDLER_FAILED, S.DONE, "do_release_respond", (ReleaseClaim, Respond)),
    Row(S.SERVING_PAID, I.HANDLER_RAISED, S.DONE, "do_release_broken", (ReleaseClaim, Respond)),
    Row(S.SERVING_PAID, I.CANCEL, S.DONE, "do_release", (ReleaseClaim,)),
    Row(S.SETTLING, I.SETTLED, S.DONE, "do_commit_respond", (CommitClaim, Respond)),
    Row(S.SETTLING, I.SETTLE_REFUSED, S.DONE, "do_release_refuse", (ReleaseClaim, Respond)),
    Row(S.SETTLING, I.SETTLE_UNAVAILABLE, S.DONE, "do_release_unavailable", (ReleaseClaim, Respond)),
    Row(S.SETTLING, I.SETTLE_FAILED, S.DONE, "do_keep_served_refuse", (KeepClaim, Respond)),
    Row(S.SETTLING, I.SETTLE_PENDING, S.DONE, "do_keep_served_pending", (KeepClaim, Respond)),
    Row(S.SETTLING, I.SETTLE_UNKNOWN, S.DONE, "do_keep_served_unavailable", (KeepClaim, Respond)),
    Row(S.SETTLING, I.CANCEL, S.DONE, "do_keep_served", (KeepClaim,)),
    Row(S.SETTLING_FIRST, I.SETTLED, S.SERVING_SETTLED, "do_serve_after_settling", (InvokeHandler,)),
    Row(S.SETTLING_FIRST, I.SETTLE_REFUSED, S.DONE, "do_release_refuse", (ReleaseClaim, Respond)),
    Row(S.SETTLING_FIRST, I.SETTLE_UNAVAILABLE, S.DONE, "do_release_unavailable", (ReleaseClaim, Respond)),
    Row(S.SETTLING_FIRST, I.SETTLE_FAILED, S.DONE, "do_keep_refuse", (KeepClaim, Respond)),
    Row(S.SETTLING_FIRST, I.SETTLE_PENDING, S.DONE, "do_keep_pending", (KeepClaim, Respond)),
    Row(S.SETTLING_FIRST, I.SETTLE_UNKNOWN, S.DONE, "do_keep_unavailable", (KeepClaim, Respond)),
    Row(S.SETTLING_FIRST, I.CANCEL, S.DONE, "do_keep", (KeepClaim,)),
    Row(S.SERVING_SETTLED, I.HANDLER_OK, S.DONE, "do_commit_served", (CommitClaim, Respond)),
    Row(S.SERVING_SETTLED, I.HANDLER_FAILED, S.DONE, "do_refund_respond", (KeepClaim, ReportRefundDue, Respond)),
    Row(S.SERVING_SETTLED, I.HANDLER_RAISED, S.DONE, "do_refund_broken", (KeepClaim, ReportRefundDue, Respond)),
    Row(S.SERVING_SETTLED, I.CANCEL, S.DONE, "do_refund", (KeepClaim, ReportRefundDue)),
    Row(S.SERVING_AGAIN, I.HANDLER_OK, S.DONE, "do_commit_served", (CommitClaim, Respond)),
    Row(S.SERVING_AGAIN, I.HANDLER_FAILED, S.DONE, "do_refund_respond", (KeepClaim, ReportRefundDue, Respond)),
    Row(S.SERVING_AGAIN, I.HANDLER_RAISED, S.DONE, "do_refund_broken", (KeepClaim, ReportRefundDue, Respond)),
    Row(S.SERVING_AGAIN, I.CANCEL, S.DONE, "do_refund", (KeepClaim, ReportRefundDue)),
    Row(S.SERVING_SETTLED, I.HANDLER_STREAMS, S.STREAMING, "do_stream", (StreamResponse,)),
    Row(S.SERVING_AGAIN, I.HANDLER_STREAMS, S.STREAMING, "do_stream", (StreamResponse,)),
    Row(S.STREAMING, I.STREAM_ENDED, S.DONE, "do_commit_streamed", (CommitClaim,)),
    Row(S.STREAMING, I.STREAM_BROKE, S.DONE, "do_refund", (KeepClaim, ReportRefundDue)),
    Row(S.STREAMING, I.CANCEL, S.DONE, "do_refund", (KeepClaim, ReportRefundDue)),
)
