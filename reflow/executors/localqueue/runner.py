"""The process that runs a queue's jobs: ``python -m reflow.executors.localqueue.runner <folder>``.

There is one per queue; it ends when nothing runs and nothing can start, and every command starts it again. When it
is killed, the next one takes over the processes that still run. What is about to start is written down before it
starts, so nothing ever runs twice; a slot of which it cannot be known whether or how it ran ends as NODE_FAIL.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...clock import now
from ..base import JobStatus
from . import history as events
from . import processes
from .children import Child, start_slot
from .folder import JobFile, QueueFolder
from .history import LAUNCH_FAILURE, JobHistory, Outcome
from .planning import Place, Schedule
from .records import QueuedJob, QueueSettings, Strike

#: Asked at every start: what shall be brought upon this slot, if anything. Arguments: job, slot, restart count.
Fate = Callable[[QueuedJob, int, int], "Strike | None"]

_LAUNCH_FAILURE = Outcome(JobStatus.FAILED, 0, LAUNCH_FAILURE, "JobLaunchFailure")

#: How long the runner sleeps at most: forgetting old jobs and a removed folder need no haste.
_LONGEST_SLEEP = 30.0

#: How often a process is looked at that another runner started: its end wakes nobody.
_ADOPTED_POLL = 0.05


def no_fate(job: QueuedJob, slot: int, restart: int) -> Strike | None:
    """Bring nothing upon anybody."""
    return None


@dataclass
class _Running:
    """One slot that has a process."""

    file: JobFile
    slot: int
    child: Child
    #: The end brought upon it, once the process has been told; its own end counts no more.
    strike: Strike | None = None
    #: What fate has in store, and when (seconds since 1970); None: at its own end.
    fate: Strike | None = None
    fate_at: float | None = None
    kill_at: float | None = None
    #: Whether the process knows that its time limit is near.
    is_warned: bool = False


class Runner:
    """One runner; `run` returns when there is nothing to do or another runner is alive."""

    def __init__(self, folder: Path, fate: Fate = no_fate) -> None:
        self._folder = QueueFolder(folder)
        self._fate = fate
        self._files: dict[int, JobFile] = {}
        self._ended_files: dict[int, JobFile | None] = {}
        self._running: list[_Running] = []
        self._strays: list[Child] = []
        self._settings = QueueSettings(nodes={})
        self._schedule = Schedule({}, self._history)
        self._idle_since: float | None = None

    def run(self) -> None:
        """Run jobs until none is left that can."""
        with self._folder.locked():
            lock = self._folder.hold_runner_lock(processes.describe(os.getpid()))
        if lock is None:
            return
        alarm = processes.Alarm()
        wakeup = self._folder.open_wakeup()
        self._take_over()
        has_news = True
        while self._folder.exists():
            with self._folder.locked():
                if has_news:
                    self._read_news()
                self._record_ends()
                self._record_drops()
                places = self._record_begins()
                if self._is_idle(places):
                    # Still locked: a submit either wrote its job before this look, or will find no runner alive.
                    os.close(lock)
                    return
            self._start(places)
            self._bring_ends()
            readable = processes.wait_for_any([wakeup, alarm.reader], self._seconds_to_sleep())
            processes.drain(alarm.reader)
            has_news = wakeup in readable and processes.drain(wakeup)

    def _history(self, job_id: int) -> JobHistory | None:
        """Find an open job, or one that is over as it was when it was first asked for."""
        if job_id in self._files:
            return self._files[job_id].history
        if job_id not in self._ended_files:
            file = self._folder.open(job_id)
            if file is not None:
                file.refresh()
            self._ended_files[job_id] = file
        found = self._ended_files[job_id]
        return None if found is None else found.history

    def _take_over(self) -> None:
        """Continue what a runner before this one left: adopt what still runs, settle what does not."""
        with self._folder.locked():
            self._read_news()
            for file in list(self._files.values()):
                for slot, attempt in list(file.history.running.items()):
                    mark = self._mark(file.history.job, slot, attempt.restart)
                    pid = attempt.pid or processes.leader(mark)
                    known_birth = attempt.birth or (pid and processes.birth(pid))
                    child = None if pid is None or not known_birth else Child.adopt(pid, known_birth)
                    if child is None:
                        lost = Outcome(JobStatus.NODE_FAIL, reason="RunnerDied")
                        file.append([events.end(slot, now(), lost, requeue=False)])
                        continue
                    if attempt.pid is None:
                        file.append([events.process(slot, child.pid, child.birth)])
                    self._follow(file, slot, child)

    def _read_news(self) -> None:
        """Take in new jobs and what commands have written."""
        settings = self._folder.read_settings()
        if settings is not None and settings != self._settings:
            self._settings = settings
            self._schedule.nodes = settings.nodes
        for job_id in self._folder.live_ids():
            file = self._files.get(job_id) or self._folder.open(job_id)
            if file is None:
                self._folder.retire(job_id)
                continue
            is_new = job_id not in self._files
            self._files[job_id] = file
            self._ended_files.pop(job_id, None)
            if file.refresh() or is_new:
                # Conditions and holds may have changed: its slots are looked at afresh.
                self._schedule.add(file.history)
        self._retire_ended()

    def _retire_ended(self) -> None:
        for job_id, file in list(self._files.items()):
            if file.history.is_over:
                self._folder.retire(job_id)
                self._schedule.remove(job_id)
                self._ended_files[job_id] = self._files.pop(job_id)

    def _record_ends(self) -> None:
        """Write down which processes have ended, and which slots ended although their process goes on."""
        ended: dict[int, list[events.Event]] = {}
        still: list[_Running] = []
        for running in self._running:
            outlives = running.strike is not None and running.strike.outlives
            if not running.child.has_ended() and not outlives:
                still.append(running)
                continue
            if outlives:
                self._strays.append(running.child)
            outcome, requeue = self._outcome(running)
            job_id = running.file.history.job.id
            ended.setdefault(job_id, []).append(events.end(running.slot, now(), outcome, requeue))
        self._running = still
        self._strays = [stray for stray in self._strays if not stray.has_ended()]
        for job_id, lines in ended.items():
            self._files[job_id].append(lines)
        if ended:
            self._retire_ended()

    def _outcome(self, running: _Running) -> tuple[Outcome, bool]:
        strike = running.strike or (running.fate if running.fate_at is None else None)
        if strike is None:
            return running.child.outcome(), False
        signal_number = 125 if strike.status is JobStatus.OUT_OF_MEMORY else 0  # as Slurm shows it
        return Outcome(strike.status, 0, signal_number, strike.reason), strike.requeue

    def _record_drops(self) -> None:
        """Give up slots whose conditions can never hold; their followers' conditions then cannot hold either."""
        while lost := self._schedule.settle():
            for history, slots in lost:
                self._files[history.job.id].append([events.drop(slots, now())])
            self._retire_ended()

    def _record_begins(self) -> list[Place]:
        """Write down what is about to start."""
        places = self._schedule.startable()
        begun: dict[int, list[events.Event]] = {}
        new_ids = iter(self._folder.new_ids(len(places)) if places else ())
        for place in places:
            job = place.history.job
            lines = begun.setdefault(job.id, [])
            # The last element of an array to start has the array's own number, as in Slurm.
            is_last = len(place.history.tries) + len(lines) + 1 == len(place.history.slots)
            own = job.slots is None or (is_last and place.slot not in place.history.tries)
            raw_id = job.id if own else next(new_ids)
            lines.append(events.begin(place.slot, now(), raw_id, place.node))
        for job_id, lines in begun.items():
            self._files[job_id].append(lines)
        return places

    def _start(self, places: Sequence[Place]) -> None:
        written: dict[int, list[events.Event]] = {}
        for place in places:
            job = place.history.job
            attempt = place.history.running[place.slot]
            file = self._files[job.id]
            child = start_slot(self._folder, job, place.slot, attempt, self._mark(job, place.slot, attempt.restart))
            if child is None:
                failed = events.end(place.slot, now(), _LAUNCH_FAILURE, requeue=False)
                written.setdefault(job.id, []).append(failed)
                continue
            written.setdefault(job.id, []).append(events.process(place.slot, child.pid, child.birth))
            self._follow(file, place.slot, child)
        if not written:
            return
        with self._folder.locked():
            for job_id, lines in written.items():
                self._files[job_id].append(lines)
            self._retire_ended()

    def _follow(self, file: JobFile, slot: int, child: Child) -> None:
        attempt = file.history.running[slot]
        fate = self._fate(file.history.job, slot, attempt.restart)
        running = _Running(file, slot, child, fate=fate)
        if fate is not None and fate.delay is not None:
            running.fate_at = attempt.began / 1e6 + fate.delay
        self._running.append(running)

    def _bring_ends(self) -> None:
        """End the processes of slots that were cancelled or struck or ran out of time."""
        moment = time.time()
        for running in self._running:
            warning = self._warning(running)
            if warning is not None and moment >= warning:
                running.child.warn()
                running.is_warned = True
            due = self._due_strike(running, moment)
            if due is not None:
                running.strike = due
                if due.gentle:
                    running.child.ask_to_end()
                    running.kill_at = moment + self._settings.kill_wait
                elif not due.outlives:
                    running.child.kill()
            elif running.kill_at is not None and moment >= running.kill_at:
                running.child.kill()
                running.kill_at = None

    def _due_strike(self, running: _Running, moment: float) -> Strike | None:
        if running.strike is not None:
            return None
        struck = running.file.history.struck.get(running.slot)
        if struck is not None:
            return struck
        if running.fate is not None and running.fate_at is not None and moment >= running.fate_at:
            return running.fate
        deadline = self._deadline(running)
        if deadline is not None and moment >= deadline:
            return Strike(JobStatus.TIMEOUT, "TimeLimit", gentle=True)
        return None

    def _deadline(self, running: _Running) -> float | None:
        limit = running.file.history.time_limit
        return None if limit is None else running.file.history.running[running.slot].began / 1e6 + limit

    def _warning(self, running: _Running) -> float | None:
        """Return when the process is to be told that its time limit is near; None when it has been, or never is."""
        deadline, before = self._deadline(running), running.file.history.job.warn_before
        return None if running.is_warned or deadline is None or before is None else deadline - before

    def _is_idle(self, places: Sequence[Place]) -> bool:
        """Whether nothing runs and nothing could start, for as long as the runner lingers."""
        if places or self._running:
            self._idle_since = None
            return False
        moment = time.monotonic()
        if self._idle_since is None:
            self._idle_since = moment
            self._forget_old()
        return moment - self._idle_since >= self._settings.linger

    def _forget_old(self) -> None:
        oldest = time.time() - self._settings.keep
        live = set(self._folder.live_ids())
        old = [each for each in self._folder.all_ids() if each not in live and self._folder.changed_at(each) < oldest]
        if old:
            self._folder.forget(old)

    def _seconds_to_sleep(self) -> float:
        moment = time.time()
        times = [moment + _LONGEST_SLEEP]
        for running in self._running:
            if running.child.is_adopted:
                times.append(moment + _ADOPTED_POLL)
            if running.strike is None:
                struck = running.slot in running.file.history.struck
                coming = (running.fate_at, self._deadline(running), self._warning(running))
                times += [when for when in coming if when is not None]
                times += [moment] if struck else []
            elif running.strike.outlives:
                times.append(moment)
            if running.kill_at is not None:
                times.append(running.kill_at)
        if self._idle_since is not None:
            times.append(moment + self._settings.linger - (time.monotonic() - self._idle_since))
        return max(0.0, min(times) - moment)

    def _mark(self, job: QueuedJob, slot: int, restart: int) -> str:
        return f"{self._folder.path}:{job.id}:{slot}:{restart}:"


def prepare_process() -> None:
    """Give back to this process what the shell that detached it has changed."""
    # A shell's background process ignores both, and so would every script.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    os.environ.pop(processes.MARK, None)
    os.chdir("/")


if __name__ == "__main__":
    prepare_process()
    Runner(Path(sys.argv[1])).run()
