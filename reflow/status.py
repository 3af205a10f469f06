"""What a person is told about a run: collected once, shown by `Run.status`, by `wait` and by the command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from . import clock
from .indices import Indices
from .states import RANK, RunState, TaskState
from .stores.base import EngineStore
from .stores.records import RunRecord, TaskInstanceRecord, TaskSummary

#: How many failed instances are read in full; of the others the indices are enough.
MOST_FAILURES = 20

_BAR = 24


@dataclass(frozen=True)
class RunStatus:
    """One run as a person asks for it."""

    run: RunRecord
    tasks: tuple[TaskSummary, ...]
    #: The first failed instances, by task and index, at most `MOST_FAILURES`.
    failures: tuple[TaskInstanceRecord, ...]

    def to_public_dict(self, *, errors: bool = False) -> dict[str, Any]:
        """Return a JSON-safe dict; `errors` adds the error texts of the failed instances."""
        return {
            **self.run.to_public_dict(),
            "tasks": {task.task_name: _task_dict(task) for task in self.tasks},
            "failures": [_failure_dict(each, errors=errors) for each in self.failures],
        }

    def lines(self, *, errors: bool = False) -> list[str]:
        """Return the status as plain text lines."""
        lines = [f"{self.run.run_id}  {self.run.status}"]
        width = max((len(task.task_name) for task in self.tasks), default=0)
        lines += [f"  {task.task_name:<{width}}  {task_line(task, self.run.status)}" for task in self.tasks]
        lines += [f"  {task.task_name}: {task.error}" for task in self.tasks if task.error]
        for failure in self.failures:
            lines.append(f"  {failure_line(failure)}")
            if errors and failure.error_text:
                lines += [f"    {line}" for line in failure.error_text.splitlines()]
        unread = sum(task.counts.get(TaskState.FAILED, 0) for task in self.tasks) - len(self.failures)
        if unread > 0:
            lines.append(f"  ... and {unread} more failures")
        return lines


def collect(store: EngineStore, run: RunRecord, task: str | None = None) -> RunStatus:
    """Read the status of a run, or of one of its tasks."""
    tasks = tuple(each for each in store.summarize(run.run_id) if task in (None, each.task_name))
    failures = store.list_task_instance_records(run.run_id, task, {TaskState.FAILED}, limit=MOST_FAILURES)
    return RunStatus(run, tasks, tuple(failures))


def task_line(task: TaskSummary, run: RunState) -> str:
    """Return a bar, the counts, the failed indices and the duration of one task."""
    if task.width is None:
        return unexpanded_text(task, run)
    done = task.counts.get(TaskState.SUCCESS, 0)
    filled = _BAR if task.width == 0 else _BAR * done // task.width
    return f"[{'#' * filled}{'.' * (_BAR - filled)}] {done}/{task.width}  {remarks_text(task)}".rstrip()


def unexpanded_text(task: TaskSummary, run: RunState) -> str:
    """Return why a task has no instances."""
    if task.error:
        return "cannot go on"
    return "waiting" if run is RunState.RUNNING else "not run"


def remarks_text(task: TaskSummary) -> str:
    """Return the counts of what is not done, the failed indices, how many were cached, and the duration."""
    counts: dict[TaskState, int] = {
        state: count for state, count in task.counts.items() if state is not TaskState.FAILED
    }
    remarks = [counts_text(counts)]
    if task.counts.get(TaskState.FAILED):
        which = f" [{shortened(task.failed)}]" if task.is_array else ""
        remarks.append(f"{task.counts[TaskState.FAILED]} failed{which}")
    if task.cached:
        remarks.append(f"{task.cached} cached")
    remarks.append(duration_text(task.started_at, task.finished_at))
    return "  ".join(remark for remark in remarks if remark)


def counts_text(counts: Mapping[TaskState, int]) -> str:
    """Return the counts of all states but SUCCESS, in the order of a life."""
    shown = sorted(
        (state for state in counts if state is not TaskState.SUCCESS and counts[state]), key=RANK.__getitem__
    )
    return " ".join(f"{counts[state]} {state.lower()}" for state in shown)


def duration_text(started_at: int | None, finished_at: int | None) -> str:
    """Return how long something took, or takes until now; '' before it began."""
    if started_at is None:
        return ""
    seconds = max(0, (finished_at or clock.now()) - started_at) / 1e6
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s"


def shortened(indices: Indices, most: int = 60) -> str:
    """Return the indices as ranges, cut at a comma when they are long."""
    text = str(indices)
    if len(text) <= most:
        return text
    return f"{text[:most].rpartition(',')[0]},... {len(indices)} in all"


def failure_line(failure: TaskInstanceRecord) -> str:
    """Return one line about a failed instance: which, why, where, and the last line of its error."""
    name = failure.task_name if failure.array_index is None else f"{failure.task_name}[{failure.array_index}]"
    how = [str(failure.failure or "FAILED")]
    if failure.signal:
        how.append(f"signal {failure.signal}")
    if failure.exit_code:
        how.append(f"exit code {failure.exit_code}")
    if failure.node:
        how.append(f"on {failure.node}")
    if failure.attempt > 1:
        how.append(f"attempt {failure.attempt}")
    if failure.started_at and failure.finished_at:
        how.append(
            "after " + duration_text(clock.from_datetime(failure.started_at), clock.from_datetime(failure.finished_at))
        )
    last = (failure.error_text or "").strip().splitlines()[-1:]
    return f"{name}: {', '.join(how)}" + (f": {last[0]}" if last else "")


def _task_dict(task: TaskSummary) -> dict[str, Any]:
    return {
        "array": task.is_array,
        "width": task.width,
        "counts": {state.value: count for state, count in task.counts.items() if count},
        "failed": str(task.failed),
        "cached": task.cached,
        "error": task.error,
        "started_at": None if task.started_at is None else clock.to_datetime(task.started_at).isoformat(),
        "finished_at": None if task.finished_at is None else clock.to_datetime(task.finished_at).isoformat(),
    }


def _failure_dict(failure: TaskInstanceRecord, *, errors: bool) -> dict[str, Any]:
    public = failure.to_public_dict()
    shown = ("task_name", "array_index", "attempt", "failure", "exit_code", "signal", "node", "job_id")
    card = {name: public[name] for name in (*shown, "started_at", "finished_at")}
    card["failure"] = None if failure.failure is None else str(failure.failure)
    if errors:
        card["error_text"] = failure.error_text
    return card
