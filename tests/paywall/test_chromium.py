"""The page in a real browser, against a real shop on a chain: money moves, and nothing goes wrong silently."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.paywall.browser import ANNOUNCED, INJECTED, Elsewhere, Wallet, refuse, visiting
from tests.paywall.test_page import EVIL
from tests.shop import FUNDS, PRICE, Ground, until
from x402bind.paywall import Paywall
from x402core.errors import Reason, Reply, problem
from x402core.events import Dialect, Method, Resource
from x402core.machines import answers
from x402core.policy import Terms, offers
from x402core.schemes.judge import Checked, check
from x402core.wire import v2

pytestmark = [pytest.mark.peer, pytest.mark.usefixtures("no_other_host")]
SIGN = "eth_signTypedData_v4"


def test_a_request_to_another_host_would_be_seen(browser: Any, elsewhere: Elsewhere) -> None:
    page = browser.new_page()
    page.set_content('<img src="https://evil.example/x.png">', wait_until="commit")
    until(elsewhere.visitors)
    page.wait_for_timeout(500)  # it tries again at once
    page.close()
    elsewhere.visitors()


def test_a_reader_buys(browser: Any, ground: Ground, tmp_path: Path) -> None:
    with visiting(browser, ground, tmp_path) as visit:
        response = visit.open()
        assert response.status == 402
        assert response.headers["payment-required"]
        page = visit.page
        assert page.inner_text("#amount") == "$0.01"
        assert page.inner_text("#network") == "Base Sepolia (test network)"
        assert page.inner_text("#payee").lower() == visit.shop.pay_to
        visit.pay()
        shown = page.locator("#content pre")
        shown.wait_for()
        page.locator("#save").wait_for()
        assert json.loads(shown.inner_text()) == {"run": 1, "paid_by": visit.wallet.payer.address}
        assert ground.balance(visit.wallet.payer.address) == FUNDS - PRICE
        assert visit.shop.earned == PRICE
        assert visit.wallet.methods() == ["eth_requestAccounts", "eth_chainId", SIGN]
        transaction = page.inner_text("#transaction")
        assert ground.calls((transaction,)) == ("transferWithAuthorization",)
        assert page.locator("#transaction").get_attribute("href") == f"https://sepolia.basescan.org/tx/{transaction}"
        assert page.evaluate("document.activeElement.id") == "result-title"
        assert visit.hosts() == {visit.shop.url.removeprefix("http://")}
        assert [text for text in visit.complaints if "402" not in text] == []
        ((headers, _),) = visit.paged.replies
        payment = v2.decode_payment(headers["payment-signature"])
        assert len(payment.extensions["payment-identifier"]["info"]["id"]) == 32  # type: ignore[index,call-overload,arg-type]


def test_the_keyboard_is_enough(browser: Any, ground: Ground, tmp_path: Path) -> None:
    with visiting(browser, ground, tmp_path) as visit:
        visit.open()
        visit.page.locator("#pay:enabled").wait_for()
        visit.page.keyboard.press("Tab")
        assert visit.page.evaluate("document.activeElement.id") == "pay"
        visit.page.keyboard.press("Enter")
        visit.page.locator("#content pre").wait_for()
        assert visit.shop.earned == PRICE


def test_whoever_declines_has_paid_nothing_and_may_try_again(browser: Any, ground: Ground, tmp_path: Path) -> None:
    with visiting(browser, ground, tmp_path) as visit:
        visit.wallet.answers[SIGN] = refuse(4001, "User rejected the request.")
        visit.open()
        visit.pay()
        assert visit.problem() == "You declined the payment in your wallet. Nothing was paid."
        assert visit.page.evaluate("document.activeElement.id") == "pay"
        assert (visit.paged.replies, visit.shop.earned, visit.shop.entries()) == ([], 0, ())
        visit.wallet.answers.clear()
        visit.pay()
        visit.page.locator("#content pre").wait_for()
        assert not visit.page.locator("#problem").is_visible()
        assert visit.shop.earned == PRICE


def test_a_wallet_on_another_chain_is_asked_to_switch(browser: Any, ground: Ground, tmp_path: Path) -> None:
    with visiting(browser, ground, tmp_path) as visit:
        visit.wallet.chain = 1
        visit.open()
        visit.pay()
        visit.page.locator("#content pre").wait_for()
        assert ("wallet_switchEthereumChain", [{"chainId": "0x14a34"}]) in visit.wallet.asked
        assert visit.shop.earned == PRICE


@pytest.mark.parametrize(
    ("switch", "told"),
    [
        (None, "The wallet cannot switch to Base Sepolia (chain 84532). Add this network to it"),
        (refuse(4001, "no"), "you did not switch the wallet to it. Nothing was paid."),
        (lambda _: None, "The wallet is still on another network than Base Sepolia (chain 84532)."),
    ],
)
def test_a_wallet_that_cannot_switch_signs_nothing(
    browser: Any, ground: Ground, tmp_path: Path, switch: Callable[[Any], Any] | None, told: str
) -> None:
    wallet = Wallet(ground.payer(), chain=1, knows=frozenset({1}))
    if switch is not None:
        wallet.answers["wallet_switchEthereumChain"] = switch
    with visiting(browser, ground, tmp_path, wallet=wallet) as visit:
        visit.open()
        visit.pay()
        assert told in visit.problem()
        assert SIGN not in wallet.methods()
        assert visit.shop.earned == 0


def test_a_refusal_is_told_and_the_next_click_signs_anew(browser: Any, ground: Ground, tmp_path: Path) -> None:
    wallet = Wallet(ground.payer(0))
    with visiting(browser, ground, tmp_path, wallet=wallet) as visit:
        visit.open()
        visit.pay()
        assert "There is not enough money in this account on this network." in visit.problem()
        assert "(insufficient_funds)" in visit.problem()
        ground.mint(wallet.payer.address)
        visit.pay()
        visit.page.locator("#content pre").wait_for()
        assert wallet.methods().count(SIGN) == 2
        assert visit.shop.earned == PRICE


def busy(_: Reply) -> Reply:
    return answers.busy()


def lose_one() -> Callable[[Any], None]:
    """Return a road on which the first answer is lost."""
    lost: list[Any] = []

    def road(route: Any) -> None:
        if lost:
            return route.continue_()
        lost.append(route.fetch())
        return route.abort("connectionreset")

    return road


def test_the_same_payment_is_presented_until_there_is_an_answer(browser: Any, ground: Ground, tmp_path: Path) -> None:
    """A 409, a 503 and a lost answer are no refusals: the money has moved, the same header buys the same answer."""
    with visiting(browser, ground, tmp_path) as visit:
        visit.paged.instead = [lambda it: it, busy, lambda _: answers.unavailable(), lambda _: Reply(502, (), b"a proxy's own")]
        visit.open()
        visit.page.route("**/premium", lose_one())
        visit.pay()
        visit.page.locator("#content pre").wait_for()
        assert visit.wallet.methods().count(SIGN) == 1
        sent = [headers["payment-signature"] for headers, _ in visit.paged.replies]
        assert len(sent) == 5
        assert len(set(sent)) == 1
        assert (visit.shop.earned, visit.shop.api.runs) == (PRICE, 1)


def test_presenting_is_bounded_and_goes_on_with_the_same_payment(browser: Any, ground: Ground, tmp_path: Path) -> None:
    with visiting(browser, ground, tmp_path) as visit:
        visit.paged.instead = [busy] * 10
        visit.page.clock.install()
        visit.open()
        visit.page.clock.run_for(1000)
        visit.pay()
        for _ in range(40):
            visit.page.clock.run_for(1000)
            visit.page.wait_for_timeout(50)
            if visit.page.locator("#problem").is_visible():
                break
        assert "Ask again: it is the same payment" in visit.problem()
        assert len(visit.paged.replies) == 10
        assert visit.page.inner_text("#pay") == "Ask for it again"
        visit.pay()
        visit.page.locator("#content pre").wait_for()
        assert visit.wallet.methods().count(SIGN) == 1
        assert len({headers["payment-signature"] for headers, _ in visit.paged.replies}) == 1
        assert visit.shop.earned == PRICE


def test_clicking_twice_signs_once(browser: Any, ground: Ground, tmp_path: Path) -> None:
    with visiting(browser, ground, tmp_path) as visit:
        visit.open()
        visit.page.locator("#pay:enabled").wait_for()
        visit.page.evaluate("for (let i = 0; i < 5; i++) document.querySelector('#pay').dispatchEvent(new Event('click'))")
        visit.page.locator("#content pre").wait_for()
        assert visit.wallet.methods().count(SIGN) == 1
        assert visit.shop.earned == PRICE


def test_a_failing_handler_is_told_and_the_payment_kept(browser: Any, ground: Ground, tmp_path: Path) -> None:
    with visiting(browser, ground, tmp_path) as visit:
        visit.paged.instead = [lambda _: problem(500, "<b>no</b>", reason=Reason.UNAVAILABLE)]
        visit.open()
        visit.pay()
        told = visit.problem()
        assert "The server answered 500. Nothing shows that the payment was made." in told
        assert "<b>no</b>" in told
        visit.pay()
        visit.page.locator("#content pre").wait_for()
        assert (visit.wallet.methods().count(SIGN), visit.shop.earned) == (1, PRICE)


def test_a_payers_clock_may_be_wrong(browser: Any, ground: Ground, tmp_path: Path) -> None:
    with visiting(browser, ground, tmp_path) as visit:
        visit.page.add_init_script("const real = Date.now; Date.now = () => real() - 86400000;")
        visit.open()
        visit.pay()
        visit.page.locator("#content pre").wait_for()
        assert visit.shop.earned == PRICE


def test_a_signature_with_v_of_0_or_1_is_written_as_27_or_28(browser: Any, ground: Ground, tmp_path: Path) -> None:
    with visiting(browser, ground, tmp_path) as visit:
        wallet = visit.wallet

        def low(params: Any) -> str:
            signed = wallet.eth_signTypedData_v4(*params)
            return signed[:-2] + {"1b": "00", "1c": "01"}[signed[-2:]]

        wallet.answers[SIGN] = low
        visit.open()
        visit.pay()
        visit.page.locator("#content pre").wait_for()
        assert visit.shop.earned == PRICE


def test_announced_wallets_are_offered_by_name(browser: Any, ground: Ground, tmp_path: Path) -> None:
    with visiting(browser, ground, tmp_path, injected=ANNOUNCED) as visit:
        visit.open()
        visit.page.locator("#pay:enabled").wait_for()
        assert visit.page.locator("#wallet option").all_inner_texts() == ["Fox", "<b>Rabbit</b>"]
        visit.page.get_by_label("Wallet").select_option("<b>Rabbit</b>")
        visit.pay()
        visit.page.locator("#content pre").wait_for()
        assert visit.hosts() == {visit.shop.url.removeprefix("http://")}  # no icon was asked for
        assert visit.shop.earned == PRICE


def test_without_a_wallet_it_says_so(browser: Any, ground: Ground, tmp_path: Path) -> None:
    with visiting(browser, ground, tmp_path, injected="") as visit:
        visit.open()
        visit.page.get_by_text("No wallet found in this browser.").wait_for()
        assert visit.page.locator("#pay").is_disabled()


# --------------------------------------------------------------------------------------- without a shop: the page alone


def routed(page: Any, terms: Terms, error: str = Reason.PAYMENT_REQUIRED, **options: Any) -> None:
    """Have the browser find a page at an address of its own."""
    agent = (("Accept", "text/html"), ("User-Agent", "Mozilla/5.0"))
    reply = Paywall(**options).page(terms, agent, answers.challenge(terms, error))
    headers = dict(reply.headers)
    page.route("https://shop.example/**", lambda route: route.fulfill(status=402, headers=headers, body=reply.body))


def test_y20_no_text_is_executed(browser: Any) -> None:
    """Y20, in a browser: a description, a URL, an error, a brand are shown as they are."""
    made = offers("$0.01", "base-sepolia", "0x" + "11" * 20, dialects=(Dialect.V2,))
    terms = Terms(made, Resource("https://shop.example/premium?a=" + EVIL, EVIL))
    page = browser.new_page()
    dialogs: list[str] = []
    asked: list[str] = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: asked.append(request.url))
    routed(page, terms, EVIL, brand=EVIL, title=EVIL)
    page.goto("https://shop.example/premium")
    page.wait_for_timeout(300)
    assert dialogs == []
    assert "</script><script>alert(1)</script>" in page.inner_text("#description")
    assert "</script><script>alert(1)</script>" in page.inner_text("#problem")
    assert page.locator("script").count() == 2
    assert [url for url in asked if not url.startswith("data:")] == ["https://shop.example/premium"]
    page.close()


def test_the_offer_that_is_chosen_is_the_one_that_is_signed(browser: Any, ground: Ground) -> None:
    made = [offers(price, "base-sepolia", "0x" + "11" * 20, dialects=(Dialect.V2,))[0] for price in ("$0.01", "€0.02")]
    terms = Terms(tuple(made), Resource("https://shop.example/premium"))
    page = browser.new_page()
    page.expose_function("walletRequest", Wallet(ground.payer()).request)
    page.add_init_script(INJECTED)
    routed(page, terms)
    page.goto("https://shop.example/premium")
    page.get_by_label("€0.02 in EURC on Base Sepolia").check()
    assert page.inner_text("#amount") == "€0.02"
    with page.expect_request(lambda request: "payment-signature" in request.headers) as sent:
        page.get_by_role("button", name="Pay €0.02 with your wallet").click()
    payment = v2.decode_payment(sent.value.headers["payment-signature"])
    assert payment.accepted == replace(made[1], decimals=None, symbol="")
    assert isinstance(check(payment.permit, payment.accepted), Checked)
    page.close()


def test_a_missing_permit2_allowance_is_told_before_anything_is_signed(browser: Any, ground: Ground) -> None:
    by = {"dialects": (Dialect.V2,), "methods": (Method.PERMIT2,)}
    terms = Terms(offers("$0.01", "base-sepolia", "0x" + "11" * 20, **by), Resource("https://shop.example/premium"))
    wallet = Wallet(ground.payer())
    allowed = [9_999, 10_000]
    wallet.answers["eth_call"] = lambda _: "0x" + format(allowed.pop(0), "064x")
    page = browser.new_page()
    page.expose_function("walletRequest", wallet.request)
    page.add_init_script(INJECTED)
    routed(page, terms)
    page.goto("https://shop.example/premium")
    page.locator("#pay:enabled").click()
    page.get_by_text("which this account has not allowed to move 0.01 USDC.").wait_for()
    assert SIGN not in wallet.methods()
    (call,) = [params for method, params in wallet.asked if method == "eth_call"]
    assert call[0]["data"].startswith("0xdd62ed3e" + "0" * 24 + wallet.payer.address[2:])
    with page.expect_request(lambda request: "payment-signature" in request.headers) as sent:
        page.locator("#pay:enabled").click()
    payment = v2.decode_payment(sent.value.headers["payment-signature"])
    assert payment.accepted == replace(terms.offers[0], decimals=None, symbol="")
    assert isinstance(check(payment.permit, payment.accepted), Checked)  # signed as the scheme digests it
    page.close()
