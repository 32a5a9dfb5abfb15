"""Whose signature a permit carries: a key's, a contract's, or that of a contract still to be deployed (x402.md 2.0).

The payer's key signing is proved here and now.  All else only the chain can say, so it is *planned*: the contract is asked
(ERC-1271), and the payment simulated, after the wallet's deployment where that is still to come (ERC-6492).  An EIP-7702
account is a contract to the chain: its token asks its code, and the simulation shows what it said.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from x402core.errors import LocalProtocolError, Reason, Refusal, RemoteProtocolError
from x402core.evm import secp256k1
from x402core.evm.signatures import DeploylessSignature, classify
from x402core.reads import CodeAt, Facts, Read, SignatureValid
from x402core.values import Address

__all__ = [
    "DEPLOYED",
    "DEPLOY_GAS",
    "SignedBy",
    "Wallets",
    "deployment",
    "inner",
    "plan_signature",
    "refuse_signature",
    "signed_by",
]

DEPLOY_GAS: Final = 1_500_000
"""Gas that deploying a payer's wallet may use at most; a factory that wants more is left to fail."""


class SignedBy(Enum):
    """What a signature's bytes prove, or leave to be proved."""

    KEY = "key"  # recovers to the payer: nothing is left to ask
    CONTRACT = "contract"  # only the payer's contract can say (ERC-1271)
    UNDEPLOYED = "undeployed"  # the same, once its factory has made it (ERC-6492)


@dataclass(frozen=True, slots=True)
class Wallets:
    """Which contract wallets may pay: any that is deployed, those that an allowed factory would make, delegators of managers.

    ``factories`` is empty by default, because whoever settles pays for deploying (x402.md 2.0).  ``managers``, the delegation
    managers (ERC-7710) that are believed to hold a delegator's account to what he signed, is too: then nobody pays that way.
    """

    contracts: bool = True
    factories: frozenset[Address] = field(default_factory=frozenset)
    managers: frozenset[Address] = field(default_factory=frozenset)

    def __post_init__(self) -> None:
        if self.factories and not self.contracts:
            raise LocalProtocolError("allows wallets to be deployed, but no wallets", field="factories")
        if self.managers and not self.contracts:
            raise LocalProtocolError("allows wallets to delegate, but no wallets", field="managers")


DEPLOYED: Final = Wallets()
"""Any wallet that is there, none to be made."""


def signed_by(payer: Address, digest: bytes, signature: bytes, wallets: Wallets) -> SignedBy | Refusal:
    """Say whose signature it is, refusing what no key and no contract of the payer's could have made."""
    if len(signature) == 65:
        return _of_65(payer, digest, signature, wallets)
    try:
        kind = classify(signature)
    except RemoteProtocolError as error:
        return Refusal(Reason.SIGNATURE, f"payload.signature: {error.text}")
    if isinstance(kind, DeploylessSignature):
        if kind.factory not in wallets.factories:
            return Refusal(Reason.FACTORY_NOT_ALLOWED, f"the wallet's factory {kind.factory} is not allowed here")
        return SignedBy.UNDEPLOYED
    if not wallets.contracts:
        return Refusal(Reason.SIGNATURE, "payload.signature is not the payer's")
    return SignedBy.CONTRACT


def _of_65(payer: Address, digest: bytes, signature: bytes, wallets: Wallets) -> SignedBy | Refusal:
    """Say whose 65 bytes they are: a key's, unless they recover to somebody else."""
    try:
        if secp256k1.recover(digest, signature) == payer:
            return SignedBy.KEY
    except RemoteProtocolError as error:
        if not wallets.contracts or not _may_be_contract(signature):
            return Refusal(Reason.SIGNATURE, f"payload.signature: {error.text}")
        return SignedBy.CONTRACT
    if not wallets.contracts:
        return Refusal(Reason.SIGNATURE, "payload.signature is not the payer's")
    return SignedBy.CONTRACT


def _may_be_contract(signature: bytes) -> bool:
    """Tell a key's signature spelled wrongly (v of 0 or 1, s too high) from 65 bytes of a contract's own making.

    A contract's are taken only when they could be nobody's key: an unknown v.  A malleable spelling must not pass for one.
    """
    return signature[64] not in (0, 1, 27, 28)


def inner(signature: bytes) -> bytes:
    """Return what the wallet itself is given: the signature without its ERC-6492 wrapping."""
    if len(signature) == 65:
        return signature
    try:
        kind = classify(signature)
    except RemoteProtocolError:
        return signature
    return kind.inner if isinstance(kind, DeploylessSignature) else signature


def deployment(signature: bytes) -> tuple[Address, bytes] | None:
    """Return the call that makes the wallet (factory, calldata), where the signature brings one."""
    if len(signature) == 65:
        return None
    try:
        kind = classify(signature)
    except RemoteProtocolError:
        return None
    return (kind.factory, kind.calldata) if isinstance(kind, DeploylessSignature) else None


def plan_signature(by: SignedBy, payer: Address, digest: bytes, signature: bytes) -> tuple[Read[Any], ...]:
    """List what must be read to know that a contract signed; nothing for a key."""
    if by is SignedBy.KEY:
        return ()
    return (CodeAt(payer), SignatureValid(payer, digest, inner(signature)))


def refuse_signature(by: SignedBy, payer: Address, digest: bytes, signature: bytes, facts: Facts) -> Refusal | None:
    """Refuse a contract's signature that the contract does not know; one still to be deployed the simulation judges."""
    if by is SignedBy.KEY:
        return None
    if not facts.of(CodeAt(payer)):
        return None if by is SignedBy.UNDEPLOYED else Refusal(Reason.SIGNATURE, "payload.signature is not the payer's")
    if not facts.of(SignatureValid(payer, digest, inner(signature))):
        return Refusal(Reason.SIGNATURE, "the payer's contract does not know this signature")
    return None
