"""The one file that touches pyrevm: state, and execution of one message, in our own types.

What pyrevm (0.3.7, revm 8) does not do, and what we make of it:

* It keeps every transaction of its life in one open journal.  Accounts and slots stay warm from one transaction to the
  next and ``original`` storage values are those of the very beginning, so gas is lower than on a real chain (a
  ``transferWithAuthorization`` about 55k instead of 64k to 86k).  Results, logs and balances are exact.
* ``BASEFEE`` reads 0 and ``BLOCKHASH`` a made-up value; there is no EIP-7702.  Use anvil where those matter.
* Its own checkpoints do not cover balances, code or nonces set from outside; :mod:`.history` replays instead.
* A revert is an exception whose output is only in its text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType
from typing import Any, Final

from x402core.evm.keccak import keccak
from x402core.evm.transaction import AccessList
from x402core.values import Address

from .errors import DevnetUnavailable, RpcError

__all__ = ["GAS_LIMIT", "BlockContext", "Log", "Message", "Outcome", "Vm"]

GAS_LIMIT: Final = 30_000_000
"""Gas of one block, and the most one call may use."""
_EMPTY_HASH: Final = keccak(b"")
_OUTPUT: Final = re.compile(r"Revert \{ gas_used: [0-9]+, output: 0x([0-9a-f]*) \}")
_REFUSALS: Final = (
    ("LackOfFundForMaxFee", "insufficient funds for gas * price + value"),
    ("RejectCallerWithCode", "sender not an eoa"),
    ("CallGasCostMoreThanGasLimit", "intrinsic gas too low"),
    ("CreateInitCodeSizeLimit", "max initcode size exceeded"),
)


@dataclass(frozen=True, slots=True)
class BlockContext:
    """What a contract can read of the block it runs in; ``timestamp`` in seconds."""

    number: int
    timestamp: int
    coinbase: Address


@dataclass(frozen=True, slots=True)
class Message:
    """One call (or, without ``to``, one creation); ``value`` and ``gas_price`` in wei."""

    sender: Address
    to: Address | None
    data: bytes = b""
    value: int = 0
    gas: int = GAS_LIMIT
    gas_price: int = 0
    access_list: AccessList = ()


@dataclass(frozen=True, slots=True)
class Log:
    """One event: the emitting contract, its topics (0x hex, 32 bytes each) and its data."""

    address: Address
    topics: tuple[str, ...]
    data: bytes


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one message did; ``halt`` names an exceptional stop (out of gas, invalid opcode), "" otherwise."""

    success: bool
    gas_used: int
    gas_refunded: int = 0
    output: bytes = b""
    logs: tuple[Log, ...] = ()
    created: Address | None = None
    halt: str = ""


class Vm:
    """The state of a chain and the machine that changes it.  Not thread-safe: the chain's lock is around it.

    Raises: DevnetUnavailable when pyrevm is missing.
    """

    def __init__(self, chain_id: int) -> None:
        try:
            self._lib: Any = import_module("pyrevm")
        except ImportError as error:
            raise DevnetUnavailable(
                "the embedded chain needs pyrevm (Python 3.11, 3.12): pip install 'x402core[demo]', or give a node: anvil"
            ) from error
        config = self._lib.Env(cfg=self._lib.CfgEnv(chain_id=chain_id))
        self._evm: Any = self._lib.EVM(env=config, gas_limit=GAS_LIMIT, spec_id="CANCUN")
        self._depth: int = self._evm.journal_depth
        self._codes: dict[bytes, bytes] = {_EMPTY_HASH: b""}

    # ------------------------------------------------------------ state

    def balance(self, address: Address) -> int:
        """Return an account's wei."""
        return int(self._evm.get_balance(address))

    def nonce(self, address: Address) -> int:
        """Return the number of transactions (or creations, for a contract) of an account."""
        return int(self._evm.basic(address).nonce)

    def code(self, address: Address) -> bytes:
        """Return an account's code, b"" for none."""
        info = self._evm.basic(address)
        key = bytes(info.code_hash)
        if key not in self._codes:
            raw = bytes(self._evm.get_code(address) or b"")
            while keccak(raw) != key and raw:
                raw = raw[:-1]  # revm pads code it has analysed with zeros
            self._codes[key] = raw
        return self._codes[key]

    def storage(self, address: Address, slot: int) -> int:
        """Return one 256-bit storage word."""
        return int(self._evm.storage(address, slot))

    def set_balance(self, address: Address, wei: int) -> None:
        """Set an account's wei."""
        self._evm.set_balance(address, wei)

    def set_nonce(self, address: Address, nonce: int) -> None:
        """Set an account's nonce."""
        self._insert(address, nonce, self.code(address))

    def set_code(self, address: Address, code: bytes) -> None:
        """Set an account's code."""
        self._insert(address, self.nonce(address), code)

    def set_storage(self, address: Address, slot: int, word: int) -> None:
        """Set one 256-bit storage word."""
        self._evm.insert_account_storage(address, slot, word)

    def _insert(self, address: Address, nonce: int, code: bytes) -> None:
        info = self._lib.AccountInfo(balance=self.balance(address), nonce=nonce, code=code or None)
        self._evm.insert_account_info(address, info)

    # ------------------------------------------------------------ execution

    def execute(self, block: BlockContext, message: Message) -> Outcome:
        """Run a message for good.  A creation takes the sender's nonce and raises it; a call does not touch it."""
        outcome = self._run(block, message)
        self._settle(self._depth)
        return outcome

    def call(self, block: BlockContext, message: Message, codes: Mapping[Address, bytes] = MappingProxyType({})) -> Outcome:
        """Run a message, accounts having ``codes`` in place of their own, and undo all it did.

        A sender with code is treated as if it had none, as nodes do for eth_call; a call back into it finds no code.
        """
        lent = {**codes, message.sender: b""}
        own = {account: code for account in lent if (code := self.code(account)) != lent[account]}
        for account in own:
            self.set_code(account, lent[account])
        checkpoint = self._evm.snapshot()
        try:
            return self._run(block, message)
        finally:
            self._settle(self._depth + 1)
            self._evm.revert(checkpoint)
            self._settle(self._depth)
            for account, code in own.items():
                self.set_code(account, code)

    def _settle(self, depth: int) -> None:
        """Close checkpoints that pyrevm left open; 1,024 of them would end in "call too deep"."""
        while self._evm.journal_depth > depth:
            self._evm.commit()

    def _run(self, block: BlockContext, message: Message) -> Outcome:
        self._evm.set_block_env(
            self._lib.BlockEnv(
                number=block.number,
                timestamp=block.timestamp,
                coinbase=block.coinbase,
                prevrandao=bytes(32),
                gas_limit=GAS_LIMIT,
            )
        )
        slots = [(account, [int(key, 16) for key in keys]) for account, keys in message.access_list]
        self._evm.set_tx_env(self._lib.TxEnv(access_list=slots))
        output, created = b"", None
        try:
            if message.to is None:
                created = Address(str(self._create(message)).lower())
            else:
                output = bytes(self._call(message, message.to))
        except RuntimeError as error:
            return self._failure(str(error))
        finally:
            self._evm.reset_transient_storage()
        result = self._evm.result
        if created is not None:
            output = self.code(created)
        return Outcome(True, int(result.gas_used), int(result.gas_refunded), output, tuple(map(_log, result.logs)), created)

    def _create(self, message: Message) -> Any:
        return self._evm.deploy(message.sender, message.data, message.value, message.gas)

    def _call(self, message: Message, to: Address) -> Any:
        return self._evm.message_call(
            message.sender, to, message.data, message.value, gas=message.gas, gas_price=message.gas_price
        )

    def _failure(self, text: str) -> Outcome:
        result = self._evm.result
        if result is None:  # refused before it ran
            raise RpcError(next((ours for theirs, ours in _REFUSALS if theirs in text), f"invalid transaction: {text}"))
        match = _OUTPUT.search(text)
        if match is not None:
            return Outcome(False, int(result.gas_used), output=bytes.fromhex(match[1]))
        return Outcome(False, int(result.gas_used), halt=_halt(str(result.reason)))


def _log(raw: Any) -> Log:
    topics, data = raw.data
    return Log(Address(str(raw.address).lower()), tuple(_word(topic) for topic in topics), bytes(data))


def _word(topic: Any) -> str:
    return "0x" + (topic.hex() if isinstance(topic, bytes) else str(topic).removeprefix("0x"))


def _halt(reason: str) -> str:
    """Spell revm's reason as go-ethereum does where clients look at it."""
    known = {"OutOfGas": "out of gas", "InvalidFEOpcode": "invalid opcode: INVALID", "OpcodeNotFound": "invalid opcode"}
    return next((text for name, text in known.items() if reason.startswith(name)), reason)
