"""What a devnet finds already deployed, as on anvil: the CREATE2 deployer at its usual address.

The code is our own assembly with the behaviour of the well-known one: calldata is a 32-byte salt and creation code, the
answer is the 20 bytes of the new contract's address, and a failed creation reverts.
"""

from __future__ import annotations

from typing import Final

from x402core.values import Address

from .chain import Chain

__all__ = ["CREATE2_DEPLOYER", "install"]

CREATE2_DEPLOYER: Final = Address("0x4e59b44847b379578588920ca78fbf26c0b4956c")

_DEPLOYER_CODE: Final = bytes.fromhex(
    "6020360380"  # size = calldatasize - 32; keep a copy
    "60205f37"  # calldatacopy(0, 32, size)
    "5f35905f34f5"  # create2(callvalue, 0, size, calldataload(0))
    "80601657"  # if it is not zero, jump over
    "5f5ffd"  # revert(0, 0)
    "5b5f526014600cf3"  # return the last 20 bytes of the word
)


def install(chain: Chain) -> None:
    """Put the preset contracts into a fresh chain."""
    chain.set_code(CREATE2_DEPLOYER, _DEPLOYER_CODE)
