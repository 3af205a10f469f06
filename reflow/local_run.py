"""Run a whole workflow here: the same wave files, worker code, reports and dispatch as on a cluster.

With one worker the elements run in the calling process, so breakpoints, coverage and monkeypatching work; with more,
in that many worker processes, each taking many slots.
"""

from __future__ import annotations

import os
import select
import shlex
import socket
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import clock
from .active import ActiveRun
from .dispatch import dispatch
from .executors.base import Executor, Job, SlotKey, SlotStatus
from .executors.commands import Conversation
from .indices import Indices
from .signals import Interruption
from .spec import RunSettings
from .states import RunState, TaskState
from .stores.base import EngineStore
from .stores.records import Failure, Report
from .waves import WaveFile
from .worker import run_slots

_ONE = Indices([0])


@dataclass(frozen=True)
class LocalWave:
    """A submitted wave that waits for a worker."""

    path: str
    slots: Indices
    #: At most this many workers at the same time.
    throttle: int | None
    #: A failure is perhaps tried again, so it is no reason to stop.
    may_retry: bool


class DirectExecutor(Executor):
    """Keeps submitted waves for the caller to run."""

    name = "direct"
    follows_elements = False
    needs_sentinel = False
    packs = False

    def __init__(self) -> None:
        self.waves: deque[LocalWave] = deque()
        self._count = 0

    def render(self, job: Job) -> str:
        """Return a script that runs one slot by hand, for a person who wants to."""
        return f'#!/bin/bash\ncd -- {shlex.quote(str(job.working_dir))}\nexec {shlex.join(job.command)} "${{1:-0}}"\n'

    def submit(self, script: Path, job: Job) -> str:
        """Keep the wave and return an id."""
        self._count += 1
        wave = WaveFile(job.command[-1])
        may_retry = wave.header.plan.config.retries > 0
        wave.close()
        self.waves.append(LocalWave(job.command[-1], job.slots or _ONE, job.throttle, may_retry))
        return f"direct-{os.getpid()}-{self._count}"

    def find(self, job_name: str) -> str | None:
        """Return None: a wave that this process does not remember was not kept."""
        return None

    def cancel(self, job_ids: Sequence[str], slots: Mapping[str, Indices] | None = None) -> None:
        """Forget all waves; the only caller is the run that they belong to."""
        self.waves.clear()

    def query(self, job_ids: Sequence[str]) -> Mapping[SlotKey, SlotStatus]:
        """Return nothing: no one but the caller knows."""
        return {}

    def settings(self) -> dict[str, object]:
        """Return nothing to remember."""
        return {}


def this_process() -> dict[str, Any]:
    """Return what tells this process apart from all others: host, pid and the time at which it began."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "began": _began(os.getpid())}


def run_to_the_end(run: ActiveRun, executor: DirectExecutor, *, max_workers: int, stop_on_failure: bool) -> None:
    """Dispatch and run until nothing is left; with `stop_on_failure` until the first failure."""
    workers = _InProcess(run) if max_workers == 1 else _Processes(run, max_workers)
    try:
        dispatch(run, wait=True)
        while executor.waves:
            waves = list(executor.waves)
            executor.waves.clear()
            failures = workers.run(waves, stop_on_failure=stop_on_failure)
            run.store.merge(wait=True)
            if failures and stop_on_failure:
                _let_go(run, RunState.FAILED)
                return
            run.store.request_dispatch(run.run_id)
            dispatch(run, wait=True)
            if stop_on_failure and any(task.within(TaskState.FAILED) for task in run.store.snapshot(run.run_id).tasks):
                # Dispatch has tried again what may be.
                _let_go(run, RunState.FAILED)
                return
    except BaseException:  # (also an interrupt from the keyboard: the record must not say RUNNING)
        run.store.merge(wait=True)
        _let_go(run, RunState.CANCELLED)
        raise
    finally:
        workers.close()


def settle_local(store: EngineStore, run_id: str, settings: RunSettings) -> None:
    """Settle a local run whose process is gone; one that lives, or lived on another host, is left alone."""
    process = settings.local_process or {}
    if process.get("host") != socket.gethostname() or _began(process["pid"]) == process["began"]:
        return
    words = f"process {process['pid']}, which ran this workflow locally, is gone"
    store.apply(
        [
            Report(each.instance, each.attempt, TaskState.FAILED, clock.now(), error=words, failure=Failure.LOST)
            for each in store.list_in_flight(run_id)
        ]
    )
    store.finish_run(run_id, RunState.FAILED)


def _let_go(run: ActiveRun, status: RunState) -> None:
    """Put what was submitted and will not run back to waiting, and give the run its status."""
    for task in run.store.snapshot(run.run_id).tasks:
        indices = task.within(TaskState.SUBMITTED, TaskState.RUNNING)
        if indices:
            run.store.release(run.run_id, task.plan.name, indices)
    run.store.finish_run(run.run_id, status)


def _began(pid: int) -> str | None:
    """Return when a process of this host began, in clock ticks since boot, or None when there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The command in parentheses may hold anything, so count from its end; field 22 is the start.
    return stat.rpartition(")")[2].split()[19]


class _InProcess:
    """Runs slots in the calling process, one after the other."""

    def __init__(self, run: ActiveRun) -> None:
        self._run = run
        self._interruption = Interruption()

    def run(self, waves: Sequence[LocalWave], *, stop_on_failure: bool) -> int:
        """Run the waves in order and return the number of failures that are not tried again."""
        failures = 0
        for wave in waves:
            stops = stop_on_failure and not wave.may_retry
            _, failed = run_slots(
                WaveFile(wave.path), wave.slots, self._interruption, stop_on_failure=stops, own_logs=False
            )
            failures += 0 if wave.may_retry else failed
            if failures and stop_on_failure:
                break
        return failures

    def close(self) -> None:
        """Do nothing: there is no process to end."""


@dataclass
class _Worker:
    """One worker process and what it is doing."""

    process: Conversation
    wave: LocalWave | None = None
    slots: Indices = field(default_factory=Indices)


class _Processes:
    """Runs slots in several worker processes that live as long as the run."""

    #: Pieces per worker that a wave is cut into, so that slow elements do not leave the others idle.
    _PIECES = 8
    #: Most slots that a worker gets at once.
    _MOST = 500

    def __init__(self, run: ActiveRun, count: int) -> None:
        self._run = run
        self._count = count
        self._workers: list[_Worker] = []

    def run(self, waves: Sequence[LocalWave], *, stop_on_failure: bool) -> int:
        """Run the waves, as many slots at a time as there are workers.

        Returns the number of failures that are not tried again.
        """
        pieces = deque(piece for wave in waves for piece in self._cut(wave))
        failures = 0
        while True:
            if failures and stop_on_failure:
                pieces.clear()
            self._give(pieces, stop_on_failure)
            busy = [worker for worker in self._workers if worker.wave is not None]
            if not busy:
                return failures
            ready, _, _ = select.select([worker.process for worker in busy], [], [])
            for worker in busy:
                if worker.process in ready:
                    failures += self._answer(worker, pieces)

    def close(self) -> None:
        """End the worker processes."""
        for worker in self._workers:
            if worker.wave is not None:
                worker.process.terminate()
        for worker in self._workers:
            worker.process.close()

    def _cut(self, wave: LocalWave) -> list[tuple[LocalWave, Indices]]:
        size = max(1, min(self._MOST, len(wave.slots) // (self._count * self._PIECES)))
        pieces, rest = [], wave.slots
        while rest:
            pieces.append((wave, rest.first(size)))
            rest = rest - pieces[-1][1]
        return pieces

    def _give(self, pieces: deque[tuple[LocalWave, Indices]], stop_on_failure: bool) -> None:
        """Hand pieces to idle workers, no more of a wave than its throttle allows."""
        held = []
        while pieces:
            wave, slots = pieces.popleft()
            at_work = sum(worker.wave is wave for worker in self._workers)
            worker = self._idle() if wave.throttle is None or at_work < wave.throttle else None
            if worker is None:
                held.append((wave, slots))
                if self._idle() is None:
                    break
                continue
            worker.wave, worker.slots = wave, slots
            path = wave.path.encode("unicode_escape").decode()
            worker.process.say(f"{slots} {int(stop_on_failure and not wave.may_retry)} {path}")
        pieces.extendleft(reversed(held))

    def _idle(self) -> _Worker | None:
        for worker in self._workers:
            if worker.wave is None:
                return worker
        if len(self._workers) < self._count:
            self._workers.append(_Worker(_start_worker(self._run)))
            return self._workers[-1]
        return None

    def _answer(self, worker: _Worker, pieces: deque[tuple[LocalWave, Indices]]) -> int:
        """Read what became of a worker's piece; return the number of failures that are not tried again."""
        line = worker.process.hear()
        wave, slots = worker.wave, worker.slots
        assert wave is not None, "only a busy worker is read"
        worker.wave = None
        if line:
            return 0 if wave.may_retry else int(line.split()[1])
        self._workers.remove(worker)
        return self._settle_death(worker, wave, slots, pieces)

    def _settle_death(
        self, worker: _Worker, wave: LocalWave, slots: Indices, pieces: deque[tuple[LocalWave, Indices]]
    ) -> int:
        """Fail the element in which a worker process died; where several are silent, give each of them out alone.

        Reports are published in batches, so the elements that were done just before the death are silent as well.
        """
        code = worker.process.close()
        self._run.store.merge(wait=True)
        file = WaveFile(wave.path)
        silent = {each.instance: each for each in self._run.store.list_in_flight(self._run.run_id)}
        left = [(slot, record) for slot, record in file.records(slots) if record.instance in silent]
        if len(left) != 1:
            pieces.extendleft((wave, Indices([slot])) for slot, _ in reversed(left))
            return 0
        ((_, culprit),) = left
        words = f"signal {-code}" if code < 0 else f"exit code {code}"
        self._run.store.apply(
            [
                Report(
                    culprit.instance,
                    culprit.attempt,
                    TaskState.FAILED,
                    clock.now(),
                    node=socket.gethostname(),
                    error=f"the worker process ended with {words} while it ran this element",
                    failure=Failure.EXIT,
                    exit_code=code if code > 0 else None,
                    signal=-code if code < 0 else None,
                )
            ]
        )
        return 0 if wave.may_retry else 1


def _start_worker(run: ActiveRun) -> Conversation:
    return Conversation([sys.executable, "-m", "reflow.worker", "serve"], cwd=Path(run.settings.working_dir))
