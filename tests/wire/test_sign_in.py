"""Signing in instead of paying again (x402.md 3.4): a server asks, a wallet signs, the server judges."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from eth_account.messages import _hash_eip191_message, encode_defunct
from hypothesis import given
from hypothesis import strategies as st

from tests.evm.vectors import ACCOUNT1, KEY, PAYER
from x402core.errors import LocalProtocolError, Reason, Refusal, RemoteProtocolError
from x402core.evm.abi import encode
from x402core.evm.curve import N
from x402core.evm.secp256k1 import sign
from x402core.values import Millis, Network, Origin
from x402core.wire import siwe
from x402core.wire.headers import decode_header, encode_header
from x402core.wire.sign_in import (
    Advertised,
    Chain,
    Proof,
    SignIn,
    Unproved,
    advertise,
    advertised,
    check_sign_in,
    decode_proof,
    digest,
    encode_proof,
    message,
    prove,
    signed,
)

ORIGIN = Origin("https://api.example.com")
URI = "https://api.example.com/p"
NONCE = "a1b2c3d4e5f60718293a4b5c6d7e8f90"
ISSUED = Millis(1_788_220_800_000)  # 2026-09-01T00:00:00Z
NOW = Millis(ISSUED + 1000)
BASE, OTHER = Network("eip155:8453"), Network("eip155:1")
EXTENSION = advertise("api.example.com", URI, NONCE, ISSUED, (BASE, OTHER), "Sign in")


def asked(extension: Any = EXTENSION) -> Advertised:
    found = advertised(extension, "PAYMENT-REQUIRED")
    assert found is not None
    return found


def proved(**changes: Any) -> Proof:
    """Return a proof that was signed as it stands, after changes."""
    proof = prove(asked(), PAYER, origin=ORIGIN)
    assert isinstance(proof, Proof)
    proof = replace(proof, **changes)
    return signed(proof, sign(digest(proof), KEY))


def judged(proof: Proof, now: int = NOW, **more: Any) -> object:
    return check_sign_in(proof, origin=ORIGIN, now=Millis(now), **more)


def refused(proof: Proof, now: int = NOW, **more: Any) -> Reason | None:
    found = judged(proof, now, **more)
    return found.reason if isinstance(found, Refusal) else None


# --- the whole way ---------------------------------------------------------------------------------------------------


def test_ask_sign_send_judge() -> None:
    proof = prove(asked(), PAYER, origin=ORIGIN)
    assert isinstance(proof, Proof)
    header = encode_proof(signed(proof, sign(digest(proof), KEY)))
    found = judged(decode_proof(header))
    assert found == SignIn(PAYER, BASE, URI, NONCE, Millis(ISSUED + 300_000))


def test_the_message_to_the_byte() -> None:
    assert message(proved()) == (
        "api.example.com wants you to sign in with your Ethereum account:\n"
        "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266\n"
        "\n"
        "Sign in\n"
        "\n"
        "URI: https://api.example.com/p\n"
        "Version: 1\n"
        "Chain ID: 8453\n"
        "Nonce: a1b2c3d4e5f60718293a4b5c6d7e8f90\n"
        "Issued At: 2026-09-01T00:00:00.000Z\n"
        "Resources:\n"
        "- https://api.example.com/p"
    )


def test_without_a_statement_there_are_two_empty_lines() -> None:
    text = message(proved(statement="", resources=None))
    assert "\n0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266\n\n\nURI: " in text
    assert text.endswith("Issued At: 2026-09-01T00:00:00.000Z")
    assert message(proved(resources=())).endswith("Z\nResources:")


def test_the_rarer_members_in_their_order() -> None:
    proof = proved(expiration_time="2026-09-01T00:05:00Z", not_before="2026-09-01T00:00:00Z", request_id="r1")
    assert (
        "Issued At: 2026-09-01T00:00:00.000Z\nExpiration Time: 2026-09-01T00:05:00Z\n"
        "Not Before: 2026-09-01T00:00:00Z\nRequest ID: r1\nResources:\n"
    ) in message(proof)
    assert isinstance(judged(decode_proof(encode_proof(proof))), SignIn)


@given(st.text(st.characters(exclude_categories=["C", "Z"]), max_size=40))
def test_the_digest_is_what_personal_sign_hashes(statement: str) -> None:
    proof = replace(proved(), statement=statement)
    assert digest(proof) == bytes(_hash_eip191_message(encode_defunct(text=message(proof))))


def test_the_advertised_object() -> None:
    extension: Any = advertise(
        "h.example:8443", "https://h.example:8443/x?y", "abcdefgh", Millis(1), (BASE,), "", Millis(60_001)
    )
    found = extension["sign-in-with-x"]
    assert found["info"] == {
        "domain": "h.example:8443",
        "uri": "https://h.example:8443/x?y",
        "version": "1",
        "nonce": "abcdefgh",
        "issuedAt": "1970-01-01T00:00:00.001Z",
        "expirationTime": "1970-01-01T00:01:00.001Z",
        "resources": ["https://h.example:8443/x?y"],
    }
    assert found["supportedChains"] == [{"chainId": "eip155:8453", "type": "eip191"}]
    assert found["schema"]["required"] == [
        *("domain", "address", "uri", "version", "chainId", "type", "nonce", "issuedAt", "signature"),
    ]
    assert advertised({}, "body") is None
    assert advertised({"sign-in-with-x": None}, "body") is None


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("domain", {"domain": "other.example"}),
        ("domain", {"uri": "ftp://api.example.com"}),
        ("domain", {"uri": "https://api.example.com/\n"}),
        ("nonce", {"nonce": "short"}),
        ("nonce", {"nonce": "with-a-dash"}),
        ("statement", {"statement": "two\nlines"}),
        ("network", {"chains": ("solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp",)}),
        ("issued_at", {"issued_at": 10**18}),
        ("expires", {"expires": 10**18}),
    ],
)
def test_what_cannot_be_advertised(field: str, change: dict[str, Any]) -> None:
    good: dict[str, Any] = {"domain": "api.example.com", "uri": URI, "nonce": NONCE, "issued_at": ISSUED, "chains": (BASE,)}
    with pytest.raises(LocalProtocolError) as caught:
        advertise(**{**good, **change})
    assert caught.value.field == field


# --- the payer -------------------------------------------------------------------------------------------------------


def test_the_payer_takes_the_first_evm_chain_or_the_one_it_wants() -> None:
    solana = Chain("solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp", "ed25519", "siws")
    offer = replace(
        asked(), chains=(solana, Chain("eip155:x", "eip191"), Chain(BASE, "eip191", "eip1271"), Chain(OTHER, "eip191"))
    )
    first, second = prove(offer, PAYER, origin=ORIGIN), prove(offer, PAYER, OTHER, origin=ORIGIN)
    assert isinstance(first, Proof)
    assert isinstance(second, Proof)
    assert (first.chain, first.scheme, first.signature, second.chain) == (BASE, "eip1271", "", OTHER)
    assert prove(replace(offer, chains=(solana,)), PAYER, origin=ORIGIN) == Refusal(
        Reason.SIWX_UNSUPPORTED_CHAIN, "the server takes no sign-in of this network"
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"domain": "bank.example"}, Reason.SIWX_DOMAIN),
        ({"domain": "api.example.com:443"}, Reason.SIWX_DOMAIN),
        ({"domain": "bank.example", "uri": "https://bank.example/p"}, Reason.SIWX_DOMAIN),
        ({"uri": "https://bank.example/p"}, Reason.SIWX_URI),
        ({"uri": "http://api.example.com/p"}, Reason.SIWX_URI),
        ({"uri": "https://api.example.com:8443/p"}, Reason.SIWX_URI),
        ({"uri": "https://user@api.example.com/p"}, Reason.SIWX_URI),
    ],
)
def test_hostile_server_that_asks_to_sign_in_elsewhere(change: dict[str, Any], reason: Reason) -> None:
    found = prove(replace(asked(), **change), PAYER, origin=ORIGIN)
    assert isinstance(found, Refusal)
    assert found.reason is reason


@pytest.mark.parametrize(
    ("at", "change"),
    [
        ("/info", {"info": 7}),
        ("/info/domain", {"info": {"version": "1"}}),
        ("/info/version", {"info": {"version": "2"}}),
        ("/supportedChains", {"supportedChains": None}),
        ("/supportedChains/0", {"supportedChains": ["eip155:1"]}),
        ("/supportedChains/0/type", {"supportedChains": [{"chainId": "eip155:1"}]}),
    ],
)
def test_an_advertisement_that_is_none(at: str, change: dict[str, Any]) -> None:
    whole: Any = EXTENSION["sign-in-with-x"]
    with pytest.raises(RemoteProtocolError) as caught:
        advertised({"sign-in-with-x": {**whole, **change}}, "PAYMENT-REQUIRED")
    assert caught.value.pointer == f"/extensions/sign-in-with-x{at}"


def test_hostile_statement_that_forges_lines() -> None:
    forged = "Hello\n\nURI: https://bank.example"
    whole: Any = EXTENSION["sign-in-with-x"]
    with pytest.raises(RemoteProtocolError, match="one line"):
        asked({"sign-in-with-x": {**whole, "info": {**whole["info"], "statement": forged}}})
    document: Any = decode_header(encode_proof(proved()), source="")
    for key in ("statement", "uri", "nonce", "issuedAt", "requestId", "domain"):
        with pytest.raises(RemoteProtocolError) as caught:
            decode_proof(encode_header({**document, key: forged}))
        assert caught.value.pointer == f"/{key}"
    with pytest.raises(RemoteProtocolError, match="/resources"):
        decode_proof(encode_header({**document, "resources": ["https://a.example\n- https://b.example"]}))
    with pytest.raises(LocalProtocolError, match="one line"):
        replace(proved(), statement=forged)


# --- the server: order and codes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "now", "reason"),
    [
        ({"domain": "other.example"}, NOW, Reason.SIWX_DOMAIN),
        ({"domain": "API.example.com"}, NOW, Reason.SIWX_DOMAIN),
        ({"uri": "nonsense"}, NOW, Reason.SIWX_URI),
        ({"uri": "https://api.example.com.evil.example/"}, NOW, Reason.SIWX_URI),
        ({"issued_at": "yesterday"}, NOW, Reason.SIWX_ISSUED_AT),
        ({"issued_at": "2026-02-30T00:00:00Z"}, NOW, Reason.SIWX_ISSUED_AT),
        ({"issued_at": "2026-09-01"}, NOW, Reason.SIWX_ISSUED_AT),
        ({"issued_at": "2026-09-01T00:00:00"}, NOW, Reason.SIWX_ISSUED_AT),
        ({}, ISSUED + 300_001, Reason.SIWX_TOO_OLD),
        ({}, ISSUED - 1, Reason.SIWX_IN_FUTURE),
        ({"expiration_time": "soon"}, NOW, Reason.SIWX_EXPIRATION_TIME),
        ({"expiration_time": "2026-09-01T00:00:01Z"}, NOW, Reason.SIWX_EXPIRED),
        ({"not_before": "soon"}, NOW, Reason.SIWX_NOT_BEFORE),
        ({"not_before": "2026-09-01T00:00:01.001Z"}, NOW, Reason.SIWX_NOT_YET_VALID),
        ({"nonce": "short"}, NOW, Reason.SIWX_NONCE),
        ({"nonce": "with-a-dash"}, NOW, Reason.SIWX_NONCE),
        ({"type": "ed25519"}, NOW, Reason.SIWX_UNSUPPORTED_CHAIN),
    ],
)
def test_each_fault_has_its_code_although_the_signature_holds(change: dict[str, Any], now: int, reason: Reason) -> None:
    assert refused(proved(**change), now) is reason


def test_the_first_fault_is_the_one_that_is_told() -> None:
    proof = proved(domain="other.example", uri="nonsense", issued_at="never", expiration_time="never", nonce="x")
    order = [Reason.SIWX_DOMAIN, Reason.SIWX_URI, Reason.SIWX_ISSUED_AT, Reason.SIWX_EXPIRATION_TIME, Reason.SIWX_NONCE]
    good = proved()
    for reason, field in zip(order, ("domain", "uri", "issued_at", "expiration_time", "nonce"), strict=True):
        assert refused(proof) is reason
        proof = replace(proof, **{field: getattr(good, field)})


def test_a_proof_is_taken_until_it_ends() -> None:
    assert isinstance(judged(proved(), ISSUED), SignIn)
    assert isinstance(judged(proved(), ISSUED + 300_000), SignIn)
    early = judged(proved(expiration_time="2026-09-01T00:01:00Z"))
    assert isinstance(early, SignIn)
    assert early.until == ISSUED + 60_000
    late = judged(proved(expiration_time="2026-09-02T00:00:00Z", not_before="2026-09-01T00:00:01Z"), ISSUED + 1000)
    assert isinstance(late, SignIn)
    assert late.until == ISSUED + 300_000


@pytest.mark.parametrize("chain", ["solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp", "bip122:1", "eip156:1", "8453", "nonsense"])
def test_only_evm_signs_in_here(chain: str) -> None:
    assert refused(replace(proved(), chain=chain)) is Reason.SIWX_UNSUPPORTED_CHAIN


@pytest.mark.parametrize("chain", ["eip155:", "eip155:x", "eip155:01", "eip155:-1"])
def test_a_chain_id_that_is_none(chain: str) -> None:
    assert refused(replace(proved(), chain=chain)) is Reason.SIWX_CHAIN_ID


def test_only_the_advertised_chains() -> None:
    assert isinstance(judged(proved(), chains=(BASE,)), SignIn)
    assert refused(proved(), chains=(OTHER,)) is Reason.SIWX_UNSUPPORTED_CHAIN


@pytest.mark.parametrize(
    "change",
    [
        {"address": ACCOUNT1},
        {"uri": "https://api.example.com/other"},
        {"chain": OTHER},
        {"nonce": "b" * 32},
        {"issued_at": "2026-09-01T00:00:00Z"},  # the same time in another spelling
        {"statement": "Sign in."},
        {"statement": ""},
        {"request_id": "r"},
        {"resources": None},
        {"resources": ()},
        {"not_before": "2026-09-01T00:00:00Z"},
    ],
)
def test_replay_with_another_member(change: dict[str, Any]) -> None:
    assert refused(replace(proved(), **change)) is Reason.SIWX_SIGNATURE


def test_an_address_in_any_case_is_the_same_account() -> None:
    for address in (PAYER, "0x" + PAYER[2:].upper()):
        assert isinstance(judged(replace(proved(), address=address)), SignIn)


def test_signatures_no_key_makes() -> None:
    good = bytes.fromhex(proved().signature[2:])
    high = good[:32] + (N - int.from_bytes(good[32:64], "big")).to_bytes(32, "big") + bytes((55 - good[64],))
    for bad in (good[:64] + bytes((good[64] - 27,)), high, bytes(65), b""):
        for scheme in ("", "eip191", "eip1271", "eip6492"):
            assert refused(signed(proved(scheme=scheme), bad)) is Reason.SIWX_MALFORMED
    assert refused(replace(proved(), signature="0x123")) is Reason.SIWX_MALFORMED
    assert refused(replace(proved(), signature="z" * 88)) is Reason.SIWX_MALFORMED
    assert refused(replace(proved(), address="5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp")) is Reason.SIWX_MALFORMED


# --- contracts -------------------------------------------------------------------------------------------------------


def test_a_contracts_signature_needs_the_chain() -> None:
    proof = signed(proved(), b"made by a contract")
    found = judged(proof)
    assert isinstance(found, Unproved)
    assert (found.digest, found.signature) == (digest(proof), b"made by a contract")
    assert (found.sign_in.address, found.sign_in.network, found.sign_in.nonce) == (PAYER, BASE, NONCE)
    assert refused(replace(proof, scheme="eip191")) is Reason.SIWX_MALFORMED


def test_a_contract_that_a_key_speaks_for() -> None:
    owner = proved(address=ACCOUNT1)  # signed by PAYER, who owns the contract
    assert refused(owner) is Reason.SIWX_SIGNATURE
    assert isinstance(judged(replace(owner, scheme="eip1271")), Unproved)
    assert isinstance(judged(replace(proved(), scheme="eip1271")), SignIn)  # the key itself needs no chain
    other = signed(proved(scheme="eip1271"), b"\x20" * 65)  # such as a Safe makes
    assert isinstance(judged(other), Unproved)


def test_a_wrapped_signature_is_unwrapped() -> None:
    wrapped = encode(("address", "bytes", "bytes"), (ACCOUNT1, b"make", b"inner")) + bytes.fromhex("6492" * 16)
    found = judged(signed(proved(scheme="eip6492"), wrapped))
    assert isinstance(found, Unproved)
    assert found.signature == b"inner"
    assert refused(signed(proved(scheme="eip6492"), b"junk" + bytes.fromhex("6492" * 16))) is Reason.SIWX_MALFORMED


# --- the header and the times ----------------------------------------------------------------------------------------


def test_the_header_has_the_specifications_members_and_no_nulls() -> None:
    document: Any = decode_header(encode_proof(proved()), source="")
    assert list(document) == [
        *("domain", "address", "statement", "uri", "version", "chainId", "type", "nonce", "issuedAt", "resources", "signature"),
    ]
    assert decode_proof(encode_header({**document, "requestId": None, "notBefore": ""})) == proved()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *[(key, None) for key in ("domain", "address", "uri", "chainId", "type", "nonce", "issuedAt", "signature", "version")],
        *(("version", 1), ("version", "2"), ("statement", 7), ("resources", "x"), ("resources", [7]), ("resources", [""])),
        *(("domain", "x" * 256), ("signature", "0x" + "0" * 9000), ("address", "")),
    ],
)
def test_a_header_that_is_none(key: str, value: Any) -> None:
    document: Any = decode_header(encode_proof(proved()), source="")
    with pytest.raises(RemoteProtocolError) as caught:
        decode_proof(encode_header({**document, key: value}))
    assert caught.value.pointer.startswith(f"/{key}")
    assert caught.value.source == "SIGN-IN-WITH-X"


@pytest.mark.parametrize(
    ("text", "when"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01t00:00:00.5z", 500),
        ("1970-01-01T00:00:00.0019Z", 1),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1969-12-31T19:30:00-04:30", 0),
        ("2026-09-01T00:00:00.000Z", ISSUED),
        ("9999-12-31T23:59:59.999999999Z", 253402300799999),
        ("1970-01-01T00:00:60Z", None),
        ("1970-01-01T24:00:00Z", None),
        ("0000-01-01T00:00:00Z", None),
        ("1970-01-01 00:00:00Z", None),
        ("1970-01-01T00:00:00.Z", None),
        ("1970-01-01T00:00:00+25:00", None),
        ("1970-01-01T00:00:00+00:60", None),
        ("١٩٧٠-01-01T00:00:00Z", None),
        ("1970-01-01T00:00:00Z\n", None),
        ("0", None),
    ],
)
def test_times(text: str, when: int | None) -> None:
    assert siwe.read(text) == when


@given(st.integers(0, 253402300799999))
def test_a_time_written_is_read(when: int) -> None:
    assert siwe.read(siwe.written(Millis(when), "now")) == when
