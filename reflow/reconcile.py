"""Ask the scheduler once what became of the instances that stopped reporting, and settle them from its account."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from . import clock
from .executors.base import JobStatus, SlotKey, SlotStatus
from .launch import ActiveRun
from .states import TaskState
from .stores.records import Failure, InFlight, Report

#: How long an ended job's report may take to become visible on a slow file system, in seconds.
GRACE_SECONDS = 10.0

_FAILURES = {
    JobStatus.FAILED: Failure.FAILED,
    JobStatus.CANCELLED: Failure.CANCELLED,
    JobStatus.TIMEOUT: Failure.TIMEOUT,
    JobStatus.OUT_OF_MEMORY: Failure.OUT_OF_MEMORY,
    JobStatus.NODE_FAIL: Failure.NODE_FAIL,
    JobStatus.PREEMPTED: Failure.PREEMPTED,
    JobStatus.COMPLETED: Failure.LOST,
}


def reconcile(run: ActiveRun, *, grace: float = GRACE_SECONDS) -> int:
    """Settle every instance whose job is over and who has no report; return how many were settled.

    Asks the scheduler once, and once more after `grace` seconds when a job is over without a report or is unknown:
    the report may be on its way, and the account may lag. Raises `SchedulerError` when the scheduler cannot be asked.
    """
    suspects = _suspects(run)
    if not suspects:
        return 0
    certain = [each for each, status in suspects if status is not None and _is_certain(status)]
    settled = run.store.apply([_verdict(each, status) for each, status in suspects if each in certain])
    if len(certain) < len(suspects):
        doubtful = {each for each, _ in suspects} - set(certain)
        time.sleep(grace)
        settled += run.store.apply([_verdict(each, status) for each, status in _suspects(run) if each in doubtful])
    return settled


def _suspects(run: ActiveRun) -> list[tuple[InFlight, SlotStatus | None]]:
    """Return the instances in flight that the scheduler calls over or does not know, with what it says of them."""
    asked = run.store.list_in_flight(run.run_id)
    if not asked:
        return []
    answer = run.executor.query(sorted({each.job_id for each in asked}))
    # In this order: a report published before the scheduler called the job over is merged before it is missed.
    run.store.merge(wait=True)
    return list(_without_report(asked, set(run.store.list_in_flight(run.run_id)), answer))


def _without_report(
    asked: Iterable[InFlight], still: set[InFlight], answer: Mapping[SlotKey, SlotStatus]
) -> Iterable[tuple[InFlight, SlotStatus | None]]:
    for each in asked:
        status = answer.get((each.job_id, each.slot))
        # An instance that moved on since the question was asked is none of our business.
        if each in still and (status is None or status.status.is_over):
            yield each, status


def _is_certain(status: SlotStatus) -> bool:
    """Whether no report can be on its way: the scheduler says that the worker came to no good end."""
    return status.status not in (JobStatus.COMPLETED, JobStatus.FAILED)


def _verdict(instance: InFlight, status: SlotStatus | None) -> Report:
    """Return the report that the worker could not write."""
    if status is not None and status.status is JobStatus.DEPENDENCY:
        return Report(instance.instance, instance.attempt + 1, TaskState.PENDING, clock.now())
    if status is None:
        failure, words = Failure.LOST, "the scheduler no longer knows the job, and its worker left no report"
    else:
        failure = _FAILURES[status.status]
        words = _words(failure, status)
    return Report(
        instance.instance,
        instance.attempt,
        TaskState.FAILED,
        clock.now(),
        node=(status.node or "") if status is not None else "",
        error=f"job {_job(instance)}: {words}",
        failure=failure,
        exit_code=status.exit_code if status is not None else None,
        signal=status.signal if status is not None else None,
    )


def _words(failure: Failure, status: SlotStatus) -> str:
    said = f"{status.status}{f' ({status.reason})' if status.reason else ''}"
    if failure is Failure.LOST:
        return f"the scheduler says {said}, but its worker left no report"
    if status.signal:
        return f"the scheduler says {said}, ended by signal {status.signal}"
    if status.exit_code:
        return f"the scheduler says {said}, exit code {status.exit_code}"
    return f"the scheduler says {said}"


def _job(instance: InFlight) -> str:
    return instance.job_id if instance.slot is None else f"{instance.job_id}_{instance.slot}"
