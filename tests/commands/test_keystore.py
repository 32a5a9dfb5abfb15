"""Encrypted keystores, against another implementation's (eth-account) and the format's own examples."""

from __future__ import annotations

import json
from typing import Any

import pytest
from eth_account import Account

from x402bind.chain.keystore import decrypt
from x402bind.chain.signers import PrivateKeySigner
from x402core.errors import LocalProtocolError

SECRET = bytes.fromhex("7a28b5ba57c53603b0b07b56bba752f7784bf506fa95edc395f5cf6c7514fe9d")
PASSWORD = "testpassword"
PBKDF2: dict[str, Any] = {
    "crypto": {
        "cipher": "aes-128-ctr",
        "cipherparams": {"iv": "6087dab2f9fdbbfaddc31a909735c1e6"},
        "ciphertext": "5318b4d5bcd28de64ee5559e671353e16f075ecae9f99c7a79a38af5f869aa46",
        "kdf": "pbkdf2",
        "kdfparams": {
            "c": 262144,
            "dklen": 32,
            "prf": "hmac-sha256",
            "salt": "ae3cd4e7013836a3df6bd7241b12db061dbe2c6785853cce422d148a624ce0bd",
        },
        "mac": "517ead924a9d0dc3124507e3393d175ce3ff7c1e96529c6c555ce9e51205e9b2",
    },
    "id": "3198bc9c-6672-5ab3-d995-4942343ae5b6",
    "version": 3,
}
"""The format's published example."""


def stored(kdf: str = "pbkdf2", key: bytes = SECRET, password: str = PASSWORD) -> dict[str, Any]:
    """Return what eth-account writes, with little work."""
    return dict(Account.encrypt(key, password, kdf=kdf, iterations=2 if kdf == "scrypt" else 10))


def refused(document: dict[str, Any] | bytes, password: str = PASSWORD) -> str:
    raw = document if isinstance(document, bytes) else json.dumps(document).encode()
    with pytest.raises(LocalProtocolError) as caught:
        decrypt(raw, password)
    assert caught.value.field == "keystore"
    assert SECRET.hex() not in str(caught.value)
    assert password not in str(caught.value)
    return str(caught.value)


def test_the_published_example() -> None:
    assert decrypt(json.dumps(PBKDF2).encode(), PASSWORD) == SECRET


@pytest.mark.parametrize("kdf", ["scrypt", "pbkdf2"])
@pytest.mark.parametrize("password", ["", "päss wörd €", "x" * 300])
def test_what_eth_account_writes(kdf: str, password: str) -> None:
    key = b"\0" * 3 + SECRET[3:]
    found = decrypt(json.dumps(stored(kdf, key, password)).encode(), password)
    assert found == key
    assert PrivateKeySigner(found).address == Account.from_key(key).address.lower()


def test_geths_own_strength() -> None:
    document = dict(Account.encrypt(SECRET, PASSWORD, kdf="scrypt", iterations=262144))
    assert decrypt(json.dumps(document).encode(), PASSWORD) == SECRET


def test_the_old_capital_and_no_address() -> None:
    document = stored()
    document["Crypto"] = document.pop("crypto")
    del document["address"]
    assert decrypt(json.dumps(document).encode(), PASSWORD) == SECRET


@pytest.mark.parametrize("kdf", ["scrypt", "pbkdf2"])
def test_a_wrong_password(kdf: str) -> None:
    document = stored(kdf)
    assert "wrong password" in refused(document, "testpasswore")
    document["crypto"]["ciphertext"] = "00" + document["crypto"]["ciphertext"][2:]
    assert "damaged" in refused(document)


def test_another_account_than_it_says() -> None:
    assert "/address" in refused({**stored(), "address": "11" * 20})


@pytest.mark.parametrize(
    ("at", "value"),
    [
        ("/version", 4),
        ("/crypto/cipher", "aes-256-cbc"),
        ("/crypto/ciphertext", "zz"),
        ("/crypto/ciphertext", "00" * 33),
        ("/crypto/cipherparams/iv", ""),
        ("/crypto/mac", 7),
        ("/crypto/kdf", "argon2"),
        ("/crypto/kdfparams/dklen", 16),
        ("/crypto/kdfparams/prf", "hmac-sha1"),
        ("/crypto/kdfparams/salt", None),
        ("/crypto/kdfparams/c", 0),
    ],
)
def test_a_file_out_of_shape_is_named_by_its_member(at: str, value: object) -> None:
    document = json.loads(json.dumps(PBKDF2))
    *path, last = at[1:].split("/")
    place = document
    for name in path:
        place = place[name]
    place[last] = value
    assert at in refused(document)


@pytest.mark.parametrize(
    ("kdf", "change"),
    [
        ("pbkdf2", {"c": 10**12}),
        ("scrypt", {"n": 2**40}),
        ("scrypt", {"n": 1000}),
        ("scrypt", {"r": 2**30}),
        ("scrypt", {"p": 10**9}),
        ("scrypt", {"n": 2**17, "r": 1}),
    ],
)
def test_hostile_work_is_not_done(kdf: str, change: dict[str, int]) -> None:
    document = stored(kdf)
    document["crypto"]["kdfparams"] |= change
    assert "/crypto/kdfparams/" in refused(document)


@pytest.mark.parametrize("raw", [b"", b"[]", b"{", b"\xff", b"3", b"{}"])
def test_no_keystore_at_all(raw: bytes) -> None:
    refused(raw)
