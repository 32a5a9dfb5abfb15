"""x402-mock's models and the core's values, turned into each other: components, permits, results.  Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

from pydantic import TypeAdapter

from x402bind.compat.x402_mock.errors import PaymentMethodError
from x402bind.compat.x402_mock.schemas.bases import TransactionStatus, VerificationStatus
from x402core import policy
from x402core.errors import LocalProtocolError, Reason, Refusal
from x402core.events import (
    Challenge,
    Dialect,
    Eip2612Permit,
    Eip3009Permit,
    Method,
    Offer,
    Permit,
    Permit2Permit,
    Settled,
    Settlement,
    SettleMode,
    Unsettled,
)
from x402core.evm.address import checksum
from x402core.money import AssetAmount, human_to_atomic
from x402core.policy import Cap, PayerPolicy
from x402core.registry import Asset, Registry
from x402core.values import Address, Amount, Network, chain_id, local, parse_address
from x402core.wire import permit_token, permit_token3
from x402core.wire.json import loads

from .schemas import EVMPaymentComponent, EVMTransactionConfirmation, EVMVerificationResult, PermitTypes

__all__ = [
    "MODELS",
    "STATUS",
    "Signed",
    "asset_of",
    "cap_of",
    "challenge_of",
    "chosen",
    "completed",
    "confirmation",
    "model_of",
    "network_of",
    "offers_of",
    "permit_of",
    "refused",
    "verified",
]

Signed: TypeAlias = Eip2612Permit | Eip3009Permit | Permit2Permit
"""What the two generations sign."""
MODELS: Final[TypeAdapter[Any]] = TypeAdapter(PermitTypes)
_TOKEN_METHODS: Final = ("eip3009", "eip2612")  # of a token we do not know, unless metadata["methods"] says otherwise

STATUS: Final = {
    Reason.SIGNATURE: VerificationStatus.INVALID_SIGNATURE,
    Reason.VALID_BEFORE: VerificationStatus.EXPIRED,
    Reason.VALUE_MISMATCH: VerificationStatus.INSUFFICIENT_ALLOWANCE,
    Reason.INSUFFICIENT_FUNDS: VerificationStatus.INSUFFICIENT_BALANCE,
    Reason.NONCE_USED: VerificationStatus.REPLAY_ATTACK,
    Reason.PAYMENT_SPENT: VerificationStatus.REPLAY_ATTACK,
    Reason.UNAVAILABLE: VerificationStatus.BLOCKCHAIN_ERROR,
}


# ------------------------------------------------------------------------------------------------------------- components


def asset_of(component: EVMPaymentComponent, registry: Registry) -> Asset:
    """Return the token a component means: ours by its currency or address, or one it describes in full.

    Raises: LocalProtocolError naming the field.
    """
    network = registry.resolve(component.caip2)
    if component.token is None:
        asset = registry.by_code(network, component.currency.lower(), field="currency")
        return _agreed(component, asset)
    address = local(parse_address, component.token, "token")
    known = registry.asset(network, address)
    if known is not None:
        return _agreed(component, known)
    if component.token_name is None or component.token_version is None or component.token_decimals is None:
        raise LocalProtocolError(
            f"{address} on {network} is not known: state token_name, token_version and token_decimals", field="token"
        )
    return Asset(
        network,
        address,
        component.currency.lower(),
        "",
        component.token_name,
        str(component.token_version),
        _whole(component.token_decimals),
        tuple(component.metadata.get("methods", _TOKEN_METHODS)),
    )


def _agreed(component: EVMPaymentComponent, asset: Asset) -> Asset:
    """Refuse a component that describes a token we know otherwise than we know it."""
    if component.currency.lower() != asset.code:
        raise LocalProtocolError(f"{asset.address} on {asset.network} is {asset.code.upper()}", field="currency")
    if component.token_name not in (None, asset.name):
        raise LocalProtocolError(f"{asset.code.upper()} on {asset.network} signs as {asset.name!r}", field="token_name")
    if component.token_version is not None and str(component.token_version) != asset.version:
        raise LocalProtocolError(f"{asset.code.upper()} on {asset.network} is version {asset.version!r}", field="token_version")
    if component.token_decimals is not None and _whole(component.token_decimals) != asset.decimals:
        raise LocalProtocolError(
            f"{asset.code.upper()} on {asset.network} has {asset.decimals} decimals", field="token_decimals"
        )
    return asset


def _whole(value: str | int) -> int:
    try:
        return int(value)
    except ValueError:
        raise LocalProtocolError("write a whole number", field="token_decimals") from None


def amount_of(component: EVMPaymentComponent, asset: Asset) -> Amount:
    """Return a component's amount in atomic units.  Raises: LocalProtocolError(field="amount")."""
    return local(lambda value, at: human_to_atomic(value, asset.decimals, at), component.amount, "amount")  # type: ignore[arg-type]


def cap_of(component: EVMPaymentComponent, asset: Asset) -> Cap:
    """Return the most a payer gives in a component's asset."""
    return Cap(asset, amount_of(component, asset))


def offers_of(
    component: EVMPaymentComponent, asset: Asset, account: Address, *, timeout: int, registry: Registry
) -> tuple[Offer, ...]:
    """Return a component as a seller's offers, for payers of both generations; ``account`` settles.

    Raises: LocalProtocolError naming the field.
    """
    two = Method.EIP2612 in asset.methods
    (first,) = policy.offers(
        AssetAmount(amount_of(component, asset), asset),
        asset.network,
        component.pay_to or account,
        dialects=(Dialect.PERMIT_TOKEN if two else Dialect.V2,),
        methods=(Method.EIP2612 if two else Method.PERMIT2,),
        spender=account,
        timeout=timeout,
        registry=registry,
    )
    if not two:
        direct = replace(first, dialect=Dialect.PERMIT_TOKEN, scheme=permit_token3.DIRECT, spender=account)
        return (replace(direct, settle=SettleMode.BACKGROUND),)
    later = replace(first, method=Method.EIP3009, spender=None)
    return (first, later) if Method.EIP3009 in asset.methods else (first,)


def completed(component: EVMPaymentComponent, asset: Asset, *, pay_to: str | None, wallet: str | None) -> EVMPaymentComponent:
    """Return a component with everything that is known of it, in the members of both generations."""
    return component.model_copy(
        update={
            "chain_id": chain_id(asset.network),
            "token": checksum(asset.address),
            "token_name": asset.name,
            "token_version": asset.version,
            "token_decimals": asset.decimals,
            "pay_to": pay_to,
            "metadata": {
                **component.metadata,
                "symbol": asset.code.upper(),
                "name": asset.name,
                "decimals": asset.decimals,
                "network": asset.network,
                "version": asset.version,
                **({} if wallet is None else {"wallet_address": wallet}),
            },
        }
    )


def challenge_of(components: Sequence[EVMPaymentComponent | dict[str, Any]]) -> Challenge:
    """Read a server's components, of either generation, as a 402's.  Raises: RemoteProtocolError with the pointer."""
    plain = [each if isinstance(each, dict) else each.model_dump(mode="json", exclude_none=True) for each in components]
    later = [each for each in plain if each.get("token_name") is not None]
    earlier = [each for each in plain if each not in later]
    read = [(permit_token.decode_challenge, earlier), (permit_token3.decode_offers, later)]
    found = [decode(loads(_written(_body(some)))) for decode, some in read if some]
    return Challenge(tuple(offer for each in found for offer in each.offers), token_endpoint="/")


def _body(components: list[dict[str, Any]]) -> dict[str, Any]:
    scheme = {"payment_components": components, "protocol_version": permit_token.VERSION}
    return {"payment_scheme": scheme, "access_token_endpoint": "/"}


def _written(document: dict[str, Any]) -> bytes:
    """Return JSON for the core to read: a float becomes the shortest decimal that writes it, exactly as on the wire."""
    try:
        return json.dumps(document, default=str).encode()
    except (TypeError, ValueError):
        raise LocalProtocolError("not JSON", field="payload") from None


def chosen(payer: PayerPolicy, components: Sequence[EVMPaymentComponent | dict[str, Any]]) -> Offer:
    """Return the offer a payer takes.  Raises: PaymentMethodError saying why none fits."""
    found = policy.choose(payer, challenge_of(components))
    if isinstance(found, Refusal):
        raise PaymentMethodError(f"No matching payment component found: {found.detail or found.reason}")
    return found


# ---------------------------------------------------------------------------------------------------------------- permits


def permit_of(payload: Any) -> Signed:
    """Return a permit, a model or its JSON, as the core reads it off the wire.

    Raises: RemoteProtocolError with the pointer of the member at fault; LocalProtocolError for what is no permit at all.
    """
    document = payload if isinstance(payload, dict) else getattr(payload, "model_dump", lambda **_: None)(mode="json")
    if not isinstance(document, dict):
        raise LocalProtocolError("expected a permit, or its JSON object", field="permit")
    body = _written({"version": permit_token.VERSION, "permit": document})
    found = permit_token.decode_token_request(body).permit
    assert isinstance(found, Signed)
    return found


def model_of(permit: Signed) -> Any:
    """Return a permit as x402-mock's model."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    document: Any = loads(permit_token.encode_token_request(permit, created_at=now))
    return MODELS.validate_python(document["permit"])


# ---------------------------------------------------------------------------------------------------------------- results


def verified(permit: Permit, offer: Offer) -> EVMVerificationResult:
    """Return that a permit is good."""
    return _result(permit, offer, VerificationStatus.SUCCESS, "the permit is good", None)


def refused(permit: Permit, offer: Offer, why: Refusal) -> EVMVerificationResult:
    """Return what is wrong with a permit."""
    status = STATUS.get(why.reason, VerificationStatus.UNKNOWN_ERROR)
    return _result(permit, offer, status, why.detail or why.reason, {"reason": str(why.reason)})


def _result(
    permit: Permit, offer: Offer, status: VerificationStatus, message: str, details: dict[str, Any] | None
) -> EVMVerificationResult:
    payer = checksum(permit.payer)
    return EVMVerificationResult(
        status=status,
        is_valid=status is VerificationStatus.SUCCESS,
        message=message,
        error_details=details,
        sender=payer,
        permit_owner=payer,
        receiver=checksum(offer.pay_to),
        authorized_amount=permit.amount,
    )


def confirmation(permit: Permit, outcome: Settlement, account: Address | None) -> EVMTransactionConfirmation:
    """Return what became of a settlement."""
    said: dict[str, Any] = {
        "payer": checksum(permit.payer),
        "from_address": None if account is None else checksum(account),
        "to_address": checksum(permit.asset),
        "authorized_amount": permit.amount,
    }
    if isinstance(outcome, Settled):
        return EVMTransactionConfirmation(
            status=TransactionStatus.SUCCESS, tx_hash=outcome.transaction, block_number=outcome.block, confirmations=1, **said
        )
    last = outcome.transactions[-1] if outcome.transactions else ""
    if isinstance(outcome, Unsettled):
        status = TransactionStatus.NETWORK_ERROR if outcome.reason is Reason.UNAVAILABLE else TransactionStatus.FAILED
        return EVMTransactionConfirmation(status=status, tx_hash=last, error_message=str(outcome.reason), **said)
    return EVMTransactionConfirmation(status=TransactionStatus.PENDING, tx_hash=last, error_message="not settled yet", **said)


def network_of(component: EVMPaymentComponent, registry: Registry) -> Network:
    """Return a component's network.  Raises: LocalProtocolError(field="network")."""
    return registry.resolve(component.caip2)
