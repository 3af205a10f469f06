"""One run in the hands of a person: look at it, wait for it, cancel it, retry it, read its results and logs."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from . import codec
from .errors import UnknownRunError, UnknownTaskError
from .flow import TaskSpec
from .indices import Indices
from .paths import RunFolder
from .spec import RunSettings
from .states import RunState, TaskState
from .status import RunStatus, collect, counts_text
from .stores.records import RunRecord, TaskInstanceRecord
from .stores.sqlite import SqliteStore
from .suggest import did_you_mean

#: How often `wait` looks at the manifest, and how often, at first and at most, it asks the scheduler, in seconds.
LOOK_SECONDS = 0.5
ASK_SECONDS = (5.0, 60.0)


class Run:
    """One execution of a workflow, found in the manifest by its id."""

    def __init__(self, run_id: str, store: SqliteStore, *, tasks: Mapping[str, TaskSpec] | None = None) -> None:
        self.run_id = run_id
        self._store = store
        self._tasks = tasks
        settings = self._record().settings
        self._settings = RunSettings.from_json(settings) if settings else None

    def __repr__(self) -> str:
        return f"<Run {self.run_id}>"

    @property
    def run_dir(self) -> Path:
        """The run directory."""
        return Path(self._known_settings().run_dir)

    @property
    def state(self) -> RunState:
        """The state of the run as the manifest has it now."""
        return self._record().status

    def status(self, task: str | None = None, as_dict: bool = False, errors: bool = False) -> dict[str, Any] | None:
        """Print the status of the run, or return it as a JSON-safe dict.

        `task` limits it to one task; `errors` adds the error texts.
        """
        found = self.current_status(task)
        if as_dict:
            return found.to_public_dict(errors=errors)
        print("\n".join(found.lines(errors=errors)))
        return None

    def current_status(self, task: str | None = None) -> RunStatus:
        """Bring the manifest up to date with the workers and the scheduler, and read the status."""
        if task is not None:
            self._check_task(task)
        self.refresh()
        return collect(self._store, self._record(), task)

    def refresh(self) -> None:
        """Merge what workers have reported, settle what they could not report, and dispatch what is due."""
        if self._store.readonly or self._settings is None:
            return
        self._store.merge()
        if self.state is RunState.RUNNING:
            from .dispatch import open_run, settle  # they bring the executors, which a running task never needs
            from .local_run import settle_local

            if self._settings.local_process is not None:
                settle_local(self._store, self.run_id, self._settings)
            else:
                settle(open_run(self._store, self.run_id))

    def cancel(self, task: str | None = None) -> int:
        """Cancel everything that is not final, or of one task only; return the number of instances."""
        from .dispatch import cancel, open_run

        if task is not None:
            self._check_task(task)
        return cancel(open_run(self._store, self.run_id), task)

    def retry(self, task: str | None = None, verify: bool = True) -> int:
        """Submit the failed and cancelled instances again, and then what depends on them; return their number.

        With `verify`, merge and ask the scheduler first, so that instances whose workers died count too.
        """
        from .dispatch import dispatch, open_run

        if task is not None:
            self._check_task(task)
        if verify:
            self.refresh()
        settings = self._known_settings()
        if settings.local_process is not None:
            # The process that ran it is gone or has ended; from now on it is a run of its scheduler's.
            self._settings = settings.without_local_process()
            self._store.update_run_settings(self.run_id, self._settings.to_json())
        count = self._store.retry(self.run_id, task)
        if count:
            dispatch(open_run(self._store, self.run_id), wait=True)
        return count

    def wait(self, timeout: float | None = None, progress: bool = False) -> RunState:
        """Return the final state once the run is settled; `TimeoutError` after `timeout` seconds.

        `progress` keeps a line on stderr up to date. Needs nothing but the manifest, and asks the scheduler ever
        more rarely.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        pause, longest = ASK_SECONDS
        ask_at = time.monotonic() + pause
        dispatch_at = 0.0
        show: Callable[[], None] = _ProgressLine(self._store, self.run_id).show if progress else lambda: None
        while True:
            self._store.merge()
            show()
            state = self.state
            if state is not RunState.RUNNING:
                if progress:
                    print(file=sys.stderr)
                return state
            now = time.monotonic()
            if deadline is not None and now >= deadline:
                raise TimeoutError(f"run {self.run_id} is still {state} after {timeout} seconds")
            if now >= ask_at or (now >= dispatch_at and self._store.dispatch_requested(self.run_id)):
                self.refresh()
                dispatch_at = time.monotonic() + ASK_SECONDS[0]  # a request stays while the scheduler takes no jobs
                pause = min(pause * 1.5, longest)
                ask_at = time.monotonic() + pause
            time.sleep(LOOK_SECONDS)

    def results(self, task: str) -> Any:
        """Return the output of a singleton, or the list of an array's outputs in index order, as Python values.

        Only what succeeded is there; a singleton that did not raises `UnknownTaskError`.
        """
        self._check_task(task)
        self._store.merge()
        found = self._store.outputs(self.run_id, task)
        returns = self._known_tasks()[task].signature.returns
        values = [codec.loads(text, returns) for _, text, _ in found]
        specification = self._store.get_task_spec_record(self.run_id, task)
        if specification is not None and specification.is_array:
            return values
        if not values:
            raise UnknownTaskError(f"task '{task}' of run '{self.run_id}' has no result: `reflow status` tells why")
        return values[0]

    def logs(self, task: str, index: int | None = None) -> str:
        """Return what one instance printed in its newest attempt, and what failed before it could."""
        return "\n".join(path.read_text(errors="replace").rstrip("\n") for path in self.log_files(task, index))

    def log_files(self, task: str, index: int | None = None) -> list[Path]:
        """Return the files that have what one instance printed; the log of the whole wave when it has none."""
        self._check_task(task)
        self._store.merge()
        instance = self._instance(task, index)
        folder = RunFolder(self.run_dir, self.run_id)
        own = folder.element_log(task, instance.array_index, instance.attempt)
        if own.exists():
            return [own]
        waves = [wave for wave in self._store.list_waves(self.run_id) if wave.task_name == task]
        logs = [folder.wave_log(wave.id, task) for wave in reversed(waves) if wave.job_id == instance.job_id]
        return [log for log in logs if log.exists()]

    def _instance(self, task: str, index: int | None) -> TaskInstanceRecord:
        instance = self._store.get_task_instance_record(self.run_id, task, index)
        if instance is None:
            width = self._store.count_task_instances(self.run_id, task)
            if index is None and width:
                raise UnknownTaskError(f"task '{task}' is an array: name an element, {task}[0] to {task}[{width - 1}]")
            name = task if index is None else f"{task}[{index}]"
            if not width:
                raise UnknownTaskError(
                    f"task '{task}' of run '{self.run_id}' has not started: `reflow status` tells why"
                )
            raise UnknownTaskError(f"run '{self.run_id}' has no instance {name}: '{task}' has {width} elements")
        return instance

    def _record(self) -> RunRecord:
        record = self._store.get_run_record(self.run_id)
        if record is None:
            raise UnknownRunError(f"no run '{self.run_id}' in {self._store.path}: `reflow runs` lists the runs")
        return record

    def _known_settings(self) -> RunSettings:
        if self._settings is None:
            raise UnknownRunError(f"run '{self.run_id}' was recorded without a workflow: there is nothing to run")
        return self._settings

    def _known_tasks(self) -> Mapping[str, TaskSpec]:
        if self._tasks is None:
            from .code import CodeReference, load_tasks

            self._tasks = load_tasks(CodeReference.from_json(self._known_settings().code))
        return self._tasks

    def _check_task(self, task: str) -> None:
        names = [each.task_name for each in self._store.list_task_spec_records(self.run_id)]
        if task not in names:
            hint = did_you_mean(task, names) or f" Its tasks are: {', '.join(names)}."
            raise UnknownTaskError(f"run '{self.run_id}' has no task '{task}'.{hint}")


class _ProgressLine:
    """One line on stderr that tells how far each task is."""

    def __init__(self, store: SqliteStore, run_id: str) -> None:
        self._store = store
        self._run_id = run_id
        self._shown = ""

    def show(self) -> None:
        """Print the line if it changed; over the last one on a terminal, below it elsewhere."""
        parts = []
        for task in self._store.summarize(self._run_id):
            if task.width is not None:
                done = task.counts.get(TaskState.SUCCESS, 0)
                rest = counts_text(
                    {state: task.counts.get(state, 0) for state in (TaskState.RUNNING, TaskState.FAILED)}
                )
                parts.append(f"{task.task_name} {done}/{task.width}" + (f" ({rest})" if rest else ""))
        line = "  ".join(parts)
        if line != self._shown:
            on_terminal = sys.stderr.isatty()
            print(f"\r\x1b[2K{line}" if on_terminal else line, end="" if on_terminal else "\n", file=sys.stderr)
            sys.stderr.flush()
            self._shown = line


def parse_instance(text: str) -> tuple[str, int | None]:
    """Read ``task`` or ``task[4711]``; raises `UnknownTaskError` on anything else."""
    name, bracket, rest = text.partition("[")
    if not bracket:
        return name, None
    try:
        (index,) = Indices.parse(rest.removesuffix("]"))
    except ValueError:
        raise UnknownTaskError(f"'{text}' names no instance: write task or task[index], such as {name}[3]") from None
    return name, index
