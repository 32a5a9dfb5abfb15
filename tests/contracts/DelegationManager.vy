#pragma version 0.4.3
"""
@title Spend from an account within what its owner signed (ERC-7710)
@license MIT
@notice For tests.  A permission context is abi.encode(Delegation[]), leaf first, as the MetaMask Delegation Framework's; the
        root's delegator has to have enabled this manager, and each delegator judges its own signature (ERC-1271).
@dev The only enforcer known is the manager itself; its terms are a token (20 bytes) and the most (32) that all redemptions of
     the delegation may transfer together.  It does with an encoding what contracts do: what comes after it is ignored.
"""

struct Caveat:
    enforcer: address
    terms: Bytes[64]
    args: Bytes[64]

struct Delegation:
    delegate: address
    delegator: address
    authority: bytes32
    caveats: DynArray[Caveat, 2]
    salt: uint256
    signature: Bytes[128]

interface Account:
    def isValidSignature(hash: bytes32, signature: Bytes[128]) -> bytes4: view
    def executeFromExecutor(mode: bytes32, call: Bytes[512]): payable

event Redeemed:
    delegator: indexed(address)
    redeemer: indexed(address)
    digest: bytes32

ANYBODY: constant(address) = 0x0000000000000000000000000000000000000a11
ROOT: constant(bytes32) = 0xffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff
DOMAIN_TYPEHASH: constant(bytes32) = keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
DELEGATION_TYPEHASH: constant(bytes32) = keccak256("Delegation(address delegate,address delegator,bytes32 authority,Caveat[] caveats,uint256 salt)Caveat(address enforcer,bytes terms)")
CAVEAT_TYPEHASH: constant(bytes32) = keccak256("Caveat(address enforcer,bytes terms)")

spent: public(HashMap[bytes32, uint256])


@external
def redeemDelegations(
    permissionContexts: DynArray[Bytes[2304], 4], modes: DynArray[bytes32, 4], executionCallDatas: DynArray[Bytes[512], 4]
):
    """
    @notice Make each root delegator's account execute its call; all of them or none.
    """
    count: uint256 = len(permissionContexts)
    assert len(modes) == count and len(executionCallDatas) == count, "DelegationManager: lengths"
    for i: uint256 in range(count, bound=4):
        self._redeem(permissionContexts[i], modes[i], executionCallDatas[i])


@internal
def _redeem(context: Bytes[2304], mode: bytes32, call: Bytes[512]):
    delegations: DynArray[Delegation, 2] = abi_decode(context, DynArray[Delegation, 2])
    assert len(delegations) > 0, "DelegationManager: nothing"
    assert mode == empty(bytes32), "DelegationManager: mode"
    acting: address = msg.sender
    authority: bytes32 = self._hash(delegations[0])
    leaf: bytes32 = authority
    for delegation: Delegation in delegations:
        digest: bytes32 = self._hash(delegation)
        assert digest == authority, "DelegationManager: authority"
        assert delegation.delegate == ANYBODY or delegation.delegate == acting, "DelegationManager: not the delegate"
        valid: bytes4 = staticcall Account(delegation.delegator).isValidSignature(self._typed(digest), delegation.signature)
        assert valid == 0x1626ba7e, "DelegationManager: signature"
        for caveat: Caveat in delegation.caveats:
            self._enforce(caveat, digest, call)
        acting = delegation.delegator
        authority = delegation.authority
    assert authority == ROOT, "DelegationManager: no root"
    extcall Account(acting).executeFromExecutor(mode, call)
    log Redeemed(delegator=acting, redeemer=msg.sender, digest=leaf)


@internal
def _enforce(caveat: Caveat, digest: bytes32, call: Bytes[512]):
    """
    @dev Count what a call transfers; nothing but a transfer of the token is allowed.
    """
    assert caveat.enforcer == self and len(caveat.terms) == 52, "DelegationManager: unknown caveat"
    token: address = convert(slice(caveat.terms, 0, 20), address)
    limit: uint256 = convert(slice(caveat.terms, 20, 32), uint256)
    assert len(call) == 120, "DelegationManager: not a transfer"
    assert convert(slice(call, 0, 20), address) == token, "DelegationManager: not the token"
    assert convert(slice(call, 20, 32), uint256) == 0, "DelegationManager: value"
    assert slice(call, 52, 4) == method_id("transfer(address,uint256)"), "DelegationManager: not a transfer"
    total: uint256 = self.spent[digest] + convert(slice(call, 88, 32), uint256)
    assert total <= limit, "DelegationManager: limit"
    self.spent[digest] = total


@internal
@pure
def _hash(delegation: Delegation) -> bytes32:
    caveats: bytes32 = keccak256(b"")
    if len(delegation.caveats) == 1:
        caveats = keccak256(abi_encode(self._caveat(delegation.caveats[0])))
    elif len(delegation.caveats) == 2:
        caveats = keccak256(abi_encode(self._caveat(delegation.caveats[0]), self._caveat(delegation.caveats[1])))
    return keccak256(
        abi_encode(
            DELEGATION_TYPEHASH, delegation.delegate, delegation.delegator, delegation.authority, caveats, delegation.salt
        )
    )


@internal
@pure
def _caveat(caveat: Caveat) -> bytes32:
    return keccak256(abi_encode(CAVEAT_TYPEHASH, caveat.enforcer, keccak256(caveat.terms)))


@internal
@view
def _typed(digest: bytes32) -> bytes32:
    domain: bytes32 = keccak256(
        abi_encode(DOMAIN_TYPEHASH, keccak256("DelegationManager"), keccak256("1"), chain.id, self)
    )
    return keccak256(concat(b"\x19\x01", domain, digest))
