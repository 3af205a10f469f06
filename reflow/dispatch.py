"""One pass of planning and submitting, whoever runs it: submit, a worker, a sentinel or a command line call.

Whoever needs a dispatch first notes a request in the manifest, then tries the run's dispatch lock. The holder clears
the note before it looks, and looks again after it let go, so that no request is lost while any process lives.
"""

from __future__ import annotations

import os
import pwd
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from . import deferring, log
from .active import ActiveRun
from .asking import WORKERS_WAIT_SECONDS, is_due, put_off
from .code import unpickle_object
from .errors import ReflowError, SchedulerError, UnknownRunError
from .executors import create
from .executors.base import Executor
from .expanding import expand
from .flow import TaskSpec
from .jobs import reserve_waves
from .launch import Launched, launch
from .paths import RunFolder
from .plan import Expand, Finish, PlanStep, Release, Retry, RunSnapshot, Submit, next_steps
from .reconcile import reconcile
from .room import fit, refill_at
from .sentinels import cancel_alarm, set_alarm, submit_sentinel
from .spec import RunSettings, TaskPlan
from .states import RunState, TaskState
from .stores.locking import hold
from .stores.records import WaveState
from .stores.sqlite import SqliteStore

#: How long a sentinel keeps trying to submit what the scheduler defers, within its own time limit of half an hour,
#: and how long it pauses at first and at most, in seconds.
DEFERRED_SECONDS = 1_500.0
DEFERRED_PAUSES = (2.0, 60.0)

#: How long a sentinel pauses at most between two questions that are not answered, in seconds: less than what Slurm
#: takes to notice that a job is over its time limit.
LONGEST_SILENCE = 10.0

#: How long the jobs of a new run are left alone, in seconds.
FIRST_QUESTION_SECONDS = 5.0

_FREE_AGAIN = frozenset({Launched.SMALLER, Launched.AGAIN})

#: How long a sentinel or a command waits for another dispatcher of the same run, in seconds.
LOCK_SECONDS = 600.0


def current_user() -> str:
    """Return the name of the user that this process runs as; the number where the system has no name."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def open_run(
    store: SqliteStore, run_id: str, executor: Executor | None = None, tasks: Mapping[str, TaskSpec] | None = None
) -> ActiveRun:
    """Return the run with its parts; the executor is the one it was submitted with unless another is given.

    `tasks` are the user's, where this process has loaded them.
    """
    record = store.get_run_record(run_id)
    if record is None:
        raise UnknownRunError(f"no run '{run_id}' in {store.path}: `reflow runs` lists the runs")
    if not record.settings:
        raise ReflowError(f"run '{run_id}' was recorded without a workflow: there is nothing to dispatch")
    settings = RunSettings.from_json(record.settings)
    chosen = executor or _executor_of(settings, run_id)
    return ActiveRun(run_id, settings, store, chosen, Path(store.path), tasks=tasks or {})


def _executor_of(settings: RunSettings, run_id: str) -> Executor:
    if settings.executor_settings.get("pickled"):
        executor: Executor = unpickle_object(RunFolder(settings.run_dir, run_id).code / "executor.pickle")
        return executor
    return create(settings.executor, settings.executor_settings)


def dispatch(run: ActiveRun, *, wait: bool = False) -> bool:
    """Do all that the run needs now; return False when another dispatcher holds the lock and will look again.

    With `wait`, wait for that other dispatcher, because nobody might follow it when it dies.
    """
    while True:
        with hold(run.folder.dispatch_lock, timeout=LOCK_SECONDS if wait else 0.0) as held:
            if not held:
                return False
            run.store.take_dispatch_request(run.run_id)
            done = False
            try:
                done = _advance(run)
            finally:
                if done:
                    deferring.forget(run.folder)
                else:  # whatever the reason, one that looks later must try again
                    deferring.note(run.folder)
                    run.store.request_dispatch(run.run_id)
        if not done or not run.store.dispatch_requested(run.run_id):
            return True


def dispatch_requested(store: SqliteStore) -> None:
    """Dispatch every run of this user that asked for it: whoever merged may have merged for other runs."""
    user = current_user()
    for run_id in store.list_dispatch_requests():
        record = store.get_run_record(run_id)
        if record is None or record.user_id != user or not record.settings or record.settings["local_process"]:
            continue  # a local run is dispatched by the process that runs it
        try:
            dispatch(open_run(store, run_id))
        except ReflowError as error:
            log.warning("run %s was not dispatched from here: %s", run_id, error)


def look_after(store: SqliteStore, run_id: str) -> None:
    """Settle what the workers of a run could not report, if nobody has asked for a while; dispatch if that changed it.

    Workers that have done their own do it, because the sentinel comes only when the slowest of their wave has ended.
    """
    run = open_run(store, run_id)
    if is_due(run.folder, WORKERS_WAIT_SECONDS) and reconcile(run):
        store.request_dispatch(run_id)
        dispatch(run)


def watch_over(store: SqliteStore, run_id: str, wave_id: int) -> None:
    """Do a sentinel's work: settle the wave's silent instances, dispatch, and stay behind what is still running."""
    run = open_run(store, run_id)
    store.merge(wait=True)
    _ask_until_answered(run)
    store.request_dispatch(run_id)
    dispatch(run, wait=True)
    _wait_for_room(run)
    snapshot = store.snapshot(run_id)
    if any(wave.id == wave_id and wave.job_id for task in snapshot.tasks for wave in task.waves):
        # A requeued element runs again although the job that we waited for was over.
        wave = next(each for each in store.list_waves(run_id) if each.id == wave_id)
        if snapshot.status is RunState.RUNNING:
            submit_sentinel(run, wave, is_new=False)


def _ask_until_answered(run: ActiveRun) -> None:
    """Reconcile, and while the scheduler does not answer try again: perhaps nobody else is left to do it.

    No limit of our own ends that. A controller that is down enforces none, and one that is back has half a minute's
    patience with who is over the time. It may be the account that is down: so an alarm is set while there is time.
    """
    deadline, pause = time.monotonic() + DEFERRED_SECONDS, DEFERRED_PAUSES[0]
    while True:
        try:
            reconcile(run, must=True)
            return
        except SchedulerError as error:
            log.warning("the scheduler could not be asked; again in %.0f s: %s", pause, error)
        if time.monotonic() > deadline:
            set_alarm(run, by_alarm=True)
            deadline += DEFERRED_SECONDS
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_SILENCE)


def _wait_for_room(run: ActiveRun) -> None:
    """Go on trying what the scheduler defers, because perhaps no other job of the run is left to do it.

    One sentinel is enough. Each is a job in the queue, and several of them could keep out the very job they wait for.
    """
    deadline, pause = time.monotonic() + DEFERRED_SECONDS, DEFERRED_PAUSES[0]
    with hold(run.folder.patience_lock) as alone:
        while alone and run.store.dispatch_requested(run.run_id):
            if time.monotonic() > deadline:
                set_alarm(run, by_alarm=True)
                return
            time.sleep(pause)
            pause = min(2 * pause, DEFERRED_PAUSES[1])
            dispatch(run, wait=True)


def _advance(run: ActiveRun) -> bool:
    """Perform the plan's steps until there are none, with the dispatch lock held.

    Returns False when the scheduler takes no more jobs now and something is left to submit.
    """
    run.common.clear()  # what was common at an earlier pass may have been retried since
    snapshot = run.store.snapshot(run.run_id)
    if snapshot.status is not RunState.RUNNING:
        return True
    orphans = {wave.id for wave in run.store.list_waves(run.run_id) if wave.sentinel_job_id is None}
    cap, is_capped = run.settings.max_submit_jobs, False
    outcome = _launch_intents(run, snapshot)
    previous: tuple[PlanStep, ...] = ()
    while outcome is Launched.DONE:
        snapshot = run.store.snapshot(run.run_id)
        wanted = next_steps(snapshot, follow_elements=run.executor.follows_elements)
        steps, is_capped = fit(wanted, snapshot, cap)
        if not steps or steps == previous:
            outcome = Launched.FULL if is_capped else outcome
            break
        # Every step is tried: what the scheduler defers for one task, it may take for another.
        outcome = _worst([_perform(run, snapshot, step) for step in steps])
        previous = steps
    put_off(run.folder, FIRST_QUESTION_SECONDS)
    snapshot = run.store.snapshot(run.run_id)
    _put_sentinels(run, snapshot, orphans)
    in_flight = sum(len(task.within(TaskState.SUBMITTED, TaskState.RUNNING)) for task in snapshot.tasks)
    if outcome is Launched.FULL and in_flight:
        # Who ends as the last of a quarter of them goes on. Until then nobody need try.
        full = cap if is_capped and cap is not None else in_flight
        run.store.hold_back(run.run_id, min(refill_at(full), in_flight - 1))
        return True
    if outcome is not Launched.DONE and run.executor.needs_sentinel:
        set_alarm(run)
    return outcome is Launched.DONE


def _worst(outcomes: Sequence[Launched]) -> Launched:
    order = (Launched.LATER, Launched.FULL, Launched.DONE)
    return min(outcomes, key=order.index, default=Launched.DONE)


def _perform(run: ActiveRun, snapshot: RunSnapshot, step: PlanStep) -> Launched:
    """Do one step."""
    if isinstance(step, Finish):
        run.store.finish_run(run.run_id, step.status)
        cancel_alarm(run)
        return Launched.DONE
    plan = next(task.plan for task in snapshot.tasks if task.plan.name == step.task)
    match step:
        case Expand():
            expand(run, plan, {task.plan.name: task.width for task in snapshot.tasks})
        case Retry(indices=indices):
            run.store.try_again(run.run_id, step.task, indices)
        case Release(indices=indices):
            run.store.release(run.run_id, step.task, indices)
        case Submit():
            return _submit(run, step, plan)
    return Launched.DONE


def _submit(run: ActiveRun, step: Submit, plan: TaskPlan) -> Launched:
    """Submit what the step names, or as much of it as the scheduler takes, found by halving."""
    size = len(step.indices)
    again = 0
    while True:
        waves = reserve_waves(run, replace(step, indices=step.indices.first(size)), plan)
        outcomes: list[Launched] = []
        for wave in waves:
            if _FREE_AGAIN.isdisjoint(outcomes):
                outcomes.append(launch(run, wave, plan, is_new=True))
            else:
                run.store.withdraw_wave(wave.id)
        if Launched.AGAIN in outcomes and again < 2:
            if Launched.DONE in outcomes:
                return Launched.DONE  # the next look plans the rest
            again += 1
        elif _FREE_AGAIN.isdisjoint(outcomes):
            # Where fewer were taken, it is full for now.
            return _worst(outcomes) if size == len(step.indices) else _worst([*outcomes, Launched.FULL])
        elif Launched.DONE in outcomes or size == 1:
            return Launched.FULL
        else:
            size //= 2


def _launch_intents(run: ActiveRun, snapshot: RunSnapshot) -> Launched:
    """Finish what a dispatcher that died, or that was told to come later, left undone."""
    plans = {task.plan.name: task.plan for task in snapshot.tasks}
    intents = run.store.list_waves(run.run_id, {WaveState.INTENT})
    outcomes = [launch(run, wave, plans[wave.task_name], is_new=False) for wave in intents]
    # What may be smaller is free again, and planned anew.
    return _worst([each for each in outcomes if each not in _FREE_AGAIN])


def _put_sentinels(run: ActiveRun, snapshot: RunSnapshot, orphans: Collection[int]) -> None:
    """Put a sentinel behind every wave that has none; `orphans` were there before, and may have one unrecorded."""
    if not run.executor.needs_sentinel or snapshot.status is not RunState.RUNNING:
        return
    live = {wave.id for task in snapshot.tasks for wave in task.waves}
    for wave in run.store.list_waves(run.run_id, {WaveState.SUBMITTED}):
        if wave.id in live and wave.sentinel_job_id is None:
            submit_sentinel(run, wave, is_new=wave.id not in orphans)


def settle(run: ActiveRun, *, must: bool = False, watching: bool = False) -> None:
    """Bring the manifest up to the truth: merge, ask the scheduler if the last answer is old, dispatch what is due.

    With `must` the scheduler is asked in any case. Who is only `watching` leaves alone for a while what it has not
    taken. Never fails because of the scheduler: what the manifest knows is shown all the same.
    """
    run.store.merge()
    try:
        if reconcile(run, must=must) or (
            (not watching or deferring.is_due(run.folder)) and run.store.dispatch_requested(run.run_id)
        ):
            run.store.request_dispatch(run.run_id)
            dispatch(run)
    except SchedulerError as error:
        log.warning("the scheduler could not be asked: %s", error)


def cancel(run: ActiveRun, task: str | None = None) -> int:
    """Cancel what is not final, in the manifest first and then at the scheduler; return how many instances.

    The lock keeps a dispatcher from submitting at the same time; one that is stuck does not stop a cancel, because it
    sees the run's status when it records its submission.
    """
    with hold(run.folder.dispatch_lock, timeout=30.0):
        run.store.merge()
        waves = [wave for wave in run.store.list_waves(run.run_id) if task in (None, wave.task_name)]
        in_flight = {each.job_id for each in run.store.list_in_flight(run.run_id)}
        count = run.store.cancel(run.run_id, task)
        if task is None:
            cancel_alarm(run)
        jobs: set[str | None] = {wave.job_id for wave in waves if wave.job_id in in_flight}
        if task is None:
            jobs |= {wave.sentinel_job_id for wave in waves if wave.job_id in in_flight}
        try:
            jobs |= {run.executor.find(wave.job_name) for wave in waves if wave.state is WaveState.INTENT}
            known = sorted(job for job in jobs if job)
            if known:
                run.executor.cancel(known)
        except SchedulerError as error:
            # Recorded is recorded: what still starts finds its instance cancelled. But a person should know.
            log.warning("the scheduler could not be told to cancel the jobs of %s: %s", run.run_id, error)
    if task is not None:
        run.store.request_dispatch(run.run_id)
        dispatch(run)
    return count
