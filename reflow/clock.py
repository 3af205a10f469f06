"""The one place that asks for the time: microseconds since 1970 in UTC, as the manifest stores it."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def now() -> int:
    """Return the current time in microseconds since 1970-01-01 UTC."""
    return time.time_ns() // 1_000


def to_datetime(microseconds: int) -> datetime:
    """Return an aware UTC datetime for a stored time."""
    return _EPOCH + timedelta(microseconds=microseconds)


def from_datetime(moment: datetime) -> int:
    """Return the stored form of a datetime; a naive one is taken as local time."""
    return (moment.astimezone(timezone.utc) - _EPOCH) // timedelta(microseconds=1)
