#pragma version 0.4.3
"""
@title What an ordinary account may delegate to (EIP-7702) and then sign no payment any more: it knows no ERC-1271
@license MIT
@notice For tests.
"""


@external
@payable
def __default__():
    pass


@external
@payable
def execute(target: address, amount: uint256, data: Bytes[4096]):
    """
    @notice Call anything; the account itself only.
    """
    assert msg.sender == self, "MuteDelegate: not the account"
    raw_call(target, data, value=amount)
