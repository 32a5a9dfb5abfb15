#pragma version 0.4.3
"""
@title An account of one key: a smart wallet, or what an ordinary account delegates to (EIP-7702)
@license MIT
@notice For tests.  ERC-1271 signatures, and ERC-7579 single calls for the managers its owner enabled.
@dev As an EIP-7702 delegate it finds no owner in the account's storage; the account's own key is the owner then.
"""

event Enabled:
    manager: indexed(address)
    yes: bool

MAGIC: constant(bytes4) = 0x1626ba7e
INVALID: constant(bytes4) = 0xffffffff
HALF_ORDER: constant(uint256) = 57896044618658097711785492504343953926418782139537452191302581570759080747168

_owner: address
enabled: public(HashMap[address, bool])


@deploy
def __init__(owner: address):
    self._owner = owner


@external
@payable
def __default__():
    pass


@external
@view
def owner() -> address:
    return self._who()


@internal
@view
def _who() -> address:
    return self if self._owner == empty(address) else self._owner


@external
@view
def isValidSignature(hash: bytes32, signature: Bytes[512]) -> bytes4:
    """
    @notice ERC-1271: 65 bytes r, s, v of the owner; or 66, the same after a zero byte, so that no one takes it for a key's.
    """
    key: Bytes[512] = signature
    if len(signature) == 66 and slice(signature, 0, 1) == b"\x00":
        key = slice(signature, 1, 65)
    if len(key) != 65:
        return INVALID
    v: uint256 = convert(slice(key, 64, 1), uint256)
    s: uint256 = convert(slice(key, 32, 32), uint256)
    if s > HALF_ORDER or (v != 27 and v != 28):
        return INVALID
    signer: address = ecrecover(hash, v, convert(slice(key, 0, 32), uint256), s)
    return MAGIC if signer == self._who() and signer != empty(address) else INVALID


@external
@payable
def execute(target: address, amount: uint256, data: Bytes[4096]):
    """
    @notice Call anything; the owner only.
    """
    assert msg.sender == self._who(), "Wallet: not the owner"
    raw_call(target, data, value=amount)


@external
def enable(manager: address, yes: bool):
    """
    @notice Let a manager execute calls, or no longer; the owner only.
    """
    assert msg.sender == self._who(), "Wallet: not the owner"
    self.enabled[manager] = yes
    log Enabled(manager=manager, yes=yes)


@external
@payable
def executeFromExecutor(mode: bytes32, call: Bytes[4096]):
    """
    @notice ERC-7579, mode 0 (one call that may not fail): target, value and calldata, packed; enabled managers only.
    """
    assert self.enabled[msg.sender], "Wallet: not an enabled manager"
    assert mode == empty(bytes32), "Wallet: mode"
    assert len(call) >= 52, "Wallet: call"
    target: address = convert(slice(call, 0, 20), address)
    amount: uint256 = convert(slice(call, 20, 32), uint256)
    raw_call(target, slice(call, 52, len(call) - 52), value=amount)
