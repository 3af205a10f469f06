"""Time limits and amounts of memory as Slurm writes them."""

from __future__ import annotations

import re

_DAYS = re.compile(r"(\d+)-(\d+)(?::(\d+))?(?::(\d+))?")
_CLOCK = re.compile(r"(?:(\d+):)?(\d+)(?::(\d+))")
_UNLIMITED = frozenset({"unlimited", "infinite", "0"})
_MEMORY = re.compile(r"(\d+)([KMGT]?)", re.ASCII | re.IGNORECASE)
_KIB = {"K": 1, "": 1024, "M": 1024, "G": 1024**2, "T": 1024**3}


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


def parse_memory(text: str) -> int | None:
    """Return the KiB of ``4G``, ``500M`` or ``500`` (MiB); None for ``0``, which is all the memory of a node.

    Raises `ValueError` on anything else.
    """
    match = _MEMORY.fullmatch(text)
    if match is None:
        raise ValueError(f"'{text}' is not an amount of memory such as 4G or 500M")
    return int(match[1]) * _KIB[match[2].upper()] or None


def format_memory(kib: int) -> str:
    """Return KiB in the largest unit that holds them exactly: ``6G``, ``6144001K``."""
    for unit in ("T", "G", "M"):
        if kib % _KIB[unit] == 0:
            return f"{kib // _KIB[unit]}{unit}"
    return f"{kib}K"
