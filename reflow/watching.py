"""What somebody who watches a run sees: one look at a time, as text that a terminal and a log file share."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from . import clock, log
from .errors import ManifestError, UnknownRunError
from .failures import FailureGroup, group_alike, headline, newest_failures
from .states import IN_FLIGHT, RunState, TaskState
from .status import MOST_GROUPED, remarks_text, unexpanded_text, waits_of
from .stores.records import RunningInstance, RunRecord, TaskSummary
from .stores.sqlite import SqliteStore
from .waiting import Reasons, Wait
from .wording import Line, Tone, duration_text, moment_text

#: How often a look is taken, and at most how much of the time looks may take: a manifest with a million instances is
#: not to be read all the time.
LOOK_SECONDS = 1.0
SHARE_OF_TIME = 0.2

#: How often lines are written where nobody sees a screen: more rarely the longer it lasts, in seconds.
LONGEST_PAUSE = 15.0

#: How many of the newest ways to fail are shown.
NEWEST = 4


@dataclass(frozen=True)
class Look:
    """One look at a run."""

    run: RunRecord
    tasks: tuple[TaskSummary, ...]
    #: By task, the instance that runs longest.
    longest: Mapping[str, RunningInstance]
    #: The failures by how they failed, newest first.
    failures: tuple[FailureGroup, ...]
    waits: tuple[Wait, ...]

    @property
    def is_over(self) -> bool:
        """Whether nothing more happens without a person."""
        return self.run.status is not RunState.RUNNING

    @property
    def age(self) -> str:
        """How long ago the run was created."""
        return duration_text(clock.from_datetime(self.run.created_at))

    def remarks(self, task: TaskSummary) -> str:
        """Return what is told of a task behind its bar."""
        if task.width is None:
            return unexpanded_text(task, self.run.status)
        longest = self.longest.get(task.task_name)
        if longest is None:
            return remarks_text(task)
        which = "" if longest.array_index is None else f" [{longest.array_index}]"
        return f"{remarks_text(task)}  longest{which} {duration_text(longest.started_at)}"

    def lines_below(self) -> list[Line]:
        """Return what stands below the tasks: why some cannot go on, what it waits for, the newest failures."""
        lines = [Line(f"{task.task_name}: {task.error}", Tone.BAD) for task in self.tasks if task.error]
        lines += [wait.line for wait in self.waits]
        lines += [headline(group) for group in self.failures[:NEWEST]]
        if len(self.failures) > NEWEST:
            rest = sum(len(group.indices) for group in self.failures[NEWEST:])
            lines.append(Line(f"... and {rest} that failed in {len(self.failures) - NEWEST} other ways", Tone.BAD))
        return lines

    def fitting(self, rows: int) -> tuple[list[TaskSummary], str]:
        """Return the tasks that fit in so many rows, in their order, and words for the others: '' if there are none.

        First to go are tasks that are complete, then those that have not begun.
        """
        if len(self.tasks) <= rows:
            return list(self.tasks), ""
        shown = sorted(self.tasks, key=_importance)[: max(0, rows - 1)]
        names = {task.task_name for task in shown}
        hidden = [task for task in self.tasks if task.task_name not in names]
        complete = sum(_is_complete(task) for task in hidden)
        words = f"{complete} tasks complete" if complete else ""
        others = len(hidden) - complete
        return [task for task in self.tasks if task.task_name in names], ", ".join(
            part for part in (words, f"{others} other tasks" if others else "") if part
        )

    def changes(self, before: Look | None) -> list[str]:
        """Return a line for each thing that is different from the look before, all of it after none."""
        then = {task.task_name: task for task in before.tasks} if before else {}
        told = {wait.line.text for wait in before.waits} if before else set()
        known = {_key(group) for group in before.failures} if before else set()
        lines = [
            f"{task.task_name} {task.counts.get(TaskState.SUCCESS, 0)}/{task.width}  {remarks_text(task)}".rstrip()
            for task in self.tasks
            if task.width is not None and (task.task_name not in then or task.counts != then[task.task_name].counts)
        ]
        lines += [f"{task.task_name}: {task.error}" for task in self.tasks if task.error and not _had(then, task)]
        lines += [headline(group).text for group in reversed(self.failures) if _key(group) not in known]
        # Counts of what waits change with every start; the tasks' own lines tell of that.
        lines += [wait.line.text for wait in self.waits if wait.stuck and wait.line.text not in told]
        if before is None or self.run.status is not before.run.status:
            lines.append(f"{self.run.run_id} {self.run.status}")
        at = moment_text(clock.now())
        return [f"{at}  {line}" for line in lines]


class Watcher:
    """Takes looks at a run; somebody else attends it."""

    def __init__(
        self,
        store: SqliteStore,
        run_id: str,
        last_reasons: Callable[[], Reasons],
    ) -> None:
        """Watch a run; `last_reasons` returns why slots waited when somebody asked the scheduler last."""
        self._store = store
        self._run_id = run_id
        self._last_reasons = last_reasons
        self._failed_of: object = None
        self._failures: tuple[FailureGroup, ...] = ()
        self._last: Look | None = None
        self._cost = 0.0

    def look(self) -> Look:
        """Look as the manifest has it; as it had it last while it cannot be read, which is logged."""
        began = time.monotonic()
        try:
            self._last = self._read()
        except ManifestError as error:
            if self._last is None:
                raise
            log.warning("%s", error)
        self._cost = time.monotonic() - began
        return self._last

    def _read(self) -> Look:
        run = self._store.get_run_record(self._run_id)
        if run is None:
            raise UnknownRunError(f"run '{self._run_id}' is no longer in {self._store.path}: it was removed")
        tasks = tuple(self._store.summarize(self._run_id))
        # Reading and grouping 20,000 failures takes 0.2 s, so they are read when there are others than before.
        failed_of = tuple((task.task_name, task.failed, task.finished_at) for task in tasks if task.failed)
        if failed_of != self._failed_of:
            failures = self._store.looks.failures(self._run_id, limit=MOST_GROUPED)
            self._failures, self._failed_of = tuple(newest_failures(group_alike(failures))), failed_of
        return Look(
            run=run,
            tasks=tasks,
            longest={each.task_name: each for each in self._store.looks.longest_running(self._run_id)},
            failures=self._failures,
            waits=tuple(waits_of(self._store, run, tasks, self._last_reasons())),
        )

    @property
    def pause(self) -> float:
        """How long to wait for the next look, in seconds."""
        return max(LOOK_SECONDS, self._cost * (1 / SHARE_OF_TIME - 1))


def _importance(task: TaskSummary) -> int:
    if task.error or task.counts.get(TaskState.FAILED) or any(task.counts.get(state) for state in IN_FLIGHT):
        return 0
    return 2 if _is_complete(task) else 1


def _is_complete(task: TaskSummary) -> bool:
    return task.counts.get(TaskState.SUCCESS, 0) == task.width


def _had(then: Mapping[str, TaskSummary], task: TaskSummary) -> bool:
    return task.task_name in then and then[task.task_name].error == task.error


def _key(group: FailureGroup) -> tuple[object, ...]:
    return group.task_name, group.first.instance, group.first.attempt, group.newest_at
