"""Law 1, mechanically: what core modules import, what machines do while they run, and what importing the core costs."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CORE = ROOT / "x402core"
MODULES = sorted(path.relative_to(ROOT) for path in CORE.rglob("*.py"))

PURE_STDLIB = frozenset(
    {
        "__future__",
        "abc",
        "base64",
        "binascii",
        "bisect",
        "collections",
        "contextlib",
        "copy",
        "dataclasses",
        "datetime",
        "decimal",
        "enum",
        "fractions",
        "functools",
        "hashlib",
        "heapq",
        "hmac",
        "importlib",
        "ipaddress",
        "itertools",
        "json",
        "math",
        "operator",
        "re",
        "string",
        "struct",
        "textwrap",
        "types",
        "typing",
        "unicodedata",
        "urllib.parse",
        "warnings",
    }
)
LIBRARIES = frozenset({"eth_abi", "eth_keys", "eth_utils", "eth_hash", "eth_typing", "Crypto", "coincurve", "sha3"})
CLOCKS = frozenset(
    {"now", "utcnow", "today", "time", "monotonic", "perf_counter", "urandom", "token_bytes", "token_hex", "uuid4"}
)

FLOORS: tuple[tuple[str, ...], ...] = (
    ("errors",),
    ("values",),
    ("registry",),
    ("money",),
    ("evm.keccak",),
    ("evm.curve", "evm.rlp", "evm.abi"),
    ("evm.address", "evm.eip712"),
    ("evm.secp256k1",),
    ("evm.signatures", "evm.digests", "evm.transaction", "evm.bundle", "evm.delegation"),
    ("evm",),
    ("events",),
    ("ledger", "reads", "catalog"),
    ("commands",),
    ("wire.fields",),
    ("wire.json",),
    ("wire.headers", "wire.identifier"),
    ("wire.siwe", "wire.offer_receipt", "wire.builder_code"),
    ("wire.sign_in",),
    ("wire.extensions",),
    ("wire.requirements", "wire.payloads", "wire.sponsoring", "wire.overrides"),
    ("wire.v2",),
    ("wire.v1",),
    ("wire.metadata", "wire.discovery"),
    ("wire.bazaar",),
    ("wire.permit_token3",),
    ("wire.permit_token", "wire.journal", "wire.facilitator"),
    ("wire.http",),
    ("wire",),
    ("access",),
    ("schemes.wallets",),
    ("schemes.scheme", "schemes.multicall"),
    ("schemes.sponsorship",),
    ("schemes.eip2612", "schemes.eip3009", "schemes.permit2"),
    ("schemes.erc7710", "schemes.permit2_direct"),
    ("schemes",),
    ("schemes.judge",),
    ("schemes.remote",),
    ("policy",),
    ("machines.machine",),
    ("machines.payments", "machines.sign_in", "machines.server_table"),
    ("machines.answers",),
    ("machines.client", "machines.server", "machines.token", "machines.facilitator", "machines.settlement", "machines.remote"),
    ("machines",),
    ("",),
)
"""From the cellar up.  A module imports at run time only from floors below; ``TYPE_CHECKING`` imports may look up."""


def dotted(path: Path) -> str:
    """Return a core module's name without the package."""
    return ".".join(path.with_suffix("").parts[1:]).removesuffix("__init__").rstrip(".")


def imports(path: Path) -> list[tuple[str, bool]]:
    """Return every module a file imports, absolute, and whether only type checkers see it."""
    tree = ast.parse((ROOT / path).read_text())
    typing_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.unparse(block.test)
        for node in ast.walk(block)
    }
    found: list[tuple[str, bool]] = []
    package = ["x402core", *dotted(path).split(".")]
    inside = package if path.name == "__init__.py" else package[:-1]
    inside = [part for part in inside if part]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) in typing_only) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = inside[: len(inside) - node.level + 1] if node.level else []
            where = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                below = ROOT.joinpath(*where.split("."), alias.name)
                is_module = where.startswith("x402core") and (below.with_suffix(".py").exists() or below.is_dir())
                found.append((f"{where}.{alias.name}" if is_module else where, id(node) in typing_only))
    return found


@pytest.mark.parametrize("path", MODULES, ids=map(dotted, MODULES))
def test_a_core_module_imports_only_what_is_pure(path: Path) -> None:
    for name, _ in imports(path):
        top = name.partition(".")[0]
        assert top in ("x402core", *LIBRARIES) or name in PURE_STDLIB or top in PURE_STDLIB - {"urllib.parse"}, (
            f"{path} imports {name}"
        )


@pytest.mark.parametrize("path", MODULES, ids=map(dotted, MODULES))
def test_a_core_module_reads_no_clock_and_draws_no_entropy(path: Path) -> None:
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            holder = ast.unparse(node.func.value)
            assert not (
                node.func.attr in CLOCKS and holder in ("datetime", "date", "datetime.datetime", "time", "os", "secrets")
            ), f"{path}:{node.lineno} calls {ast.unparse(node.func)}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("open", "print", "input", "exec", "eval", "breakpoint"), f"{path}:{node.lineno}"


def test_every_module_has_its_floor() -> None:
    placed = [name for floor in FLOORS for name in floor]
    assert len(placed) == len(set(placed))
    assert set(placed) == {dotted(path) for path in MODULES}


@pytest.mark.parametrize("path", MODULES, ids=map(dotted, MODULES))
def test_a_floor_imports_only_from_floors_below(path: Path) -> None:
    height = {name: level for level, floor in enumerate(FLOORS) for name in floor}
    packages = {name for name in height if any(other.startswith(f"{name}.") for other in height if name)} | {""}
    here = dotted(path)
    for name, typing_only in imports(path):
        if name.partition(".")[0] != "x402core" or typing_only:
            continue
        there = name.removeprefix("x402core").lstrip(".")
        if there in packages and here.startswith(there):
            continue  # a sibling through its package: the sibling itself is listed too
        assert height[there] < height[here], f"{here} (floor {height[here]}) imports {there} (floor {height[there]})"


# --------------------------------------------------------------------------------------------------- while machines run

AUDITED = """
import sys
from tests import replies, test_playbook_faults as faults, world
from tests.playbook import REGISTRY, Injected, Play
names = faults.names()

def run():
    for name in names:
        REGISTRY[name](Play())

run()  # everything that is imported late is imported now
caught = []
FORBIDDEN = ("open", "socket.", "subprocess.", "os.", "shutil.", "tempfile.", "ctypes.", "urllib.", "http.", "glob.", "mmap.")
armed = True

def hook(event, args):
    if armed and event.startswith(FORBIDDEN):
        caught.append(f"{event} {args!r}"[:200])

sys.addaudithook(hook)
run()
armed = False
print(len(names), caught)
"""


def run(code: str) -> str:
    """Run Python in a fresh process."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


def test_no_machine_touches_the_world() -> None:
    count, _, caught = run(AUDITED).partition(" ")
    assert int(count) > 100
    assert caught == "[]"


HEAVY = (
    "pydantic",
    "eth_utils",
    "eth_abi",
    "eth_keys",
    "web3",
    "httpx",
    "requests",
    "anyio",
    "coincurve",
    "sha3",
    "Crypto",
    "asyncio",
)
COST = f"""
import json, sys
before = set(sys.modules)
import NAME
loaded = set(sys.modules) - before
print(json.dumps([sorted(m for m in {HEAVY!r} if m in loaded), sum(m.startswith("x402core") for m in loaded), len(loaded)]))
"""


@pytest.mark.parametrize(
    ("module", "own", "most"),
    [("x402core", 1, 20), ("x402core.machines.client", 57, 160), ("x402core.machines.server", 61, 160)],
)
def test_importing_the_core_is_cheap(module: str, own: int, most: int) -> None:
    heavy, ours, loaded = json.loads(run(COST.replace("NAME", module)))
    assert heavy == []
    assert ours <= own, f"{ours} modules of our own"
    assert loaded <= most, f"{loaded} modules"


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        (
            "x402bind.clients.httpx",
            ("x402bind.servers", "x402bind.ledger", "x402bind.chain.devnet", "x402bind.cli", "requests"),
        ),
        ("x402bind.servers.asgi", ("x402bind.clients", "x402bind.chain.devnet", "x402bind.cli", "requests")),
    ],
)
def test_one_edge_does_not_load_another(module: str, forbidden: tuple[str, ...]) -> None:
    loaded = json.loads(run(f"import json, sys, {module}; print(json.dumps(list(sys.modules)))"))
    assert [name for name in loaded if any(name == other or name.startswith(f"{other}.") for other in forbidden)] == []


def test_no_core_file_is_a_corridor() -> None:
    lengths = {dotted(path): len((ROOT / path).read_text().splitlines()) for path in MODULES}
    assert max(lengths.values()) < 640, max(lengths, key=lambda name: lengths[name])
