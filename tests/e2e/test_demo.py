"""``x402 demo`` as people run it: a command, its exit code, what it prints, and what it never prints."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account

from tests.shop import RELAYER_KEY, Ground, TroubledNode, on_anvil, on_devnet
from x402core.evm.keccak import keccak

PRICE = 10_000
WARNING = "a key on the command line can be seen by other users: env: and file: cannot\n"
POOR = keccak(b"nobody ever gave this one anything").hex()


COMMAND = [sys.executable, "-m", "x402bind.cli"]


def environment(key: str | None = None) -> dict[str, str]:
    """Return an environment with a mark that every process started from it keeps."""
    env = {name: value for name, value in os.environ.items() if name != "X402_PRIVATE_KEY"}
    env["X402_TEST_MARK"] = secrets.token_hex(8)
    return env if key is None else {**env, "X402_PRIVATE_KEY": key}


def left_behind(env: dict[str, str]) -> list[str]:
    """Return the command lines of processes that still run with the mark."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile, or is somebody else's
            if env["X402_TEST_MARK"].encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_text())
    return found


def x402(*arguments: str, key: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command to its end; whatever it was, it shows no traceback and leaves no process behind."""
    env = environment(key)
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, env=env, timeout=60, check=False)
    assert "Traceback" not in done.stdout + done.stderr, done.stderr
    assert not left_behind(env)
    return done


def check(done: subprocess.CompletedProcess[str], ground: Ground | None, node: str) -> None:
    """Demand a document that says that everything held, and that the chain agrees with."""
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    assert (document["ok"], document["node"], document["price"]) == (True, node, "$0.01")
    flows = document["flows"]
    assert [flow["dialect"] for flow in flows] == ["permit-token", "x402-v2"]
    assert [flow["calls"] for flow in flows] == [["permit", "transferFrom"], ["transferWithAuthorization"]]
    for flow in flows:
        assert (flow["status"], flow["amount"]) == (200, PRICE)
        before, after = flow["balances_before"], flow["balances_after"]
        assert (before["payer"] - after["payer"], after["pay_to"] - before["pay_to"]) == (PRICE, PRICE)
        assert flow["replay"] == {"status": 200, "same_answer": True, "charged": 0}
        assert all(flow["checks"].values())
        if ground is not None:
            assert ground.calls(tuple(flow["transactions"])) == tuple(flow["calls"])
    last = flows[-1]
    if ground is not None:
        asset = document["asset"].lower()
        for who in ("payer", "pay_to"):
            assert ground.rpc.balance(asset, last[who].lower()) == last["balances_after"][who]


def test_the_demo_on_its_own_chain() -> None:
    check(x402("demo", "--json"), None, "devnet")


def test_the_demo_as_people_read_it() -> None:
    done = x402("demo")
    assert (done.returncode, done.stderr) == (0, "")
    assert "all 14 checks held" in done.stdout
    assert done.stdout.count("no second charge") == 2


@pytest.mark.parametrize("how", ["option", "environment"])
@pytest.mark.parametrize("place", [on_devnet, pytest.param(on_anvil, marks=pytest.mark.anvil)])
def test_the_demo_on_a_given_node(place: Any, how: str) -> None:
    key = "0x" + RELAYER_KEY.hex()
    with place() as ground:
        warned = how == "option"
        if warned:
            done = x402("demo", "--json", "--rpc", ground.url + "/?token=api-key", "--private-key", key)
        else:
            done = x402("demo", "--json", "--rpc", ground.url, key=key)
        assert key[2:] not in done.stdout + done.stderr
        assert "api-key" not in done.stdout + done.stderr
        assert done.stderr == ("x402: " + WARNING if warned else "")
        done.stderr = ""
        check(done, ground, ground.url)


@pytest.mark.parametrize("source", ["env", "file", "keystore"])
def test_the_demos_key_comes_from_where_other_keys_come_from(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "key"
    path.write_text(json.dumps(Account.encrypt(RELAYER_KEY, "sesame", kdf="pbkdf2", iterations=2)))
    if source == "file":
        path.write_text(RELAYER_KEY.hex())
        path.chmod(0o600)
    monkeypatch.setenv("GAS", RELAYER_KEY.hex())
    monkeypatch.setenv("X402_KEYSTORE_PASSWORD", "sesame")
    given = {"env": "env:GAS", "file": f"file:{path}", "keystore": str(path)}[source]
    with on_devnet() as ground:
        check(x402("demo", "--json", "--rpc", ground.url, "--private-key", given), ground, ground.url)


def one_line(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """Demand a failure said in one line."""
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("x402 demo: ")
    assert all(word in line for word in words), line


def test_a_node_that_is_not_there() -> None:
    one_line(x402("demo", "--json", "--rpc", "http://127.0.0.1:9/secret", key=POOR), "does not answer", "127.0.0.1:9")


@pytest.mark.parametrize("url", ["nonsense", "ftp://x", "http://", "http://[::1"])
def test_what_is_no_url(url: str) -> None:
    one_line(x402("demo", "--json", "--rpc", url, key=POOR), "url")


@pytest.mark.parametrize("key", ["0x12", "not a key at all", 64 * "0", 64 * "f", 66 * "a"])
def test_a_wrong_key_is_refused_and_not_shown(key: str) -> None:
    with on_devnet() as ground:
        done = x402("demo", "--json", "--rpc", ground.url, "--private-key", key)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--private-key: " in done.stderr
    assert key not in done.stderr


def test_a_key_without_money_for_gas() -> None:
    with on_devnet() as ground:
        done = x402("demo", "--json", "--rpc", ground.url, key=POOR)
    one_line(done, "money for gas")
    assert POOR not in done.stderr


def test_a_server_that_is_no_node() -> None:
    class FakeNode(TroubledNode):
        def answer(self, body: bytes, target: str) -> bytes | None:
            return b"<html>hello</html>"

    with FakeNode("") as node:
        one_line(x402("demo", "--json", "--rpc", node.url, key=POOR), "does not answer")


def test_a_node_that_goes_away_in_the_middle() -> None:
    with on_devnet() as ground, TroubledNode(ground.url) as node:
        seen: list[str] = []

        def fall(call: dict[str, Any]) -> str | None:
            seen.append(call["method"])
            node.down = node.down or seen.count("eth_sendRawTransaction") == 3
            return "going" if node.down else None

        node.filter = fall
        done = x402("demo", "--json", "--rpc", node.url, key=RELAYER_KEY.hex())
        one_line(done)


def test_a_node_needs_a_key() -> None:
    done = x402("demo", "--rpc", "http://127.0.0.1:9")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--private-key" in done.stderr


@pytest.mark.parametrize("arguments", [(), ("nothing",), ("demo", "--wrong")])
def test_misuse_is_exit_2(arguments: tuple[str, ...]) -> None:
    assert x402(*arguments).returncode == 2


def test_an_interrupted_demo_goes_quietly() -> None:
    env = environment()
    demo = subprocess.Popen(
        [*COMMAND, "demo"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )
    assert demo.stdout is not None
    assert demo.stderr is not None
    with demo:
        assert "x402 demo" in demo.stdout.readline()
        demo.send_signal(signal.SIGINT)
        assert demo.wait(20) == 130
        assert demo.stderr.read() == ""
    assert not left_behind(env)


def test_a_key_without_a_node_is_misuse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAS", POOR)
    done = x402("demo", "--private-key", "env:GAS")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "x402 demo: --private-key: it is for a node of yours: give --rpc too\n"


def test_a_node_of_no_name_is_not_the_embedded_one() -> None:
    """What a shell makes of a variable that is not set."""
    one_line(x402("demo", "--rpc", "", key=POOR), "url")


@pytest.mark.parametrize("missing", ["httpx", "anyio", "uvicorn", "pyrevm"])
def test_what_is_not_installed_is_said_in_a_line(missing: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; from x402bind.cli import main; sys.exit(main(['demo']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    (line,) = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (2, "")
    assert line.startswith(f"x402 demo: {missing} is not installed: pip install 'x402core[demo]'")
    assert ("--rpc" in line) == (missing == "pyrevm")


@pytest.mark.parametrize("arguments", [("demo",), ("demo", "--json")])
def test_an_output_that_is_full_is_no_traceback(arguments: tuple[str, ...]) -> None:
    env = environment()
    with open("/dev/full", "wb") as full:
        command = [*COMMAND, *arguments]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=env, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (3, "x402 demo: the output cannot be written: No space left on device\n")
    assert not left_behind(env)


def test_a_demo_that_nobody_reads_any_more_ends() -> None:
    env = environment()
    demo = subprocess.Popen([*COMMAND, "demo"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    assert demo.stdout is not None
    assert demo.stderr is not None
    with demo.stderr as err:
        assert "x402 demo" in demo.stdout.readline()
        demo.stdout.close()
        assert demo.wait(60) == 3
        assert err.read() == "x402 demo: nobody reads the output any more\n"
    assert not left_behind(env)
