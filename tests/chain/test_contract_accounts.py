"""Accounts that are contracts pay in real USDC: smart wallets, deployed late or not, EIP-7702 and ERC-7710."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.chain.conduct import undone
from tests.chains import PERMIT2, USDC, Anvil, RealUSDC, Rpc
from tests.contracts import Placed, exact_call, place_all, refusal, try_aggregate
from tests.contracts.accounts import SmartWallet, delegate, permission, redeem_call
from x402bind.chain.devnet import Devnet
from x402bind.chain.devnet.keys import DEV_KEYS, dev_accounts
from x402core.evm.abi import encode_call
from x402core.evm.digests import EXACT_PROXY, domain, permit2_domain, permit2_exact_digest, transfer_authorization_digest
from x402core.evm.secp256k1 import public_address, sign
from x402core.evm.signatures import ContractSignature, DeploylessSignature, EoaSignature, classify
from x402core.values import Address, Hash32

pytestmark = pytest.mark.anvil

KEY, STRANGER_KEY, RELAYER_KEY = b"\x07" * 32, DEV_KEYS[3], DEV_KEYS[2]
RELAYER, STRANGER, PAYEE = *dev_accounts()[2:4], dev_accounts()[8]
FUNDS, LATE = 1_000_000, 9_999_999_999
NONCE = Hash32("0x" + 64 * "5")
BY_BYTES = "transferWithAuthorization(address,address,uint256,uint256,uint256,bytes32,bytes)"
BY_KEY = "transferWithAuthorization(address,address,uint256,uint256,uint256,bytes32,uint8,bytes32,bytes32)"


@pytest.fixture(scope="module", params=[Anvil, Devnet], ids=["anvil", "devnet"])
def shared(request: pytest.FixtureRequest) -> Iterator[Placed]:
    with request.param() as node:
        placed = place_all(Rpc(node.url))
        RealUSDC.place(placed.rpc)
        yield placed


@pytest.fixture(scope="module")
def prague() -> Iterator[Placed]:
    """A chain that knows EIP-7702, which the embedded one does not."""
    with Anvil() as node:
        placed = place_all(Rpc(node.url))
        RealUSDC.place(placed.rpc, {public_address(KEY): FUNDS})
        yield placed


@pytest.fixture
def placed(shared: Placed) -> Iterator[Placed]:
    with undone(shared.rpc):
        yield shared


@pytest.fixture
def wallet(placed: Placed) -> SmartWallet:
    """A wallet with money, not deployed yet."""
    wallet = SmartWallet.of(placed, KEY)
    mint(placed.rpc, wallet.address)
    return wallet


@pytest.fixture
def account(prague: Placed) -> Iterator[Placed]:
    """The chain on which KEY's ordinary account has money and no ether."""
    with undone(prague.rpc):
        yield prague


def mint(rpc: Rpc, to: Address) -> None:
    rpc.must(DEV_KEYS[0], USDC, encode_call("mint(address,uint256)", to, FUNDS))


def digest(payer: Address, amount: int = 700) -> bytes:
    return transfer_authorization_digest(domain("USDC", "2", 84532, USDC), payer, PAYEE, amount, 0, LATE, NONCE)


def pay_by_bytes(payer: Address, signature: bytes, amount: int = 700) -> bytes:
    return encode_call(BY_BYTES, payer, PAYEE, amount, 0, LATE, NONCE, signature)


def pay_by_key(payer: Address, made: bytes) -> bytes:
    return encode_call(BY_KEY, payer, PAYEE, 700, 0, LATE, NONCE, made[64], made[:32], made[32:64])


def moved(rpc: Rpc, payer: Address) -> tuple[int, int]:
    return FUNDS - rpc.balance(USDC, payer), rpc.balance(USDC, PAYEE)


def accepts(rpc: Rpc, account: Address, digest: bytes, signature: bytes) -> bool:
    answer = rpc.view(account, "bytes4", "isValidSignature(bytes32,bytes)", digest, signature)
    return bool(answer.hex() == "1626ba7e")


# ---------------------------------------------------------------- ERC-1271


@pytest.mark.parametrize("long", [False, True], ids=["65 bytes", "66 bytes"])
def test_a_wallet_pays_by_what_its_owner_signs(wallet: SmartWallet, long: bool) -> None:
    wallet.deploy()
    signature = (wallet.sign_long if long else wallet.sign)(digest(wallet.address))
    assert isinstance(classify(signature), ContractSignature if long else EoaSignature)
    assert accepts(wallet.rpc, wallet.address, digest(wallet.address), signature)
    wallet.rpc.must(RELAYER_KEY, USDC, pay_by_bytes(wallet.address, signature))
    assert moved(wallet.rpc, wallet.address) == (700, 700)


def test_a_wallets_65_bytes_pass_as_v_r_s_too(wallet: SmartWallet) -> None:
    wallet.deploy()
    wallet.rpc.must(RELAYER_KEY, USDC, pay_by_key(wallet.address, wallet.sign(digest(wallet.address))))
    assert moved(wallet.rpc, wallet.address) == (700, 700)


def test_hostile_signatures_of_a_wallet_are_refused(wallet: SmartWallet) -> None:
    wallet.deploy()
    good = wallet.sign(digest(wallet.address))
    twin = (
        int("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141", 16) - int.from_bytes(good[32:64], "big")
    ).to_bytes(32, "big")
    for bad in (
        sign(digest(wallet.address), STRANGER_KEY),
        good[:32] + twin + bytes((55 - good[64],)),
        good[:64],
        b"",
        b"\1" + good,
    ):
        assert not accepts(wallet.rpc, wallet.address, digest(wallet.address), bad)
        assert "invalid signature" in refusal(wallet.rpc, USDC, pay_by_bytes(wallet.address, bad), RELAYER)
    assert "invalid signature" in refusal(wallet.rpc, USDC, pay_by_bytes(wallet.address, good, 701), RELAYER)


def test_a_wallet_pays_by_permit2(wallet: SmartWallet) -> None:
    wallet.deploy()
    wallet.execute(USDC, encode_call("approve(address,uint256)", PERMIT2, 2**256 - 1))
    made = permit2_exact_digest(permit2_domain(84532), USDC, 700, 1, LATE, PAYEE, 0)
    forged = exact_call(USDC, 700, 1, LATE, wallet.address, PAYEE, 0, sign(made, STRANGER_KEY))
    assert refusal(wallet.rpc, EXACT_PROXY, forged, RELAYER) == "InvalidContractSignature"
    wallet.rpc.must(RELAYER_KEY, EXACT_PROXY, exact_call(USDC, 700, 1, LATE, wallet.address, PAYEE, 0, wallet.sign(made)))
    assert moved(wallet.rpc, wallet.address) == (700, 700)


def test_only_the_owner_commands_a_wallet(wallet: SmartWallet) -> None:
    wallet.deploy()
    transfer = encode_call("transfer(address,uint256)", PAYEE, 700)
    command = encode_call("execute(address,uint256,bytes)", USDC, 0, transfer)
    assert refusal(wallet.rpc, wallet.address, command, STRANGER) == "Wallet: not the owner"
    wallet.execute(USDC, transfer)
    assert moved(wallet.rpc, wallet.address) == (700, 700)


# ---------------------------------------------------------------- ERC-6492


def test_a_wallet_signs_before_it_is_there(wallet: SmartWallet) -> None:
    read = classify(wallet.sign_undeployed(digest(wallet.address)))
    assert isinstance(read, DeploylessSignature)
    assert read == DeploylessSignature(wallet.factory, wallet.calldata, wallet.sign(digest(wallet.address)))
    pay = pay_by_bytes(wallet.address, read.inner)
    assert "invalid signature" in refusal(wallet.rpc, USDC, pay, RELAYER)  # nobody there to ask
    results = try_aggregate(wallet.rpc, (read.factory, read.calldata), (USDC, pay))
    assert [success for success, _ in results] == [True, True]
    assert not wallet.deployed  # it was only a question
    wallet.rpc.must(RELAYER_KEY, read.factory, read.calldata)
    assert wallet.deployed
    wallet.rpc.must(RELAYER_KEY, USDC, pay)
    assert moved(wallet.rpc, wallet.address) == (700, 700)


def test_a_strict_factory_reverts_the_second_time_and_a_lenient_one_does_not(placed: Placed, wallet: SmartWallet) -> None:
    easy = SmartWallet.of(placed, KEY, lenient=True)
    assert easy.address != wallet.address
    for each, because in ((wallet, "WalletFactory: already deployed"), (easy, "")):
        each.deploy()
        assert refusal(placed.rpc, each.factory, each.calldata, RELAYER) == because


def test_each_owner_and_each_salt_has_a_wallet_of_its_own(placed: Placed) -> None:
    addresses = {SmartWallet.of(placed, key, salt).address for key in (KEY, STRANGER_KEY) for salt in (bytes(32), b"\1" * 32)}
    assert len(addresses) == 4


# ---------------------------------------------------------------- EIP-7702


def test_an_account_that_delegates_to_a_wallet_pays(account: Placed) -> None:
    payer, rpc = public_address(KEY), account.rpc
    signature = sign(digest(payer), KEY)
    delegate(rpc, KEY, account.delegate)
    assert accepts(rpc, payer, digest(payer), signature)
    assert "invalid signature" in refusal(rpc, USDC, pay_by_bytes(payer, sign(digest(payer), STRANGER_KEY)), RELAYER)
    rpc.must(RELAYER_KEY, USDC, pay_by_key(payer, signature))
    assert moved(rpc, payer) == (700, 700)


def test_an_account_that_delegates_to_what_knows_no_1271_cannot_pay(account: Placed) -> None:
    payer, rpc = public_address(KEY), account.rpc
    pay = pay_by_key(payer, sign(digest(payer), KEY))
    assert refusal(rpc, USDC, pay, RELAYER) == ""
    delegate(rpc, KEY, account.mute_delegate)
    assert "invalid signature" in refusal(rpc, USDC, pay, RELAYER)
    delegate(rpc, KEY, Address("0x" + 40 * "0"))  # no more
    rpc.must(RELAYER_KEY, USDC, pay)
    assert moved(rpc, payer) == (700, 700)


# ---------------------------------------------------------------- ERC-7710


@pytest.fixture
def delegator(placed: Placed, wallet: SmartWallet) -> SmartWallet:
    """A wallet that lets the manager execute calls."""
    wallet.deploy()
    wallet.enable(placed.manager)
    return wallet


def test_a_delegation_moves_money_up_to_its_limit(placed: Placed, delegator: SmartWallet) -> None:
    context = permission(placed.manager, delegator, USDC, 1000)
    placed.rpc.must(RELAYER_KEY, placed.manager, redeem_call(context, USDC, PAYEE, 700))
    assert moved(placed.rpc, delegator.address) == (700, 700)
    more = redeem_call(context, USDC, PAYEE, 301)
    assert refusal(placed.rpc, placed.manager, more, RELAYER) == "DelegationManager: limit"
    assert placed.rpc.send(RELAYER_KEY, placed.manager, more)["status"] == "0x0"
    placed.rpc.must(RELAYER_KEY, placed.manager, redeem_call(context, USDC, PAYEE, 300))
    assert moved(placed.rpc, delegator.address) == (1000, 1000)


def test_hostile_redemptions_are_refused(placed: Placed, delegator: SmartWallet) -> None:
    manager, other = placed.manager, Address("0x" + 40 * "7")
    good = permission(manager, delegator, USDC, 1000)
    for context, token, amount, because in (
        (good, USDC, 1001, "limit"),
        (good, other, 700, "not the token"),
        (permission(manager, delegator, USDC, 1000, key=STRANGER_KEY), USDC, 700, "signature"),
        (permission(other, delegator, USDC, 1000), USDC, 700, "signature"),
        (permission(manager, delegator, USDC, 1000, chain=1), USDC, 700, "signature"),
        (permission(manager, replace(delegator, key=STRANGER_KEY), USDC, 1000), USDC, 700, "signature"),
        (permission(manager, delegator, USDC, 1000, to=STRANGER), USDC, 700, "not the delegate"),
    ):
        data = redeem_call(context, token, PAYEE, amount)
        assert refusal(placed.rpc, manager, data, RELAYER) == f"DelegationManager: {because}"
        assert placed.rpc.send(RELAYER_KEY, manager, data)["status"] == "0x0"
    over = redeem_call(permission(manager, delegator, USDC, 2 * FUNDS), USDC, PAYEE, FUNDS + 1)
    assert "exceeds balance" in refusal(placed.rpc, manager, over, RELAYER)
    assert moved(placed.rpc, delegator.address) == (0, 0)


def test_a_delegation_may_name_who_redeems_it(placed: Placed, delegator: SmartWallet) -> None:
    context = permission(placed.manager, delegator, USDC, 1000, to=RELAYER)
    placed.rpc.must(RELAYER_KEY, placed.manager, redeem_call(context, USDC, PAYEE, 700))
    assert moved(placed.rpc, delegator.address) == (700, 700)


def test_a_wallet_that_has_withdrawn_its_manager_pays_nothing(placed: Placed, delegator: SmartWallet) -> None:
    delegator.enable(placed.manager, yes=False)
    data = redeem_call(permission(placed.manager, delegator, USDC, 1000), USDC, PAYEE, 700)
    assert refusal(placed.rpc, placed.manager, data, RELAYER) == "Wallet: not an enabled manager"
