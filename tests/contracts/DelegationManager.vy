#pragma version 0.4.3
"""
@title Spend from an account within a limit its owner signed (ERC-7710)
@license MIT
@notice For tests.  A permission context is abi.encode(delegator, delegate, token, max, salt, signature); the delegator
        has to have enabled this manager, and judges the signature itself (ERC-1271).
@dev The limit is for all redemptions of a delegation together.  A delegate of zero means anybody.
"""

interface Account:
    def isValidSignature(hash: bytes32, signature: Bytes[512]) -> bytes4: view
    def executeFromExecutor(mode: bytes32, call: Bytes[512]): payable

event Redeemed:
    delegator: indexed(address)
    redeemer: indexed(address)
    digest: bytes32

DOMAIN_TYPEHASH: constant(bytes32) = keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
DELEGATION_TYPEHASH: constant(bytes32) = keccak256("Delegation(address delegator,address delegate,address token,uint256 max,bytes32 salt)")

spent: public(HashMap[bytes32, uint256])


@external
def redeemDelegations(
    permissionContexts: DynArray[Bytes[1024], 4], modes: DynArray[bytes32, 4], executionCallDatas: DynArray[Bytes[512], 4]
):
    """
    @notice Make each delegator's account execute its call; all of them or none.
    """
    count: uint256 = len(permissionContexts)
    assert len(modes) == count and len(executionCallDatas) == count, "DelegationManager: lengths"
    for i: uint256 in range(count, bound=4):
        self._redeem(permissionContexts[i], modes[i], executionCallDatas[i])


@internal
def _redeem(context: Bytes[1024], mode: bytes32, call: Bytes[512]):
    delegator: address = empty(address)
    delegate: address = empty(address)
    token: address = empty(address)
    limit: uint256 = 0
    salt: bytes32 = empty(bytes32)
    signature: Bytes[512] = b""
    delegator, delegate, token, limit, salt, signature = abi_decode(
        context, (address, address, address, uint256, bytes32, Bytes[512])
    )
    assert mode == empty(bytes32), "DelegationManager: mode"
    assert delegate == empty(address) or delegate == msg.sender, "DelegationManager: not the delegate"
    digest: bytes32 = self._digest(delegator, delegate, token, limit, salt)
    valid: bytes4 = staticcall Account(delegator).isValidSignature(digest, signature)
    assert valid == 0x1626ba7e, "DelegationManager: signature"
    total: uint256 = self.spent[digest] + self._amount(call, token)
    assert total <= limit, "DelegationManager: limit"
    self.spent[digest] = total
    extcall Account(delegator).executeFromExecutor(mode, call)
    log Redeemed(delegator=delegator, redeemer=msg.sender, digest=digest)


@internal
@pure
def _amount(call: Bytes[512], token: address) -> uint256:
    """
    @dev Return what a call transfers; nothing but a transfer of the token is allowed.
    """
    assert len(call) == 120, "DelegationManager: not a transfer"
    assert convert(slice(call, 0, 20), address) == token, "DelegationManager: not the token"
    assert convert(slice(call, 20, 32), uint256) == 0, "DelegationManager: value"
    assert slice(call, 52, 4) == method_id("transfer(address,uint256)"), "DelegationManager: not a transfer"
    return convert(slice(call, 88, 32), uint256)


@internal
@view
def _digest(delegator: address, delegate: address, token: address, limit: uint256, salt: bytes32) -> bytes32:
    domain: bytes32 = keccak256(
        abi_encode(DOMAIN_TYPEHASH, keccak256("DelegationManager"), keccak256("1"), chain.id, self)
    )
    struct_hash: bytes32 = keccak256(abi_encode(DELEGATION_TYPEHASH, delegator, delegate, token, limit, salt))
    return keccak256(concat(b"\x19\x01", domain, struct_hash))
