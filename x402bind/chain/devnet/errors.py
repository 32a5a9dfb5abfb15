"""What a node answers when it will not: one exception, carrying a JSON-RPC error object (code, message, data).

The codes are those of JSON-RPC 2.0 and EIP-1474; the messages are spelled as go-ethereum spells them, because clients
(ours too) tell errors apart by their text.
"""

from __future__ import annotations

from typing import Final

from .revert import reason

__all__ = [
    "EXECUTION_REVERTED",
    "INTERNAL",
    "INVALID_PARAMS",
    "INVALID_REQUEST",
    "METHOD_NOT_FOUND",
    "PARSE_ERROR",
    "SERVER_ERROR",
    "DevnetUnavailable",
    "RpcError",
    "reverted",
]

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL: Final = -32603
SERVER_ERROR: Final = -32000
EXECUTION_REVERTED: Final = 3


class DevnetUnavailable(RuntimeError):
    """The embedded EVM is not installed; the message says how to get it."""


class RpcError(Exception):
    """An error a JSON-RPC client is meant to see."""

    def __init__(self, message: str, code: int = SERVER_ERROR, data: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.data = data


def reverted(output: bytes) -> RpcError:
    """Return the error for a call that reverted with ``output``, its reason in words when it is a string or a panic."""
    text = reason(output)
    message = "execution reverted" + (f": {text}" if text else "")
    return RpcError(message, EXECUTION_REVERTED, "0x" + output.hex())
