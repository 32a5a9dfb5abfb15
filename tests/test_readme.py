"""Every code block of the README is run, and is no longer than it says."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from tests import readme
from tests.readme import blocks, marked
from x402bind.chain.devnet import Devnet, token
from x402bind.chain.devnet.keys import DEV_KEYS, dev_accounts

ROOT = Path(__file__).resolve().parent.parent
README = readme.README.read_text(encoding="utf-8")
BLOCKS = blocks(README)
PYTHON = {name: block.code for name, block in marked(README, "run", "python").items()}
COMMANDS = marked(README, "readme", "bash")
PRICE = 10_000


def lines(code: str) -> int:
    """Count what a reader has to understand: neither imports nor blank lines."""
    return sum(1 for line in code.splitlines() if line.strip() and not re.match(r"\s*(import|from) ", line))


def test_every_block_is_marked() -> None:
    assert [block.code for block in BLOCKS if not block.kind] == []
    assert len(BLOCKS) == len(PYTHON) + len(COMMANDS)
    assert README.count("\n```") == 2 * len(BLOCKS)  # no fence that the parser does not see
    assert set(PYTHON) == {"server", "fastapi", "client", "embed", "facilitator"}
    assert set(COMMANDS) == {"demo", "test", "commands", "chain"}


@pytest.mark.parametrize(("name", "most"), [("server", 10), ("client", 6), ("embed", 20), ("facilitator", 4)])
def test_the_examples_are_as_short_as_they_say(name: str, most: int) -> None:
    assert lines(PYTHON[name]) <= most


def test_the_commands_set_themselves_up() -> None:
    demo, test = COMMANDS["demo"], COMMANDS["test"]
    assert demo.code.strip() == "pip install -q '.[demo]' && x402 demo"
    assert test.code.startswith("pip install -q -e '.[test]' && ")
    assert test.code.strip().endswith("python -m pytest -n 3 --dist loadfile")
    assert re.search("demo|run", demo.heading, re.IGNORECASE)
    assert "test" in test.heading


@pytest.mark.parametrize("name", ["demo", "test"])
def test_the_commands_come_out_for_a_shell(name: str) -> None:
    """By the module, and by the line of awk in .ci/run, which needs no Python: the same text."""
    module = [sys.executable, "-S", "-E", "-m", "tests.readme", "command", name]
    printed = subprocess.run(module, cwd=ROOT, capture_output=True, text=True, timeout=20, check=True)
    assert printed.stdout == COMMANDS[name].code
    found = re.search(r"^readme\(\) \{.*\}$", (ROOT / ".ci" / "run").read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None
    shell = ["bash", "-c", f"{found[0]}\nreadme {name}"]
    assert subprocess.run(shell, cwd=ROOT, capture_output=True, text=True, timeout=20, check=True).stdout == printed.stdout


@pytest.mark.parametrize("wrong", [[], ["command"], ["command", "other"], ["print", "demo"]])
def test_a_wrong_call_says_how(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert readme.main(wrong) == 2
    assert "usage: python -m tests.readme command {demo,test,commands,chain}" in capsys.readouterr().err


def test_a_block_without_a_marker_is_seen() -> None:
    text = "# A\n<!-- run: a -->\n```python\n# B\n```\n\n<!-- run: b -->\n\n```python\nx\n```\n```text\ny\n```\n"
    found = [(block.kind, block.name, block.language, block.code, block.heading) for block in blocks(text)]
    assert found == [("run", "a", "python", "# B\n", "A"), ("", "", "python", "x\n", "A"), ("", "", "text", "y\n", "A")]
    with pytest.raises(ValueError, match="twice"):
        marked(text.replace("<!-- run: b -->\n\n", "<!-- run: a -->\n"), "run", "python")


@pytest.fixture(scope="module", params=["server", "fastapi"])
def shop(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[dict[str, str], token.DevUSD]]:
    """Run the README's servers under uvicorn on a devnet; give the environment of its examples, and the token."""
    folder = tmp_path_factory.mktemp("shop")
    (folder / "shop.py").write_text(PYTHON[request.param])
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


@pytest.fixture
def facilitator(tmp_path: Path) -> Iterator[str]:
    """The README's facilitator, on a devnet of its own."""
    with Devnet() as devnet:
        token.place(devnet.chain)
        (tmp_path / "settling.py").write_text(PYTHON["facilitator"])
        environment = {**os.environ, "KEY": DEV_KEYS[0].hex(), "RPC": devnet.url}
        command = [sys.executable, "-m", "uvicorn", "settling:app", "--port", "0", "--host", "127.0.0.1"]
        server = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
        try:
            yield _address(server)
        finally:
            server.send_signal(signal.SIGINT)
            server.communicate(timeout=10)


def test_the_readmes_facilitator_says_what_it_settles(facilitator: str) -> None:
    told = httpx.get(f"{facilitator}/supported").json()
    assert ("exact", "eip155:84532") in [(kind["scheme"], kind["network"]) for kind in told["kinds"]]
    assert ("exact", "base-sepolia") in [(kind["scheme"], kind["network"]) for kind in told["kinds"]]
    assert httpx.get(f"{facilitator}/health").json() == {"status": "ok"}


def test_the_readmes_commands_sell_and_buy() -> None:
    """As they stand, but on ports that are free, and on a devnet."""
    payer, payee, settler = dev_accounts()[1], dev_accounts()[2], DEV_KEYS[0]
    lines = [line.partition(" #")[0].rstrip(" &") for line in COMMANDS["commands"].code.strip().splitlines()]
    lines = [line for line in lines if not line.startswith("sleep")]
    assert [line.split()[1] for line in lines] == ["facilitator", "serve", "pay"]
    with Devnet() as devnet, ExitStack() as started:
        dollar = token.place(devnet.chain)
        dollar.mint(payer, 1_000_000)
        keys = {"SETTLER_KEY": settler.hex(), "PAYER_KEY": DEV_KEYS[1].hex(), "PAYEE": payee}
        environment = {**os.environ, **keys}
        places = {"http://127.0.0.1:8545": devnet.url}
        for line, usual in zip(lines[:2], ("4020", "4021"), strict=True):
            places[f"http://127.0.0.1:{usual}"] = started.enter_context(
                _started(_placed(line, places, environment), environment)
            )
        before = dollar.balance_of(payer), dollar.balance_of(payee)
        bought = subprocess.run(
            _placed(lines[2], places, environment), env=environment, capture_output=True, text=True, timeout=60
        )
        assert bought.returncode == 0, bought.stderr
        assert payer in bought.stdout
        assert (dollar.balance_of(payer), dollar.balance_of(payee)) == (before[0] - PRICE, before[1] + PRICE)


def _placed(line: str, places: dict[str, str], environment: dict[str, str]) -> list[str]:
    for usual, here in places.items():
        line = line.replace(usual, here)
    words = [word.replace("$PAYEE", environment["PAYEE"]) for word in shlex.split(line)]
    return [sys.executable, "-m", "x402bind.cli", *words[1:]]


@contextmanager
def _started(command: list[str], environment: dict[str, str]) -> Iterator[str]:
    server = subprocess.Popen([*command, "--port", "0"], env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        said = server.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+", said)
        assert found is not None, f"it did not start: {said}"
        yield found[0]
    finally:
        server.send_signal(signal.SIGINT)
        server.communicate(timeout=10)
