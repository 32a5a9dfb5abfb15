"""What a friendly world answers to every command: the money moves, the ledger stores, the nodes listen."""

from __future__ import annotations

from typing import Any

from tests import world
from tests.world import PAYER
from x402core.access import TokenClaims, mint
from x402core.commands import (
    AdmitPayer,
    AllocateTxNumbers,
    ApprovePayment,
    AskFacilitator,
    AwaitSettlement,
    Broadcast,
    CheckPayment,
    ClaimPayment,
    Command,
    FillTxNumbers,
    GetReceipts,
    InvokeHandler,
    Lane,
    PersistIntent,
    PersistSignedTx,
    ReadChain,
    RecallPayment,
    RecallSettlement,
    RecordIntent,
    SendRequest,
    SendTokenRequest,
    Sent,
    SettlePayment,
    SignTransactions,
    SignTypedData,
    VerifyPayment,
    WakeAt,
)
from x402core.events import Eip3009Permit, HandlerHead, Token
from x402core.evm.secp256k1 import sign
from x402core.ledger import PaymentState, Stored
from x402core.machines.machine import Machine
from x402core.reads import PermitNonce
from x402core.values import Millis, Seconds, seconds
from x402core.wire import permit_token

__all__ = ["benign", "token_reply"]


def token_reply(now: Millis) -> Any:
    """Return the answer of a token endpoint that hands out a token."""
    issued = seconds(now)
    claims = TokenClaims(PAYER, world.NETWORK, "key", "aud", "/", issued, Seconds(issued + 60), "00")
    return world.reply_head(permit_token.encode_token_reply(Token(mint(claims, world.RING), claims.expires), issued))


def benign(machine: Machine[Any, Any], command: Command[Any], now: Millis) -> Any:
    """Return the answer a friendly world gives to a command of ``machine``."""
    match command:
        case SendRequest():
            sent = {name for name, _ in command.set_headers}
            return world.response(200, world.receipt_header()) if sent else world.challenge()
        case ApprovePayment():
            return True
        case SignTypedData():
            return sign(command.digest, world.KEYS[0])
        case SendTokenRequest():
            return token_reply(now)
        case RecallPayment() | ClaimPayment():
            return world.NEW
        case VerifyPayment():
            return world.verified(command.checked.permit, command.checked.offer, now=now)
        case CheckPayment():
            return PaymentState.GOOD
        case InvokeHandler():
            return HandlerHead(200)
        case SettlePayment():
            return world.settled(command.proof.permit)
        case AskFacilitator():
            return world.settled(command.record.permit)
        case RecallSettlement():
            return None
        case AdmitPayer():
            return True
        case AwaitSettlement():
            return world.settled(machine.checked.permit)  # type: ignore[attr-defined]
        case RecordIntent():
            return Stored.STORED
        case AllocateTxNumbers():
            return Lane(tuple(range(7, 7 + command.count)), world.LANE.max_fee, world.LANE.max_priority_fee)
        case SignTransactions():
            return world.sign_all(command)
        case Broadcast() | FillTxNumbers():
            return Sent.ACCEPTED
        case GetReceipts():
            return _receipts(machine, command, now)
        case ReadChain():
            return _facts(machine, command, now)
        case WakeAt() | PersistIntent() | PersistSignedTx():
            return None
        case _:
            raise AssertionError(f"nobody answers {command!r}")


def _receipts(machine: Any, command: GetReceipts, now: Millis) -> Any:
    """The newest money-mover was executed, unless its permit is over."""
    record = machine.record
    if not command.hashes or seconds(now) >= record.permit.expires:
        return world.seen(*(None for _ in command.hashes), now=now)
    paid = world.paid_receipt(record.permit, record.offer, command.hashes[-1])
    return world.seen(*(None for _ in command.hashes[:-1]), paid, head=world.BLOCK + 100, now=now)


def _facts(machine: Any, command: ReadChain, now: Millis) -> Any:
    record = getattr(machine, "record", None)
    if record is None:
        (read,) = command.reads
        assert isinstance(read, PermitNonce)
        return world.Facts(world.BLOCK, seconds(now), {read: 0})
    if isinstance(record.permit, Eip3009Permit):
        facts = world.closing_facts(record.permit, now=now)
    else:
        facts = world.closing_facts(record.permit, nonce=record.permit.nonce, now=now)
    return facts
