"""What a payer will sign, and what a seller wants: configuration, checked when it is written down.

The payer's side trusts nothing a server says about money.  Caps are atomic units of assets in the payer's *own* registry; an
offer whose name, version or decimals differ from that registry is refused, not signed (defect A5: a server that claimed 18
decimals for USDC was given a signature for 500 billion dollars under a cap of 0.8).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final
from urllib.parse import quote

from .access import KeyRing
from .errors import LocalProtocolError, Reason, Refusal
from .events import Challenge, Dialect, Method, Offer, Resource, SettleMode
from .evm.address import own_address
from .money import Price, atomic, format_amount
from .registry import KNOWN, Asset, Registry
from .schemes.scheme import UPTO
from .schemes.wallets import DEPLOYED, Wallets
from .values import Address, Amount, Millis, Network, Origin, Seconds, local, parse_origin
from .wire import builder_code
from .wire.json import Json

__all__ = ["Cap", "FacilitatorTerms", "PayerPolicy", "SignInTerms", "Terms", "TokenTerms", "choose", "offers"]

DIALECTS: Final = (Dialect.V2, Dialect.V1, Dialect.PERMIT_TOKEN)
_EXACT: Final = "exact"
_WAYS: Final[Mapping[Dialect, tuple[tuple[str, Method], ...]]] = {
    Dialect.V2: (
        (_EXACT, Method.EIP3009),
        (_EXACT, Method.PERMIT2),
        (_EXACT, Method.EIP2612),
        (_EXACT, Method.ERC7710),
        (UPTO, Method.PERMIT2),
    ),
    Dialect.V1: ((_EXACT, Method.EIP3009),),
    Dialect.PERMIT_TOKEN: ((_EXACT, Method.EIP2612),),
}
"""What each dialect has words for, preferred first."""


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
    ``sign_in``: where a server lets those who have paid before come back by signing in, try that before paying.  ``services``
    are ERC-8021 builder codes to add to every x402 v2 payment (five at most).
    """

    caps: tuple[Cap, ...] = ()
    payees: frozenset[Address] | None = None
    origins: frozenset[Origin] | None = None
    longest_validity: Seconds = Seconds(600)
    dialects: tuple[Dialect, ...] = DIALECTS
    resend: int = 3
    resend_after: Millis = Millis(1000)
    sign_in: bool = False
    services: tuple[str, ...] = ()
    registry: Registry = field(default=KNOWN, repr=False)

    def __post_init__(self) -> None:
        if self.services:
            builder_code.codes(self.services)  # refuses what is no code

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
            payees=None if payees is None else frozenset(own_address(p, "payees") for p in payees),
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
    """Choose the offer to pay: our preference first (asset, dialect, the token's own ways), the server's order last; total.

    The chosen offer's domain is what our registry says, so that what is signed never depends on the server's word.
    """
    refusals: list[Refusal] = []
    for cap in policy.caps:
        for dialect in policy.dialects:
            # the token's own ways first: Permit2 takes an allowance that a payer may not have given
            for offer in sorted(challenge.offers, key=lambda each: each.method not in cap.asset.methods):
                if (offer.network, offer.asset, offer.dialect) == (cap.asset.network, cap.asset.address, dialect):
                    refusal = _refuse(policy, cap, offer)
                    if refusal is None:
                        return _cheapest(policy, cap, offer, challenge.offers)
                    refusals.append(refusal)
    refusals += [why for offer in challenge.offers if (why := _foreign(policy, offer)) is not None]
    if len({refusal.reason for refusal in refusals}) == 1:
        return refusals[0]
    reasons = [refusal.detail for refusal in refusals] + [f"not understood: {text}" for text in challenge.skipped]
    return Refusal(Reason.NO_OFFER, "; ".join(reasons)[:500] or "the server offers nothing")


def _cheapest(policy: PayerPolicy, cap: Cap, chosen: Offer, offers: Iterable[Offer]) -> Offer:
    """Return the cheapest of the offers that differ from the chosen one in nothing but their price and payee."""

    def way(offer: Offer) -> tuple[object, ...]:
        return offer.dialect, offer.network, offer.asset, offer.scheme, offer.method, offer.settle

    alike = [each for each in offers if way(each) == way(chosen) and _refuse(policy, cap, each) is None]
    return min(alike, key=lambda each: each.amount)


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
    named = bool(offer.name) or offer.method in (Method.EIP3009, Method.EIP2612)  # Permit2 signs without the token's domain
    domain = (offer.name, offer.version) == (asset.name, asset.version)
    if (named and not domain) or offer.decimals not in (None, asset.decimals):
        return Refusal(Reason.ASSET_MISMATCH, f"the server describes {asset.code} on {asset.network} otherwise than we know it")
    if offer.method not in (*asset.methods, Method.PERMIT2):  # Permit2 moves any token
        return Refusal(Reason.UNSUPPORTED_SCHEME, f"{asset.code} on {asset.network} cannot be paid by {offer.method}")
    if offer.amount > cap.most:
        asks, most = format_amount(offer.amount, asset), format_amount(cap.most, asset)
        return Refusal(Reason.OVER_CAP, f"the server asks {asks}, the cap is {most}")
    if offer.amount == 0:
        return Refusal(Reason.INVALID_REQUIREMENTS, "the server asks for a payment of nothing")
    if policy.payees is not None and not {offer.pay_to, offer.spender or offer.pay_to} <= policy.payees:
        return Refusal(Reason.PAYEE_NOT_ALLOWED, f"{offer.pay_to} is not an allowed payee")
    if int(offer.pay_to, 16) == 0 or offer.timeout <= 0 or (offer.scheme == UPTO and offer.facilitator is None):
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


@dataclass(frozen=True, slots=True)
class SignInTerms:
    """That whoever paid for a resource once may come back by signing in (``sign-in-with-x``, x402.md 3.4).

    ``origin`` is the server's public one, ``resource`` what a payment is remembered for, never what a payer says it paid for.
    A payment is remembered for just these prices: those who come back after they changed pay again.
    """

    origin: Origin
    resource: str
    statement: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Terms:
    """What one resource costs: offers in the seller's order of preference, and how they are served.

    Compared by identity, so that a price's 402 is encoded once.  ``since`` (Unix milliseconds) is when the price was set, as
    the permit-token dialect states it.  ``wallets`` says which contract wallets may pay; ``extensions`` are advertised as they
    are; ``identifier_required`` refuses a payment that brings no identifier of its own (x402.md 3.5); ``forward`` keeps
    ``resource``, ``extensions`` and the payer's service codes for a facilitator that settles the payment.
    """

    offers: tuple[Offer, ...]
    resource: Resource
    token: TokenTerms | None = None
    since: Millis = Millis(0)
    wallets: Wallets = DEPLOYED
    extensions: Mapping[str, Json] = field(default_factory=dict, repr=False)
    identifier_required: bool = False
    sign_in: SignInTerms | None = None
    forward: bool = False
    registry: Registry = field(default=KNOWN, repr=False)

    def __post_init__(self) -> None:
        if not self.offers:
            raise LocalProtocolError("a price needs at least one offer", field="offers")
        if self.token is None and any(offer.dialect is Dialect.PERMIT_TOKEN for offer in self.offers):
            raise LocalProtocolError("the permit-token flow needs TokenTerms (keys, audience, scope)", field="token")
        if self.sign_in is not None and any(offer.scheme == UPTO for offer in self.offers):
            raise LocalProtocolError("what is metered (upto) is paid each time: nobody signs in for it", field="sign_in")
        for offer in self.offers:
            if int(offer.pay_to, 16) == 0:
                raise LocalProtocolError("the zero address cannot be a payee", field="pay_to")


# ------------------------------------------------------------------------------------------------------- the facilitator


@dataclass(frozen=True, slots=True, eq=False)
class FacilitatorTerms:
    """What a facilitator settles: on which networks, through which account of its own on each.

    ``assets`` and ``payees``, when given, are allow-lists.  ``wallets`` says which contract wallets may pay, and which
    factories' wallets are deployed at the facilitator's expense.  ``code`` and ``service`` are its ERC-8021 attribution codes.
    """

    accounts: Mapping[Network, Address]
    assets: frozenset[tuple[Network, Address]] | None = None
    payees: frozenset[Address] | None = None
    wallets: Wallets = DEPLOYED
    code: str = ""
    service: str = ""
    registry: Registry = field(default=KNOWN, repr=False)

    def __post_init__(self) -> None:
        if not self.accounts:
            raise LocalProtocolError("name at least one network and the account that settles there", field="accounts")
        for name, code in (("code", self.code), ("service", self.service)):
            try:
                builder_code.Codes(wallet=code)
            except LocalProtocolError:  # its own field is another
                raise LocalProtocolError("a builder code is 1 to 32 of a-z, 0-9 and _", field=name) from None

    def refuse(self, offer: Offer) -> Refusal | None:
        """Refuse what is not settled here, before anything is spent on it."""
        account = self.accounts.get(offer.network)
        if account is None:
            return Refusal(Reason.INVALID_NETWORK, f"{offer.network} is not settled here")
        if self.assets is not None and (offer.network, offer.asset) not in self.assets:
            return Refusal(Reason.ASSET_NOT_ALLOWED, "this asset is not settled here")
        if self.payees is not None and offer.pay_to not in self.payees:
            return Refusal(Reason.PAYEE_NOT_ALLOWED, "this payee is not served here")
        if int(offer.pay_to, 16) == 0:
            return Refusal(Reason.INVALID_REQUIREMENTS, "the zero address cannot be a payee")
        if offer.method is Method.EIP2612 and (offer.spender or offer.pay_to) != account:
            return Refusal(Reason.RECIPIENT_MISMATCH, f"the spender must be {account}, who settles here")
        if offer.scheme == UPTO and offer.facilitator != account:
            return Refusal(Reason.UPTO_FACILITATOR, f"the facilitator must be {account}, who settles here")
        return None


def offers(
    price: Price,
    network: str,
    pay_to: str,
    *,
    dialects: Iterable[Dialect] = DIALECTS,
    settle: SettleMode = SettleMode.AFTER,
    timeout: int = 300,
    spender: str | None = None,
    methods: Iterable[Method | str] | None = None,
    scheme: str = "exact",
    facilitator: str | None = None,
    registry: Registry = KNOWN,
) -> tuple[Offer, ...]:
    """Return a price as offers, one for each dialect and method the asset can be paid in; exact, or refused here and now.

    ``methods`` are the ways to move the asset, preferred first (default: the asset's own first one that the dialect speaks).
    ``scheme`` ``"upto"`` makes the price a ceiling, which only ``facilitator`` may settle (v2, Permit2).  ``settle`` is for
    x402; the permit-token flow always settles in the background.  ``spender`` is the account that submits EIP-2612 permits
    (default: the payee).  Raises: LocalProtocolError naming the argument.
    """
    amount, asset = atomic(price, registry.resolve(network), registry)
    if settle is SettleMode.BACKGROUND:
        raise LocalProtocolError("x402 settles before or after; background is the permit-token flow's", field="settle")
    if timeout <= 0:
        raise LocalProtocolError("must be a positive number of seconds", field="timeout")
    if scheme == UPTO and (facilitator is None or settle is not SettleMode.AFTER):
        raise LocalProtocolError("upto names the facilitator that settles, after the handler has run", field="facilitator")
    base = Offer(
        dialect=Dialect.V2,
        method=Method.EIP3009,
        network=asset.network,
        asset=asset.address,
        amount=amount,
        pay_to=own_address(pay_to, "pay_to"),
        timeout=Seconds(timeout),
        name=asset.name,
        version=asset.version,
        decimals=asset.decimals,
        symbol=asset.code.upper(),
        settle=settle,
        scheme=scheme,
        facilitator=None if facilitator is None else own_address(facilitator, "facilitator"),
    )
    wanted = None if methods is None else tuple(_method(each) for each in methods)
    submitter = None if spender is None else own_address(spender, "spender")
    made = tuple(
        _spoken(base, dialect, method, submitter)
        for dialect in dialects
        for method in _ways(dialect, base, asset, wanted, registry)
    )
    if not made:
        raise LocalProtocolError(f"{asset.code} on {asset.network} can be paid in none of these dialects", field="price")
    return made


def _method(name: Method | str) -> Method:
    try:
        return Method(name)
    except ValueError:
        raise LocalProtocolError(f"{name!r} is none of {', '.join(Method)}", field="methods") from None


def _ways(
    dialect: Dialect, base: Offer, asset: Asset, wanted: tuple[Method, ...] | None, registry: Registry
) -> tuple[Method, ...]:
    """Return the methods an asset is offered by in a dialect: those wanted, or the first of its own."""
    spoken = [method for scheme, method in _WAYS[dialect] if scheme == base.scheme]
    if dialect is Dialect.V1 and registry.v1_name(asset.network) is None:
        return ()
    if wanted is not None:
        return tuple(method for method in wanted if method in spoken)
    own = [method for method in spoken if method in asset.methods]
    return tuple(own or [method for method in spoken if method is Method.PERMIT2])[:1]  # which moves any token


def _spoken(base: Offer, dialect: Dialect, method: Method, spender: Address | None) -> Offer:
    """Return an offer in the words of one dialect and method."""
    token = dialect is Dialect.PERMIT_TOKEN
    return replace(
        base,
        dialect=dialect,
        method=method,
        settle=SettleMode.BACKGROUND if token else base.settle,
        spender=spender if method is Method.EIP2612 else None,
        facilitator=base.facilitator if base.scheme == UPTO or method is Method.ERC7710 else None,
    )
