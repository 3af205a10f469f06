"""What squeue, sacct and scontrol tell about a job: one row per start, and one for the slots that still wait."""

from __future__ import annotations

import os
import pwd
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass

from ...amounts import format_duration
from ...executors.base import JobStatus
from ...executors.localqueue import LAUNCH_FAILURE, JobHistory, Outcome, Standing, Try
from ...indices import Indices
from .site import Site


@dataclass(frozen=True)
class Row:
    """One line of a listing."""

    history: JobHistory
    #: The slots it is about: one, or all that wait together.
    slots: Indices
    status: JobStatus
    #: The start it is about; None for slots that wait or never started.
    attempt: Try | None = None
    outcome: Outcome | None = None
    #: What squeue says.
    reason: str = "None"
    #: Whether the slots are those of an array that nobody has looked at one by one.
    is_rest: bool = False
    #: Whether Slurm itself cancelled it, and no person.
    is_dropped: bool = False
    #: When it ended, in microseconds; None while it is open.
    ended: int | None = None

    @property
    def id(self) -> str:
        """The id as people write it: ``12``, ``12_3``, ``12_[4-9%2]``."""
        job = self.history.job
        if job.slots is None:
            return str(job.id)
        if self.is_rest:
            throttle = f"%{self.history.throttle}" if self.history.throttle else ""
            return f"{job.id}_[{_cut(str(self.slots))}{throttle}]"
        return f"{job.id}_{self.slots}"

    @property
    def raw_id(self) -> int:
        """The number of this start alone."""
        return self.history.job.id if self.attempt is None else self.attempt.raw_id

    @property
    def is_requeued(self) -> bool:
        """Whether it is an earlier start of a slot that started, or will start, again."""
        if self.attempt is None:
            return False
        (slot,) = self.slots
        return self.attempt is not self.history.tries[slot][-1] or slot in self.history.requeued

    @property
    def wait_status(self) -> int:
        """How it ended, as wait(2) tells it and squeue shows it."""
        if self.outcome is None:
            return 0
        if self.outcome.signal == LAUNCH_FAILURE:
            return 4021
        if self.status in (JobStatus.CANCELLED, JobStatus.TIMEOUT):
            return signal.SIGTERM
        return self.outcome.exit_code << 8 | self.outcome.signal

    @property
    def exit_code(self) -> str:
        """How it ended, as sacct shows it: seven bits of the code, and the signal."""
        if self.outcome is None or self.status is JobStatus.CANCELLED:
            return "0:0"
        return f"{self.outcome.exit_code & 0x7F}:{self.outcome.signal}"

    @property
    def seconds(self) -> int:
        """For how long it has run."""
        if self.attempt is None:
            return 0
        return int(((self.ended or time.time_ns() // 1000) - self.attempt.began) / 1e6)

    @property
    def time_limit(self) -> str:
        """The limit, as both commands show it."""
        return format_duration(self.history.time_limit)


def rows(site: Site, history: JobHistory, *, expand: bool = False) -> Iterator[Row]:
    """Yield what is known of a job; `expand`: one row for each waiting slot. A slot that was cancelled alone while
    it waited has left no trace, as in Slurm."""
    for slot, tries in sorted(history.tries.items()):
        one = Indices([slot])
        for attempt in tries:
            status = JobStatus.RUNNING if attempt.outcome is None else attempt.outcome.status
            reason = "None" if attempt.outcome is None else attempt.outcome.reason or "None"
            if status is JobStatus.CANCELLED:
                reason = "None"
            yield Row(history, one, status, attempt, attempt.outcome, reason, ended=attempt.ended)
    for slot in history.dropped:
        yield Row(
            history,
            Indices([slot]),
            JobStatus.CANCELLED,
            reason="DependencyNeverSatisfied",
            is_dropped=True,
            ended=history.dropped_at,
        )
    requeued = Indices(history.requeued)
    for slot in requeued:
        yield Row(history, Indices([slot]), JobStatus.PENDING, reason=_why(site, history, slot))
    whole = history.withdrawn_whole
    if whole:
        reason = (
            "Dependency" if history.conditions else "JobHeldUser" if history.is_held(whole.ranges[0][0]) else "None"
        )
        yield Row(history, whole, JobStatus.CANCELLED, reason=reason, is_rest=True, ended=history.withdrawn_at)
    waiting = history.waiting - requeued
    if waiting:
        reason = _why(site, history, next(iter(waiting)))
        if expand:
            yield from (Row(history, Indices([slot]), JobStatus.PENDING, reason=reason) for slot in waiting)
        else:
            yield Row(history, waiting, JobStatus.PENDING, reason=reason, is_rest=True)


def _why(site: Site, history: JobHistory, slot: int) -> str:
    """Return why a slot waits."""
    if history.is_held(slot):
        return "JobHeldUser"
    standing = site.queue.standing(history, slot)
    if standing is Standing.NEVER:
        return "DependencyNeverSatisfied"
    if standing is Standing.WAITING:
        return "Dependency"
    if history.throttle is not None and len(history.running) >= history.throttle:
        return "JobArrayTaskLimit"
    return "Resources"


def is_forgotten(site: Site, history: JobHistory) -> bool:
    """Whether squeue and scontrol know the job no more."""
    ended = history.ended_at
    return ended is not None and is_old(site, ended)


def is_old(site: Site, ended: int) -> bool:
    """Whether something that ended then has been forgotten."""
    return time.time() - ended / 1e6 > site.settings.min_job_age


def recent_ids(site: Site) -> list[int]:
    """Return the jobs that squeue may know, without reading the old ones."""
    oldest = time.time() - site.settings.min_job_age
    open_ids = set(site.queue.open_ids())
    return [each for each in site.queue.ids() if each in open_ids or site.queue.changed_at(each) >= oldest]


def find_job(site: Site, number: int) -> tuple[JobHistory, Indices | None] | None:
    """Return the job with that number, or the job and slot of which that is a start's own number."""
    history = site.queue.history(number)
    if history is not None:
        return history, None
    if number > site.queue.last_id():
        return None
    # Starts take their numbers after their job has taken its own.
    for job_id in reversed([each for each in site.queue.ids() if each < number]):
        other = site.queue.history(job_id)
        for slot, tries in {} if other is None else other.tries.items():
            if other is not None and any(attempt.raw_id == number for attempt in tries):
                return other, Indices([slot])
    return None


def moment(microseconds: int | None, unknown: str) -> str:
    """Return a time as Slurm prints it."""
    return unknown if microseconds is None else time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(microseconds / 1e6))


def user_name() -> str:
    """Return the caller's name; every job of a fake cluster is hers."""
    return pwd.getpwuid(os.getuid()).pw_name


def _cut(slots: str) -> str:
    """Shorten a list of slots as Slurm does: at 64 characters, unless SLURM_BITSTR_LEN says otherwise."""
    longest = int(os.environ.get("SLURM_BITSTR_LEN") or 64)
    return slots if longest == 0 or len(slots) <= longest else f"{slots[: longest - 3]}..."
