"""Small jobs that look after a run: a sentinel behind each wave, and an alarm when nothing else is in the queue."""

from __future__ import annotations

import os
from pathlib import Path

from . import log
from .active import ActiveRun
from .errors import ConfigError, RenderError, SchedulerError, SubmitUnknown
from .executors.base import After, Dependency, Job, JobResources, JobStatus
from .launch import hand_over
from .stores.records import WaveRecord, WaveState

#: How much later than now an alarm begins, in seconds.
ALARM_SECONDS = 120


def submit_sentinel(run: ActiveRun, wave: WaveRecord, *, is_new: bool) -> None:
    """Put a job behind the wave that settles what its workers could not report.

    One of an earlier dispatcher may be there, although that dispatcher did not live to record it: unless the wave
    `is_new`, the scheduler is asked first.
    """
    assert wave.job_id is not None, "only a submitted wave has something to watch"
    job = _job(
        run,
        name=f"{wave.job_name}-sentinel",
        wave=wave.id,
        after=(Dependency(After.ANY, wave.job_id),),
        title=f"sentinel behind wave {wave.id} of run {run.run_id}",
    )
    try:
        # A second job of that name is put behind a wave that was requeued: the first is over then, and recorded.
        job_id = None if is_new else run.executor.find(job.name)
        if job_id is None or job_id == wave.sentinel_job_id:
            job_id = _submit(run, job, run.folder.sentinel_script(wave.id))
        run.store.record_sentinel(wave.id, job_id)
    except (SchedulerError, RenderError, ConfigError) as error:
        # The next dispatch tries again; until then the workers' own dispatch carries the run.
        log.warning("the sentinel behind job %s was not submitted: %s", wave.job_id, error)


def set_alarm(run: ActiveRun, *, by_alarm: bool = False) -> None:
    """See to it that a job of the run will try again what the scheduler has deferred.

    Nothing to do while a sentinel is in the queue, because it goes on trying. `by_alarm` says that the only job
    there may be is the one that calls. Where the scheduler takes not even this job, a person is told.
    """
    waves = run.store.list_waves(run.run_id, {WaveState.SUBMITTED})
    known = [wave.sentinel_job_id for wave in waves[-20:]] + [_read(run.folder.alarm)]
    try:
        if not by_alarm and _lives(run, [job_id for job_id in known if job_id]):
            return
        job = _job(
            run,
            name=f"reflow-alarm-{os.urandom(8).hex()}",
            wave=0,
            title=f"alarm of run {run.run_id}: nothing else of it is in the queue",
            begin_in=ALARM_SECONDS,
        )
        run.folder.alarm.write_text(_submit(run, job, run.folder.sentinel_script(0)), encoding="utf-8")
    except (SchedulerError, RenderError, ConfigError, OSError) as error:
        log.warning(
            "the scheduler takes no job of run %s now, so nothing of it is in the queue (%s): "
            "`reflow status %s` tries again",
            run.run_id,
            error,
            run.run_id,
        )


def cancel_alarm(run: ActiveRun) -> None:
    """Take the alarm of a run that needs none any more out of the queue."""
    job_id = _read(run.folder.alarm)
    if not job_id:
        return
    run.folder.alarm.unlink(missing_ok=True)
    try:
        status = run.executor.query([job_id]).get((job_id, None))
        # One that runs is perhaps this very process, and ends at once.
        if status is not None and status.status is JobStatus.PENDING:
            run.executor.cancel([job_id])
    except SchedulerError as error:
        log.warning("job %s, which has nothing to do any more, was not cancelled: %s", job_id, error)


def _lives(run: ActiveRun, job_ids: list[str]) -> bool:
    found = run.executor.query(job_ids) if job_ids else {}
    return any(not status.status.is_over for status in found.values())


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _submit(run: ActiveRun, job: Job, script: Path) -> str:
    """Submit a job that does no harm when there are two of it; of one that may be there, ask once."""
    try:
        return hand_over(run, job, script)
    except SubmitUnknown:
        found = run.executor.find(job.name)
        if found is None:
            raise
        return found


def _job(
    run: ActiveRun, *, name: str, wave: int, title: str, after: tuple[Dependency, ...] = (), begin_in: int = 0
) -> Job:
    asked = run.settings.dispatch_resources
    words = ("-m", "reflow.worker", "sentinel", str(run.manifest), run.run_id, str(wave))
    # A lost sentinel may start again at once: it does the same work any number of times.
    options = {"requeue": True, **asked["options"]}
    return Job(
        name=name,
        command=(run.settings.python, *words),
        resources=JobResources(asked["cpus"], asked["time"], asked["mem"], options),
        run_dir=Path(run.settings.run_dir),
        log=str(run.folder.sentinel_log(wave).relative_to(run.settings.run_dir)),
        working_dir=Path(run.settings.working_dir),
        after=after,
        title=title,
        begin_in=begin_in,
    )
