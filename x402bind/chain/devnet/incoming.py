"""A signed transaction as a node sees it: decoded, its sender recovered, its fees in one form."""

from __future__ import annotations

from dataclasses import dataclass

from x402core.errors import RemoteProtocolError
from x402core.evm import rlp
from x402core.evm.transaction import AccessList, Transaction, decode_any, transaction_hash
from x402core.values import UINT256_MAX, Address, Hash32

from .errors import RpcError

__all__ = ["Incoming", "read"]


@dataclass(frozen=True, slots=True)
class Incoming:
    """A transaction with its sender; fees in wei per gas, a legacy ``gasPrice`` standing for both of them."""

    raw: bytes
    hash: Hash32
    kind: int
    chain_id: int | None
    sender: Address
    nonce: int
    to: Address | None
    value: int
    data: bytes
    gas: int
    max_fee: int
    max_tip: int
    access_list: AccessList
    v: int
    r: int
    s: int

    def tip(self, base_fee: int) -> int:
        """Return what the block's producer gets per gas, in wei (EIP-1559)."""
        return min(self.max_tip, self.max_fee - base_fee)

    def price(self, base_fee: int) -> int:
        """Return what the sender pays per gas, in wei."""
        return base_fee + self.tip(base_fee)

    @property
    def most(self) -> int:
        """The most wei the transaction can cost its sender."""
        return self.gas * self.max_fee + self.value


def read(raw: bytes) -> Incoming:
    """Decode a raw transaction (legacy, type 1 or type 2) and recover who signed it.

    Raises: RpcError for bytes that are no transaction, and for a signature nobody can have made.
    """
    try:
        tx, sender = decode_any(raw)
    except RemoteProtocolError as error:
        raise RpcError(error.text) from None
    if isinstance(tx, Transaction):
        kind, max_fee, max_tip = 2, tx.max_fee, tx.max_priority_fee
    else:
        kind, max_fee, max_tip = tx.kind, tx.gas_price, tx.gas_price
    fields = rlp.decode(raw[1:] if kind else raw)
    assert isinstance(fields, tuple)  # decode_any has seen to it
    v, r, s = (rlp.to_int(item, UINT256_MAX, name) for item, name in zip(fields[-3:], "vrs", strict=True))
    return Incoming(
        raw=raw,
        hash=transaction_hash(raw),
        kind=kind,
        chain_id=tx.chain_id,
        sender=sender,
        nonce=tx.nonce,
        to=tx.to,
        value=tx.value,
        data=tx.data,
        gas=tx.gas,
        max_fee=max_fee,
        max_tip=max_tip,
        access_list=tx.access_list,
        v=v,
        r=r,
        s=s,
    )
