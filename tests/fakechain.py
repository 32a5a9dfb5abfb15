"""A Fake chain: one token's balances, EIP-3009 and EIP-2612 states, transaction numbers, a pool, blocks with time, and reorgs.

A model, for tests of order and loss; real contracts on a real EVM are in ``tests/chain``.  It checks signatures as the token
does, executes calldata as sent, and takes nothing on trust from the machines.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from tests.world import BLOCK, NETWORK, NOW, USDC
from x402core.commands import Receipts, Sent
from x402core.errors import RemoteProtocolError
from x402core.evm import digests, secp256k1
from x402core.evm.abi import decode, selector
from x402core.evm.transaction import Transaction, transaction_hash
from x402core.evm.transaction import decode as decode_transaction
from x402core.reads import (
    Allowance,
    AuthorizationState,
    AuthorizationTrace,
    BalanceOf,
    Facts,
    Log,
    PermitNonce,
    Read,
    Simulate,
    Simulated,
    TxReceipt,
)
from x402core.schemes.eip3009 import AUTHORIZATION_CANCELED, AUTHORIZATION_USED
from x402core.schemes.scheme import TRANSFER, topic
from x402core.values import Address, Hash32, Seconds, chain_id, seconds

__all__ = ["FakeChain", "Reverted"]

_TRANSFER_WITH = "transferWithAuthorization(address,address,uint256,uint256,uint256,bytes32,uint8,bytes32,bytes32)"
_PERMIT = "permit(address,address,uint256,uint256,uint8,bytes32,bytes32)"
_TRANSFER_FROM = "transferFrom(address,address,uint256)"
DOMAIN = digests.domain("USDC", "2", chain_id(NETWORK), USDC)
APPROVAL = Hash32("0x" + "8c" * 32)


class Reverted(Exception):
    """The token refused."""


@dataclass
class _State:
    """All that a block changes."""

    balances: dict[Address, int] = field(default_factory=dict)
    used: dict[tuple[Address, Hash32], Hash32] = field(default_factory=dict)
    nonces: dict[Address, int] = field(default_factory=dict)
    allowances: dict[tuple[Address, Address], int] = field(default_factory=dict)
    numbers: dict[Address, int] = field(default_factory=dict)
    receipts: dict[Hash32, TxReceipt] = field(default_factory=dict)


class FakeChain:
    """One chain with one token."""

    def __init__(self, balances: dict[Address, int]) -> None:
        self.state = _State(balances=dict(balances))
        self.number, self.time = BLOCK, seconds(NOW)
        self.pool: dict[tuple[Address, int], bytes] = {}
        self.past: list[tuple[_State, int, Seconds, list[bytes]]] = []
        self.base_fee = 0
        self.congested = False  # blocks come, and nobody's transactions are in them

    @property
    def total(self) -> int:
        """All money there is: it never changes."""
        return sum(self.state.balances.values())

    # ---------------------------------------------------------------------------------------------------------- sending

    def send(self, raws: Iterable[bytes]) -> Sent:
        """Take raw transactions into the pool, stopping at the first refusal."""
        for position, raw in enumerate(raws):
            transaction, sender = decode_transaction(raw)
            if transaction.nonce < self.state.numbers.get(sender, 0):
                if transaction_hash(raw) in self.state.receipts:
                    continue
                return Sent.NUMBER_TAKEN if position == 0 else Sent.UNCLEAR
            waiting = self.pool.get((sender, transaction.nonce))
            if (
                waiting is not None
                and waiting != raw
                and transaction.max_fee * 10 < decode_transaction(waiting)[0].max_fee * 11
            ):
                return Sent.REJECTED if position == 0 else Sent.UNCLEAR
            self.pool[sender, transaction.nonce] = raw
        return Sent.ACCEPTED

    def mine(self, seconds_later: int = 2) -> None:
        """Make a block of what can be mined, ``seconds_later`` after the last."""
        self.past.append((deepcopy(self.state), self.number, self.time, []))
        self.number += 1
        self.time = Seconds(self.time + seconds_later)
        while (
            ready := []
            if self.congested
            else [at for at in sorted(self.pool) if at[1] == self.state.numbers.get(at[0], 0) and self._priced(at)]
        ):
            for at in ready:
                raw = self.pool.pop(at)
                self.past[-1][3].append(raw)
                self._execute(raw)

    def _priced(self, at: tuple[Address, int]) -> bool:
        return decode_transaction(self.pool[at])[0].max_fee >= self.base_fee

    def reorg(self, depth: int, *, drop: bool = False) -> None:
        """Take back ``depth`` blocks; their transactions are in the pool again, unless nodes ``drop`` them."""
        for _ in range(depth):
            self.state, self.number, self.time, mined = self.past.pop()
            for raw in () if drop else mined:
                transaction, sender = decode_transaction(raw)
                self.pool[sender, transaction.nonce] = raw

    # -------------------------------------------------------------------------------------------------------- executing

    def _execute(self, raw: bytes) -> None:
        transaction, sender = decode_transaction(raw)
        ours = transaction_hash(raw)
        self.state.numbers[sender] = transaction.nonce + 1
        before = deepcopy(self.state)
        try:
            logs = self.call(transaction.to, transaction.data, sender, ours)
        except Reverted:
            self.state, logs = before, None
        self.state.receipts[ours] = TxReceipt(ours, logs is not None, self.number, logs or ())

    def call(self, to: Address | None, data: bytes, sender: Address, by: Hash32) -> tuple[Log, ...]:
        """Execute a call.  Raises: Reverted."""
        if to != USDC:
            return ()
        for name, action in ((_TRANSFER_WITH, self._with_authorization), (_PERMIT, self._permit), (_TRANSFER_FROM, self._from)):
            if data[:4] == selector(name):
                types = name[name.index("(") + 1 : -1].split(",")
                return action(sender, by, *decode(types, data[4:]))
        raise Reverted(data[:4].hex())

    def execute(self, permit: Any, offer: Any, by: Hash32) -> None:
        """Have a stranger execute an EIP-3009 authorization in a block of its own (a front-runner, another facilitator)."""
        from x402core.schemes import of

        (call,) = of(offer).calls(permit, offer)
        self.mine()
        logs = self.call(call.to, call.data, Address("0x" + "ee" * 20), by)
        self.state.receipts[by] = TxReceipt(by, True, self.number, logs)

    def cancel(self, payer: Address, nonce: Hash32, by: Hash32) -> None:
        """Have a payer cancel an authorization in a block of its own."""
        self.mine()
        self.state.used[payer, nonce] = by
        log = Log(USDC, (AUTHORIZATION_CANCELED, topic(payer), nonce), b"")
        self.state.receipts[by] = TxReceipt(by, True, self.number, (log,))

    def _with_authorization(self, sender: Address, by: Hash32, *args: Any) -> tuple[Log, ...]:
        payer, to, value, after, before, nonce, v, r, s = args
        name = Hash32("0x" + nonce.hex())
        if not after < self.time < before or (payer, name) in self.state.used:
            raise Reverted("authorization")
        digest = digests.transfer_authorization_digest(DOMAIN, payer, to, value, after, before, name)
        self._signed(digest, payer, r, s, v)
        self.state.used[payer, name] = by
        return (Log(USDC, (AUTHORIZATION_USED, topic(payer), name), b""), self._move(payer, to, value))

    def _permit(self, sender: Address, by: Hash32, *args: Any) -> tuple[Log, ...]:
        owner, spender, value, deadline, v, r, s = args
        nonce = self.state.nonces.get(owner, 0)
        if self.time > deadline:
            raise Reverted("deadline")
        self._signed(digests.permit_digest(DOMAIN, owner, spender, value, nonce, deadline), owner, r, s, v)
        self.state.nonces[owner] = nonce + 1
        self.state.allowances[owner, spender] = value
        return (Log(USDC, (APPROVAL, topic(owner), topic(spender)), value.to_bytes(32, "big")),)

    def _from(self, sender: Address, by: Hash32, *args: Any) -> tuple[Log, ...]:
        owner, to, value = args
        left = self.state.allowances.get((owner, sender), 0)
        if left < value:
            raise Reverted("allowance")
        self.state.allowances[owner, sender] = left - value
        return (self._move(owner, to, value),)

    def _signed(self, digest: bytes, by: Address, r: bytes, s: bytes, v: int) -> None:
        try:
            if secp256k1.recover(digest, r + s + bytes((v,))) == by:
                return
        except RemoteProtocolError:
            pass
        raise Reverted("signature")

    def _move(self, payer: Address, to: Address, value: int) -> Log:
        balances = self.state.balances
        if balances.get(payer, 0) < value:
            raise Reverted("balance")
        balances[payer] -= value
        balances[to] = balances.get(to, 0) + value
        return Log(USDC, (TRANSFER, topic(payer), topic(to)), value.to_bytes(32, "big"))

    # ---------------------------------------------------------------------------------------------------------- reading

    def facts(self, reads: Iterable[Read[Any]]) -> Facts:
        """Answer reads at the newest block."""
        return Facts(self.number, self.time, {read: self._answer(read) for read in reads})

    def _answer(self, read: Read[Any]) -> object:
        match read:
            case BalanceOf():
                return self.state.balances.get(read.owner, 0)
            case Allowance():
                return self.state.allowances.get((read.owner, read.spender), 0)
            case PermitNonce():
                return self.state.nonces.get(read.owner, 0)
            case AuthorizationState():
                return (read.authorizer, read.nonce) in self.state.used
            case AuthorizationTrace():
                by = self.state.used.get((read.authorizer, read.nonce))
                return None if by is None else self.state.receipts[by]
            case Simulate():
                return self._simulate(read)
        raise AssertionError(read)

    def _simulate(self, read: Simulate) -> Simulated:
        before = deepcopy(self.state)
        try:
            self.call(read.to, read.data, read.sender or Address("0x" + "00" * 20), Hash32("0x" + "00" * 32))
        except Reverted as why:
            return Simulated(False, str(why))
        finally:
            self.state = before
        return Simulated(True)

    def look(self, hashes: Iterable[Hash32]) -> Receipts:
        """Answer GetReceipts."""
        return Receipts(self.number, self.time, tuple(self.state.receipts.get(each) for each in hashes))

    def take_number(self, raw_or: Transaction, sender: Address) -> None:
        """Have a number used by somebody else who holds the account's key."""
        self.state.numbers[sender] = raw_or.nonce + 1
