"""What a person is told about a run: collected once, shown by `Run.status`, by `wait` and by the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from . import clock
from .failures import LAST_LINES, Commands, FailureCard, FailureGroup, group_alike, headline
from .logs import InstanceLogs
from .paths import RunFolder
from .spec import JobConfig, RunSettings, TaskPlan
from .states import RunState, TaskState
from .stores.records import RunRecord, TaskInstanceRecord, TaskSummary
from .stores.sqlite import SqliteStore
from .waiting import Reasons, Wait, find_waits
from .wording import Line, Tone, counts_text, duration_text, shortened

#: How many failed instances are read in full; of the others the indices are enough.
MOST_FAILURES = 20

#: How many failed instances are read in short, to see which of them fail alike.
MOST_GROUPED = 20_000

#: How many groups get a card with everything; of the others there is a line.
MOST_CARDS = 5

#: How many get one where all is asked for.
ALL_CARDS = 100

_BAR = 24
# The end of a log that is read for its last lines, in bytes.
_LOG_TAIL = 8_192


@dataclass(frozen=True)
class RunStatus:
    """One run as a person asks for it."""

    run: RunRecord
    tasks: tuple[TaskSummary, ...]
    #: The first failed instances, by task and index, at most `MOST_FAILURES`.
    failures: tuple[TaskInstanceRecord, ...]
    #: The failures by how they failed, with all that tells why.
    cards: tuple[FailureCard, ...] = ()
    #: Groups that have no card.
    further: tuple[FailureGroup, ...] = ()
    #: What a run that is not over waits for.
    waits: tuple[Wait, ...] = ()
    commands: Commands = field(default_factory=lambda: Commands("RUN_ID"))

    def to_public_dict(self, *, errors: bool = False) -> dict[str, Any]:
        """Return a JSON-safe dict; `errors` adds the error texts of the failed instances."""
        return {
            **self.run.to_public_dict(),
            "tasks": {task.task_name: _task_dict(task) for task in self.tasks},
            "failures": [_failure_dict(each, errors=errors) for each in self.failures],
            "cards": [card.to_public_dict() for card in self.cards],
            "waits": [wait.to_public_dict() for wait in self.waits],
        }

    def lines(self, *, errors: bool = False) -> list[Line]:
        """Return the status as lines of text."""
        width = max((len(task.task_name) for task in self.tasks), default=0)
        return [
            Line(f"{self.run.run_id}  {self.run.status}"),
            *(Line(f"  {task.task_name:<{width}}  {task_line(task, self.run.status)}") for task in self.tasks),
            *self.lines_below(errors=errors),
        ]

    def lines_below(self, *, errors: bool = False) -> list[Line]:
        """Return what stands below the tasks' own lines: what the run waits for, and what failed and why."""
        lines = [Line(f"  {task.task_name}: {task.error}", Tone.BAD) for task in self.tasks if task.error]
        lines += [Line(f"  {wait.line.text}", wait.line.tone) for wait in self.waits]
        for card in self.cards:
            lines += card.lines(errors=errors)
        lines += [Line(f"  {line.text}", line.tone) for line in map(headline, self.further)]
        if self.further and not errors:
            lines.append(Line(f"  all that is known of these: {self.commands.status('--errors')}", Tone.QUIET))
        grouped = [*(card.group for card in self.cards), *self.further]
        unread = sum(task.counts.get(TaskState.FAILED, 0) for task in self.tasks)
        unread -= sum(len(group.indices) for group in grouped)
        if unread > 0:
            lines.append(Line(f"  ... and {unread} more failures", Tone.BAD))
        return lines


def collect(
    store: SqliteStore,
    run: RunRecord,
    task: str | None,
    settings: RunSettings | None,
    commands: Commands,
    *,
    reasons: Reasons | None = None,
    most_cards: int = MOST_CARDS,
) -> RunStatus:
    """Read the status of a run, or of one of its tasks; `reasons` are why slots wait."""
    tasks = tuple(each for each in store.summarize(run.run_id) if task in (None, each.task_name))
    groups = group_alike(store.looks.failures(run.run_id, task, limit=MOST_GROUPED))
    return RunStatus(
        run,
        tasks,
        tuple(store.list_task_instance_records(run.run_id, task, {TaskState.FAILED}, limit=MOST_FAILURES)),
        tuple(_card(store, group, settings, commands) for group in groups[:most_cards]),
        tuple(groups[most_cards:]),
        tuple(waits_of(store, run, tasks, reasons or {})),
        commands,
    )


def waits_of(store: SqliteStore, run: RunRecord, tasks: Sequence[TaskSummary], reasons: Reasons) -> list[Wait]:
    """Return what a run that is not over waits for."""
    if run.status is not RunState.RUNNING:
        return []
    specs = store.list_task_spec_records(run.run_id)
    return find_waits(tasks, specs, store.list_waves(run.run_id), reasons, now=clock.now())


def _card(store: SqliteStore, group: FailureGroup, settings: RunSettings | None, commands: Commands) -> FailureCard:
    example = store.looks.instance(group.first.instance)
    assert example is not None, "a failed instance is not removed while its run is looked at"
    spec = store.get_task_spec_record(example.run_id, example.task_name)
    config = _config(spec.config) if spec else None
    log, log_lines = _log_of(store, example, settings)
    return FailureCard(
        group=group,
        example=example,
        earlier=tuple(store.list_attempts(example.id)),
        asked=_asked(config, example) if config and settings and settings.local_process is None else None,
        tries=1 if config is None else 1 + config.retries,
        log=log,
        log_lines=log_lines,
        commands=commands,
    )


def _config(plan: Mapping[str, Any]) -> JobConfig | None:
    """Return what the decorator was told; None for a task that was not recorded by `submit`."""
    return TaskPlan.from_json(plan).config if "config" in plan else None


def _asked(config: JobConfig, example: TaskInstanceRecord) -> JobConfig:
    """Return what the example's newest attempt asked for: perhaps more than its task says."""
    return replace(config, mem=example.asked_mem or config.mem, time=example.asked_time or config.time)


def _log_of(
    store: SqliteStore, example: TaskInstanceRecord, settings: RunSettings | None
) -> tuple[str | None, tuple[str, ...]]:
    """Return the path of the example's log and its last lines, without the traceback that the error has anyhow."""
    if settings is None:
        return None, ()
    folder = RunFolder(settings.run_dir, example.run_id)
    found = InstanceLogs(store, folder, example.task_name, example.array_index).find()
    for log in found:
        text = _tail(log.path) if log.own else log.text()
        for error in (example.error_text or "", "Traceback (most recent call last):"):
            text = text.rpartition(error)[0] if error and error in text else text
        lines = [line for line in text.splitlines() if line.strip()]
        if lines:
            return str(log.path), tuple(lines[-LAST_LINES:])
    return (str(found[0].path) if found else None), ()


def _tail(path: Path) -> str:
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - _LOG_TAIL))
        return file.read().decode(errors="replace")


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
    if task.retried:
        remarks.append(f"{task.retried} tried again")
    if task.cached:
        remarks.append(f"{task.cached} cached")
    remarks.append(duration_text(task.started_at, task.finished_at))
    return "  ".join(remark for remark in remarks if remark)


def _task_dict(task: TaskSummary) -> dict[str, Any]:
    return {
        "array": task.is_array,
        "width": task.width,
        "counts": {state.value: count for state, count in task.counts.items() if count},
        "failed": str(task.failed),
        "cached": task.cached,
        "retried": task.retried,
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
