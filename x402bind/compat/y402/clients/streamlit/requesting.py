"""What both Streamlit clients do alike: send a request, pay for it over several runs, and deliver the answer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Generic, TypeVar

from x402bind.compat.y402.clients.errors import PaymentError

from .common import StreamlitPaymentFlowResult, StreamlitRequestResult, StreamlitY402Client, make_request_fingerprint

__all__ = ["Requesting"]

R = TypeVar("R")
_UNDECIDED = (408, 409, 425, 429)
_REFUSED = "The wallet authorization did not satisfy the payment challenge. Start again."
_LOST = "The server refuses the payment now, and an earlier answer was lost: look whether it was taken before you start again."


class Requesting(ABC, Generic[R]):
    """Requests by one HTTP library.  ``key`` names a request from one run of the page to the next.

    Raises, from every method: what the library raises, with the payment kept for the next run; PaymentError for a key that is
    still another request's.
    """

    def __init__(self, payments: StreamlitY402Client) -> None:
        self.payment_client = payments

    @abstractmethod
    def send(self, method: str, url: str, headers: Any, options: dict[str, Any]) -> R:
        """Send a request by the caller's own session."""

    @abstractmethod
    def close(self) -> None:
        """Close the session."""

    def request(self, method: str, url: str, *, key: str, **options: Any) -> StreamlitRequestResult[R]:
        """Return how far a request is; run the page again until it is no longer pending."""
        parts = {name: options.get(name) for name in ("params", "headers", "content", "data")}
        fingerprint = make_request_fingerprint(method, url, **parts, json_data=options.get("json"))
        response: R | None = None
        try:
            flow = self.payment_client.resume_payment_flow(key=key, request_fingerprint=fingerprint)
            if flow is None:
                response = self.send(method, url, options.get("headers"), options)
                if _status(response) != 402:
                    return StreamlitRequestResult("success", response)
                flow = self._asked(key, fingerprint, response)
        except PaymentError as error:
            if "different pending request" in str(error):
                raise
            return StreamlitRequestResult("error", response, str(error))
        if flow.status != "success":
            return StreamlitRequestResult(flow.status, error=flow.error, payment_requirements=flow.payment_requirements)
        return self._paid(key, fingerprint, flow, method, url, options)

    def _asked(self, key: str, fingerprint: str, response: Any) -> StreamlitPaymentFlowResult:
        try:
            body = response.json()
        except ValueError:
            raise PaymentError("The server's 402 is none of x402's.") from None
        networks = response.headers.get("X-Payment-Networks")
        return self.payment_client.process_402_response(
            key=key, request_fingerprint=fingerprint, response_body=body, x_payment_networks=networks
        )

    def _paid(
        self, key: str, fingerprint: str, flow: StreamlitPaymentFlowResult, method: str, url: str, options: dict[str, Any]
    ) -> StreamlitRequestResult[R]:
        asked = flow.payment_requirements
        assert asked is not None
        state = self.payment_client.flow(key, fingerprint)
        assert state is not None
        before, state["sent"] = state["sent"], True
        headers = {**dict(options.get("headers") or {}), "X-Payment": flow.payment_header, "X-Payment-Asset": asked.asset}
        response = self.send(method, url, headers, options)
        status = _status(response)
        if status >= 500 or status in _UNDECIDED:  # nothing definite about the money: the next run presents the same payment
            told = f"The server answered HTTP {status}. Run again: the same payment is presented."
            return StreamlitRequestResult("error", response, told, asked)
        self.payment_client.clear_flow(key)
        if status == 402:
            return StreamlitRequestResult("error", response, _LOST if before else _REFUSED, asked)
        return StreamlitRequestResult("success", response, payment_requirements=asked)

    def get(self, url: str, *, key: str, **options: Any) -> StreamlitRequestResult[R]:
        """GET."""
        return self.request("GET", url, key=key, **options)

    def post(self, url: str, *, key: str, **options: Any) -> StreamlitRequestResult[R]:
        """POST."""
        return self.request("POST", url, key=key, **options)

    def put(self, url: str, *, key: str, **options: Any) -> StreamlitRequestResult[R]:
        """PUT."""
        return self.request("PUT", url, key=key, **options)

    def patch(self, url: str, *, key: str, **options: Any) -> StreamlitRequestResult[R]:
        """PATCH."""
        return self.request("PATCH", url, key=key, **options)

    def delete(self, url: str, *, key: str, **options: Any) -> StreamlitRequestResult[R]:
        """DELETE."""
        return self.request("DELETE", url, key=key, **options)


def _status(response: Any) -> int:
    return int(response.status_code)
