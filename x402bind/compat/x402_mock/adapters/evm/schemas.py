"""The EVM models of both generations: one component, the permits, and what verification and settlement say.

Amounts are decimals inside: a float is taken for the shortest decimal that writes it (0.1 is 0.1), an int for itself (A16).
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, field_serializer, field_validator, model_validator

from x402bind.compat.x402_mock.schemas.bases import (
    BasePaymentComponent,
    BasePermit,
    BaseSignature,
    BaseTransactionConfirmation,
    BaseVerificationResult,
)
from x402core.evm.digests import PERMIT2

__all__ = [
    "EIP2612Permit",
    "EIP2612PermitSignature",
    "ERC3009Authorization",
    "EVMECDSASignature",
    "EVMPaymentComponent",
    "EVMTokenPermit",
    "EVMTransactionConfirmation",
    "EVMVerificationResult",
    "Permit2Signature",
    "PermitTypes",
]

_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}", re.ASCII)
_WORD = re.compile(r"(?:0[xX])?[0-9a-fA-F]{64}", re.ASCII)
_CAIP2 = re.compile(r"eip155[:-]([1-9][0-9]{0,19})", re.ASCII | re.IGNORECASE)


def _demand_addresses(**fields: str | None) -> None:
    for name, value in fields.items():
        if value is not None and _ADDRESS.fullmatch(value) is None:
            raise ValueError(f"{name}: expected 0x and 40 hex digits")


# ------------------------------------------------------------------------------------------------------------- components


class EVMPaymentComponent(BasePaymentComponent):
    """One way to pay on an EVM chain: 0.3.0's component, with ``chain_id`` for 0.1.1's readers.

    A seller's ``amount`` is the price, a payer's the most it gives, in units of the token.  ``rpc_url`` is in no JSON.
    """

    model_config = ConfigDict(validate_assignment=True)

    payment_type: Literal["evm"] = "evm"
    amount: Decimal = Field(..., ge=0)
    caip2: str = ""
    chain_id: int | None = Field(default=None, ge=1)
    pay_to: str | None = None
    token: str | None = None
    rpc_url: str | None = Field(default="", exclude=True, repr=False)
    token_name: str | None = None
    token_decimals: str | int | None = None
    token_version: str | int | None = None

    @model_validator(mode="before")
    @classmethod
    def _one_chain(cls, data: Any) -> Any:
        if isinstance(data, dict) and not data.get("caip2") and isinstance(data.get("chain_id"), int):
            return {**data, "caip2": f"eip155:{data['chain_id']}"}
        return data

    @field_validator("amount", mode="before")
    @classmethod
    def _exact(cls, value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
            raise ValueError("amount: write a number")
        try:
            amount = Decimal(str(value))
        except InvalidOperation:
            raise ValueError("amount: write a number") from None
        if not amount.is_finite():
            raise ValueError("amount: write a finite number")
        return amount

    @field_validator("caip2")
    @classmethod
    def _eip155(cls, value: str) -> str:
        match = _CAIP2.fullmatch(value)
        if match is None:
            raise ValueError("caip2: expected eip155: and a chain id")
        return f"eip155:{match[1]}"

    @field_serializer("amount", when_used="json")
    def _number(self, amount: Decimal) -> int | float | str:
        """Write a JSON number where that is exact, else a string."""
        if amount == amount.to_integral_value():
            return int(amount)
        return float(amount) if Decimal(str(float(amount))) == amount else str(amount)

    @property
    def network(self) -> str:
        """The chain in CAIP-2, spelled with a colon."""
        return self.caip2

    def validate_payment(self) -> bool:
        """Return True.  Raises: ValueError naming the field."""
        _demand_addresses(token=self.token, pay_to=self.pay_to)
        if self.chain_id is not None and f"eip155:{self.chain_id}" != self.caip2:
            raise ValueError("chain_id: another chain than caip2's")
        return True


# ---------------------------------------------------------------------------------------------------------------- permits


class EVMECDSASignature(BaseSignature):
    """A key's signature in three parts; ``r`` and ``s`` are whole words here (B3)."""

    signature_type: Literal["EIP2612", "ERC3009", "Permit2"] = "EIP2612"
    v: int = Field(..., ge=27, le=28)
    r: str
    s: str

    def validate_format(self) -> bool:
        """Return True.  Raises: ValueError naming the part."""
        for name, value in (("r", self.r), ("s", self.s)):
            if _WORD.fullmatch(value) is None:
                raise ValueError(f"{name}: expected 64 hex digits")
        return True

    def to_packed_hex(self) -> str:
        """Return r, s and v as one 0x-prefixed string."""
        self.validate_format()
        return f"0x{self.r[-64:]}{self.s[-64:]}{self.v:02x}"


class EIP2612PermitSignature(EVMECDSASignature):
    """0.1.1's name for it."""

    signature_type: Literal["EIP2612"] = "EIP2612"


class _Signed(BasePermit):
    token: str
    chain_id: int = Field(..., ge=1)
    signature: EVMECDSASignature | None = None

    @property
    def payer(self) -> str:
        """Who pays."""
        raise NotImplementedError

    def _people(self) -> dict[str, str | None]:
        raise NotImplementedError

    def validate_structure(self) -> bool:
        """Return True.  Raises: ValueError naming the field."""
        _demand_addresses(token=self.token, **self._people())
        if self.signature is None:
            raise ValueError("signature: missing")
        return self.signature.validate_format()


class EIP2612Permit(_Signed):
    """A signed EIP-2612 permit (0.1.1)."""

    permit_type: Literal["EIP2612"] = "EIP2612"
    owner: str
    spender: str
    value: int = Field(..., ge=0)
    nonce: int = Field(..., ge=0)
    deadline: int = Field(..., ge=0)

    @property
    def payer(self) -> str:
        """Who pays."""
        return self.owner

    def _people(self) -> dict[str, str | None]:
        return {"owner": self.owner, "spender": self.spender}

    def is_expired(self, current_timestamp: int | None = None) -> bool:
        """Say whether it has ended, at a Unix time (default: now)."""
        now = (
            int(self.created_at.now(tz=self.created_at.tzinfo).timestamp()) if current_timestamp is None else current_timestamp
        )
        return now > self.deadline


EVMTokenPermit = EIP2612Permit


class ERC3009Authorization(_Signed):
    """A signed EIP-3009 transfer (0.3.0)."""

    permit_type: Literal["ERC3009"] = "ERC3009"
    authorizer: str
    recipient: str
    value: int = Field(..., ge=0)
    validAfter: int = Field(..., ge=0)
    validBefore: int = Field(..., ge=0)
    nonce: str

    @property
    def payer(self) -> str:
        """Who pays."""
        return self.authorizer

    def _people(self) -> dict[str, str | None]:
        return {"authorizer": self.authorizer, "recipient": self.recipient}


class Permit2Signature(_Signed):
    """A signed Permit2 transfer without witness (0.3.0); ``permit2_address`` is never the payer's to choose (B2)."""

    permit_type: Literal["Permit2"] = "Permit2"
    owner: str
    spender: str
    amount: int = Field(..., ge=0)
    nonce: int = Field(..., ge=0)
    deadline: int = Field(..., ge=0)
    permit2_address: str = PERMIT2

    @property
    def payer(self) -> str:
        """Who pays."""
        return self.owner

    def _people(self) -> dict[str, str | None]:
        return {"owner": self.owner, "spender": self.spender, "permit2_address": self.permit2_address}


PermitTypes = Annotated[EIP2612Permit | ERC3009Authorization | Permit2Signature, Field(discriminator="permit_type")]


# ---------------------------------------------------------------------------------------------------------------- results


class EVMVerificationResult(BaseVerificationResult):
    """What verification found, in the words of both versions; amounts are atomic units."""

    verification_type: Literal["evm"] = "evm"
    sender: str | None = None
    receiver: str | None = None
    permit_owner: str | None = None
    authorized_amount: int | None = Field(default=None, ge=0)
    blockchain_state: dict[str, Any] | None = None
    on_chain_nonce: int | None = Field(default=None, ge=0)
    on_chain_allowance: int | None = Field(default=None, ge=0)
    owner_balance: int | None = Field(default=None, ge=0)


class EVMTransactionConfirmation(BaseTransactionConfirmation):
    """What became of a settlement: ``tx_hash`` is 0x-prefixed (A18), "" where nothing was sent; amounts are atomic units."""

    confirmation_type: Literal["evm"] = "evm"
    tx_hash: str
    block_number: int | None = Field(default=None, ge=0)
    block_timestamp: int | None = Field(default=None, ge=0)
    gas_used: int | None = Field(default=None, ge=0)
    gas_limit: int | None = Field(default=None, ge=0)
    transaction_fee: int | None = Field(default=None, ge=0)
    from_address: str | None = None
    to_address: str | None = None
    payer: str | None = None
    authorized_amount: int | None = Field(default=None, ge=0)
