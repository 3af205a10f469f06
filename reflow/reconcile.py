"""Ask the scheduler once what became of the instances that stopped reporting, and settle them from its account."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from . import clock, pacing
from .active import ActiveRun
from .asking import Notes, turn
from .elements import or_going_on
from .executors.base import JobStatus, SlotKey, SlotStatus
from .indices import Indices
from .packs import last_begun, struck_down
from .sentinels import submit_sentinel
from .states import TaskState
from .stores.records import Failure, InFlight, Report, WaveState

#: How long an ended job's report may take to become visible on a slow file system, in seconds.
GRACE_SECONDS = 10.0

#: A question that took long is asked so much more rarely: a pause of so many times its duration.
PAUSE_OF_DURATION = 20.0

#: Of how many failures at most the used memory is asked for: it stands on step rows, which cost ten times as much.
MOST_MEASURED = 50

#: What Slurm gives as the reason when a job never began: a node without the user's home, a full disk.
LAUNCH_FAILURE = "JobLaunchFailure"

_FAILURES = {
    JobStatus.FAILED: Failure.FAILED,
    JobStatus.CANCELLED: Failure.CANCELLED,
    JobStatus.TIMEOUT: Failure.TIMEOUT,
    JobStatus.OUT_OF_MEMORY: Failure.OUT_OF_MEMORY,
    JobStatus.NODE_FAIL: Failure.NODE_FAIL,
    JobStatus.PREEMPTED: Failure.PREEMPTED,
    JobStatus.COMPLETED: Failure.LOST,
}

Suspect = tuple[InFlight, "SlotStatus | None"]


def reconcile(run: ActiveRun, *, must: bool = False, grace: float = GRACE_SECONDS) -> int:
    """Settle every instance whose job is over and who has no report; return how many were settled.

    One question for all jobs of the run, and none while the last answer is young. A job that is over without a report
    although it did not end badly, or that is unknown, is settled at a second look `grace` seconds later: the report
    may be on its way, and the account may lag. With `must` the question is asked whoever asked before, and the second
    look waited for. Raises `SchedulerError` when the scheduler cannot be asked.
    """
    with turn(run.folder, must=must) as notes:
        if notes is None:
            return 0
        settled = _look(run, notes, grace)
        if must and notes.doubts:
            time.sleep(grace)
            settled += _look(run, notes, 0.0)
        return settled


def _look(run: ActiveRun, notes: Notes, grace: float) -> int:
    """Ask, settle what is certain or was in doubt for `grace` seconds, and note what is in doubt now."""
    now, began = time.time(), time.monotonic()
    record = run.store.get_run_record(run.run_id)
    age = now - record.created_at.timestamp() if record is not None else 0.0
    notes.next_at = now + pacing.pause(age)  # also when the question fails: a controller that is down costs 18 s
    suspects, notes.waiting = _suspects(run)
    notes.next_at = now + max(pacing.pause(age), PAUSE_OF_DURATION * (time.monotonic() - began))
    ripe = Indices()
    for since, ids in notes.doubts.items():
        if now - since >= grace:
            ripe = ripe | ids
    certain = [(each, status) for each, status in suspects if _is_certain(status) or each.instance in ripe]
    doubtful = Indices(each.instance for each, status in suspects) - Indices(each.instance for each, _ in certain)
    notes.doubts = _still_doubted(notes.doubts, doubtful, now)
    if notes.doubts:
        notes.next_at = min(notes.next_at, now + grace)
    return run.store.apply(_measured(run, _verdicts(run, certain), certain))


def _still_doubted(before: Mapping[float, Indices], doubtful: Indices, now: float) -> dict[float, Indices]:
    kept = {since: ids & doubtful for since, ids in before.items()}
    new = doubtful
    for ids in kept.values():
        new = new - ids
    return {since: ids for since, ids in {**kept, now: new}.items() if ids}


def _suspects(run: ActiveRun) -> tuple[list[Suspect], dict[SlotKey, SlotStatus]]:
    """Return the instances in flight that the scheduler calls over or does not know, with what it says of them.

    And besides, what it says of those that wait.
    """
    asked = run.store.list_in_flight(run.run_id)
    if not asked:
        return [], {}
    jobs = {each.job_id for each in asked}
    waves = run.store.list_waves(run.run_id, {WaveState.SUBMITTED}) if run.executor.needs_sentinel else []
    watched = {wave.sentinel_job_id: wave for wave in waves if wave.job_id in jobs and wave.sentinel_job_id}
    answer = run.executor.query(sorted({*jobs, *filter(None, watched)}))
    for job_id, wave in watched.items():
        status = answer.get((job_id or "", None))
        if status is None or status.status.is_over:
            submit_sentinel(run, wave, is_new=False)  # somebody has cancelled it, and its wave may need it yet
    # In this order: a report published before the scheduler called the job over is merged before it is missed.
    run.store.merge(wait=True)
    waiting = {key: status for key, status in answer.items() if status.status is JobStatus.PENDING}
    return list(_without_report(asked, set(run.store.list_in_flight(run.run_id)), answer)), waiting


def _without_report(
    asked: Iterable[InFlight], still: set[InFlight], answer: Mapping[SlotKey, SlotStatus]
) -> Iterable[Suspect]:
    for each in asked:
        status = answer.get((each.job_id, each.slot))
        # An instance that moved on since the question was asked is none of our business.
        if each in still and (status is None or status.status.is_over):
            yield each, status


def _is_certain(status: SlotStatus | None) -> bool:
    """Whether no report can be on its way: the scheduler says that the worker came to no good end."""
    return status is not None and status.status not in (JobStatus.COMPLETED, JobStatus.FAILED)


def _verdicts(run: ActiveRun, suspects: Sequence[Suspect]) -> list[Report]:
    """Return the reports that the workers could not write; of a pack most elements just go back to waiting."""
    packs: dict[tuple[int, int], list[InFlight]] = {}
    for each, status in suspects:
        if each.packed_in is not None and each.slot is not None and not _takes_all(status):
            packs.setdefault((each.packed_in, each.slot), []).append(each)
    spared: set[InFlight] = set()
    for (wave, slot), silent in packs.items():
        spared |= set(silent).difference(struck_down(silent, last_begun(run.folder.begun(wave, slot))))
    return [
        _back_to_waiting(each) if each in spared else or_going_on(_verdict(each, status), run.folder)
        for each, status in suspects
    ]


def _takes_all(status: SlotStatus | None) -> bool:
    """Whether an end is meant for every element of a pack: a person wants none of them, or their parents failed."""
    return status is not None and status.status in (JobStatus.CANCELLED, JobStatus.DEPENDENCY)


def _back_to_waiting(instance: InFlight) -> Report:
    return Report(instance.instance, instance.attempt + 1, TaskState.PENDING, clock.now())


def _verdict(instance: InFlight, status: SlotStatus | None) -> Report:
    """Return the report that the worker could not write."""
    if status is not None and status.status is JobStatus.DEPENDENCY:
        return _back_to_waiting(instance)
    if status is None:
        failure, words = Failure.LOST, "the scheduler no longer knows the job, and its worker left no report"
    else:
        failure = _class_of(status)
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


def _class_of(status: SlotStatus) -> Failure:
    if status.status is JobStatus.FAILED and status.reason == LAUNCH_FAILURE and status.signal is None:
        return Failure.NODE_FAIL  # nothing of the task has run: another node may do better
    return _FAILURES[status.status]


def _measured(run: ActiveRun, reports: list[Report], suspects: list[Suspect]) -> list[Report]:
    """Add the used memory to the reports about elements that ran out of something."""
    short = (Failure.OUT_OF_MEMORY, Failure.TIMEOUT)
    keys = {
        report.instance: (each.job_id, each.slot)
        for report, (each, _) in zip(reports, suspects, strict=True)
        if report.failure in short
    }
    if not keys:
        return reports
    used = run.executor.used_memory(list(keys.values())[:MOST_MEASURED])
    return [
        replace(report, max_rss=used.get(keys[report.instance])) if report.instance in keys else report
        for report in reports
    ]


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
