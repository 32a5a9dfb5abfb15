"""The committed bytes come from the committed source, and carry the interface that x402 calls."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from x402bind.chain.devnet.contracts.build import ARTIFACT, SOURCE, compile_source
from x402bind.chain.devnet.token import artifact, deploy_calldata
from x402core.evm.abi import selector as select


@pytest.fixture(scope="module")
def committed() -> dict[str, Any]:
    return json.loads(ARTIFACT.read_text())


def test_compiling_again_gives_the_same_bytes(committed: dict[str, Any]) -> None:
    assert json.loads(json.dumps(compile_source(SOURCE.read_text()))) == committed
    assert list(committed) == ["compiler", "settings", "source_sha256", "abi", "bytecode", "runtime"]


def test_a_changed_source_would_be_noticed(committed: dict[str, Any]) -> None:
    source = SOURCE.read_text()
    assert hashlib.sha256(source.encode()).hexdigest() == committed["source_sha256"]
    changed = compile_source(source.replace("block.timestamp < _validBefore", "block.timestamp <= _validBefore"))
    assert changed["runtime"] != committed["runtime"]


def test_the_helper_reads_the_artifact(committed: dict[str, Any]) -> None:
    assert committed["bytecode"] == "0x" + deploy_calldata().hex()
    assert committed["runtime"] == "0x" + artifact().runtime.hex()
    assert committed["compiler"] == artifact().compiler == "vyper 0.4.3"
    assert artifact().runtime in artifact().bytecode, "no immutables: deploying and copying give the same code"


@pytest.mark.parametrize(
    ("function", "selector"),
    [
        ("transferWithAuthorization", "e3ee160e"),
        ("receiveWithAuthorization", "ef55bec6"),
        ("authorizationState", "e94a0102"),
        ("permit", "d505accf"),
        ("nonces", "7ecebe00"),
        ("approve", "095ea7b3"),
        ("allowance", "dd62ed3e"),
        ("balanceOf", "70a08231"),
    ],
)
def test_the_selectors_are_those_of_the_specification(committed: dict[str, Any], function: str, selector: str) -> None:
    (entry,) = [each for each in committed["abi"] if each.get("name") == function]
    signature = f"{function}({','.join(each['type'] for each in entry['inputs'])})"
    assert select(signature).hex() == selector
