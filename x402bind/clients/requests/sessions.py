"""requests' sessions, made to pay: one of the caller's own, a new one, or one of the class that pays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import requests
from requests.adapters import BaseAdapter

from x402bind.chain.nodes import NodesLike
from x402bind.chain.signers import Signer
from x402bind.chain.transports import SyncHttp
from x402bind.clients.alike import OUTCOME, purse_of
from x402bind.clients.purse import Purse
from x402bind.errors import raise_for_outcome
from x402core.commands import Outcome
from x402core.errors import LocalProtocolError
from x402core.money import Price

from .adapter import PaymentAdapter

__all__ = ["Http402Session", "outcome_of", "pay_with", "paying_session", "raise_for_payment"]


def pay_with(session: requests.Session, purse: Purse) -> requests.Session:
    """Make a session pay from ``purse``, in place, whichever of its adapters a request takes; mount others before.

    Raises: LocalProtocolError for a session that pays already, or a purse that only an async client can use.
    """
    if any(isinstance(adapter, PaymentAdapter) for adapter in session.adapters.values()):
        raise LocalProtocolError("this session pays already", field="session")
    purse.check_sync()
    chain = SyncHttp() if purse.rpc else None
    for prefix, inner in session.adapters.items():
        session.adapters[prefix] = PaymentAdapter(inner, purse, chain=chain)
    return session


def paying_session(
    key: str | bytes | Signer, most: Price, *networks: str, rpc: Mapping[str, NodesLike] | None = None
) -> requests.Session:
    """Return a session that pays at most ``most`` per payment on these networks.

    ``key`` is a private key or a signer; ``rpc`` names a node for each network where EIP-2612 permits are signed.  For
    anything more, :func:`pay_with` and a :class:`~x402bind.clients.purse.Purse`.  Raises: LocalProtocolError.
    """
    return pay_with(requests.Session(), Purse.up_to(key, most, *networks, rpc=rpc))


class Http402Session(requests.Session):
    """A ``requests.Session`` that pays, by whatever adapter is mounted, now or later.

    It takes a purse, or what a simple one is made of: ``key`` is a private key or a signer, ``max_price`` the most per
    payment, ``network`` one name or several; ``rpc`` as for :func:`paying_session`.  Raises: LocalProtocolError naming the
    argument.
    """

    def __init__(
        self,
        *,
        purse: Purse | None = None,
        key: str | bytes | Signer | None = None,
        max_price: Price | None = None,
        network: str | Iterable[str] | None = None,
        rpc: Mapping[str, NodesLike] | None = None,
    ) -> None:
        self._purse = purse_of(purse, key, max_price, network, rpc)
        self._purse.check_sync()
        self._chain = SyncHttp() if self._purse.rpc else None
        super().__init__()

    def mount(self, prefix: str | bytes, adapter: BaseAdapter) -> None:
        """Mount an adapter under what pays; one that pays already stays as it is."""
        pays = isinstance(adapter, PaymentAdapter)
        super().mount(prefix, adapter if pays else PaymentAdapter(adapter, self._purse, chain=self._chain))


def outcome_of(response: requests.Response) -> Outcome | None:
    """Return what became of the money for this response; None when it did not come through a paying session."""
    outcome: Outcome | None = getattr(response, OUTCOME, None)
    return outcome


def raise_for_payment(response: requests.Response) -> requests.Response:
    """Return a response that was free or is paid for.  Raises: PaymentDeclined, PaymentOutcomeUnknown."""
    raise_for_outcome(outcome_of(response))
    return response
