"""Our logger, made to speak when asked to; the application's own handlers stay as they are."""

from __future__ import annotations

import logging
import sys
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Final

__all__ = ["logger", "setup_logger"]

logger: Final = logging.getLogger("x402bind")
_FORM: Final = "%(asctime)s | %(levelname)-8s | %(name)s:%(lineno)d - %(message)s"


def setup_logger(level: str = "INFO", log_to_file: bool = False, log_path: str = "logs/x402-mock.log") -> None:
    """Write what we log to stderr, and to a file if asked; a second call replaces the first."""
    for handler in [each for each in logger.handlers if getattr(each, "x402_mock", False)]:
        logger.removeHandler(handler)
        handler.close()
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if log_to_file:
        Path(log_path).parent.mkdir(parents=True, exist_ok=True)
        handlers.append(RotatingFileHandler(log_path, maxBytes=10_000_000, backupCount=7, encoding="utf-8"))
    for handler in handlers:
        handler.setFormatter(logging.Formatter(_FORM))
        handler.x402_mock = True  # type: ignore[attr-defined]  # how the next call knows ours
        logger.addHandler(handler)
    logger.setLevel(level.upper())
