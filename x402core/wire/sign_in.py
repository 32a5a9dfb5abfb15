"""The ``sign-in-with-x`` extension (x402.md 3.4): whoever paid before signs a message instead of paying again.

The signed text is EIP-4361's, the proof of it travels as base64 of JSON in SIGN-IN-WITH-X.  A proof keeps every member as
it was written, because that is what was signed; :func:`check_sign_in` alone reads meaning into it.  An EVM key's signature is
proved here; a contract's only the chain can prove (:class:`Unproved`); Solana's are not spoken here.

Whether a nonce was seen before is the caller's to say, and only after the signature held: nobody burns another's nonce.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from x402core.errors import LocalProtocolError, Reason, Refusal, RemoteProtocolError
from x402core.evm import secp256k1
from x402core.evm.address import checksum
from x402core.evm.signatures import DeploylessSignature, EoaSignature, classify
from x402core.values import Address, Millis, Network, Origin, chain_id, parse_address, parse_hex, parse_network, parse_origin

from .headers import decode_header, encode_header
from .json import Fields, Json, Writable
from .siwe import VERSION, Proof, digest, message, read, written

__all__ = [
    "DYNAMIC",
    "KEY",
    "MOST_AGE",
    "SIGN_IN_WITH_X",
    "Advertised",
    "Chain",
    "Proof",
    "SignIn",
    "Unproved",
    "advertise",
    "advertised",
    "check_sign_in",
    "decode_proof",
    "digest",
    "encode_proof",
    "message",
    "prove",
    "signed",
]

KEY: Final = "sign-in-with-x"
SIGN_IN_WITH_X: Final = "SIGN-IN-WITH-X"
DYNAMIC: Final = frozenset(("nonce", "issuedAt", "expirationTime"))
MOST_AGE: Final = 300_000
"""Milliseconds after its challenge was issued that a proof is taken."""
_EVM: Final = "eip155:"
_EIP191: Final = "eip191"
_ED25519: Final = "ed25519"
_CONTRACTS: Final = ("eip1271", "eip6492")
_NONCE = re.compile(r"[a-zA-Z0-9]{8,256}", re.ASCII)
_SIGNED: Final = ("domain", "address", "uri", "version", "chainId", "type", "nonce", "issuedAt", "signature")
_SCHEMA: Final[dict[str, Json]] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {
        **{name: {"type": "string"} for name in _SIGNED},
        **{name: {"type": "string"} for name in ("statement", "expirationTime", "notBefore", "requestId", "signatureScheme")},
        "resources": {"type": "array", "items": {"type": "string", "format": "uri"}},
    },
    "required": list(_SIGNED),
}


@dataclass(frozen=True, slots=True)
class Chain:
    """An account's chain (CAIP-2), how it signs (``eip191`` or ``ed25519``), and the variant of that, "" for any."""

    network: str
    type: str
    scheme: str = ""


@dataclass(frozen=True, slots=True)
class Advertised:
    """What a server asks to have signed, as it wrote it; ``None`` and "" are members it left out."""

    domain: str
    uri: str
    nonce: str
    issued_at: str
    chains: tuple[Chain, ...]
    statement: str = ""
    expiration_time: str = ""
    not_before: str = ""
    request_id: str = ""
    resources: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class SignIn:
    """Who signed in: an account of a network, in answer to ``nonce``.

    After ``until`` (Unix milliseconds) the proof is taken no more, and its nonce need not be remembered.
    """

    address: Address
    network: Network
    uri: str
    nonce: str
    until: Millis


@dataclass(frozen=True, slots=True)
class Unproved:
    """A sign-in that only its account's contract can prove: ask it ``isValidSignature(digest, signature)`` on that network.

    On that network and no other: the same address on another chain may be another's.  ``signature`` is without its ERC-6492
    wrapping; an account that has no code is refused with ``Reason.SIWX_SIGNATURE``.
    """

    sign_in: SignIn
    digest: bytes
    signature: bytes


# --- the challenge ---------------------------------------------------------------------------------------------------


def advertise(
    domain: str,
    uri: str,
    nonce: str,
    issued_at: Millis,
    chains: Sequence[Network],
    statement: str = "",
    expires: Millis | None = None,
) -> Mapping[str, Json]:
    """Return the extension of a challenge that takes a sign-in, times in Unix milliseconds, for EVM ``chains``.

    ``domain`` is the host (and port) of ``uri``; ``nonce`` 8 or more letters and digits that nobody can guess.
    Raises: LocalProtocolError naming the argument.  Source: x402.md 3.4.
    """
    origin = _origin(uri)
    if origin is None or _authority(origin) != domain:
        raise LocalProtocolError("write the host (and port) of the URI", field="domain")
    if _NONCE.fullmatch(nonce) is None:
        raise LocalProtocolError("write 8 letters and digits or more", field="nonce")
    if not (statement.isascii() and statement.isprintable()):
        raise LocalProtocolError("write one line of printable ASCII", field="statement")
    for chain in chains:
        chain_id(chain)
    info: dict[str, Json] = {"domain": domain, "uri": uri, "version": VERSION, "nonce": nonce}
    info["issuedAt"] = written(issued_at, "issued_at")
    if statement:
        info["statement"] = statement
    if expires is not None:
        info["expirationTime"] = written(expires, "expires")
    info["resources"] = [uri]
    supported: list[Json] = [{"chainId": chain, "type": _EIP191} for chain in chains]
    return {KEY: {"info": info, "supportedChains": supported, "schema": _SCHEMA}}


def _origin(uri: str) -> Origin | None:
    """Return where a URI is at; None for what is no http(s) URL, or has what URL parsers would strip."""
    try:
        return parse_origin(uri) if uri.isprintable() else None
    except RemoteProtocolError:
        return None


def _authority(origin: Origin) -> str:
    return origin.partition("://")[2]


def advertised(extensions: Mapping[str, Json], source: str) -> Advertised | None:
    """Return what a challenge asks to have signed, None when it takes no sign-in.

    Raises: RemoteProtocolError, with the pointer of the member at fault.  Source: x402.md 3.4.
    """
    if extensions.get(KEY) is None:
        return None
    fields = Fields(extensions[KEY], f"/extensions/{KEY}", source)
    info = fields.object("info")
    _version(info)
    return Advertised(
        domain=_line(info, "domain", 255),
        uri=_line(info, "uri", 2048),
        nonce=_line(info, "nonce", 256),
        issued_at=_line(info, "issuedAt", 64),
        chains=tuple([_chain(entry) for entry in fields.objects("supportedChains", most=64)]),
        statement=_line_or(info, "statement", 1024),
        expiration_time=_line_or(info, "expirationTime", 64),
        not_before=_line_or(info, "notBefore", 64),
        request_id=_line_or(info, "requestId", 256),
        resources=_resources(info),
    )


def _chain(entry: Fields) -> Chain:
    return Chain(_line(entry, "chainId", 64), _line(entry, "type", 32), _line_or(entry, "signatureScheme", 32))


def _version(fields: Fields) -> None:
    if fields.text("version", most=8) != VERSION:
        raise fields.error("version", f'expected "{VERSION}"')


def _line(fields: Fields, key: str, most: int) -> str:
    text = fields.text(key, most=most)
    if not text or not text.isprintable():
        raise fields.error(key, "expected one line of printable characters")
    return text


def _line_or(fields: Fields, key: str, most: int) -> str:
    return _line(fields, key, most) if fields.document.get(key) not in (None, "") else ""


def _resources(fields: Fields) -> tuple[str, ...] | None:
    if "resources" not in fields:
        return None
    found = fields.texts("resources", most=64)
    if not all(uri and len(uri) <= 2048 and uri.isprintable() for uri in found):
        raise fields.error("resources", "expected URIs, each one line of printable characters")
    return tuple(found)


# --- the payer's answer ----------------------------------------------------------------------------------------------


def prove(asked: Advertised, address: Address, network: Network | None = None, *, origin: Origin) -> Proof | Refusal:
    """Return the proof to sign for an account on an advertised network (None: the first EVM one), still without signature.

    ``origin`` is where the challenge came from.  One that asks to sign in elsewhere is refused: it would hand that sign-in to
    whoever asked.  So is one that takes no sign-in of the network.  Source: x402.md 3.4.
    """
    if asked.domain != _authority(origin):
        return Refusal(Reason.SIWX_DOMAIN, "the server asks to sign in at another host than its own")
    if _origin(asked.uri) != origin:
        return Refusal(Reason.SIWX_URI, "the server asks to sign in at another origin than its own")
    for chain in asked.chains:
        if chain.type == _EIP191 and _is_evm(chain.network) and network in (None, chain.network):
            break
    else:
        return Refusal(Reason.SIWX_UNSUPPORTED_CHAIN, "the server takes no sign-in of this network")
    return Proof(
        domain=asked.domain,
        address=checksum(address),
        uri=asked.uri,
        chain=chain.network,
        type=chain.type,
        nonce=asked.nonce,
        issued_at=asked.issued_at,
        statement=asked.statement,
        expiration_time=asked.expiration_time,
        not_before=asked.not_before,
        request_id=asked.request_id,
        resources=asked.resources,
        scheme=chain.scheme,
    )


def _is_evm(network: str) -> bool:
    try:
        return parse_network(network).startswith(_EVM)
    except RemoteProtocolError:
        return False


def signed(proof: Proof, signature: bytes) -> Proof:
    """Return a proof with its signature."""
    return replace(proof, signature="0x" + signature.hex())


# --- the header ------------------------------------------------------------------------------------------------------


def encode_proof(proof: Proof) -> str:
    """Write a proof as the text of a SIGN-IN-WITH-X header.  Source: x402.md 3.4."""
    written: dict[str, Writable] = {
        "domain": proof.domain,
        "address": proof.address,
        "statement": proof.statement or None,
        "uri": proof.uri,
        "version": VERSION,
        "chainId": proof.chain,
        "type": proof.type,
        "nonce": proof.nonce,
        "issuedAt": proof.issued_at,
        "expirationTime": proof.expiration_time or None,
        "notBefore": proof.not_before or None,
        "requestId": proof.request_id or None,
        "resources": proof.resources,
        "signatureScheme": proof.scheme or None,
        "signature": proof.signature,
    }
    return encode_header({key: value for key, value in written.items() if value is not None})


def decode_proof(text: str) -> Proof:
    """Read a SIGN-IN-WITH-X header, each member a line of text; what it says is for :func:`check_sign_in` to judge.

    Raises: RemoteProtocolError, with the pointer of the member at fault.  Source: x402.md 3.4.
    """
    fields = Fields(decode_header(text, source=SIGN_IN_WITH_X), "", SIGN_IN_WITH_X)
    _version(fields)
    return Proof(
        domain=_line(fields, "domain", 255),
        address=_line(fields, "address", 64),
        uri=_line(fields, "uri", 2048),
        chain=_line(fields, "chainId", 64),
        type=_line(fields, "type", 32),
        nonce=_line(fields, "nonce", 256),
        issued_at=_line(fields, "issuedAt", 64),
        statement=_line_or(fields, "statement", 1024),
        expiration_time=_line_or(fields, "expirationTime", 64),
        not_before=_line_or(fields, "notBefore", 64),
        request_id=_line_or(fields, "requestId", 256),
        resources=_resources(fields),
        scheme=_line_or(fields, "signatureScheme", 32),
        signature=_line(fields, "signature", 8192),
    )


# --- the judgement ---------------------------------------------------------------------------------------------------


def check_sign_in(
    proof: Proof, *, origin: Origin, now: Millis, chains: Collection[Network] | None = None
) -> SignIn | Unproved | Refusal:
    """Judge a proof for a server at ``origin`` (Unix milliseconds ``now``), in the specification's order and codes.

    ``chains`` are the networks that were advertised (None: any): a contract's word counts only where the account is its own.
    What is left to the caller: that the nonce is new (``Reason.SIWX_NONCE``), and what an :class:`Unproved` needs.
    """
    if proof.domain != _authority(origin):
        return Refusal(Reason.SIWX_DOMAIN)
    if _origin(proof.uri) != origin:
        return Refusal(Reason.SIWX_URI)
    until = _window(proof, now)
    if isinstance(until, Refusal):
        return until
    if _NONCE.fullmatch(proof.nonce) is None:
        return Refusal(Reason.SIWX_NONCE)
    if not proof.chain.startswith(_EVM) or proof.type != _EIP191 or (chains is not None and proof.chain not in chains):
        return Refusal(Reason.SIWX_UNSUPPORTED_CHAIN)
    if not _is_evm(proof.chain):
        return Refusal(Reason.SIWX_CHAIN_ID)
    return _by_whom(proof, until)


def _window(proof: Proof, now: Millis) -> Millis | Refusal:
    """Return when a proof ends to be taken (Unix milliseconds), or why it is not taken now."""
    issued = read(proof.issued_at)
    if issued is None:
        return Refusal(Reason.SIWX_ISSUED_AT)
    if now - issued > MOST_AGE:
        return Refusal(Reason.SIWX_TOO_OLD)
    if issued > now:
        return Refusal(Reason.SIWX_IN_FUTURE)
    until = issued + MOST_AGE
    if proof.expiration_time:
        expires = read(proof.expiration_time)
        if expires is None:
            return Refusal(Reason.SIWX_EXPIRATION_TIME)
        if expires <= now:
            return Refusal(Reason.SIWX_EXPIRED)
        until = min(until, expires)
    if proof.not_before:
        begins = read(proof.not_before)
        if begins is None:
            return Refusal(Reason.SIWX_NOT_BEFORE)
        if begins > now:
            return Refusal(Reason.SIWX_NOT_YET_VALID)
    return Millis(until)


def _by_whom(proof: Proof, until: Millis) -> SignIn | Unproved | Refusal:
    try:
        address, signature = parse_address(proof.address), parse_hex(proof.signature, most=4096)
    except RemoteProtocolError:
        return Refusal(Reason.SIWX_MALFORMED)
    who = SignIn(address, Network(proof.chain), proof.uri, proof.nonce, until)
    hashed = digest(proof)
    contract = proof.scheme in _CONTRACTS
    try:
        kind = classify(signature)
        if isinstance(kind, EoaSignature) and secp256k1.recover(hashed, signature) == address:
            return who
    except RemoteProtocolError:
        # a key's signature in another spelling must not pass for a contract's
        if not contract or len(signature) != 65 or signature[64] in (0, 1, 27, 28):
            return Refusal(Reason.SIWX_MALFORMED)
        return Unproved(who, hashed, signature)
    if isinstance(kind, EoaSignature) and not contract:
        return Refusal(Reason.SIWX_SIGNATURE)
    if proof.scheme == _EIP191:
        return Refusal(Reason.SIWX_MALFORMED)
    return Unproved(who, hashed, kind.inner if isinstance(kind, DeploylessSignature) else signature)
