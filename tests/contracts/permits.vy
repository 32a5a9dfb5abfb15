#pragma version 0.4.3
"""
@title What the two x402 proxies share: Permit2's call, and a token permit that may fail
@license MIT
@notice For tests.  Written from the published ABI and rules (x402.md 2.0, 2.2, 2.4), not from the deployed source.
"""

struct TokenPermissions:
    token: address
    amount: uint256

struct PermitTransferFrom:
    permitted: TokenPermissions
    nonce: uint256
    deadline: uint256

struct SignatureTransferDetails:
    to: address
    requestedAmount: uint256

struct EIP2612Permit:
    value: uint256
    deadline: uint256
    r: bytes32
    s: bytes32
    v: uint8

event EIP2612PermitFailedWithReason:
    token: indexed(address)
    owner: indexed(address)
    reason: String[256]

event EIP2612PermitFailedWithPanic:
    token: indexed(address)
    owner: indexed(address)
    errorCode: uint256

event EIP2612PermitFailedWithData:
    token: indexed(address)
    owner: indexed(address)
    data: Bytes[512]

interface ISignatureTransfer:
    def permitWitnessTransferFrom(
        permit: PermitTransferFrom,
        transferDetails: SignatureTransferDetails,
        owner: address,
        witness: bytes32,
        witnessTypeString: String[256],
        signature: Bytes[4096],
    ): nonpayable

PERMIT2: constant(address) = 0x000000000022D473030F116dDEE9F6B43aC78BA3


@internal
def _transfer(
    permit: PermitTransferFrom,
    amount: uint256,
    owner: address,
    to: address,
    valid_after: uint256,
    witness: bytes32,
    witness_type: String[256],
    signature: Bytes[4096],
):
    """
    @dev Check what both proxies check, then let Permit2 check the signature and move the money.
    """
    if owner == empty(address):
        raw_revert(method_id("InvalidOwner()"))
    if to == empty(address):
        raw_revert(method_id("InvalidDestination()"))
    if amount == 0:
        raw_revert(method_id("InvalidAmount()"))
    if block.timestamp < valid_after:
        raw_revert(method_id("PaymentTooEarly()"))
    details: SignatureTransferDetails = SignatureTransferDetails(to=to, requestedAmount=amount)
    extcall ISignatureTransfer(PERMIT2).permitWitnessTransferFrom(
        permit, details, owner, witness, witness_type, signature
    )


@internal
def _permit(permit2612: EIP2612Permit, permitted: TokenPermissions, owner: address):
    """
    @dev Call the token's permit for Permit2.  Its failure is logged only: whoever used the permit first has left the
         allowance, and without an allowance Permit2 fails by itself.
    """
    if permit2612.value != permitted.amount:
        raw_revert(method_id("Permit2612AmountMismatch()"))
    assert permitted.token.is_contract  # a call to no contract is no failure that a Solidity try would swallow
    success: bool = False
    answer: Bytes[512] = b""
    success, answer = raw_call(
        permitted.token,
        abi_encode(
            owner,
            PERMIT2,
            permit2612.value,
            permit2612.deadline,
            permit2612.v,
            permit2612.r,
            permit2612.s,
            method_id=method_id("permit(address,address,uint256,uint256,uint8,bytes32,bytes32)"),
        ),
        max_outsize=512,
        revert_on_failure=False,
    )
    if not success:
        self._tell(answer, permitted.token, owner)


@internal
def _tell(answer: Bytes[512], token: address, owner: address):
    if len(answer) == 36 and slice(answer, 0, 4) == method_id("Panic(uint256)"):
        log EIP2612PermitFailedWithPanic(token=token, owner=owner, errorCode=convert(slice(answer, 4, 32), uint256))
        return
    if len(answer) >= 68 and slice(answer, 0, 4) == method_id("Error(string)"):
        offset: uint256 = convert(slice(answer, 4, 32), uint256)
        length: uint256 = convert(slice(answer, 36, 32), uint256)
        if offset == 32 and length <= 256 and 68 + length <= len(answer):
            reason: String[256] = convert(slice(slice(answer, 68, len(answer) - 68), 0, length), String[256])
            log EIP2612PermitFailedWithReason(token=token, owner=owner, reason=reason)
            return
    log EIP2612PermitFailedWithData(token=token, owner=owner, data=answer)
