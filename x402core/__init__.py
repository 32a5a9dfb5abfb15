"""x402core: the sans-I/O protocol core for payments over HTTP 402.

It decides; it never opens a socket, reads a clock, draws a random number or holds a wallet's key.  A machine takes events and
returns commands; :func:`steps` drives one; a binding performs the commands (``x402bind`` has some ready-made).

The public names below are loaded when they are first asked for, so that importing the package costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .access import KeyRing, TokenClaims, check_token, mint
    from .errors import LocalProtocolError, ProtocolError, Reason, Refusal, RemoteProtocolError, Reply
    from .events import (
        Begin,
        Cancelled,
        Challenge,
        Dialect,
        Eip2612Permit,
        Eip3009Permit,
        Erc7710Permit,
        FacilitatorRequest,
        HandlerHead,
        Method,
        Offer,
        Payer,
        Payment,
        Pending,
        Permit2Permit,
        Receipt,
        RequestHead,
        Resource,
        ResponseHead,
        Resume,
        Settle,
        Settled,
        SettleMode,
        Token,
        TokenRequest,
        Unsettled,
    )
    from .machines.client import ClientExchange
    from .machines.facilitator import FacilitatorExchange
    from .machines.machine import Cancel, Machine, ask, steps, translate
    from .machines.remote import RemotePolicy, RemoteSettlement
    from .machines.server import ServerExchange
    from .machines.settlement import SettlementMachine, SettlementPolicy
    from .machines.token import TokenExchange
    from .money import AssetAmount, atomic, format_amount
    from .policy import FacilitatorTerms, PayerPolicy, SignInTerms, Terms, TokenTerms, offers
    from .reads import Facts
    from .registry import KNOWN, Asset, NetworkInfo, Registry
    from .schemes.judge import Checked, Verdict, Verified, charge, check, judge, plan, vouched
    from .schemes.wallets import Wallets
    from .values import Address, Amount, Hash32, Millis, Network, Origin, Seconds, parse_address, parse_network, parse_origin

_HOMES: Final = {
    "access": ("KeyRing", "TokenClaims", "check_token", "mint"),
    "errors": ("LocalProtocolError", "ProtocolError", "Reason", "Refusal", "RemoteProtocolError", "Reply"),
    "events": (
        "Begin",
        "Cancelled",
        "Challenge",
        "Dialect",
        "Eip2612Permit",
        "Eip3009Permit",
        "Erc7710Permit",
        "FacilitatorRequest",
        "HandlerHead",
        "Method",
        "Offer",
        "Payer",
        "Payment",
        "Pending",
        "Permit2Permit",
        "Receipt",
        "RequestHead",
        "Resource",
        "ResponseHead",
        "Resume",
        "Settle",
        "SettleMode",
        "Settled",
        "Token",
        "TokenRequest",
        "Unsettled",
    ),
    "machines.client": ("ClientExchange",),
    "machines.facilitator": ("FacilitatorExchange",),
    "machines.machine": ("Cancel", "Machine", "ask", "steps", "translate"),
    "machines.remote": ("RemotePolicy", "RemoteSettlement"),
    "machines.server": ("ServerExchange",),
    "machines.settlement": ("SettlementMachine", "SettlementPolicy"),
    "machines.token": ("TokenExchange",),
    "money": ("AssetAmount", "atomic", "format_amount"),
    "policy": ("FacilitatorTerms", "PayerPolicy", "SignInTerms", "Terms", "TokenTerms", "offers"),
    "reads": ("Facts",),
    "registry": ("KNOWN", "Asset", "NetworkInfo", "Registry"),
    "schemes.judge": ("Checked", "Verdict", "Verified", "charge", "check", "judge", "plan", "vouched"),
    "schemes.wallets": ("Wallets",),
    "values": (
        "Address",
        "Amount",
        "Hash32",
        "Millis",
        "Network",
        "Origin",
        "Seconds",
        "parse_address",
        "parse_network",
        "parse_origin",
    ),
}
_WHERE: Final = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [*_WHERE]


def __getattr__(name: str) -> object:
    """Load a public name from its room."""
    module = _WHERE.get(name)
    if module is None:
        raise AttributeError(f"module 'x402core' has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return sorted({*globals(), *__all__})
