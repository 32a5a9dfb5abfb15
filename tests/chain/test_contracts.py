"""Our clean-room x402 proxies settle by the real Permit2 and move real USDC, or refuse by name; on anvil and our chain."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.chain.conduct import undone
from tests.chains import PERMIT2, USDC, Anvil, RealUSDC, Rpc
from tests.contracts import (
    AGGREGATE3,
    EXACT_SETTLE,
    EXACT_SETTLE_WITH_PERMIT,
    MULTICALL3,
    TRY_AGGREGATE,
    UPTO_SETTLE,
    UPTO_SETTLE_WITH_PERMIT,
    compiled,
    deploy,
    exact_call,
    place_all,
    refusal,
    try_aggregate,
    upto_call,
)
from x402bind.chain.devnet import Devnet
from x402bind.chain.devnet.keys import DEV_KEYS, dev_accounts
from x402core.evm.abi import encode, encode_call, event_topic, selector
from x402core.evm.digests import (
    EXACT_PROXY,
    UPTO_PROXY,
    domain,
    permit2_domain,
    permit2_exact_digest,
    permit2_upto_digest,
    permit_digest,
)
from x402core.evm.keccak import keccak
from x402core.evm.secp256k1 import sign
from x402core.values import Address

pytestmark = pytest.mark.anvil

PAYER, FACILITATOR, PAYEE, OTHER = dev_accounts()[:4]
PAYER_KEY, FACILITATOR_KEY, _, OTHER_KEY = DEV_KEYS[:4]
FUNDS, LATE = 2_000_000, 9_999_999_999
VECTOR_PAYEE = Address("0x9876543210987654321098765432109876543210")
V2 = bytes.fromhex(
    "71d701457d5c4c4ccb48ce0cbf1ff80dd2237c2e7a04272043b99e1c667e370d"
    "096fec3610f7c96c264294e25eff53a99eb8fd7ed25621b65e23e79a1c41abf51c"
)
V3 = bytes.fromhex(
    "791afe6783abbfa6771354c4d19a9a79c3e5510687668ee2e8445c03e985e140"
    "3d2c0b0729ec1211abe6940d0d692f6afdad8d9a2897c487a45ec099532d48831b"
)


@pytest.fixture(scope="module", params=[Anvil, Devnet], ids=["anvil", "devnet"])
def node(request: pytest.FixtureRequest) -> Iterator[Rpc]:
    with request.param() as node:
        rpc = Rpc(node.url)
        place_all(rpc)
        RealUSDC.place(rpc, {PAYER: FUNDS})
        yield rpc


@pytest.fixture
def rpc(node: Rpc) -> Iterator[Rpc]:
    with undone(node):
        yield node


@pytest.fixture
def approved(rpc: Rpc) -> Rpc:
    """A chain on which the payer lets Permit2 move all it has."""
    rpc.must(PAYER_KEY, USDC, encode_call("approve(address,uint256)", PERMIT2, 2**256 - 1))
    return rpc


@dataclass(frozen=True)
class Paying:
    """A Permit2 payment: what is signed, and (``said``) where what is told the proxy differs from it."""

    amount: int = 700
    nonce: int = 5
    deadline: int = LATE
    pay_to: Address = PAYEE
    after: int = 0
    facilitator: Address = FACILITATOR
    key: bytes = PAYER_KEY
    said: dict[str, Any] = field(default_factory=dict)

    def _told(self) -> dict[str, Any]:
        ours = {"owner": PAYER, "pay_to": self.pay_to, "valid_after": self.after}
        return ours | {"token": USDC, "nonce": self.nonce, "deadline": self.deadline} | self.said

    def exact(self, permit: tuple[int, int, bytes, bytes, int] | None = None) -> bytes:
        """Return the exact proxy's calldata."""
        terms = (USDC, self.amount, self.nonce, self.deadline, self.pay_to, self.after)
        signature = sign(permit2_exact_digest(permit2_domain(84532), *terms), self.key)
        args: dict[str, Any] = {"amount": self.amount, "signature": signature}
        return exact_call(**(args | self._told()), permit_2612=permit)

    def upto(self, charge: int, permit: tuple[int, int, bytes, bytes, int] | None = None) -> bytes:
        """Return the upto proxy's calldata, charging some of the amount."""
        terms = (USDC, self.amount, self.nonce, self.deadline, self.pay_to, self.facilitator, self.after)
        signature = sign(permit2_upto_digest(permit2_domain(84532), *terms), self.key)
        args: dict[str, Any] = {"amount": charge, "permitted": self.amount, "facilitator": self.facilitator}
        return upto_call(**(args | {"signature": signature} | self._told()), permit_2612=permit)


def token_permit(amount: int, *, nonce: int = 0, deadline: int = LATE) -> tuple[int, int, bytes, bytes, int]:
    """Return the token's permit for Permit2 as the proxies take it."""
    made = sign(permit_digest(domain("USDC", "2", 84532, USDC), PAYER, PERMIT2, amount, nonce, deadline), PAYER_KEY)
    return amount, deadline, made[:32], made[32:64], made[64]


def moved(rpc: Rpc, pay_to: Address = PAYEE) -> tuple[int, int]:
    """Return what the payer lost and the payee has."""
    return FUNDS - rpc.balance(USDC, PAYER), rpc.balance(USDC, pay_to)


def events(receipt: dict[str, Any], proxy: Address) -> list[str]:
    return [log["topics"][0] for log in receipt["logs"] if log["address"].lower() == proxy]


def refused(rpc: Rpc, proxy: Address, data: bytes, because: str, key: bytes = FACILITATOR_KEY) -> None:
    """Check why a call fails, and that sending it anyway moves nothing."""
    sender = dev_accounts()[DEV_KEYS.index(key)]
    assert refusal(rpc, proxy, data, sender) == because
    assert rpc.send(key, proxy, data, gas=600_000)["status"] == "0x0"
    assert moved(rpc) == (0, 0)


# ---------------------------------------------------------------- what they are


def test_functions_and_events_are_the_published_ones() -> None:
    assert selector(EXACT_SETTLE).hex() == "13cd3b53"
    assert selector(EXACT_SETTLE_WITH_PERMIT).hex() == "fa340378"
    assert selector(UPTO_SETTLE).hex() == "ff11e7b4"
    assert selector(UPTO_SETTLE_WITH_PERMIT).hex() == "016c1748"
    assert selector(TRY_AGGREGATE).hex() == "bce38bd7"
    assert event_topic("Settled()") == "0x97088ec3606cfe8cc112180570d03fcde05f9b8e1bfef8e27784eaf5dd5691b6"
    assert event_topic("SettledWithPermit()") == "0xde5b89d10fc800c459329c382fabfcad0be0ed7e5328e01fae04e507b09ef5d8"


@pytest.mark.parametrize(
    ("proxy", "witness"),
    [
        (EXACT_PROXY, "Witness(address to,uint256 validAfter)"),
        (UPTO_PROXY, "Witness(address to,address facilitator,uint256 validAfter)"),
    ],
)
def test_a_proxy_says_what_it_is(rpc: Rpc, proxy: Address, witness: str) -> None:
    assert rpc.view(proxy, "address", "PERMIT2()") == PERMIT2
    assert rpc.view(proxy, "bytes32", "WITNESS_TYPEHASH()") == keccak(witness.encode())
    expected = f"Witness witness)TokenPermissions(address token,uint256 amount){witness}"
    assert rpc.view(proxy, "string", "WITNESS_TYPE_STRING()") == expected


def test_everything_can_be_placed_again_and_stays_where_it_is(rpc: Rpc) -> None:
    assert place_all(rpc) == place_all(rpc)


def test_golden_vectors_2_and_3_move_a_million_each(approved: Rpc) -> None:
    data = exact_call(USDC, 10**6, 1, LATE, PAYER, VECTOR_PAYEE, 0, V2)
    approved.must(OTHER_KEY, EXACT_PROXY, data)
    assert moved(approved, VECTOR_PAYEE) == (10**6, 10**6)
    again = upto_call(USDC, 10**6, 1, LATE, 10**6, PAYER, VECTOR_PAYEE, FACILITATOR, 0, V3)
    assert refusal(approved, UPTO_PROXY, again, FACILITATOR) == "InvalidNonce"  # one number for all spenders
    approved("anvil_setStorageAt", PERMIT2, bitmap_slot(PAYER, 0), "0x" + 64 * "0")
    approved.must(FACILITATOR_KEY, UPTO_PROXY, again)
    assert moved(approved, VECTOR_PAYEE) == (2 * 10**6, 2 * 10**6)


def bitmap_slot(owner: Address, number: int) -> str:
    """Return where Permit2 keeps an owner's used numbers: its first mapping."""
    inner = keccak(encode(("address", "uint256"), (owner, 0)))
    return "0x" + keccak(encode(("uint256", "bytes32"), (number, inner))).hex()


# ---------------------------------------------------------------- exact


def test_an_exact_payment_moves_its_amount(approved: Rpc) -> None:
    receipt = approved.must(OTHER_KEY, EXACT_PROXY, Paying().exact())  # anybody may bring it
    assert moved(approved) == (700, 700)
    assert events(receipt, EXACT_PROXY) == [event_topic("Settled()")]
    assert approved.view(PERMIT2, "uint256", "nonceBitmap(address,uint256)", PAYER, 0) == 1 << 5


def test_replay_an_exact_payment_pays_once(approved: Rpc) -> None:
    approved.must(OTHER_KEY, EXACT_PROXY, Paying().exact())
    assert refusal(approved, EXACT_PROXY, Paying().exact(), OTHER) == "InvalidNonce"
    assert approved.send(OTHER_KEY, EXACT_PROXY, Paying().exact(), gas=600_000)["status"] == "0x0"
    assert moved(approved) == (700, 700)


@pytest.mark.parametrize(
    ("payment", "because"),
    [
        (Paying(said={"pay_to": OTHER}), "InvalidSigner"),
        (Paying(said={"valid_after": 1}), "InvalidSigner"),
        (Paying(said={"amount": 701}), "InvalidSigner"),
        (Paying(said={"nonce": 6}), "InvalidSigner"),
        (Paying(said={"owner": OTHER}), "InvalidSigner"),
        (Paying(key=OTHER_KEY), "InvalidSigner"),
        (Paying(after=LATE), "PaymentTooEarly"),
        (Paying(deadline=1), "SignatureExpired"),
        (Paying(amount=0), "InvalidAmount"),
        (Paying(pay_to=Address("0x" + 40 * "0")), "InvalidDestination"),
        (Paying(said={"owner": Address("0x" + 40 * "0")}), "InvalidOwner"),
    ],
)
def test_hostile_exact_payments_are_refused_by_name(approved: Rpc, payment: Paying, because: str) -> None:
    refused(approved, EXACT_PROXY, payment.exact(), because)


def test_without_an_allowance_nothing_moves(rpc: Rpc) -> None:
    refused(rpc, EXACT_PROXY, Paying().exact(), "TRANSFER_FROM_FAILED")


# ---------------------------------------------------------------- upto


@pytest.mark.parametrize("charge", [1, 250, 700])
def test_an_upto_payment_moves_what_is_charged(approved: Rpc, charge: int) -> None:
    receipt = approved.must(FACILITATOR_KEY, UPTO_PROXY, Paying().upto(charge))
    assert moved(approved) == (charge, charge)
    assert events(receipt, UPTO_PROXY) == [event_topic("Settled()")]
    assert refusal(approved, UPTO_PROXY, Paying().upto(1), FACILITATOR) == "InvalidNonce"  # the rest is not left over


def test_only_the_facilitator_that_was_signed_for_may_charge(approved: Rpc) -> None:
    refused(approved, UPTO_PROXY, Paying().upto(250), "UnauthorizedFacilitator", OTHER_KEY)
    posing = Paying(said={"facilitator": OTHER})
    refused(approved, UPTO_PROXY, posing.upto(250), "InvalidSigner", OTHER_KEY)


@pytest.mark.parametrize(
    ("charge", "payment", "because"),
    [
        (701, Paying(), "AmountExceedsPermitted"),
        (701, Paying(said={"permitted": 701}), "InvalidSigner"),
        (0, Paying(), "InvalidAmount"),
        (250, Paying(said={"pay_to": OTHER}), "InvalidSigner"),
        (250, Paying(after=LATE), "PaymentTooEarly"),
        (250, Paying(deadline=1), "SignatureExpired"),
        (250, Paying(pay_to=Address("0x" + 40 * "0")), "InvalidDestination"),
    ],
)
def test_hostile_upto_payments_are_refused_by_name(approved: Rpc, charge: int, payment: Paying, because: str) -> None:
    refused(approved, UPTO_PROXY, payment.upto(charge), because)


def test_one_proxy_does_not_take_what_was_signed_for_the_other(approved: Rpc) -> None:
    signature = sign(permit2_exact_digest(permit2_domain(84532), USDC, 700, 5, LATE, PAYEE, 0, UPTO_PROXY), PAYER_KEY)
    data = exact_call(USDC, 700, 5, LATE, PAYER, PAYEE, 0, signature)
    refused(approved, EXACT_PROXY, data, "InvalidSigner")


# ---------------------------------------------------------------- with the token's permit


def test_a_permit_pays_from_no_allowance(rpc: Rpc) -> None:
    receipt = rpc.must(OTHER_KEY, EXACT_PROXY, Paying().exact(token_permit(700)))
    assert moved(rpc) == (700, 700)
    assert events(receipt, EXACT_PROXY) == [event_topic("SettledWithPermit()")]


def test_an_upto_permit_is_for_all_that_is_permitted(rpc: Rpc) -> None:
    refused(rpc, UPTO_PROXY, Paying().upto(250, token_permit(250)), "Permit2612AmountMismatch")
    receipt = rpc.must(FACILITATOR_KEY, UPTO_PROXY, Paying().upto(250, token_permit(700)))
    assert moved(rpc) == (250, 250)
    assert events(receipt, UPTO_PROXY) == [event_topic("SettledWithPermit()")]
    assert rpc.view(USDC, "uint256", "allowance(address,address)", PAYER, PERMIT2) == 450


def test_a_permit_of_another_amount_is_refused(rpc: Rpc) -> None:
    refused(rpc, EXACT_PROXY, Paying().exact(token_permit(701)), "Permit2612AmountMismatch")


def test_replay_a_permit_somebody_used_first_still_pays(rpc: Rpc) -> None:
    value, deadline, r, s, v = token_permit(700)
    types = "address,address,uint256,uint256,uint8,bytes32,bytes32"
    rpc.must(OTHER_KEY, USDC, encode_call(f"permit({types})", PAYER, PERMIT2, value, deadline, v, r, s))
    receipt = rpc.must(FACILITATOR_KEY, EXACT_PROXY, Paying().exact((value, deadline, r, s, v)))
    assert moved(rpc) == (700, 700)
    failed = event_topic("EIP2612PermitFailedWithReason(address,address,string)")
    assert events(receipt, EXACT_PROXY) == [failed, event_topic("SettledWithPermit()")]
    log = next(log for log in receipt["logs"] if log["topics"][0] == failed)
    assert [topic[-40:] for topic in log["topics"][1:]] == [USDC[2:], PAYER[2:]]
    assert b"EIP2612: invalid signature" in bytes.fromhex(log["data"][2:])


def test_hostile_a_bad_permit_without_an_allowance_moves_nothing(rpc: Rpc) -> None:
    data = Paying().exact(token_permit(700, nonce=9))
    refused(rpc, EXACT_PROXY, data, "TRANSFER_FROM_FAILED")


@pytest.mark.parametrize(
    ("answer", "event", "said"),
    [
        ("4e487b71" + 62 * "0" + "11", "Panic(address,address,uint256)", 62 * "0" + "11"),
        ("deadbeef", "Data(address,address,bytes)", "04deadbeef"),
        ("", "Data(address,address,bytes)", 62 * "0" + "20" + 64 * "0"),
        ("08c379a0" + 128 * "f", "Data(address,address,bytes)", "4408c379a0" + 128 * "f"),
    ],
    ids=["panic", "custom", "nothing", "malformed"],
)
def test_a_token_that_reverts_oddly_is_told_in_an_event(rpc: Rpc, answer: str, event: str, said: str) -> None:
    odd = deploy(rpc, compiled("OddToken").creation)
    rpc.must(OTHER_KEY, odd, encode_call("answer_with(bytes)", bytes.fromhex(answer)))
    signature = sign(permit2_exact_digest(permit2_domain(84532), odd, 700, 5, LATE, PAYEE, 0), PAYER_KEY)
    data = exact_call(odd, 700, 5, LATE, PAYER, PAYEE, 0, signature, token_permit(700))
    receipt = rpc.must(OTHER_KEY, EXACT_PROXY, data)
    assert events(receipt, EXACT_PROXY) == [event_topic(f"EIP2612PermitFailedWith{event}"), event_topic("SettledWithPermit()")]
    assert said in receipt["logs"][0]["data"]


# ---------------------------------------------------------------- Multicall3


def test_many_calls_in_one_and_one_may_fail(rpc: Rpc) -> None:
    asked = encode_call("balanceOf(address)", PAYER)
    failing = encode_call("transfer(address,uint256)", PAYEE, 1)  # Multicall3 itself has nothing
    first, second, third = try_aggregate(rpc, (USDC, asked), (USDC, failing), (USDC, encode_call("name()")))
    assert first == (True, encode(("uint256",), (FUNDS,)))
    assert not second[0]
    assert b"exceeds balance" in second[1]
    assert third == (True, encode(("string",), ("USDC",)))
    strict = encode_call(TRY_AGGREGATE, True, [(USDC, asked), (USDC, failing)])
    assert refusal(rpc, MULTICALL3, strict, OTHER) == "Multicall3: call failed"


def test_a_later_call_sees_what_an_earlier_one_did(approved: Rpc) -> None:
    settle, look = Paying().exact(), encode_call("balanceOf(address)", PAYEE)
    results = try_aggregate(approved, (EXACT_PROXY, settle), (EXACT_PROXY, settle), (USDC, look))
    assert [success for success, _ in results] == [True, False, True]
    assert results[2][1] == encode(("uint256",), (700,))
    assert moved(approved) == (0, 0)  # it was only a question


def test_aggregate3_lets_each_call_choose(rpc: Rpc) -> None:
    failing = encode_call("transfer(address,uint256)", PAYEE, 1)
    assert refusal(rpc, MULTICALL3, encode_call(AGGREGATE3, [(USDC, True, failing)]), OTHER) == ""
    assert refusal(rpc, MULTICALL3, encode_call(AGGREGATE3, [(USDC, False, failing)]), OTHER) == "Multicall3: call failed"
