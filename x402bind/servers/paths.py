"""Prices by path: which spellings of a path a router or a file server might take for a priced one, and what they cost.

A path is folded: slashes too many, dot segments, backslashes, control characters at its end (a regular expression's ``$``
matches before a last line feed) and letter case are taken away; servers decode it (so ``%2F`` is a slash) before it comes
here.  Prices are of whole paths, without patterns.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Final

from x402bind.arguments import mapping, several
from x402bind.pricing import Listing, Pricing, Shelf
from x402bind.seller import Seller
from x402core.errors import LocalProtocolError
from x402core.wire.v2 import UPTO

from .routes import sync_price

__all__ = ["PricedPaths", "folded"]

_MOST: Final = 4096  # paths whose answer is remembered: a free one then passes at the cost of one look-up
_LONGEST: Final = 256  # characters of a path that is remembered: strangers choose them
_PATTERN: Final = re.compile(r"[?#{}<>*]")
_ODD: Final = re.compile(r"\\|//|/\.\.?(?:/|$)|;|\.(?:/|$)")
_EDGES: Final = "/ " + "".join(map(chr, [*range(0x20), 0x7F, 0x85, 0x2028, 0x2029]))


def folded(path: str) -> str:
    """Return the one spelling a path is priced under."""
    path = "/" + path.strip(_EDGES)
    if _ODD.search(path):
        parts: list[str] = []
        for part in path.replace("\\", "/").split("/"):
            if part not in (".", ".."):  # parameters, which servlets take off, and dots at the end, which Windows does
                part = part.partition(";")[0].rstrip(".")
            if part == "..":
                del parts[-1:]
            elif part not in ("", "."):
                parts.append(part)
        path = "/" + "/".join(parts).strip(_EDGES)
    return path.casefold()


class PricedPaths:
    """What each path costs: ``prices`` by whole path, ``default`` for every other but those in ``free``, as they are spelled.

    ``upto`` names the paths whose price is a ceiling.  Raises: LocalProtocolError naming the argument; where the server is
    ``sync``, for an async price function too.
    """

    def __init__(
        self,
        seller: Seller,
        prices: Mapping[str, Pricing | Listing],
        *,
        default: Pricing | Listing | None = None,
        free: Collection[str] = (),
        upto: Collection[str] = (),
        token_path: str = "/token",
        sync: bool = False,
    ) -> None:
        upto, free = several(upto, "upto", '("/premium",)'), several(free, "free", '("/health",)')
        self._shelves: dict[str, Shelf] = {}
        self._found: dict[tuple[str, str], Shelf | None] = {}
        for path, price in mapping(prices, "prices", '{"/premium": "$0.01"}').items():
            if not _is_whole(path):
                raise LocalProtocolError(f"{path!r} is not a whole path such as '/premium'", field="prices")
            if folded(path) in self._shelves or folded(path) == folded(token_path):
                raise LocalProtocolError(f"{path!r} is priced twice, or is the token path", field="prices")
            listing = _listed(price, token_path, sync=sync)
            listing = replace(listing, scheme=UPTO) if path in upto else listing
            self._shelves[folded(path)] = Shelf(seller, listing, path)
        if unknown := [path for path in upto if path not in prices]:
            raise LocalProtocolError(f"{unknown[0]!r} has no price", field="upto")
        if not all(_is_whole(path) for path in free):
            raise LocalProtocolError("write whole paths such as '/health'", field="free")
        self._free = frozenset(free)  # as they are written: of any other spelling the application may think otherwise
        said = None if default is None else _listed(default, token_path, sync=sync)
        self._default = None if said is None else Shelf(seller, said, "/", whole=False)
        if self._default is not None and self._default.sells_tokens:
            raise LocalProtocolError("tokens are sold by path: name the paths", field="default")
        self.token_path = token_path
        self.scopes = {shelf.path: shelf for shelf in self._shelves.values() if shelf.sells_tokens}
        """What tokens are sold for, by their scope."""

    def find(self, path: str, root: str = "") -> Shelf | None:
        """Return what is sold at a decoded ``path``, whole or under the mount ``root`` it is served behind; None if free."""
        try:
            return self._found[path, root]
        except KeyError:
            pass
        shelf = self._find((path, path.removeprefix(root)) if root else (path,))
        if len(path) <= _LONGEST:
            if len(self._found) >= _MOST:
                self._found.clear()
            self._found[path, root] = shelf
        return shelf

    def _find(self, spellings: tuple[str, ...]) -> Shelf | None:
        for spelling in spellings:
            if (shelf := self._shelves.get(folded(spelling))) is not None:
                return shelf
        return None if any(spelling in self._free for spelling in spellings) else self._default

    def takes_tokens(self, path: str, root: str = "") -> bool:
        """Say whether permits are exchanged for tokens at a decoded path."""
        return bool(self.scopes) and self.token_path in ((path, path.removeprefix(root)) if root else (path,))


def _is_whole(path: object) -> bool:
    return isinstance(path, str) and path.startswith("/") and _PATTERN.search(path) is None


def _listed(price: Pricing | Listing, token_path: str, *, sync: bool) -> Listing:
    if sync:
        sync_price(price)
    return price if isinstance(price, Listing) else Listing(price, token_path=token_path)
