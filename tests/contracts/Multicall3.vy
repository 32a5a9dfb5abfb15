#pragma version 0.4.3
"""
@title The part of Multicall3 that payment software uses: many calls in one, each of which may fail
@license MIT
@notice For tests.  At most 16 calls of 4096 bytes, and 1024 bytes of each answer.
"""

struct Call:
    target: address
    callData: Bytes[4096]

struct Call3:
    target: address
    allowFailure: bool
    callData: Bytes[4096]

struct Result:
    success: bool
    returnData: Bytes[1024]


@external
@payable
def tryAggregate(requireSuccess: bool, calls: DynArray[Call, 16]) -> DynArray[Result, 16]:
    results: DynArray[Result, 16] = []
    for call: Call in calls:
        results.append(self._call(call.target, call.callData, not requireSuccess))
    return results


@external
@payable
def aggregate3(calls: DynArray[Call3, 16]) -> DynArray[Result, 16]:
    results: DynArray[Result, 16] = []
    for call: Call3 in calls:
        results.append(self._call(call.target, call.callData, call.allowFailure))
    return results


@internal
def _call(target: address, data: Bytes[4096], may_fail: bool) -> Result:
    success: bool = False
    answer: Bytes[1024] = b""
    success, answer = raw_call(target, data, max_outsize=1024, revert_on_failure=False)
    assert success or may_fail, "Multicall3: call failed"
    return Result(success=success, returnData=answer)
