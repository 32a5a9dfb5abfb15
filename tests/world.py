"""The small world the machine tests live in: known keys, Base Sepolia's USDC, real signatures, and what a chain may say.

Times are Unix milliseconds unless a name says seconds; amounts are atomic units.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from x402bind.chain.devnet.keys import DEV_KEYS as KEYS
from x402bind.chain.devnet.keys import dev_accounts
from x402core.access import KeyRing, TokenClaims, mint
from x402core.commands import Lane, Receipts, SignTransactions
from x402core.errors import Reason, Reply
from x402core.events import (
    Begin,
    Eip2612Permit,
    Eip3009Permit,
    Offer,
    Payment,
    Permit,
    Receipt,
    RequestHead,
    Resource,
    ResponseHead,
    Settle,
    Settled,
    SettleMode,
    TokenRequest,
)
from x402core.evm.secp256k1 import sign
from x402core.evm.transaction import transaction_hash
from x402core.ledger import Attempt, Claim, ClaimStatus, SettlementRecord
from x402core.machines import answers
from x402core.policy import PayerPolicy, Terms, TokenTerms, offers
from x402core.reads import (
    Allowance,
    AuthorizationState,
    AuthorizationTrace,
    BalanceOf,
    CodeAt,
    Facts,
    Log,
    NonceBitmap,
    PermitNonce,
    Read,
    SignatureValid,
    Simulate,
    SimulateAll,
    Simulated,
    SimulatePayment,
    TxReceipt,
)
from x402core.schemes import of
from x402core.schemes.eip3009 import AUTHORIZATION_CANCELED, AUTHORIZATION_USED
from x402core.schemes.judge import Checked, Verified, check, judge, plan
from x402core.schemes.scheme import TRANSFER, topic
from x402core.values import Address, Amount, Hash32, Millis, Network, Seconds, parse_origin, seconds
from x402core.wire import permit_token, v2

NOW = Millis(1_760_000_000_000)
BLOCK = 1000  # the block a permit is judged at
PAYER, SELLER, SETTLER, STRANGER = (dev_accounts()[n] for n in range(4))
NETWORK = Network("eip155:84532")
USDC = Address("0x036cbd53842c5426634e7929541ec2318f3dcf7e")
PRICE = "$0.01"
ORIGIN = parse_origin("https://shop.example")
URL = "https://shop.example/report"
RESOURCE = Resource(URL, "A report")
ENTROPY = bytes(range(32))
LANE = Lane((7,), 2_000_000_000, 1_000_000)
LANES = Lane((7, 8), 2_000_000_000, 1_000_000)

V2_AFTER, V1_OFFER, TOKEN_OFFER = offers(PRICE, NETWORK, SELLER, spender=SETTLER)
(V2_BEFORE, *_) = offers(PRICE, NETWORK, SELLER, settle=SettleMode.BEFORE, spender=SETTLER)
RING = KeyRing.single(b"k" * 32)
TOKEN_TERMS = TokenTerms(RING, audience="https://shop.example", scope="/report", most_open=Amount(50_000))
TERMS = Terms((V2_AFTER, TOKEN_OFFER), RESOURCE, TOKEN_TERMS, since=NOW)
TERMS_V2 = Terms((V2_AFTER,), RESOURCE)
TERMS_BEFORE = Terms((V2_BEFORE,), RESOURCE)
POLICY = PayerPolicy.up_to("$1", NETWORK)


# ------------------------------------------------------------------------------------------------------------- permits


def hash32(number: int) -> Hash32:
    """Return 32 bytes that spell a number."""
    return Hash32(f"0x{number:064x}")


def authorization(
    nonce: int = 1, *, offer: Offer = V2_AFTER, by: int = 0, now: Millis = NOW, valid: int = 300
) -> Eip3009Permit:
    """Return a signed EIP-3009 authorization of account ``by``, valid ``valid`` seconds from ``now``."""
    unsigned = of(offer).prepare(
        offer, dev_accounts()[by], now=seconds(now), validity=Seconds(valid), nonce=hash32(nonce), facts=None
    )
    assert isinstance(unsigned, Eip3009Permit)
    return signed(unsigned, offer, by)


def token_permit(
    nonce: int = 0, *, offer: Offer = TOKEN_OFFER, by: int = 0, now: Millis = NOW, valid: int = 300
) -> Eip2612Permit:
    """Return a signed EIP-2612 permit of account ``by``."""
    payer = dev_accounts()[by]
    facts = Facts(BLOCK, seconds(now), {PermitNonce(offer.asset, payer): nonce})
    unsigned = of(offer).prepare(offer, payer, now=seconds(now), validity=Seconds(valid), nonce=hash32(0), facts=facts)
    assert isinstance(unsigned, Eip2612Permit)
    return signed(unsigned, offer, by)


def signed(permit: Any, offer: Offer, by: int = 0) -> Any:
    """Return the permit with account ``by``'s signature."""
    return replace(permit, signature=sign(of(offer).digest(permit, offer), KEYS[by]))


def checked(permit: Permit, offer: Offer) -> Checked:
    """Return the static proof."""
    proof = check(permit, offer)
    assert isinstance(proof, Checked), proof
    return proof


def verified(permit: Permit, offer: Offer, *, now: Millis = NOW, block: int = BLOCK) -> Verified:
    """Return the judge's proof, from facts that speak for the permit."""
    proof = checked(permit, offer)
    verdict = judge(proof, good_facts(proof, now=now, block=block), now)
    assert isinstance(verdict, Verified), verdict
    return verdict


def good_facts(proof: Checked, *, now: Millis = NOW, block: int = BLOCK) -> Facts:
    """Answer a judge's plan with what lets the permit pass."""
    answers_: dict[Read[Any], object] = {}
    for read in plan(proof):
        match read:
            case AuthorizationState():
                answers_[read] = False
            case BalanceOf():
                answers_[read] = 10**9
            case PermitNonce():
                answers_[read] = proof.permit.nonce  # type: ignore[union-attr]
            case Allowance():
                answers_[read] = 10**9
            case NonceBitmap():
                answers_[read] = 0
            case CodeAt():
                answers_[read] = b"\xfe"
            case SignatureValid():
                answers_[read] = True
            case Simulate() | SimulateAll() | SimulatePayment():
                answers_[read] = Simulated(True)
    return Facts(block, seconds(now), answers_)


# ------------------------------------------------------------------------------------------------------ HTTP, both ways


def payment_header(permit: Permit, offer: Offer = V2_AFTER) -> tuple[str, str]:
    """Return the PAYMENT-SIGNATURE header of a permit."""
    return v2.PAYMENT_SIGNATURE, v2.encode_payment(Payment(permit, offer, RESOURCE))


def request(*headers: tuple[str, str], target: str = "/report") -> RequestHead:
    """Return a request for the priced resource."""
    return RequestHead("GET", target, headers)


def paid_request(permit: Permit | None = None, offer: Offer = V2_AFTER, target: str = "/report") -> RequestHead:
    """Return a request with a permit."""
    return request(payment_header(authorization(offer=offer) if permit is None else permit, offer), target=target)


def bearer(*, payment: str = "", now: Millis = NOW, scope: str = "/report") -> tuple[str, str]:
    """Return an Authorization header with a good access token."""
    issued = seconds(now)
    key = payment or token_permit().key
    claims = TokenClaims(PAYER, NETWORK, key, TOKEN_TERMS.audience, scope, issued, Seconds(issued + 3600), "00" * 16)
    return "Authorization", f"Bearer {mint(claims, RING)}"


def token_request(permit: Eip2612Permit | None = None) -> TokenRequest:
    """Return a POST to the token endpoint."""
    return TokenRequest(permit_token.encode_token_request(permit or token_permit(), created_at=permit_token.timestamp(NOW)))


def begin(**changes: Any) -> Begin:
    """Return the start of a client exchange."""
    return replace(Begin("GET", URL, ORIGIN), **changes)


def reply_head(reply: Reply, url: str = URL) -> ResponseHead:
    """Return a reply as the client sees it."""
    return ResponseHead(reply.status, reply.headers, reply.body, url)


def challenge(terms: Terms = TERMS_V2, url: str = URL) -> ResponseHead:
    """Return the 402 for some terms as the client sees it."""
    return reply_head(answers.challenge(terms, "Payment required"), url)


def response(status: int = 200, *headers: tuple[str, str], body: bytes = b"") -> ResponseHead:
    """Return a response head."""
    return ResponseHead(status, headers, body, URL)


def receipt_header(success: bool = True, *, reason: str = "", network: Network = NETWORK) -> tuple[str, str]:
    """Return a PAYMENT-RESPONSE header."""
    named = success or reason == Reason.SETTLEMENT_PENDING
    proof = Receipt(success, network, PAYER, hash32(0xAB) if named else "", None, reason)
    return v2.PAYMENT_RESPONSE, v2.encode_receipt(proof)


# ------------------------------------------------------------------------------------------------------------ the ledger

NEW = Claim(ClaimStatus.TAKEN)
TAKEN = NEW


def claim(status: ClaimStatus, **more: Any) -> Claim:
    """Return a ledger's answer."""
    return Claim(status, **more)


def settled(permit: Permit, *, block: int = BLOCK + 1, transaction: int = 0xAB) -> Settled:
    """Return a settlement's good end."""
    moved = hash32(transaction)
    return Settled(moved, permit.network, permit.payer, permit.amount, block, (moved,))


# -------------------------------------------------------------------------------------------------- the settling account


def sign_all(command: SignTransactions) -> tuple[bytes, ...]:
    """Sign as the settling account does."""
    return tuple(sign(transaction.signing_hash(), KEYS[2]) for transaction in command.transactions)


def settle(permit: Permit, offer: Offer) -> Settle:
    """Start a settlement."""
    return Settle(verified(permit, offer))


def journal(permit: Permit, offer: Offer, *attempts: Attempt) -> SettlementRecord:
    """Return a settlement record."""
    return SettlementRecord(permit, offer, since=BLOCK, created=NOW, attempts=attempts)


def attempt(permit: Permit, offer: Offer, lane: Lane, at: Millis = NOW) -> Attempt:
    """Return what the settling account signs for a permit with these numbers."""
    from x402core.evm.transaction import Transaction
    from x402core.values import chain_id

    calls = of(offer).calls(permit, offer)
    chain = chain_id(permit.network)
    transactions = tuple(
        Transaction(chain, n, lane.max_priority_fee, lane.max_fee, c.gas, c.to, 0, c.data)
        for n, c in zip(lane.numbers, calls, strict=True)
    )
    raws = tuple(
        t.sign_with(s) for t, s in zip(transactions, sign_all(SignTransactions(permit.network, transactions)), strict=True)
    )
    return Attempt(lane.numbers, lane.max_fee, lane.max_priority_fee, raws, tuple(map(transaction_hash, raws)), at)


# ------------------------------------------------------------------------------------------------------- what a chain says


def transfer_log(offer: Offer, payer: Address = PAYER, *, amount: int | None = None, pay_to: Address | None = None) -> Log:
    """Return the ERC-20 event of a payment."""
    topics = (TRANSFER, topic(payer), topic(pay_to or offer.pay_to))
    return Log(offer.asset, topics, (offer.amount if amount is None else amount).to_bytes(32, "big"))


def used_log(permit: Eip3009Permit) -> Log:
    """Return EIP-3009's event of use."""
    return Log(permit.asset, (AUTHORIZATION_USED, topic(permit.payer), permit.nonce), b"")


def cancelled_log(permit: Eip3009Permit) -> Log:
    """Return EIP-3009's event of cancellation."""
    return Log(permit.asset, (AUTHORIZATION_CANCELED, topic(permit.payer), permit.nonce), b"")


def paid_receipt(permit: Permit, offer: Offer, transaction: Hash32, block: int = BLOCK + 1) -> TxReceipt:
    """Return the receipt of the transaction that executed a permit."""
    logs = (transfer_log(offer, permit.payer),)
    if isinstance(permit, Eip3009Permit):
        logs = (used_log(permit), *logs)
    return TxReceipt(transaction, True, block, logs)


def reverted(transaction: Hash32, block: int = BLOCK + 1) -> TxReceipt:
    """Return the receipt of a transaction that failed."""
    return TxReceipt(transaction, False, block)


def seen(*receipts: TxReceipt | None, head: int = BLOCK + 1, now: Millis = NOW) -> Receipts:
    """Return what GetReceipts answers."""
    return Receipts(head, seconds(now), receipts)


def closing_facts(
    permit: Permit,
    *,
    used: bool = False,
    trace: TxReceipt | None = None,
    nonce: int = 0,
    allowance: int = 0,
    block: int = BLOCK + 5,
    now: Millis = NOW,
) -> Facts:
    """Answer a scheme's ``closing`` reads."""
    told: Mapping[Read[Any], object]
    if isinstance(permit, Eip3009Permit):
        told = {
            AuthorizationState(permit.asset, permit.payer, permit.nonce): used,
            AuthorizationTrace(permit.asset, permit.payer, permit.nonce, BLOCK): trace,
        }
    else:
        told = {
            PermitNonce(permit.asset, permit.payer): nonce,
            Allowance(permit.asset, permit.payer, permit.spender): allowance,
        }
    return Facts(block, seconds(now), told)


def after_end(permit: Permit, more: int = 31) -> Millis:
    """Return a moment past a permit's end and the settlement's grace."""
    return Millis((permit.expires + more) * 1000)
