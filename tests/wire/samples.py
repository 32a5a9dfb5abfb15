"""Values of the five words for the wire tests: fixed ones with real names in them, and hypothesis strategies."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from x402core.errors import Reason, Reply
from x402core.events import (
    Challenge,
    Dialect,
    Eip2612Permit,
    Eip3009Permit,
    Erc7710Permit,
    Method,
    Offer,
    Pending,
    Permit,
    Permit2Permit,
    Receipt,
    Resource,
    Settled,
    SettleMode,
    SponsoredApproval,
    SponsoredPermit,
    Unsettled,
)
from x402core.evm.digests import EXACT_PROXY, UPTO_PROXY
from x402core.ledger import Attempt, SettlementRecord
from x402core.registry import KNOWN
from x402core.values import UINT256_MAX, Address, Amount, Hash32, Millis, Network, Seconds
from x402core.wire.requirements import SPOKEN, UPTO

# --- fixed: the common values of x402.md section 6 -------------------------------------------------------------------

PAYER = Address("0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266")
PAY_TO = Address("0x209693bc6afc0c5328ba36faf03c514ef312287c")
USDC = Address("0x036cbd53842c5426634e7929541ec2318f3dcf7e")
SEPOLIA_USDC = Address("0x1c7d4b196cb0c7b01d743fbc6116a902379c7238")
BASE_SEPOLIA = Network("eip155:84532")
SEPOLIA = Network("eip155:11155111")
SETTLER = Address("0x70997970c51812dc3a010c7d01b50e0d17dc79c8")
MANAGER = Address("0xdb9b1e94b5b69df7e401ddbede43491141047db3")
CREATED_AT = "2026-09-01T12:00:00Z"

V2_OFFER = Offer(
    dialect=Dialect.V2,
    method=Method.EIP3009,
    network=BASE_SEPOLIA,
    asset=USDC,
    amount=Amount(10000),
    pay_to=PAY_TO,
    timeout=Seconds(60),
    name="USDC",
    version="2",
)
TOKEN_OFFER = Offer(
    dialect=Dialect.PERMIT_TOKEN,
    method=Method.EIP2612,
    network=SEPOLIA,
    asset=SEPOLIA_USDC,
    amount=Amount(500000),
    pay_to=PAY_TO,
    timeout=Seconds(600),
    name="USDC",
    version="2",
    decimals=6,
    symbol="USDC",
    settle=SettleMode.BACKGROUND,
)
# vector V1 of x402.md section 6
PERMIT_3009 = Eip3009Permit(
    network=BASE_SEPOLIA,
    asset=USDC,
    payer=PAYER,
    pay_to=PAY_TO,
    amount=Amount(10000),
    valid_after=Seconds(0),
    valid_before=Seconds(1893456000),
    nonce=Hash32("0x" + "11" * 32),
    signature=bytes.fromhex(
        "697475f4bb41b7ff040d0092186d2cc068889296133bae2d51088a1e880389c7"
        "06f988132efd2b016da5194537fe314f4005c006ecb7b94b0f0f4ee967dff9511b"
    ),
)
PERMIT_2612 = Eip2612Permit(
    network=SEPOLIA,
    asset=SEPOLIA_USDC,
    payer=PAYER,
    spender=PAY_TO,
    amount=Amount(500000),
    nonce=7,
    deadline=Seconds(1893456000),
    signature=bytes(31) + b"\x05" + b"\xab" * 32 + b"\x1c",  # r with 31 leading zero bytes
)
PERMIT2_OFFER = replace(V2_OFFER, method=Method.PERMIT2)
UPTO_OFFER = replace(V2_OFFER, method=Method.PERMIT2, scheme=UPTO, facilitator=SETTLER)
ERC7710_OFFER = replace(V2_OFFER, method=Method.ERC7710, name="", version="")
EIP2612_OFFER = replace(V2_OFFER, method=Method.EIP2612, spender=SETTLER)
V1_OFFER = replace(V2_OFFER, dialect=Dialect.V1)
PERMIT_PERMIT2 = Permit2Permit(
    network=BASE_SEPOLIA,
    asset=USDC,
    payer=PAYER,
    pay_to=PAY_TO,
    amount=Amount(10000),
    spender=EXACT_PROXY,
    nonce=2**256 - 1,
    valid_after=Seconds(0),
    deadline=Seconds(1893456000),
    signature=PERMIT_3009.signature,
)
PERMIT_UPTO = replace(PERMIT_PERMIT2, spender=UPTO_PROXY, facilitator=SETTLER)
PERMIT_7710 = Erc7710Permit(BASE_SEPOLIA, USDC, PAYER, PAY_TO, Amount(10000), MANAGER, b"a delegation")
PERMIT_2612_V2 = replace(PERMIT_2612, network=BASE_SEPOLIA, asset=USDC, spender=SETTLER, amount=Amount(10000))
SPONSOR = SponsoredPermit(Amount(10000), 7, Seconds(1893456000), PERMIT_2612.signature)
EACH: tuple[tuple[Offer, Permit], ...] = (
    (V2_OFFER, PERMIT_3009),
    (PERMIT2_OFFER, PERMIT_PERMIT2),
    (UPTO_OFFER, PERMIT_UPTO),
    (ERC7710_OFFER, PERMIT_7710),
    (EIP2612_OFFER, PERMIT_2612_V2),
)
"""One permit for every way to pay in v2, with the offer it answers."""

# --- strategies ------------------------------------------------------------------------------------------------------

addresses = st.binary(min_size=20, max_size=20).map(lambda raw: Address("0x" + raw.hex()))
hashes = st.binary(min_size=32, max_size=32).map(lambda raw: Hash32("0x" + raw.hex()))
networks = st.integers(1, 10**18 - 1).map(lambda chain: Network(f"eip155:{chain}"))
uint256s = st.integers(0, UINT256_MAX) | st.integers(0, 10**7) | st.just(UINT256_MAX)
amounts = uint256s.map(Amount)
times = uint256s.map(Seconds)
counts = st.integers(0, 2**63 - 1)
clocks = counts.map(Millis)
# no half surrogates: JSON cannot say them
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
words = st.text(st.characters(exclude_categories=["C", "Z"]), max_size=40)
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
signatures = st.binary(min_size=65, max_size=200) | st.binary(min_size=65, max_size=65)
vrs_signatures = st.builds(lambda rs, v: rs + bytes((v,)), st.binary(min_size=64, max_size=64), st.sampled_from((27, 28)))
urls = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=60)
jsons: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**77), 10**77) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=8,
)
extensions = st.dictionaries(names, jsons, max_size=3)

_offers = st.builds(
    Offer,
    dialect=st.just(Dialect.V2),
    method=st.just(Method.EIP3009),
    network=networks,
    asset=addresses,
    amount=amounts,
    pay_to=addresses,
    timeout=st.integers(1, 2**53 - 1).map(Seconds),
    name=names,
    version=names,
    settle=st.sampled_from((SettleMode.BEFORE, SettleMode.AFTER)),
)


@st.composite
def _v2_offers(draw: st.DrawFn) -> Offer:
    scheme, method = draw(st.sampled_from(SPOKEN))
    offer = replace(draw(_offers), scheme=scheme, method=method)
    if method in (Method.PERMIT2, Method.ERC7710):
        offer = replace(offer, name=draw(names | st.just("")), version=draw(names | st.just("")))
    if method is Method.EIP2612:
        offer = replace(offer, spender=draw(st.none() | addresses))
    if method is Method.ERC7710:
        offer = replace(offer, facilitator=draw(st.none() | addresses))
    return offer if scheme != UPTO else replace(offer, settle=SettleMode.AFTER, facilitator=draw(addresses))


v2_offers = _v2_offers()
v1_offers = st.builds(
    replace,
    _offers,
    dialect=st.just(Dialect.V1),
    settle=st.just(SettleMode.AFTER),
    network=st.sampled_from([info.network for info in KNOWN.networks() if info.v1_name and info.network.startswith("eip155:")]),
)
token_offers = st.builds(
    Offer,
    dialect=st.just(Dialect.PERMIT_TOKEN),
    method=st.just(Method.EIP2612),
    network=networks,
    asset=addresses,
    amount=amounts,
    pay_to=addresses,
    timeout=st.integers(1, 2**53 - 1).map(Seconds),
    name=names,
    version=names,
    decimals=st.integers(0, 77),  # what dumps can spell
    symbol=texts,
    spender=st.none() | addresses,
    settle=st.just(SettleMode.BACKGROUND),
)
resources = st.builds(Resource, url=urls, description=texts, mime_type=texts)
challenges = st.builds(
    Challenge,
    offers=st.lists(v2_offers | token_offers, max_size=4).map(tuple),
    error=words.filter(bool),
    resource=st.none() | resources,
    token_endpoint=urls,
    extensions=extensions,
)
eip3009_permits = st.builds(
    Eip3009Permit,
    network=networks,
    asset=addresses,
    payer=addresses,
    pay_to=addresses,
    amount=amounts,
    valid_after=times,
    valid_before=times,
    nonce=hashes,
    signature=signatures,
)
eip2612_permits = st.builds(
    Eip2612Permit,
    network=networks,
    asset=addresses,
    payer=addresses,
    spender=addresses,
    amount=amounts,
    nonce=uint256s,
    deadline=times,
    signature=vrs_signatures,
)
sponsorships = st.builds(SponsoredPermit, amount=amounts, nonce=uint256s, deadline=times, signature=signatures) | st.builds(
    SponsoredApproval, raw=st.binary(min_size=1, max_size=200)
)
permit2_permits = st.builds(
    Permit2Permit,
    network=networks,
    asset=addresses,
    payer=addresses,
    pay_to=addresses,
    amount=amounts,
    spender=addresses,
    nonce=uint256s,
    valid_after=times,
    deadline=times,
    signature=signatures,
    facilitator=st.none() | addresses,
    sponsor=st.none() | sponsorships,
)
erc7710_permits = st.builds(
    Erc7710Permit,
    network=networks,
    asset=addresses,
    payer=addresses,
    pay_to=addresses,
    amount=amounts,
    manager=addresses,
    context=st.binary(min_size=1, max_size=200),
    until=times,
)
permits: st.SearchStrategy[Permit] = eip3009_permits | eip2612_permits | permit2_permits | erc7710_permits


@st.composite
def paid(draw: st.DrawFn) -> tuple[Offer, Permit]:
    """An offer in v2, and a permit that answers it as far as one can be written down."""
    offer = draw(v2_offers)
    common = {"network": offer.network, "asset": offer.asset}
    match offer.method:
        case Method.EIP3009:
            return offer, replace(draw(eip3009_permits), **common)
        case Method.EIP2612:
            return offer, replace(draw(eip2612_permits), **common)
        case Method.PERMIT2:
            facilitator = draw(addresses) if offer.scheme == UPTO else None
            return offer, replace(draw(permit2_permits), **common, facilitator=facilitator, sponsor=None)
        case Method.ERC7710:
            own = {"pay_to": offer.pay_to, "amount": offer.amount, "until": Seconds(0)}
            return offer, replace(draw(erc7710_permits), **common, **own)


receipts = st.builds(
    Receipt,
    success=st.booleans(),
    network=networks,
    payer=st.none() | addresses,
    transaction=hashes | st.just(""),
    amount=st.none() | amounts,
    reason=words,
).map(lambda receipt: replace(receipt, reason="") if receipt.reason == Reason.SETTLEMENT_PENDING else receipt)

_transactions = st.lists(hashes, max_size=3).map(tuple)
settleds = st.builds(
    Settled,
    transaction=hashes,
    network=networks,
    payer=addresses,
    amount=amounts,
    block=counts,
    transactions=_transactions,
    foreign=st.booleans(),
)
pendings = st.builds(Pending, network=networks, payer=addresses, transactions=_transactions)
unsettleds = st.builds(
    Unsettled,
    reason=st.sampled_from(Reason),
    network=networks,
    payer=addresses,
    transactions=_transactions,
    final=st.booleans(),
)


@st.composite
def attempts(draw: st.DrawFn) -> Attempt:
    raws = tuple(draw(st.lists(st.binary(max_size=60), max_size=3)))
    return Attempt(
        numbers=tuple(draw(st.lists(counts, max_size=3))),
        max_fee=draw(uint256s),
        max_priority_fee=draw(uint256s),
        raws=raws,
        hashes=tuple(draw(hashes) for _ in raws),
        at=draw(clocks),
    )


records = st.builds(
    SettlementRecord,
    permit=permits,
    offer=v2_offers | v1_offers | token_offers,
    since=counts,
    created=clocks,
    attempts=st.lists(attempts(), max_size=3).map(tuple),
    sent=st.booleans(),
    outcome=st.none() | settleds | pendings | unsettleds,
    suffix=st.binary(max_size=40),
    note=st.binary(max_size=40),
)
replies = st.builds(
    Reply,
    status=st.integers(100, 599),
    headers=st.lists(st.tuples(texts, texts), max_size=4).map(tuple),
    body=st.binary(max_size=200),
)
