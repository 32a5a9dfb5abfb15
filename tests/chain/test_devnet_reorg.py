"""The embedded chain goes back: snapshots, reorganisations; and through time."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tests.chain.ondevnet import COUNTER, KA, KB, KC, NEW, A, B, C, OnDevnet, count, wei
from tests.chains import GWEI, Rpc, RpcFailure
from x402bind.chain.devnet import Devnet
from x402bind.chain.devnet.token import place
from x402core.evm.abi import encode_call


class TestGoingBack(OnDevnet):
    def test_a_snapshot_remembers_everything(self, devnet: Devnet, rpc: Rpc) -> None:
        token = place(devnet.chain)
        token.mint(A, 100)
        rpc.must(KA, token.address, encode_call("transfer(address,uint256)", B, 1))
        waiting = rpc("eth_sendRawTransaction", rpc.sign(KC, NEW, nonce=5))
        before = rpc("eth_getBlockByNumber", "latest", True)
        snapshot = rpc("evm_snapshot")
        rpc("evm_increaseTime", 500)
        paid = rpc.must(KA, token.address, encode_call("transfer(address,uint256)", B, 50))
        rpc("anvil_setBalance", NEW, "0x5")
        rpc("anvil_setNonce", NEW, "0x7")
        rpc("anvil_dropTransaction", waiting)
        assert rpc("evm_revert", snapshot) is True
        assert rpc("eth_getBlockByNumber", "latest", True) == before
        assert (token.balance_of(B), wei(rpc, NEW), count(rpc, NEW), count(rpc, A)) == (1, 0, 0, 1)
        assert rpc("eth_getTransactionReceipt", paid["transactionHash"]) is None
        assert rpc("eth_getTransactionByHash", paid["transactionHash"]) is None
        assert rpc("eth_getBlockByHash", paid["blockHash"], False) is None
        assert rpc("eth_getTransactionByHash", waiting) is not None
        assert devnet.chain.next_time() < rpc.now() + 60

    def test_a_snapshot_is_used_up_with_its_successors(self, rpc: Rpc) -> None:
        first, second = rpc("evm_snapshot"), rpc("evm_snapshot")
        assert rpc("evm_revert", first) is True
        assert rpc("evm_revert", second) is False
        assert rpc("evm_revert", first) is False
        assert rpc("evm_snapshot") not in (first, second)

    def test_going_back_and_on_again_gives_the_same_state(self, rpc: Rpc) -> None:
        rpc("anvil_setCode", NEW, "0x" + COUNTER.hex())
        for expected in (1, 2, 3):
            snapshot = rpc("evm_snapshot")
            rpc.must(KB, NEW)
            rpc("evm_revert", snapshot)
            (log,) = rpc.must(KA, NEW)["logs"]
            assert int(log["data"], 16) == expected

    def test_a_block_mined_again_has_another_hash(self, rpc: Rpc) -> None:
        at = rpc.now() + 10
        raw, snapshot = rpc.sign(KA, B), rpc("evm_snapshot")
        blocks = []
        for _ in range(2):
            rpc("evm_setNextBlockTimestamp", at)
            blocks.append(rpc.wait(rpc("eth_sendRawTransaction", raw))["blockHash"])
            rpc("evm_revert", snapshot)
            snapshot = rpc("evm_snapshot")
        assert blocks[0] != blocks[1]

    def test_a_reorganisation_gives_transactions_back_to_the_pool(self, rpc: Rpc) -> None:
        kept = rpc.must(KA, B, value=1)
        lost = [rpc.must(KA, NEW, value=2), rpc.must(KC, NEW, value=4)]
        old_head = rpc("eth_getBlockByNumber", "latest", False)["hash"]
        hashes = rpc("devnet_reorg", 2)
        assert hashes == [each["transactionHash"] for each in lost]
        assert rpc("eth_blockNumber") == "0x3", "as long as before"
        assert rpc("eth_getBlockByHash", old_head, False) is None
        assert rpc("eth_getTransactionReceipt", kept["transactionHash"])["blockHash"] == kept["blockHash"]
        for hash_ in hashes:
            assert rpc("eth_getTransactionReceipt", hash_) is None
            assert rpc("eth_getTransactionByHash", hash_)["blockHash"] is None
        assert (wei(rpc, NEW), count(rpc, A), count(rpc, A, "pending")) == (0, 1, 2)
        rpc("evm_mine")
        again = [rpc("eth_getTransactionReceipt", hash_) for hash_ in hashes]
        assert {each["blockNumber"] for each in again} == {"0x4"}
        assert wei(rpc, NEW) == 6

    def test_a_reorganised_payment_can_be_overtaken_by_another(self, rpc: Rpc) -> None:
        """The case a seller fears: the money was there, and then went elsewhere."""
        lost = rpc.must(KA, B, value=1)["transactionHash"]
        rpc("devnet_reorg", 1)
        other = rpc.wait(rpc("eth_sendRawTransaction", rpc.sign(KA, C, nonce=0, fee=10 * GWEI, tip=2_000_000)))
        assert other["to"] == C
        assert rpc("eth_getTransactionByHash", lost) is None

    def test_anvil_spellings_lose_the_transactions(self, rpc: Rpc) -> None:
        lost = rpc.must(KA, NEW, value=2)["transactionHash"]
        rpc("anvil_reorg", 1, [])
        assert rpc("eth_getTransactionByHash", lost) is None
        assert rpc("eth_blockNumber") == "0x1"
        rpc("anvil_rollback", 1)
        assert rpc("eth_blockNumber") == "0x0"
        with pytest.raises(RpcFailure, match="cannot undo 1 of 0 blocks"):
            rpc("anvil_rollback", 1)


class TestTime(OnDevnet):
    def test_a_quiet_chain_still_knows_the_time(self, devnet: Devnet, rpc: Rpc) -> None:
        """A call at the head must not be judged by the head's age."""
        devnet.chain.set_code(NEW, bytes.fromhex("425f5260205ff3"))  # TIMESTAMP
        rpc("evm_mine")
        start = rpc.now()
        assert rpc("evm_increaseTime", 3600) == 3600
        assert rpc.now() == start
        assert 3600 <= int(rpc("eth_call", {"to": NEW}, "latest"), 16) - start < 3700
        rpc("evm_mine")
        assert 3600 <= rpc.now() - start < 3700
        assert int(rpc("eth_call", {"to": NEW}, "0x1"), 16) == start

    def test_the_next_block_may_be_dated_and_time_runs_on_from_there(self, rpc: Rpc) -> None:
        at = rpc.now() + 5000
        rpc("evm_setNextBlockTimestamp", at)
        rpc("evm_mine")
        assert rpc.now() == at
        rpc("evm_mine")
        assert at <= rpc.now() < at + 60
        with pytest.raises(RpcFailure, match="is before the previous block's"):
            rpc("evm_setNextBlockTimestamp", at - 1)

    def test_blocks_can_be_mined_apart(self, rpc: Rpc) -> None:
        start = rpc.now()
        rpc("anvil_mine", "0x5", "0xc")
        stamps = [int(rpc("eth_getBlockByNumber", hex(n), False)["timestamp"], 16) for n in range(1, 6)]
        assert [b - a for a, b in pairwise(stamps)] == [12] * 4
        assert start <= stamps[0] < start + 60

    def test_mining_fast_does_not_outrun_the_clock(self, rpc: Rpc) -> None:
        start = rpc.now()
        rpc("anvil_mine", "0x3e8")
        assert rpc.now() - start < 60

    def test_a_block_can_be_mined_at_a_time(self, rpc: Rpc) -> None:
        at = rpc.now() + 77
        rpc("evm_mine", at)
        assert rpc.now() == at

    def test_blocks_come_by_themselves_when_asked(self) -> None:
        with Devnet(block_time=0.02) as devnet:
            rpc = Rpc(devnet.url)
            assert rpc("anvil_getAutomine") is False
            receipt = rpc.must(KA, NEW, value=1)
            assert int(receipt["blockNumber"], 16) >= 1
