"""``--key``: every way to give one, and that none of them comes out again."""

from __future__ import annotations

import argparse
import json
import os
import secrets
import traceback
from pathlib import Path

import pytest
from eth_account import Account

from x402bind.chain.signers import PrivateKeySigner
from x402bind.commands.keys import KeySource, add_key, read_key
from x402core.errors import LocalProtocolError

KEY = secrets.token_bytes(32)
HEX = KEY.hex()
ADDRESS = PrivateKeySigner(KEY).address


def written(folder: Path, text: str, mode: int = 0o600, name: str = "key") -> Path:
    path = folder / name
    path.write_text(text)
    path.chmod(mode)
    return path


def refused(source: str | None, **how: object) -> str:
    """Return the words of a refusal, after looking through all that could show the key."""
    with pytest.raises(LocalProtocolError) as caught:
        read_key(None if source is None else KeySource(source), **{"environ": {}, **how})  # type: ignore[arg-type]
    told = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + repr(KeySource(source or ""))
    assert HEX[:40] not in told.lower()
    return str(caught.value)


@pytest.mark.parametrize("spelled", [HEX, "0x" + HEX, HEX.upper()], ids=["bare", "prefixed", "upper"])
def test_hex_on_the_command_line_is_taken_and_warned_about(spelled: str) -> None:
    told: list[str] = []
    assert read_key(KeySource(spelled), warn=told.append).address == ADDRESS
    assert len(told) == 1
    assert "seen by other users" in told[0]
    assert HEX not in told[0].lower()


def test_from_the_environment() -> None:
    silent = pytest.fail
    assert read_key(None, environ={"X402_PRIVATE_KEY": "0x" + HEX}, warn=silent).address == ADDRESS
    assert read_key(KeySource("env:SHOP"), environ={"SHOP": HEX + "\n"}, warn=silent).address == ADDRESS


def test_from_a_file_of_ones_own(tmp_path: Path) -> None:
    assert read_key(KeySource(f"file:{written(tmp_path, HEX + chr(10))}"), warn=pytest.fail).address == ADDRESS


def test_from_a_pipe() -> None:
    """What a password manager writes to, with the shell's ``<(...)``."""
    read, write = os.pipe()
    os.write(write, HEX.encode())
    os.close(write)
    assert read_key(KeySource(f"file:/dev/fd/{read}")).address == ADDRESS
    os.close(read)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620, 0o602])
def test_a_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    assert "chmod 600" in refused(f"file:{written(tmp_path, HEX, mode)}")


@pytest.mark.parametrize("kdf", ["scrypt", "pbkdf2"])
def test_from_a_keystore(tmp_path: Path, kdf: str) -> None:
    document = Account.encrypt(KEY, "open sesame", kdf=kdf, iterations=2)
    path = written(tmp_path, json.dumps(document), 0o644)
    assert read_key(KeySource(str(path)), environ={"X402_KEYSTORE_PASSWORD": "open sesame"}, ask=pytest.fail).address == ADDRESS
    assert read_key(KeySource(str(path)), environ={}, ask=lambda: "open sesame").address == ADDRESS
    told = refused(str(path), ask=lambda: "open seasame")
    assert "wrong password" in told
    assert "seasame" not in told


def test_nobody_there_to_ask_for_the_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, json.dumps(Account.encrypt(KEY, "x", kdf="pbkdf2", iterations=2)))

    def no_terminal(*_: object, **__: object) -> int:
        raise OSError

    with open(os.devnull) as nothing, monkeypatch.context() as patched:
        patched.setattr("os.open", no_terminal)  # getpass opens /dev/tty
        patched.setattr("sys.stdin", nothing)
        told = refused(str(path))
    assert "X402_KEYSTORE_PASSWORD" in told


def test_a_key_with_a_digit_missing_is_not_repeated(tmp_path: Path) -> None:
    for short in (HEX[:-1], HEX + "0", "0x" + HEX[:-1], "env:" + HEX, "file:" + HEX, "file:0x" + HEX):
        refused(short)
    refused(None, environ={"X402_PRIVATE_KEY": HEX[:-1]})
    refused("env:SHOP", environ={"SHOP": HEX[:-1]})
    refused(f"file:{written(tmp_path, HEX[:-1])}")
    refused(f"file:{written(tmp_path, 'x' * 100_000, name='long')}")


def test_the_hint_says_what_was_meant(tmp_path: Path) -> None:
    assert "X402_PRIVATE_KEY" in refused(None)
    assert "file: before the path" in refused(str(written(tmp_path, HEX)))
    assert "leave file: out" in refused(f"file:{written(tmp_path, '{}', name='store')}")
    assert "there is no such file" in refused(f"file:{tmp_path / 'none'}")
    assert "cannot be read" in refused(str(tmp_path))
    assert "cannot be read" in refused("file:nul\0")


def test_a_key_of_zero_is_no_key() -> None:
    assert "key" in refused("00" * 32, warn=lambda _: None)


def test_parsed_options_do_not_show_it() -> None:
    parser = argparse.ArgumentParser()
    add_key(parser, whose="the account that pays")
    options = parser.parse_args(["--key", HEX])
    assert HEX not in repr(options)
    assert HEX not in f"{vars(options)}"
    assert read_key(options.key, warn=lambda _: None).address == ADDRESS
