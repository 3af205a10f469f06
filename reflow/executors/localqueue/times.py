"""Time limits as Slurm writes them."""

from __future__ import annotations

import re

_DAYS = re.compile(r"(\d+)-(\d+)(?::(\d+))?(?::(\d+))?")
_CLOCK = re.compile(r"(?:(\d+):)?(\d+)(?::(\d+))")
_UNLIMITED = frozenset({"unlimited", "infinite", "0"})


def parse_time_limit(text: str) -> int | None:
    """Return the seconds of ``M``, ``M:S``, ``H:M:S``, ``D-H``, ``D-H:M`` or ``D-H:M:S``; None for no limit.

    Raises `ValueError` on anything else.
    """
    text = text.strip()
    if text.lower() in _UNLIMITED or text == "-1":
        return None
    if text.isdecimal():
        return int(text) * 60
    if match := _CLOCK.fullmatch(text):
        hours, minutes, seconds = (int(part or 0) for part in match.groups())
        return hours * 3600 + minutes * 60 + seconds
    if match := _DAYS.fullmatch(text):
        days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
        return days * 86_400 + hours * 3600 + minutes * 60 + seconds
    raise ValueError(f"'{text}' is not a time limit such as 00:30:00, 2-12 or 90 (minutes)")


def format_duration(seconds: int | None) -> str:
    """Return seconds as ``[D-]HH:MM:SS``; None is ``UNLIMITED``."""
    if seconds is None:
        return "UNLIMITED"
    days, rest = divmod(seconds, 86_400)
    clock = f"{rest // 3600:02d}:{rest % 3600 // 60:02d}:{rest % 60:02d}"
    return f"{days}-{clock}" if days else clock
