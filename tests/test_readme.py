"""Every code block of the README is run, and is no longer than it says."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from x402bind.chain.devnet import Devnet, token
from x402bind.chain.devnet.keys import DEV_KEYS, dev_accounts

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"(?:<!-- (\w+): (\w+) -->\n)?```(\w+)\n(.*?)```", re.DOTALL)
BLOCKS = [match.groups() for match in BLOCK.finditer(README)]
PYTHON = {name: code for kind, name, language, code in BLOCKS if language == "python" and kind == "run"}
COMMANDS = {name: code for kind, name, language, code in BLOCKS if language == "bash" and kind == "readme"}
PRICE = 10_000


def lines(code: str) -> int:
    """Count what a reader has to understand: neither imports nor blank lines."""
    return sum(1 for line in code.splitlines() if line.strip() and not re.match(r"\s*(import|from) ", line))


def test_every_block_is_marked() -> None:
    assert all(kind is not None for kind, *_ in BLOCKS)
    assert set(PYTHON) == {"server", "client", "embed"}
    assert set(COMMANDS) == {"demo", "test"}


@pytest.mark.parametrize(("name", "most"), [("server", 10), ("client", 6), ("embed", 20)])
def test_the_examples_are_as_short_as_they_say(name: str, most: int) -> None:
    assert lines(PYTHON[name]) <= most


def test_the_commands_set_themselves_up() -> None:
    assert COMMANDS["demo"].strip() == "pip install -q '.[demo]' && x402 demo"
    assert COMMANDS["test"].startswith("pip install -q -e '.[test]' && ")
    assert COMMANDS["test"].strip().endswith("python -m pytest")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, str], token.DevUSD]]:
    """Run the README's server under uvicorn on a devnet; give the environment of its examples, and the token."""
    folder = tmp_path_factory.mktemp("shop")
    (folder / "shop.py").write_text(PYTHON["server"])
    with Devnet() as devnet:
        dollar = token.place(devnet.chain)
        dollar.mint(dev_accounts()[1], 1_000_000)
        secrets = {"KEY": DEV_KEYS[0].hex(), "PAYER_KEY": DEV_KEYS[1].hex(), "RPC": devnet.url}
        environment = {**os.environ, **secrets, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "uvicorn", "shop:app", "--port", "0", "--host", "127.0.0.1"]
        server = subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)
        try:
            yield {**environment, "URL": f"{_address(server)}/premium"}, dollar
        finally:
            server.send_signal(signal.SIGINT)
            server.communicate(timeout=10)


def _address(server: subprocess.Popen[str]) -> str:
    assert server.stderr is not None
    seen, until = "", time.monotonic() + 20
    while time.monotonic() < until and (line := server.stderr.readline()):
        seen += line
        if (found := re.search(r"running on (http://127\.0\.0\.1:\d+)", line)) is not None:
            return found[1]
    raise AssertionError(f"the README's server did not start:\n{seen}")


@pytest.mark.parametrize("name", ["client", "embed"])
def test_the_readmes_payers_buy_from_the_readmes_server(shop: tuple[dict[str, str], token.DevUSD], name: str) -> None:
    environment, dollar = shop
    payer, seller = dev_accounts()[1], dev_accounts()[0]
    before = dollar.balance_of(payer), dollar.balance_of(seller)
    ran = subprocess.run([sys.executable, "-c", PYTHON[name]], env=environment, capture_output=True, text=True, timeout=30)
    assert ran.returncode == 0, ran.stderr
    assert f"paid by {payer}" in ran.stdout
    assert "success=True" in ran.stdout
    assert (dollar.balance_of(payer), dollar.balance_of(seller)) == (before[0] - PRICE, before[1] + PRICE)


def test_the_readmes_server_asks_for_money(shop: tuple[dict[str, str], token.DevUSD]) -> None:
    answer = httpx.get(shop[0]["URL"])
    assert answer.status_code == 402
    assert "PAYMENT-REQUIRED" in answer.headers
