"""A sale leaves nothing behind that only the garbage collector frees: a body of a megabyte goes when its request ends."""

from __future__ import annotations

import gc
from collections import Counter
from pathlib import Path

import pytest

from tests.servers.doors import buy
from tests.servers.test_same_log import DOORS
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
