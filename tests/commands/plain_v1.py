"""A client of x402 version 1 in plain Python and ``eth_keys``: it has nothing of ours but the sums of EIP-712."""

from __future__ import annotations

import base64
import json
import secrets
import time
from typing import Any

from eth_abi import encode
from eth_keys import keys
from eth_utils import keccak, to_bytes

_DOMAIN = b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
_TYPE = b"TransferWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"


def x_payment(offer: dict[str, Any], key: bytes, chain: int = 84532) -> str:
    """Return the ``X-PAYMENT`` header that answers one of the ``accepts`` of a 402's body."""
    signer = keys.PrivateKey(key)
    payer, nonce = signer.public_key.to_checksum_address(), secrets.token_bytes(32)
    after, before = int(time.time()) - 60, int(time.time()) + offer["maxTimeoutSeconds"]
    value = int(offer["maxAmountRequired"])
    named = [keccak(_DOMAIN), keccak(text=offer["extra"]["name"]), keccak(text=offer["extra"]["version"])]
    domain = keccak(encode(["bytes32"] * 3 + ["uint256", "address"], [*named, chain, offer["asset"]]))
    told = [keccak(_TYPE), payer, offer["payTo"], value, after, before, nonce]
    kinds = ["bytes32", "address", "address", "uint256", "uint256", "uint256", "bytes32"]
    signature = signer.sign_msg_hash(keccak(b"\x19\x01" + domain + keccak(encode(kinds, told))))
    raw = to_bytes(signature.r).rjust(32, b"\0") + to_bytes(signature.s).rjust(32, b"\0") + bytes([27 + signature.v])
    authorization = {"from": payer, "to": offer["payTo"], "value": str(value), "nonce": "0x" + nonce.hex()}
    authorization |= {"validAfter": str(after), "validBefore": str(before)}
    payload = {"signature": "0x" + raw.hex(), "authorization": authorization}
    document = {"x402Version": 1, "scheme": "exact", "network": offer["network"], "payload": payload}
    return base64.b64encode(json.dumps(document).encode()).decode()
