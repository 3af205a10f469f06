"""The small words of all that a person is told: durations, counts, lists of indices, and lines with a tone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from . import clock
from .indices import Indices
from .states import RANK, TaskState


class Tone(str, Enum):
    """What a line is for the eye. A terminal gives each a style; plain text shows none."""

    PLAIN = "plain"
    BAD = "bad"
    #: What a person may pass over.
    QUIET = "quiet"
    #: What will not go on by itself.
    WARNING = "warning"

    __str__ = str.__str__


@dataclass(frozen=True)
class Line:
    """One line of text, the same in every form of it."""

    text: str
    tone: Tone = Tone.PLAIN


def instance_name(task: str, index: int | None) -> str:
    """Return ``task`` or ``task[4711]``."""
    return task if index is None else f"{task}[{index}]"


def counts_text(counts: Mapping[TaskState, int]) -> str:
    """Return the counts of all states but SUCCESS, in the order of a life."""
    shown = sorted(
        (state for state in counts if state is not TaskState.SUCCESS and counts[state]), key=RANK.__getitem__
    )
    return " ".join(f"{counts[state]} {state.lower()}" for state in shown)


def duration_text(started_at: int | None, finished_at: int | None = None) -> str:
    """Return how long something took, or takes until now; '' before it began."""
    if started_at is None:
        return ""
    seconds = max(0, (finished_at or clock.now()) - started_at) / 1e6
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours // 24} d {hours % 24:02d} h"
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s"


def moment_text(at: int) -> str:
    """Return a time of the day as the clock on the wall shows it, with the date when that is not today's."""
    moment, today = clock.to_datetime(at).astimezone(), clock.to_datetime(clock.now()).astimezone()
    return moment.strftime("%H:%M:%S" if moment.date() == today.date() else "%Y-%m-%d %H:%M:%S")


def shortened(indices: Indices, most: int = 60) -> str:
    """Return the indices as ranges, cut at a comma when they are long."""
    text = str(indices)
    if len(text) <= most:
        return text
    return f"{text[:most].rpartition(',')[0]},... {len(indices)} in all"
