"""A sale leaves nothing of ours behind that only the garbage collector frees: a body of a megabyte goes with its request.

But for one whose handler is cancelled, as its payer hung up: anyio keeps a cancelled task and its frames in a circle of its.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from tests.servers.doors import buy
from tests.servers.test_asgi import Scripted, Stand, in_loop
from tests.servers.test_same_log import DOORS
from tests.servers.visitor import living, visit
from tests.shop import Ground


def left_behind() -> Counter[str]:
    """Count the objects of ours, by type, that nothing but a circle of references keeps."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        ours = (type(each) for each in gc.garbage if type(each).__module__.startswith(("x402bind", "x402core")))
        return Counter(f"{kind.__module__}.{kind.__qualname__}" for kind in ours)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()


@pytest.mark.parametrize("door", DOORS)
def test_a_sale_leaves_no_circle(ground: Ground, tmp_path: Path, door: str) -> None:
    serving, build = DOORS[door]
    with serving(build, ground, tmp_path, "after") as shop:
        assert buy(shop, "/paid").status_code == 200
        gc.collect()
        gc.disable()
        try:
            for _ in range(5):
                assert buy(shop, "/paid").status_code == 200
            assert not left_behind()
        finally:
            gc.enable()


def test_a_circle_would_be_seen() -> None:
    class Circle:
        __module__ = "x402bind.somewhere"

        def __init__(self) -> None:
            self.itself = self

    gc.collect()
    Circle()
    assert left_behind()["x402bind.somewhere.test_a_circle_would_be_seen.<locals>.Circle"] == 1


@pytest.mark.parametrize(
    ("settle", "script"),
    [("before", ("start", b"one", "end")), ("before", ("start", b"one", ValueError("broke"))), ("after", (ValueError("no"),))],
    ids=["stream", "broken stream", "raises"],
)
@in_loop
async def test_nor_does_one_that_goes_another_way(ground: Ground, tmp_path: Path, settle: str, script: Any) -> None:
    stand = Stand(ground, tmp_path, Scripted(*script), settle=settle, ledger="memory:")

    async def go() -> None:
        with suppress(ValueError):
            await visit(stand.app, headers=stand.pay(ground.payer()))

    await circles_after(stand, go)


async def circles_after(stand: Stand, go: Callable[[], Awaitable[None]]) -> None:
    async with living(stand.app):
        await go()
        gc.collect()
        gc.disable()
        try:
            for _ in range(3):
                await go()
            await anyio.lowlevel.checkpoint()
            assert not left_behind()
        finally:
            gc.enable()
