"""Transactions as bytes: what is signed, what is broadcast, and who sent it.

We send one kind, EIP-1559 (type 2).  The embedded devnet is also sent others by the libraries people use with it, so
:func:`decode_any` reads legacy ones (EIP-155 and before) and type 1 (EIP-2930) too.  Decoding is strict, as the hash is
over the bytes: canonical RLP, exact lengths, low s (EIP-2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

from x402core.errors import LocalProtocolError, RemoteProtocolError
from x402core.values import UINT256_MAX, Address, Hash32

from . import rlp
from .address import address_bytes
from .keccak import keccak
from .secp256k1 import parse_signature, recover

__all__ = ["AccessList", "PricedTransaction", "Transaction", "decode", "decode_any", "transaction_hash"]

AccessList: TypeAlias = tuple[tuple[Address, tuple[Hash32, ...]], ...]
"""Contracts and their storage slots, declared ahead (EIP-2930)."""

_UINT64_MAX: Final = 2**64 - 1
_NARROW: Final = frozenset({"nonce", "gas"})  # 64 bits (EIP-2681); every other number has 256


@dataclass(frozen=True, slots=True)
class Transaction:
    """An EIP-1559 transaction: fees in wei per gas, value in wei; ``to`` None deploys ``data``.

    Raises: LocalProtocolError for a number out of range or an address that is none.
    """

    chain_id: int
    nonce: int
    max_priority_fee: int
    max_fee: int
    gas: int
    to: Address | None
    value: int = 0
    data: bytes = b""
    access_list: AccessList = ()

    def __post_init__(self) -> None:
        for name in ("chain_id", "nonce", "max_priority_fee", "max_fee", "gas", "value"):
            _check_range(name, getattr(self, name))
        _to_bytes(self.to)

    def signing_hash(self) -> bytes:
        """Return the 32-byte digest the sender signs."""
        return keccak(b"\x02" + rlp.encode(self._fields()))

    def sign_with(self, signature: bytes) -> bytes:
        """Return the raw transaction from a 65-byte signature over :meth:`signing_hash`.

        Raises: RemoteProtocolError (``Reason.SIGNATURE``) for a malformed signature: signers may be remote.
        """
        r, s, v = parse_signature(signature)
        return b"\x02" + rlp.encode((*self._fields(), v - 27, r, s))

    def _fields(self) -> tuple[rlp.Encodable, ...]:
        return (
            self.chain_id,
            self.nonce,
            self.max_priority_fee,
            self.max_fee,
            self.gas,
            _to_bytes(self.to),
            self.value,
            self.data,
            _access_bytes(self.access_list),
        )


@dataclass(frozen=True, slots=True)
class PricedTransaction:
    """A transaction with one gas price, only ever received: ``kind`` 0 (legacy) or 1 (EIP-2930).

    ``chain_id`` is None for a legacy transaction without replay protection (before EIP-155).
    """

    kind: int
    chain_id: int | None
    nonce: int
    gas_price: int
    gas: int
    to: Address | None
    value: int
    data: bytes
    access_list: AccessList = ()


def transaction_hash(raw: bytes) -> Hash32:
    """Return the hash a raw transaction is known by."""
    return Hash32("0x" + keccak(raw).hex())


def decode(raw: bytes) -> tuple[Transaction, Address]:
    """Return a raw EIP-1559 transaction and its sender.  Raises: RemoteProtocolError for any other bytes."""
    if raw[:1] != b"\x02":
        raise RemoteProtocolError("not an EIP-1559 transaction")
    fields = _list(rlp.decode(raw[1:]), 12)
    chain, nonce, tip, fee, gas = _numbers(fields[:5], ("chain_id", "nonce", "max_priority_fee", "max_fee", "gas"))
    (value,) = _numbers(fields[6:7], ("value",))
    to, data, access = _to(fields[5]), _data(fields[7]), _access(fields[8])
    transaction = Transaction(chain, nonce, tip, fee, gas, to, value, data, access)
    return transaction, _sender(transaction.signing_hash(), fields[9:])


def decode_any(raw: bytes) -> tuple[Transaction | PricedTransaction, Address]:
    """Return a raw transaction of type 2, 1 or legacy, and its sender.  Raises: RemoteProtocolError for other bytes."""
    kind = raw[:1]
    if kind == b"\x02":
        return decode(raw)
    if kind == b"\x01":
        return _decode_type1(raw)
    if kind >= b"\xc0":
        return _decode_legacy(raw)
    raise RemoteProtocolError("a transaction type that is not supported" if raw else "an empty transaction")


def _decode_type1(raw: bytes) -> tuple[PricedTransaction, Address]:
    fields = _list(rlp.decode(raw[1:]), 11)
    chain, nonce, price, gas = _numbers(fields[:4], ("chain_id", "nonce", "gas_price", "gas"))
    (value,) = _numbers(fields[5:6], ("value",))
    to, data, access = _to(fields[4]), _data(fields[6]), _access(fields[7])
    digest = keccak(b"\x01" + rlp.encode(fields[:8]))
    return PricedTransaction(1, chain, nonce, price, gas, to, value, data, access), _sender(digest, fields[8:])


def _decode_legacy(raw: bytes) -> tuple[PricedTransaction, Address]:
    fields = _list(rlp.decode(raw), 9)
    nonce, price, gas = _numbers(fields[:3], ("nonce", "gas_price", "gas"))
    value, v = _numbers((fields[4], fields[6]), ("value", "v"))
    chain: int | None
    signed: tuple[rlp.Encodable, ...] = fields[:6]
    if v in (27, 28):
        chain, parity = None, v - 27
    elif v >= 35:
        chain, parity = divmod(v - 35, 2)  # EIP-155: v = 35 + 2 * chain + parity
        signed = (*signed, chain, 0, 0)
    else:
        raise RemoteProtocolError("transaction: v is none of a legacy transaction")
    digest = keccak(rlp.encode(signed))
    sender = _sender(digest, (bytes((parity,)) if parity else b"", *fields[7:]))
    return PricedTransaction(0, chain, nonce, price, gas, _to(fields[3]), value, _data(fields[5])), sender


# --- parts ----------------------------------------------------------------------------------------------------------


def _check_range(name: str, number: int) -> None:
    if not isinstance(number, int) or not 0 <= number <= (_UINT64_MAX if name in _NARROW else UINT256_MAX):
        raise LocalProtocolError("out of range for a transaction", field=name)


def _to_bytes(to: Address | None) -> bytes:
    return b"" if to is None else address_bytes(to)


def _access_bytes(entries: AccessList) -> rlp.Encodable:
    return [(address_bytes(account), [bytes.fromhex(slot[2:]) for slot in slots]) for account, slots in entries]


def _list(item: rlp.Item, length: int) -> tuple[rlp.Item, ...]:
    if not isinstance(item, tuple) or len(item) != length:
        raise RemoteProtocolError(f"transaction: expected a list of {length} fields")
    return item


def _numbers(items: tuple[rlp.Item, ...], names: tuple[str, ...]) -> list[int]:
    pairs = zip(items, names, strict=True)
    return [rlp.to_int(item, _UINT64_MAX if name in _NARROW else UINT256_MAX, name) for item, name in pairs]


def _fixed(item: rlp.Item, length: int, what: str) -> str:
    if not isinstance(item, bytes) or len(item) != length:
        raise RemoteProtocolError(f"transaction: {what} is not {length} bytes")
    return "0x" + item.hex()


def _to(item: rlp.Item) -> Address | None:
    return None if item == b"" else Address(_fixed(item, 20, "to"))


def _data(item: rlp.Item) -> bytes:
    if not isinstance(item, bytes):
        raise RemoteProtocolError("transaction: data is a list")
    return item


def _access(item: rlp.Item) -> AccessList:
    if not isinstance(item, tuple):
        raise RemoteProtocolError("transaction: the access list is not a list")
    entries = []
    for entry in item:
        account, slots = _list(entry, 2)
        if not isinstance(slots, tuple):
            raise RemoteProtocolError("transaction: an access list's slots are not a list")
        keys = tuple([Hash32(_fixed(slot, 32, "a storage slot")) for slot in slots])
        entries.append((Address(_fixed(account, 20, "an access list's account")), keys))
    return tuple(entries)


def _sender(digest: bytes, signature: tuple[rlp.Item, ...]) -> Address:
    """Recover the sender from (yParity, r, s)."""
    parity = rlp.to_int(signature[0], 1, "y parity")
    r, s = (rlp.to_int(item, UINT256_MAX, name) for item, name in zip(signature[1:], "rs", strict=True))
    return recover(digest, r.to_bytes(32, "big") + s.to_bytes(32, "big") + bytes((27 + parity,)))
