"""Every way to pay, on anvil with Circle's USDC and Uniswap's Permit2: planned, read, judged, sent, and proved from logs.

The settling account sends what the scheme's ``calls`` and ``preludes`` say, and nothing else.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from tests.chain.conduct import undone
from tests.chains import PERMIT2, USDC, Anvil, RealUSDC, Rpc
from tests.contracts import AGGREGATE3, MULTICALL3, TRY_AGGREGATE, Placed, place_all
from tests.contracts.accounts import SmartWallet, context_of, delegate, delegated, permission, struct_hash
from x402bind.chain.devnet.keys import DEV_KEYS, dev_accounts
from x402bind.chain.rpc import Endpoint
from x402bind.chain.transports import SyncHttp
from x402bind.drive import dispatch, run
from x402bind.translate.chain import get_receipts, read_chain
from x402core.commands import GetReceipts, ReadChain
from x402core.errors import Reason, Refusal
from x402core.events import (
    Dialect,
    Eip3009Permit,
    Erc7710Permit,
    Method,
    Offer,
    Permit,
    Permit2Permit,
    SponsoredApproval,
    SponsoredPermit,
)
from x402core.evm.abi import encode_call
from x402core.evm.digests import EXACT_PROXY, domain, permit_digest
from x402core.evm.secp256k1 import public_address, sign
from x402core.reads import Allowance, Facts, Read, TxReceipt
from x402core.schemes import Closing, of
from x402core.schemes.judge import Checked, Verified, charge, check, judge, plan
from x402core.schemes.wallets import DEPLOYED, SignedBy, Wallets
from x402core.values import Address, Amount, Hash32, Millis, Network, Seconds

pytestmark = pytest.mark.anvil

NETWORK = Network("eip155:84532")
RELAYER_KEY, RELAYER = DEV_KEYS[4], dev_accounts()[4]
STRANGER_KEY = DEV_KEYS[6]
FUNDS, PRICE = 1_000_000, Amount(10_000)
APPROVE = encode_call("approve(address,uint256)", PERMIT2, 2**256 - 1)
PERMIT2_METHODS = pytest.mark.parametrize("scheme", ["exact", "upto"])


@dataclass
class Bench:
    """A chain with everything on it, and a payee nobody else pays."""

    rpc: Rpc
    placed: Placed
    endpoint: Endpoint
    http: SyncHttp
    pay_to: Address

    def offer(self, method: Method, scheme: str = "exact") -> Offer:
        fields = (Dialect.V2, method, NETWORK, USDC, PRICE, self.pay_to, Seconds(300), "USDC", "2")
        return Offer(*fields, scheme=scheme, facilitator=None if method is Method.EIP3009 or scheme == "exact" else RELAYER)

    def payer(self, *, gas: int = 0, approved: bool = False) -> bytes:
        """Return the key of a new payer with money; without ether unless it is to have some."""
        key = secrets.token_bytes(32)
        account = public_address(key)
        self.rpc.must(DEV_KEYS[0], USDC, encode_call("mint(address,uint256)", account, FUNDS))
        if approved:
            self.rpc("anvil_setBalance", account, hex(10**18))
            self.rpc.must(key, USDC, APPROVE, gas=100_000)
        self.rpc("anvil_setBalance", account, hex(gas))
        return key

    def wallet(self, **how: Any) -> SmartWallet:
        """Return a smart wallet with money, not deployed yet."""
        wallet = SmartWallet.of(self.placed, secrets.token_bytes(32), **how)
        self.rpc.must(DEV_KEYS[0], USDC, encode_call("mint(address,uint256)", wallet.address, FUNDS))
        return wallet

    def prepared(self, offer: Offer, payer: Address) -> Any:
        nonce = Hash32("0x" + secrets.token_hex(32))
        now = Seconds(self.rpc.now())
        return of(offer).prepare(offer, payer, now=now, validity=Seconds(300), nonce=nonce, facts=None)

    def signed(self, offer: Offer, key: bytes, **changes: Any) -> Any:
        permit = replace(self.prepared(offer, public_address(key)), **changes)
        return replace(permit, signature=sign(of(offer).digest(permit, offer), key))

    def read(self, *reads: Read[Any]) -> Facts:
        return run(read_chain(ReadChain(NETWORK, reads), self.endpoint), dispatch(self.http.table))

    def judged(self, permit: Permit, offer: Offer, wallets: Wallets = DEPLOYED) -> Verified | Refusal:
        checked = check(permit, offer, wallets)
        if isinstance(checked, Refusal):
            return checked
        return judge(checked, self.read(*plan(checked)), Millis(self.rpc.now() * 1000))

    def verified(self, permit: Permit, offer: Offer, wallets: Wallets = DEPLOYED) -> Verified:
        verdict = self.judged(permit, offer, wallets)
        assert isinstance(verdict, Verified), verdict
        return verdict

    def sent(self, permit: Permit, offer: Offer, key: bytes = RELAYER_KEY, suffix: bytes = b"") -> TxReceipt:
        """Send a settlement as it says and return the receipt of the transaction that moves the money."""
        for raw in of(offer).preludes(permit):
            self.rpc.wait(self.rpc("eth_sendRawTransaction", "0x" + raw.hex()))
        hashes = [
            Hash32(self.rpc.send(key, call.to, call.data + suffix, gas=call.gas)["transactionHash"])
            for call in of(offer).calls(permit, offer)
        ]
        receipt = self.receipt(hashes[-1])
        assert receipt is not None
        return receipt

    def receipt(self, transaction: str) -> TxReceipt | None:
        command = GetReceipts(NETWORK, (Hash32(transaction),))
        return run(get_receipts(command, self.endpoint), dispatch(self.http.table)).receipts[0]

    def settles(self, permit: Permit, offer: Offer, wallets: Wallets = DEPLOYED) -> TxReceipt:
        """Demand that a payment is judged good, is sent, moves the money and is proved by its logs."""
        proof = self.verified(permit, offer, wallets)
        before = self.balances(permit.payer)
        receipt = self.sent(proof.permit, proof.offer)
        assert receipt.ok
        assert of(offer).paid(proof.permit, proof.offer, receipt)
        after = self.balances(permit.payer)
        assert (before[0] - after[0], after[1] - before[1]) == (offer.amount, offer.amount)
        return receipt

    def balances(self, payer: Address) -> tuple[int, int]:
        return self.rpc.balance(USDC, payer), self.rpc.balance(USDC, self.pay_to)

    def closed(self, permit: Permit, offer: Offer, since: int, mined: TxReceipt | None = None) -> tuple[Closing, Any]:
        scheme = of(offer)
        return scheme.close(permit, offer, self.read(*scheme.closing(permit, offer, since)), mined)

    def height(self) -> int:
        return int(self.rpc("eth_blockNumber"), 16)

    def late(self, permit: Permit) -> None:
        """Let time pass until a permit is over."""
        self.rpc("evm_setNextBlockTimestamp", hex(permit.expires + 1))
        self.rpc("evm_mine")


@pytest.fixture(scope="module")
def shared() -> Iterator[Bench]:
    with Anvil() as node, SyncHttp() as http:
        rpc = Rpc(node.url)
        RealUSDC.place(rpc)
        pay_to = Address("0x" + secrets.token_hex(20))
        yield Bench(rpc, place_all(rpc), Endpoint(node.url, NETWORK), http, pay_to)
        rpc.close()


@pytest.fixture
def bench(shared: Bench) -> Iterator[Bench]:
    with undone(shared.rpc):
        yield shared


def refused(verdict: object) -> Reason:
    assert isinstance(verdict, Refusal), verdict
    return verdict.reason


def token_permit(key: bytes, amount: int, deadline: int, nonce: int = 0) -> SponsoredPermit:
    digest = permit_digest(domain("USDC", "2", 84532, USDC), public_address(key), PERMIT2, amount, nonce, deadline)
    return SponsoredPermit(Amount(amount), nonce, Seconds(deadline), sign(digest, key))


def approval(bench: Bench, key: bytes, **how: Any) -> SponsoredApproval:
    return SponsoredApproval(bytes.fromhex(bench.rpc.sign(key, USDC, APPROVE, **{"gas": 70_000, **how})[2:]))


GAS_MONEY = 70_000 * 5 * 10**9

# --------------------------------------------------------------------------------------------------------------- permit2


@PERMIT2_METHODS
def test_a_payment_by_permit2(bench: Bench, scheme: str) -> None:
    offer = bench.offer(Method.PERMIT2, scheme)
    permit = bench.signed(offer, bench.payer(approved=True))
    since = bench.height()
    receipt = bench.settles(permit, offer)
    assert bench.closed(permit, offer, since) == (Closing.USED, receipt)
    assert refused(bench.judged(permit, offer)) is Reason.NONCE_USED


def test_less_than_the_ceiling_is_charged(bench: Bench) -> None:
    offer = bench.offer(Method.PERMIT2, "upto")
    permit = bench.signed(offer, bench.payer(approved=True))
    proof = charge(bench.verified(permit, offer), Amount(1234))
    assert isinstance(proof, Verified)
    since = bench.height()
    receipt = bench.sent(proof.permit, proof.offer)
    assert of(offer).paid(proof.permit, proof.offer, receipt)
    assert not of(offer).paid(permit, offer, receipt)
    assert bench.balances(permit.payer) == (FUNDS - 1234, 1234)
    assert bench.closed(proof.permit, proof.offer, since) == (Closing.USED, receipt)
    assert bench.closed(permit, offer, since) == (Closing.UNUSED_YET, None)


def test_nobody_else_settles_upto(bench: Bench) -> None:
    offer = bench.offer(Method.PERMIT2, "upto")
    permit = bench.signed(offer, bench.payer(approved=True))
    assert not bench.sent(permit, offer, STRANGER_KEY).ok
    elsewhere = replace(offer, facilitator=public_address(STRANGER_KEY))
    assert refused(bench.judged(permit, elsewhere)) is Reason.UPTO_FACILITATOR
    assert bench.balances(permit.payer) == (FUNDS, 0)


@PERMIT2_METHODS
def test_why_permit2_would_refuse(bench: Bench, scheme: str) -> None:
    offer = bench.offer(Method.PERMIT2, scheme)
    key = bench.payer(approved=True)
    stranger = bench.payer()
    assert refused(bench.judged(bench.signed(offer, stranger), offer)) is Reason.PERMIT2_ALLOWANCE
    dear = replace(offer, amount=Amount(FUNDS + 1))
    assert refused(bench.judged(bench.signed(dear, key), dear)) is Reason.PERMIT2_BALANCE
    forged = replace(bench.signed(offer, key), payer=public_address(stranger))
    assert refused(bench.judged(forged, offer)) is Reason.PERMIT2_SIGNATURE
    permit = bench.signed(offer, key)
    bench.rpc("anvil_setCode", permit.spender, "0x")
    assert refused(bench.judged(permit, offer)) is Reason.PERMIT2_NO_PROXY


@PERMIT2_METHODS
def test_a_token_permit_pays_for_the_allowance(bench: Bench, scheme: str) -> None:
    offer = bench.offer(Method.PERMIT2, scheme)
    key = bench.payer()
    plain = bench.signed(offer, key)
    permit = replace(plain, sponsor=token_permit(key, PRICE, plain.deadline))
    since = bench.height()
    receipt = bench.settles(permit, offer)
    assert bench.closed(plain, offer, since) == (Closing.USED, receipt)
    used = bench.signed(offer, key, sponsor=permit.sponsor)
    assert refused(bench.judged(used, offer)) is Reason.PERMIT2_ALLOWANCE


def test_a_token_permit_somebody_used_first_still_serves(bench: Bench) -> None:
    """The proxy goes on when the token refuses it: the allowance is there."""
    offer = bench.offer(Method.PERMIT2)
    key = bench.payer()
    permit = bench.signed(offer, key)
    sponsor = token_permit(key, PRICE, permit.deadline)
    types = "address,address,uint256,uint256,uint8,bytes32,bytes32"
    made = sponsor.signature
    call = (permit.payer, PERMIT2, PRICE, sponsor.deadline, made[64], made[:32], made[32:64])
    bench.rpc.must(STRANGER_KEY, USDC, encode_call(f"permit({types})", *call), gas=150_000)
    bench.settles(replace(permit, sponsor=sponsor), offer)


@PERMIT2_METHODS
def test_the_payer_s_own_approval_is_sent_first(bench: Bench, scheme: str) -> None:
    offer = bench.offer(Method.PERMIT2, scheme)
    key = bench.payer(gas=GAS_MONEY)
    permit = bench.signed(offer, key)
    bench.settles(replace(permit, sponsor=approval(bench, key)), offer)
    assert bench.read(Allowance(USDC, permit.payer, PERMIT2)).answers


def test_an_approval_mined_meanwhile_does_not_matter(bench: Bench) -> None:
    offer = bench.offer(Method.PERMIT2)
    key = bench.payer(gas=GAS_MONEY)
    permit = bench.signed(offer, key, sponsor=approval(bench, key))
    (raw,) = of(offer).preludes(permit)
    bench.rpc.wait(bench.rpc("eth_sendRawTransaction", "0x" + raw.hex()))
    proof = bench.verified(permit, offer)
    (call,) = of(offer).calls(proof.permit, offer)
    sent = bench.rpc.must(RELAYER_KEY, call.to, call.data, gas=call.gas)
    receipt = bench.receipt(sent["transactionHash"])
    assert receipt is not None
    assert of(offer).paid(permit, offer, receipt)


def test_an_approval_the_chain_would_not_take(bench: Bench) -> None:
    offer = bench.offer(Method.PERMIT2)
    poor, rich = bench.payer(gas=GAS_MONEY - 1), bench.payer(gas=10**18)
    cases = (
        (poor, {}),  # we give no gas money
        (rich, {"nonce": 1}),
        (rich, {"gas": 30_000}),  # enough to be mined, not to approve
        (rich, {"fee": 1, "tip": 0}),  # nobody would mine it
    )
    for key, how in cases:
        permit = bench.signed(offer, key, sponsor=approval(bench, key, **how))
        assert refused(bench.judged(permit, offer)) is Reason.SPONSOR_APPROVAL_FAILED
    permit = bench.signed(offer, rich, sponsor=approval(bench, poor))
    assert refused(bench.judged(permit, offer)) is Reason.SPONSOR_APPROVAL_SIGNER


def test_a_stranger_settles_first_and_the_payment_is_found(bench: Bench) -> None:
    offer = bench.offer(Method.PERMIT2)
    permit = bench.signed(offer, bench.payer(approved=True))
    since = bench.height()
    bench.verified(permit, offer)
    theirs = bench.sent(permit, offer, STRANGER_KEY, suffix=b"theirs")
    ours = bench.sent(permit, offer)
    assert (theirs.ok, ours.ok) == (True, False)
    assert not of(offer).paid(permit, offer, ours)
    assert bench.closed(permit, offer, since, ours) == (Closing.USED, theirs)
    assert bench.balances(permit.payer) == (FUNDS - PRICE, PRICE)


def test_a_replay_of_another_payment_s_transfer_is_not_a_proof(bench: Bench) -> None:
    """One payer buys twice; the second nonce is invalidated, so only one of the payments was made."""
    offer = bench.offer(Method.PERMIT2)
    key = bench.payer(approved=True, gas=10**18)
    bench.rpc("anvil_setBalance", public_address(key), hex(10**18))
    first, second = bench.signed(offer, key), bench.signed(offer, key)
    since = bench.height()
    paid = bench.sent(first, offer, STRANGER_KEY)
    invalidate(bench, key, second)
    assert bench.closed(first, offer, since) == (Closing.USED, paid)
    assert bench.closed(second, offer, since) == (Closing.UNUSED_YET, None)


def test_a_replay_in_a_bundle_of_which_half_failed_is_not_a_proof(bench: Bench) -> None:
    offer = bench.offer(Method.PERMIT2)
    key = bench.payer(approved=True, gas=10**18)
    first, second = bench.signed(offer, key), bench.signed(offer, key)
    since = bench.height()
    invalidate(bench, key, second)
    calls = [(call.to, call.data) for permit in (first, second) for call in of(offer).calls(permit, offer)]
    bench.rpc.must(STRANGER_KEY, MULTICALL3, encode_call(TRY_AGGREGATE, False, calls), gas=2_000_000)
    assert bench.balances(first.payer) == (FUNDS - PRICE, PRICE)
    for permit in (first, second):  # one of them is paid, and nobody can tell which
        assert bench.closed(permit, offer, since) == (Closing.UNCLEAR, None)


@pytest.mark.parametrize("optional", [True, False])
def test_a_stranger_s_bundle_pays_each_payment_in_it(bench: Bench, optional: bool) -> None:
    offer = bench.offer(Method.PERMIT2)
    key = bench.payer(approved=True)
    first, second, third = (bench.signed(offer, key) for _ in range(3))
    since = bench.height()
    calls = [(call.to, optional, call.data) for permit in (first, second) for call in of(offer).calls(permit, offer)]
    sent = bench.rpc.must(STRANGER_KEY, MULTICALL3, encode_call(AGGREGATE3, calls), gas=2_000_000)
    receipt = bench.receipt(sent["transactionHash"])
    assert bench.balances(first.payer) == (FUNDS - 2 * PRICE, 2 * PRICE)
    for permit in (first, second):
        assert bench.closed(permit, offer, since) == (Closing.USED, receipt)
    assert bench.closed(third, offer, since) == (Closing.UNUSED_YET, None)


def invalidate(bench: Bench, key: bytes, permit: Permit2Permit) -> None:
    word, bit = permit.nonce >> 8, 1 << (permit.nonce & 0xFF)
    call = encode_call("invalidateUnorderedNonces(uint256,uint256)", word, bit)
    bench.rpc("anvil_setBalance", public_address(key), hex(10**18))
    bench.rpc.must(key, PERMIT2, call, gas=100_000)


@PERMIT2_METHODS
def test_the_payer_invalidates_the_nonce(bench: Bench, scheme: str) -> None:
    offer = bench.offer(Method.PERMIT2, scheme)
    key = bench.payer(approved=True)
    permit = bench.signed(offer, key)
    since = bench.height()
    bench.verified(permit, offer)
    invalidate(bench, key, permit)
    failed = bench.sent(permit, offer)
    assert not failed.ok
    assert bench.closed(permit, offer, since, failed) == (Closing.UNUSED_YET, None)
    bench.late(permit)
    assert bench.closed(permit, offer, since, failed) == (Closing.UNUSED_FINAL, None)
    assert bench.balances(permit.payer) == (FUNDS, 0)


@PERMIT2_METHODS
def test_a_permit_whose_time_is_over(bench: Bench, scheme: str) -> None:
    offer = bench.offer(Method.PERMIT2, scheme)
    permit = bench.signed(offer, bench.payer(approved=True))
    since = bench.height()
    assert bench.closed(permit, offer, since) == (Closing.UNUSED_YET, None)
    bench.late(permit)
    assert bench.closed(permit, offer, since) == (Closing.UNUSED_FINAL, None)
    assert not bench.sent(permit, offer).ok
    assert refused(bench.judged(permit, offer)) is Reason.PERMIT2_DEADLINE


@PERMIT2_METHODS
def test_the_money_went_away_and_came_back(bench: Bench, scheme: str) -> None:
    offer = bench.offer(Method.PERMIT2, scheme)
    key = bench.payer(approved=True)
    permit = bench.signed(offer, key)
    since = bench.height()
    bench.rpc("anvil_setBalance", permit.payer, hex(10**18))
    bench.rpc.must(key, USDC, encode_call("transfer(address,uint256)", RELAYER, FUNDS), gas=100_000)
    failed = bench.sent(permit, offer)
    assert bench.closed(permit, offer, since, failed) == (Closing.UNUSED_YET, None)  # another try would only cost us gas
    bench.rpc.must(RELAYER_KEY, USDC, encode_call("transfer(address,uint256)", permit.payer, FUNDS), gas=100_000)
    assert bench.closed(permit, offer, since, failed) == (Closing.UNUSED_RETRY, None)
    assert of(offer).paid(permit, offer, bench.sent(permit, offer))


# ------------------------------------------------------------------------------------------------------- contract wallets


def wallet_permit(bench: Bench, offer: Offer, wallet: SmartWallet, how: str) -> Any:
    permit = bench.prepared(offer, wallet.address)
    return replace(permit, signature=getattr(wallet, how)(of(offer).digest(permit, offer)))


@pytest.mark.parametrize("how", ["sign", "sign_long"])
@pytest.mark.parametrize("method", [Method.EIP3009, Method.PERMIT2])
def test_a_deployed_wallet_pays(bench: Bench, method: Method, how: str) -> None:
    offer = bench.offer(method)
    wallet = bench.wallet()
    permit = wallet_permit(bench, offer, wallet, how)
    wrong = Reason.SIGNATURE if method is Method.EIP3009 else Reason.PERMIT2_SIGNATURE
    assert refused(bench.judged(permit, offer)) is wrong  # not there yet
    wallet.deploy()
    wallet.execute(USDC, APPROVE)
    bench.settles(permit, offer)
    forged = replace(wallet_permit(bench, offer, wallet, how), nonce=permit.nonce)
    assert refused(bench.judged(forged, offer)) in (wrong, Reason.NONCE_USED)
    other = replace(bench.prepared(offer, wallet.address), signature=permit.signature)
    assert refused(bench.judged(other, offer)) is wrong


@pytest.mark.parametrize("lenient", [False, True])
def test_a_wallet_is_deployed_to_pay(bench: Bench, lenient: bool) -> None:
    offer = bench.offer(Method.EIP3009)
    wallet = bench.wallet(lenient=lenient)
    permit = wallet_permit(bench, offer, wallet, "sign_undeployed")
    assert refused(bench.judged(permit, offer)) is Reason.FACTORY_NOT_ALLOWED
    allowed = Wallets(factories=frozenset({wallet.factory}))
    checked = check(permit, offer, allowed)
    assert isinstance(checked, Checked)
    assert checked.by is SignedBy.UNDEPLOYED
    bench.settles(permit, offer, allowed)
    assert wallet.deployed
    again = wallet_permit(bench, offer, wallet, "sign_undeployed")  # a wrapped signature of a wallet that is there by now
    proof = bench.verified(again, offer, allowed)
    assert len(of(offer).calls(proof.permit, offer)) == 1
    bench.settles(again, offer, allowed)


def test_a_wallet_that_its_factory_does_not_make_cannot_pay(bench: Bench) -> None:
    offer = bench.offer(Method.EIP3009)
    wallet, other = bench.wallet(), bench.wallet()
    allowed = Wallets(factories=frozenset({wallet.factory}))
    permit = wallet_permit(bench, offer, replace(wallet, salt=other.salt, key=other.key), "sign_undeployed")
    assert refused(bench.judged(permit, offer, allowed)) is Reason.SIMULATION_FAILED


def test_a_wallet_still_to_be_deployed_cannot_pay_by_permit2(bench: Bench) -> None:
    offer = bench.offer(Method.PERMIT2)
    wallet = bench.wallet()
    permit = wallet_permit(bench, offer, wallet, "sign_undeployed")
    assert refused(bench.judged(permit, offer, Wallets(factories=frozenset({wallet.factory})))) is Reason.UNDEPLOYED_WALLET


@pytest.mark.parametrize("method", [Method.EIP3009, Method.PERMIT2])
def test_an_account_that_delegates_pays_if_its_code_knows_its_signature(bench: Bench, method: Method) -> None:
    offer = bench.offer(method)
    key = bench.payer(approved=True)
    delegate(bench.rpc, key, bench.placed.mute_delegate)
    failed = Reason.SIMULATION_FAILED if method is Method.EIP3009 else Reason.PERMIT2_SIMULATION
    assert refused(bench.judged(bench.signed(offer, key), offer)) is failed
    delegate(bench.rpc, key, bench.placed.delegate)
    bench.settles(bench.signed(offer, key), offer)


def test_an_account_that_delegates_to_a_mute_contract_gets_no_approval_sent(bench: Bench) -> None:
    """The approval hides what the simulation would say; the contract is asked instead."""
    offer = bench.offer(Method.PERMIT2)
    key = bench.payer(gas=10**18)
    delegate(bench.rpc, key, bench.placed.mute_delegate)
    permit = bench.signed(offer, key, sponsor=approval(bench, key))
    assert refused(bench.judged(permit, offer)) is Reason.PERMIT2_SIGNATURE
    delegate(bench.rpc, key, bench.placed.delegate)
    bench.settles(bench.signed(offer, key, sponsor=approval(bench, key)), offer)


# ------------------------------------------------------------------------------------------------------------ delegations


def delegation(bench: Bench, wallet: SmartWallet, **how: Any) -> Erc7710Permit:
    context = permission(bench.placed.manager, wallet, USDC, PRICE, **{"salt": secrets.token_bytes(32), **how})
    return redeemed(bench, wallet, context)


def redeemed(bench: Bench, wallet: SmartWallet, context: bytes) -> Erc7710Permit:
    until = Seconds(bench.rpc.now() + 300)
    return Erc7710Permit(NETWORK, USDC, wallet.address, bench.pay_to, PRICE, bench.placed.manager, context, until)


def delegating(bench: Bench) -> SmartWallet:
    wallet = bench.wallet()
    wallet.deploy()
    wallet.enable(bench.placed.manager)
    return wallet


def managed(bench: Bench, *more: Address) -> Wallets:
    return Wallets(managers=frozenset({bench.placed.manager, *more}))


def test_a_delegation_is_redeemed_once(bench: Bench) -> None:
    offer = replace(bench.offer(Method.ERC7710), facilitator=RELAYER)
    permit = delegation(bench, delegating(bench), to=RELAYER)
    since = bench.height()
    bench.settles(permit, offer, managed(bench))
    assert refused(bench.judged(permit, offer, managed(bench))) is Reason.SIMULATION_FAILED
    failed = bench.sent(permit, offer)
    assert bench.closed(permit, offer, since, failed) == (Closing.UNUSED_FINAL, None)


def test_a_delegation_of_a_delegation(bench: Bench) -> None:
    """The leaf names who redeems, the root's delegator pays."""
    offer = replace(bench.offer(Method.ERC7710), facilitator=RELAYER)
    owner, agent = delegating(bench), delegating(bench)
    root = delegated(bench.placed.manager, owner, USDC, FUNDS, to=agent.address)
    leaf = delegated(bench.placed.manager, agent, USDC, PRICE, to=RELAYER, authority=struct_hash(root))
    permit = redeemed(bench, owner, context_of(leaf, root))
    assert refused(bench.judged(replace(permit, payer=agent.address), offer, managed(bench))) is Reason.INVALID_PAYLOAD
    bench.settles(permit, offer, managed(bench))


def test_a_delegation_is_for_whom_it_names(bench: Bench) -> None:
    offer = replace(bench.offer(Method.ERC7710), facilitator=RELAYER)
    wallet, allowed = delegating(bench), managed(bench)
    elsewhere = delegation(bench, wallet, to=public_address(STRANGER_KEY))
    assert refused(bench.judged(elsewhere, offer, allowed)) is Reason.SIMULATION_FAILED
    bench.settles(delegation(bench, wallet), replace(offer, facilitator=None), allowed)  # anybody's
    forged = delegation(bench, wallet, key=STRANGER_KEY)
    assert refused(bench.judged(forged, offer, allowed)) is Reason.SIMULATION_FAILED


@pytest.mark.parametrize("code", ["00", "6001600055"])
def test_hostile_managers_that_say_yes_and_move_nothing(bench: Bench, code: str) -> None:
    """One that STOPs is not on the list; were it, the token would be asked whether it had paid."""
    offer = replace(bench.offer(Method.ERC7710), facilitator=RELAYER)
    liar = Address("0x" + secrets.token_hex(20))
    bench.rpc("anvil_setCode", liar, "0x" + code)
    permit = replace(delegation(bench, delegating(bench)), manager=liar)
    refusal = bench.judged(permit, offer, managed(bench))
    assert refused(refusal) is Reason.INVALID_PAYLOAD
    assert liar in getattr(refusal, "detail", "")
    assert refused(bench.judged(permit, offer, managed(bench, liar))) is Reason.SIMULATION_FAILED
    since = bench.height()
    receipt = bench.sent(permit, offer)
    assert receipt.ok
    assert not of(offer).paid(permit, offer, receipt)
    assert bench.closed(permit, offer, since, receipt) == (Closing.UNUSED_FINAL, None)


def test_hostile_delegators_that_say_yes_and_pay_nothing(bench: Bench) -> None:
    """The account is a contract of the payer's own: it knows any signature, has money, and does nothing when it is called."""
    offer = replace(bench.offer(Method.ERC7710), facilitator=RELAYER)
    liar = replace(bench.wallet(), address=Address("0x" + secrets.token_hex(20)))
    bench.rpc.must(DEV_KEYS[0], USDC, encode_call("mint(address,uint256)", liar.address, FUNDS))
    bench.rpc("anvil_setCode", liar.address, "0x7f1626ba7e" + "00" * 28 + "60005260206000f3")
    permit = delegation(bench, liar, to=RELAYER)
    assert refused(bench.judged(permit, offer, managed(bench))) is Reason.SIMULATION_FAILED
    receipt = bench.sent(permit, offer)
    assert receipt.ok  # which is why it is not what we ask
    assert not of(offer).paid(permit, offer, receipt)


def test_a_manager_that_is_none_is_refused(bench: Bench) -> None:
    offer = replace(bench.offer(Method.ERC7710), facilitator=RELAYER)
    permit = delegation(bench, delegating(bench))
    for manager in (USDC, PERMIT2, EXACT_PROXY, public_address(STRANGER_KEY)):
        everything = managed(bench, manager)
        assert refused(bench.judged(replace(permit, manager=manager), offer, everything)) is Reason.INVALID_PAYLOAD
    bench.late(permit)
    assert refused(bench.judged(permit, offer, managed(bench))) is Reason.VALID_BEFORE
    assert bench.closed(permit, offer, bench.height()) == (Closing.UNUSED_FINAL, None)


def test_a_stranger_settles_an_authorization_first(bench: Bench) -> None:
    offer = bench.offer(Method.EIP3009)
    permit = bench.signed(offer, bench.payer())
    assert isinstance(permit, Eip3009Permit)
    since = bench.height()
    theirs = bench.sent(permit, offer, STRANGER_KEY)
    assert bench.closed(permit, offer, since, bench.sent(permit, offer)) == (Closing.USED, theirs)
