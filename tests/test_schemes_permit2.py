"""Permit2 payments judged without a chain: every refusal by its official code, what proves a payment, and what does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data

from x402core.errors import LocalProtocolError, Reason, Refusal
from x402core.events import Dialect, Method, Offer, Permit2Permit, SponsoredApproval, SponsoredPermit
from x402core.evm import abi, digests
from x402core.evm.secp256k1 import public_address, sign
from x402core.evm.transaction import Transaction
from x402core.ledger import SettlementRecord
from x402core.machines.remote import RemoteInput, RemotePolicy, RemoteSettlement
from x402core.machines.settlement import SettlementInput, SettlementMachine, SettlementPolicy
from x402core.reads import (
    Allowance,
    BalanceOf,
    CodeAt,
    Facts,
    Log,
    NativeBalance,
    NonceBitmap,
    Read,
    SignatureValid,
    Simulate,
    Simulated,
    Traced,
    TransactionCount,
    TransferTrace,
    TxReceipt,
)
from x402core.schemes import SCHEMES, Closing, of
from x402core.schemes.judge import Checked, Verified, charge, check, judge, plan
from x402core.schemes.multicall import BEGINNING, MULTICALL3, unfold
from x402core.schemes.permit2 import SETTLED, SETTLED_WITH_PERMIT
from x402core.schemes.scheme import TRANSFER, topic
from x402core.schemes.wallets import Wallets
from x402core.values import Address, Amount, Hash32, Millis, Network, Seconds

NETWORK = Network("eip155:84532")
ASSET = Address("0x036cbd53842c5426634e7929541ec2318f3dcf7e")
KEY, OTHER_KEY = b"\1" * 32, b"\2" * 32
PAYER, STRANGER = public_address(KEY), public_address(OTHER_KEY)
PAYEE = Address("0x" + "9" * 40)
SETTLER = Address("0x" + "5" * 40)
WALLET = Address("0x" + "7" * 40)
NOW = Seconds(1_700_000_000)
NONCE = Hash32("0x" + "ab" * 31 + "07")
AMOUNT = Amount(10_000)


def offer_of(scheme: str, **how: Any) -> Offer:
    facilitator = SETTLER if scheme == "upto" else None
    fields = (Dialect.V2, Method.PERMIT2, NETWORK, ASSET, AMOUNT, PAYEE, Seconds(300), "USDC", "2")
    return replace(Offer(*fields, scheme=scheme, facilitator=facilitator), **how)


@pytest.fixture(params=["exact", "upto"])
def offer(request: pytest.FixtureRequest) -> Offer:
    return offer_of(request.param)


def unsigned(offer: Offer, payer: Address = PAYER) -> Permit2Permit:
    return of(offer).prepare(offer, payer, now=NOW, validity=Seconds(300), nonce=NONCE, facts=None)


def signed(offer: Offer, key: bytes = KEY, payer: Address = PAYER, **changes: Any) -> Permit2Permit:
    permit = replace(unsigned(offer, payer), **changes)
    return replace(permit, signature=sign(of(offer).digest(permit, offer), key))


def token_permit(offer: Offer, key: bytes = KEY, amount: int = AMOUNT, deadline: int = NOW + 300) -> SponsoredPermit:
    domain = digests.domain(offer.name, offer.version, 84532, ASSET)
    digest = digests.permit_digest(domain, PAYER, digests.PERMIT2, amount, 3, deadline)
    return SponsoredPermit(Amount(amount), 3, Seconds(deadline), sign(digest, key))


def approval(
    key: bytes = KEY,
    *,
    chain: int = 84532,
    number: int = 4,
    to: Address | None = ASSET,
    call: str = "approve(address,uint256)",
    spender: Address = digests.PERMIT2,
    amount: int = 2**256 - 1,
    cut: int = 0,
) -> SponsoredApproval:
    data = abi.encode_call(call, spender, amount)
    tx = Transaction(chain, number, 1, 10**9, 70_000, to, 0, data[: len(data) - cut])
    return SponsoredApproval(tx.sign_with(sign(tx.signing_hash(), key)))


FINE: dict[type[Read[Any]], object] = {
    CodeAt: b"code",
    NonceBitmap: 0,
    BalanceOf: AMOUNT,
    Allowance: AMOUNT,
    Simulate: Simulated(True),
    SignatureValid: True,
    TransactionCount: 4,
    NativeBalance: 70_000 * 10**9,
}


def answered(checked: Checked, said: dict[Any, object]) -> Facts:
    """Answer a plan, by read or by kind of read; whatever is not said is fine."""
    answers = {read: said.get(read, said.get(type(read), FINE[type(read)])) for read in plan(checked)}
    return Facts(100, NOW, answers)


def judged(permit: Permit2Permit, offer: Offer, said: dict[Any, object] | None = None, now: int = NOW) -> Verified | Refusal:
    checked = check(permit, offer)
    if isinstance(checked, Refusal):
        return checked
    return judge(checked, answered(checked, said or {}), Millis(now * 1000))


def refused(verdict: object) -> Reason:
    assert isinstance(verdict, Refusal), verdict
    return verdict.reason


# ------------------------------------------------------------------------------------------------------------ the verdict


def test_all_is_well(offer: Offer) -> None:
    assert isinstance(judged(signed(offer), offer), Verified)


def test_both_are_in_the_table() -> None:
    found = {scheme for scheme, method, _ in SCHEMES if method == "permit2"}
    assert found == {"exact", "upto", "permit2-direct"}, "the last is x402-mock's alone"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"network": Network("eip155:1")}, Reason.NETWORK_MISMATCH),
        ({"spender": STRANGER}, Reason.PERMIT2_SPENDER),
        ({"pay_to": STRANGER}, Reason.PERMIT2_RECIPIENT),
        ({"amount": AMOUNT + 1}, Reason.PERMIT2_AMOUNT),
        ({"asset": STRANGER}, Reason.PERMIT2_TOKEN),
        ({"deadline": NOW + 5}, Reason.PERMIT2_DEADLINE),
        ({"valid_after": NOW + 1}, Reason.PERMIT2_NOT_YET),
        ({"deadline": NOW + 10**6}, Reason.VALIDITY_TOO_LONG),
    ],
)
def test_refused_by_what_it_says(offer: Offer, change: dict[str, Any], reason: Reason) -> None:
    assert refused(judged(signed(offer, **change), offer)) is reason


def test_the_first_thing_wrong_is_named_in_the_official_order() -> None:
    offer = offer_of("upto")
    wrong: dict[str, Any] = {"spender": STRANGER, "pay_to": STRANGER, "facilitator": STRANGER, "amount": 1, "asset": STRANGER}
    names = [Reason.PERMIT2_SPENDER, Reason.PERMIT2_RECIPIENT, Reason.UPTO_FACILITATOR, Reason.PERMIT2_AMOUNT]
    for reason in (*names, Reason.PERMIT2_TOKEN):
        assert refused(check(signed(offer, **wrong), offer)) is reason
        wrong.pop(next(iter(wrong)))


@pytest.mark.parametrize("facilitator", [None, STRANGER])
def test_upto_is_for_one_settling_account(facilitator: Address | None) -> None:
    offer = offer_of("upto")
    permit = replace(signed(offer), facilitator=facilitator)
    assert refused(check(permit, offer)) is Reason.UPTO_FACILITATOR
    assert refused(check(permit, replace(offer, facilitator=None))) is Reason.UPTO_FACILITATOR
    with pytest.raises(LocalProtocolError, match="facilitator"):
        unsigned(replace(offer, facilitator=None))


def test_exact_and_upto_permits_are_not_taken_for_one_another() -> None:
    exact, upto = offer_of("exact"), offer_of("upto")
    assert refused(check(signed(exact), upto)) is Reason.PERMIT2_SPENDER
    assert refused(check(signed(upto), exact)) is Reason.PERMIT2_SPENDER


CURVELESS = (5).to_bytes(32, "big") + (1).to_bytes(32, "big") + b"\x1b"  # no point has this x


@pytest.mark.parametrize("signature", [b"", b"\0" * 65, CURVELESS, b"x" * 64 + b"\x01"])
def test_what_no_key_could_have_signed(offer: Offer, signature: bytes) -> None:
    assert refused(check(replace(signed(offer), signature=signature), offer)) is Reason.PERMIT2_SIGNATURE


def test_another_key_s_signature(offer: Offer) -> None:
    permit = signed(offer, OTHER_KEY)
    assert refused(check(permit, offer, Wallets(contracts=False))) is Reason.PERMIT2_SIGNATURE
    nobody = {CodeAt(PAYER): b"", SignatureValid: False}
    assert refused(judged(permit, offer, nobody)) is Reason.PERMIT2_SIGNATURE


def test_a_wallet_s_signature_is_the_wallet_s_to_judge(offer: Offer) -> None:
    permit = replace(unsigned(offer, WALLET), signature=b"wallet")
    assert isinstance(judged(permit, offer), Verified)
    assert refused(judged(permit, offer, {SignatureValid: False})) is Reason.PERMIT2_SIGNATURE


def test_a_wallet_still_to_be_deployed_cannot_pay(offer: Offer) -> None:
    wrapped = abi.encode(("address", "bytes", "bytes"), (STRANGER, b"make", b"inner")) + bytes.fromhex("6492" * 16)
    permit = replace(unsigned(offer, WALLET), signature=wrapped)
    assert refused(check(permit, offer, Wallets(factories=frozenset({STRANGER})))) is Reason.UNDEPLOYED_WALLET


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({CodeAt(ASSET): b""}, Reason.NOT_A_CONTRACT),
        ({CodeAt(digests.EXACT_PROXY): b"", CodeAt(digests.UPTO_PROXY): b""}, Reason.PERMIT2_NO_PROXY),
        ({NonceBitmap: 1 << 7}, Reason.NONCE_USED),
        ({BalanceOf: AMOUNT - 1}, Reason.PERMIT2_BALANCE),
        ({Allowance: AMOUNT - 1}, Reason.PERMIT2_ALLOWANCE),
        ({Simulate: Simulated(False, "no")}, Reason.PERMIT2_SIMULATION),
    ],
)
def test_refused_by_the_chain(offer: Offer, said: dict[Any, object], reason: Reason) -> None:
    assert refused(judged(signed(offer), offer, said)) is reason


def test_an_empty_proxy_is_not_a_success_though_calling_it_succeeds(offer: Offer) -> None:
    """An ``eth_call`` of an account without code fails never."""
    proxy = signed(offer).spender
    assert refused(judged(signed(offer), offer, {CodeAt(proxy): b"", Simulate: Simulated(True)})) is Reason.PERMIT2_NO_PROXY


def test_another_nonce_of_the_same_word_does_not_matter(offer: Offer) -> None:
    assert isinstance(judged(signed(offer), offer, {NonceBitmap: ~(1 << 7) & (2**256 - 1)}), Verified)


def test_it_is_simulated_as_it_will_be_sent(offer: Offer) -> None:
    permit = signed(offer)
    checked = check(permit, offer)
    assert isinstance(checked, Checked)
    (simulate,) = [read for read in plan(checked) if isinstance(read, Simulate)]
    (call,) = of(offer).calls(permit, offer)
    sender = SETTLER if offer.scheme == "upto" else None
    assert simulate == Simulate(call.to, call.data, sender, call.gas)
    assert of(offer).preludes(permit) == ()


@pytest.mark.parametrize(
    ("scheme", "sponsored", "selector"),
    [("exact", False, "13cd3b53"), ("exact", True, "fa340378"), ("upto", False, "ff11e7b4"), ("upto", True, "016c1748")],
)
def test_the_selectors_are_the_published_ones(scheme: str, sponsored: bool, selector: str) -> None:
    offer = offer_of(scheme)
    permit = signed(offer, sponsor=token_permit(offer) if sponsored else None)
    assert of(offer).calls(permit, offer)[0].data[:4].hex() == selector
    assert (abi.event_topic("Settled()"), abi.event_topic("SettledWithPermit()")) == (SETTLED, SETTLED_WITH_PERMIT)


def test_the_typed_data_is_what_is_signed(offer: Offer) -> None:
    permit = signed(offer)
    shown = encode_typed_data(full_message=dict(of(offer).typed_data(permit, offer)))
    assert Account.sign_message(shown, KEY).signature == permit.signature
    assert of(offer).needs(offer, PAYER) == (Allowance(ASSET, PAYER, digests.PERMIT2),)


# ------------------------------------------------------------------------------------------------------- the sponsorships


def test_a_token_permit_stands_in_for_the_allowance(offer: Offer) -> None:
    permit = signed(offer, sponsor=token_permit(offer))
    assert isinstance(judged(permit, offer, {Allowance: 0}), Verified)
    assert refused(judged(permit, offer, {Allowance: 0, Simulate: Simulated(False)})) is Reason.PERMIT2_ALLOWANCE
    assert refused(judged(permit, offer, {Simulate: Simulated(False)})) is Reason.PERMIT2_SIMULATION


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"amount": AMOUNT - 1}, Reason.SPONSOR_PERMIT_AMOUNT),
        ({"amount": 2**256 - 1}, Reason.SPONSOR_PERMIT_AMOUNT),
        ({"deadline": NOW + 5}, Reason.SPONSOR_PERMIT_DEADLINE),
        ({"key": OTHER_KEY}, Reason.SPONSOR_PERMIT_FROM),
    ],
)
def test_a_token_permit_that_cannot_work(offer: Offer, change: dict[str, Any], reason: Reason) -> None:
    assert refused(judged(signed(offer, sponsor=token_permit(offer, **change)), offer)) is reason


@pytest.mark.parametrize("signature", [b"", b"x" * 64, CURVELESS])
def test_a_token_permit_with_a_malformed_signature(offer: Offer, signature: bytes) -> None:
    sponsor = replace(token_permit(offer), signature=signature)
    assert refused(judged(signed(offer, sponsor=sponsor), offer)) is Reason.SPONSOR_PERMIT_FORMAT


def test_a_token_permit_whose_domain_is_not_stated_is_left_to_the_simulation(offer: Offer) -> None:
    nameless = replace(offer, name="", version="")
    permit = signed(nameless, sponsor=token_permit(offer, OTHER_KEY))
    assert isinstance(judged(permit, nameless, {Allowance: 0}), Verified)


def test_an_approval_to_be_sent_first(offer: Offer) -> None:
    sponsor = approval()
    permit = signed(offer, sponsor=sponsor)
    said = {Allowance: 0, Simulate: Simulated(True), CodeAt(PAYER): b""}
    assert isinstance(judged(permit, offer, said), Verified)
    assert of(offer).preludes(permit) == (sponsor.raw,)


def test_what_cannot_be_simulated_before_the_approval_is_not_held_against_it(offer: Offer) -> None:
    permit = signed(offer, sponsor=approval())
    (settle,) = of(offer).calls(permit, offer)
    sender = SETTLER if offer.scheme == "upto" else None
    fails = {Simulate(settle.to, settle.data, sender, settle.gas): Simulated(False), CodeAt(PAYER): b""}
    assert isinstance(judged(permit, offer, {Allowance: 0, **fails}), Verified)
    assert refused(judged(permit, offer, fails)) is Reason.PERMIT2_SIMULATION


@pytest.mark.parametrize(
    ("sponsor", "reason"),
    [
        (approval(to=STRANGER), Reason.SPONSOR_APPROVAL_TARGET),
        (approval(to=None), Reason.SPONSOR_APPROVAL_TARGET),
        (approval(call="transfer(address,uint256)"), Reason.SPONSOR_APPROVAL_SELECTOR),
        (approval(cut=1), Reason.SPONSOR_APPROVAL_CALLDATA),
        (approval(amount=AMOUNT - 1), Reason.SPONSOR_APPROVAL_CALLDATA),
        (approval(spender=STRANGER), Reason.SPONSOR_APPROVAL_TX_SPENDER),
        (approval(OTHER_KEY), Reason.SPONSOR_APPROVAL_SIGNER),
        (approval(chain=1), Reason.SPONSOR_APPROVAL_SIGNATURE),
        (SponsoredApproval(b""), Reason.SPONSOR_APPROVAL_PARSE),
        (SponsoredApproval(b"\x04" + b"x" * 80), Reason.SPONSOR_APPROVAL_PARSE),
        (SponsoredApproval(approval().raw[:-1]), Reason.SPONSOR_APPROVAL_PARSE),
    ],
)
def test_an_approval_that_is_none(offer: Offer, sponsor: SponsoredApproval, reason: Reason) -> None:
    assert refused(judged(signed(offer, sponsor=sponsor), offer)) is reason


@pytest.mark.parametrize(
    "said",
    [{TransactionCount: 3}, {TransactionCount: 5}, {NativeBalance: 70_000 * 10**9 - 1}, {Simulate: Simulated(False)}],
)
def test_an_approval_the_chain_would_not_take(offer: Offer, said: dict[Any, object]) -> None:
    permit = signed(offer, sponsor=approval())
    assert refused(judged(permit, offer, {Allowance: 0, CodeAt(PAYER): b"", **said})) is Reason.SPONSOR_APPROVAL_FAILED


def test_an_approval_nobody_would_mine(offer: Offer) -> None:
    """It would wait for ever, and our payments fail meanwhile; a base fee may rise by an eighth from block to block."""
    permit = signed(offer, sponsor=approval())
    checked = check(permit, offer)
    assert isinstance(checked, Checked)
    facts = answered(checked, {Allowance: 0, CodeAt(PAYER): b""})
    for base_fee, fine in ((None, True), (8 * 10**9 // 9, True), (8 * 10**9 // 9 + 8, False)):
        verdict = judge(checked, replace(facts, base_fee=base_fee), Millis(NOW * 1000))
        assert isinstance(verdict, Verified) is fine


def test_an_approval_that_was_mined_meanwhile_is_not_asked_for_again(offer: Offer) -> None:
    permit = signed(offer, sponsor=approval())
    said = {TransactionCount: 5, NativeBalance: 0, CodeAt(PAYER): b""}
    assert isinstance(judged(permit, offer, said), Verified)


def test_an_account_with_code_must_know_the_signature_that_cannot_be_simulated(offer: Offer) -> None:
    """EIP-7702: the key signed, but Permit2 will ask the code, and the approval hides what it will say."""
    permit = signed(offer, sponsor=approval())
    assert refused(judged(permit, offer, {Allowance: 0, SignatureValid: False})) is Reason.PERMIT2_SIGNATURE
    assert isinstance(judged(permit, offer, {Allowance: 0, SignatureValid: True}), Verified)


# ------------------------------------------------------------------------------------------------- what proves a payment


def transfer(amount: int = AMOUNT, to: Address = PAYEE, payer: Address = PAYER, asset: Address = ASSET) -> Log:
    return Log(asset, (TRANSFER, topic(payer), topic(to)), amount.to_bytes(32, "big"))


def word_of(offer: Offer, name: Hash32 = SETTLED, proxy: Address | None = None) -> Log:
    return Log(proxy or unsigned(offer).spender, (name,), b"")


def mined(*logs: Log, ok: bool = True) -> TxReceipt:
    return TxReceipt(Hash32("0x" + "c" * 64), ok, 90, logs)


ALLOWED = Log(ASSET, (abi.event_topic("Approval(address,address,uint256)"), topic(PAYER), topic(PAYEE)), bytes(32))


@pytest.mark.parametrize(
    "logs",
    [
        lambda offer: (transfer(), word_of(offer)),
        lambda offer: (ALLOWED, transfer(), word_of(offer, SETTLED_WITH_PERMIT)),
        lambda offer: (transfer(), ALLOWED, word_of(offer)),
        lambda offer: (word_of(offer), transfer(), word_of(offer)),
    ],
)
def test_paid(offer: Offer, logs: Callable[[Offer], tuple[Log, ...]]) -> None:
    assert of(offer).paid(signed(offer), offer, mined(*logs(offer)))
    assert not of(offer).paid(signed(offer), offer, mined(*logs(offer), ok=False))


@pytest.mark.parametrize(
    "logs",
    [
        lambda offer: (),
        lambda offer: (word_of(offer),),
        lambda offer: (transfer(),),
        lambda offer: (word_of(offer), transfer()),
        lambda offer: (transfer(AMOUNT - 1), word_of(offer)),
        lambda offer: (transfer(AMOUNT + 1), word_of(offer)),
        lambda offer: (transfer(to=STRANGER), word_of(offer)),
        lambda offer: (transfer(payer=STRANGER), word_of(offer)),
        lambda offer: (transfer(asset=STRANGER), word_of(offer)),
        lambda offer: (transfer(), word_of(offer, proxy=STRANGER)),
        lambda offer: (transfer(), word_of(offer, TRANSFER)),
    ],
)
def test_not_paid(offer: Offer, logs: Callable[[Offer], tuple[Log, ...]]) -> None:
    assert not of(offer).paid(signed(offer), offer, mined(*logs(offer)))


def test_upto_moves_what_is_charged_not_what_was_signed() -> None:
    offer = offer_of("upto")
    proof = judged(signed(offer), offer)
    assert isinstance(proof, Verified)
    charged = charge(proof, Amount(1234))
    assert isinstance(charged, Verified)
    scheme = of(charged.offer)
    head = scheme.calls(charged.permit, charged.offer)[0].data[4:]
    words = [int.from_bytes(head[at : at + 32], "big") for at in range(0, 5 * 32, 32)]
    assert (words[1], words[4]) == (AMOUNT, 1234)
    assert scheme.paid(charged.permit, charged.offer, mined(transfer(1234), word_of(offer)))
    assert not scheme.paid(charged.permit, charged.offer, mined(transfer(), word_of(offer)))


# ----------------------------------------------------------------------------------------------- what became of a permit


USED = 1 << 7


def closed(
    permit: Permit2Permit,
    offer: Offer,
    bits: int,
    *traces: Traced,
    now: int = NOW,
    failed: TxReceipt | None = None,
    balance: int = AMOUNT,
    allowance: int = AMOUNT,
) -> tuple[Closing, TxReceipt | None]:
    scheme = of(offer)
    said = {NonceBitmap: bits, TransferTrace: traces, BalanceOf: balance, Allowance: allowance}
    facts = Facts(100, Seconds(now), {read: said[type(read)] for read in scheme.closing(permit, offer, 50)})
    return scheme.close(permit, offer, facts, failed)


def theirs(permit: Permit2Permit, offer: Offer, *logs: Log, to: Address | None = None, suffix: bytes = b"") -> Traced:
    (call,) = of(offer).calls(permit, offer)
    return Traced(mined(*(logs or (transfer(), word_of(offer)))), to or call.to, call.data + suffix)


def test_a_stranger_s_settlement_is_a_payment(offer: Offer) -> None:
    permit = signed(offer)
    found = theirs(permit, offer, suffix=b"builder")
    assert closed(permit, offer, USED, found) == (Closing.USED, found.receipt)
    sponsored = theirs(replace(permit, sponsor=token_permit(offer)), offer, transfer(), word_of(offer, SETTLED_WITH_PERMIT))
    assert closed(permit, offer, USED, sponsored) == (Closing.USED, sponsored.receipt)
    assert closed(replace(permit, sponsor=token_permit(offer)), offer, USED, found) == (Closing.USED, found.receipt)


def test_two_permits_of_one_nonce_are_one_payment(offer: Offer) -> None:
    permit, twin = signed(offer), signed(offer, deadline=NOW + 290, valid_after=1)
    found = theirs(twin, offer)
    assert closed(permit, offer, USED, found) == (Closing.USED, found.receipt)


@pytest.mark.parametrize(
    "other",
    [
        {"nonce": int(NONCE, 16) + 1},
        {"amount": AMOUNT + 1},
        {"pay_to": STRANGER},
        {"payer": STRANGER},
        {"asset": STRANGER},
    ],
)
def test_another_payment_s_settlement_is_no_proof(offer: Offer, other: dict[str, Any]) -> None:
    """Its logs look the same, even where its calldata does not."""
    permit = signed(offer)
    found = theirs(replace(permit, **other), replace(offer, amount=AMOUNT))
    assert closed(permit, offer, USED, found) == (Closing.UNUSED_YET, None)
    assert closed(permit, offer, USED, found, now=permit.deadline + 1) == (Closing.UNUSED_FINAL, None)


@pytest.mark.parametrize("late", [0, 301])
def test_what_a_stranger_s_contract_did_is_neither_paid_nor_unpaid(offer: Offer, late: int) -> None:
    """Of two in a bundle one may have failed, and the transfer would be counted for both; but one of them it is."""
    permit, now = signed(offer), NOW + late
    for found in (
        theirs(permit, offer, to=STRANGER),
        Traced(mined(transfer(), word_of(offer)), None, theirs(permit, offer).data),  # by what a creation calls
        Traced(mined(transfer(), word_of(offer)), STRANGER, b""),
    ):
        assert closed(permit, offer, USED, found, now=now) == (Closing.UNCLEAR, None)
        assert closed(permit, offer, USED, theirs(permit, offer, transfer()), found, now=now) == (Closing.UNCLEAR, None)
        assert closed(permit, offer, 0, found, now=now)[0] is (Closing.UNUSED_FINAL if late else Closing.UNUSED_YET)
        done = theirs(permit, offer)
        assert closed(permit, offer, USED, found, done, now=now) == (Closing.USED, done.receipt)
    unpaid = replace(theirs(permit, offer, to=STRANGER), receipt=mined(transfer(), word_of(offer), ok=False))
    assert closed(permit, offer, USED, unpaid, now=now)[0] is (Closing.UNUSED_FINAL if late else Closing.UNUSED_YET)


def test_a_call_that_does_something_else_is_no_proof(offer: Offer) -> None:
    permit = signed(offer)
    data = theirs(permit, offer).data
    for other in (b"", data[:3], b"\0" * 4 + data[4:], b"\0" + data, data[: 4 + 3 * 32]):
        for to in (permit.spender, ASSET, digests.PERMIT2):
            found = Traced(mined(transfer(), word_of(offer)), to, other)
            assert closed(permit, offer, USED, found) == (Closing.UNUSED_YET, None)


def test_what_is_unclear_is_never_the_end_of_a_settlement(offer: Offer) -> None:
    permit = signed(offer)
    found = theirs(permit, offer, to=STRANGER)
    said = {NonceBitmap: USED, TransferTrace: (found,), BalanceOf: 0, Allowance: 0}
    facts = Facts(100, Seconds(NOW + 9999), {read: said[type(read)] for read in of(offer).closing(permit, offer, 50)})
    local, remote = SettlementMachine(SettlementPolicy(), SETTLER), RemoteSettlement(RemotePolicy(chain=True))
    for machine in (local, remote):
        machine.record = SettlementRecord(permit, offer, since=50, created=Millis(NOW * 1000))
    now = Millis((NOW + 9999) * 1000)
    assert remote.on_facts(facts, now)[0] is RemoteInput.UNUSED_YET
    for sent, name in ((True, SettlementInput.UNUSED_YET), (False, SettlementInput.UNUSED_YET_UNSENT)):
        local.sent = sent
        assert local.on_facts(facts, now)[0] is name


def test_a_payment_that_may_hide_behind_newer_ones_is_not_given_up(offer: Offer) -> None:
    permit = signed(offer)
    other = theirs(replace(permit, nonce=permit.nonce + 1), offer)
    for many, closing in ((31, Closing.UNUSED_FINAL), (32, Closing.UNCLEAR)):
        assert closed(permit, offer, USED, *[other] * many, now=permit.deadline + 1) == (closing, None)


# --------------------------------------------------------------------------------------------------- bundles by Multicall3


Bundle = Callable[[list[tuple[str, bytes]]], bytes]
MUST: dict[str, Bundle] = {
    "aggregate": lambda calls: abi.encode_call("aggregate((address,bytes)[])", calls),
    "blockAndAggregate": lambda calls: abi.encode_call("blockAndAggregate((address,bytes)[])", calls),
    "tryAggregate": lambda calls: abi.encode_call("tryAggregate(bool,(address,bytes)[])", True, calls),
    "aggregate3": lambda calls: abi.encode_call("aggregate3((address,bool,bytes)[])", [(t, False, d) for t, d in calls]),
    "aggregate3Value": lambda calls: abi.encode_call(
        "aggregate3Value((address,bool,uint256,bytes)[])", [(t, False, 0, d) for t, d in calls]
    ),
}
MAY: dict[str, Bundle] = {
    "tryAggregate": lambda calls: abi.encode_call("tryAggregate(bool,(address,bytes)[])", False, calls),
    "tryBlockAndAggregate": lambda calls: abi.encode_call("tryBlockAndAggregate(bool,(address,bytes)[])", False, calls),
    "aggregate3": lambda calls: abi.encode_call("aggregate3((address,bool,bytes)[])", [(t, True, d) for t, d in calls]),
    "aggregate3Value": lambda calls: abi.encode_call(
        "aggregate3Value((address,bool,uint256,bytes)[])", [(t, True, 1, d) for t, d in calls]
    ),
}
EXACT = offer_of("exact")
ELSEWHERE = (str(STRANGER), b"\1\2\3\4")


def call_of(permit: Permit2Permit, offer: Offer = EXACT) -> tuple[str, bytes]:
    (call,) = of(offer).calls(permit, offer)
    return str(call.to), call.data


def bundled(how: Bundle, times: int, *calls: tuple[str, bytes]) -> Traced:
    return Traced(mined(*(transfer(), word_of(EXACT)) * times), MULTICALL3, how(list(calls)))


@pytest.mark.parametrize("how", MUST.values(), ids=MUST)
def test_a_bundle_in_which_it_must_succeed_is_a_payment(how: Bundle) -> None:
    first, second = signed(EXACT), signed(EXACT, nonce=int(NONCE, 16) - 1)
    sponsored = call_of(replace(second, sponsor=token_permit(EXACT)))
    for found in (
        bundled(how, 1, call_of(first)),
        bundled(how, 2, call_of(first), sponsored),
        bundled(how, 2, ELSEWHERE, call_of(first), call_of(second), ELSEWHERE),
    ):
        assert closed(first, EXACT, USED, found) == (Closing.USED, found.receipt)
    none = bundled(how, 0, call_of(first))
    assert closed(first, EXACT, USED, none) == (Closing.UNUSED_YET, None)


@pytest.mark.parametrize("how", MAY.values(), ids=MAY)
def test_a_bundle_in_which_it_may_fail_is_a_payment_where_all_that_look_alike_were_made(how: Bundle) -> None:
    first, second = signed(EXACT), signed(EXACT, nonce=int(NONCE, 16) - 1)
    other = signed(EXACT, OTHER_KEY, STRANGER)
    both = (call_of(first), call_of(second))
    for times, calls in ((1, both[:1]), (2, both), (1, (both[0], call_of(other))), (1, (both[0], both[0]))):
        found = bundled(how, times, *calls)
        assert closed(first, EXACT, USED, found) == (Closing.USED, found.receipt)
    one = bundled(how, 1, *both)  # one transfer is not for two
    for permit, bit in ((first, USED), (second, USED >> 1)):
        assert closed(permit, EXACT, bit, one, now=NOW + 301) == (Closing.UNCLEAR, None)
    mixed = bundled(how, 1, both[0], ELSEWHERE)  # which may have made the transfer
    assert closed(first, EXACT, USED, mixed, now=NOW + 301) == (Closing.UNCLEAR, None)


@pytest.mark.parametrize("how", [*MUST.values(), *MAY.values()])
def test_a_bundle_of_other_payments_is_no_proof(how: Bundle) -> None:
    first, second = signed(EXACT), signed(EXACT, nonce=int(NONCE, 16) - 1)
    assert closed(first, EXACT, USED, bundled(how, 1, call_of(second))) == (Closing.UNUSED_YET, None)
    hidden = bundled(how, 1, call_of(second), ELSEWHERE)
    assert closed(first, EXACT, USED, hidden) == (Closing.UNCLEAR, None)


def test_upto_is_settled_by_nobody_s_bundle_but_its_facilitator_s() -> None:
    """The proxy asks who calls it."""
    for facilitator, closing in ((SETTLER, Closing.UNCLEAR), (MULTICALL3, Closing.USED)):
        offer = offer_of("upto", facilitator=facilitator)
        permit = signed(offer, facilitator=facilitator)
        found = Traced(mined(transfer(), word_of(offer)), MULTICALL3, MUST["aggregate3"]([call_of(permit, offer)]))
        assert closed(permit, offer, USED, found)[0] is closing


def test_hostile_bundles_are_unclear_and_nothing_worse() -> None:
    """Cut off, with flags and targets that are none, with pointers beyond the end or all at one place."""
    permit = signed(EXACT)
    whole = MUST["aggregate3"]([call_of(permit), ELSEWHERE])
    word = (2**256 - 1).to_bytes(32, "big")
    broken = [whole[:at] for at in range(0, len(whole) - 64, 31)]
    broken += [whole[: 4 + 32 * n] + word + whole[36 + 32 * n :] for n in range(8)]
    for data in (*broken, b"", word * 100, abi.selector("aggregate3((address,bool,bytes)[])") + b"\0" * 3200):
        found = Traced(mined(transfer(), word_of(EXACT)), MULTICALL3, data)
        assert closed(permit, EXACT, USED, found, now=NOW + 301)[0] is Closing.UNCLEAR
    size, many = 120_000, 1024
    calls = b"".join(value.to_bytes(32, "big") for value in (32, many, *[32 * many] * many, int(ASSET, 16), 0, 96, size))
    found = Traced(mined(transfer(), word_of(EXACT)), MULTICALL3, whole[:4] + calls + b"\0" * size)
    unfolded = unfold(found)
    assert unfolded is not None
    assert (len(unfolded), {len(call.data) for call in unfolded}) == (many, {BEGINNING})


def test_the_calldata_without_the_money_is_no_proof(offer: Offer) -> None:
    permit = signed(offer)
    for found in (
        replace(theirs(permit, offer), receipt=mined(transfer(), word_of(offer), ok=False)),
        theirs(permit, offer, transfer(AMOUNT - 1), word_of(offer)),
        theirs(permit, offer, transfer()),
    ):
        assert closed(permit, offer, USED, found) == (Closing.UNUSED_YET, None)


def test_upto_of_another_charge_is_no_proof() -> None:
    offer = offer_of("upto")
    permit, charged = signed(offer), replace(offer, amount=Amount(77))
    less = theirs(permit, charged, transfer(77), word_of(offer))
    assert closed(permit, charged, USED, less)[0] is Closing.USED
    assert closed(permit, offer, USED, less)[0] is Closing.UNUSED_YET


def test_the_payer_invalidated_the_nonce(offer: Offer) -> None:
    permit = signed(offer)
    assert closed(permit, offer, USED, now=permit.deadline) == (Closing.UNUSED_YET, None)
    assert closed(permit, offer, USED, now=permit.deadline + 1) == (Closing.UNUSED_FINAL, None)
    assert closed(permit, offer, USED, failed=mined(ok=False)) == (Closing.UNUSED_YET, None)


def test_a_permit_that_was_never_used(offer: Offer) -> None:
    permit, failed = signed(offer), mined(ok=False)
    assert closed(permit, offer, 0) == (Closing.UNUSED_YET, None)
    assert closed(permit, offer, 0, now=permit.deadline) == (Closing.UNUSED_YET, None)
    assert closed(permit, offer, 0, now=permit.deadline + 1) == (Closing.UNUSED_FINAL, None)
    assert closed(permit, offer, 0, failed=failed) == (Closing.UNUSED_RETRY, None)
    assert closed(permit, offer, 0, failed=failed, now=permit.deadline + 1) == (Closing.UNUSED_FINAL, None)
    assert closed(permit, offer, ~USED & (2**256 - 1)) == (Closing.UNUSED_YET, None)


def test_the_selectors_written_out_are_those_of_their_functions() -> None:
    from x402core.schemes import eip3009, sponsorship

    assert abi.selector(eip3009._TRANSFER_WITH) == eip3009._SELECTOR
    assert abi.selector("approve(address,uint256)") == sponsorship._APPROVE
