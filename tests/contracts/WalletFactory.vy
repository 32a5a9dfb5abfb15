#pragma version 0.4.3
"""
@title Deploy wallets at addresses known beforehand (CREATE2), as ERC-6492 signatures need
@license MIT
@notice For tests.
@dev A strict factory reverts when the wallet is there already, as most do; the other one returns its address.
"""

event Deployed:
    wallet: indexed(address)
    owner: indexed(address)

STRICT: public(immutable(bool))
CREATION: immutable(Bytes[4096])


@deploy
def __init__(creation: Bytes[4096], strict: bool):
    STRICT = strict
    CREATION = creation


@external
@view
def getAddress(owner: address, salt: bytes32) -> address:
    return self._where(owner, salt)


@external
def deploy(owner: address, salt: bytes32) -> address:
    wallet: address = self._where(owner, salt)
    if wallet.is_contract:
        assert not STRICT, "WalletFactory: already deployed"
        return wallet
    assert wallet == raw_create(CREATION, owner, salt=salt)
    log Deployed(wallet=wallet, owner=owner)
    return wallet


@internal
@view
def _where(owner: address, salt: bytes32) -> address:
    creation: bytes32 = keccak256(concat(CREATION, abi_encode(owner)))
    packed: bytes32 = keccak256(concat(b"\xff", convert(self, bytes20), salt, creation))
    return convert(convert(packed, uint256) & (2**160 - 1), address)
