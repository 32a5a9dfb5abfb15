"""EVM chains."""

from __future__ import annotations

from .adapter import EVMAdapter
from .constants import (
    amount_to_value,
    get_private_key_from_env,
    get_rpc_key_from_env,
    parse_caip2_eip155_chain_id,
    value_to_amount,
)
from .schemas import (
    EIP2612Permit,
    EIP2612PermitSignature,
    ERC3009Authorization,
    EVMECDSASignature,
    EVMPaymentComponent,
    EVMTokenPermit,
    EVMTransactionConfirmation,
    EVMVerificationResult,
    Permit2Signature,
)

__all__ = [
    "EIP2612Permit",
    "EIP2612PermitSignature",
    "ERC3009Authorization",
    "EVMAdapter",
    "EVMECDSASignature",
    "EVMPaymentComponent",
    "EVMTokenPermit",
    "EVMTransactionConfirmation",
    "EVMVerificationResult",
    "Permit2Signature",
    "amount_to_value",
    "get_private_key_from_env",
    "get_rpc_key_from_env",
    "parse_caip2_eip155_chain_id",
    "value_to_amount",
]
