"""The interface to one scheduler, and the records that pass through it.

``render`` is pure and apart from ``submit``; ``query`` asks for many jobs in one call.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path

from ..deferred import dataclass, field
from ..indices import Indices


@dataclass(frozen=True)
class JobResources:
    """What one array slot (or a plain job) asks of the scheduler."""

    cpus: int = 1
    #: Wall time as Slurm writes it, ``HH:MM:SS`` among others.
    time: str = "00:30:00"
    #: Memory per node as Slurm writes it, ``4G``.
    mem: str = "4G"
    #: Further options by their long name without dashes; True is a flag without value, False leaves it out.
    options: Mapping[str, str | int | float | bool] = field(default_factory=dict)


class After(str, Enum):
    """When a job may start, seen from the job that it depends on."""

    #: Once it has ended, however.
    ANY = "afterany"
    #: Once it has ended well.
    OK = "afterok"
    #: Element by element: slot i once slot i of the other has ended well.
    CORRESPONDING = "aftercorr"

    __str__ = str.__str__


@dataclass(frozen=True)
class Dependency:
    """One job that must have ended before this one may start."""

    kind: After
    job_id: str


@dataclass(frozen=True)
class Job:
    """Everything the scheduler is told about one job; `Executor.render` prints it and adds nothing."""

    #: Unique over all runs; letters, digits, ``.``, ``_`` and ``-`` only, so that no scheduler misreads it.
    name: str
    #: The worker's command as words. The rendered script appends the array slot as one more word
    #: (``0`` for a plain job), and must ``exec`` it, so that signals reach the worker.
    command: tuple[str, ...]
    resources: JobResources
    #: Folder in which the submit command runs and to which `log` is relative, so that no directive has to
    #: quote a strange path.
    run_dir: Path
    #: The scheduler's own log of the whole job, appended to, relative to `run_dir`. Elements write their own logs.
    log: str
    #: Folder in which the command runs.
    working_dir: Path
    #: Slots of the array; None for a plain job.
    slots: Indices | None = None
    #: At most this many slots at the same time.
    throttle: int | None = None
    after: tuple[Dependency, ...] = ()
    #: Shell lines before the command; a failing one ends the job.
    setup: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    #: Seconds before the time limit at which the command gets SIGUSR1; None for no warning.
    signal_before: int | None = None
    #: Template file name to use instead of the executor's own.
    template: str | None = None
    #: Seconds from its submit before which the job does not start; a scheduler that cannot wait starts it at once.
    begin_in: int = 0
    #: What the job is, for people who read its script: task, wave and run. '' for the name alone.
    title: str = ""


class JobStatus(str, Enum):
    """What the scheduler says became of one slot."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    #: Dropped because a dependency can never hold (``--kill-on-invalid-dep``).
    DEPENDENCY = "DEPENDENCY"
    TIMEOUT = "TIMEOUT"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    NODE_FAIL = "NODE_FAIL"
    PREEMPTED = "PREEMPTED"

    __str__ = str.__str__

    @property
    def is_over(self) -> bool:
        """Whether the scheduler will do nothing more about it."""
        return self not in (JobStatus.PENDING, JobStatus.RUNNING)


@dataclass(frozen=True)
class SlotStatus:
    """The newest try of one slot, as the scheduler tells it."""

    status: JobStatus
    exit_code: int | None = None
    signal: int | None = None
    node: str | None = None
    reason: str | None = None


#: ``(job id, slot)``; the slot of a plain job is None.
SlotKey = tuple[str, "int | None"]


@dataclass(frozen=True)
class Limits:
    """What the scheduler accepts."""

    #: Largest slot of an array plus one (Slurm's ``MaxArraySize``); None for no limit.
    max_array_size: int | None = None


class Executor(ABC):
    """The adapter to one scheduler. Subclasses are cheap to create and hold no connection."""

    #: The name under which a run records it and `submit(executor=...)` finds it.
    name: str

    #: Whether jobs may wait for single slots of other jobs (`After.CORRESPONDING`).
    follows_elements: bool = True

    #: Whether a wave needs a sentinel job behind it, because nobody else would notice that its workers died.
    needs_sentinel: bool = True

    #: Whether elements may be packed into slots. Where a process takes many slots anyway there is no need.
    packs: bool = True

    @abstractmethod
    def render(self, job: Job) -> str:
        """Return the script that `submit` would hand over. Pure: no command runs, nothing is written."""

    @abstractmethod
    def submit(self, script: Path, job: Job) -> str:
        """Hand over the rendered script and return the job id.

        Raises `SubmitRefused` (never possible), `SubmitDeferred` (later or smaller) or `SubmitUnknown` (perhaps
        accepted: use `find`).
        """

    def check(self) -> None:  # noqa: B027 (most have nothing to check)
        """Raise `SchedulerError` when nothing can be submitted from this machine; called before a run is recorded."""

    @abstractmethod
    def find(self, job_name: str) -> str | None:
        """Return the id of the job of that unique name, living or ended, or None when there is none.

        Raises `SchedulerError` when the scheduler cannot be asked.
        """

    @abstractmethod
    def cancel(self, job_ids: Sequence[str], slots: Mapping[str, Indices] | None = None) -> None:
        """Cancel whole jobs, or of the jobs named in `slots` only those slots. Ended or unknown jobs are no error."""

    @abstractmethod
    def query(self, job_ids: Sequence[str]) -> Mapping[SlotKey, SlotStatus]:
        """Return what became of every slot of these jobs, in one call (two where accounting is off).

        A slot that is not in the answer is unknown to the scheduler: forgotten, or cancelled before it began.
        Raises `SchedulerError` when the scheduler cannot be asked, which says nothing about the jobs.
        """

    def used_memory(self, slots: Sequence[SlotKey]) -> Mapping[SlotKey, int]:
        """Return the most memory, in KiB, that these ended slots used, of those of which the scheduler knows it.

        Never raises because of the scheduler: it is nice to know, and no more.
        """
        return {}

    def limits(self) -> Limits:
        """Return what the scheduler accepts; asked once per process."""
        return Limits()

    @abstractmethod
    def settings(self) -> dict[str, object]:
        """Return the JSON-safe keyword arguments with which `reflow.executors.create` makes an equal one."""
