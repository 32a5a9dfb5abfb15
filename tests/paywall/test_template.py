"""A page of the seller's own: it is given the same data, each value escaped for its place (Y28)."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from tests.paywall.test_page import NOW, PAYEE, nonce_of, shown, terms
from x402bind.paywall import Paywall
from x402core.errors import LocalProtocolError
from x402core.events import Resource
from x402core.wire.json import Json


def test_y28_a_template_gets_the_data() -> None:
    """Y28: a page of the seller's own is told what is sold, for how much, and may use the bundled script."""
    template = '<h1>{{title}} {{ price }}</h1><a title="{{description}}">{{network}} {{asset}} {{payee}} {{url}}</a>{{data}}'
    priced = terms(resource=Resource("https://shop.example/premium", '{{payee}}"<b>'))
    _, text = shown(priced, template=template, title="Pay & read")
    head, data = text.split("</a>")
    assert head == (
        '<h1>Pay &amp; read $0.01</h1><a title="{{payee}}&quot;&lt;b&gt;">Base Sepolia USDC '
        f"{PAYEE} https://shop.example/premium"
    )
    assert json.loads(data)["offers"][0]["payee"] == PAYEE
    made, text = shown(priced, template='<script nonce="{{nonce}}">{{script}}</script><style>{{style}}</style>')
    assert f'nonce="{nonce_of(made)}"' in text
    assert "eth_signTypedData_v4" in text
    assert "prefers-color-scheme" in text


def test_y28_a_function_gets_the_data() -> None:
    seen: list[Mapping[str, Json]] = []

    def page(data: Mapping[str, Json]) -> str:
        seen.append(data)
        return f'<p>{data["title"]}</p><script nonce="{data["nonce"]}"></script>'

    made, text = shown(terms(), template=page)
    assert text == f'<p>Payment required</p><script nonce="{nonce_of(made)}"></script>'
    (data,) = seen
    assert data["now"] == NOW
    assert json.loads(str(data["data"]))["offers"] == data["offers"]


def test_misuse_is_refused_when_it_is_configured() -> None:
    with pytest.raises(LocalProtocolError, match=r"template: \{\{wallet\}\} is none of"):
        Paywall("{{wallet}}")
    for logo in ("https://cdn.example/logo.png", "data:text/html,x", "data:image/png;base64," + "A" * 20_000):
        with pytest.raises(LocalProtocolError, match="logo"):
            Paywall(logo=logo)
    assert 'data:image/png;base64,AAAA"' in shown(terms(), logo="data:image/png;base64,AAAA")[1]
