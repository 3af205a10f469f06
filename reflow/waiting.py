"""What a run waits for: other tasks, the queue and its reasons, a scheduler that takes no more jobs. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from .states import WAITING, TaskState
from .stores.records import TaskSpecRecord, TaskSummary, WaveRecord, WaveState
from .wording import Line, Tone

#: An intent that is older than this was deferred, in seconds; a younger one is being submitted.
DEFERRED_AFTER = 10.0

# What Slurm's reasons mean to the person who waits, and of those that never end by themselves, what to do.
_REASONS = {
    "Resources": "for free resources",
    "Priority": "behind jobs of higher priority",
    "Dependency": "for what they depend on",
    "JobArrayTaskLimit": "for others of their array: array_parallelism",
    "BeginTime": "for the time at which Slurm starts them again",
    "PartitionDown": "for their partition, which is down",
    "PartitionInactive": "for their partition, which is inactive",
    "ReqNodeNotAvail": "for nodes that are not available now",
    "NodeDown": "for a node that is down",
    "Licenses": "for licenses",
    "Reservation": "for their reservation",
}
_STUCK = {
    "PartitionTimeLimit": "ask for more time than their partition allows: cancel the run and lower time=",
    "PartitionNodeLimit": "ask for more nodes than their partition allows: cancel the run and ask for fewer",
    "DependencyNeverSatisfied": "depend on a job that failed: `reflow status` puts them back to waiting",
    "BadConstraints": "ask for what no node has: cancel the run and change its options",
    "JobHeldUser": "are held: `scontrol release` lets them go",
    "JobHeldAdmin": "are held by an administrator",
    "InvalidAccount": "name an account that is not valid: cancel the run and change account=",
    "InvalidQOS": "name a QOS that is not valid: cancel the run and change qos=",
}
#: How many slots of a job wait, by the scheduler's reason, by job.
Reasons = Mapping[str, Mapping[str, int]]

_OVER_A_LIMIT = re.compile(r"(Assoc|QOS)(Max|Min)\w*(PerJob|WallDurationPerJob|PerNode)\w*")
_AT_A_LIMIT = re.compile(r"(Assoc|QOS)\w+")


@dataclass(frozen=True)
class Wait:
    """Why some of a task does not go on now."""

    task_name: str
    #: How many instances; None for a task that has none yet.
    count: int | None
    words: str
    #: The scheduler's own word, where it gave one.
    reason: str | None = None
    #: Whether it will not end by itself.
    stuck: bool = False

    @property
    def line(self) -> Line:
        """The wait as a person reads it."""
        count = "" if self.count is None else f"{self.count} "
        text = f"{self.task_name}: {count}{self.words}"
        return Line(text, Tone.WARNING if self.stuck else Tone.QUIET)

    def to_public_dict(self) -> dict[str, object]:
        """Return the wait as JSON-safe values."""
        return {
            "task_name": self.task_name,
            "count": self.count,
            "words": self.words,
            "reason": self.reason,
            "stuck": self.stuck,
        }


def find_waits(
    tasks: Sequence[TaskSummary],
    specs: Iterable[TaskSpecRecord],
    waves: Sequence[WaveRecord],
    reasons: Reasons,
    *,
    now: int,
) -> list[Wait]:
    """Return what a RUNNING run waits for, tasks in its order; `reasons` are the scheduler's last ones, if any."""
    deferred_before = now - int(DEFERRED_AFTER * 1e6)
    deferred = [wave for wave in waves if wave.state is WaveState.INTENT and wave.created_at < deferred_before]
    upstreams = {spec.task_name: spec.dependencies for spec in specs}
    complete = {task.task_name for task in tasks if task.counts.get(TaskState.SUCCESS, 0) == task.width}
    return [
        wait
        for task in tasks
        if task.error is None
        for wait in _unsubmitted(task, upstreams.get(task.task_name, ()), complete, deferred)
        + _queued(task, {wave.job_id for wave in waves if wave.task_name == task.task_name}, reasons)
    ]


def _unsubmitted(
    task: TaskSummary, upstreams: Collection[str], complete: Collection[str], deferred: Iterable[WaveRecord]
) -> list[Wait]:
    missing = ", ".join(name for name in upstreams if name not in complete)
    if task.width is None:
        return [Wait(task.task_name, None, f"waits for {missing}")] if missing else []
    waits = []
    waiting = sum(task.counts.get(state, 0) for state in WAITING)
    put_off = min(waiting, sum(_size(wave) for wave in deferred if wave.task_name == task.task_name))
    if put_off:
        words = "wait to be submitted: the scheduler takes no more jobs now, and is asked again"
        waits.append(Wait(task.task_name, put_off, words))
    if waiting > put_off and missing:
        waits.append(Wait(task.task_name, waiting - put_off, f"wait for {missing}"))
    return waits


def _queued(task: TaskSummary, jobs: Collection[str | None], reasons: Reasons) -> list[Wait]:
    submitted = task.counts.get(TaskState.SUBMITTED, 0)
    if not submitted:
        return []
    found: Counter[str] = Counter()
    for job, counts in reasons.items():
        if job in jobs:
            found.update(counts)
    if not found:
        return [Wait(task.task_name, submitted, "wait in the queue")]
    return [_for_reason(task.task_name, count, reason) for reason, count in found.most_common()]


def _for_reason(task_name: str, count: int, reason: str) -> Wait:
    # Slurm lists nodes and the like behind some reasons: "ReqNodeNotAvail, UnavailableNodes:n[1-4]".
    word = reason.partition(",")[0].strip("()")
    if word in _STUCK or _OVER_A_LIMIT.fullmatch(word):
        words = _STUCK.get(word, "ask for more than their account or QOS allows: cancel the run and ask for less")
        return Wait(task_name, count, f"wait for ever, because they {words} ({word})", word, stuck=True)
    limit = "for a limit of their account or QOS" if _AT_A_LIMIT.fullmatch(word) else ""
    return Wait(task_name, count, f"wait in the queue {_REASONS.get(word, limit)} ({word})".replace("  ", " "), word)


def _size(wave: WaveRecord) -> int:
    return 1 if wave.slots is None else len(wave.slots)
