"""Hand the waves that are reserved to the scheduler, each once, whatever it answers."""

from __future__ import annotations

import time
from dataclasses import replace
from enum import Enum
from pathlib import Path

from . import log
from .active import ActiveRun
from .errors import (
    ConfigError,
    RenderError,
    SchedulerError,
    SubmitDeferred,
    SubmitOverLimit,
    SubmitRefused,
    SubmitTooLarge,
    SubmitUnknown,
)
from .executors.base import Job
from .jobs import job_of
from .spec import TaskPlan
from .stores.records import WaveRecord
from .wave_files import write_wave_file

#: How often a submit is tried that was not answered, and how long after the first question the scheduler is asked
#: a second time whether it has the job, in seconds.
SUBMIT_TRIES = 3
ASK_AGAIN_SECONDS = 2.0


class Launched(Enum):
    """What became of a wave's submit."""

    #: The scheduler has it, or has refused it for good.
    DONE = "done"
    #: The scheduler takes fewer at once: its intent was given up, and its instances are free again.
    SMALLER = "smaller"
    #: The same because of the size of the array, which is known better now.
    AGAIN = "again"
    #: A limit on queued jobs is met, and it cannot be smaller.
    FULL = "full"
    #: The scheduler takes no jobs now.
    LATER = "later"


def launch(run: ActiveRun, wave: WaveRecord, plan: TaskPlan, *, is_new: bool) -> Launched:
    """Submit a wave whose intent is recorded.

    An intent that an earlier dispatcher left behind may have been submitted: the scheduler is asked for its name
    before anything is submitted again.
    """
    if not is_new:
        try:
            known = wave.job_id or _find(run, wave)  # the id, where not all instances were marked yet
        except SubmitDeferred as error:
            log.warning("task '%s' waits: %s", plan.name, error)
            return Launched.LATER
        if known is None and run.store.wave_is_known_to_run(wave.id):
            # Its workers have reported, so it was submitted; the scheduler forgot it before anyone asked.
            known = f"forgotten-{wave.job_name}"
        if known is not None:
            _record(run, wave, known)
            return Launched.DONE
    followed = set(wave.after_waves)
    parents = [each.job_id for each in run.store.list_waves(run.run_id) if each.id in followed] if followed else []
    write_wave_file(run, wave, plan)
    job = job_of(run, wave, plan, [job for job in parents if job is not None])
    try:
        job_id = _submit_surely(run, wave, job, run.folder.script(wave.id, plan.name))
    except SubmitRefused as error:
        if wave.resources.exclude:
            # Perhaps no node is left. One that failed before is better than none.
            return launch(run, replace(wave, resources=replace(wave.resources, exclude=())), plan, is_new=True)
        return _refuse(run, wave, error)
    except (RenderError, ConfigError) as error:  # a wrong option or template never gets right by itself
        return _refuse(run, wave, error)
    except SubmitDeferred as error:
        if _may_be_smaller(run, wave, error):
            run.store.withdraw_wave(wave.id)
            return Launched.AGAIN if isinstance(error, SubmitTooLarge) else Launched.SMALLER
        log.warning("task '%s' waits, because the scheduler takes no more jobs now: %s", plan.name, error)
        return Launched.FULL if isinstance(error, SubmitOverLimit) else Launched.LATER
    _record(run, wave, job_id)
    return Launched.DONE


def _may_be_smaller(run: ActiveRun, wave: WaveRecord, error: SubmitDeferred) -> bool:
    if wave.slots is None or len(wave.slots) == 1:
        return False
    if isinstance(error, SubmitTooLarge):
        # The limit was changed, or could not be asked for when the wave was made.
        largest = run.executor.limits().max_array_size
        return largest is not None and wave.slots.ranges[-1][1] > largest
    return isinstance(error, SubmitOverLimit)


def _refuse(run: ActiveRun, wave: WaveRecord, error: Exception) -> Launched:
    run.store.refuse_wave(wave.id, f"task '{wave.task_name}' was refused by the scheduler: {error}")
    return Launched.DONE


def _submit_surely(run: ActiveRun, wave: WaveRecord, job: Job, script: Path) -> str:
    """Submit and return the job id; where it is not known whether the job was accepted, ask for its name first.

    Raises what `Executor.submit` raises, but `SubmitDeferred` in place of `SubmitUnknown`.
    """
    for _ in range(SUBMIT_TRIES):
        try:
            return hand_over(run, job, script)
        except SubmitUnknown as error:
            problem = error
            # A controller that was too busy to answer may still have the request before it.
            for pause in (0.0, ASK_AGAIN_SECONDS):
                time.sleep(pause)
                found = _find(run, wave)
                if found is not None:
                    return found
    raise SubmitDeferred(f"{SUBMIT_TRIES} tries to submit the job were not answered: {problem}")


def hand_over(run: ActiveRun, job: Job, script: Path) -> str:
    """Write the job's script, submit it and return the job id; raises what `Executor.submit` raises."""
    script.parent.mkdir(parents=True, exist_ok=True)
    (job.run_dir / job.log).parent.mkdir(parents=True, exist_ok=True)  # Slurm fails a job whose log has no folder
    script.write_text(run.executor.render(job), encoding="utf-8")
    return run.executor.submit(script, job)


def _find(run: ActiveRun, wave: WaveRecord) -> str | None:
    """Return the wave's job, None when it was not accepted; `SubmitDeferred` while that cannot be known."""
    try:
        return run.executor.find(wave.job_name)
    except SchedulerError as error:
        raise SubmitDeferred(f"the scheduler cannot be asked whether it has the job: {error}") from error


def _record(run: ActiveRun, wave: WaveRecord, job_id: str) -> None:
    if not run.store.record_submission(wave.id, job_id):
        run.executor.cancel([job_id])  # the run was cancelled while its job was being submitted
