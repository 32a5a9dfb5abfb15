"""Sending raw transactions: what real nodes say to it, and what follows from a lost or a worded answer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.chain.conduct import PAYEE, PAYER, PAYER_KEY, undone
from tests.chain.scripted import ENDPOINT, NETWORK, Each, Says, ScriptedNode
from tests.chains import BASE_SEPOLIA, Anvil, Rpc
from x402bind.chain.devnet import Devnet
from x402bind.chain.errors import ChainUnavailable, NodeErrorKind
from x402bind.chain.rpc import Endpoint
from x402bind.chain.signers import PrivateKeySigner
from x402bind.chain.transports import SyncHttp
from x402bind.drive import dispatch, run
from x402bind.leaves import HttpFailed, HttpReply
from x402bind.translate.chain import REFUSALS, broadcast, chain_table, fill, rebroadcast
from x402core.commands import Broadcast, FillTxNumbers, Rebroadcast, ReturnTxNumbers, Sent, SignTransactions
from x402core.evm.keccak import keccak
from x402core.evm.transaction import Transaction, transaction_hash
from x402core.machines.machine import translate


@dataclass
class Sender:
    rpc: Rpc
    endpoint: Endpoint
    http: SyncHttp

    def send(self, *raws: str) -> Sent:
        command = Broadcast(NETWORK, tuple(bytes.fromhex(raw[2:]) for raw in raws))
        return run(broadcast(command, self.endpoint), dispatch(self.http.table))

    def fill(self, *numbers: int, gas: int = 21_000) -> list[ReturnTxNumbers]:
        """Fill these numbers; return what was given back."""
        signer, returned = PrivateKeySigner(PAYER_KEY), list[ReturnTxNumbers]()
        fillers = tuple(Transaction(BASE_SEPOLIA, n, 10**9, 10**11, gas, signer.address) for n in numbers)
        table = {**self.http.table, SignTransactions: signer.sign, ReturnTxNumbers: returned.append}
        run(fill(FillTxNumbers(NETWORK, "key", fillers), self.endpoint), dispatch(table))
        return returned

    def sign(self, number: int | None = None, **how: Any) -> str:
        return self.rpc.sign(PAYER_KEY, PAYEE, nonce=number, **{"gas": 21_000, **how})

    @property
    def number(self) -> int:
        return int(self.rpc("eth_getTransactionCount", PAYER, "latest"), 16)


@pytest.fixture(scope="module", params=[pytest.param(Anvil, marks=pytest.mark.anvil), Devnet], ids=["anvil", "devnet"])
def shared(request: pytest.FixtureRequest) -> Iterator[Sender]:
    with request.param(BASE_SEPOLIA) as node, SyncHttp() as http:
        rpc = Rpc(node.url)
        rpc.must(PAYER_KEY, PAYEE)
        yield Sender(rpc, Endpoint(node.url, NETWORK), http)


@pytest.fixture
def sender(shared: Sender) -> Iterator[Sender]:
    with undone(shared.rpc):
        yield shared


def test_transactions_are_sent_in_order(sender: Sender) -> None:
    start = sender.number
    raws = [sender.sign(start + i, value=i) for i in range(3)]
    assert sender.send(*raws) is Sent.ACCEPTED
    for raw in raws:
        receipt = sender.rpc.wait(transaction_hash(bytes.fromhex(raw[2:])))
        assert receipt["status"] == "0x1"
    assert sender.number == start + 3


def test_a_transaction_in_the_pool_is_accepted_again(sender: Sender) -> None:
    sender.rpc("evm_setAutomine", False)
    try:
        raw = sender.sign()
        assert sender.send(raw) is Sent.ACCEPTED
        assert sender.send(raw) is Sent.ACCEPTED
        assert sender.send(sender.sign(sender.number, value=1)) is Sent.REJECTED  # the number is taken, and no higher fee
    finally:
        sender.rpc("evm_setAutomine", True)
        sender.rpc("evm_mine")


def test_a_transaction_already_mined_is_accepted_for_paid_is_paid(sender: Sender) -> None:
    raw = sender.sign()
    assert sender.send(raw) is Sent.ACCEPTED
    sender.rpc.wait(transaction_hash(bytes.fromhex(raw[2:])))
    assert sender.send(raw) is Sent.ACCEPTED


def test_a_number_another_transaction_used_is_taken(sender: Sender) -> None:
    assert sender.send(sender.sign(0, value=5)) is Sent.NUMBER_TAKEN


def test_a_number_to_be_filled_that_is_taken_is_filled(sender: Sender) -> None:
    start = sender.number
    assert sender.fill(0, start) == []
    assert sender.number == start + 1


def test_numbers_that_cannot_be_filled_are_given_back(sender: Sender) -> None:
    start, returned = sender.number, list[ReturnTxNumbers]()
    signer = PrivateKeySigner(PAYER_KEY)
    command = FillTxNumbers(NETWORK, "key", (Transaction(BASE_SEPOLIA, start, 10**9, 10**11, 20_000, signer.address),))
    table = {**sender.http.table, SignTransactions: signer.sign, ReturnTxNumbers: returned.append}
    with pytest.raises(ChainUnavailable, match="filler"):
        run(fill(command, sender.endpoint), dispatch(table))
    assert returned == [ReturnTxNumbers(NETWORK, "key")]
    assert sender.number == start


@pytest.mark.parametrize("how", [{"gas": 20_999}, {"gas": 2**40}, {"value": 10**30}], ids=["too little", "too much", "poor"])
def test_a_definite_refusal_of_the_first_is_a_rejection(sender: Sender, how: dict[str, int]) -> None:
    start = sender.number
    assert sender.send(sender.sign(start, **how), sender.sign(start + 1)) is Sent.REJECTED
    assert sender.number == start


def test_a_definite_refusal_of_a_later_one_is_unclear(sender: Sender) -> None:
    start = sender.number
    assert sender.send(sender.sign(start), sender.sign(start + 1, value=10**30), sender.sign(start + 2)) is Sent.UNCLEAR
    assert sender.number == start + 1


def test_an_account_without_money_is_rejected(sender: Sender) -> None:
    raw = sender.rpc.sign(keccak(b"an empty purse"), PAYEE, gas=21_000)
    assert sender.send(raw) is Sent.REJECTED


def test_a_node_that_is_not_there_leaves_it_unclear(sender: Sender) -> None:
    away = Endpoint("http://127.0.0.1:1", NETWORK, timeout=1)
    command = Broadcast(NETWORK, (bytes.fromhex(sender.sign()[2:]),))
    assert run(broadcast(command, away), dispatch(sender.http.table)) is Sent.UNCLEAR


def test_rebroadcast_ignores_what_the_node_says(sender: Sender) -> None:
    start = sender.number
    good, known = sender.sign(start), sender.sign(0)
    command = Rebroadcast(NETWORK, tuple(bytes.fromhex(raw[2:]) for raw in (known, good)))
    run(rebroadcast(command, sender.endpoint), dispatch(sender.http.table))
    sender.rpc.wait(transaction_hash(bytes.fromhex(good[2:])))
    assert sender.number == start + 1


# ------------------------------------------------------------------------------------- what no real node says (scripted)

RAWS = (b"\x02first", b"\x02second")
TAKEN = tuple(transaction_hash(raw) for raw in RAWS)
SAMPLES = {
    NodeErrorKind.INSUFFICIENT_FUNDS: "insufficient funds for gas * price + value",
    NodeErrorKind.GAS: "intrinsic gas too low",
    NodeErrorKind.FEE_TOO_LOW: "max fee per gas less than block base fee",
    NodeErrorKind.UNDERPRICED: "transaction underpriced",
    NodeErrorKind.REPLACEMENT_UNDERPRICED: "replacement transaction underpriced",
    NodeErrorKind.INVALID: "invalid sender",
}
UNCLEAR = (
    HttpFailed("ReadTimeout"),
    HttpFailed("ConnectError", sent=False),
    HttpReply(500, (), b"insufficient funds"),
    HttpReply(429),
    HttpReply(200, (), b"<html>"),
    HttpReply(200, (), b'{"id":null,"error":{"code":-32005,"message":"limit exceeded"}}'),
    {"eth_sendRawTransaction": Says("over rate limit", -32016)},
    {"eth_sendRawTransaction": Says("txpool is full")},
    {"eth_sendRawTransaction": Says("nonce too high")},
    {"eth_sendRawTransaction": Says("execution reverted: insufficient funds", 3)},
    {"eth_sendRawTransaction": Says("who knows")},
    {"eth_sendRawTransaction": None},
    {"eth_sendRawTransaction": "0x" + "00" * 32},
    {"eth_sendRawTransaction": 1},
)


def sent(fake: ScriptedNode) -> Sent:
    said = run(broadcast(Broadcast(NETWORK, RAWS), ENDPOINT), fake)
    fake.ended()
    return said


def taking(position: int) -> dict[str, object]:
    return {"eth_sendRawTransaction": TAKEN[position]}


def test_every_refusal_has_a_sample() -> None:
    assert set(SAMPLES) == REFUSALS


@pytest.mark.parametrize("words", SAMPLES.values())
def test_a_refusal_of_the_first_stops_and_rejects(words: str) -> None:
    refusal = {"eth_sendRawTransaction": Says(words)}
    assert sent(ScriptedNode(refusal)) is Sent.REJECTED
    assert sent(ScriptedNode(taking(0), refusal)) is Sent.UNCLEAR


@pytest.mark.parametrize("turn", UNCLEAR)
def test_whatever_is_not_definite_is_unclear(turn: Any) -> None:
    assert sent(ScriptedNode(turn)) is Sent.UNCLEAR
    assert sent(ScriptedNode(taking(0), turn)) is Sent.UNCLEAR


def test_a_number_too_low_is_only_taken_once_the_receipt_was_asked_for() -> None:
    low = {"eth_sendRawTransaction": Says("nonce too low")}
    mined = {"transactionHash": TAKEN[0], "blockNumber": "0x1", "status": "0x0", "logs": []}
    assert sent(ScriptedNode(low, {"eth_getTransactionReceipt": None})) is Sent.NUMBER_TAKEN
    assert sent(ScriptedNode(low, {"eth_getTransactionReceipt": mined}, taking(1))) is Sent.ACCEPTED
    assert sent(ScriptedNode(low, HttpFailed("ReadTimeout"))) is Sent.UNCLEAR
    assert sent(ScriptedNode(taking(0), low, {"eth_getTransactionReceipt": None})) is Sent.UNCLEAR


def test_sending_is_never_repeated_by_itself() -> None:
    fake = ScriptedNode(HttpFailed("ReadTimeout"))
    table = chain_table({NETWORK: ENDPOINT})
    assert run(translate(_asking(), table), fake) is Sent.UNCLEAR
    assert fake.pauses == []


def _asking() -> Any:
    return (yield Broadcast(NETWORK, RAWS))


def test_a_rebroadcast_is_one_request_and_tells_of_a_lost_node() -> None:
    fake = ScriptedNode({"eth_sendRawTransaction": Each((Says("already known"), Says("nonce too low")))})
    run(rebroadcast(Rebroadcast(NETWORK, RAWS), ENDPOINT), fake)
    assert len(fake.calls) == 1
    with pytest.raises(ChainUnavailable):
        run(rebroadcast(Rebroadcast(NETWORK, RAWS), ENDPOINT), ScriptedNode(HttpReply(502)))
    run(rebroadcast(Rebroadcast(NETWORK, ()), ENDPOINT), ScriptedNode())
