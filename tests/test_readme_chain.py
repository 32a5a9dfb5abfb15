"""The chain with money of ``python -m x402bind.chain.devnet --dollars``: what a shell is told, and what is bought on it."""

from __future__ import annotations

import doctest
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.chains import Rpc
from tests.shop import Ground, Payer, Shop, client
from tests.test_readme import COMMANDS, PRICE, PYTHON, ROOT, _address, _placed, _started
from x402bind.chain import devnet
from x402bind.chain.devnet import ETHER
from x402bind.chain.devnet.__main__ import main
from x402bind.chain.devnet.keys import DEV_KEYS, dev_accounts
from x402bind.chain.devnet.stage import set_up
from x402bind.chain.signers import PrivateKeySigner
from x402bind.clients.httpx import raise_for_payment
from x402core.events import Dialect
from x402core.evm.eip712 import domain_separator
from x402core.registry import KNOWN
from x402core.values import Address

USDC = KNOWN.default("base-sepolia")
NAMES = {"RPC", "KEY", "PAYER_KEY", "SETTLER_KEY", "PAYEE"}
RUN = [sys.executable, "-m", "x402bind.chain.devnet"]


@contextmanager
def running(*arguments: str) -> Iterator[str]:
    """Run the command on a free port; give all it says."""
    with subprocess.Popen([*RUN, "--port", "0", *arguments], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            said = ""
            while not re.search("^(export PAYEE|listening)", said, re.MULTILINE) and (line := process.stdout.readline()):
                said += line
            yield said
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == 0
            assert process.stdout.read() == ""
        finally:
            process.kill()


def in_a_shell(said: str) -> dict[str, str]:
    """Have a shell take the lines; return the environment it has then, which is not to hold anything else of ours."""
    script = 'eval "$SAID"; unset SAID; exec env -0'
    clean = {name: value for name, value in os.environ.items() if name not in NAMES}
    ran = subprocess.run(["sh", "-euc", script], env={**clean, "SAID": said}, capture_output=True, text=True, check=True)
    assert ran.stderr == ""
    found = dict(entry.split("=", 1) for entry in ran.stdout.split("\0") if entry)
    assert set(found) - set(clean) - {"PWD", "OLDPWD", "SHLVL", "_"} == NAMES
    return {**found, "PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="module")
def chain() -> Iterator[dict[str, str]]:
    """The README's command, but for its port; the environment of a shell that has taken what it says."""
    line = COMMANDS["chain"].code.splitlines()[0]
    asked = re.fullmatch(r"python -m x402bind\.chain\.devnet (.*?) > chain\.sh &(  #.*)?", line)
    assert asked is not None
    with running(*asked[1].split()) as said:
        yield in_a_shell(said)


@pytest.fixture
def ground(chain: dict[str, str]) -> Iterator[Ground]:
    rpc = Rpc(chain["RPC"])
    yield Ground(chain["RPC"], rpc)
    rpc.close()


def test_the_keys_are_the_public_ones_and_each_has_ether(chain: dict[str, str], ground: Ground) -> None:
    keys = tuple(bytes.fromhex(chain[name].removeprefix("0x")) for name in ("KEY", "PAYER_KEY", "SETTLER_KEY"))
    assert keys == DEV_KEYS[:3]
    assert chain["PAYEE"].lower() == dev_accounts()[3]
    for account in dev_accounts()[:4]:
        assert int(ground.rpc("eth_getBalance", account, "latest"), 16) >= 9_999 * ETHER


def test_the_dollar_is_the_registrys(ground: Ground) -> None:
    assert ground.rpc("eth_chainId") == hex(84532)
    for call, kind, expected in (
        ("name()", "string", USDC.name),
        ("version()", "string", USDC.version),
        ("symbol()", "string", USDC.code.upper()),
        ("decimals()", "uint8", USDC.decimals),
    ):
        assert ground.rpc.view(USDC.address, kind, call) == expected
    domain = {"name": USDC.name, "version": USDC.version, "chainId": 84532, "verifyingContract": USDC.address}
    assert ground.rpc.view(USDC.address, "bytes32", "DOMAIN_SEPARATOR()") == domain_separator(domain)


@pytest.mark.parametrize("dialect", [Dialect.V2, Dialect.PERMIT_TOKEN])
def test_both_ways_to_pay_work_on_it(chain: dict[str, str], ground: Ground, tmp_path: Path, dialect: Dialect) -> None:
    """An EIP-3009 authorization, and an EIP-2612 permit for an access token."""
    key = bytes.fromhex(chain["PAYER_KEY"][2:])
    payer = Payer(key, PrivateKeySigner(key))
    before = ground.balance(payer.address)
    with Shop(ground, tmp_path) as shop, client(payer.purse(ground, dialect)) as (paying, _):
        assert raise_for_payment(paying.get(shop.paid)).json()["paid_by"] == payer.address
        shop.settled()
        assert (shop.earned, ground.balance(payer.address)) == (PRICE, before - PRICE)


@pytest.mark.parametrize("name", ["server", "fastapi"])
def test_the_readmes_server_and_payers_trade_on_it(chain: dict[str, str], ground: Ground, tmp_path: Path, name: str) -> None:
    seller, payer = dev_accounts()[0], dev_accounts()[1]
    (tmp_path / "shop.py").write_text(PYTHON[name])
    command = [sys.executable, "-m", "uvicorn", "shop:app", "--port", "0", "--host", "127.0.0.1"]
    with subprocess.Popen(command, cwd=tmp_path, env=chain, stderr=subprocess.PIPE, text=True) as server:
        try:
            url = f"{_address(server)}/premium"
            for buyer in ("client", "embed"):
                before = ground.balance(payer), ground.balance(seller)
                code = [sys.executable, "-c", PYTHON[buyer]]
                ran = subprocess.run(code, env={**chain, "URL": url}, capture_output=True, text=True, timeout=30, check=False)
                assert ran.returncode == 0, ran.stderr
                assert f"paid by {payer}" in ran.stdout
                assert (ground.balance(payer), ground.balance(seller)) == (before[0] - PRICE, before[1] + PRICE)
        finally:
            server.send_signal(signal.SIGINT)
            server.communicate(timeout=10)


def test_the_readmes_commands_need_nothing_else(chain: dict[str, str], ground: Ground) -> None:
    """ "Without code": a facilitator, a seller and a payer, with what the shell was told, on ports that are free."""
    payer, payee = dev_accounts()[1], Address(chain["PAYEE"])
    lines = [line.partition(" #")[0].rstrip(" &") for line in COMMANDS["commands"].code.strip().splitlines()]
    settling, selling, buying = [line for line in lines if not line.startswith("sleep")]
    before = ground.balance(payer), ground.balance(payee)
    places = {"http://127.0.0.1:8545": chain["RPC"]}
    with ExitStack() as started:
        for line, usual in ((settling, "4020"), (selling, "4021")):
            at = started.enter_context(_started(_placed(line, places, chain), chain))
            places[f"http://127.0.0.1:{usual}"] = at
        command = _placed(buying, places, chain)
        bought = subprocess.run(command, env=chain, capture_output=True, text=True, timeout=60, check=False)
    assert bought.returncode == 0, bought.stderr
    assert (ground.balance(payer), ground.balance(payee)) == (before[0] - PRICE, before[1] + PRICE)


# ------------------------------------------------------------------------------------------------------------ the option


def test_so_many_dollars_on_another_chain() -> None:
    """Whatever the registry calls a dollar there."""
    dollar = KNOWN.default("eip155:8453")
    with running("--dollars", "7", "--chain-id", "8453") as said:
        rpc = Rpc(in_a_shell(said)["RPC"])
        assert rpc.balance(dollar.address, dev_accounts()[1]) == 7_000_000
        assert rpc.view(dollar.address, "string", "name()") == dollar.name == "USD Coin"
        rpc.close()


def test_a_reorganisation_of_the_first_payment_leaves_the_money() -> None:
    with devnet.Devnet() as chain:
        set_up(chain, USDC, 5)
        chain.chain.mine()
        chain.chain.reorg(1)
        rpc = Rpc(chain.url)
        assert rpc.balance(USDC.address, dev_accounts()[1]) == 5_000_000
        rpc.close()


def test_without_the_option_nothing_is_there() -> None:
    with running() as said:
        assert re.fullmatch(r"listening on http://127\.0\.0\.1:[0-9]+\n", said)
        rpc = Rpc(said.split()[-1])
        assert rpc("eth_getCode", USDC.address, "latest") == "0x"
        rpc.close()


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (["--dollars", "0"], "a whole number of dollars"),
        (["--dollars", "1.5"], "a whole number of dollars"),
        (["--dollars", "9999999999999"], "a whole number of dollars"),
        (["--dollars", "--chain-id", "31337"], "no dollar is known on a chain with id 31337"),
        (["--dollars", "--chain-id", "0"], "no dollar is known on a chain with id 0"),
    ],
)
def test_a_wrong_option_is_misuse(wrong: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(wrong)
    assert ended.value.code == 2
    assert why in capsys.readouterr().err


def test_the_help_says_what_comes_out(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    told = capsys.readouterr().out
    assert all(name in told for name in NAMES)


def test_the_packages_example_runs_as_written() -> None:
    done = doctest.testmod(devnet)
    assert (done.failed, done.attempted >= 3) == (0, True)
