#pragma version 0.4.3
"""
@title x402's payments of up to an amount by Permit2, for tests
@license MIT
@notice Written from the published ABI and witness rules (x402.md 2.0, 2.4); it keeps nothing, so its runtime code can be
        put at the canonical address.
"""

import permits

struct Witness:
    to: address
    facilitator: address
    validAfter: uint256

event Settled:
    pass

event SettledWithPermit:
    pass

PERMIT2: public(constant(address)) = permits.PERMIT2
WITNESS_TYPE_STRING: public(constant(String[256])) = "Witness witness)TokenPermissions(address token,uint256 amount)Witness(address to,address facilitator,uint256 validAfter)"
WITNESS_TYPEHASH: public(constant(bytes32)) = keccak256("Witness(address to,address facilitator,uint256 validAfter)")


@external
@nonreentrant
def settle(
    permit: permits.PermitTransferFrom, amount: uint256, owner: address, witness: Witness, signature: Bytes[4096]
):
    """
    @notice Move `amount`, at most what is permitted, to `witness.to`; the witness's facilitator only.
    """
    self._settle(permit, amount, owner, witness, signature)
    log Settled()


@external
@nonreentrant
def settleWithPermit(
    permit2612: permits.EIP2612Permit,
    permit: permits.PermitTransferFrom,
    amount: uint256,
    owner: address,
    witness: Witness,
    signature: Bytes[4096],
):
    """
    @notice The same, first giving Permit2 its allowance by the token's own permit.
    """
    permits._permit(permit2612, permit.permitted, owner)
    self._settle(permit, amount, owner, witness, signature)
    log SettledWithPermit()


@internal
def _settle(
    permit: permits.PermitTransferFrom, amount: uint256, owner: address, witness: Witness, signature: Bytes[4096]
):
    if msg.sender != witness.facilitator:
        raw_revert(method_id("UnauthorizedFacilitator()"))
    if amount > permit.permitted.amount:
        raw_revert(method_id("AmountExceedsPermitted()"))
    hashed: bytes32 = keccak256(
        abi_encode(WITNESS_TYPEHASH, witness.to, witness.facilitator, witness.validAfter)
    )
    permits._transfer(
        permit, amount, owner, witness.to, witness.validAfter, hashed, WITNESS_TYPE_STRING, signature
    )
