#pragma version 0.4.3
"""
@title A token whose permit reverts with any bytes one likes, and whose transfers succeed and move nothing
@license MIT
@notice For tests.
"""

answer: Bytes[512]


@external
def answer_with(answer: Bytes[512]):
    self.answer = answer


@external
def permit(owner: address, spender: address, amount: uint256, deadline: uint256, v: uint8, r: bytes32, s: bytes32):
    raw_revert(self.answer)


@external
def transferFrom(sender: address, to: address, amount: uint256) -> bool:
    return True
