"""How Permit2 comes to be allowed to move a token, on the wire: what is asked, what is brought, what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given

from x402core.errors import LocalProtocolError, Reason, Refusal, RemoteProtocolError
from x402core.events import Payment, Permit2Permit, SponsoredApproval, SponsoredPermit
from x402core.evm import abi, secp256k1
from x402core.evm.digests import PERMIT2
from x402core.evm.transaction import Transaction
from x402core.wire import sponsoring, v2
from x402core.wire.extensions import echo_problem
from x402core.wire.headers import decode_header
from x402core.wire.json import Fields, Json

from . import samples
from .test_v2 import changed, header


def test_a_sponsorship_travels_in_the_extensions_and_comes_back() -> None:
    advertised = sponsoring.advertised()
    permit = replace(samples.PERMIT_PERMIT2, sponsor=samples.SPONSOR)
    back = v2.decode_payment(v2.encode_payment(Payment(permit, samples.PERMIT2_OFFER, None, advertised)))
    assert back.permit == permit
    assert echo_problem(advertised, back.extensions) is None
    # an echo alone brings none
    plain = v2.decode_payment(v2.encode_payment(Payment(samples.PERMIT_PERMIT2, samples.PERMIT2_OFFER, None, advertised)))
    assert plain.permit == samples.PERMIT_PERMIT2


def test_a_refused_sponsorship_is_told_by_its_own_code() -> None:
    permit = replace(samples.PERMIT_PERMIT2, sponsor=samples.SPONSOR)
    document = decode_header(v2.encode_payment(Payment(permit, samples.PERMIT2_OFFER)), source="")
    assert isinstance(document, dict)
    info = f"extensions/{sponsoring.EIP2612}/info"
    for member, value, reason in [
        ("from", samples.PAY_TO, Reason.SPONSOR_PERMIT_FROM),
        ("spender", samples.PAY_TO, Reason.SPONSOR_PERMIT_SPENDER),
        ("signature", "0x", Reason.SPONSOR_PERMIT_FORMAT),
    ]:
        changed_document = changed(document, f"{info}/{member}", value)
        with pytest.raises(RemoteProtocolError) as caught:
            v2.decode_payment(header(changed_document))
        assert caught.value.reason is reason
        payment, refused = v2.read_payment(Fields(changed_document))
        assert isinstance(refused, Refusal)
        assert payment.permit == samples.PERMIT_PERMIT2


def info(sponsor: SponsoredPermit | SponsoredApproval) -> dict[str, Any]:
    """Return the extensions of a payment that brings this along."""
    permit = replace(samples.PERMIT_PERMIT2, sponsor=sponsor)
    return dict(sponsoring.encode_sponsorship(permit, sponsoring.advertised()))


def approval(data: bytes = b"") -> SponsoredApproval:
    data = data or abi.encode_call("approve(address,uint256)", PERMIT2, 2**256 - 1)
    transaction = Transaction(84532, 0, 1, 2, 70_000, samples.USDC, 0, data)
    return SponsoredApproval(transaction.sign_with(secp256k1.sign(transaction.signing_hash(), b"\x11" * 32)))


def test_a_token_permit_is_written_as_the_specification_shows() -> None:
    written = info(samples.SPONSOR)[sponsoring.EIP2612]
    assert written["schema"] == sponsoring.advertised()[sponsoring.EIP2612]["schema"]  # type: ignore[call-overload,index]
    assert {key: value for key, value in written["info"].items() if key != "description"} == {
        "from": "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266",
        "asset": "0x036CbD53842c5426634e7929541eC2318f3dCF7e",
        "spender": "0x000000000022D473030F116dDEE9F6B43aC78BA3",
        "amount": "10000",
        "nonce": "7",
        "deadline": "1893456000",
        "signature": "0x" + samples.SPONSOR.signature.hex(),
        "version": "1",
    }


def test_an_approval_says_what_its_transaction_allows() -> None:
    sponsor = approval()
    written = info(sponsor)[sponsoring.APPROVAL]["info"]
    assert written["amount"] == str(2**256 - 1)
    assert written["signedTransaction"] == "0x" + sponsor.raw.hex()
    assert decode(info(sponsor)) == sponsor


def decode(extensions: dict[str, Json]) -> object:
    return sponsoring.decode_sponsorship(extensions, samples.PAYER, samples.USDC)


@given(samples.permit2_permits.filter(lambda permit: isinstance(permit.sponsor, SponsoredPermit)), samples.extensions)
def test_a_token_permit_comes_back_the_same(permit: Permit2Permit, extensions: dict[str, Json]) -> None:
    written = sponsoring.encode_sponsorship(permit, extensions)
    assert sponsoring.decode_sponsorship(written, permit.payer, permit.asset) == permit.sponsor
    assert {key: value for key, value in written.items() if key != sponsoring.EIP2612} == {
        key: value for key, value in extensions.items() if key != sponsoring.EIP2612
    }


@pytest.mark.parametrize("extensions", [{}, {sponsoring.EIP2612: None}, {sponsoring.EIP2612: []}, {sponsoring.APPROVAL: {}}])
def test_nothing_is_brought(extensions: dict[str, Json]) -> None:
    assert decode(extensions) is None
    assert decode(dict(sponsoring.advertised())) is None


def test_a_token_permit_goes_before_an_approval() -> None:
    assert decode({**info(approval()), **info(samples.SPONSOR)}) == samples.SPONSOR
    both = dict(sponsoring.advertised())
    assert list(both) == [sponsoring.EIP2612, sponsoring.APPROVAL]
    assert list(sponsoring.advertised(approvals=False)) == [sponsoring.EIP2612]
    assert list(sponsoring.advertised(permits=False)) == [sponsoring.APPROVAL]


FORMAT = [*("from", "asset", "spender", "amount", "version")]


@pytest.mark.parametrize("member", [*FORMAT, "nonce", "deadline", "signature"])
@pytest.mark.parametrize("value", [..., None, 1, "", "0xzz", "-1", [], "0" * 200])
def test_hostile_token_permits_are_refused_by_their_format(member: str, value: object) -> None:
    if (member, value) in (("version", ""), ("version", "0xzz"), ("version", "-1")):
        return  # whatever it calls its version, it is read as this one
    refused = decode(changed(info(samples.SPONSOR), f"{sponsoring.EIP2612}/info/{member}", value))
    assert isinstance(refused, Refusal)
    assert refused.reason is Reason.SPONSOR_PERMIT_FORMAT
    assert f"/extensions/{sponsoring.EIP2612}/info/{member}" in refused.detail


@pytest.mark.parametrize("member", [*FORMAT, "signedTransaction"])
def test_hostile_approvals_are_refused_by_their_format(member: str) -> None:
    for value in (..., {}, "0x" + "00" * 8193):
        refused = decode(changed(info(approval()), f"{sponsoring.APPROVAL}/info/{member}", value))
        assert isinstance(refused, Refusal)
        assert refused.reason is Reason.SPONSOR_APPROVAL_FORMAT


@pytest.mark.parametrize(
    ("sponsor", "member", "reason"),
    [
        (samples.SPONSOR, "from", Reason.SPONSOR_PERMIT_FROM),
        (samples.SPONSOR, "asset", Reason.SPONSOR_PERMIT_ASSET),
        (samples.SPONSOR, "spender", Reason.SPONSOR_PERMIT_SPENDER),
        (approval(), "from", Reason.SPONSOR_APPROVAL_FROM),
        (approval(), "asset", Reason.SPONSOR_APPROVAL_ASSET),
        (approval(), "spender", Reason.SPONSOR_APPROVAL_SPENDER),
    ],
)
def test_hostile_parties_are_refused_each_by_its_code(
    sponsor: SponsoredPermit | SponsoredApproval, member: str, reason: Reason
) -> None:
    key = sponsoring.EIP2612 if isinstance(sponsor, SponsoredPermit) else sponsoring.APPROVAL
    found = changed(info(sponsor), f"{key}/info/{member}", samples.PAY_TO)
    refused = decode(found)
    assert isinstance(refused, Refusal)
    assert refused.reason is reason
    if member == "from":  # the first that is wrong is told
        for other in ("asset", "spender"):
            found = changed(found, f"{key}/info/{other}", samples.PAY_TO)
        again = decode(found)
        assert isinstance(again, Refusal)
        assert again.reason is reason


@pytest.mark.parametrize("raw", [b"", b"\x02", b"\x02" + bytes(8192), approval(b"\x09\x5e\xa7\xb3").raw])
def test_only_a_signed_approval_is_written(raw: bytes) -> None:
    with pytest.raises(LocalProtocolError, match="sponsor"):
        info(SponsoredApproval(raw))
