"""The real FiatTokenV2_2 passes the same tests, on anvil and on our chain: the token, the chain and the tests agree."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.chain.conduct import FUNDS, PAYEE, PAYER, PAYER_KEY, RELAYER, Ground, TokenConduct, undone
from tests.chains import CREATE2_DEPLOYER, PERMIT2, Anvil, RealUSDC, Rpc, place_permit2
from x402bind.chain.devnet import Devnet
from x402core.evm.abi import encode_call
from x402core.evm.digests import permit2_domain

pytestmark = pytest.mark.anvil


@pytest.fixture(scope="module", params=[Anvil, Devnet], ids=["anvil", "devnet"])
def node(request: pytest.FixtureRequest) -> Iterator[Rpc]:
    with request.param() as node:
        yield Rpc(node.url)


@pytest.fixture(scope="module")
def shared(node: Rpc) -> Ground:
    return Ground(node, RealUSDC.place(node, {PAYER: FUNDS}).address)


@pytest.fixture
def ground(shared: Ground) -> Iterator[Ground]:
    with undone(shared.rpc):
        yield shared


class TestFiatToken(TokenConduct):
    def test_the_bytes_overload_pays_too(self, ground: Ground) -> None:
        values = (PAYER, PAYEE, 40, 0, 2**256 - 1, bytes(32))
        v, r, s = ground.sign(PAYER_KEY, "TransferWithAuthorization", *values)
        types = "address,address,uint256,uint256,uint256,bytes32,bytes"
        ground.send(encode_call(f"transferWithAuthorization({types})", *values, r + s + bytes((v,))))
        assert ground.balances() == (FUNDS - 40, 40, 0, 0)


def test_permit2_stands_at_its_canonical_address(node: Rpc) -> None:
    with undone(node):
        assert node("eth_getCode", CREATE2_DEPLOYER, "latest") != "0x"
        place_permit2(node)
        assert node.view(PERMIT2, "bytes32", "DOMAIN_SEPARATOR()") == permit2_domain(84532)
        assert node.view(PERMIT2, "uint256", "nonceBitmap(address,uint256)", RELAYER, 0) == 0
