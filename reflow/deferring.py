"""When those who watch a run try again what the scheduler has not taken: ever more rarely, however many they are.

One small file in the run's folder: it has the last pause, and its time of change is the time of the next try. Sentinels
and alarms have a pace of their own, and a person's command tries at once.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress

from .paths import RunFolder
from .stores.files import time_left

#: The first pause and the longest, in seconds.
PAUSES = (5.0, 60.0)


def note(folder: RunFolder) -> None:
    """Note that something was not taken just now."""
    with suppress(OSError):  # one that cannot be noted costs tries more
        pause = min(2 * _last_pause(folder), PAUSES[1])
        folder.deferred.write_text(f"{pause:g}", encoding="utf-8")
        os.utime(folder.deferred, (time.time() + pause,) * 2)


def forget(folder: RunFolder) -> None:
    """Note that all was taken."""
    with suppress(OSError):
        folder.deferred.unlink(missing_ok=True)


def is_due(folder: RunFolder) -> bool:
    """Return whether it is time to try again; one ``stat``."""
    left = time_left(folder.deferred)
    return left is None or not 0 < left <= PAUSES[1]  # a clock that is further ahead than any pause of ours is wrong


def _last_pause(folder: RunFolder) -> float:
    try:
        return float(folder.deferred.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return PAUSES[0] / 2
