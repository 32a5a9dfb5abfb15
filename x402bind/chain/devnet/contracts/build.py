"""Compile DevUSD.vy into DevUSD.json: ``python -m x402bind.chain.devnet.contracts.build`` (needs vyper 0.4.3).

The artifact is committed, so that nobody needs a compiler to use the token; a test compiles again and compares.
"""

from __future__ import annotations

import hashlib
import json
from importlib import import_module
from pathlib import Path
from typing import Any, Final

__all__ = ["ARTIFACT", "SOURCE", "compile_source"]

SOURCE: Final = Path(__file__).with_name("DevUSD.vy")
ARTIFACT: Final = SOURCE.with_suffix(".json")


def compile_source(source: str) -> dict[str, object]:
    """Return the artifact of a Vyper source: compiler, settings, source_sha256, abi, bytecode, runtime."""
    vyper: Any = import_module("vyper")
    settings: Any = import_module("vyper.compiler.settings")
    chosen = settings.Settings(evm_version="cancun", optimize=settings.OptimizationLevel.GAS)
    formats = ["abi", "bytecode", "bytecode_runtime"]
    output = vyper.compile_code(source, output_formats=formats, settings=chosen)
    return {
        "compiler": f"vyper {vyper.__version__}",
        "settings": {"evm_version": "cancun", "optimize": "gas"},
        "source_sha256": hashlib.sha256(source.encode()).hexdigest(),
        "abi": output["abi"],
        "bytecode": output["bytecode"],
        "runtime": output["bytecode_runtime"],
    }


if __name__ == "__main__":
    ARTIFACT.write_text(json.dumps(compile_source(SOURCE.read_text(encoding="utf-8")), indent=1) + "\n", encoding="utf-8")
