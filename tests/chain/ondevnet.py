"""What the tests of the embedded chain share: accounts, small contracts in bytes, a fresh chain per test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.chains import Rpc, RpcFailure
from x402bind.chain.devnet import DEV_KEYS, Devnet, dev_accounts
from x402core.values import Address

A, B, C, D = dev_accounts()[:4]
KA, KB, KC, KD = DEV_KEYS[:4]
NEW = Address("0x" + 40 * "9")
COUNTER = bytes.fromhex("5f546001015f555f545f5260205fa000")
"""Runtime code: count the calls in slot 0 and log the count, without topics."""
CREATE_COUNTER = bytes.fromhex("60105f8160095f39f3") + COUNTER
"""The creation code of it."""
REVERTER = bytes.fromhex("63deadbeef5f526004601cfd")
"""Runtime code: revert with 0xdeadbeef."""


class OnDevnet:
    """Inherit to have a fresh chain in ``devnet`` and a client in ``rpc``."""

    @pytest.fixture
    def devnet(self) -> Iterator[Devnet]:
        with Devnet() as devnet:
            yield devnet

    @pytest.fixture
    def rpc(self, devnet: Devnet) -> Iterator[Rpc]:
        rpc = Rpc(devnet.url)
        yield rpc
        rpc.close()


def refused(rpc: Rpc, raw: str) -> str:
    """Return what the node says to a transaction it does not take."""
    with pytest.raises(RpcFailure) as caught:
        rpc("eth_sendRawTransaction", raw)
    assert caught.value.code == -32000
    return caught.value.message


def wei(rpc: Rpc, account: Address, block: str = "latest") -> int:
    return int(rpc("eth_getBalance", account, block), 16)


def count(rpc: Rpc, account: Address, block: str = "latest") -> int:
    return int(rpc("eth_getTransactionCount", account, block), 16)
