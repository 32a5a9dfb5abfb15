"""Every test here has a chain of its own."""

from tests.settler.bench import bench, ground

__all__ = ["bench", "ground"]
