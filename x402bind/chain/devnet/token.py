"""DevUSD, the token of the embedded chain: deploy it, or put it where a real token lives, and call it.

It speaks ERC-20, EIP-2612 and EIP-3009 as USDC does (``contracts/DevUSD.vy`` says where it differs), at any address.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final

from x402core.evm.abi import decode, encode_call
from x402core.values import Address, local, parse_address

from .chain import Chain
from .estimate import failure
from .keys import dev_accounts
from .vm import Message

__all__ = ["USDC_BASE_SEPOLIA", "Artifact", "DevUSD", "artifact", "deploy_calldata", "initialize_calldata", "place"]

USDC_BASE_SEPOLIA: Final = Address("0x036cbd53842c5426634e7929541ec2318f3dcf7e")
"""Where Circle's token lives on Base Sepolia (eip155:84532): the usual place for ours on a devnet of that chain id."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """The compiled token: creation code, runtime code, and the compiler that made them."""

    compiler: str
    bytecode: bytes
    runtime: bytes


@cache
def artifact() -> Artifact:
    """Return the committed artifact."""
    text = files(__package__).joinpath("contracts", "DevUSD.json").read_text(encoding="utf-8")
    document = json.loads(text)
    code, runtime = (bytes.fromhex(document[name][2:]) for name in ("bytecode", "runtime"))
    return Artifact(document["compiler"], code, runtime)


def deploy_calldata() -> bytes:
    """Return the data of the transaction that deploys the token; :func:`initialize_calldata` goes into a second one."""
    return artifact().bytecode


def initialize_calldata(
    name: str = "USDC", version: str = "2", symbol: str = "USDC", decimals: int = 6, minter: Address | None = None
) -> bytes:
    """Return the data of the one call that names the token and its ``minter`` (default: development account 0)."""
    who = dev_accounts()[0] if minter is None else minter
    return encode_call("initialize(string,string,string,uint8,address)", name, version, symbol, decimals, who)


@dataclass(frozen=True, slots=True)
class DevUSD:
    """The token at an address of an embedded chain.  What changes the state runs at once, without a signature or a block."""

    chain: Chain
    address: Address
    minter: Address

    def mint(self, to: Address, amount: int) -> None:
        """Create ``amount`` atomic units for ``to``."""
        self.chain.execute(Message(self.minter, self.address, encode_call("mint(address,uint256)", to, amount)))

    def balance_of(self, account: Address) -> int:
        """Return an account's atomic units."""
        return self._number(encode_call("balanceOf(address)", account))

    def allowance(self, owner: Address, spender: Address) -> int:
        """Return how many of ``owner``'s atomic units ``spender`` may move."""
        return self._number(encode_call("allowance(address,address)", owner, spender))

    def authorization_used(self, authorizer: Address, nonce: bytes) -> bool:
        """Say whether an EIP-3009 authorization was used or cancelled."""
        return self._number(encode_call("authorizationState(address,bytes32)", authorizer, nonce)) != 0

    def _number(self, calldata: bytes) -> int:
        outcome = self.chain.call(Message(self.minter, self.address, calldata))
        if not outcome.success:
            raise failure(outcome)
        (value,) = decode(("uint256",), outcome.output)
        assert isinstance(value, int)
        return value


def place(
    chain: Chain,
    address: str = USDC_BASE_SEPOLIA,
    *,
    name: str = "USDC",
    version: str = "2",
    symbol: str = "USDC",
    decimals: int = 6,
    minter: Address | None = None,
) -> DevUSD:
    """Put the token at an address of an embedded chain, ready to use.

    Raises: RpcError when a token is there already; LocalProtocolError for something that is not an address.
    """
    where = local(parse_address, address, "address")
    who = dev_accounts()[0] if minter is None else minter
    chain.set_code(where, artifact().runtime)
    chain.execute(Message(who, where, initialize_calldata(name, version, symbol, decimals, who)))
    return DevUSD(chain, where, who)
