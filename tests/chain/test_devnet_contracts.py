"""Contracts on the embedded chain: deployed, called, estimated, failing."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chain.conduct import undone
from tests.chain.ondevnet import COUNTER, CREATE_COUNTER, KA, KB, NEW, REVERTER, A, B, OnDevnet
from tests.chains import PERMIT2, Rpc, RpcFailure
from x402bind.chain.devnet import Chain, Devnet
from x402bind.chain.devnet.presets import CREATE2_DEPLOYER
from x402bind.chain.devnet.token import deploy_calldata, place
from x402bind.chain.devnet.vm import Message
from x402core.evm.abi import encode_call
from x402core.evm.address import create_address
from x402core.evm.keccak import keccak
from x402core.values import Address


class TestContracts(OnDevnet):
    def test_a_contract_lands_where_its_sender_and_number_say(self, rpc: Rpc) -> None:
        rpc.must(KA, NEW)
        creation = CREATE_COUNTER
        assert len(creation) == 9 + 16
        receipt = rpc.must(KA, None, creation)
        assert receipt["contractAddress"] == create_address(A, 1)
        assert receipt["to"] is None
        assert rpc("eth_getCode", receipt["contractAddress"]) == "0x" + COUNTER.hex()
        for expected in (1, 2):
            (log,) = rpc.must(KB, receipt["contractAddress"])["logs"]
            assert int(log["data"], 16) == expected
        assert rpc("eth_getCode", receipt["contractAddress"]) == "0x" + COUNTER.hex(), "and running does not pad it"
        assert int(rpc("eth_getStorageAt", receipt["contractAddress"], "0x0"), 16) == 2
        assert int(rpc("eth_getStorageAt", receipt["contractAddress"], "0x" + 64 * "0"), 16) == 2

    def test_a_call_changes_nothing(self, devnet: Devnet, rpc: Rpc) -> None:
        devnet.chain.set_code(NEW, COUNTER)
        for _ in range(3):
            assert rpc("eth_call", {"from": A, "to": NEW}) == "0x"
        assert devnet.chain.state().storage(NEW, 0) == 0

    def test_a_call_that_reverts_carries_its_data(self, devnet: Devnet, rpc: Rpc) -> None:
        devnet.chain.set_code(NEW, REVERTER)
        for method in ("eth_call", "eth_estimateGas"):
            with pytest.raises(RpcFailure) as caught:
                rpc(method, {"to": NEW})
            assert (caught.value.code, caught.value.message, caught.value.data) == (
                3,
                "execution reverted",
                "0xdeadbeef",
            )

    def test_a_reason_is_read_like_solidity_reads(self, devnet: Devnet, rpc: Rpc) -> None:
        """The real USDC pads "exceeds balance" with a stray byte."""
        error = encode_call("Error(string)", "no")[:-1] + b"\x41"
        # copy the bytes that follow the code to memory and revert with them
        code = bytes.fromhex("60648060095f395ffd") + error
        assert len(error) == 0x64
        devnet.chain.set_code(NEW, code)
        with pytest.raises(RpcFailure, match=r"^execution reverted: no$"):
            rpc("eth_call", {"to": NEW})

    def test_a_panic_is_named(self, devnet: Devnet, rpc: Rpc) -> None:
        panic = encode_call("Panic(uint256)", 0x11)
        devnet.chain.set_code(NEW, bytes.fromhex("60248060095f395ffd") + panic)
        with pytest.raises(RpcFailure, match=r"^execution reverted: panic: 0x11$"):
            rpc("eth_call", {"to": NEW})

    def test_an_invalid_opcode_and_no_gas_are_no_reverts(self, devnet: Devnet, rpc: Rpc) -> None:
        devnet.chain.set_code(NEW, b"\xfe")
        devnet.chain.set_code(PERMIT2, COUNTER)
        with pytest.raises(RpcFailure, match="invalid opcode") as first:
            rpc("eth_call", {"to": NEW})
        with pytest.raises(RpcFailure, match="out of gas") as second:
            rpc("eth_call", {"to": PERMIT2, "gas": hex(22_000)})
        assert (first.value.code, second.value.code) == (-32000, -32000)

    def test_an_estimate_is_enough_and_one_less_is_not(self, devnet: Devnet, rpc: Rpc) -> None:
        token = place(devnet.chain)
        token.mint(A, 100)
        data = encode_call("transfer(address,uint256)", B, 1)
        estimate = int(rpc("eth_estimateGas", {"from": A, "to": token.address, "data": "0x" + data.hex()}), 16)
        with undone(rpc):
            assert rpc.send(KA, token.address, data, gas=estimate - 1)["status"] == "0x0"
        assert rpc.send(KA, token.address, data, gas=estimate)["status"] == "0x1"

    def test_an_estimate_counts_what_inner_calls_hold_back(self, devnet: Devnet, rpc: Rpc) -> None:
        """A call gets 63/64 of the gas (EIP-150), and this caller fails when the called one does."""
        inner = Address("0x" + 40 * "8")
        # needs more than 100,000 gas left, and uses hardly any: if (gas() > 100000) stop(); invalid()
        devnet.chain.set_code(inner, bytes.fromhex("620186a05a11600a57fe5b00"))
        # if (call(gas(), inner, 0, 0, 0, 0, 0)) stop(); invalid()
        outer = bytes.fromhex("5f5f5f5f5f73" + inner[2:] + "5af1602057fe5b00")
        devnet.chain.set_code(NEW, outer)
        estimate = int(rpc("eth_estimateGas", {"from": A, "to": NEW}), 16)
        assert estimate > 121_000
        with undone(rpc):
            assert rpc.send(KA, NEW, gas=estimate - 1)["status"] == "0x0"
        assert rpc.send(KA, NEW, gas=estimate)["status"] == "0x1"

    def test_a_deployment_can_be_estimated(self, rpc: Rpc) -> None:
        estimate = int(rpc("eth_estimateGas", {"from": A, "data": "0x" + deploy_calldata().hex()}), 16)
        rpc.must(KA, None, deploy_calldata(), gas=estimate)

    def test_a_contract_may_be_the_caller_of_a_call(self, devnet: Devnet, rpc: Rpc) -> None:
        devnet.chain.set_code(NEW, bytes.fromhex("335f5260205ff3"))  # CALLER
        devnet.chain.set_code(PERMIT2, COUNTER)
        assert int(rpc("eth_call", {"from": PERMIT2, "to": NEW}), 16) == int(PERMIT2, 16)
        assert rpc("eth_getCode", PERMIT2) == "0x" + COUNTER.hex()

    def test_the_create2_deployer_is_there(self, rpc: Rpc) -> None:
        creation = CREATE_COUNTER
        salt = keccak(b"salt")
        where = keccak(b"\xff" + bytes.fromhex(CREATE2_DEPLOYER[2:]) + salt + keccak(creation))[12:]
        call = {"to": CREATE2_DEPLOYER, "data": "0x" + (salt + creation).hex()}
        assert rpc("eth_call", call) == "0x" + where.hex()
        rpc.must(KA, CREATE2_DEPLOYER, salt + creation)
        assert rpc("eth_getCode", "0x" + where.hex()) == "0x" + COUNTER.hex()
        assert rpc.send(KA, CREATE2_DEPLOYER, salt + creation)["status"] == "0x0", "the second time it is taken"

    def test_transient_storage_ends_with_the_transaction(self, devnet: Devnet, rpc: Rpc) -> None:
        # log0(tload(0)); tstore(0, 1)
        devnet.chain.set_code(NEW, bytes.fromhex("5f5c5f5260205fa060015f5d00"))
        for _ in range(2):
            (log,) = rpc.must(KA, NEW)["logs"]
            assert int(log["data"], 16) == 0

    def test_thousands_of_creations_do_not_wear_it_out(self) -> None:
        chain = Chain()
        creation = CREATE_COUNTER
        for _ in range(1_500):
            chain.execute(Message(A, None, creation))
        assert chain.state().nonce(A) == 1_500


def rpc_undone(rpc: Rpc) -> Any:
    from tests.chain.conduct import undone

    return undone(rpc)
