"""Points in time as a person writes them: a date, a date with a time, or how long ago."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, TypeVar

import click

from .. import clock

_Command = TypeVar("_Command", bound=Callable[..., Any])

_AGO = re.compile(r"(\d+)\s*([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def read_moment(text: str, *, end_of_day: bool = False) -> datetime:
    """Return an aware datetime for ``2026-11-01``, ``2026-11-01T08:30``, or ``3d`` and ``12h`` before now.

    Times are local unless they say otherwise; a date alone is the start of that day, or its end. Raises `ValueError`
    saying what to write.
    """
    text = text.strip()
    ago = _AGO.fullmatch(text)
    try:
        if ago:
            return clock.to_datetime(clock.now()) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        # Python 3.10 does not know the Z.
        moment = datetime.fromisoformat(f"{text[:-1]}+00:00" if text.endswith("Z") else text)
        if end_of_day and re.fullmatch(r"\d{4}-?\d{2}-?\d{2}", text):
            moment += timedelta(days=1, microseconds=-1)
        return moment.astimezone()
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is no time: write 2026-11-01, 2026-11-01T08:30, 3d or 12h.") from None


def moment_option(flag: str, help: str, *, end_of_day: bool = False) -> Callable[[_Command], _Command]:
    """Return the decorator that adds an option whose value is a moment, or None."""

    def read(context: click.Context, parameter: click.Parameter, text: str | None) -> datetime | None:
        try:
            return None if text is None else read_moment(text, end_of_day=end_of_day)
        except ValueError as error:
            raise click.BadParameter(str(error), context, parameter) from error

    return click.option(flag, callback=read, metavar="WHEN", help=help)
