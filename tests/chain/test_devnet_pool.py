"""Waiting transactions: gaps, replacement, order, fees; the states a payment lane must cope with."""

from __future__ import annotations

from threading import Thread

from tests.chain.ondevnet import KA, KB, KC, KD, NEW, A, B, C, D, OnDevnet, count, wei
from tests.chains import GWEI, Rpc
from x402bind.chain.devnet import ETHER, Devnet


class TestPool(OnDevnet):
    def test_a_gap_holds_back_what_follows_until_it_is_filled(self, rpc: Rpc) -> None:
        later = [rpc("eth_sendRawTransaction", rpc.sign(KA, B, nonce=nonce)) for nonce in (2, 1)]
        assert [rpc("eth_getTransactionReceipt", hash_) for hash_ in later] == [None, None]
        assert (count(rpc, A), count(rpc, A, "pending")) == (0, 0)
        assert rpc("eth_blockNumber") == "0x0"
        first = rpc("eth_sendRawTransaction", rpc.sign(KA, B, nonce=0))
        places = [rpc("eth_getTransactionReceipt", hash_) for hash_ in (first, *reversed(later))]
        assert [(each["blockNumber"], each["transactionIndex"]) for each in places] == [
            ("0x1", "0x0"),
            ("0x1", "0x1"),
            ("0x1", "0x2"),
        ]
        assert count(rpc, A) == 3

    def test_a_waiting_transaction_is_visible_and_has_no_block(self, rpc: Rpc) -> None:
        rpc("evm_setAutomine", False)
        hash_ = rpc("eth_sendRawTransaction", rpc.sign(KA, B, value=3))
        view = rpc("eth_getTransactionByHash", hash_)
        assert (view["blockHash"], view["blockNumber"], view["transactionIndex"]) == (None, None, None)
        assert (view["from"], view["to"], view["value"], view["nonce"]) == (A, B, "0x3", "0x0")
        assert rpc("eth_getTransactionReceipt", hash_) is None
        assert (count(rpc, A), count(rpc, A, "pending")) == (0, 1)
        assert wei(rpc, A) == 10_000 * ETHER

    def test_the_best_tip_goes_first_and_numbers_keep_their_order(self, rpc: Rpc) -> None:
        rpc("evm_setAutomine", False)
        send = {
            "a0": rpc.sign(KA, D, nonce=0, tip=10),
            "a1": rpc.sign(KA, D, nonce=1, tip=4000),
            "b0": rpc.sign(KB, D, nonce=0, tip=3000),
            "c0": rpc.sign(KC, D, nonce=0, tip=3000),
        }
        names = {rpc("eth_sendRawTransaction", raw): name for name, raw in send.items()}
        rpc("evm_mine")
        block = rpc("eth_getBlockByNumber", "latest", False)
        assert [names[hash_] for hash_ in block["transactions"]] == ["b0", "c0", "a0", "a1"]
        used = [int(rpc("eth_getTransactionReceipt", hash_)["cumulativeGasUsed"], 16) for hash_ in names]
        assert sorted(used) == [21_000, 42_000, 63_000, 84_000]
        assert block["gasUsed"] == hex(84_000)

    def test_a_full_block_leaves_the_rest_for_the_next(self, rpc: Rpc) -> None:
        rpc("evm_setAutomine", False)
        for key in (KA, KB, KC):
            rpc("eth_sendRawTransaction", rpc.sign(key, D, gas=14_900_000))
        rpc("anvil_setNextBlockBaseFeePerGas", hex(GWEI))
        rpc("evm_mine")
        # gas limits count only until the transaction has run; then what it used does
        assert len(rpc("eth_getBlockByNumber", "latest", False)["transactions"]) == 3
        rpc("anvil_setCode", NEW, "0xfe")  # burns all its gas
        for key in (KA, KB, KC):
            rpc("eth_sendRawTransaction", rpc.sign(key, NEW, gas=14_900_000))
        sizes = []
        for _ in range(2):
            rpc("evm_mine")
            sizes.append(len(rpc("eth_getBlockByNumber", "latest", False)["transactions"]))
        assert sizes == [2, 1]

    def test_a_fee_cap_under_the_base_fee_waits_for_it_to_fall(self, rpc: Rpc) -> None:
        rpc("anvil_setNextBlockBaseFeePerGas", hex(10 * GWEI))
        hash_ = rpc("eth_sendRawTransaction", rpc.sign(KA, B, fee=9 * GWEI))
        assert rpc("eth_blockNumber") == "0x0", "automine does not mine what cannot be mined"
        rpc("evm_mine")
        assert rpc("eth_getTransactionReceipt", hash_) is None
        rpc("evm_mine")
        receipt = rpc("eth_getTransactionReceipt", hash_)
        assert receipt["blockNumber"] == "0x2"
        assert int(receipt["effectiveGasPrice"], 16) == 8_750_000_000 + 1_000_000, "an eighth less, and the tip"

    def test_one_that_can_no_longer_pay_is_forgotten(self, rpc: Rpc) -> None:
        rpc("evm_setAutomine", False)
        hash_ = rpc("eth_sendRawTransaction", rpc.sign(KA, B, value=1))
        rpc("anvil_setBalance", A, "0x0")
        rpc("evm_mine")
        assert rpc("eth_getTransactionByHash", hash_) is None
        assert count(rpc, A) == 0

    def test_a_transaction_can_be_dropped(self, rpc: Rpc) -> None:
        rpc("evm_setAutomine", False)
        hash_ = rpc("eth_sendRawTransaction", rpc.sign(KA, B))
        assert rpc("anvil_dropTransaction", hash_) == hash_
        assert rpc("anvil_dropTransaction", hash_) is None
        rpc("evm_mine")
        assert rpc("eth_getTransactionByHash", hash_) is None
        assert rpc("eth_getBlockByNumber", "latest", False)["transactions"] == []

    def test_many_threads_lose_nothing(self, devnet: Devnet) -> None:
        def spend(key: bytes) -> None:
            rpc = Rpc(devnet.url)
            for _ in range(25):
                rpc.must(key, NEW, value=1, gas=21_000)
            rpc.close()

        threads = [Thread(target=spend, args=(key,)) for key in (KA, KB, KC, KD)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        state = devnet.chain.state()
        assert state.balance(NEW) == 100
        assert [state.nonce(account) for account in (A, B, C, D)] == [25] * 4
        assert sum(len(block.receipts) for n in range(101) if (block := devnet.chain.block(n)) is not None) == 100
