"""Delegations: by an allowed manager, in one spelling, once; and the token's own log in our own transaction is the proof."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.contracts.accounts import CONTEXT as FORM
from tests.contracts.accounts import context_of, struct_hash
from x402core.errors import LocalProtocolError, Reason, Refusal, RemoteProtocolError
from x402core.events import Dialect, Erc7710Permit, Method, Offer
from x402core.evm import abi, digests
from x402core.evm.delegation import ANYBODY, ROOT_AUTHORITY, Caveat, Delegation, decode, delegation_hash, encode
from x402core.reads import BalanceOf, CodeAt, Facts, Log, Read, Simulate, Simulated, SimulatePayment, TxReceipt
from x402core.schemes import Closing, of
from x402core.schemes.eip3009 import AUTHORIZATION_USED
from x402core.schemes.judge import Checked, Verified, check, early, judge, plan
from x402core.schemes.scheme import TRANSFER, topic
from x402core.schemes.wallets import Wallets
from x402core.values import Address, Amount, Hash32, Millis, Network, Seconds

NETWORK = Network("eip155:84532")
ASSET = Address("0x036cbd53842c5426634e7929541ec2318f3dcf7e")
DELEGATOR, PAYEE, MANAGER, SETTLER, ENFORCER, STRANGER = (Address("0x" + digit * 40) for digit in "456789")
NOW = Seconds(1_700_000_000)
AMOUNT = Amount(10_000)
OFFER = Offer(Dialect.V2, Method.ERC7710, NETWORK, ASSET, AMOUNT, PAYEE, Seconds(300), "USDC", "2", facilitator=SETTLER)
ROOT = Delegation(SETTLER, DELEGATOR, ROOT_AUTHORITY, (Caveat(ENFORCER, b"up to a dollar"),), 7, b"s" * 65)
CONTEXT = encode((ROOT,))
PERMIT = Erc7710Permit(NETWORK, ASSET, DELEGATOR, PAYEE, AMOUNT, MANAGER, CONTEXT, Seconds(NOW + 300))
ALLOWED = Wallets(managers=frozenset({MANAGER, ASSET, digests.PERMIT2, digests.EXACT_PROXY, Address("0x" + "0" * 37 + "100")}))
SCHEME = of(OFFER)
SURE = Simulated(True)
FINE: dict[type[Read[Any]], object] = {CodeAt: b"code", BalanceOf: AMOUNT, Simulate: SURE, SimulatePayment: SURE}


def judged(said: dict[Any, object] | None = None, now: int = NOW, **changes: Any) -> Verified | Refusal:
    checked = check(replace(PERMIT, **changes), OFFER, ALLOWED)
    if isinstance(checked, Refusal):
        return checked
    answers = {read: (said or {}).get(read, (said or {}).get(type(read), FINE[type(read)])) for read in plan(checked)}
    return judge(checked, Facts(100, Seconds(now), answers), Millis(now * 1000))


def refused(verdict: object) -> Reason:
    assert isinstance(verdict, Refusal), verdict
    return verdict.reason


def test_all_is_well() -> None:
    assert isinstance(judged(), Verified)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"network": Network("eip155:1")}, Reason.NETWORK_MISMATCH),
        ({"asset": DELEGATOR}, Reason.ASSET_MISMATCH),
        ({"pay_to": DELEGATOR}, Reason.RECIPIENT_MISMATCH),
        ({"amount": AMOUNT - 1}, Reason.VALUE_MISMATCH),
        ({"context": b""}, Reason.INVALID_PAYLOAD),
        ({"until": Seconds(0)}, Reason.INVALID_PAYLOAD),
        ({"manager": ASSET}, Reason.INVALID_PAYLOAD),
        ({"manager": digests.PERMIT2}, Reason.INVALID_PAYLOAD),
        ({"manager": digests.EXACT_PROXY}, Reason.INVALID_PAYLOAD),
        ({"manager": Address("0x" + "0" * 40)}, Reason.INVALID_PAYLOAD),
        ({"manager": Address("0x" + "0" * 39 + "4")}, Reason.INVALID_PAYLOAD),
        ({"manager": Address("0x" + "0" * 37 + "100")}, Reason.INVALID_PAYLOAD),
    ],
)
def test_refused_by_what_it_says(change: dict[str, Any], reason: Reason) -> None:
    assert refused(judged(**change)) is reason


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({CodeAt(ASSET): b""}, Reason.NOT_A_CONTRACT),
        ({CodeAt(MANAGER): b""}, Reason.INVALID_PAYLOAD),
        ({BalanceOf: AMOUNT - 1}, Reason.INSUFFICIENT_FUNDS),
        ({Simulate: Simulated(False, "no")}, Reason.SIMULATION_FAILED),
        ({SimulatePayment: Simulated(False, "no")}, Reason.SIMULATION_FAILED),
    ],
)
def test_refused_by_the_chain(said: dict[Any, object], reason: Reason) -> None:
    assert refused(judged(said)) is reason


def test_it_ends_when_we_stop_trying() -> None:
    checked = check(PERMIT, OFFER, ALLOWED)
    assert isinstance(checked, Checked)
    assert early(checked, Millis((PERMIT.until - 6) * 1000)) is None
    assert refused(early(checked, Millis((PERMIT.until - 5) * 1000))) is Reason.VALID_BEFORE


def test_only_contracts_delegate() -> None:
    assert refused(check(PERMIT, OFFER, Wallets(contracts=False))) is Reason.SIGNATURE


def test_the_redemption_is_one_call_to_the_token_simulated_as_it_is_sent() -> None:
    (call,) = SCHEME.calls(PERMIT, OFFER)
    assert call.to == MANAGER
    contexts, modes, executions = abi.decode(("bytes[]", "bytes32[]", "bytes[]"), call.data[4:])
    assert call.data[:4] == abi.selector("redeemDelegations(bytes[],bytes32[],bytes[])")
    assert (contexts, modes) == ((CONTEXT,), (bytes(32),))
    transfer = abi.encode_call("transfer(address,uint256)", PAYEE, AMOUNT)
    assert executions == (bytes.fromhex(ASSET[2:]) + bytes(32) + transfer,)
    checked = check(PERMIT, OFFER, ALLOWED)
    assert isinstance(checked, Checked)
    assert Simulate(MANAGER, call.data, SETTLER, call.gas) in plan(checked)
    assert SimulatePayment(MANAGER, call.data, SETTLER, ASSET, PAYEE, AMOUNT) in plan(checked)
    nobody = check(PERMIT, replace(OFFER, facilitator=None), ALLOWED)
    assert isinstance(nobody, Checked)
    assert Simulate(MANAGER, call.data, None, call.gas) in plan(nobody)


# ------------------------------------------------------------------------------------------------- what a context is


def word(number: int) -> bytes:
    return number.to_bytes(32, "big")


def shifted() -> bytes:
    """The same delegation in another place, as an offset allows."""
    return word(64) + bytes(32) + CONTEXT[32:]


def said(context: bytes) -> Refusal:
    refusal = check(replace(PERMIT, context=context), OFFER, ALLOWED)
    assert isinstance(refusal, Refusal)
    return refusal


@pytest.mark.parametrize("more", [b"\0", b"\1", bytes(32), b"\xff" * 64])
def test_hostile_bytes_behind_a_context(more: bytes) -> None:
    """What decodes alike is not the same context under a new name: it is refused."""
    assert abi.decode((FORM,), CONTEXT + more) == abi.decode((FORM,), CONTEXT)
    assert said(CONTEXT + more).reason is Reason.INVALID_PAYLOAD
    assert "payload.permissionContext" in said(CONTEXT + more).detail


def test_hostile_offsets_of_a_context() -> None:
    assert abi.decode((FORM,), shifted()) == abi.decode((FORM,), CONTEXT)
    assert "payload.permissionContext" in said(shifted()).detail


def test_hostile_words_of_a_context() -> None:
    """Whatever one bit is changed: refused, or what its delegator would have had to sign anew, or what nobody signs."""
    for at in range(len(CONTEXT)):
        changed = CONTEXT[:at] + bytes((CONTEXT[at] ^ 1,)) + CONTEXT[at + 1 :]
        try:
            (found,) = decode(changed)
        except RemoteProtocolError:
            assert said(changed).reason is Reason.INVALID_PAYLOAD
            continue
        assert encode((found,)) == changed
        assert found != ROOT
        assert (delegation_hash(found) != delegation_hash(ROOT)) is (found.signature == ROOT.signature)


@pytest.mark.parametrize(
    "context", [b"x", bytes(64), word(32) + bytes(32), word(32), CONTEXT[:-1], CONTEXT[:-32], CONTEXT[32:]]
)
def test_hostile_contexts_that_are_none(context: bytes) -> None:
    assert "payload.permissionContext" in said(context).detail


@pytest.mark.parametrize("length", [8192, 8224])
def test_hostile_lengths_of_a_context(length: int) -> None:
    for count in (9, 255, 2**32, 2**256 - 1):
        bomb = word(32) + word(count) + word(32) * ((length - 64) // 32)
        assert said(bomb).reason is Reason.INVALID_PAYLOAD
    many = replace(ROOT, caveats=(Caveat(ENFORCER, b""),) * 33)
    with pytest.raises(LocalProtocolError):
        encode((many,))
    with pytest.raises(LocalProtocolError):
        encode((replace(ROOT, signature=bytes(length)),))
    with pytest.raises(LocalProtocolError):
        encode(())


caveats = st.builds(Caveat, st.sampled_from((ENFORCER, MANAGER)), st.binary(max_size=70), st.binary(max_size=40))
delegations = st.builds(
    Delegation,
    st.sampled_from((SETTLER, ANYBODY)),
    st.sampled_from((DELEGATOR, STRANGER)),
    st.binary(min_size=32, max_size=32),
    st.lists(caveats, max_size=3).map(tuple),
    st.integers(0, 2**256 - 1),
    st.binary(max_size=100),
)


@given(st.lists(delegations, min_size=1, max_size=3))
def test_a_context_is_what_every_encoder_writes(found: list[Delegation]) -> None:
    assert encode(found) == context_of(*found)
    assert decode(encode(found)) == tuple(found)
    assert [delegation_hash(each) for each in found] == [struct_hash(each) for each in found]


# ------------------------------------------------------------------------------------------------- whose money, and once


def test_no_manager_is_allowed_unless_it_is_named() -> None:
    for wallets in (Wallets(), Wallets(managers=frozenset({STRANGER}))):
        refusal = check(PERMIT, OFFER, wallets)
        assert isinstance(refusal, Refusal)
        assert MANAGER in refusal.detail


def test_the_delegator_is_whose_account_is_debited() -> None:
    assert "payload.delegator" in getattr(check(replace(PERMIT, payer=STRANGER), OFFER, ALLOWED), "detail", "")
    leaf = Delegation(SETTLER, STRANGER, delegation_hash(replace(ROOT, delegate=STRANGER)), (), 0, b"")
    chained = encode((leaf, replace(ROOT, delegate=STRANGER)))
    assert isinstance(check(replace(PERMIT, context=chained), OFFER, ALLOWED), Checked)
    assert "payload.delegator" in getattr(check(replace(PERMIT, context=chained, payer=STRANGER), OFFER, ALLOWED), "detail", "")


@pytest.mark.parametrize(
    ("leaf", "root"),
    [
        ({}, {"authority": bytes(32)}),
        ({"authority": ROOT_AUTHORITY}, {}),
        ({"delegator": DELEGATOR}, {}),
        ({}, {"salt": 8}),
    ],
)
def test_a_chain_of_delegations_that_is_broken(leaf: dict[str, Any], root: dict[str, Any]) -> None:
    upper = replace(ROOT, delegate=STRANGER)
    lower = Delegation(SETTLER, STRANGER, delegation_hash(upper), (), 0, b"")
    assert "payload.permissionContext" in said(encode((replace(lower, **leaf), replace(upper, **root)))).detail


def varied(**changes: Any) -> str:
    return replace(PERMIT, context=encode((replace(ROOT, **changes),))).key


def test_replay_under_another_name() -> None:
    """What anybody can change without the delegator names the same payment; what was signed names another."""
    assert varied() == varied(signature=b"another" * 9) == PERMIT.key == PERMIT.slot
    assert varied(caveats=(Caveat(ENFORCER, b"up to a dollar", b"args"),)) == PERMIT.key
    assert replace(PERMIT, pay_to=STRANGER, amount=Amount(1), payer=STRANGER, asset=STRANGER).key == PERMIT.key
    assert delegation_hash(ROOT).hex() in PERMIT.key
    different = [
        varied(salt=8),
        varied(caveats=()),
        varied(delegate=STRANGER),
        replace(PERMIT, manager=STRANGER).key,
        replace(PERMIT, network=Network("eip155:1")).key,
        replace(PERMIT, context=b"rubbish").key,
        replace(PERMIT, context=CONTEXT + b"\0").key,
    ]
    assert len({PERMIT.key, *different}) == 8


def test_replay_of_an_open_delegation_behind_a_new_leaf() -> None:
    """Anybody may delegate it on; it is what is spent, however often that is done."""
    opened = replace(ROOT, delegate=ANYBODY)
    first = replace(PERMIT, context=encode((opened,)))
    for salt in range(3):
        leaf = Delegation(SETTLER, STRANGER, delegation_hash(opened), (), salt, b"")
        wrapped = replace(PERMIT, context=encode((leaf, opened)))
        assert isinstance(check(wrapped, OFFER, ALLOWED), Checked)
        assert wrapped.key == first.key


def test_we_make_no_delegations() -> None:
    with pytest.raises(LocalProtocolError):
        SCHEME.prepare(OFFER, DELEGATOR, now=NOW, validity=Seconds(60), nonce=Hash32("0x" + "1" * 64), facts=None)
    for made in (SCHEME.digest, SCHEME.typed_data):
        with pytest.raises(LocalProtocolError):
            made(PERMIT, OFFER)
    assert SCHEME.needs(OFFER, DELEGATOR) == SCHEME.preludes(PERMIT) == ()


# ------------------------------------------------------------------------------------------------- what proves a payment


def transfer(amount: int = AMOUNT, to: Address = PAYEE, asset: Address = ASSET) -> Log:
    return Log(asset, (TRANSFER, topic(DELEGATOR), topic(to)), amount.to_bytes(32, "big"))


USED = Log(ASSET, (AUTHORIZATION_USED, topic(DELEGATOR), Hash32("0x" + "d" * 64)), b"")


def mined(*logs: Log, ok: bool = True) -> TxReceipt:
    return TxReceipt(Hash32("0x" + "c" * 64), ok, 90, logs)


def test_paid_is_the_token_s_own_log() -> None:
    assert SCHEME.paid(PERMIT, OFFER, mined(Log(MANAGER, (), b""), transfer()))
    for logs in ((), (transfer(AMOUNT - 1),), (transfer(to=SETTLER),), (transfer(asset=MANAGER),)):
        assert not SCHEME.paid(PERMIT, OFFER, mined(*logs))
    assert not SCHEME.paid(PERMIT, OFFER, mined(transfer(), ok=False))


def test_replay_of_an_authorization_inside_the_manager_is_not_this_payment() -> None:
    """The payer gave us an EIP-3009 authorization too; its transfer, whoever submits it, pays for that one only."""
    assert not SCHEME.paid(PERMIT, OFFER, mined(USED, transfer()))
    assert not SCHEME.paid(PERMIT, OFFER, mined(USED, Log(MANAGER, (), b""), transfer()))
    assert SCHEME.paid(PERMIT, OFFER, mined(USED, transfer(), transfer()))


@pytest.mark.parametrize(
    ("now", "failed", "closing"),
    [
        (NOW, None, Closing.UNUSED_YET),
        (PERMIT.until, None, Closing.UNUSED_YET),
        (PERMIT.until + 1, None, Closing.UNUSED_FINAL),
        (NOW, mined(ok=False), Closing.UNUSED_FINAL),
        (NOW, mined(), Closing.UNUSED_FINAL),
    ],
)
def test_what_became_of_it(now: int, failed: TxReceipt | None, closing: Closing) -> None:
    facts = Facts(100, Seconds(now), dict.fromkeys(SCHEME.closing(PERMIT, OFFER, 1)))
    assert SCHEME.close(PERMIT, OFFER, facts, failed) == (closing, None)
