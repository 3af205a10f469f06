"""A queue of jobs on this machine: arrays, throttles, dependencies and time limits, run as real processes."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ...clock import now
from ...errors import SchedulerError
from ...indices import Indices
from ..base import JobStatus
from ..commands import run
from . import history as events
from . import processes
from .folder import QueueFolder
from .history import Event, JobHistory
from .planning import Standing, standing
from .records import ConditionKind, QueuedJob, QueueSettings, Strike

#: The command that runs a queue; its folder is the last word.
RUNNER = (sys.executable, "-m", "reflow.executors.localqueue.runner")

#: What `LocalQueue.cancel` brings upon running slots.
CANCEL = Strike(JobStatus.CANCELLED, gentle=True)

_PACKAGE_ROOT = Path(__file__).resolve().parents[3]


class LocalQueue:
    """The queue in one folder. Any number of processes of this machine may use it at once.

    A runner, detached from whoever starts it, runs the scripts and ends when nothing is left to run. Whatever is
    asked of the queue while jobs are open starts a new one when it has died.
    """

    def __init__(self, folder: Path, settings: QueueSettings, runner: Sequence[str] = RUNNER) -> None:
        # Resolved, because processes are found again by this path.
        self._folder = QueueFolder(folder.resolve())
        self._settings = settings
        self._runner = tuple(runner)

    @property
    def path(self) -> Path:
        """The queue's folder."""
        return self._folder.path

    def submit(self, job: QueuedJob, script: bytes, environment: Mapping[str, str]) -> int:
        """Add a job and return its id; `job.id` and `job.submitted` are replaced by the queue's own."""
        self._folder.create()
        with self._folder.locked():
            if self._folder.read_settings() != self._settings:
                self._folder.write_settings(self._settings)
            (job_id,) = self._folder.new_ids(1)
            self._folder.add(replace(job, id=job_id, submitted=now()), script, environment)
        self.keep_running()
        return job_id

    def apply_settings(self) -> None:
        """Let the queue's settings count from now on, not only from the next submit."""
        self._folder.create()
        with self._folder.locked():
            self._folder.write_settings(self._settings)
        self.keep_running()

    def find(self, name: str) -> list[int]:
        """Return the ids of the jobs submitted under that name, oldest first."""
        return self._folder.find(name)

    def history(self, job_id: int) -> JobHistory | None:
        """Return what became of a job, None when it is not known."""
        file = self._folder.open(job_id)
        if file is None:
            return None
        file.refresh()
        return file.history

    def histories(self, job_ids: Sequence[int] | None = None) -> Iterator[JobHistory]:
        """Yield what became of these jobs (None for all), oldest first, leaving out unknown ones."""
        for job_id in self._folder.all_ids() if job_ids is None else job_ids:
            found = self.history(job_id)
            if found is not None:
                yield found

    def ids(self) -> list[int]:
        """Return the ids of all jobs that are not forgotten, oldest first."""
        return self._folder.all_ids()

    def open_ids(self) -> list[int]:
        """Return the ids of the jobs that the runner has not found to be over, oldest first."""
        return self._folder.live_ids()

    def changed_at(self, job_id: int) -> float:
        """Return when something last happened to a job, in seconds since 1970; 0 when it is forgotten."""
        return self._folder.changed_at(job_id)

    def last_id(self) -> int:
        """Return the newest id that was given out, 0 when there is none."""
        return self._folder.last_id()

    def standing(self, history: JobHistory, slot: int) -> Standing:
        """Return whether a job's conditions let this waiting slot of it start."""
        is_first = True
        if any(condition.kind is ConditionKind.SINGLETON for condition in history.conditions):
            older = (job_id for job_id in self.open_ids() if job_id < history.job.id)
            is_first = not any(
                other.name == history.name and not other.is_over for other in self.histories(list(older))
            )
        return standing(history, slot, self.history, is_first)

    def cancel(self, job_id: int, slots: Indices | None = None, how: Strike = CANCEL) -> None:
        """End these slots (None for all): waiting ones at once, running ones soon. Ended ones stay as they are."""
        self._write(job_id, events.strike(slots, now(), how))

    def hold(self, job_id: int, slots: Indices | None = None, held: bool = True) -> None:
        """Keep waiting slots (None for the whole job) from starting, or let go of them again."""
        self._write(job_id, events.hold(slots, held))

    def change(self, job_id: int, **values: object) -> None:
        """Change a job's ``throttle``, ``time_limit``, ``name``, ``conditions`` or ``any_condition``."""
        self._write(job_id, events.change(**values))

    def requeue(self, job_id: int, slots: Indices | None = None, reason: str = "Requeued") -> None:
        """Let running and ended slots (None for all) start again."""
        found = self.history(job_id)
        if found is None:
            return
        chosen = found.slots if slots is None else slots
        stop = Strike(JobStatus.CANCELLED, reason, gentle=True, requeue=True)
        self._write(job_id, events.strike(chosen & Indices(found.running), now(), stop), events.again(chosen))

    def tell(self, job_id: int, signal_number: int, slots: Indices | None = None) -> None:
        """Send a signal to the scripts' own processes of running slots (None for all)."""
        found = self.history(job_id)
        for slot, attempt in {} if found is None else found.running.items():
            if (slots is None or slot in slots) and attempt.pid and processes.birth(attempt.pid) == attempt.birth:
                processes.tell(attempt.pid, signal_number)

    def keep_running(self) -> None:
        """Wake the runner, or start one when jobs are open and none is alive."""
        if not self._folder.exists():
            return
        with self._folder.locked():
            if not self._folder.live_ids():
                return
            is_alive = self._folder.has_runner()
        if is_alive:
            self._folder.wake_runner()
        else:
            self._start_runner()

    def stop(self, seconds: float = 10.0) -> None:
        """End the runner and every process that its jobs have started; nothing of the queue's files changes.

        Raises `SchedulerError` when something still lives after `seconds`.
        """
        if not self._folder.exists():
            return
        deadline = time.monotonic() + seconds
        while living := self._living():
            for pid in living:
                processes.tell(pid, signal.SIGKILL)
            if time.monotonic() > deadline:
                raise SchedulerError(f"processes of the queue '{self.path}' do not end: {living}")
            time.sleep(0.01)

    def runner_pid(self) -> int | None:
        """Return the process id of the runner, None when none is alive."""
        return processes.pid_of(self._folder.runner_process())

    def _living(self) -> list[int]:
        """The runner first: while it lives it starts others."""
        runner = self.runner_pid()
        return [runner] if runner is not None else list(processes.marked(f"{self.path}:"))

    def _write(self, job_id: int, *lines: Event) -> None:
        with self._folder.locked():
            file = self._folder.open(job_id)
            if file is None:
                return
            file.refresh()
            file.append(list(lines))
            if not file.history.is_over:
                self._folder.revive(job_id)
        self.keep_running()

    def _start_runner(self) -> None:
        """Start a runner that outlives this process. The shell between leaves no zombie to whoever submits."""
        detach = f'{shlex.join([*self._runner, str(self.path)])} </dev/null >>"$0" 2>&1 &'
        environment = {name: value for name, value in os.environ.items() if name != processes.MARK}
        # reflow may have been found through sys.path alone.
        paths = [str(_PACKAGE_ROOT), *filter(None, [environment.get("PYTHONPATH")])]
        environment["PYTHONPATH"] = os.pathsep.join(paths)
        said = run(["sh", "-c", detach, str(self._folder.runner_log)], timeout=30, env=environment)
        if said.code != 0:
            raise SchedulerError(f"the runner of '{self.path}' could not be started: {said.words}")
