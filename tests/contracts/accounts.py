"""Accounts that are contracts, and what they sign: smart wallets (ERC-1271, ERC-6492), EIP-7702 and ERC-7710.

Signatures are over digests, which the caller makes: the same digest an ordinary payer would sign.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

from tests.chains import GWEI, Rpc
from tests.contracts import REDEEM, Placed
from x402bind.chain.devnet.keys import DEV_KEYS
from x402core.evm import rlp
from x402core.evm.abi import encode, encode_call
from x402core.evm.delegation import ANYBODY, ROOT_AUTHORITY, Caveat, Delegation
from x402core.evm.eip712 import hash_struct, typed_data_digest
from x402core.evm.keccak import keccak
from x402core.evm.secp256k1 import public_address, sign
from x402core.values import Address

ERC6492: Final = bytes.fromhex("6492" * 16)
_NOBODY: Final = Address("0x" + 40 * "0")


@dataclass(frozen=True, slots=True)
class SmartWallet:
    """A wallet contract of one key, deployed or not yet; ``address`` is where it is or will be."""

    rpc: Rpc
    key: bytes
    factory: Address
    salt: bytes
    address: Address

    @classmethod
    def of(cls, placed: Placed, key: bytes, salt: bytes = bytes(32), *, lenient: bool = False) -> SmartWallet:
        """Return a key's wallet, not deploying it; each salt gives another."""
        factory = placed.lenient_factory if lenient else placed.factory
        where = placed.rpc.view(factory, "address", "getAddress(address,bytes32)", public_address(key), salt)
        return cls(placed.rpc, key, factory, salt, where)

    @property
    def calldata(self) -> bytes:
        """What the factory is called with to deploy it."""
        return encode_call("deploy(address,bytes32)", public_address(self.key), self.salt)

    @property
    def deployed(self) -> bool:
        return bool(self.rpc("eth_getCode", self.address, "latest") != "0x")

    def deploy(self) -> None:
        self.rpc.must(DEV_KEYS[0], self.factory, self.calldata)

    def sign(self, digest: bytes) -> bytes:
        """Return 65 bytes, r, s, v; the wallet accepts them (ERC-1271)."""
        return sign(digest, self.key)

    def sign_long(self, digest: bytes) -> bytes:
        """Return 66 bytes, which the wallet accepts as well and nobody can take for a key's signature."""
        return b"\0" + sign(digest, self.key)

    def sign_undeployed(self, digest: bytes) -> bytes:
        """Return the signature wrapped with the call that deploys the wallet (ERC-6492)."""
        return deployless(self.factory, self.calldata, self.sign(digest))

    def execute(self, target: Address, data: bytes) -> None:
        """Have the wallet call a contract, such as a token's ``approve``; the owner pays the gas."""
        self._owner_calls("execute(address,uint256,bytes)", target, 0, data)

    def enable(self, manager: Address, *, yes: bool = True) -> None:
        """Let an ERC-7710 manager execute calls, or no longer."""
        self._owner_calls("enable(address,bool)", manager, yes)

    def _owner_calls(self, signature: str, *args: object) -> None:
        self.rpc("anvil_setBalance", public_address(self.key), hex(10**18))
        self.rpc.must(self.key, self.address, encode_call(signature, *args))


def deployless(factory: Address, calldata: bytes, inner: bytes) -> bytes:
    """Return an ERC-6492 signature."""
    return encode(("address", "bytes", "bytes"), (factory, calldata, inner)) + ERC6492


# ---------------------------------------------------------------- EIP-7702


def delegate(rpc: Rpc, key: bytes, to: Address) -> None:
    """Have an ordinary account delegate to a contract by a type-4 transaction that account 0 pays; anvil only.

    The zero address ends the delegation.
    """
    account, chain = public_address(key), int(rpc("eth_chainId"), 16)
    assert key != DEV_KEYS[0], "account 0 pays: its number would be one too low in the authorization"
    terms = (chain, bytes.fromhex(to[2:]), _count(rpc, account))
    authorization = (*terms, *_parity(sign(keccak(b"\x05" + rlp.encode(terms)), key)))
    sponsor = _count(rpc, public_address(DEV_KEYS[0]))
    head = (chain, sponsor, 1_000_000, 5 * GWEI, 200_000)
    fields = (*head, bytes.fromhex(account[2:]), 0, b"", (), (authorization,))
    raw = rlp.encode((*fields, *_parity(sign(keccak(b"\x04" + rlp.encode(fields)), DEV_KEYS[0]))))
    assert rpc.wait(rpc("eth_sendRawTransaction", "0x04" + raw.hex()))["status"] == "0x1"
    code = rpc("eth_getCode", account, "latest")
    assert code == ("0x" if to == _NOBODY else "0xef0100" + to[2:]), code


def _count(rpc: Rpc, account: Address) -> int:
    return int(rpc("eth_getTransactionCount", account, "pending"), 16)


def _parity(signature: bytes) -> tuple[int, int, int]:
    """Return y parity, r and s, as typed transactions spell a signature."""
    return signature[64] - 27, int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big")


# ---------------------------------------------------------------- ERC-7710


_TYPES: Final = {
    "Caveat": [{"name": "enforcer", "type": "address"}, {"name": "terms", "type": "bytes"}],
    "Delegation": [
        {"name": "delegate", "type": "address"},
        {"name": "delegator", "type": "address"},
        {"name": "authority", "type": "bytes32"},
        {"name": "caveats", "type": "Caveat[]"},
        {"name": "salt", "type": "uint256"},
    ],
}
CONTEXT: Final = "(address,address,bytes32,(address,bytes,bytes)[],uint256,bytes)[]"


def struct(one: Delegation) -> dict[str, object]:
    """Return a delegation as it is signed."""
    signed = {"delegate": one.delegate, "delegator": one.delegator, "authority": one.authority, "salt": one.salt}
    return signed | {"caveats": [{"enforcer": each.enforcer, "terms": each.terms} for each in one.caveats]}


def struct_hash(one: Delegation) -> bytes:
    """Return the hash by which a manager knows a delegation."""
    return hash_struct(_TYPES, "Delegation", struct(one))


def context_of(*delegations: Delegation) -> bytes:
    """Return a permission context, leaf first."""
    rows = [
        (
            one.delegate,
            one.delegator,
            one.authority,
            [(c.enforcer, c.terms, c.args) for c in one.caveats],
            one.salt,
            one.signature,
        )
        for one in delegations
    ]
    return encode((CONTEXT,), (rows,))


def delegated(
    manager: Address,
    wallet: SmartWallet,
    token: Address,
    most: int,
    *,
    to: Address = ANYBODY,
    salt: bytes = bytes(32),
    key: bytes | None = None,
    chain: int = 84532,
    authority: bytes = ROOT_AUTHORITY,
    args: bytes = b"",
) -> Delegation:
    """Return that ``to`` (anybody unless given) may transfer ``most`` of a token from a wallet in all.

    The wallet has to have enabled the manager.  ``key`` signs, the owner's unless given.
    """
    caveat = Caveat(manager, bytes.fromhex(token[2:]) + most.to_bytes(32, "big"), args)
    one = Delegation(to, wallet.address, authority, (caveat,), int.from_bytes(salt, "big"), b"")
    domain = {"name": "DelegationManager", "version": "1", "chainId": chain, "verifyingContract": manager}
    return replace(one, signature=sign(typed_data_digest(_TYPES, "Delegation", domain, struct(one)), key or wallet.key))


def permission(*args: Any, **how: Any) -> bytes:
    """Return a permission context of one delegation; arguments as of :func:`delegated`."""
    return context_of(delegated(*args, **how))


def redeem_call(context: bytes, token: Address, pay_to: Address, amount: int) -> bytes:
    """Return ``redeemDelegations`` of one context: transfer an amount to the payee (ERC-7579 mode 0, one call)."""
    transfer = encode_call("transfer(address,uint256)", pay_to, amount)
    execution = bytes.fromhex(token[2:]) + bytes(32) + transfer
    return encode_call(REDEEM, [context], [bytes(32)], [execution])
