"""Delegations: nothing a manager says is believed but the token's own log in our own transaction."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from x402core.errors import LocalProtocolError, Reason, Refusal
from x402core.events import Dialect, Erc7710Permit, Method, Offer
from x402core.evm import abi, digests
from x402core.reads import BalanceOf, CodeAt, Facts, Log, Read, Simulate, Simulated, TxReceipt
from x402core.schemes import Closing, of
from x402core.schemes.eip3009 import AUTHORIZATION_USED
from x402core.schemes.judge import Checked, Verified, check, early, judge, plan
from x402core.schemes.scheme import TRANSFER, topic
from x402core.schemes.wallets import Wallets
from x402core.values import Address, Amount, Hash32, Millis, Network, Seconds

NETWORK = Network("eip155:84532")
ASSET = Address("0x036cbd53842c5426634e7929541ec2318f3dcf7e")
DELEGATOR, PAYEE, MANAGER, SETTLER = (Address("0x" + digit * 40) for digit in "4567")
NOW = Seconds(1_700_000_000)
AMOUNT = Amount(10_000)
OFFER = Offer(Dialect.V2, Method.ERC7710, NETWORK, ASSET, AMOUNT, PAYEE, Seconds(300), "USDC", "2", facilitator=SETTLER)
PERMIT = Erc7710Permit(NETWORK, ASSET, DELEGATOR, PAYEE, AMOUNT, MANAGER, b"context", Seconds(NOW + 300))
SCHEME = of(OFFER)
FINE: dict[type[Read[Any]], object] = {CodeAt: b"code", BalanceOf: AMOUNT, Simulate: Simulated(True)}


def judged(said: dict[Any, object] | None = None, now: int = NOW, **changes: Any) -> Verified | Refusal:
    checked = check(replace(PERMIT, **changes), OFFER)
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
    ],
)
def test_refused_by_the_chain(said: dict[Any, object], reason: Reason) -> None:
    assert refused(judged(said)) is reason


def test_it_ends_when_we_stop_trying() -> None:
    checked = check(PERMIT, OFFER)
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
    assert (contexts, modes) == ((b"context",), (bytes(32),))
    transfer = abi.encode_call("transfer(address,uint256)", PAYEE, AMOUNT)
    assert executions == (bytes.fromhex(ASSET[2:]) + bytes(32) + transfer,)
    checked = check(PERMIT, OFFER)
    assert isinstance(checked, Checked)
    assert Simulate(MANAGER, call.data, SETTLER, call.gas) in plan(checked)
    nobody = check(PERMIT, replace(OFFER, facilitator=None))
    assert isinstance(nobody, Checked)
    assert Simulate(MANAGER, call.data, None, call.gas) in plan(nobody)


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
