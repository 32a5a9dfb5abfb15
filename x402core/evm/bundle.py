"""Several calls in one ``eth_call``, by creation code that makes them: for a simulation that needs a first step.

An ``eth_call`` without ``to`` runs its data as the creation code of a contract that never comes to be.  Ours calls each target
in turn, in one state, as one sender (the contract's own, new address), so that a wallet can be deployed and then used, with
no contract on the chain to help (x402.md 2.0 uses Multicall3, which not every chain has).

For each call, its calldata copied out of the code into memory at 0::

    62 <length>  PUSH3     62 <offset>  PUSH3     6000  PUSH1 0     39  CODECOPY          memory[0:length] = code[offset:]
    6000 6000  PUSH1 0 twice: no answer wanted    62 <length>  PUSH3    6000  PUSH1 0    its input: memory[0:length]
    6000  PUSH1 0: no value    73 <target>  PUSH20    5a  GAS: all there is    f1  CALL    leaves 1, or 0 when it failed
    50  POP (not after the last)

and at the end, with the last call's success on the stack::

    62 <success>  PUSH3  57  JUMPI
    3d 6000 6000 3e  RETURNDATACOPY all of the answer to 0     3d 6000 fd  REVERT with it
    5b  JUMPDEST <success>   6001 6000 52  MSTORE 1 at 0   6020 6000 f3  RETURN 32 bytes

A word of 1 may be a contract's code (EIP-3541 refuses only what begins with 0xef), and ``eth_call`` gives it back.
PUSH0 is not used: there are chains without it.

:func:`payment` is another kind: code lent to an account that exists, so that the call made is this account's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from x402core.errors import LocalProtocolError
from x402core.values import Address

from .abi import encode_call

__all__ = ["DONE", "MOST", "UNPAID", "initcode", "payment"]

MOST: Final = 49_152
"""Bytes that creation code may have (EIP-3860)."""
DONE: Final = (1).to_bytes(32, "big")
"""What the bundle answers when its last call succeeded, and :func:`payment` when the payee was paid."""
UNPAID: Final = bytes(32)
"""What :func:`payment` answers when the call succeeded and the payee was not paid."""

_ZERO: Final = b"\x60\x00"
_COPY, _CALL, _POP, _JUMP_IF = b"\x39", b"\x5a\xf1", b"\x50", b"\x57"
_CALL_SIZE: Final = 4 + 4 + 2 + 1 + 2 + 2 + 4 + 2 + 2 + 21 + 2 + 1  # the bytes of one step, POP included
_REVERT: Final = bytes.fromhex("3d600060003e3d6000fd")
_ANSWER: Final = bytes.fromhex("5b600160005260206000f3")
_END_SIZE: Final = 4 + 1 + len(_REVERT) + len(_ANSWER)


def initcode(calls: Sequence[tuple[Address, bytes]]) -> bytes:
    """Return creation code that makes the calls in order and answers as the last did, whatever became of the others.

    It answers :data:`DONE`, or reverts with what the last call reverted with.  Raises: LocalProtocolError for no calls, or
    more than :data:`MOST` bytes of them.
    """
    if not calls:
        raise LocalProtocolError("a bundle of nothing", field="calls")
    steps = len(calls) * _CALL_SIZE - 1  # without the last POP
    code, inputs, start = [], [], steps + _END_SIZE
    for to, data in calls:
        code.append(_step(bytes.fromhex(to[2:]), len(data), start))
        inputs.append(data)
        start += len(data)
    if start > MOST:
        raise LocalProtocolError(f"{start} bytes of creation code, {MOST} are allowed", field="calls")
    end = _push(steps + 5 + len(_REVERT)) + _JUMP_IF + _REVERT + _ANSWER
    return _POP.join(code) + end + b"".join(inputs)


def _step(to: bytes, length: int, offset: int) -> bytes:
    copy = _push(length) + _push(offset) + _ZERO + _COPY
    return copy + _ZERO + _ZERO + _push(length) + _ZERO + _ZERO + b"\x73" + to + _CALL


def _push(number: int) -> bytes:
    return b"\x62" + min(number, 0xFFFFFF).to_bytes(3, "big")


def payment(to: Address, data: bytes, asset: Address, pay_to: Address, amount: int) -> tuple[bytes, bytes]:
    """Return code for an account, and what to call it with, that calls ``to`` and says whether this paid the payee.

    It asks ``balanceOf(pay_to)`` before and after, answers :data:`DONE` when the difference is just the amount, else
    :data:`UNPAID`, and reverts as the call reverts.  Memory: the question at 0, the two answers at 0x40 and 0x60, the call's
    data, which is the rest of the calldata, from 0x80 on::

        6024 6000 6000 37  CALLDATACOPY the question      and, to ask it, leaving 1 or 0 on the stack (s1):
        6020 60<answer> 6024 6000 73<asset> 5a fa  STATICCALL
        6024 36 03 6024 6080 37  CALLDATACOPY the data
        6000 6000 6024 36 03 6080 6000 73<to> 5a f1  CALL without value (s2)
        80 62<paid> 57  JUMPI unless it failed    3d 6000 6000 3e 3d 6000 fd  REVERT with its answer
        5b  JUMPDEST <paid>     the question again (s3)     16 16  s1 AND s2 AND s3
        6040 51 6060 51 03  SUB: the difference     7f<amount> 14 16  EQ AND     6000 52 6020 6000 f3  RETURN the word
    """
    question = encode_call("balanceOf(address)", pay_to)
    head = bytes.fromhex("60246000600037") + _asked(asset, b"\x40") + bytes.fromhex("602436036024608037")
    head += bytes.fromhex("60006000602436036080600073") + bytes.fromhex(to[2:]) + _CALL
    paid = len(head) + 1 + 4 + 1 + len(_REVERT)
    end = _asked(asset, b"\x60") + bytes.fromhex("1616604051606051037f") + amount.to_bytes(32, "big")
    end += bytes.fromhex("141660005260206000f3")
    return head + b"\x80" + _push(paid) + _JUMP_IF + _REVERT + b"\x5b" + end, question + data


def _asked(asset: Address, answer: bytes) -> bytes:
    """Return the steps that ask the question at 0 of memory, its answer going to ``answer``."""
    return b"\x60\x20\x60" + answer + bytes.fromhex("6024600073") + bytes.fromhex(asset[2:]) + b"\x5a\xfa"
