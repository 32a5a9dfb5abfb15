"""One payment over many runs of a Streamlit page: asked for, signed in the browser, sent, and sent again if need be.

A flow is kept in the session under its ``key``.  It begins with a 402 that the policy pays, waits while the wallet's owner
thinks, and ends with the server's definite answer.  Until then the *same* authorization is presented: whoever lost an answer
does not pay a second time.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Generic, Literal, Protocol, TypeAlias, TypeVar

from x402bind.compat.y402.clients import common
from x402bind.compat.y402.clients.common import PaymentError, PaymentSelectorCallable, Policy, decode_x_payment_response
from x402bind.compat.y402.clients.exchange import entries_of
from x402bind.compat.y402.clients.naming import Names
from x402bind.compat.y402.clients.signing import Unsigned, unsigned
from x402bind.compat.y402.core.types.errors import ConditionalDependencyError
from x402bind.compat.y402.core.types.requirements import PaymentRequirements
from x402core.errors import RemoteProtocolError
from x402core.values import Millis, local, parse_address, parse_hex

try:
    import streamlit as st
except ImportError:
    raise ConditionalDependencyError("Streamlit is not installed: pip install streamlit streamlit-browser-web3") from None

__all__ = [
    "StreamlitPaymentFlowResult",
    "StreamlitRequestResult",
    "StreamlitWalletNotConnectedError",
    "StreamlitY402Client",
    "Wallet",
    "make_request_fingerprint",
]

R = TypeVar("R")
Status: TypeAlias = Literal["success", "pending", "error"]
STATE: Final = "y402:streamlit:payment_flows"
_EXPIRED: Final = "The pending payment authorization expired. Start the request again."


class Wallet(Protocol):
    """A browser's wallet, as ``streamlit_browser_web3.wallet_get()`` returns it."""

    @property
    def available(self) -> bool:
        """True when the browser has a wallet at all."""

    @property
    def connected(self) -> bool:
        """True when it lets this page ask for signatures."""

    @property
    def accounts(self) -> list[str]:
        """The accounts it signs with."""

    def request(self, method: str, params: list[Any], *, key: str) -> tuple[str, Any]:
        """Return ("pending", None), ("success", signature) or ("error", why) for the request that ``key`` names."""

    def forget(self, key: str) -> None:
        """Forget a request, and its answer."""


class StreamlitWalletNotConnectedError(PaymentError):
    """A payment needs the browser's wallet, and there is none, or none connected."""


@dataclass(frozen=True)
class StreamlitPaymentFlowResult:
    """How far a payment is; ``payment_header`` is there on success."""

    status: Status
    payment_header: str | None = None
    error: str | None = None
    payment_requirements: PaymentRequirements | None = None


@dataclass(frozen=True)
class StreamlitRequestResult(Generic[R]):
    """How far a request is: ``response`` is there on success, and beside an error that the server's answer caused."""

    status: Status
    response: R | None = None
    error: str | None = None
    payment_requirements: PaymentRequirements | None = None

    @property
    def payment_response(self) -> dict[str, Any] | None:
        """What the server says of the settlement, None where it says nothing."""
        headers: Any = getattr(self.response, "headers", {})
        said = headers.get("X-PAYMENT-RESPONSE")
        return None if said is None else decode_x_payment_response(said)


def make_request_fingerprint(
    method: str,
    url: str,
    *,
    params: Any = None,
    headers: Any = None,
    content: Any = None,
    data: Any = None,
    json_data: Any = None,
) -> str:
    """Return what tells one request from another.  Raises: TypeError for a stream, which cannot be sent twice."""
    told = {"method": method.upper(), "url": url, "params": params, "headers": headers}
    return json.dumps({**told, "content": content, "data": data, "json": json_data}, sort_keys=True, default=_plain)


def _plain(value: Any) -> object:
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a request with a {type(value).__name__} in it cannot be told from another one, nor sent twice")


def _flows() -> dict[str, dict[str, Any]]:
    flows: dict[str, dict[str, Any]] = st.session_state.setdefault(STATE, {})
    return flows


class StreamlitY402Client:
    """The payments of a page: what ``wallet`` signs, at most ``policy`` for one request.

    ``account_selector`` chooses among the wallet's accounts (default: its first).  Raises: MisconfigurationError naming the
    argument.
    """

    def __init__(
        self,
        wallet: Wallet,
        payment_requirements_selector: PaymentSelectorCallable | None = None,
        chain_id_by_name: Mapping[str, int] | None = None,
        account_selector: Callable[[Any], str] | None = None,
        *,
        policy: Policy | None = None,
    ) -> None:
        self.wallet = wallet
        self.policy = common.policy_of(policy)
        self.names = Names(chain_id_by_name, self.policy.registry)
        self._select = payment_requirements_selector
        self._account_selector = account_selector or self.default_account_selector

    @staticmethod
    def default_account_selector(wallet: Wallet) -> str:
        """Return the wallet's first account."""
        return wallet.accounts[0]

    def select_account(self) -> str:
        """Return the account that pays.  Raises: StreamlitWalletNotConnectedError for one that the wallet does not have."""
        if not self.wallet.available:
            raise StreamlitWalletNotConnectedError("window.ethereum is not available in this browser.")
        if not self.wallet.connected or not self.wallet.accounts:
            raise StreamlitWalletNotConnectedError("Connect a browser wallet before starting a y402 payment flow.")
        account = self._account_selector(self.wallet)
        if account not in self.wallet.accounts:
            raise StreamlitWalletNotConnectedError(f"The selected account '{account}' is not in the connected wallet.")
        return account

    def clear_flow(self, key: str) -> None:
        """Forget a flow, and the wallet's answer to it."""
        flow = _flows().pop(key, None)
        if flow is not None:
            self.wallet.forget(flow["wallet_request_key"])

    def flow(self, key: str, request_fingerprint: str) -> dict[str, Any] | None:
        """Return the flow of a request, None where none has begun.

        Raises: PaymentError when the wallet is still being asked about another request by this key.
        """
        flow = _flows().get(key)
        if flow is None or flow["request_fingerprint"] == request_fingerprint:
            return flow
        if flow["payment_header"] is None:
            raise PaymentError(f"Streamlit payment key `{key}` is already associated to a different pending request.")
        self.clear_flow(key)
        return None

    def resume_payment_flow(self, *, key: str, request_fingerprint: str) -> StreamlitPaymentFlowResult | None:
        """Go on with the payment of a request, None where none has begun.  Raises: as :meth:`flow`."""
        flow = self.flow(key, request_fingerprint)
        return None if flow is None else self._go_on(key, flow)

    def process_402_response(
        self, *, key: str, request_fingerprint: str, response_body: Any, x_payment_networks: str | None
    ) -> StreamlitPaymentFlowResult:
        """Begin the payment that a 402 asks for.  Raises: as :meth:`flow`; PaymentError for what the policy does not pay."""
        flow = self.flow(key, request_fingerprint)
        if flow is None:
            flow = self._begin(key, request_fingerprint, response_body, x_payment_networks)
        return self._go_on(key, flow)

    def _begin(self, key: str, fingerprint: str, body: Any, networks: str | None) -> dict[str, Any]:
        account = self.select_account()
        accepts = entries_of(body)
        if not accepts:
            raise PaymentError("The server's 402 offers nothing in x402 version 1.")
        asked = self._payable(accepts, account, networks) if self._select is None else self._select(accepts)
        made = self._unsigned(asked, account, networks)
        flow = {
            "request_fingerprint": fingerprint,
            "wallet_request_key": f"y402:streamlit:sign:{key}",
            "payment_requirements": asdict(asked),
            "payment": made,
            "typed_data": made.typed_data,
            "account": account,
            "payment_header": None,
            "sent": False,
            "expires_at": int(made.permit.expires),
        }
        _flows()[key] = flow
        return flow

    def _payable(self, accepts: list[PaymentRequirements], account: str, networks: str | None) -> PaymentRequirements:
        """Return the first offer that the policy pays, else the first: its refusal is what is told."""
        for each in accepts:
            try:
                self._unsigned(each, account, networks)
            except PaymentError:
                continue
            return each
        return common.Y402Client.default_payment_requirements_selector(accepts)

    def _unsigned(self, asked: PaymentRequirements, account: str, networks: str | None) -> Unsigned:
        try:
            told = common.decode_x_payment_networks(networks) if networks else {}
        except RemoteProtocolError:
            told = {}
        payer = local(parse_address, account, "account")
        return unsigned(asked, payer, self.policy, self.names, told, Millis(time.time_ns() // 1_000_000))

    def _go_on(self, key: str, flow: dict[str, Any]) -> StreamlitPaymentFlowResult:
        asked = PaymentRequirements(**flow["payment_requirements"])
        if flow["expires_at"] <= time.time():
            self.clear_flow(key)
            return StreamlitPaymentFlowResult("error", error=_EXPIRED, payment_requirements=asked)
        if flow["payment_header"] is None:
            self.select_account()
            params = [flow["account"], json.dumps(flow["typed_data"])]
            status, told = self.wallet.request("eth_signTypedData_v4", params, key=flow["wallet_request_key"])
            if status == "pending":
                return StreamlitPaymentFlowResult("pending", payment_requirements=asked)
            try:
                signature = parse_hex(told if str(told).startswith("0x") else f"0x{told}") if status == "success" else None
            except RemoteProtocolError:
                signature, told = None, "The wallet's answer is no signature."
            if signature is None:
                self.clear_flow(key)
                return StreamlitPaymentFlowResult("error", error=str(told), payment_requirements=asked)
            flow["payment_header"] = flow["payment"].header(signature)
        return StreamlitPaymentFlowResult("success", payment_header=flow["payment_header"], payment_requirements=asked)
