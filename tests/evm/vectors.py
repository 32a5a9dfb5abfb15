"""Where the third-party vectors are, and the golden ones of x402.md section 6.  A missing file fails the test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from x402core.values import Address, Hash32

_ROOT = Path(__file__).parents[2].parent / "shared" / "vectors"


def load(name: str) -> Any:
    """Read a JSON vector file, ``eip712/typed-data.json`` for example."""
    return json.loads((_ROOT / name).read_text())


KEY = bytes.fromhex("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80")
PAYER = Address("0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266")
ACCOUNT1 = Address("0x70997970c51812dc3a010c7d01b50e0d17dc79c8")
USDC = Address("0x036cbd53842c5426634e7929541ec2318f3dcf7e")
PAY_TO = Address("0x209693bc6afc0c5328ba36faf03c514ef312287c")
WITNESS_TO = Address("0x9876543210987654321098765432109876543210")
NONCE = Hash32("0x" + "11" * 32)
CHAIN = 84532

V1_DOMAIN = bytes.fromhex("71f17a3b2ff373b803d70a5a07c046c1a2bc8e89c09ef722fcb047abe94c9818")
V1_DIGEST = bytes.fromhex("e0dfe24d878b305003494ca1f3bb1bd9572485a3bd6eaafb8b28664d0f1cd61c")
V1_SIGNATURE = bytes.fromhex(
    "697475f4bb41b7ff040d0092186d2cc068889296133bae2d51088a1e880389c7"
    "06f988132efd2b016da5194537fe314f4005c006ecb7b94b0f0f4ee967dff9511b"
)
V2_DOMAIN = bytes.fromhex("010f27a92fb9a32622f44f001dc4d15706a85b33499cfc2ce9033113ab26592c")
V2_DIGEST = bytes.fromhex("93f7d7cc192fe78957fc114318393187c2fc5194c6d9ac26aba364559fac39d2")
V2_SIGNATURE = bytes.fromhex(
    "71d701457d5c4c4ccb48ce0cbf1ff80dd2237c2e7a04272043b99e1c667e370d"
    "096fec3610f7c96c264294e25eff53a99eb8fd7ed25621b65e23e79a1c41abf51c"
)
V3_DIGEST = bytes.fromhex("7c87cf35334247920b95351ab60b41616bb95515fbfb2022cd6eb978cde64639")
V3_SIGNATURE = bytes.fromhex(
    "791afe6783abbfa6771354c4d19a9a79c3e5510687668ee2e8445c03e985e140"
    "3d2c0b0729ec1211abe6940d0d692f6afdad8d9a2897c487a45ec099532d48831b"
)
V4_DIGEST = bytes.fromhex("eafd858250cf22f06121565882df75e2c7ddfe8de895b0e9a550c3aa7bae72ce")
