"""What a payer will sign, and what a seller wants: configuration, checked when it is written down.

The payer's side trusts nothing a server says about money.  Caps are atomic units of assets in the payer's *own* registry; an
offer whose name, version or decimals differ from that registry is refused, not signed (defect A5: a server that claimed 18
decimals for USDC was given a signature for 500 billion dollars under a cap of 0.8).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final
from urllib.parse import quote

from .access import KeyRing
from .errors import LocalProtocolError, Reason, Refusal
from .events import Challenge, Dialect, Method, Offer, Resource, SettleMode
from .money import Price, atomic, format_amount
from .registry import KNOWN, Asset, Registry
from .values import Address, Amount, Millis, Origin, Seconds, local, parse_address, parse_origin

__all__ = ["Cap", "PayerPolicy", "Terms", "TokenTerms", "choose", "offers"]

DIALECTS: Final = (Dialect.V2, Dialect.PERMIT_TOKEN)


@dataclass(frozen=True, slots=True)
class Cap:
    """The most a payer gives for one payment in one asset: ``most`` atomic units."""

    asset: Asset
    most: Amount


@dataclass(frozen=True, slots=True)
class PayerPolicy:
    """What a payer will sign, per payment.  Nothing is allowed that no cap names; build one with :meth:`up_to`.

    ``caps`` stand in order of preference: the earlier one is paid with when the server takes both (defect A11).  ``payees``
    and ``origins``, when given, are allow-lists.  ``longest_validity`` bounds, in seconds, how long a signed permit can be
    executed.  ``resend`` is how often the *same* permit is presented again when the server asks to wait; it never signs anew.
    """

    caps: tuple[Cap, ...] = ()
    payees: frozenset[Address] | None = None
    origins: frozenset[Origin] | None = None
    longest_validity: Seconds = Seconds(600)
    dialects: tuple[Dialect, ...] = DIALECTS
    resend: int = 3
    resend_after: Millis = Millis(1000)
    registry: Registry = field(default=KNOWN, repr=False)

    @classmethod
    def up_to(
        cls,
        price: Price,
        *networks: str,
        payees: Iterable[str] | None = None,
        origins: Iterable[str] | None = None,
        registry: Registry = KNOWN,
    ) -> PayerPolicy:
        """Return a policy that pays at most ``price`` per payment, in the asset it names, on each of these networks.

        Raises: LocalProtocolError naming the argument.
        """
        if not networks:
            raise LocalProtocolError("name at least one network, such as 'eip155:84532'", field="networks")
        policy = cls(
            payees=None if payees is None else frozenset(local(parse_address, p, "payees") for p in payees),
            origins=None if origins is None else frozenset(local(parse_origin, o, "origins") for o in origins),
            registry=registry,
        )
        for network in networks:
            policy = policy.also(price, network)
        return policy

    def also(self, price: Price, network: str) -> PayerPolicy:
        """Return this policy with one more cap, preferred after those it has."""
        most, asset = atomic(price, self.registry.resolve(network), self.registry)
        if any(cap.asset.network == asset.network and cap.asset.address == asset.address for cap in self.caps):
            raise LocalProtocolError(f"there is a cap for {asset.code} on {asset.network} already", field="price")
        return replace(self, caps=(*self.caps, Cap(asset, most)))


def choose(policy: PayerPolicy, challenge: Challenge) -> Offer | Refusal:
    """Choose the offer to pay: our preference first (asset, then dialect), the server's order last; total.

    The chosen offer's domain is what our registry says, so that what is signed never depends on the server's word.
    """
    refusals: list[Refusal] = []
    for cap in policy.caps:
        for dialect in policy.dialects:
            for offer in challenge.offers:
                if (offer.network, offer.asset, offer.dialect) == (cap.asset.network, cap.asset.address, dialect):
                    refusal = _refuse(policy, cap, offer)
                    if refusal is None:
                        return offer
                    refusals.append(refusal)
    refusals += [why for offer in challenge.offers if (why := _foreign(policy, offer)) is not None]
    if len({refusal.reason for refusal in refusals}) == 1:
        return refusals[0]
    reasons = [refusal.detail for refusal in refusals] + [f"not understood: {text}" for text in challenge.skipped]
    return Refusal(Reason.NO_OFFER, "; ".join(reasons)[:500] or "the server offers nothing")


def _foreign(policy: PayerPolicy, offer: Offer) -> Refusal | None:
    """Say why an offer that no cap speaks of cannot be paid."""
    networks = {cap.asset.network for cap in policy.caps}
    if offer.network not in networks:
        return Refusal(Reason.NETWORK_NOT_ALLOWED, f"no cap for {offer.network}")
    if not any((c.asset.network, c.asset.address) == (offer.network, offer.asset) for c in policy.caps):
        return Refusal(Reason.UNKNOWN_ASSET, f"no cap for asset {offer.asset} on {offer.network}")
    return None


def _refuse(policy: PayerPolicy, cap: Cap, offer: Offer) -> Refusal | None:
    asset = cap.asset
    if (offer.name, offer.version) != (asset.name, asset.version) or offer.decimals not in (None, asset.decimals):
        return Refusal(Reason.ASSET_MISMATCH, f"the server describes {asset.code} on {asset.network} otherwise than we know it")
    if offer.method not in asset.methods:
        return Refusal(Reason.UNSUPPORTED_SCHEME, f"{asset.code} on {asset.network} cannot be paid by {offer.method}")
    if offer.amount > cap.most:
        asks, most = format_amount(offer.amount, asset), format_amount(cap.most, asset)
        return Refusal(Reason.OVER_CAP, f"the server asks {asks}, the cap is {most}")
    if offer.amount == 0:
        return Refusal(Reason.INVALID_REQUIREMENTS, "the server asks for a payment of nothing")
    if policy.payees is not None and not {offer.pay_to, offer.spender or offer.pay_to} <= policy.payees:
        return Refusal(Reason.PAYEE_NOT_ALLOWED, f"{offer.pay_to} is not an allowed payee")
    if int(offer.pay_to, 16) == 0 or offer.timeout <= 0:
        return Refusal(Reason.INVALID_REQUIREMENTS, "the offer pays nobody, or is over before it begins")
    return None


# ------------------------------------------------------------------------------------------------------------ the seller


@dataclass(frozen=True, slots=True)
class TokenTerms:
    """How the permit-token flow is sold here: keys, audience and scope of the tokens, their lifetime in seconds.

    ``endpoint`` is the path permits are POSTed to.  ``most_open`` bounds, in atomic units of the asset, what one payer may
    owe in settlements that have not ended.
    """

    ring: KeyRing
    audience: str
    scope: str
    endpoint: str = "/token"
    lifetime: Seconds = Seconds(3600)
    most_open: Amount | None = None

    @property
    def address(self) -> str:
        """The endpoint as the challenge names it: the scope goes in the query, as the permit itself names no resource."""
        return f"{self.endpoint}?scope={quote(self.scope, safe='')}"


@dataclass(frozen=True, slots=True, eq=False)
class Terms:
    """What one resource costs: offers in the seller's order of preference, and how they are served.

    Compared by identity, so that a price's 402 is encoded once.  ``since`` (Unix milliseconds) is when the price was set, as
    the permit-token dialect states it.
    """

    offers: tuple[Offer, ...]
    resource: Resource
    token: TokenTerms | None = None
    since: Millis = Millis(0)

    def __post_init__(self) -> None:
        if not self.offers:
            raise LocalProtocolError("a price needs at least one offer", field="offers")
        if self.token is None and any(offer.dialect is Dialect.PERMIT_TOKEN for offer in self.offers):
            raise LocalProtocolError("the permit-token flow needs TokenTerms (keys, audience, scope)", field="token")
        for offer in self.offers:
            if int(offer.pay_to, 16) == 0:
                raise LocalProtocolError("the zero address cannot be a payee", field="pay_to")


def offers(
    price: Price,
    network: str,
    pay_to: str,
    *,
    dialects: Iterable[Dialect] = DIALECTS,
    settle: SettleMode = SettleMode.AFTER,
    timeout: int = 300,
    spender: str | None = None,
    registry: Registry = KNOWN,
) -> tuple[Offer, ...]:
    """Return a price as offers, one for each dialect the asset can be paid in; exact, or refused here and now.

    ``settle`` is for x402 v2; the permit-token flow always settles in the background.  ``spender`` is the account that
    submits EIP-2612 permits (default: the payee).  Raises: LocalProtocolError naming the argument.
    """
    amount, asset = atomic(price, registry.resolve(network), registry)
    if settle is SettleMode.BACKGROUND:
        raise LocalProtocolError("x402 v2 settles before or after; background is the permit-token flow's", field="settle")
    if timeout <= 0:
        raise LocalProtocolError("must be a positive number of seconds", field="timeout")
    payee = local(parse_address, pay_to, "pay_to")
    methods = {Dialect.V2: (Method.EIP3009, settle), Dialect.PERMIT_TOKEN: (Method.EIP2612, SettleMode.BACKGROUND)}
    made = tuple(
        Offer(
            dialect=dialect,
            method=method,
            network=asset.network,
            asset=asset.address,
            amount=amount,
            pay_to=payee,
            timeout=Seconds(timeout),
            name=asset.name,
            version=asset.version,
            decimals=asset.decimals,
            symbol=asset.code.upper(),
            spender=local(parse_address, spender, "spender") if spender and method is Method.EIP2612 else None,
            settle=mode,
        )
        for dialect in dialects
        for method, mode in [methods[dialect]]
        if method in asset.methods
    )
    if not made:
        raise LocalProtocolError(f"{asset.code} on {asset.network} can be paid in none of these dialects", field="price")
    return made
