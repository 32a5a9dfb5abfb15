#pragma version 0.4.3
"""
@title x402's exact payments by Permit2, for tests
@license MIT
@notice Written from the published ABI and witness rules (x402.md 2.0, 2.2); it keeps nothing, so its runtime code can be
        put at the canonical address.
"""

import permits

struct Witness:
    to: address
    validAfter: uint256

event Settled:
    pass

event SettledWithPermit:
    pass

PERMIT2: public(constant(address)) = permits.PERMIT2
WITNESS_TYPE_STRING: public(constant(String[256])) = "Witness witness)TokenPermissions(address token,uint256 amount)Witness(address to,uint256 validAfter)"
WITNESS_TYPEHASH: public(constant(bytes32)) = keccak256("Witness(address to,uint256 validAfter)")


@external
@nonreentrant
def settle(permit: permits.PermitTransferFrom, owner: address, witness: Witness, signature: Bytes[4096]):
    """
    @notice Move all that is permitted to `witness.to`.
    """
    self._settle(permit, owner, witness, signature)
    log Settled()


@external
@nonreentrant
def settleWithPermit(
    permit2612: permits.EIP2612Permit,
    permit: permits.PermitTransferFrom,
    owner: address,
    witness: Witness,
    signature: Bytes[4096],
):
    """
    @notice The same, first giving Permit2 its allowance by the token's own permit.
    """
    permits._permit(permit2612, permit.permitted, owner)
    self._settle(permit, owner, witness, signature)
    log SettledWithPermit()


@internal
def _settle(permit: permits.PermitTransferFrom, owner: address, witness: Witness, signature: Bytes[4096]):
    hashed: bytes32 = keccak256(abi_encode(WITNESS_TYPEHASH, witness.to, witness.validAfter))
    permits._transfer(
        permit,
        permit.permitted.amount,
        owner,
        witness.to,
        witness.validAfter,
        hashed,
        WITNESS_TYPE_STRING,
        signature,
    )
