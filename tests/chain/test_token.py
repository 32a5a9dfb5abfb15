"""DevUSD behaves like USDC: placed on the embedded chain, and deployed by transactions there and on anvil."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.chain.conduct import FUNDS, OWNER, PAYER, STRANGER, STRANGER_KEY, Ground, TokenConduct, undone
from tests.chains import BASE_SEPOLIA, USDC, Anvil, Rpc
from x402bind.chain.devnet import DEV_KEYS, Chain, Devnet, RpcError, dev_accounts
from x402bind.chain.devnet.token import deploy_calldata, initialize_calldata, place
from x402core.evm.abi import encode_call
from x402core.evm.digests import domain
from x402core.values import Address


def deployed(rpc: Rpc) -> Ground:
    """Deploy the token as anybody would, in two transactions."""
    token = Address(rpc.must(DEV_KEYS[0], None, deploy_calldata())["contractAddress"].lower())
    rpc.must(DEV_KEYS[0], token, initialize_calldata())
    rpc.must(DEV_KEYS[0], token, encode_call("mint(address,uint256)", PAYER, FUNDS))
    return Ground(rpc, token)


@pytest.fixture(scope="module", params=["placed", "deployed", pytest.param("anvil", marks=pytest.mark.anvil)])
def shared(request: pytest.FixtureRequest) -> Iterator[Ground]:
    if request.param == "anvil":
        with Anvil() as anvil:
            yield deployed(Rpc(anvil.url))
        return
    with Devnet(BASE_SEPOLIA) as devnet:
        if request.param == "placed":
            token = place(devnet.chain)
            token.mint(PAYER, FUNDS)
            yield Ground(Rpc(devnet.url), token.address)
        else:
            yield deployed(Rpc(devnet.url))


@pytest.fixture
def ground(shared: Ground) -> Iterator[Ground]:
    with undone(shared.rpc):
        yield shared


class TestDevUSD(TokenConduct):
    def test_it_is_initialized_once(self, ground: Ground) -> None:
        again = initialize_calldata("Mine", "1", "MINE", 18, STRANGER)
        ground.refused(again, "already initialized", STRANGER_KEY, STRANGER)
        assert ground.rpc.view(ground.token, "address", "minter()") == OWNER


class TestPlacing:
    def test_it_lives_where_the_real_one_does_unless_told(self) -> None:
        assert place(Chain()).address == USDC

    def test_the_domain_follows_the_address_and_the_names(self) -> None:
        chain = Chain(8453)
        where = "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"
        token = place(chain, where, name="USD Coin")
        with Devnet(8453) as devnet:
            place(devnet.chain, where, name="USD Coin")
            separator = Rpc(devnet.url).view(token.address, "bytes32", "DOMAIN_SEPARATOR()")
        assert token.address == where.lower()
        assert separator == domain("USD Coin", "2", 8453, token.address)

    def test_two_tokens_on_one_chain_know_nothing_of_each_other(self) -> None:
        chain = Chain()
        first, second = place(chain), place(chain, "0x" + 40 * "7", name="Other", version="1")
        first.mint(PAYER, 5)
        assert (first.balance_of(PAYER), second.balance_of(PAYER)) == (5, 0)

    def test_a_place_that_is_taken_is_refused(self) -> None:
        chain = Chain()
        place(chain).mint(PAYER, 5)
        with pytest.raises(RpcError, match="already initialized"):
            place(chain)

    def test_the_minter_may_be_anybody(self) -> None:
        token = place(Chain(), minter=STRANGER)
        token.mint(PAYER, 2**255)
        assert token.balance_of(PAYER) == 2**255
        with pytest.raises(RpcError):
            token.mint(PAYER, 2**255)  # the supply would not fit in 256 bits
        assert token.allowance(PAYER, STRANGER) == 0
        assert not token.authorization_used(PAYER, bytes(32))

    def test_the_placed_and_the_deployed_code_are_the_same(self) -> None:
        with Devnet() as devnet:
            ground = deployed(Rpc(devnet.url))
            token = place(devnet.chain)
            codes = {devnet.chain.state().code(address) for address in (ground.token, token.address)}
        assert len(codes) == 1
        assert dev_accounts()[0] == OWNER
