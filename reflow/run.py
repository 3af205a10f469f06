"""One run in the hands of a person: look at it, wait for it, cancel it, retry it, read its results and logs."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import codec, log
from .attention import LOOK_SECONDS, Attention
from .description import RunDescription, describe_run
from .errors import ManifestError, ReflowError, UnknownRunError, UnknownTaskError
from .failures import Commands
from .flow import TaskSpec
from .indices import Indices
from .logs import InstanceLogs, Log, follow
from .paths import RunFolder
from .plan import outdated_by_retry
from .spec import RunSettings
from .states import RunState, TaskState
from .status import ALL_CARDS, MOST_CARDS, RunStatus, collect
from .stores.records import RunRecord
from .stores.sqlite import SqliteStore
from .suggest import did_you_mean
from .wording import counts_text

if TYPE_CHECKING:
    from .damage import Damage, Retried
    from .explain import Explanation
    from .waiting import Reasons
    from .watching import Watcher


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
        found = self.current_status(task, most_cards=ALL_CARDS if errors or as_dict else MOST_CARDS)
        if as_dict:
            return found.to_public_dict(errors=errors)
        print("\n".join(line.text for line in found.lines(errors=errors)))
        return None

    def current_status(
        self, task: str | None = None, commands: Commands | None = None, *, most_cards: int = MOST_CARDS
    ) -> RunStatus:
        """Bring the manifest up to date with the workers and the scheduler, and read the status.

        `commands` tells how the person who looks calls reflow.
        """
        if task is not None:
            self._check_task(task)
        self.refresh()
        return self.read_status(task, commands, most_cards=most_cards)

    def read_status(
        self, task: str | None = None, commands: Commands | None = None, *, most_cards: int = MOST_CARDS
    ) -> RunStatus:
        """Read the status as the manifest has it, and bring nothing up to date."""
        commands = commands or Commands(self.run_id)
        return collect(
            self._store,
            self._record(),
            task,
            self._settings,
            commands,
            reasons=self._last_reasons(),
            most_cards=most_cards,
        )

    def watcher(self) -> Watcher:
        """Return what takes looks at this run."""
        from .watching import Watcher

        return Watcher(self._store, self.run_id, self._last_reasons)

    def _last_reasons(self) -> Reasons:
        """Return why slots of this run waited when somebody asked the scheduler last; asks nobody."""
        if self._settings is None or self._settings.local_process is not None:
            return {}
        from .asking import last_reasons

        return last_reasons(RunFolder(self._settings.run_dir, self.run_id))

    def attention(self) -> Attention:
        """Return what keeps the run going while somebody watches it."""
        return Attention(self._store, self.run_id, partial(self.refresh, watching=True))

    def description(self) -> RunDescription:
        """Return what the run was given and where it comes from; unlike the status it never changes."""
        return describe_run(self._record(), self._known_settings(), self._store.list_task_spec_records(self.run_id))

    def refresh(self, *, must: bool = False, watching: bool = False) -> None:
        """Merge what workers have reported, settle what they could not report, and dispatch what is due.

        With `must` the scheduler is asked although somebody asked it a moment ago; who is `watching` and comes again
        and again leaves alone for a while what it has not taken.
        """
        if self._store.readonly or self._settings is None:
            return
        try:
            self._store.merge()
        except ManifestError as error:
            # A full disk, mostly: published reports wait, and what is known can be shown.
            log.warning("%s", error)
            return
        if self.state is RunState.RUNNING:
            # They bring the executors, which a running task never needs.
            from .dispatch import current_user, open_run, settle
            from .local_run import settle_local

            if self._record().user_id != current_user():
                return  # her jobs are hers to ask about and to submit: the scheduler may hide them from us
            if self._settings.local_process is not None:
                settle_local(self._store, self.run_id, self._settings)
            else:
                settle(open_run(self._store, self.run_id), must=must, watching=watching)

    def explain(self, task: str, index: int | None = None) -> Explanation:
        """Return why one instance was computed and what has changed since, or whose result it took."""
        from .explain import explain
        from .reuse import Reuse

        self._check_task(task)
        self.refresh()
        reuse = Reuse.of_run(self._known_settings(), str(self._store.path), self._store, {})
        return explain(self._store, self.run_id, task, self._logs_of(task, index).instance(), reuse)

    def cancel(self, task: str | None = None) -> int:
        """Cancel everything that is not final, or of one task only; return the number of instances."""
        from .dispatch import cancel, open_run

        self._require_own("cancel")
        if task is not None:
            self._check_task(task)
        return cancel(open_run(self._store, self.run_id), task)

    def retry(self, task: str | None = None, verify: bool = True) -> int:
        """Submit the failed and cancelled instances again, and then what depends on them; return their number.

        Instances whose workers died count too: the scheduler is asked first. With `verify`, results that succeeded are
        looked at: those whose files are gone or changed, or that `verify=` of their task rejects, are made again, and
        so is what was made from them. Raises `RetryRefused` where only a new run can do that.
        """
        return self.retry_and_tell(task, verify).count

    def retry_and_tell(self, task: str | None = None, verify: bool = True) -> Retried:
        """Do what `retry` does, and return what was put back and why. `task` limits it to that task's own."""
        from .config import require_trust
        from .copies import changed_files
        from .damage import Retried, only_of, warn_of_other
        from .dispatch import LOCK_SECONDS, dispatch, open_run
        from .remaking import Remake
        from .stores.locking import hold

        self._require_own("retry")
        if task is not None:
            self._check_task(task)
        self.refresh(must=True)
        require_trust(self._store.path, "the manifest")  # it says what the new jobs run
        settings = self._known_settings()
        if self._record().results_only:
            raise ReflowError(
                f"of run '{self.run_id}' only the results were kept, for the cache; submit the workflow again, which "
                "takes what succeeded from them"
            )
        self._check_nothing_gets_outdated(task)
        specs = {each.task_name: each for each in self._store.list_task_spec_records(self.run_id)}
        damage = self._find_damage() if verify else {}
        warn_of_other(damage, task, specs)
        # A dispatcher at work has perhaps seen complete what is given up now, and would gather what is left of it.
        folder = RunFolder(self.run_dir, self.run_id)
        with hold(folder.dispatch_lock, timeout=LOCK_SECONDS) as held:
            if not held:
                raise ReflowError(f"another process is submitting jobs of run '{self.run_id}': retry when it is done")
            if settings.local_process is not None:
                # The process that ran it is gone or has ended; from now on it is a run of its scheduler's.
                self._settings = settings.without_local_process()
                self._store.update_run_settings(self.run_id, self._settings.to_json())
            chosen = only_of(damage, task)
            remake = self._store.remake(self.run_id, chosen) if chosen else Remake()
            count = self._store.retry(self.run_id, task)
        command = str(settings.provenance.get("command", ""))
        retried = Retried(self.run_id, count, remake, specs, changed_files(folder.code), command)
        if retried.count:
            dispatch(open_run(self._store, self.run_id), wait=True)
        return retried

    def damaged_results(self) -> dict[str, list[int | None]]:
        """Return by task the indices of results that are damaged: files gone or changed, or rejected by `verify=`."""
        arrays = {each.task_name: each.is_array for each in self._store.list_task_spec_records(self.run_id)}
        found: dict[str, list[int | None]] = {}
        for (task, _), indices in self._find_damage().items():
            found.setdefault(task, []).extend(indices if arrays[task] else [None])
        return found

    def _find_damage(self) -> Damage:
        from .damage import find_damage
        from .reuse import Reuse

        reuse = Reuse.of_run(self._known_settings(), str(self._store.path), self._store, {})
        return find_damage(self._store, self.run_id, reuse, self._trusted_tasks)

    def _trusted_tasks(self) -> Mapping[str, TaskSpec]:
        if self._tasks is None:
            from .config import require_trust

            code = self._known_settings().code
            if code["kind"] == "file":
                require_trust(Path(code["location"]), "the pipeline file")
        return self._known_tasks()

    def wait(self, timeout: float | None = None, progress: bool = False) -> RunState:
        """Return the final state once the run is settled; `TimeoutError` after `timeout` seconds.

        `progress` keeps a line on stderr up to date. Needs nothing but the manifest, and asks the scheduler ever
        more rarely.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        attention = self.attention()
        show: Callable[[], None] = _ProgressLine(self._store, self.run_id).show if progress else lambda: None
        while True:
            state = attention.look()
            show()
            if state is not RunState.RUNNING:
                if progress:
                    print(file=sys.stderr)
                return state
            left = LOOK_SECONDS if deadline is None else deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"run {self.run_id} is still {state} after {timeout} seconds")
            time.sleep(min(LOOK_SECONDS, left))

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

    def logs(self, task: str, index: int | None = None, attempt: int | None = None) -> str:
        """Return what one instance printed in its newest attempt or the one named, and what failed before it could."""
        return "\n".join(log.text().rstrip("\n") for log in self.log_files(task, index, attempt))

    def log_files(self, task: str, index: int | None = None, attempt: int | None = None) -> list[Log]:
        """Return the files that have what one instance printed; the logs of its wave when it has none."""
        logs = self._logs_of(task, index)
        self._store.merge()
        return logs.find(attempt)

    def why_no_log(self, task: str, index: int | None = None, attempt: int | None = None) -> str:
        """Return why `log_files` finds none."""
        return self._logs_of(task, index).why_none(attempt)

    def follow(
        self, task: str, index: int | None = None, attempt: int | None = None, *, tell: Callable[[str], None]
    ) -> Iterator[str]:
        """Yield what one instance prints until it has ended, through its retries unless an attempt is named.

        `tell` gets the lines that are not the instance's own: that it waits, begins another attempt, has ended.
        """
        return follow(self._logs_of(task, index), self.attention(), attempt, tell=tell)

    def _logs_of(self, task: str, index: int | None) -> InstanceLogs:
        self._check_task(task)
        return InstanceLogs(self._store, RunFolder(self.run_dir, self.run_id), task, index)

    def _record(self) -> RunRecord:
        record = self._store.get_run_record(self.run_id)
        if record is None:
            raise UnknownRunError(f"no run '{self.run_id}' in {self._store.path}: `reflow runs` lists the runs")
        return record

    def _require_own(self, verb: str) -> None:
        from .dispatch import current_user

        owner = self._record().user_id
        if self._settings is not None and owner != current_user():
            raise ReflowError(
                f"run '{self.run_id}' is {owner}'s: only {owner} can {verb} it, because its jobs run as {owner}"
            )

    def _known_settings(self) -> RunSettings:
        if self._settings is None:
            raise UnknownRunError(f"run '{self.run_id}' was recorded without a workflow: there is nothing to run")
        return self._settings

    def _known_tasks(self) -> Mapping[str, TaskSpec]:
        if self._tasks is None:
            from .code import CodeReference, load_tasks

            self._tasks = load_tasks(CodeReference.from_json(self._known_settings().code))
        return self._tasks

    def _check_nothing_gets_outdated(self, task: str | None) -> None:
        for gather, parent in outdated_by_retry(self._store.snapshot(self.run_id), task).items():
            raise ReflowError(
                f"task '{gather}' has run on what succeeded of '{parent}' (allow_partial), and a retry of '{parent}' "
                "would not change its result: submit a new run, which takes everything that is done from the cache"
            )

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
