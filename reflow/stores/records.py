"""Frozen records that cross the store's border: what it returns, and what workers report."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from typing import Any

from ..deferred import dataclass
from ..indices import Indices
from ..states import RunState, TaskState


@dataclass(frozen=True)
class Resources:
    """What a later attempt asks of the scheduler in place of what its task says."""

    #: None for the task's own.
    mem: str | None = None
    #: None for the task's own.
    time: str | None = None
    #: Nodes that it had better not get again, sorted.
    exclude: tuple[str, ...] = ()


#: What the first attempt asks for.
TASKS_OWN = Resources()


@dataclass(frozen=True)
class RunRecord:
    """One execution of a workflow."""

    run_id: str
    graph_name: str
    user_id: str
    created_at: datetime
    status: RunState
    #: The run's parameters under the user's own names, decoded.
    parameters: Mapping[str, Any]
    #: What later dispatches need and the user did not name: executor, code, folders. JSON-safe.
    settings: Mapping[str, Any]
    #: Whether its files were removed, and its rows kept for the cache.
    results_only: bool = False

    def to_public_dict(self) -> dict[str, Any]:
        """Return the record with the state as its string and the time as ISO-8601, without settings."""
        public = _public(self)
        del public["settings"], public["results_only"]
        return public


@dataclass(frozen=True)
class TaskSpecRecord:
    """One task of one run, as persisted when the run was created."""

    run_id: str
    task_name: str
    is_array: bool
    #: What `reflow.spec.TaskPlan.to_json` made.
    config: Mapping[str, Any]
    dependencies: tuple[str, ...]


@dataclass(frozen=True)
class TaskInstanceRecord:
    """One call of a task; `array_index` is None for a singleton."""

    id: int
    run_id: str
    task_name: str
    array_index: int | None
    state: TaskState
    job_id: str | None
    #: The inputs of this instance alone (its fan-out item), decoded; None when it has none of its own.
    input: Any
    output: Any
    error_text: str | None
    identity: str
    input_hash: str
    output_hash: str
    created_at: datetime
    updated_at: datetime
    #: Counts from 1; a retry adds one.
    attempt: int = 1
    #: When the newest attempt began and ended, as its worker (or the scheduler) said.
    started_at: datetime | None = None
    finished_at: datetime | None = None
    #: The node (host name) the newest attempt ran on.
    node: str | None = None
    #: The class of the failure: ``EXCEPTION``, ``OUT_OF_MEMORY``, ``TIMEOUT``, ``NODE_FAIL``, ``LOST``, ...
    failure: str | None = None
    exit_code: int | None = None
    signal: int | None = None
    #: Id of the instance whose result was taken over instead of running, else None.
    cached_from: int | None = None
    #: Names of the exception's class and of those it inherits from, separated by blanks; '' when nothing was raised.
    exception: str = ""
    #: The most memory that the failed attempt used, in KiB, where the scheduler has measured it.
    max_rss: int | None = None
    #: What the newest attempt asked for where that is not what its task says: more, after it ran out of it.
    asked_mem: str | None = None
    asked_time: str | None = None

    def to_public_dict(self) -> dict[str, Any]:
        """Return the record with the state as its string and times as ISO-8601."""
        return _public(self)


@dataclass(frozen=True)
class AttemptRecord:
    """An attempt of an instance that a retry or a release has put behind it."""

    attempt: int
    #: The last state it was in.
    state: TaskState
    job_id: str | None
    node: str | None
    started_at: datetime | None
    finished_at: datetime | None
    #: The class of the failure, as in `TaskInstanceRecord`.
    failure: str | None
    exit_code: int | None
    signal: int | None
    error_text: str | None
    #: These four as in `TaskInstanceRecord`.
    exception: str = ""
    max_rss: int | None = None
    asked_mem: str | None = None
    asked_time: str | None = None


def _public(record: RunRecord | TaskInstanceRecord) -> dict[str, Any]:
    return {name: _public_value(value) for name, value in vars(record).items()}


def _public_value(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return value.value if isinstance(value, (TaskState, RunState)) else value


class Failure(str, Enum):
    """Why an attempt failed."""

    #: The user's function raised.
    EXCEPTION = "EXCEPTION"
    #: The function called `sys.exit` or the process ended by itself with a code or a signal.
    EXIT = "EXIT"
    #: The function raised `TaskInterrupted`, although no signal had come.
    INTERRUPTED = "INTERRUPTED"
    #: The pipeline, an input or the output could not be loaded, decoded or encoded.
    WORKER = "WORKER"
    #: The scheduler refused the job for good.
    REFUSED = "REFUSED"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    TIMEOUT = "TIMEOUT"
    NODE_FAIL = "NODE_FAIL"
    PREEMPTED = "PREEMPTED"
    #: The scheduler says that it was cancelled, and no one asked reflow for it.
    CANCELLED = "CANCELLED"
    #: The scheduler says failed, and the worker could not report.
    FAILED = "FAILED"
    #: Gone from the scheduler, no report, after the grace time.
    LOST = "LOST"

    __str__ = str.__str__


@dataclass(frozen=True)
class Report:
    """One state change of one attempt of one instance, as its worker (or reconcile) publishes it.

    Merged as a maximum over ``(attempt, rank of state)``. ``restart``, ``node`` and ``pid`` tell apart two
    copies that the scheduler may run of one attempt at the same time.
    """

    instance: int
    attempt: int
    #: RUNNING, SUCCESS, FAILED or CANCELLED; or PENDING with the next attempt: back to waiting.
    state: TaskState
    #: Microseconds since 1970 UTC.
    at: int
    node: str = ""
    pid: int = 0
    #: How often the scheduler restarted the job (``SLURM_RESTART_COUNT``).
    restart: int = 0
    #: The output as JSON text (`reflow.codec.dumps`), for SUCCESS.
    output: str | None = None
    output_hash: str = ""
    #: Identity, where it was not known before the element started (chain elements), else ''.
    identity: str = ""
    error: str | None = None
    failure: Failure | None = None
    exit_code: int | None = None
    signal: int | None = None
    #: When the attempt began, in final reports: a merge that sees only the final one still knows it.
    started_at: int | None = None
    #: Content hash of an output too big for the manifest (`stores/outputs.py`); `output` is None then.
    output_file: str = ""
    #: Names of the exception's class and of those it inherits from, separated by blanks; '' when nothing was raised.
    exception: str = ""
    #: The most memory that the attempt used, in KiB, where reconcile learnt it from the scheduler.
    max_rss: int | None = None
    #: Id of the instance whose result the worker took over instead of running, for SUCCESS.
    cached_from: int | None = None


@dataclass(frozen=True)
class NewInstance:
    """One row to create when a task is expanded."""

    #: None for a singleton.
    index: int | None
    #: JSON text of the inputs that this element alone has: ``{parameter: encoded value}``; None for none.
    input: str | None = None
    identity: str = ""
    input_hash: str = ""
    #: A hit of the cache: the instance is created as SUCCESS with the output of that instance.
    cached_from: int | None = None


class WaveState(str, Enum):
    """The life of one wave."""

    #: Recorded before the submit command runs. Dispatch moves it on, after asking for the job's name if need be.
    INTENT = "INTENT"
    #: The scheduler gave a job id.
    SUBMITTED = "SUBMITTED"
    #: Refused for good; its instances are FAILED. Or withdrawn; they are in other waves.
    REFUSED = "REFUSED"

    __str__ = str.__str__


@dataclass(frozen=True)
class WaveRecord:
    """Instances handed to the scheduler together as one job."""

    id: int
    run_id: str
    task_name: str
    #: The unique job name, by which the scheduler can be asked whether it has the job.
    job_name: str
    state: WaveState
    job_id: str | None
    sentinel_job_id: str | None
    #: The slots of the job's array, None for a plain job of one instance.
    slots: Indices | None
    #: Slot = element index // pack - offset; None when the slots are numbered by rank (scattered indices of a retry,
    #: whose list would be too long for the scheduler).
    offset: int | None
    #: The waves whose slots this one follows element by element (aftercorr).
    after_waves: tuple[int, ...]
    #: When the intent was recorded, microseconds since 1970 UTC.
    created_at: int
    #: What the job asks for in place of what the task says.
    resources: Resources = TASKS_OWN
    #: How many neighbouring indices share a slot.
    pack: int = 1


@dataclass(frozen=True)
class SlotRow:
    """One instance of a wave as its launch needs it."""

    instance: int
    index: int | None
    attempt: int
    input: str | None
    #: Whether the manifest has its identity. It has not where a parent had no result yet, or gave up the one it had.
    is_identified: bool = True


@dataclass(frozen=True)
class InFlight:
    """An instance that the scheduler should have: what reconcile compares with the scheduler's account."""

    instance: int
    attempt: int
    state: TaskState
    job_id: str
    #: None for a plain job.
    slot: int | None
    #: The wave, where several elements share a slot; else None.
    packed_in: int | None = None


@dataclass(frozen=True)
class FailedInstance:
    """A failed instance in short: as many as there are can be read to see which of them fail alike."""

    instance: int
    task_name: str
    array_index: int | None
    attempt: int
    #: The class of the failure, as in `TaskInstanceRecord`.
    failure: str | None
    exit_code: int | None
    signal: int | None
    node: str | None
    #: Microseconds since 1970 UTC.
    finished_at: int | None
    #: The last part of the error text: where it was raised, and what.
    error: str


@dataclass(frozen=True)
class RunningInstance:
    """An instance that runs, and since when (microseconds since 1970 UTC)."""

    task_name: str
    array_index: int | None
    started_at: int


@dataclass(frozen=True)
class CachedResult:
    """A successful instance that may be used again."""

    instance: int
    run_id: str
    output: str | None
    output_hash: str
    #: Content hash of an output that is a file; `EngineStore.cached_output` reads it.
    output_file: str = ""


@dataclass(frozen=True)
class ResultToCheck:
    """The result of one success, for a look at whether it is still what it was."""

    index: int
    attempt: int
    #: JSON text; None where it was a file beside the manifest that is missing or damaged.
    output: str | None
    output_hash: str


@dataclass(frozen=True)
class TaskSummary:
    """What `status` shows of one task, without one row per instance."""

    task_name: str
    is_array: bool
    #: Number of instances, None before the task is expanded.
    width: int | None
    counts: Mapping[TaskState, int]
    failed: Indices
    #: Why the task as a whole cannot go on (unequal fan-out inputs, ...), else None.
    error: str | None
    #: First start and last end of the task's instances, microseconds; None before.
    started_at: int | None
    finished_at: int | None
    cached: int
    #: How many instances have been tried more than once, because an attempt failed or was cancelled.
    retried: int = 0
