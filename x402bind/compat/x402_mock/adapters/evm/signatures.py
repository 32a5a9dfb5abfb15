"""0.3.0's signing of ERC-3009 authorizations by itself, and their typed data for a signer elsewhere."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace

from x402bind.chain.signers import PrivateKeySigner
from x402core.commands import SignTypedData
from x402core.errors import LocalProtocolError
from x402core.events import Eip3009Permit, Method
from x402core.evm import digests
from x402core.registry import KNOWN
from x402core.values import Amount, Hash32, Network, Seconds, chain_id, eip155, local, parse_address, parse_hash32

from .methods import model_of
from .schemas import ERC3009Authorization

__all__ = ["build_erc3009_typed_data", "is_erc3009_currency", "sign_erc3009_authorization"]


def is_erc3009_currency(currency: str, caip2: str | None = None) -> bool:
    """Say whether tokens we know by that code take ERC-3009, on one chain or on every one (B8: never by symbol alone)."""
    networks = [info.network for info in KNOWN.networks()] if caip2 is None else [Network(caip2)]
    found = [asset for each in networks for asset in KNOWN.assets(each) if asset.code == currency.lower()]
    return bool(found) and all(Method.EIP3009 in asset.methods for asset in found)


def sign_erc3009_authorization(
    *,
    private_key: str,
    token: str,
    chain_id: int,
    authorizer: str,
    recipient: str,
    value: int,
    valid_after: int,
    valid_before: int,
    domain_name: str,
    domain_version: str,
    nonce: str | None = None,
) -> ERC3009Authorization:
    """Return a signed authorization; times are Unix seconds, ``value`` atomic units.  Raises: LocalProtocolError."""
    if valid_after >= valid_before:
        raise LocalProtocolError("ends before it begins", field="valid_before")
    permit = Eip3009Permit(
        network=eip155(chain_id),
        asset=local(parse_address, token, "token"),
        payer=local(parse_address, authorizer, "authorizer"),
        pay_to=local(parse_address, recipient, "recipient"),
        amount=Amount(value),
        valid_after=Seconds(valid_after),
        valid_before=Seconds(valid_before),
        nonce=local(parse_hash32, nonce, "nonce") if nonce is not None else Hash32("0x" + os.urandom(32).hex()),
        signature=b"",
    )
    signer = PrivateKeySigner(private_key)
    domain = digests.domain(domain_name, domain_version, chain_id, permit.asset)
    digest = digests.transfer_authorization_digest(
        domain, permit.payer, permit.pay_to, permit.amount, permit.valid_after, permit.valid_before, permit.nonce
    )
    typed = _typed(permit, domain_name, domain_version)
    signed = replace(permit, signature=signer.sign(SignTypedData(permit.payer, digest, typed)))
    found = model_of(signed)
    assert isinstance(found, ERC3009Authorization)
    return found


def build_erc3009_typed_data(
    authorization: ERC3009Authorization, *, domain_name: str, domain_version: str
) -> Mapping[str, object]:
    """Return what a wallet elsewhere is to sign (eth_signTypedData_v4).  Raises: LocalProtocolError naming the field."""
    permit = Eip3009Permit(
        network=eip155(authorization.chain_id),
        asset=local(parse_address, authorization.token, "token"),
        payer=local(parse_address, authorization.authorizer, "authorizer"),
        pay_to=local(parse_address, authorization.recipient, "recipient"),
        amount=Amount(authorization.value),
        valid_after=Seconds(authorization.validAfter),
        valid_before=Seconds(authorization.validBefore),
        nonce=local(parse_hash32, authorization.nonce, "nonce"),
        signature=b"",
    )
    return _typed(permit, domain_name, domain_version)


def _typed(permit: Eip3009Permit, name: str, version: str) -> Mapping[str, object]:
    return digests.transfer_authorization_typed_data(
        name,
        version,
        chain_id(permit.network),
        permit.asset,
        permit.payer,
        permit.pay_to,
        permit.amount,
        permit.valid_after,
        permit.valid_before,
        permit.nonce,
    )
