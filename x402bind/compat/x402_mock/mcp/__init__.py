"""Tools for agents (needs the extra ``mcp``)."""

from __future__ import annotations

from .facilitor_tools import FacilitorTools

__all__ = ["FacilitorTools"]
