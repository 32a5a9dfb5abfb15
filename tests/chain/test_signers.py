"""A key signs only what it was shown, and never shows itself."""

from __future__ import annotations

import copy
import pickle
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from tests.chain.conduct import PAYEE, PAYER, PAYER_KEY, TYPES
from tests.chain.scripted import NETWORK
from x402bind.chain.signers import PrivateKeySigner, Signer, signer_of
from x402bind.clients.httpx import Http402Client, async_paying_client, paying_client
from x402bind.clients.purse import Purse
from x402bind.clients.requests import paying_session
from x402bind.drive import dispatch
from x402bind.facilitator.service import Facilitator
from x402bind.seller import Seller
from x402core.commands import SignTransactions, SignTypedData
from x402core.errors import LocalProtocolError
from x402core.evm.digests import domain, transfer_authorization_digest
from x402core.evm.secp256k1 import recover
from x402core.evm.transaction import Transaction, decode
from x402core.policy import PayerPolicy
from x402core.values import Address, Hash32

TOKEN = Address("0x" + "7" * 40)
NONCE = Hash32("0x" + "05" * 32)
NODE = {NETWORK: "http://127.0.0.1:1"}
DIGEST = transfer_authorization_digest(domain("USDC", "2", 84532, TOKEN), PAYER, PAYEE, 40, 0, 9, NONCE)


def shown(**other: object) -> dict[str, Any]:
    message = {"from": PAYER, "to": PAYEE, "value": 40, "validAfter": 0, "validBefore": 9, "nonce": NONCE, **other}
    types = {
        "TransferWithAuthorization": [{"name": name, "type": kind} for name, kind in TYPES["TransferWithAuthorization"]],
    }
    where = {"name": "USDC", "version": "2", "chainId": 84532, "verifyingContract": TOKEN}
    return {"types": types, "primaryType": "TransferWithAuthorization", "domain": where, "message": message}


@pytest.fixture
def signer() -> PrivateKeySigner:
    return PrivateKeySigner(PAYER_KEY)


def test_a_key_is_bytes_or_hex(signer: PrivateKeySigner) -> None:
    spellings: list[bytes | str] = [PAYER_KEY, PAYER_KEY.hex(), "0x" + PAYER_KEY.hex(), "0x" + PAYER_KEY.hex().upper()]
    assert {PrivateKeySigner(each).address for each in spellings} == {PAYER}
    same: Signer = signer
    assert same.address == PAYER


def test_typed_data_is_signed(signer: PrivateKeySigner) -> None:
    signature = signer.sign(SignTypedData(PAYER, DIGEST, shown()))
    assert recover(DIGEST, signature) == PAYER
    assert dispatch(signer.table)(SignTypedData(PAYER, DIGEST, shown())) == signature


@pytest.mark.parametrize(
    "other", [{"value": 41}, {"to": TOKEN}, {"from": PAYEE}, {"validBefore": 10}, {"nonce": "0x" + "06" * 32}]
)
def test_a_wallet_does_not_sign_blind(signer: PrivateKeySigner, other: dict[str, object]) -> None:
    with pytest.raises(LocalProtocolError, match=r"^digest: "):
        signer.sign(SignTypedData(PAYER, DIGEST, shown(**other)))


@pytest.mark.parametrize("part", ["types", "primaryType", "domain", "message"])
def test_half_of_typed_data_is_refused(signer: PrivateKeySigner, part: str) -> None:
    data = shown()
    for broken in ({k: v for k, v in data.items() if k != part}, {**data, part: 5}):
        with pytest.raises(LocalProtocolError):
            signer.sign(SignTypedData(PAYER, DIGEST, broken))


def test_another_account_is_refused(signer: PrivateKeySigner) -> None:
    with pytest.raises(LocalProtocolError, match=r"^account: "):
        signer.sign(SignTypedData(PAYEE, DIGEST, shown()))


def test_transactions_are_signed_in_order(signer: PrivateKeySigner) -> None:
    transactions = tuple(Transaction(84532, number, 1, 2, 21_000, PAYEE) for number in range(3))
    signatures = signer.sign(SignTransactions(NETWORK, transactions))
    for transaction, signature in zip(transactions, signatures, strict=True):
        assert decode(transaction.sign_with(signature)) == (transaction, PAYER)


def test_another_chains_transaction_is_refused(signer: PrivateKeySigner) -> None:
    with pytest.raises(LocalProtocolError, match=r"^transactions: "):
        signer.sign(SignTransactions(NETWORK, (Transaction(1, 0, 1, 2, 21_000, PAYEE),)))


SECRET = "5ec2e7" * 10
BAD: list[Any] = ["", SECRET, SECRET + "zzzz", "0x" + SECRET, " " + PAYER_KEY.hex(), PAYER_KEY.hex() + "\n", b"", bytes(31)]
BAD += [bytes(32), b"\xff" * 32, "00" * 32, None, 5, int.from_bytes(PAYER_KEY, "big"), bytearray(PAYER_KEY)]


@pytest.mark.parametrize("key", BAD, ids=range(len(BAD)))
def test_a_bad_key_is_refused_without_being_shown(key: Any) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        PrivateKeySigner(key)
    assert caught.value.field == "key"
    told = "".join(traceback.format_exception(caught.value))
    assert SECRET not in told
    assert PAYER_KEY.hex() not in told


class Mute:
    address = "0x" + "11" * 20


NO_SIGNER: list[tuple[Any, str]] = [
    (None, "is the variable not set?"),
    ("", "is the variable not set?"),
    (5, "int does not sign"),
    (int.from_bytes(PAYER_KEY, "big"), "int does not sign"),
    (Mute(), "Mute does not sign"),
    (PrivateKeySigner, "does not sign"),
    (SECRET, "64 hex digits"),
    (bytes(32), "group order"),
]


@pytest.mark.parametrize(("key", "said"), NO_SIGNER, ids=range(len(NO_SIGNER)))
@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda key: signer_of(key), "key"),
        (lambda key: Purse.up_to(key, "$1", NETWORK), "key"),
        (lambda key: paying_client(key, "$1", NETWORK), "key"),
        (lambda key: async_paying_client(key, "$1", NETWORK), "key"),
        (lambda key: paying_session(key, "$1", NETWORK), "key"),
        (lambda key: Http402Client(key=key, max_price="$1", network=NETWORK), "key"),
        (lambda key: Facilitator(key=key, rpc=NODE, ledger="memory:"), "key"),
        (lambda key: Seller(key=key, rpc=NODE, ledger="memory:"), "key"),
        (lambda key: Seller(key=PAYER_KEY, rpc=NODE, ledger="memory:", attest=5 if key is None else key), "attest"),
    ],
)
def test_what_does_not_sign_is_refused_alike(make: Callable[[Any], object], field: str, key: Any, said: str) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        make(key)
    assert caught.value.field == field
    told = "".join(traceback.format_exception(caught.value))
    assert said in str(caught.value) or key is None
    assert "give a" in told or "group order" in told
    assert SECRET not in told
    assert str(int.from_bytes(PAYER_KEY, "big")) not in told


@pytest.mark.parametrize("signer", [None, PAYER_KEY, "11" * 32, Mute()])
def test_a_purse_has_a_signer_and_no_key(signer: Any) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        Purse(signer, PayerPolicy.up_to("$1", NETWORK))
    assert caught.value.field == "signer"
    assert "11" * 32 not in str(caught.value)


def test_the_key_cannot_be_seen(signer: PrivateKeySigner) -> None:
    assert repr(signer) == "PrivateKeySigner(0x70997970C51812dc3A010C7d01b50e0d17dc79C8)"
    assert not hasattr(signer, "__dict__")
    for copied in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="not to be pickled"):
            copied(signer)
