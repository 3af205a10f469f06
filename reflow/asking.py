"""When a run's scheduler is asked, and by whom: one small file in the run's folder, whose lock is the right to ask.

Ten people who watch a run cost one question: who finds the lock taken, or the last answer young, takes what the asker
has written into the manifest. The file's time of change is the time of the next question, so that a worker finds out
with one ``stat`` that it need not ask.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from .deferred import dataclass, field
from .indices import Indices
from .paths import RunFolder
from .stores.files import time_left
from .stores.locking import hold

if TYPE_CHECKING:
    from .executors.base import SlotKey, SlotStatus

#: How long who must ask (a sentinel, a person's retry) waits for another one that asks, in seconds.
TURN_SECONDS = 120.0

#: How much longer than people workers leave the scheduler alone, in seconds.
WORKERS_WAIT_SECONDS = 30.0

#: A clock that is further ahead than any pause of ours is wrong, in seconds.
_FAR = 3_600.0


@dataclass()
class Notes:
    """What the last question left open. Who holds the turn changes it."""

    #: When somebody may ask again, in seconds since 1970.
    next_at: float = 0.0
    #: Database ids of instances whose jobs are over without a report, by when that was first seen.
    doubts: Mapping[float, Indices] = field(default_factory=dict)
    #: What waits in the queue, with Slurm's reason.
    waiting: Mapping[SlotKey, SlotStatus] = field(default_factory=dict)


@contextmanager
def turn(folder: RunFolder, *, must: bool) -> Iterator[Notes | None]:
    """Give the turn to ask, with what the last one noted; None when there is no need.

    With `must` the time does not matter, and another one that asks is waited for.
    """
    if not must and not is_due(folder):
        yield None
        return
    with hold(folder.question_lock, timeout=TURN_SECONDS if must else 0.0) as held:
        # Another one may have asked between the look and the lock.
        if not held or (not must and not is_due(folder)):
            yield None
            return
        notes = _read(folder.questions)
        try:
            yield notes
        finally:
            _write(folder.questions, notes)


def is_due(folder: RunFolder, later: float = 0.0) -> bool:
    """Return whether the last answer is old enough, by `later` seconds more than people wait; one ``stat``."""
    left = time_left(folder.questions)
    if left is None:
        return later == 0.0  # nobody has asked yet, and a person wants to know
    return not 0 < left + later < _FAR


def put_off(folder: RunFolder, seconds: float) -> None:
    """Let nobody ask for so long, if nobody has asked yet: the jobs have only just been submitted."""
    if not folder.questions.exists():
        _write(folder.questions, Notes(time.time() + seconds))


def last_reasons(folder: RunFolder) -> dict[str, dict[str, int]]:
    """Return how many slots of each job waited, by the scheduler's reason, when it was asked last; asks nobody.

    Read as it is written, in groups: who watches a million slots that wait does so every second.
    """
    reasons: dict[str, dict[str, int]] = {}
    try:
        for job, reason, slots in json.loads(folder.questions.read_bytes())["waiting"]:
            if reason:
                counts = reasons.setdefault(job, {})
                counts[reason] = counts.get(reason, 0) + (1 if slots is None else len(Indices.parse(slots)))
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return {}
    return reasons


def _read(path: Path) -> Notes:
    from .executors.base import JobStatus, SlotStatus  # here, because every worker looks whether a question is due

    try:
        noted = json.loads(path.read_bytes())
        return Notes(
            0.0,
            {float(since): Indices.parse(ids) for since, ids in noted["doubts"].items()},
            {
                (job, slot): SlotStatus(JobStatus.PENDING, reason=reason)
                for job, reason, slots in noted["waiting"]
                for slot in ([None] if slots is None else Indices.parse(slots))
            },
        )
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return Notes()  # none yet, or half of it: then all is doubtful only from now on


def _write(path: Path, notes: Notes) -> None:
    # One name, because only one asks: what a killed process leaves behind is written over.
    temporary = path.with_suffix(".new")
    doubts = {str(since): str(ids) for since, ids in notes.doubts.items() if ids}
    text = json.dumps({"doubts": doubts, "waiting": _grouped(notes.waiting)})
    # Notes that cannot be kept cost a question more.
    with suppress(OSError):
        temporary.write_text(text, encoding="utf-8")
        os.utime(temporary, (notes.next_at, notes.next_at))
        temporary.replace(path)


def _grouped(waiting: Mapping[SlotKey, SlotStatus]) -> list[tuple[str, str | None, str | None]]:
    """Return job, reason and slots of what waits; few lines even for a million slots."""
    groups: dict[tuple[str, str | None], list[int | None]] = {}
    for (job, slot), status in waiting.items():
        groups.setdefault((job, status.reason), []).append(slot)
    return [
        (job, reason, None if None in slots else str(Indices(slot for slot in slots if slot is not None)))
        for (job, reason), slots in groups.items()
    ]
