"""Contracts of our own to test against, written from published ABIs and rules; compiled when first asked for.

``place_all(rpc)`` puts every one of them on a node, anvil or the embedded chain, and can be called again.  What needs no
constructor goes to its canonical address as runtime code; the rest through the CREATE2 deployer, so that addresses are the
same on every node.  Accounts that use them are in :mod:`tests.contracts.accounts`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from tests.chains import CREATE2_DEPLOYER, PERMIT2, Rpc, RpcFailure, place_permit2
from x402bind.chain.devnet.keys import DEV_KEYS
from x402core.evm.abi import decode, encode, encode_call, revert_reason, selector
from x402core.evm.digests import EXACT_PROXY, UPTO_PROXY
from x402core.evm.keccak import keccak
from x402core.values import Address

MULTICALL3: Final = Address("0xca11bde05977b3631167028862be2a173976ca11")
PERMIT: Final = "((address,uint256),uint256,uint256)"
PERMIT_2612: Final = "(uint256,uint256,bytes32,bytes32,uint8)"
EXACT_SETTLE: Final = f"settle({PERMIT},address,(address,uint256),bytes)"
EXACT_SETTLE_WITH_PERMIT: Final = f"settleWithPermit({PERMIT_2612},{PERMIT},address,(address,uint256),bytes)"
UPTO_SETTLE: Final = f"settle({PERMIT},uint256,address,(address,address,uint256),bytes)"
UPTO_SETTLE_WITH_PERMIT: Final = f"settleWithPermit({PERMIT_2612},{PERMIT},uint256,address,(address,address,uint256),bytes)"
TRY_AGGREGATE: Final = "tryAggregate(bool,(address,bytes)[])"
AGGREGATE3: Final = "aggregate3((address,bool,bytes)[])"
REDEEM: Final = "redeemDelegations(bytes[],bytes32[],bytes[])"

_PROXY_ERRORS: Final = (
    "InvalidDestination",
    "PaymentTooEarly",
    "InvalidOwner",
    "InvalidAmount",
    "Permit2612AmountMismatch",
    "UnauthorizedFacilitator",
    "AmountExceedsPermitted",
)
_PERMIT2_ERRORS: Final = ("InvalidSigner()", "InvalidNonce()", "InvalidContractSignature()", "SignatureExpired(uint256)")
ERRORS: Final = {
    selector(each): each.partition("(")[0] for each in (*[f"{name}()" for name in _PROXY_ERRORS], *_PERMIT2_ERRORS)
}
"""Names of custom errors by selector: the proxies' and Permit2's."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """A contract as bytes: its creation code without arguments, and its runtime code, complete if nothing is immutable."""

    creation: bytes
    runtime: bytes


@cache
def compiled(name: str) -> Compiled:
    """Compile a contract of this directory, once per process."""
    vyper: Any = import_module("vyper")
    settings: Any = import_module("vyper.compiler.settings")
    bundle: Any = import_module("vyper.compiler.input_bundle")
    here = Path(__file__).parent
    output = vyper.compile_code(
        here.joinpath(f"{name}.vy").read_text(encoding="utf-8"),
        output_formats=["bytecode", "bytecode_runtime"],
        settings=settings.Settings(evm_version="cancun", optimize=settings.OptimizationLevel.GAS),
        input_bundle=bundle.FilesystemInputBundle([here]),
    )
    return Compiled(bytes.fromhex(output["bytecode"][2:]), bytes.fromhex(output["bytecode_runtime"][2:]))


@dataclass(frozen=True, slots=True)
class Placed:
    """Where the contracts are that have no canonical address; the same on every node."""

    rpc: Rpc
    factory: Address
    """Deploys wallets; reverts when the wallet is there already, as most factories do."""
    lenient_factory: Address
    """Deploys wallets; returns the one that is there already."""
    delegate: Address
    """What an account may delegate to (EIP-7702): it answers ERC-1271."""
    mute_delegate: Address
    """The same, but it knows no ERC-1271."""
    manager: Address
    """An ERC-7710 delegation manager."""


def place_all(rpc: Rpc) -> Placed:
    """Put everything on a node: Permit2, both proxies, Multicall3, the wallets' contracts and the delegation manager."""
    if not _there(rpc, PERMIT2):
        place_permit2(rpc)
    place_proxies(rpc)
    place_multicall(rpc)
    wallet = compiled("Wallet").creation
    factory = compiled("WalletFactory").creation
    return Placed(
        rpc,
        factory=deploy(rpc, factory + encode(("bytes", "bool"), (wallet, True))),
        lenient_factory=deploy(rpc, factory + encode(("bytes", "bool"), (wallet, False))),
        delegate=deploy(rpc, wallet + bytes(32)),
        mute_delegate=deploy(rpc, compiled("MuteDelegate").creation),
        manager=deploy(rpc, compiled("DelegationManager").creation),
    )


def place_proxies(rpc: Rpc) -> None:
    """Put x402's two Permit2 proxies at their canonical addresses; Permit2 has to be placed besides."""
    for at, name in ((EXACT_PROXY, "ExactProxy"), (UPTO_PROXY, "UptoProxy")):
        rpc("anvil_setCode", at, "0x" + compiled(name).runtime.hex())


def place_multicall(rpc: Rpc) -> None:
    """Put Multicall3 at its canonical address."""
    rpc("anvil_setCode", MULTICALL3, "0x" + compiled("Multicall3").runtime.hex())


def deploy(rpc: Rpc, creation: bytes, salt: bytes = bytes(32)) -> Address:
    """Deploy creation code through the CREATE2 deployer, unless it is there already; return its address."""
    at = create2_address(CREATE2_DEPLOYER, salt, creation)
    if not _there(rpc, at):
        rpc.must(DEV_KEYS[0], CREATE2_DEPLOYER, salt + creation)
    return at


def create2_address(deployer: Address, salt: bytes, creation: bytes) -> Address:
    """Return where CREATE2 puts a contract (EIP-1014)."""
    return Address("0x" + keccak(b"\xff" + bytes.fromhex(deployer[2:]) + salt + keccak(creation))[12:].hex())


def _there(rpc: Rpc, account: Address) -> bool:
    return bool(rpc("eth_getCode", account, "latest") != "0x")


def refusal(rpc: Rpc, to: Address, data: bytes, sender: Address) -> str:
    """Return why a call fails: a custom error's name if we know it, else what it says; "" when it does not fail."""
    try:
        rpc("eth_call", {"from": sender, "to": to, "data": "0x" + data.hex()}, "latest")
    except RpcFailure as failure:
        raw = bytes.fromhex((failure.data or "0x")[2:])
        return ERRORS.get(raw[:4]) or revert_reason(raw)
    return ""


# ---------------------------------------------------------------- calls of the proxies


def exact_call(
    token: Address,
    amount: int,
    nonce: int,
    deadline: int,
    owner: Address,
    pay_to: Address,
    valid_after: int,
    signature: bytes,
    permit_2612: tuple[int, int, bytes, bytes, int] | None = None,
) -> bytes:
    """Return the exact proxy's ``settle``, or ``settleWithPermit`` with (value, deadline, r, s, v) of the token's permit."""
    args = (((token, amount), nonce, deadline), owner, (pay_to, valid_after), signature)
    if permit_2612 is None:
        return encode_call(EXACT_SETTLE, *args)
    return encode_call(EXACT_SETTLE_WITH_PERMIT, permit_2612, *args)


def upto_call(
    token: Address,
    permitted: int,
    nonce: int,
    deadline: int,
    amount: int,
    owner: Address,
    pay_to: Address,
    facilitator: Address,
    valid_after: int,
    signature: bytes,
    permit_2612: tuple[int, int, bytes, bytes, int] | None = None,
) -> bytes:
    """Return the upto proxy's ``settle``, or ``settleWithPermit`` with (value, deadline, r, s, v) of the token's permit."""
    args = (((token, permitted), nonce, deadline), amount, owner, (pay_to, facilitator, valid_after), signature)
    if permit_2612 is None:
        return encode_call(UPTO_SETTLE, *args)
    return encode_call(UPTO_SETTLE_WITH_PERMIT, permit_2612, *args)


def try_aggregate(rpc: Rpc, *calls: tuple[Address, bytes]) -> tuple[tuple[bool, bytes], ...]:
    """Return what each of several calls in a row would do, by Multicall3."""
    data = encode_call(TRY_AGGREGATE, False, list(calls))
    answer = rpc("eth_call", {"to": MULTICALL3, "data": "0x" + data.hex()}, "latest")
    (results,) = decode(("(bool,bytes)[]",), bytes.fromhex(answer[2:]))
    return results  # type: ignore[return-value]
