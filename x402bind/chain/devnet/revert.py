"""The reason in a contract's revert bytes, as go-ethereum words it.

Read leniently, as Solidity reads: the bytes after a string's end are not looked at.  They are not always zero; the real
USDC's "transfer amount exceeds balance" ends in a stray 0x41.
"""

from __future__ import annotations

from typing import Final

from x402core.evm.abi import selector

__all__ = ["reason"]

_ERROR: Final = selector("Error(string)")
_PANIC: Final = selector("Panic(uint256)")


def reason(output: bytes) -> str:
    """Return the text of ``Error(string)`` or the code of ``Panic(uint256)``; "" for a custom error or garbage."""
    head, body = output[:4], output[4:]
    if head == _PANIC and len(body) == 32:
        return f"panic: 0x{int.from_bytes(body, 'big'):02x}"
    if head != _ERROR or int.from_bytes(body[:32], "big") != 32:
        return ""
    length = int.from_bytes(body[32:64], "big")
    text = body[64 : 64 + length]
    return text.decode("utf-8", "replace") if len(text) == length else ""
