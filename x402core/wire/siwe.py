"""The text a wallet signs to sign in (EIP-4361), to the byte, its hash (EIP-191), and the times written in it (RFC 3339).

No member may hold a line break: else one signed text could be two messages.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from x402core.errors import LocalProtocolError, Reason, RemoteProtocolError
from x402core.evm.address import checksum
from x402core.evm.keccak import keccak
from x402core.values import Millis, chain_id, parse_address, parse_network

__all__ = ["VERSION", "Proof", "digest", "message", "read", "written"]

VERSION: Final = "1"
_EVM: Final = "eip155:"
_TIME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt]([0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,9}))?(?:[Zz]|([-+])([0-9]{2}):([0-9]{2}))",
    re.ASCII,
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Proof:
    """A message and its signature, member by member as written; the signature is "" until it is signed."""

    domain: str
    address: str
    uri: str
    chain: str
    type: str
    nonce: str
    issued_at: str
    statement: str = ""
    expiration_time: str = ""
    not_before: str = ""
    request_id: str = ""
    resources: tuple[str, ...] | None = None
    scheme: str = ""
    signature: str = ""

    def __post_init__(self) -> None:
        texts = (self.domain, self.address, self.uri, self.chain, self.nonce, self.issued_at, self.statement)
        rare = (self.expiration_time, self.not_before, self.request_id, *(self.resources or ()))
        if not all(map(str.isprintable, texts + rare)):
            raise LocalProtocolError("each member is one line of printable characters", field="proof")


def message(proof: Proof) -> str:
    """Return the text to sign (EIP-4361): LF between the lines, none at the end; two empty lines where no statement is.

    Raises: RemoteProtocolError for an address or a network that is not EVM.
    """
    address, network = parse_address(proof.address, "/address"), parse_network(proof.chain, "/chainId")
    if not network.startswith(_EVM):
        raise RemoteProtocolError("not an EVM network", pointer="/chainId", reason=Reason.SIWX_UNSUPPORTED_CHAIN)
    lines = [f"{proof.domain} wants you to sign in with your Ethereum account:", checksum(address), ""]
    lines += [proof.statement, ""] if proof.statement else [""]
    lines += [f"URI: {proof.uri}", f"Version: {VERSION}", f"Chain ID: {chain_id(network)}"]
    lines += [f"Nonce: {proof.nonce}", f"Issued At: {proof.issued_at}"]
    lines += [f"Expiration Time: {proof.expiration_time}"] if proof.expiration_time else []
    lines += [f"Not Before: {proof.not_before}"] if proof.not_before else []
    lines += [f"Request ID: {proof.request_id}"] if proof.request_id else []
    if proof.resources is not None:
        lines += ["Resources:", *[f"- {uri}" for uri in proof.resources]]
    return "\n".join(lines)


def digest(proof: Proof) -> bytes:
    """Return the 32 bytes that a key signs: :func:`message` as ``personal_sign`` hashes it (EIP-191, version 0x45).

    Raises: RemoteProtocolError as :func:`message` does.
    """
    text = message(proof).encode()
    return keccak(b"\x19Ethereum Signed Message:\n" + str(len(text)).encode() + text)


# --- times -----------------------------------------------------------------------------------------------------------


def written(when: Millis, field: str) -> str:
    """Return a Unix time in milliseconds as RFC 3339 in UTC.  Raises: LocalProtocolError naming ``field``."""
    try:
        return (_EPOCH + when * _MILLISECOND).strftime("%Y-%m-%dT%H:%M:%S.") + f"{when % 1000:03}Z"
    except OverflowError:
        raise LocalProtocolError("not a time between 1970 and 9999", field=field) from None


def read(text: str) -> Millis | None:
    """Return an RFC 3339 time in Unix milliseconds, rounded down; None for anything else."""
    found = _TIME.fullmatch(text)
    if found is None:
        return None
    try:
        local = datetime.fromisoformat(f"{found[1]}T{found[2]}+00:00")
    except ValueError:  # 30 February
        return None
    hours, minutes = int(found[5] or 0), int(found[6] or 0)
    if hours > 23 or minutes > 59:
        return None
    offset = (hours * 60 + minutes) * 60_000 * (-1 if found[4] == "-" else 1)
    return Millis((local - _EPOCH) // _MILLISECOND + int((found[3] or "").ljust(3, "0")[:3]) - offset)
