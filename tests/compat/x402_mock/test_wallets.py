"""A contract wallet (ERC-1271) pays by 0.3.0's ERC-3009 permit, at Circle's own code on anvil."""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.contracts import place_all
from tests.contracts.accounts import SmartWallet
from x402bind.chain.devnet.keys import DEV_KEYS
from x402core.errors import Reason
from x402core.evm.abi import encode_call
from x402core.evm.digests import domain, transfer_authorization_digest
from x402core.evm.secp256k1 import sign

from .stand import MINTER, PRICE, SEPOLIA, USDC, on_anvil, stand


def permit(wallet: SmartWallet, pay_to: str, signer: bytes) -> dict[str, Any]:
    """Return an authorization of the wallet's, signed by a key."""
    nonce, until = "0x" + secrets.token_hex(32), int(time.time()) + 500
    fields = {"token": USDC, "chain_id": SEPOLIA, "authorizer": wallet.address, "recipient": pay_to, "value": PRICE}
    digest = transfer_authorization_digest(domain("USDC", "2", SEPOLIA, USDC), wallet.address, pay_to, PRICE, 0, until, nonce)  # type: ignore[arg-type]
    signed = sign(digest, signer)
    words = {"v": signed[64], "r": "0x" + signed[:32].hex(), "s": "0x" + signed[32:64].hex()}
    return {
        "permit_type": "ERC3009",
        **fields,
        "validAfter": 0,
        "validBefore": until,
        "nonce": nonce,
        "signature": {"signature_type": "ERC3009", **words},
    }


@pytest.mark.anvil
def test_a_wallet_that_knows_the_signature_pays_and_another_does_not(tmp_path: Path) -> None:
    with on_anvil() as chain, stand(chain, tmp_path) as it:
        owner = secrets.token_bytes(32)
        wallet = SmartWallet.of(place_all(chain.ground.rpc), owner)
        wallet.deploy()
        chain.ground.rpc.must(DEV_KEYS[MINTER], USDC, encode_call("mint(address,uint256)", wallet.address, PRICE))
        post = f"{it.url}/token?scope=%2Fdata"
        body = {"version": "Version 0.1", "permit": permit(wallet, chain.seller, secrets.token_bytes(32))}
        forged = httpx.post(post, json=body, timeout=20)
        assert (forged.status_code, forged.json()["title"]) == (402, Reason.SIGNATURE)
        body = {"version": "Version 0.1", "permit": permit(wallet, chain.seller, owner)}
        answer = httpx.post(post, json=body, timeout=20)
        assert answer.status_code == 200, answer.text
        (entry,) = it.settled()
        assert (entry.state, chain.balance(wallet.address), chain.balance(chain.seller)) == ("settled", 0, PRICE)
