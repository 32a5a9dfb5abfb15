#pragma version 0.4.3
#pragma evm-version cancun
#pragma optimize gas
"""
@title DevUSD
@license MIT
@notice A stablecoin for tests and demos: ERC-20, EIP-2612 permits and EIP-3009 authorizations, as USDC offers them.
@dev Written by hand from the EIPs.  What to know before using it:

     * It works at any address.  Nothing is captured at deployment (no immutables, no cached domain separator): the
       EIP-712 domain is computed from `self`, `chain.id` and the stored name and version at every call.  Copying the
       runtime bytecode to an address and calling `initialize` there gives the same token as deploying it.
     * `initialize` may be called once, by anybody.  A deployment in two transactions can be front-run; that is
       acceptable for a token that is worth nothing, and only for such a token.
     * Signatures come as v, r, s.  USDC also has overloads that take `bytes signature` (EIP-1271 wallets); Vyper has
       no overloading, so they are left out here.  Tests for those run against the real FiatTokenV2_2.
     * An allowance is always reduced by what is spent, even the largest one, as USDC does it.
"""

event Transfer:
    sender: indexed(address)
    receiver: indexed(address)
    value: uint256

event Approval:
    owner: indexed(address)
    spender: indexed(address)
    value: uint256

event AuthorizationUsed:
    authorizer: indexed(address)
    nonce: indexed(bytes32)

event AuthorizationCanceled:
    authorizer: indexed(address)
    nonce: indexed(bytes32)


# secp256k1 order / 2: a larger s is the malleable twin of a valid signature (EIP-2)
HALF_ORDER: constant(uint256) = 57896044618658097711785492504343953926418782139537452191302581570759080747168

DOMAIN_TYPEHASH: constant(bytes32) = keccak256(
    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
)
PERMIT_TYPEHASH: public(constant(bytes32)) = keccak256(
    "Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)"
)
TRANSFER_WITH_AUTHORIZATION_TYPEHASH: public(constant(bytes32)) = keccak256(
    "TransferWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
)
RECEIVE_WITH_AUTHORIZATION_TYPEHASH: public(constant(bytes32)) = keccak256(
    "ReceiveWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
)
CANCEL_AUTHORIZATION_TYPEHASH: public(constant(bytes32)) = keccak256(
    "CancelAuthorization(address authorizer,bytes32 nonce)"
)

name: public(String[64])
version: public(String[16])
symbol: public(String[16])
decimals: public(uint8)
minter: public(address)
totalSupply: public(uint256)
balanceOf: public(HashMap[address, uint256])
allowance: public(HashMap[address, HashMap[address, uint256]])
nonces: public(HashMap[address, uint256])
authorizationState: public(HashMap[address, HashMap[bytes32, bool]])
initialized: bool


@external
def initialize(_name: String[64], _version: String[16], _symbol: String[16], _decimals: uint8, _minter: address):
    """
    @notice Name the token and its minter, once.
    """
    assert not self.initialized, "DevUSD: already initialized"
    self.initialized = True
    self.name = _name
    self.version = _version
    self.symbol = _symbol
    self.decimals = _decimals
    self.minter = _minter


@external
def mint(_to: address, _value: uint256) -> bool:
    """
    @notice Create `_value` atomic units for `_to`; the minter only.
    """
    assert msg.sender == self.minter, "DevUSD: caller is not the minter"
    assert _to != empty(address), "DevUSD: mint to the zero address"
    self.totalSupply += _value
    self.balanceOf[_to] += _value
    log Transfer(sender=empty(address), receiver=_to, value=_value)
    return True


# ---------------------------------------------------------------- ERC-20


@external
def transfer(_to: address, _value: uint256) -> bool:
    self._transfer(msg.sender, _to, _value)
    return True


@external
def transferFrom(_from: address, _to: address, _value: uint256) -> bool:
    allowed: uint256 = self.allowance[_from][msg.sender]
    assert _value <= allowed, "DevUSD: transfer amount exceeds allowance"
    self.allowance[_from][msg.sender] = unsafe_sub(allowed, _value)
    self._transfer(_from, _to, _value)
    return True


@external
def approve(_spender: address, _value: uint256) -> bool:
    self._approve(msg.sender, _spender, _value)
    return True


@internal
def _transfer(_from: address, _to: address, _value: uint256):
    assert _to != empty(address), "DevUSD: transfer to the zero address"
    balance: uint256 = self.balanceOf[_from]
    assert _value <= balance, "DevUSD: transfer amount exceeds balance"
    self.balanceOf[_from] = unsafe_sub(balance, _value)
    self.balanceOf[_to] += _value
    log Transfer(sender=_from, receiver=_to, value=_value)


@internal
def _approve(_owner: address, _spender: address, _value: uint256):
    assert _spender != empty(address), "DevUSD: approve to the zero address"
    self.allowance[_owner][_spender] = _value
    log Approval(owner=_owner, spender=_spender, value=_value)


# ---------------------------------------------------------------- EIP-712


@external
@view
def DOMAIN_SEPARATOR() -> bytes32:
    return self._domain()


@internal
@view
def _domain() -> bytes32:
    return keccak256(
        abi_encode(DOMAIN_TYPEHASH, keccak256(self.name), keccak256(self.version), chain.id, self)
    )


@internal
@view
def _check(_signer: address, _struct: bytes32, _v: uint8, _r: bytes32, _s: bytes32):
    """
    @dev Revert unless `_signer` signed `_struct`.  Strict: low s, v of 27 or 28, and never the zero address, which is
         what ecrecover answers for garbage.
    """
    assert convert(_s, uint256) <= HALF_ORDER, "DevUSD: invalid signature (high s)"
    assert _v == 27 or _v == 28, "DevUSD: invalid signature (v)"
    digest: bytes32 = keccak256(concat(b"\x19\x01", self._domain(), _struct))
    signer: address = ecrecover(digest, _v, _r, _s)
    assert signer != empty(address) and signer == _signer, "DevUSD: invalid signature"


# ---------------------------------------------------------------- EIP-2612


@external
def permit(
    _owner: address, _spender: address, _value: uint256, _deadline: uint256, _v: uint8, _r: bytes32, _s: bytes32
):
    assert block.timestamp <= _deadline, "DevUSD: permit is expired"
    nonce: uint256 = self.nonces[_owner]
    self.nonces[_owner] = unsafe_add(nonce, 1)
    self._check(_owner, keccak256(abi_encode(PERMIT_TYPEHASH, _owner, _spender, _value, nonce, _deadline)), _v, _r, _s)
    self._approve(_owner, _spender, _value)


# ---------------------------------------------------------------- EIP-3009


@external
def transferWithAuthorization(
    _from: address,
    _to: address,
    _value: uint256,
    _validAfter: uint256,
    _validBefore: uint256,
    _nonce: bytes32,
    _v: uint8,
    _r: bytes32,
    _s: bytes32,
):
    message: bytes32 = keccak256(
        abi_encode(TRANSFER_WITH_AUTHORIZATION_TYPEHASH, _from, _to, _value, _validAfter, _validBefore, _nonce)
    )
    self._authorize(_from, _validAfter, _validBefore, _nonce, message, _v, _r, _s)
    self._transfer(_from, _to, _value)


@external
def receiveWithAuthorization(
    _from: address,
    _to: address,
    _value: uint256,
    _validAfter: uint256,
    _validBefore: uint256,
    _nonce: bytes32,
    _v: uint8,
    _r: bytes32,
    _s: bytes32,
):
    assert msg.sender == _to, "DevUSD: caller must be the payee"
    message: bytes32 = keccak256(
        abi_encode(RECEIVE_WITH_AUTHORIZATION_TYPEHASH, _from, _to, _value, _validAfter, _validBefore, _nonce)
    )
    self._authorize(_from, _validAfter, _validBefore, _nonce, message, _v, _r, _s)
    self._transfer(_from, _to, _value)


@external
def cancelAuthorization(_authorizer: address, _nonce: bytes32, _v: uint8, _r: bytes32, _s: bytes32):
    self._unused(_authorizer, _nonce)
    self._check(_authorizer, keccak256(abi_encode(CANCEL_AUTHORIZATION_TYPEHASH, _authorizer, _nonce)), _v, _r, _s)
    self.authorizationState[_authorizer][_nonce] = True
    log AuthorizationCanceled(authorizer=_authorizer, nonce=_nonce)


@internal
@view
def _unused(_authorizer: address, _nonce: bytes32):
    assert not self.authorizationState[_authorizer][_nonce], "DevUSD: authorization is used or canceled"


@internal
def _authorize(
    _from: address,
    _validAfter: uint256,
    _validBefore: uint256,
    _nonce: bytes32,
    _struct: bytes32,
    _v: uint8,
    _r: bytes32,
    _s: bytes32,
):
    """
    @dev Spend one authorization: in time (both bounds exclusive, EIP-3009), unused, signed by `_from`.
    """
    assert block.timestamp > _validAfter, "DevUSD: authorization is not yet valid"
    assert block.timestamp < _validBefore, "DevUSD: authorization is expired"
    self._unused(_from, _nonce)
    self._check(_from, _struct, _v, _r, _s)
    self.authorizationState[_from][_nonce] = True
    log AuthorizationUsed(authorizer=_from, nonce=_nonce)
