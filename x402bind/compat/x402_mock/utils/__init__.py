"""Logging."""

from __future__ import annotations

from .setup_logger import logger, setup_logger

__all__ = ["logger", "setup_logger"]
