"""A real browser, a wallet in it that really signs, and a shop whose 402s are pages.

Needs Debian's ``chromium`` (``X402_CHROMIUM`` names another one) and ``playwright`` from PyPI, which downloads no browser.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from tests.chains import Missing
from tests.shop import Ground, Payer, Shop
from x402bind.paywall import Paywall
from x402bind.servers.held import App, Message, Receive, Scope, Send, send_reply
from x402core.errors import Reply
from x402core.evm.eip712 import typed_data_digest
from x402core.evm.secp256k1 import sign

INSTALL = "missing: apt-get install -y chromium && pip install playwright"
_PROVIDER = """
(() => {
  const request = async ({ method, params }) => {
    const answer = JSON.parse(await window.walletRequest(method, JSON.stringify(params ?? [])));
    if (answer.error) throw Object.assign(new Error(answer.error.message), { code: answer.error.code });
    return answer.result;
  };
  const provider = { request };
"""
INJECTED = _PROVIDER + "window.ethereum = provider; })();"
ANNOUNCED = (
    _PROVIDER
    + """
  for (const [uuid, name] of [["1-1", "Fox"], ["2-2", "<b>Rabbit</b>"]]) {
    const other = name === "Fox" ? provider : { request };
    const tell = () => dispatchEvent(new CustomEvent("eip6963:announceProvider",
      { detail: { info: { uuid, name, icon: "https://evil.example/icon.png", rdns: "x" }, provider: other } }));
    addEventListener("eip6963:requestProvider", tell);
  }
})();"""
)


class Elsewhere:
    """Where the browser finds every host but ours: a socket that takes connections and says nothing."""

    def __enter__(self) -> Self:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.setblocking(False)
        self.port: int = self._socket.getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def visitors(self) -> int:
        """Return how many connections have come since the last time."""
        count = 0
        while True:
            try:
                self._socket.accept()[0].close()
            except BlockingIOError:
                return count
            count += 1


@contextmanager
def chromium(elsewhere: Elsewhere) -> Iterator[Any]:
    """Run the browser, without a window.  Raises: Missing."""
    path = os.environ.get("X402_CHROMIUM") or shutil.which("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise Missing(INSTALL) from None
    if path is None or not Path(path).exists():
        raise Missing(INSTALL)
    rules = f"MAP evil.example 127.0.0.1:{elsewhere.port}"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", f"--host-resolver-rules={rules}"])
        yield browser
        browser.close()


class WalletError(Exception):
    """What a wallet answers instead (EIP-1193 codes)."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass
class Wallet:
    """An EIP-1193 wallet in Python: it signs for ``payer`` whatever typed data it is given, and remembers what it was asked."""

    payer: Payer
    chain: int = 84532
    knows: frozenset[int] = frozenset({1, 84532})
    asked: list[tuple[str, Any]] = field(default_factory=list)
    answers: dict[str, Callable[[Any], Any]] = field(default_factory=dict)
    """Methods answered otherwise."""

    def request(self, method: str, params: str) -> str:
        """Answer one request of the page's, as JSON."""
        given = json.loads(params)
        self.asked.append((method, given))
        try:
            if method in self.answers:
                return json.dumps({"result": self.answers[method](given)})
            return json.dumps({"result": getattr(self, method)(*given)})
        except WalletError as error:
            return json.dumps({"error": {"code": error.code, "message": str(error)}})

    def methods(self) -> list[str]:
        return [method for method, _ in self.asked]

    def eth_requestAccounts(self) -> list[str]:
        return [self.payer.address]

    def eth_chainId(self) -> str:
        return hex(self.chain)

    def wallet_switchEthereumChain(self, chain: dict[str, str]) -> None:
        if int(chain["chainId"], 16) not in self.knows:
            raise WalletError(4902, "Unrecognized chain ID. Try adding it first.")
        self.chain = int(chain["chainId"], 16)

    def eth_signTypedData_v4(self, account: str, text: str) -> str:
        typed = json.loads(text)
        assert account == self.payer.address
        assert typed["domain"]["chainId"] == self.chain, "a wallet signs for the chain it is on"
        digest = typed_data_digest(typed["types"], typed["primaryType"], typed["domain"], typed["message"])
        return "0x" + sign(digest, self.payer.key).hex()


def refuse(code: int, message: str) -> Callable[[Any], Any]:
    """Return an answer that is an error."""

    def answer(_params: Any) -> Any:
        raise WalletError(code, message)

    return answer


class Paged:
    """A shop's application whose 402s are pages for browsers, as a server with a paywall makes them."""

    def __init__(self, shop: Shop, paywall: Paywall) -> None:
        self.app: App = shop.app
        self.paywall, self.terms = paywall, shop.seller.terms("$0.01", "/premium")
        self.replies: list[tuple[dict[str, str], Reply]] = []
        self.instead: list[Callable[[Reply], Reply]] = []
        """Done to the answers of the next requests that bring a payment."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        sent: list[Message] = []

        async def hold(message: Message) -> None:
            sent.append(message)

        await self.app(scope, receive, hold)
        start = sent[0]
        body = b"".join(message.get("body", b"") for message in sent[1:])
        answered = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in start["headers"])
        reply = Reply(start["status"], tuple(h for h in answered if h[0].lower() != "content-length"), body)
        headers = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"])
        if "payment-signature" in dict(headers):
            change = self.instead.pop(0) if self.instead else lambda given: given
            self.replies.append((dict(headers), reply))
            reply = change(reply)
        return await send_reply(send, self.paywall.page(self.terms, headers, reply))


@dataclass
class Visit:
    """One page in the browser, with a wallet; every request it makes is written down."""

    page: Any
    wallet: Wallet
    shop: Shop
    paged: Paged
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def open(self, path: str = "/premium") -> Any:
        return self.page.goto(self.shop.url + path)

    def pay(self) -> None:
        self.page.locator("#pay:enabled").click()

    def problem(self) -> str:
        """Wait for what the page says went wrong, and for its button to be back."""
        told = self.page.locator("#problem")
        told.wait_for()
        self.page.wait_for_function("!document.querySelector('#card').hasAttribute('aria-busy')")
        return str(told.inner_text())

    def hosts(self) -> set[str]:
        return {urlsplit(url).netloc for url in self.requests if urlsplit(url).scheme not in ("blob", "data", "about")}


@contextmanager
def visiting(
    browser: Any,
    ground: Ground,
    folder: Path,
    *,
    app: App | None = None,
    paywall: Paywall | None = None,
    injected: str = INJECTED,
    wallet: Wallet | None = None,
    **context: Any,
) -> Iterator[Visit]:
    """Open a shop that sells ``/premium``, and a browser with a wallet to go there."""
    shop = Shop(ground, folder, app=app, prices={"/premium": "$0.01"})
    paged = Paged(shop, paywall or Paywall(brand="Example News"))
    shop._server.config.app = paged
    with shop:
        opened = browser.new_context(**context)
        page = opened.new_page()
        page.set_default_timeout(20_000)
        visit = Visit(page, wallet or Wallet(ground.payer()), shop, paged)
        opened.on("request", lambda request: visit.requests.append(request.url))
        page.on("pageerror", lambda error: visit.complaints.append(str(error)))
        page.on("console", lambda said: visit.complaints.append(said.text) if said.type == "error" else None)
        page.expose_function("walletRequest", visit.wallet.request)
        page.add_init_script(injected)
        yield visit
        opened.close()
