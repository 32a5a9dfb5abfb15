"""What the embedded node takes in and what it refuses, in the words clients look for."""

from __future__ import annotations

from typing import Any

import pytest
from eth_account import Account

from tests.chain.ondevnet import COUNTER, KA, NEW, REVERTER, A, B, C, OnDevnet, count, refused, wei
from tests.chains import GWEI, Rpc
from x402bind.chain.devnet import ETHER
from x402core.evm.address import checksum
from x402core.evm.keccak import keccak
from x402core.evm.secp256k1 import sign
from x402core.evm.transaction import Transaction
from x402core.values import Address


class TestAdmission(OnDevnet):
    def test_a_transfer_costs_gas_and_value_exactly(self, rpc: Rpc) -> None:
        receipt = rpc.must(KA, NEW, value=5, gas=30_000)
        assert receipt["gasUsed"] == hex(21_000)
        base = int(rpc("eth_getBlockByNumber", "latest", False)["baseFeePerGas"], 16)
        price = int(receipt["effectiveGasPrice"], 16)
        assert price == base + 1_000_000
        assert wei(rpc, A) == 10_000 * ETHER - 5 - 21_000 * price
        assert wei(rpc, NEW) == 5
        assert wei(rpc, Address("0x" + 40 * "0")) == 21_000 * 1_000_000, "the tip, and not the base fee"

    @pytest.mark.parametrize(
        ("kind", "fields"),
        [
            (0, {"gasPrice": 3 * GWEI}),
            (1, {"gasPrice": 3 * GWEI, "accessList": [{"address": checksum(B), "storageKeys": ["0x" + 64 * "1"]}]}),
            (2, {"maxFeePerGas": 3 * GWEI, "maxPriorityFeePerGas": 1, "accessList": []}),
        ],
    )
    def test_all_three_kinds_of_another_library_are_taken(self, rpc: Rpc, kind: int, fields: dict[str, Any]) -> None:
        tx = {"chainId": 84532, "nonce": 0, "to": checksum(B), "value": 1, "gas": 100_000, "data": b"", **fields}
        signed = Account.sign_transaction({**tx, "type": kind} if kind else tx, KA)
        hash_ = rpc("eth_sendRawTransaction", "0x" + signed.raw_transaction.hex())
        assert hash_ == "0x" + signed.hash.hex()
        receipt, view = rpc.wait(hash_), rpc("eth_getTransactionByHash", hash_)
        assert (receipt["status"], receipt["type"], view["type"]) == ("0x1", hex(kind), hex(kind))
        assert (view["from"], view["r"], view["s"]) == (A, hex(signed.r), hex(signed.s))
        assert int(receipt["gasUsed"], 16) == 21_000 + (2_400 + 1_900 if kind == 1 else 0)

    def test_a_number_already_used_is_too_low(self, rpc: Rpc) -> None:
        rpc.must(KA, NEW)
        assert refused(rpc, rpc.sign(KA, B, nonce=0)) == "nonce too low: next nonce 1, tx nonce 0"

    def test_the_same_bytes_twice_are_already_known(self, rpc: Rpc) -> None:
        raw = rpc.sign(KA, NEW, nonce=1)
        rpc("eth_sendRawTransaction", raw)
        assert refused(rpc, raw) == "already known"

    def test_mined_bytes_again_are_too_low(self, rpc: Rpc) -> None:
        raw = rpc.sign(KA, NEW)
        rpc.wait(rpc("eth_sendRawTransaction", raw))
        assert refused(rpc, raw).startswith("nonce too low")

    def test_one_cannot_spend_what_one_has_not(self, rpc: Rpc) -> None:
        poor = keccak(b"a poor key")
        assert refused(rpc, rpc.sign(poor, NEW)).startswith("insufficient funds for gas * price + value: balance 0, ")
        assert refused(rpc, rpc.sign(KA, NEW, value=10_000 * ETHER)).startswith("insufficient funds")

    def test_a_replacement_must_pay_a_tenth_more_of_both_fees(self, rpc: Rpc) -> None:
        rpc("evm_setAutomine", False)
        first = rpc("eth_sendRawTransaction", rpc.sign(KA, B, nonce=0, fee=10 * GWEI, tip=1000))
        for fee, tip in ((10 * GWEI, 1000), (11 * GWEI, 1000), (10 * GWEI, 1100), (11 * GWEI - 1, 1100)):
            raw = rpc.sign(KA, C, nonce=0, fee=fee, tip=tip)
            assert refused(rpc, raw) == "replacement transaction underpriced"
        second = rpc("eth_sendRawTransaction", rpc.sign(KA, C, nonce=0, fee=11 * GWEI, tip=1100))
        rpc("evm_mine")
        assert rpc("eth_getTransactionReceipt", second)["to"] == C
        assert rpc("eth_getTransactionReceipt", first) is None
        assert rpc("eth_getTransactionByHash", first) is None

    def test_for_another_chain_is_refused(self, rpc: Rpc) -> None:
        tx = Transaction(1, 0, 1, GWEI * 3, 21_000, B)
        raw = "0x" + tx.sign_with(sign(tx.signing_hash(), KA)).hex()
        assert refused(rpc, raw) == "invalid chain id for signer: have 1 want 84532"

    def test_without_replay_protection_is_refused(self, rpc: Rpc) -> None:
        tx = {"nonce": 0, "to": checksum(B), "value": 1, "gas": 21_000, "gasPrice": 3 * GWEI, "data": b""}
        raw = Account.sign_transaction(tx, KA).raw_transaction.hex()
        assert refused(rpc, "0x" + raw) == "only replay-protected (EIP-155) transactions allowed over RPC"

    @pytest.mark.parametrize(
        ("how", "text"),
        [
            ({"gas": 20_999}, "intrinsic gas too low: gas 20999, minimum needed 21000"),
            ({"gas": 21_015, "data": b"\1"}, "intrinsic gas too low: gas 21015, minimum needed 21016"),
            ({"gas": 30_000_001}, "exceeds block gas limit"),
            ({"fee": 5, "tip": 6}, "max priority fee per gas higher than max fee per gas"),
        ],
    )
    def test_gas_and_fees_must_make_sense(self, rpc: Rpc, how: dict[str, Any], text: str) -> None:
        assert refused(rpc, rpc.sign(KA, B, **how)).startswith(text)

    @pytest.mark.parametrize("raw", ["0x", "0x00", "0x02", "0x03c0", "0x02c0", "0xc0", "0xf800", "0x02" + 400 * "ff"])
    def test_garbage_is_no_transaction(self, rpc: Rpc, raw: str) -> None:
        assert refused(rpc, raw)

    def test_a_high_s_is_no_signature(self, rpc: Rpc) -> None:
        tx = Transaction(84532, 0, 1, GWEI * 3, 21_000, B)
        good = sign(tx.signing_hash(), KA)
        raw = tx.sign_with(good)
        order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
        high = (order - int.from_bytes(good[32:64], "big")).to_bytes(32, "big")
        assert refused(rpc, "0x" + raw.replace(good[32:64], high).hex())

    def test_a_contract_cannot_be_a_sender(self, rpc: Rpc) -> None:
        rpc("anvil_setCode", A, "0x00")
        assert refused(rpc, rpc.sign(KA, B)).startswith("sender not an eoa")

    def test_a_failed_transaction_pays_and_changes_nothing(self, rpc: Rpc) -> None:
        rpc("anvil_setCode", NEW, "0x" + REVERTER.hex())
        receipt = rpc.send(KA, NEW, value=9, gas=50_000)
        assert receipt["status"] == "0x0"
        assert receipt["logs"] == []
        assert wei(rpc, NEW) == 0
        paid = int(receipt["gasUsed"], 16) * int(receipt["effectiveGasPrice"], 16)
        assert wei(rpc, A) == 10_000 * ETHER - paid
        assert count(rpc, A) == 1

    def test_running_out_of_gas_takes_all_of_it(self, rpc: Rpc) -> None:
        rpc("anvil_setCode", NEW, "0x" + COUNTER.hex())
        receipt = rpc.send(KA, NEW, gas=25_000)
        assert (receipt["status"], receipt["gasUsed"]) == ("0x0", hex(25_000))
