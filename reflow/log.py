"""Warnings to the logger ``reflow``. `logging` is loaded with the first of them: 6 ms, and most workers have none."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import logging

_worker_level: str | None = None


def warning(message: str, *arguments: object) -> None:
    """Say what went wrong and what comes of it."""
    _logger().warning(message, *arguments, stacklevel=2)


def info(message: str, *arguments: object) -> None:
    """Say what only somebody who looks for a cause wants to know."""
    _logger().info(message, *arguments, stacklevel=2)


def as_worker(level: str) -> None:
    """Write all from `level` on as plain lines to stderr, and leave the logging of the user's functions to her."""
    global _worker_level
    _worker_level = level


def _logger() -> logging.Logger:
    import logging

    logger = logging.getLogger("reflow")
    if _worker_level is not None and not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("reflow: %(message)s"))
        logger.addHandler(handler)
        logger.setLevel(_worker_level)
        logger.propagate = False
    return logger
