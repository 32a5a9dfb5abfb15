"""The embedded chain as a package: who it is, what it is made of, and what it shares with anvil."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from eth_account import Account

from tests.chain.ondevnet import COUNTER, KA, NEW, REVERTER, A, OnDevnet, count, wei
from tests.chains import Anvil, Rpc, RpcFailure
from x402bind.chain.devnet import DEV_KEYS, ETHER, Chain, Devnet, DevnetUnavailable, RpcError, dev_accounts
from x402bind.chain.devnet.vm import Message


class TestAccounts(OnDevnet):
    def test_the_ten_are_those_of_the_well_known_mnemonic(self) -> None:
        Account.enable_unaudited_hdwallet_features()
        phrase = " ".join(["test"] * 11 + ["junk"])
        for i, (key, address) in enumerate(zip(DEV_KEYS, dev_accounts(), strict=True)):
            account = Account.from_mnemonic(phrase, account_path=f"m/44'/60'/0'/0/{i}")
            assert (bytes(account.key), account.address.lower()) == (key, address)
        assert dev_accounts()[0] == "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266"

    def test_each_has_ten_thousand_ether(self, rpc: Rpc) -> None:
        assert [wei(rpc, account) for account in dev_accounts()] == [10_000 * ETHER] * 10
        assert wei(rpc, NEW) == 0

    def test_other_accounts_may_be_funded_instead(self) -> None:
        chain = Chain(accounts=[NEW])
        assert chain.state().balance(NEW) == 10_000 * ETHER
        assert chain.state().balance(A) == 0


class TestIdentity(OnDevnet):
    def test_it_says_who_and_where_it_is(self, rpc: Rpc) -> None:
        assert rpc("eth_chainId") == hex(84532)
        assert rpc("net_version") == "84532"
        assert rpc("web3_clientVersion").startswith("x402-devnet/")
        assert (rpc("eth_accounts"), rpc("eth_syncing"), rpc("eth_blockNumber")) == ([], False, "0x0")

    def test_the_chain_id_is_the_one_asked_for(self) -> None:
        with Devnet(31337) as devnet:
            rpc = Rpc(devnet.url)
            assert rpc("eth_chainId") == "0x7a69"
            code = bytes.fromhex("465f5260205ff3")  # CHAINID
            devnet.chain.set_code(NEW, code)
            assert int(rpc("eth_call", {"to": NEW}), 16) == 31337


class TestCheats(OnDevnet):
    def test_they_set_what_they_say(self, rpc: Rpc) -> None:
        rpc("anvil_setBalance", NEW, hex(ETHER))
        rpc("anvil_setNonce", NEW, "0x9")
        rpc("anvil_setCode", NEW, "0x" + COUNTER.hex())
        rpc("anvil_setStorageAt", NEW, "0x0", "0x" + 62 * "0" + "2a")
        assert (wei(rpc, NEW), count(rpc, NEW)) == (ETHER, 9)
        (log,) = rpc.must(KA, NEW)["logs"]
        assert int(log["data"], 16) == 0x2B
        rpc("anvil_setCode", NEW, "0x")
        assert rpc("eth_getCode", NEW) == "0x"
        assert (wei(rpc, NEW), count(rpc, NEW)) == (ETHER, 9)

    def test_executing_directly_says_why_it_fails(self) -> None:
        chain = Chain()
        chain.set_code(NEW, REVERTER)
        with pytest.raises(RpcError, match="execution reverted"):
            chain.execute(Message(A, NEW))

    def test_too_much_at_once_is_refused(self, rpc: Rpc) -> None:
        for method, *params in (("anvil_mine", hex(100_001)), ("anvil_setNonce", NEW, hex(2**64))):
            with pytest.raises(RpcFailure) as caught:
                rpc(method, *params)
            assert caught.value.code == -32602


class TestPackage(OnDevnet):
    def test_pyrevm_is_not_needed_until_a_chain_is_made(self) -> None:
        code = "import sys, x402bind.chain.devnet.token; sys.exit('pyrevm' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

    def test_without_pyrevm_it_says_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "pyrevm", None)
        with pytest.raises(DevnetUnavailable, match=r"pip install 'x402core\[demo\]'"):
            Devnet()

    def test_stopping_twice_is_once_too_often_but_harmless(self) -> None:
        devnet = Devnet().start()
        devnet.stop()
        devnet.stop()
        with pytest.raises(OSError):
            Rpc(devnet.url)("eth_chainId")


@pytest.mark.anvil
class TestAgainstAnvil:
    """What both nodes say to the same, member by member: every member we send, anvil sends too, in the same form."""

    def facts(self, url: str) -> dict[str, Any]:
        rpc = Rpc(url)
        rpc("anvil_setCode", NEW, "0x" + COUNTER.hex())
        receipt = rpc.must(KA, NEW, gas=100_000)
        hash_ = receipt["transactionHash"]
        return {
            "receipt": receipt,
            "log": receipt["logs"][0],
            "transaction": rpc("eth_getTransactionByHash", hash_),
            "block": rpc("eth_getBlockByNumber", "latest", True),
            "history": rpc("eth_feeHistory", "0x1", "latest", [50]),
        }

    def test_the_shapes_are_the_same(self) -> None:
        with Devnet() as ours, Anvil() as theirs:
            left, right = self.facts(ours.url), self.facts(theirs.url)
        for what in left:
            for name, value in left[what].items():
                assert name in right[what], f"{what}.{name}"
                other = right[what][name]
                assert type(value) is type(other), f"{what}.{name}: {value!r} and {other!r}"
                if isinstance(value, str) and len(other) > 20:
                    assert len(value) == len(other) or name == "extraData", f"{what}.{name}: {value!r} and {other!r}"
        for name in ("from", "to", "type", "status", "logs", "logsBloom", "contractAddress", "transactionIndex"):
            ours_, theirs_ = left["receipt"][name], right["receipt"][name]
            if name == "logs":
                ours_, theirs_ = ([(log["topics"], log["data"]) for log in each] for each in (ours_, theirs_))
            assert ours_ == theirs_, name
