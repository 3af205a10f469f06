"""Decide what a run needs next: snapshot in, steps out. No database, no process, no clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .indices import Indices
from .spec import TaskPlan
from .states import RunState, TaskState


@dataclass(frozen=True)
class LiveWave:
    """A wave that still has instances in flight, or whose submit is not known to have happened."""

    id: int
    #: None while only the intent is recorded.
    job_id: str | None
    #: The element indices of the wave that are not final yet.
    indices: Indices


@dataclass(frozen=True)
class TaskSnapshot:
    """One task as the manifest shows it. A singleton counts as an array of the one index 0."""

    plan: TaskPlan
    #: Number of instances, None before the task is expanded.
    width: int | None = None
    #: Indices per state.
    states: Mapping[TaskState, Indices] = field(default_factory=dict)
    #: Indices that are PENDING or RETRYING and belong to no wave.
    free: Indices = Indices()
    waves: tuple[LiveWave, ...] = ()
    #: Why the task as a whole cannot go on, else None.
    error: str | None = None


@dataclass(frozen=True)
class RunSnapshot:
    """One run as the manifest shows it, tasks in topological order."""

    run_id: str
    status: RunState
    tasks: tuple[TaskSnapshot, ...]
