"""Danger: a list that hurts its reader.  Names, tags and icons as strangers write them; the bad is dropped, nothing fails."""

from __future__ import annotations

import pytest

from x402core.wire.json import Json
from x402core.wire.metadata import listed_icon, listed_mime_type, listed_name, listed_tags, listed_text

ICON = "https://cdn.example/i.png"


@pytest.mark.parametrize(
    ("value", "listed"),
    [("Shop", "Shop"), ("~ !", "~ !"), ("a" * 32, "a" * 32)]
    + [(bad, "") for bad in ("", " ", "a" * 33, "é", "a\n", "\x7f", None, 1, ["a"], {"a": 1}, True)],
)
def test_a_service_has_a_short_plain_name(value: Json, listed: str) -> None:
    assert listed_name(value) == listed


@pytest.mark.parametrize(
    ("value", "listed"),
    [
        (["a", "b"], ("a", "b")),
        (["Ab", "aB", "c"], ("Ab", "c")),
        (["a", "", 1, None, "é", "x" * 33, "b"], ("a", "b")),
        ([str(n) for n in range(9)], ("0", "1", "2", "3", "4")),
        (["x" * 33] * 10_000, ()),
        ("abc", ()),
        (None, ()),
        ({"a": 1}, ()),
    ],
)
def test_the_first_five_good_tags_are_kept(value: Json, listed: tuple[str, ...]) -> None:
    assert listed_tags(value) == listed


@pytest.mark.parametrize(
    ("value", "listed"),
    [
        ("Weather", "Weather"),
        (" a\x00b\u202ec ", "a b c"),
        ("x" * 5000, "x" * 1000),
        (None, ""),
        (7, ""),
    ],
)
def test_a_description_is_printable_and_short(value: Json, listed: str) -> None:
    assert listed_text(value) == listed


@pytest.mark.parametrize(
    ("value", "listed"),
    [
        ("application/json", "application/json"),
        ("text/plain; charset=utf-8", "text/plain; charset=utf-8"),
        ("application/ld+json", "application/ld+json"),
    ]
    + [(bad, "") for bad in ("", "json", "a/b\r\nX: y", "a/b/c", "é/x", "x" * 65 + "/y", 1, None)],
)
def test_a_mime_type_is_one(value: Json, listed: str) -> None:
    assert listed_mime_type(value) == listed


@pytest.mark.parametrize(
    ("value", "listed"),
    [
        (ICON, ICON),
        ("http://cdn.example:8080/i.png?v=1#x", "http://cdn.example:8080/i.png?v=1#x"),
        ("HTTPS://CDN.Example/I.png", "https://cdn.example/I.png"),
        ("https://cdn.example./i.png", ICON),
        ("https://b\u00fccher.example/i", "https://xn--bcher-kva.example/i"),
        ("https://c%64n.example/i.png", ICON),
        ("https://1.example/i", "https://1.example/i"),
        ("https://0x7f.example/i", "https://0x7f.example/i"),
        ("https://localhost.example/i", "https://localhost.example/i"),
    ],
)
def test_an_icon_in_public_is_listed_by_its_ascii_name(value: str, listed: str) -> None:
    assert listed_icon(value) == listed


@pytest.mark.parametrize(
    "value",
    [
        None,
        1,
        "",
        "/i.png",
        "//cdn.example/i.png",
        "ftp://cdn.example/i",
        "data:image/png;base64,AAAA",
        "javascript:alert(1)",
        "https:cdn.example",
        "https:///i.png",
        "https://user@cdn.example/i",
        "https://cdn.example@127.0.0.1/i",
        "https://cdn.example:99999/i",
        "https://cdn.example:x/i",
        "https://127.0.0.1/i",
        "https://127.1/i",
        "https://2130706433/i",
        "https://0x7f000001/i",
        "https://0x7f.0.0.1/i",
        "https://127.0.0.0x1/i",
        "https://017700000001/i",
        "https://127.0.0.1./i",
        "https://deadbeef/i",
        "https://[::1]/i",
        "https://[::ffff:127.0.0.1]/i",
        "https://[fe80::1%25eth0]/i",
        "https://localhost/i",
        "https://LOCALHOST/i",
        "https://localhost./i",
        "https://localhost.localdomain/i",
        "https://ip6-localhost/i",
        "https://ip6-loopback/i",
        "https://app.localhost/i",
        "https://%6cocalhost/i",
        "https://%31%32%37.0.0.1/i",
        "https://\uff4cocalhost/i",
        "https://\uff11\uff12\uff17.0.0.1/i",
        "https://127\u30020\u30020\u30021/i",
        "https://local\u00adhost/i",
        "https://cdn.example\\@evil.example/i",
        "https://127.0.0.1\\.cdn.example/i",
        "https://cdn.example/\ni",
        "https://cdn.example/a b",
        " https://cdn.example/i",
        "https://cdn%2eexample%2f@evil/i",
        "https://cdn%00.example/i",
        "https://%ff.example/i",
        "https://-/i",
        "https://a..b/i",
        "https://" + "a" * 64 + ".example/i",
        "https://" + "a." * 200 + "example/i",
        "https://cdn.example/" + "i" * 2048,
    ],
)
def test_hostile_icon_is_dropped(value: Json) -> None:
    assert listed_icon(value) == ""
