"""y402's client for requests: a session, or an adapter, that pays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from x402bind.compat.y402.core.types.errors import ConditionalDependencyError

try:
    import requests
    from requests.adapters import BaseAdapter, HTTPAdapter
except ImportError:
    raise ConditionalDependencyError("requests is not installed: pip install requests") from None

import urllib3

from x402bind.clients.purse import MOST_BODY
from x402bind.clients.requests import PaymentAdapter, outcome_of
from x402core.events import Headers

from .common import PaymentSelectorCallable, Policy, Y402Client
from .exchange import approve, calling, current

__all__ = ["y402HTTPAdapter", "y402_http_adapter", "y402_requests"]


class _Below(BaseAdapter):
    """The caller's adapter, as our paying one sees it."""

    def __init__(self, inner: BaseAdapter) -> None:
        super().__init__()
        self._inner = inner

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        for name, value in current().outgoing(tuple((str(n), str(v)) for n, v in request.headers.items())):
            request.headers[name] = value
        response = self._inner.send(request, *args, **options)
        return _seen(response) if response.status_code == 402 else response

    def close(self) -> None:
        self._inner.close()


def _seen(response: requests.Response) -> requests.Response:
    """Return a 402 as our adapter is to see it: rewritten where need be, unless it is too long to be one of x402."""
    body = b""
    for part in response.iter_content(1 << 14):
        body += part
        if len(body) > MOST_BODY:
            response.close()
            break
    raw = getattr(response.raw, "headers", None) or response.headers  # requests' own are joined by name
    headers: Headers = tuple((str(name), str(value)) for name, value in raw.items())
    seen = current().incoming(headers, body)
    kept = [(n, v) for n, v in (headers if seen is None else seen.headers) if n.lower() not in _FRAMING]
    inside: Any = response
    inside._content, inside._content_consumed = (body if seen is None else seen.body), True
    inside.raw = urllib3.HTTPResponse(
        b"", headers=urllib3.HTTPHeaderDict(kept), status=402, reason=response.reason, preload_content=False
    )
    response.headers = requests.structures.CaseInsensitiveDict(inside.raw.headers)
    return response


_FRAMING = ("content-length", "content-encoding", "transfer-encoding")


class y402HTTPAdapter(BaseAdapter):
    """An adapter that pays as ``client`` says; ``options`` are those of requests' ``HTTPAdapter``.

    Any number of threads may share one, for any number of payments (Y9).
    """

    def __init__(self, client: Y402Client, **options: Any) -> None:
        super().__init__()
        self.client = client
        self._inner = PaymentAdapter(_Below(HTTPAdapter(**options)), client.purse(approve))

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        """Send a request, and pay if it takes that.

        Raises: PaymentError and its kin for what the policy does not pay; what requests raises; PaymentOutcomeUnknown, from
        it, once a payment had left.
        """
        with calling(self.client) as call:
            response = self._inner.send(request, *args, **options)
            call.judge(response, outcome_of(response))
            return response

    def close(self) -> None:
        """Close the connections."""
        self._inner.close()


def y402_http_adapter(
    account: Any,
    payment_requirements_selector: PaymentSelectorCallable | None = None,
    chain_id_by_name: Mapping[str, int] | None = None,
    *,
    policy: Policy | None = None,
    **options: Any,
) -> y402HTTPAdapter:
    """Return an adapter to mount.  Raises: MisconfigurationError naming the argument."""
    client = Y402Client(account, payment_requirements_selector, chain_id_by_name, policy=policy)
    return y402HTTPAdapter(client, **options)


def y402_requests(
    account: Any,
    payment_requirements_selector: PaymentSelectorCallable | None = None,
    chain_id_by_name: Mapping[str, int] | None = None,
    *,
    policy: Policy | None = None,
    **options: Any,
) -> requests.Session:
    """Return a session that pays with ``account``, at most ``policy`` for one request.

    Raises: MisconfigurationError naming the argument.
    """
    session = requests.Session()
    adapter = y402_http_adapter(account, payment_requirements_selector, chain_id_by_name, policy=policy, **options)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session
