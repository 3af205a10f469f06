"""Guess what a person meant, for the end of an error message."""

from __future__ import annotations

from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the known name that is most like `name`, or '' when none is."""
    from difflib import get_close_matches  # here, because only a mistake needs it and every worker would pay

    close = get_close_matches(name, list(known), n=1)
    return f" Did you mean '{close[0]}'?" if close else ""
