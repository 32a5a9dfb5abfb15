"""What was paid for, shown in a real browser: pages without their scripts and their hosts, pictures, files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.paywall.browser import visiting
from tests.shop import Ground
from x402bind.servers.held import App, Receive, Scope, Send

pytestmark = [pytest.mark.peer, pytest.mark.usefixtures("no_other_host")]


def answering(body: bytes, kind: str, *more: tuple[bytes, bytes]) -> App:
    """Return an application with one answer."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        headers = [(b"content-type", kind.encode()), *more]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


HOSTILE = b"""<!doctype html><title>t</title><meta http-equiv="refresh" content="0;url=https://evil.example/">
<base href="https://evil.example/"><link rel="preconnect" href="https://evil.example">
<link rel=stylesheet href="//evil.example/s.css">
<style>h1 { color: rgb(1, 2, 3) } @import url(https://evil.example/i.css);</style>
<script>parent.document.title = "owned"; top.owned = 1</script><h1 onclick="top.owned = 1">The report</h1>
<img src="https://evil.example/x.png" onerror="top.owned = 1"><img id="own" src="/picture.png">
<iframe src="https://evil.example/"></iframe><div><template shadowrootmode="open"><iframe src="https://evil.example/"></iframe>
</template></div><object data="https://evil.example/"></object>
<a id="in" href="/next">next</a><a id="js" href="javascript:top.owned=1">x</a>"""


PICTURE = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154789c63f8cfc000000301010018dd8db00000000049454e44ae426082"
)


async def hostile(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with a page, and with the one picture in it that is the shop's own."""
    picture = scope.get("path") == "/picture.png"
    await answering(*((PICTURE, "image/png") if picture else (HOSTILE, "text/html; charset=utf-8")))(scope, receive, send)


def test_a_page_is_shown_with_its_style_and_without_its_scripts(browser: Any, ground: Ground, tmp_path: Path) -> None:
    with visiting(browser, ground, tmp_path, app=hostile) as visit:
        visit.open()
        visit.pay()
        frame = visit.page.frame_locator("#content iframe")
        heading = frame.locator("h1")
        heading.wait_for()
        assert heading.evaluate("each => getComputedStyle(each).color") == "rgb(1, 2, 3)"
        assert visit.page.locator("#content iframe").get_attribute("sandbox") == "allow-popups allow-popups-to-escape-sandbox"
        assert "without its scripts" in visit.page.inner_text("#result-note")
        heading.click()
        assert frame.locator("#in").get_attribute("target") == "_blank"
        assert frame.locator("#js").get_attribute("href") is None
        visit.page.wait_for_timeout(300)
        assert visit.page.evaluate("[window.owned, document.title]") == [None, "Payment required"]
        assert frame.locator("#own").evaluate("each => each.naturalWidth") == 1
        with visit.page.expect_download() as saved:
            visit.page.click("#save")
        assert Path(saved.value.path()).read_bytes() == HOSTILE


def test_a_picture_is_shown(browser: Any, ground: Ground, tmp_path: Path) -> None:
    with visiting(browser, ground, tmp_path, app=answering(PICTURE, "image/png")) as visit:
        visit.open()
        visit.pay()
        picture = visit.page.locator("#content img")
        picture.wait_for(state="attached")
        visit.page.wait_for_function("document.querySelector('#content img').complete")
        assert picture.evaluate("each => each.naturalWidth") == 1


def test_anything_else_is_saved(browser: Any, ground: Ground, tmp_path: Path) -> None:
    named = (b"content-disposition", b'attachment; filename="report.html"')
    with visiting(browser, ground, tmp_path, app=answering(b"<script>1</script>", "text/html", named)) as visit:
        visit.open()
        visit.pay()
        with visit.page.expect_download() as saved:
            visit.page.click("#save")
        assert saved.value.suggested_filename == "report.html"
        assert Path(saved.value.path()).read_bytes() == b"<script>1</script>"
        assert visit.page.locator("#content iframe").count() == 0
