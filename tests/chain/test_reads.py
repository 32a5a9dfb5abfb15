"""Every read of a plan, asked of real nodes: the embedded one and anvil.  (test_reads_scripted.py has the rest.)"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import anyio
import pytest

from tests.chain.conduct import CANCEL, FUNDS, PAYEE, PAYER, PAYER_KEY, PERMIT, STRANGER, Ground, nonce, undone
from tests.chain.scripted import NETWORK
from tests.chains import BASE_SEPOLIA, Anvil, Rpc
from x402bind.chain.devnet import Devnet
from x402bind.chain.devnet.keys import DEV_KEYS
from x402bind.chain.devnet.token import deploy_calldata, initialize_calldata
from x402bind.chain.errors import NodeError, NodeErrorKind
from x402bind.chain.rpc import Endpoint
from x402bind.chain.transports import AsyncHttp, SyncHttp
from x402bind.drive import adispatch, arun, dispatch, run
from x402bind.leaves import HttpCall
from x402bind.translate.chain import (
    fees_and_number,
    get_receipts,
    prove_chain,
    read_chain,
)
from x402bind.translate.chain_reads import READS
from x402core import reads as reads_module
from x402core.commands import Command, GetReceipts, ReadChain
from x402core.evm.abi import encode_call, event_topic
from x402core.evm.digests import domain
from x402core.reads import (
    Allowance,
    AuthorizationState,
    AuthorizationTrace,
    BalanceOf,
    CodeAt,
    DomainSeparator,
    Facts,
    PermitNonce,
    Read,
    Simulate,
    Simulated,
    TxReceipt,
)
from x402core.registry import Asset
from x402core.values import Address, Hash32, Network

FOREVER = 2**256 - 1
NOWHERE = Address("0x" + "9" * 40)
USED = event_topic("AuthorizationUsed(address,bytes32)")
CANCELED = event_topic("AuthorizationCanceled(address,bytes32)")


@dataclass
class Node:
    """A real node under test: the token on it, and a leaf that counts its HTTP requests."""

    ground: Ground
    endpoint: Endpoint
    http: SyncHttp
    requests: int = 0

    def perform(self, command: Command[Any]) -> Any:
        self.requests += isinstance(command, HttpCall)
        return dispatch(self.http.table)(command)

    def read(self, *reads: Read[Any]) -> Facts:
        self.requests = 0
        return run(read_chain(ReadChain(NETWORK, reads), self.endpoint), self.perform)

    def one(self, read: Read[Any]) -> Any:
        facts = self.read(read)
        assert self.requests == 1
        return facts.of(read)


@pytest.fixture(scope="module", params=[pytest.param(Anvil, marks=pytest.mark.anvil), Devnet], ids=["anvil", "devnet"])
def shared(request: pytest.FixtureRequest) -> Iterator[Node]:
    with request.param(BASE_SEPOLIA) as node, SyncHttp() as http:
        rpc = Rpc(node.url)
        token = Address(rpc.must(DEV_KEYS[0], None, deploy_calldata())["contractAddress"].lower())
        rpc.must(DEV_KEYS[0], token, initialize_calldata())
        rpc.must(DEV_KEYS[0], token, encode_call("mint(address,uint256)", PAYER, FUNDS))
        yield Node(Ground(rpc, token), Endpoint(node.url, NETWORK), http)


@pytest.fixture
def node(shared: Node) -> Iterator[Node]:
    with undone(shared.ground.rpc):
        yield shared


def hash32(number: int) -> Hash32:
    return Hash32("0x" + nonce(number).hex())


# ---------------------------------------------------------------------------------------------------- each of the reads


def test_the_table_covers_every_read_there_is() -> None:
    declared = {
        each for each in vars(reads_module).values() if isinstance(each, type) and issubclass(each, Read) and each is not Read
    }
    assert set(READS) == declared


def test_balance(node: Node) -> None:
    assert node.one(BalanceOf(node.ground.token, PAYER)) == FUNDS
    assert node.one(BalanceOf(node.ground.token, STRANGER)) == 0


def test_allowance_and_permit_nonce(node: Node) -> None:
    token = node.ground.token
    assert node.one(Allowance(token, PAYER, PAYEE)) == 0
    assert node.one(PermitNonce(token, PAYER)) == 0
    signature = node.ground.sign(PAYER_KEY, "Permit", PAYER, PAYEE, 77, 0, FOREVER)
    node.ground.send(encode_call(PERMIT, PAYER, PAYEE, 77, FOREVER, *signature))
    assert node.one(Allowance(token, PAYER, PAYEE)) == 77
    assert node.one(PermitNonce(token, PAYER)) == 1


def test_authorization_state(node: Node) -> None:
    read = AuthorizationState(node.ground.token, PAYER, hash32(1))
    assert node.one(read) is False
    node.ground.send(node.ground.pay(nonce(1)))
    assert node.one(read) is True


def test_domain_separator(node: Node) -> None:
    token = node.ground.token
    assert node.one(DomainSeparator(token)) == domain("USDC", "2", BASE_SEPOLIA, token)


def test_code(node: Node) -> None:
    assert len(node.one(CodeAt(node.ground.token))) > 1000
    assert node.one(CodeAt(STRANGER)) == b""


def test_a_simulation_that_works_changes_nothing(node: Node) -> None:
    assert node.one(Simulate(node.ground.token, node.ground.pay(nonce(2)))) == Simulated(True)
    assert node.one(BalanceOf(node.ground.token, PAYER)) == FUNDS


def test_a_simulated_revert_is_an_answer_with_the_contracts_reason(node: Node) -> None:
    too_much = node.one(Simulate(node.ground.token, node.ground.pay(nonce(2), FUNDS + 1)))
    assert not too_much.ok
    assert "balance" in too_much.revert


def test_a_simulation_is_run_as_its_sender(node: Node) -> None:
    signature = node.ground.sign(PAYER_KEY, "Permit", PAYER, PAYEE, 77, 0, FOREVER)
    node.ground.send(encode_call(PERMIT, PAYER, PAYEE, 77, FOREVER, *signature))
    pull = encode_call("transferFrom(address,address,uint256)", PAYER, PAYEE, 77)
    assert node.one(Simulate(node.ground.token, pull, PAYEE)).ok
    assert not node.one(Simulate(node.ground.token, pull, STRANGER)).ok


def test_a_simulation_the_evm_stops_is_an_answer_too(node: Node) -> None:
    halting = node.ground.rpc.must(DEV_KEYS[0], None, bytes.fromhex("6001600c60003960016000f3fe"))["contractAddress"]
    stopped = node.one(Simulate(Address(halting.lower()), b""))
    assert not stopped.ok
    assert stopped.revert


@pytest.mark.parametrize(("end", "topic"), [("transfer", USED), ("cancel", CANCELED)], ids=["transfer", "cancel"])
def test_a_trace_finds_the_transaction_that_ended_an_authorization(node: Node, end: str, topic: Hash32) -> None:
    ground, wanted = node.ground, hash32(5)
    since = int(ground.rpc("eth_blockNumber"), 16)
    read = AuthorizationTrace(ground.token, PAYER, wanted, since)
    assert node.one(read) is None
    ground.send(ground.pay(nonce(4)))  # another nonce
    cancel = encode_call(CANCEL, PAYER, nonce(5), *ground.sign(PAYER_KEY, "CancelAuthorization", PAYER, nonce(5)))
    sent = ground.send(ground.pay(nonce(5)) if end == "transfer" else cancel)
    receipt = node.read(read).of(read)
    assert node.requests == 2
    assert receipt is not None
    assert (receipt.transaction, receipt.ok, receipt.block) == (sent["transactionHash"], True, int(sent["blockNumber"], 16))
    assert next(log.topics for log in receipt.logs if log.topics[0] == topic)[2] == wanted
    assert {log.address for log in receipt.logs} == {ground.token}
    later = AuthorizationTrace(ground.token, PAYER, wanted, receipt.block + 1)
    ground.rpc("evm_mine")
    assert node.read(later).of(later) is None


def test_a_whole_plan_takes_one_request_and_is_dated(node: Node) -> None:
    token = node.ground.token
    plan: tuple[Read[Any], ...] = (
        BalanceOf(token, PAYER),
        Allowance(token, PAYER, PAYEE),
        PermitNonce(token, PAYER),
        AuthorizationState(token, PAYER, hash32(1)),
        DomainSeparator(token),
        CodeAt(PAYER),
        Simulate(token, node.ground.pay(nonce(1))),
        AuthorizationTrace(token, PAYER, hash32(1), 0),
        BalanceOf(token, PAYER),
    )
    facts = node.read(*plan)
    assert node.requests == 1
    assert set(facts.answers) == set(plan)
    newest = node.ground.rpc("eth_getBlockByNumber", "latest", False)
    assert (facts.number, facts.time) == (int(newest["number"], 16), int(newest["timestamp"], 16))


def test_no_reads_still_tell_the_time(node: Node) -> None:
    assert node.read().number == int(node.ground.rpc("eth_blockNumber"), 16)


UINTS: tuple[Callable[[Address], Read[Any]], ...] = (
    lambda asset: BalanceOf(asset, PAYER),
    lambda asset: Allowance(asset, PAYER, PAYEE),
    lambda asset: PermitNonce(asset, PAYER),
    lambda asset: AuthorizationState(asset, PAYER, hash32(1)),
    lambda asset: DomainSeparator(asset),
)


@pytest.mark.parametrize("read", UINTS)
def test_an_address_without_code_is_not_a_zero(node: Node, read: Callable[[Address], Read[Any]]) -> None:
    with pytest.raises(NodeError) as caught:
        node.read(read(NOWHERE))
    assert caught.value.kind is NodeErrorKind.NOT_A_CONTRACT


def test_the_async_world_reads_the_same(node: Node) -> None:
    command = ReadChain(NETWORK, (BalanceOf(node.ground.token, PAYER), CodeAt(node.ground.token)))

    async def read() -> Facts:
        async with AsyncHttp() as http:
            return await arun(read_chain(command, node.endpoint), adispatch(http.table))

    assert anyio.run(read, backend="asyncio") == anyio.run(read, backend="trio") == node.read(*command.reads)


# ------------------------------------------------------------------------------------- receipts, fees, the configuration


def test_receipts_come_with_the_head(node: Node) -> None:
    sent = node.ground.send(node.ground.pay(nonce(1)))
    paid = Hash32(sent["transactionHash"])
    node.requests = 0
    found = run(get_receipts(GetReceipts(NETWORK, (hash32(99), paid)), node.endpoint), node.perform)
    assert node.requests == 1
    missing, mined = found.receipts
    assert missing is None
    assert isinstance(mined, TxReceipt)
    assert mined.ok
    assert mined.block == found.head == int(sent["blockNumber"], 16)
    assert found.time == int(node.ground.rpc("eth_getBlockByNumber", "latest", False)["timestamp"], 16)
    assert USED in {log.topics[0] for log in mined.logs}


def test_fees_and_number(node: Node) -> None:
    node.requests = 0
    view = run(fees_and_number(node.endpoint, PAYER), node.perform)
    assert node.requests == 1
    base = int(node.ground.rpc("eth_getBlockByNumber", "latest", False)["baseFeePerGas"], 16)
    assert view.max_priority_fee == int(node.ground.rpc("eth_maxPriorityFeePerGas"), 16)
    assert view.max_fee == 2 * base + view.max_priority_fee
    assert view.next_number == view.pending_number == int(node.ground.rpc("eth_getTransactionCount", PAYER, "latest"), 16)


def test_waiting_transactions_count_as_pending(node: Node) -> None:
    before = run(fees_and_number(node.endpoint, PAYER), node.perform)
    node.ground.rpc("evm_setAutomine", False)
    try:
        node.ground.rpc("eth_sendRawTransaction", node.ground.rpc.sign(PAYER_KEY, PAYEE, gas=21_000))
        view = run(fees_and_number(node.endpoint, PAYER), node.perform)
    finally:
        node.ground.rpc("evm_setAutomine", True)
        node.ground.rpc("evm_mine")
    assert (view.next_number, view.pending_number) == (before.next_number, before.next_number + 1)


def asset(address: Address, name: str = "USDC", version: str = "2", decimals: int = 6) -> Asset:
    return Asset(NETWORK, address, "usdc", "$", name, version, decimals, ("eip3009",))


def test_a_configuration_is_proved(node: Node) -> None:
    token = node.ground.token
    assert run(prove_chain(node.endpoint, [asset(token), asset(token)]), node.perform) == ()
    problems = run(
        prove_chain(node.endpoint, [asset(token, name="USD Coin"), asset(token, decimals=18), asset(NOWHERE)]), node.perform
    )
    assert problems == (
        f"asset usdc ({token}): not the contract's EIP-712 domain: name is 'USD Coin', the contract says 'USDC'",
        f"asset usdc ({token}): decimals is 18, the contract says 6",
        f"asset usdc ({NOWHERE}): address is not a token's on eip155:84532",
    )


def test_another_chain_is_noticed(node: Node) -> None:
    other = Endpoint(node.endpoint.url, Network("eip155:8453"))
    assert run(prove_chain(other), node.perform) == ("url: the node serves chain 84532, but network is eip155:8453",)
