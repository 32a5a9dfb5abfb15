"""Blocks of the embedded chain: hashes, links, tags, fees, old state, logs."""

from __future__ import annotations

import pytest

from tests.chain.ondevnet import COUNTER, KA, KB, KC, NEW, A, B, C, OnDevnet, count, wei
from tests.chains import GWEI, PERMIT2, Rpc, RpcFailure
from x402bind.chain.devnet import ETHER, Devnet
from x402bind.chain.devnet.token import place
from x402core.evm.abi import encode_call
from x402core.evm.keccak import keccak


class TestBlocks(OnDevnet):
    def test_they_are_linked_by_hashes_of_their_headers(self, rpc: Rpc) -> None:
        rpc.must(KA, B)
        rpc("anvil_mine", "0x3")
        blocks = [rpc("eth_getBlockByNumber", hex(n), False) for n in range(5)]
        assert [int(block["number"], 16) for block in blocks] == [0, 1, 2, 3, 4]
        assert [block["parentHash"] for block in blocks[1:]] == [block["hash"] for block in blocks[:-1]]
        assert len({block["hash"] for block in blocks}) == 5
        for block in blocks:
            assert rpc("eth_getBlockByHash", block["hash"], False) == block
        assert rpc("eth_getBlockByNumber", "0x5", False) is None
        assert rpc("eth_getBlockByHash", "0x" + 64 * "1", False) is None

    def test_a_header_hashes_to_its_hash(self, rpc: Rpc) -> None:
        """With eth_account's RLP, from the JSON alone."""
        import rlp as reference

        rpc.must(KA, B)
        block = rpc("eth_getBlockByNumber", "latest", False)
        data = ("parentHash", "sha3Uncles", "miner", "stateRoot", "transactionsRoot", "receiptsRoot", "logsBloom")
        numbers = ("difficulty", "number", "gasLimit", "gasUsed", "timestamp")
        fields = [bytes.fromhex(block[name][2:]) for name in data]
        fields += [int(block[name], 16) for name in numbers]
        fields += [bytes.fromhex(block[name][2:]) for name in ("extraData", "mixHash", "nonce")]
        fields.append(int(block["baseFeePerGas"], 16))
        assert block["hash"] == "0x" + keccak(reference.encode(fields)).hex()

    def test_full_blocks_hold_whole_transactions(self, rpc: Rpc) -> None:
        receipt = rpc.must(KA, B, value=2)
        (view,) = rpc("eth_getBlockByNumber", "latest", True)["transactions"]
        assert view == rpc("eth_getTransactionByHash", receipt["transactionHash"])
        assert (view["blockHash"], view["transactionIndex"]) == (receipt["blockHash"], "0x0")

    def test_tags_point_where_they_should(self, rpc: Rpc) -> None:
        rpc("anvil_mine", "0x64")
        heights = {
            tag: int(rpc("eth_getBlockByNumber", tag, False)["number"], 16)
            for tag in ("earliest", "finalized", "safe", "latest", "pending")
        }
        assert heights == {"earliest": 0, "finalized": 36, "safe": 68, "latest": 100, "pending": 100}

    def test_the_base_fee_follows_eip_1559(self, rpc: Rpc) -> None:
        rpc("anvil_setNextBlockBaseFeePerGas", hex(8 * GWEI))
        rpc("evm_mine")
        rpc("evm_mine")
        assert rpc("eth_getBlockByNumber", "latest", False)["baseFeePerGas"] == hex(7 * GWEI)
        rpc("anvil_setCode", NEW, "0xfe")
        rpc.wait(rpc("eth_sendRawTransaction", rpc.sign(KA, NEW, gas=30_000_000, fee=20 * GWEI)))
        full = int(rpc("eth_getBlockByNumber", "latest", False)["baseFeePerGas"], 16)
        rpc("evm_mine")
        assert int(rpc("eth_getBlockByNumber", "latest", False)["baseFeePerGas"], 16) == full + full // 8

    def test_old_state_can_be_read_and_called(self, devnet: Devnet, rpc: Rpc) -> None:
        token = place(devnet.chain)
        token.mint(A, 100)
        rpc("evm_mine")
        call = {"to": token.address, "data": "0x" + encode_call("balanceOf(address)", B).hex()}
        for _ in range(4):
            rpc.must(KA, token.address, encode_call("transfer(address,uint256)", B, 1))
        assert [int(rpc("eth_call", call, hex(n)), 16) for n in (5, 1, 3, 2, 4, 5)] == [4, 0, 2, 1, 3, 4]
        assert [count(rpc, A, hex(n)) for n in range(1, 6)] == [0, 1, 2, 3, 4]
        assert wei(rpc, A, "0x1") == 10_000 * ETHER
        assert rpc("eth_getCode", token.address, "0x0") == "0x"
        hash_ = rpc("eth_getBlockByNumber", "0x2", False)["hash"]
        assert int(rpc("eth_call", call, {"blockHash": hash_, "requireCanonical": True}), 16) == 1
        assert int(rpc("eth_call", call, {"blockNumber": "0x2"}), 16) == 1

    def test_a_block_that_is_not_there_has_no_state(self, rpc: Rpc) -> None:
        for tag in ("0x1", {"blockHash": "0x" + 64 * "1"}):
            with pytest.raises(RpcFailure, match=r"^header not found$") as caught:
                rpc("eth_call", {"to": B}, tag)
            assert caught.value.code == -32000

    def test_fee_history_has_one_more_base_fee_than_blocks(self, rpc: Rpc) -> None:
        rpc("evm_setAutomine", False)
        rpc("eth_sendRawTransaction", rpc.sign(KA, B, tip=7))
        rpc("eth_sendRawTransaction", rpc.sign(KC, B, tip=9))
        rpc("evm_mine")
        history = rpc("eth_feeHistory", "0x2", "latest", [0, 50, 100])
        assert history["oldestBlock"] == "0x0"
        first, second, following = (int(fee, 16) for fee in history["baseFeePerGas"])
        assert (first, second) == (1_000_000_000, 875_000_000)
        assert following == second - second * (15_000_000 - 42_000) // 15_000_000 // 8
        assert history["gasUsedRatio"] == [0.0, 42_000 / 30_000_000]
        assert history["reward"] == [["0x0", "0x0", "0x0"], ["0x7", "0x7", "0x9"]]
        assert int(rpc("eth_gasPrice"), 16) == following + int(rpc("eth_maxPriorityFeePerGas"), 16)
        with pytest.raises(RpcFailure, match="invalid reward percentile"):
            rpc("eth_feeHistory", "0x1", "latest", [50, 10])


class TestLogs(OnDevnet):
    @pytest.fixture
    def filled(self, devnet: Devnet, rpc: Rpc) -> Rpc:
        """Blocks 1 to 3: A pays B 1, A pays C 2, B pays C 1 of one token; block 4: A pays B 5 of another."""
        first, second = place(devnet.chain), place(devnet.chain, PERMIT2)
        first.mint(A, 10)
        second.mint(A, 10)
        for key, token, to, amount in ((KA, first, B, 1), (KA, first, C, 2), (KB, first, C, 1), (KA, second, B, 5)):
            rpc.must(key, token.address, encode_call("transfer(address,uint256)", to, amount))
        self.first, self.second = first.address, second.address
        return rpc

    def amounts(self, rpc: Rpc, **wanted: object) -> list[int]:
        return [int(log["data"], 16) for log in rpc("eth_getLogs", wanted)]

    def test_by_block_range_contract_and_topics(self, filled: Rpc) -> None:
        transfer = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
        a, b, c = ("0x" + each[2:].rjust(64, "0") for each in (A, B, C))
        every: dict[str, object] = {"fromBlock": "0x0", "toBlock": "latest"}
        assert self.amounts(filled, **every) == [1, 2, 1, 5]
        assert self.amounts(filled) == [5], "the newest block is the default"
        assert self.amounts(filled, fromBlock="0x2", toBlock="0x3") == [2, 1]
        assert self.amounts(filled, fromBlock="0x2", toBlock="0xff") == [2, 1, 5]
        assert self.amounts(filled, **every, address=self.second) == [5]
        assert self.amounts(filled, **every, address=[self.first, self.second]) == [1, 2, 1, 5]
        assert self.amounts(filled, **every, topics=[transfer, b]) == [1]
        assert self.amounts(filled, **every, topics=[None, None, c]) == [2, 1]
        assert self.amounts(filled, **every, topics=[[transfer], [a, b], [c]]) == [2, 1]
        assert self.amounts(filled, **every, topics=[[], a]) == [1, 2, 5]
        assert self.amounts(filled, **every, topics=[b]) == []
        assert self.amounts(filled, **every, topics=[transfer, None, None, None]) == []

    def test_by_block_hash(self, filled: Rpc) -> None:
        block = filled("eth_getBlockByNumber", "0x2", False)
        (log,) = filled("eth_getLogs", {"blockHash": block["hash"]})
        assert (log["blockNumber"], log["logIndex"], log["transactionIndex"]) == ("0x2", "0x0", "0x0")
        assert log["transactionHash"] == block["transactions"][0]
        with pytest.raises(RpcFailure, match=r"^unknown block$"):
            filled("eth_getLogs", {"blockHash": "0x" + 64 * "1"})

    def test_a_filter_that_makes_no_sense_is_refused_by_name(self, filled: Rpc) -> None:
        for wrong, where in (
            ({"address": "0x12"}, "filter/address"),
            ({"topics": ["0x12"]}, "filter/topics/0"),
            ({"fromBlock": "0x3", "toBlock": "0x1"}, "filter/fromBlock"),
            ({"fromBlock": "new"}, "filter/fromBlock"),
            ({"blockHash": "0x" + 64 * "1", "toBlock": "0x1"}, "filter/blockHash"),
        ):
            with pytest.raises(RpcFailure) as caught:
                filled("eth_getLogs", wrong)
            assert (caught.value.code, where in caught.value.message) == (-32602, True), caught.value.message

    def test_the_bloom_filter_never_misses(self, filled: Rpc) -> None:
        for n in range(1, 5):
            block = filled("eth_getBlockByNumber", hex(n), False)
            bits = int(block["logsBloom"], 16)
            for log in filled("eth_getLogs", {"blockHash": block["hash"]}):
                for entry in (log["address"], *log["topics"]):
                    digest = keccak(bytes.fromhex(entry[2:]))
                    assert all(bits >> (int.from_bytes(digest[i : i + 2], "big") & 2047) & 1 for i in (0, 2, 4))

    def test_indices_count_through_a_block(self, devnet: Devnet, rpc: Rpc) -> None:
        devnet.chain.set_code(NEW, COUNTER)
        rpc("evm_setAutomine", False)
        hashes = [rpc("eth_sendRawTransaction", rpc.sign(key, NEW, gas=100_000)) for key in (KA, KB, KC)]
        rpc("evm_mine")
        indices = [log["logIndex"] for hash_ in hashes for log in rpc("eth_getTransactionReceipt", hash_)["logs"]]
        assert indices == ["0x0", "0x1", "0x2"]
