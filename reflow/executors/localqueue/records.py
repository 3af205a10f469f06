"""What a local queue knows about a job, and what may happen to it, as frozen records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any

from ...indices import Indices
from ..base import JobStatus


class ConditionKind(str, Enum):
    """When a job may start, seen from the job it waits for; the values are sbatch's words."""

    #: Once the other has started, or was cancelled.
    STARTED = "after"
    #: Once the other has ended, however.
    ENDED = "afterany"
    #: Once the other has ended well, every slot of it.
    SUCCEEDED = "afterok"
    #: Once the other has ended and any slot of it failed.
    FAILED = "afternotok"
    #: Slot by slot: slot i once slot i of the other has ended well.
    CORRESPONDING = "aftercorr"
    #: Once every earlier job of the same name has ended; names no other job.
    SINGLETON = "singleton"

    __str__ = str.__str__


@dataclass(frozen=True)
class Condition:
    """One thing a job waits for. A job that is not known any more counts as ended well, as Slurm has it."""

    kind: ConditionKind
    #: The job waited for; None for a singleton.
    job_id: int | None = None
    #: Only this slot of it.
    slot: int | None = None

    def __str__(self) -> str:
        """Return the condition as sbatch spells it."""
        if self.job_id is None:
            return str(self.kind)
        return f"{self.kind}:{self.job_id}" + ("" if self.slot is None else f"_{self.slot}")


@dataclass(frozen=True)
class QueuedJob:
    """One submitted job. Immutable: what changes afterwards stands in its `JobHistory`."""

    id: int
    name: str
    #: Folder in which the script runs, and to which `output` is relative.
    folder: str
    #: File that stdout is written to; sbatch's patterns ``%A %a %j %x %N %u %%`` are replaced.
    output: str
    #: Slots of the array; None for a plain job, whose only slot is 0.
    slots: Indices | None = None
    #: Words after the script's name.
    arguments: tuple[str, ...] = ()
    #: File for stderr; None for the same as stdout.
    errors: str | None = None
    #: Whether the output files are appended to; otherwise they begin anew.
    append: bool = True
    #: At most this many slots at the same time.
    throttle: int | None = None
    conditions: tuple[Condition, ...] = ()
    #: Whether one condition is enough; otherwise all must hold.
    any_condition: bool = False
    #: Whether a slot whose conditions can never hold is dropped; otherwise it pends for ever.
    kill_on_invalid_dependency: bool = True
    #: Seconds; None for no limit.
    time_limit: int | None = None
    #: Seconds before that at which the process gets SIGUSR1; None for no warning.
    warn_before: int | None = None
    #: CPUs of one slot.
    cpus: int = 1
    #: Whether a slot that lost its node or was preempted starts again by itself.
    requeue: bool = False
    held: bool = False
    #: Nodes on which it must not run.
    excluded_nodes: tuple[str, ...] = ()
    #: Microseconds since 1970.
    submitted: int = 0
    #: What a caller wants to find again and the queue does not use.
    details: Mapping[str, str] = field(default_factory=dict)

    @property
    def all_slots(self) -> Indices:
        """The slots, with 0 for a plain job."""
        return Indices.range(0, 1) if self.slots is None else self.slots

    def to_json(self) -> dict[str, Any]:
        """Return the job as JSON-safe values."""
        return asdict(self) | {"slots": None if self.slots is None else str(self.slots)}

    @classmethod
    def from_json(cls, job: Mapping[str, Any]) -> QueuedJob:
        """Read what `to_json` wrote."""
        values = dict(job)
        values["slots"] = None if job["slots"] is None else Indices.parse(job["slots"])
        values["conditions"] = parse_conditions(job["conditions"])
        values["arguments"] = tuple(job["arguments"])
        values["excluded_nodes"] = tuple(job["excluded_nodes"])
        return cls(**values)


def parse_conditions(conditions: list[dict[str, Any]]) -> tuple[Condition, ...]:
    """Read conditions from their JSON form."""
    return tuple(Condition(ConditionKind(each["kind"]), each["job_id"], each["slot"]) for each in conditions)


@dataclass(frozen=True)
class Strike:
    """An end that is brought upon a slot from outside: cancelled, out of time, its node lost."""

    status: JobStatus
    reason: str = ""
    #: Whether the process is asked first (SIGTERM, and SIGKILL after the queue's kill wait).
    gentle: bool = False
    #: Whether the slot starts again, as the next try of the same job.
    requeue: bool = False
    #: Whether the process goes on although its slot counts as ended: what a node does that is cut off.
    outlives: bool = False
    #: Seconds after the start at which it strikes; None: it only replaces the end that the script comes to by itself.
    delay: float | None = 0.0


@dataclass(frozen=True)
class QueueSettings:
    """How a queue runs what it holds; kept in its folder, the last writer's count."""

    #: CPUs by node name. All nodes are this machine.
    nodes: Mapping[str, int]
    #: Seconds between SIGTERM and SIGKILL.
    kill_wait: float = 5.0
    #: Seconds for which the runner waits for more before it ends.
    linger: float = 2.0
    #: Seconds after its end at which a job is forgotten.
    keep: float = 14 * 24 * 3600.0
