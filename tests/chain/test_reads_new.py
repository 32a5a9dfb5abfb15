"""What contract wallets, Permit2 and sponsored approvals are read by: of anvil and the embedded chain, with real USDC."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.chain.conduct import undone
from tests.chain.scripted import ENDPOINT, NETWORK, Says, ScriptedNode, block
from tests.chain.test_reads import Ground as TokenGround
from tests.chain.test_reads import Node
from tests.chains import PERMIT2, USDC, Anvil, RealUSDC, Rpc
from tests.contracts import Placed, place_all
from tests.contracts.accounts import SmartWallet, delegate
from x402bind.chain.devnet import Devnet
from x402bind.chain.devnet.keys import DEV_KEYS, dev_accounts
from x402bind.chain.errors import ChainUnavailable, NodeError, NodeErrorKind
from x402bind.chain.rpc import Endpoint
from x402bind.chain.transports import SyncHttp
from x402bind.drive import run
from x402bind.translate.chain import read_chain
from x402core.commands import ReadChain
from x402core.errors import LocalProtocolError
from x402core.evm.abi import encode_call
from x402core.evm.bundle import MOST, initcode
from x402core.evm.digests import domain, transfer_authorization_digest
from x402core.evm.secp256k1 import public_address, sign
from x402core.reads import (
    Facts,
    NativeBalance,
    NonceBitmap,
    Read,
    SignatureValid,
    Simulate,
    SimulateAll,
    Simulated,
    SimulatePayment,
    Traced,
    TransactionCount,
    TransferTrace,
)
from x402core.values import Address, Hash32

PAYER, PAYEE, OTHER, RELAYER = dev_accounts()[1:5]
PAYER_KEY, _, OTHER_KEY, RELAYER_KEY = DEV_KEYS[1:5]
FUNDS = 2_000_000
DIGEST = b"\x12" * 32
HALT = bytes.fromhex("6001600c60003960016000f3fe")  # creation code of a contract that is one invalid instruction


@dataclass
class Chain:
    """A node with everything on it."""

    node: Node
    placed: Placed

    @property
    def rpc(self) -> Rpc:
        return self.placed.rpc


@pytest.fixture(scope="module", params=[Anvil, Devnet], ids=["anvil", "devnet"])
def shared(request: pytest.FixtureRequest) -> Iterator[Chain]:
    with request.param() as node, SyncHttp() as http:
        rpc = Rpc(node.url)
        placed = place_all(rpc)
        RealUSDC.place(rpc, {PAYER: FUNDS})
        yield Chain(Node(TokenGround(rpc, USDC), Endpoint(node.url, NETWORK), http), placed)


@pytest.fixture
def chain(shared: Chain) -> Iterator[Chain]:
    with undone(shared.rpc):
        yield shared


pytestmark = pytest.mark.anvil


def authorization(payer: Address) -> bytes:
    nonce = Hash32("0x" + "7" * 64)
    return transfer_authorization_digest(domain("USDC", "2", 84532, USDC), payer, PAYEE, 10, 0, 2**64, nonce)


def pay(payer: Address, signature: bytes) -> bytes:
    types = "address,address,uint256,uint256,uint256,bytes32,bytes"
    call = (payer, PAYEE, 10, 0, 2**64, Hash32("0x" + "7" * 64), signature)
    return encode_call(f"transferWithAuthorization({types})", *call)


# ------------------------------------------------------------------------------------------------- several calls in a row


def test_a_wallet_is_deployed_and_used_in_one_simulation(chain: Chain) -> None:
    wallet = SmartWallet.of(chain.placed, OTHER_KEY)
    chain.rpc.must(PAYER_KEY, USDC, encode_call("transfer(address,uint256)", wallet.address, 100))
    spend = (USDC, pay(wallet.address, wallet.sign_long(authorization(wallet.address))))
    make = (wallet.factory, wallet.calldata)
    assert not chain.node.one(Simulate(*spend)).ok
    assert chain.node.one(SimulateAll((make, spend))) == Simulated(True)
    assert not wallet.deployed
    wallet.deploy()
    assert not chain.node.one(Simulate(*make)).ok
    assert chain.node.one(SimulateAll((make, spend))) == Simulated(True)  # the first may fail


def test_the_last_call_is_the_answer_with_its_own_words(chain: Chain) -> None:
    too_much = (USDC, encode_call("transfer(address,uint256)", PAYEE, 1))
    fine = (USDC, encode_call("balanceOf(address)", PAYER))
    said = chain.node.one(SimulateAll((fine, too_much)))
    assert not said.ok
    assert "balance" in said.revert
    assert chain.node.one(SimulateAll((too_much, fine))) == Simulated(True)
    assert chain.node.one(SimulateAll((fine,))) == Simulated(True)
    assert chain.node.one(SimulateAll((fine,) * 5 + ((USDC, b""),))).ok is False


def test_one_account_makes_all_the_calls(chain: Chain) -> None:
    """What the first allows, the last may use; of another account nothing is allowed."""
    approve = encode_call("approve(address,uint256)", RELAYER, 5)
    asked = encode_call("transferFrom(address,address,uint256)", PAYER, PAYEE, 1)
    assert not chain.node.one(SimulateAll(((USDC, approve), (USDC, asked)))).ok
    factory, long = chain.placed.lenient_factory, b"\xff" * 2000
    assert chain.node.one(SimulateAll(((factory, long), (USDC, approve)))) == Simulated(True)


def test_a_call_that_halts_is_an_answer(chain: Chain) -> None:
    halting = Address(chain.rpc.must(DEV_KEYS[0], None, HALT)["contractAddress"].lower())
    assert not chain.node.one(SimulateAll(((USDC, encode_call("name()")), (halting, b"")))).ok


def test_a_bundle_has_bounds(chain: Chain) -> None:
    room = MOST - len(initcode([(USDC, b"")]))
    whole = SimulateAll(((chain.placed.mute_delegate, b"\xff" * room),))
    assert len(initcode(whole.calls)) == MOST
    assert chain.node.one(whole) == Simulated(True)
    for wrong in ([], [(USDC, b"\0" * (room + 1))]):
        with pytest.raises(LocalProtocolError, match="calls"):
            initcode(wrong)


def test_a_node_that_runs_no_creation_code_is_not_believed() -> None:
    heads = {"eth_getBlockByNumber": block(7), "eth_blockNumber": "0x7"}
    for nothing in ("0x", "0x" + "0" * 64, "0x01"):
        with pytest.raises(NodeError):
            scripted(ScriptedNode({**heads, "eth_call": nothing}), SimulateAll(((USDC, b""),)))


def test_a_simulation_has_no_more_gas_than_it_is_given(chain: Chain) -> None:
    call = encode_call("transfer(address,uint256)", PAYEE, 1)
    assert chain.node.one(Simulate(USDC, call, PAYER, 100_000)).ok
    assert not chain.node.one(Simulate(USDC, call, PAYER, 30_000)).ok


# ---------------------------------------------------------------------------------- a call that is to pay somebody


def paying(
    data: bytes, amount: int = 7, to: Address = USDC, sender: Address = PAYER, pay_to: Address = PAYEE
) -> SimulatePayment:
    return SimulatePayment(to, data, sender, USDC, pay_to, amount)


def test_a_payment_is_what_the_payee_has_more(chain: Chain) -> None:
    pay = encode_call("transfer(address,uint256)", PAYEE, 7)
    before = chain.rpc.balance(USDC, PAYEE)
    assert chain.node.one(paying(pay)) == Simulated(True)
    for ask in (
        paying(pay, 6),
        paying(pay, 8),
        paying(pay, pay_to=OTHER),
        paying(encode_call("transfer(address,uint256)", PAYER, 7), pay_to=PAYER),
        paying(encode_call("totalSupply()")),
        paying(b"anything", to=OTHER),
        paying(b"", to=PERMIT2, sender=RELAYER),
    ):
        assert not chain.node.one(ask).ok, ask
    assert chain.rpc.balance(USDC, PAYEE) == before
    assert chain.rpc("eth_getCode", PAYER, "latest") == "0x"


def test_a_payment_that_fails_has_its_own_words(chain: Chain) -> None:
    said = chain.node.one(paying(encode_call("transfer(address,uint256)", PAYEE, 7), sender=OTHER))
    assert (said.ok, "balance" in said.revert) == (False, True)


@pytest.mark.parametrize("amount", [1, 2**256 - 1])
def test_an_asset_that_is_none_pays_nobody(chain: Chain, amount: int) -> None:
    ask = SimulatePayment(USDC, encode_call("transfer(address,uint256)", PAYEE, 7), PAYER, OTHER, PAYEE, amount)
    assert not chain.node.one(ask).ok


def test_a_node_that_lends_no_code_is_not_believed() -> None:
    heads = {"eth_getBlockByNumber": block(7), "eth_blockNumber": "0x7"}
    for nothing in ("0x", "0x" + "0" * 62 + "02", "0x01"):
        with pytest.raises(NodeError):
            scripted(ScriptedNode({**heads, "eth_call": nothing}), paying(b""))


# ----------------------------------------------------------------------------------------------------------- signatures


def test_a_wallet_is_asked_for_its_signature(chain: Chain) -> None:
    wallet = SmartWallet.of(chain.placed, OTHER_KEY)
    signature = wallet.sign(DIGEST)
    ask = SignatureValid(wallet.address, DIGEST, signature)
    assert chain.node.one(ask) is False  # not there yet: it answers nothing
    wallet.deploy()
    assert chain.node.one(ask) is True
    assert chain.node.one(SignatureValid(wallet.address, DIGEST, wallet.sign_long(DIGEST))) is True
    assert chain.node.one(SignatureValid(wallet.address, b"\x13" * 32, signature)) is False
    assert chain.node.one(SignatureValid(wallet.address, DIGEST, b"")) is False
    assert chain.node.one(SignatureValid(wallet.address, DIGEST, b"x" * 600)) is False  # it reverts


def test_who_knows_no_signatures_says_no(chain: Chain) -> None:
    signature = sign(DIGEST, PAYER_KEY)
    halting = Address(chain.rpc.must(DEV_KEYS[0], None, HALT)["contractAddress"].lower())
    for account in (PAYER, USDC, PERMIT2, chain.placed.mute_delegate, halting):
        assert chain.node.one(SignatureValid(account, DIGEST, signature)) is False


def test_a_delegated_account_answers_by_its_code(chain: Chain) -> None:
    if isinstance(chain.rpc("web3_clientVersion"), str) and "anvil" not in chain.rpc("web3_clientVersion"):
        with pytest.raises(Exception, match="type"):
            delegate(chain.rpc, OTHER_KEY, chain.placed.delegate)
        return
    ask = SignatureValid(OTHER, DIGEST, sign(DIGEST, OTHER_KEY))
    delegate(chain.rpc, OTHER_KEY, chain.placed.mute_delegate)
    assert chain.node.one(ask) is False
    delegate(chain.rpc, OTHER_KEY, chain.placed.delegate)
    assert chain.node.one(ask) is True


@pytest.mark.parametrize("answer", ["0x", "0x1626ba7e", "0x1626ba7f" + "0" * 56, "0x" + "0" * 56 + "1626ba7e"])
def test_only_the_magic_word_is_a_yes(answer: str) -> None:
    heads = {"eth_getBlockByNumber": block(7), "eth_blockNumber": "0x7"}
    ask = SignatureValid(PAYER, DIGEST, b"s")
    assert scripted(ScriptedNode({**heads, "eth_call": answer}), ask).of(ask) is False
    assert scripted(ScriptedNode({**heads, "eth_call": "0x1626ba7e" + "f" * 56}), ask).of(ask) is True


def test_a_node_in_trouble_is_not_a_no() -> None:
    heads = {"eth_getBlockByNumber": block(7), "eth_blockNumber": "0x7"}
    with pytest.raises(NodeError):
        scripted(ScriptedNode({**heads, "eth_call": Says("internal error", -32603)}), SignatureValid(PAYER, DIGEST, b"s"))


# --------------------------------------------------------------------------------------------------- bitmaps and accounts


def test_a_nonce_bitmap(chain: Chain) -> None:
    word = 2**247 + 5
    ask = NonceBitmap(PAYER, word)
    assert chain.node.one(ask) == 0
    chain.rpc.must(PAYER_KEY, PERMIT2, encode_call("invalidateUnorderedNonces(uint256,uint256)", word, 0b101 << 200))
    assert chain.node.one(ask) == 0b101 << 200
    assert chain.node.one(NonceBitmap(PAYER, word + 1)) == 0
    assert chain.node.one(NonceBitmap(OTHER, word)) == 0


def test_an_account_s_money_and_next_number(chain: Chain) -> None:
    nobody = Address("0x" + "3" * 40)
    assert (chain.node.one(NativeBalance(nobody)), chain.node.one(TransactionCount(nobody))) == (0, 0)
    before = chain.node.one(TransactionCount(PAYER))
    chain.rpc.must(PAYER_KEY, nobody, value=12345, gas=21_000)
    assert chain.node.one(NativeBalance(nobody)) == 12345
    assert chain.node.one(TransactionCount(PAYER)) == before + 1


# ----------------------------------------------------------------------------------------------------- traced transfers


def transfer(chain: Chain, to: Address, amount: int) -> Hash32:
    sent = chain.rpc.must(PAYER_KEY, USDC, encode_call("transfer(address,uint256)", to, amount), gas=200_000)
    return Hash32(sent["transactionHash"])


def traced(chain: Chain, since: int, payer: Address = PAYER) -> tuple[Traced, ...]:
    read = TransferTrace(USDC, payer, PAYEE, since)
    return chain.node.read(read).of(read)


def height(chain: Chain) -> int:
    return int(chain.rpc("eth_blockNumber"), 16)


def test_transfers_are_found_with_what_was_called(chain: Chain) -> None:
    since = height(chain) + 1
    before = height(chain)
    assert traced(chain, before) == ()
    assert chain.node.requests == 1
    first = transfer(chain, PAYEE, 10)
    transfer(chain, OTHER, 10)
    call = pay(PAYER, sign(authorization(PAYER), PAYER_KEY))
    second = Hash32(chain.rpc.must(RELAYER_KEY, USDC, call, gas=200_000)["transactionHash"])
    found = traced(chain, since)
    assert chain.node.requests == 2
    assert [each.receipt.transaction for each in found] == [first, second]
    assert [(each.to, each.receipt.ok) for each in found] == [(USDC, True)] * 2
    assert found[1].data == call
    assert found[1].receipt.block == height(chain)
    assert [each.receipt.transaction for each in traced(chain, height(chain))] == [second]
    assert traced(chain, since, payer=OTHER) == ()


def test_transfers_of_nothing_hide_no_payment(chain: Chain) -> None:
    """Anybody can log a transfer of nothing between any two accounts."""
    since = height(chain)
    ours = transfer(chain, PAYEE, 10)
    nothing = encode_call("transferFrom(address,address,uint256)", PAYER, PAYEE, 0)
    for _ in range(33):
        chain.rpc.must(OTHER_KEY, USDC, nothing, gas=200_000)
    assert [each.receipt.transaction for each in traced(chain, since)] == [ours]


def test_a_bundle_is_traced_once_and_shown_as_what_it_is(chain: Chain) -> None:
    wallet = SmartWallet.of(chain.placed, OTHER_KEY)
    wallet.deploy()
    chain.rpc.must(PAYER_KEY, USDC, encode_call("transfer(address,uint256)", wallet.address, 100))
    since = height(chain)
    wallet.execute(USDC, encode_call("transfer(address,uint256)", PAYEE, 1))
    (found,) = traced(chain, since, wallet.address)
    assert found.to == wallet.address
    assert public_address(wallet.key) == OTHER


def test_only_the_newest_are_traced(chain: Chain) -> None:
    since = height(chain)
    sent = [transfer(chain, PAYEE, 1) for _ in range(34)]
    assert [each.receipt.transaction for each in traced(chain, since)] == sent[2:]


# ------------------------------------------------------------------------------------------ what no real node can be made


TRACE = TransferTrace(USDC, PAYER, PAYEE, 1000)
LOGGED = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"


def scripted(fake: ScriptedNode, *reads: Read[object]) -> Facts:
    return run(read_chain(ReadChain(NETWORK, reads), ENDPOINT), fake)


def hash32(number: int) -> str:
    return f"0x{number:064x}"


def log(number: int, amount: int = 5, **other: object) -> dict[str, object]:
    topics = [LOGGED, "0x" + PAYER[2:].rjust(64, "0"), "0x" + PAYEE[2:].rjust(64, "0")]
    entry = {"address": USDC, "topics": topics, "data": hash32(amount), "transactionHash": hash32(number)}
    return {**entry, **other}


def mined(number: int) -> dict[str, object]:
    receipt = {"transactionHash": hash32(number), "blockNumber": "0x3e8", "status": "0x1"}
    return {**receipt, "logs": [{k: v for k, v in log(number).items() if k != "transactionHash"}]}


def called(number: int, **other: object) -> dict[str, object]:
    return {"hash": hash32(number), "to": USDC, "input": "0x1234", **other}


def heads(number: int, logs: object) -> dict[str, object]:
    return {"eth_getBlockByNumber": block(number), "eth_blockNumber": hex(number), "eth_getLogs": logs}


def test_transfers_are_searched_in_narrower_spans_when_the_provider_asks_for_it() -> None:
    refused = Says("query returned more than 10000 results", -32005)
    details = {"eth_getTransactionByHash": called(9), "eth_getTransactionReceipt": mined(9)}
    fake = ScriptedNode(heads(5000, refused), {"eth_getLogs": [log(9)]}, details)
    (found,) = scripted(fake, TRACE).of(TRACE)
    assert (found.receipt.transaction, found.to, found.data) == (hash32(9), USDC, b"\x12\x34")
    assert fake.methods[1] == ["eth_getLogs"] * 3  # the same log thrice is one transaction
    assert fake.methods[2] == ["eth_getTransactionByHash", "eth_getTransactionReceipt"]


def test_logs_that_do_not_fit_are_not_believed() -> None:
    swapped = [LOGGED, "0x" + PAYEE[2:].rjust(64, "0"), "0x" + PAYER[2:].rjust(64, "0")]
    wrong = [log(1, address=PAYEE), log(2, topics=swapped), log(3, topics=[]), log(4, removed=True), log(5, 0)]
    assert scripted(ScriptedNode(heads(1000, wrong)), TRACE).of(TRACE) == ()


def test_a_creation_calls_nobody() -> None:
    details = {"eth_getTransactionByHash": called(9, to=None), "eth_getTransactionReceipt": mined(9)}
    (found,) = scripted(ScriptedNode(heads(1000, [log(9)]), details), TRACE).of(TRACE)
    assert found.to is None


@pytest.mark.parametrize(
    "details",
    [
        {"eth_getTransactionByHash": None, "eth_getTransactionReceipt": mined(9)},
        {"eth_getTransactionByHash": called(9), "eth_getTransactionReceipt": None},
        {"eth_getTransactionByHash": called(8), "eth_getTransactionReceipt": mined(9)},
        {"eth_getTransactionByHash": called(9), "eth_getTransactionReceipt": mined(8)},
        {"eth_getTransactionByHash": called(9, to="nowhere"), "eth_getTransactionReceipt": mined(9)},
        {"eth_getTransactionByHash": called(9, input=None), "eth_getTransactionReceipt": mined(9)},
        {"eth_getTransactionByHash": {"hash": hash32(9), "to": USDC}, "eth_getTransactionReceipt": mined(9)},
    ],
)
def test_a_log_without_its_transaction_is_our_trouble(details: dict[str, object]) -> None:
    with pytest.raises(ChainUnavailable):
        scripted(ScriptedNode(heads(1000, [log(9)]), details), TRACE)


def test_a_node_behind_the_payment_is_our_trouble() -> None:
    with pytest.raises(ChainUnavailable, match="behind"):
        scripted(ScriptedNode(heads(999, [])), TRACE)


def test_an_endless_search_for_transfers_is_given_up() -> None:
    refused = Says("exceed maximum block range: 10", -32701)
    with pytest.raises(NodeError) as caught:
        scripted(ScriptedNode(heads(10**6, refused), {"eth_getLogs": refused}), TRACE)
    assert caught.value.kind is NodeErrorKind.RANGE
