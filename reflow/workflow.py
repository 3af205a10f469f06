"""A flow that can run: what a pipeline file creates, and the facade of everything else."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from . import clock, code, codec
from .deferred import dataclass, replace
from .errors import CodecError, ConfigError, PipelineError, ReflowError
from .fingerprints import Fingerprints
from .flow import Flow
from .forms import type_parts, version_code
from .parameters import bind_parameters, encoded_arguments, run_parameters
from .paths import RunFolder, safe_name
from .reuse import files_of
from .signature import ParameterKind
from .spec import RunSettings, TaskPlan
from .states import RunState
from .suggest import did_you_mean

if TYPE_CHECKING:
    from .config import Config
    from .executors.base import Executor
    from .forecast import TaskForecast
    from .run import Run
    from .sources import TaskCode
    from .stores.sqlite import SqliteStore


@dataclass(frozen=True)
class Submission:
    """How a run is to be executed, without the values of its parameters."""

    run_dir: Path
    force: bool = False
    force_tasks: tuple[str, ...] = ()
    verify: bool = False


class Workflow(Flow):
    """A flow that can run. Create it at the top level of a file, so that workers can find it again.

    `config` is a `Config`, or the path of a configuration file; by default the user's own is read when it is needed.
    """

    def __init__(self, name: str, config: Config | Path | str | None = None) -> None:
        super().__init__(name)
        self._given_config = config
        # The file in which this very line's caller stands, not sys.argv[0]: any workflow can run.
        self._module_globals: Mapping[str, Any] = sys._getframe(1).f_globals

    @property
    def config(self) -> Config:
        """The configuration this workflow runs with; read from its file at each access."""
        from .config import Config, load_config

        return self._given_config if isinstance(self._given_config, Config) else load_config(self._given_config)

    @property
    def file(self) -> Path | None:
        """The file in which the workflow was created; None for a notebook or an interactive session."""
        file = self._module_globals.get("__file__")
        return Path(file).resolve() if isinstance(file, str) and os.path.isfile(file) else None

    def validate(self) -> None:
        """Check names, order, wiring and parameters; raises `ValueError` or `TypeError` with what to write instead."""
        self._validated_plans()

    def describe(self) -> dict[str, Any]:
        """Return a JSON-safe description: name, entrypoint, python, working_dir, tasks, cli_params."""
        from .description import describe_parameters, describe_tasks

        return {
            "name": self.name,
            "entrypoint": None if self.file is None else str(self.file),
            "python": self.config.python,
            "working_dir": os.getcwd(),
            "tasks": describe_tasks(self._plans(), self.tasks),
            "cli_params": describe_parameters(run_parameters(list(self.tasks.values()))),
        }

    def submit(
        self,
        /,
        run_dir: Path | str,
        *,
        store: SqliteStore | Path | str | None = None,
        executor: Executor | str | None = None,
        force: bool = False,
        force_tasks: Sequence[str] | None = None,
        verify: bool = False,
        **parameters: Any,
    ) -> Run:
        """Create a run, hand over what can start now, and return; from then on the run moves by itself.

        `executor` is an object or a name, by default what the configuration says. `force` recomputes everything,
        `force_tasks` those tasks, although earlier results are known. Earlier results whose files are gone or changed
        are never used again; with `verify` nor are those that name a file which is empty or never was. Missing,
        unknown and wrongly typed parameters raise `TypeError` before anything is written.
        """
        from .dispatch import dispatch, open_run

        chosen = self._executor(executor)
        submission = self._submission(run_dir, force, force_tasks, verify)
        plans, task_code = self._plans_with(parameters)
        chosen.check()
        self._require_trust(self._store(store).path)
        opened = self._create_run(submission, plans, parameters, store, chosen, task_code)
        dispatch(open_run(opened._store, opened.run_id, chosen, self.tasks), wait=True)
        return opened

    def run_local(
        self,
        /,
        run_dir: Path | str,
        *,
        store: SqliteStore | Path | str | None = None,
        max_workers: int = 1,
        on_error: Literal["stop", "continue"] = "stop",
        force: bool = False,
        force_tasks: Sequence[str] | None = None,
        verify: bool = False,
        **parameters: Any,
    ) -> Run:
        """Run the whole workflow here and return when it is settled.

        With one worker the elements run in this process, so breakpoints work; with more, in that many processes.
        ``on_error="stop"`` ends at the first failure, ``"continue"`` does all that does not depend on it. The run's
        status tells how it went. The other parameters are those of `submit`.
        """
        from .dispatch import open_run
        from .local_run import DirectExecutor, run_to_the_end, this_process

        if isinstance(max_workers, bool) or not isinstance(max_workers, int) or max_workers < 1:
            raise ValueError(f"run_local(max_workers={max_workers!r}) takes a whole number from 1 on")
        if on_error not in ("stop", "continue"):
            raise ValueError(f"run_local(on_error={on_error!r}) takes 'stop' or 'continue'")
        submission = self._submission(run_dir, force, force_tasks, verify)
        plans, task_code = self._plans_with(parameters, in_process=max_workers == 1)
        executor = DirectExecutor()
        opened = self._create_run(
            submission, plans, parameters, store, executor, task_code, local_process=this_process()
        )
        run_to_the_end(
            open_run(opened._store, opened.run_id, executor, self.tasks),
            executor,
            max_workers=max_workers,
            stop_on_failure=on_error == "stop",
        )
        return opened

    def preview(
        self, /, run_dir: Path | str, *, executor: Executor | str | None = None, **parameters: Any
    ) -> dict[str, str | None]:
        """Return, by task, the script that `submit` would hand over now; None where it depends on earlier results.

        Writes and submits nothing.
        """
        from .active import ActiveRun
        from .forecast import scripts

        chosen = self._executor(executor, only_shows=True)
        settings = self._settings(self._submission(run_dir, False, None, False), chosen, None, {})
        store = self._store(None)
        run = ActiveRun(self._new_run_id(), settings, store, chosen, store.path)
        return scripts(self._plans_with(parameters)[0], run)

    def forecast(
        self,
        /,
        run_dir: Path | str,
        *,
        store: SqliteStore | Path | str | None = None,
        force: bool = False,
        force_tasks: Sequence[str] | None = None,
        verify: bool = False,
        **parameters: Any,
    ) -> list[TaskForecast]:
        """Return, task by task, how many results `submit` would use again and why the others not; writes nothing."""
        from .executors.local import LocalExecutor
        from .forecast import forecast

        settings = self._settings(self._submission(run_dir, force, force_tasks, verify), LocalExecutor(), None, {})
        plans, _ = self._plans_with(parameters)
        return forecast(plans, settings, self._store(store).path, self.tasks)

    def run_status(
        self,
        run_id: str,
        task: str | None = None,
        as_dict: bool = False,
        errors: bool = False,
        store: SqliteStore | Path | str | None = None,
    ) -> dict[str, Any] | None:
        """Print or return the status of a run; see `Run.status`."""
        return self._run(run_id, store).status(task, as_dict, errors)

    def cancel_run(self, run_id: str, task: str | None = None, store: SqliteStore | Path | str | None = None) -> int:
        """Cancel a run; see `Run.cancel`."""
        return self._run(run_id, store).cancel(task)

    def cancel_runs(self, run_ids: Iterable[str], store: SqliteStore | Path | str | None = None) -> int:
        """Cancel several runs and return the number of instances; an unknown one cancels none of them."""
        runs = [self._run(run_id, store) for run_id in run_ids]
        return sum(run.cancel() for run in runs)

    def retry_failed(
        self,
        run_id: str,
        task: str | None = None,
        verify: bool = True,
        store: SqliteStore | Path | str | None = None,
    ) -> int:
        """Submit what failed again; see `Run.retry`."""
        return self._run(run_id, store).retry(task, verify)

    def cli(self, argv: Sequence[str] | None = None) -> int:
        """Run the command line of this workflow and return the exit code; `argv` defaults to the process's words."""
        if code.is_loading():
            raise PipelineError(
                f"{self.file} calls cli() while it is loaded by another process: write it under "
                'if __name__ == "__main__":'
            )
        from .cli import run_workflow  # click and rich are the command line's alone

        return run_workflow(self, argv)

    def _require_trust(self, manifest: Path) -> None:
        """Raise `TrustError` when others could change what the jobs of a new run do."""
        from .config import require_trust

        if self.file is not None:
            require_trust(self.file, "the pipeline file", self.config)
        require_trust(manifest, "the manifest", self.config)

    def _plans(self) -> tuple[TaskPlan, ...]:
        if not self.tasks:
            raise ValueError(f"workflow '{self.name}' has no tasks: decorate a function with @{self.name}.job()")
        from .wiring import plan_tasks  # here, because workers load the workflow and never wire it

        return plan_tasks(list(self.tasks.values()))

    def _validated_plans(self) -> tuple[TaskPlan, ...]:
        """Return the plans after every check that can be made before the parameters are known."""
        plans = self._plans()
        run_parameters(list(self.tasks.values()))
        for task in self.tasks.values():
            places = [
                (f"parameter '{each.name}'", each.annotation)
                for each in task.signature.parameters.values()
                if each.kind is not ParameterKind.CHECKPOINT
            ]
            for place, annotation in [*places, ("its result", task.signature.returns)]:
                try:
                    codec.check(annotation)
                except CodecError as error:
                    raise TypeError(f"task '{task.name}': {place} cannot travel between processes: {error}") from None
        return plans

    def _plans_with(
        self, parameters: Mapping[str, Any], *, in_process: bool = False
    ) -> tuple[tuple[TaskPlan, ...], TaskCode]:
        """Return the plans with the values of this run's parameters and the fingerprints of the code, and the code.

        With `in_process` the tasks run in this process, on what it has in memory.
        """
        from .sources import read_code  # it brings the parsing of source, which no worker needs

        plans = self._validated_plans()
        bound = bind_parameters(list(self.tasks.values()), parameters)
        functions = {name: task.function for name, task in self.tasks.items()}
        types = {name: type_parts(task.signature) for name, task in self.tasks.items()}
        task_code = read_code(functions, self._module_globals, in_process=in_process).with_parts(types)
        prints = Fingerprints(self.config.defaults.path_fingerprint, os.getcwd())
        arguments = {plan.name: encoded_arguments(self.tasks[plan.name], bound) for plan in plans}
        return tuple(
            replace(
                plan,
                arguments=arguments[plan.name],
                files=files_of(replace(plan, arguments=arguments[plan.name]), prints),
                code=version_code(self.name, types[plan.name])
                if plan.config.cache == "version"
                else task_code.fingerprint(plan.name),
            )
            for plan in plans
        ), task_code

    def _public_parameters(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Return the given values as the manifest can hold them with no declared type at hand."""
        tasks = list(self.tasks.values())
        types = {each.key: each.annotation for each in run_parameters(tasks)}
        bound = bind_parameters(tasks, parameters)
        return {key: codec.decode(codec.encode(value, types[key])) for key, value in bound.items()}

    def _submission(
        self, run_dir: Path | str, force: bool, force_tasks: Sequence[str] | None, verify: bool
    ) -> Submission:
        for name in force_tasks or ():
            if name not in self.tasks:
                hint = did_you_mean(name, self.tasks) or f" Its tasks are: {', '.join(self.tasks)}."
                raise ValueError(f"workflow '{self.name}' has no task '{name}' to force.{hint}")
        return Submission(Path(os.path.abspath(os.path.expanduser(run_dir))), force, tuple(force_tasks or ()), verify)

    def _executor(self, executor: Executor | str | None, *, only_shows: bool = False) -> Executor:
        from .executors import choose, create
        from .executors.base import Executor

        if isinstance(executor, Executor):
            return executor
        config = self.config
        if executor is not None and not isinstance(executor, str):
            raise TypeError(f"submit(executor={executor!r}) takes an Executor or a name such as 'slurm' or 'local'")
        if executor is None:
            chosen = choose(config.executor.mode, config.executor.sbatch)
            if chosen.dry_run and not only_shows:
                raise ConfigError(
                    "the configured mode is 'dry-run', which submits nothing: use `submit --dry-run` to see the "
                    "scripts, or set mode to sbatch, local or auto"
                )
            executor = chosen.name
        return create(executor, config.executor_settings(executor))

    def _store(self, store: SqliteStore | Path | str | None) -> SqliteStore:
        from .stores.sqlite import SqliteStore

        if store is None:
            return SqliteStore.default(self.config)
        if isinstance(store, SqliteStore):
            return store
        if isinstance(store, (str, Path)):
            return SqliteStore(store)
        raise TypeError(f"store={store!r} is not a SqliteStore or the path of one")

    def _run(self, run_id: str, store: SqliteStore | Path | str | None) -> Run:
        from .run import Run

        return Run(run_id, self._store(store), tasks=self.tasks)

    def _settings(
        self,
        submission: Submission,
        executor: Executor,
        local_process: Mapping[str, Any] | None,
        code_reference: Mapping[str, Any],
    ) -> RunSettings:
        config = self.config
        # A local run that is retried later goes on in processes of its own.
        is_direct = local_process is not None
        is_ours = type(executor).__module__.startswith("reflow.executors.")
        return RunSettings(
            run_dir=str(submission.run_dir),
            working_dir=os.getcwd(),
            python=config.python,
            executor="local" if is_direct else executor.name,
            executor_settings={} if is_direct else executor.settings() if is_ours else {"pickled": True},
            dispatch=config.dispatch.mode,
            dispatch_resources=config.dispatch_resources(),
            code=code_reference,
            force=submission.force,
            force_tasks=submission.force_tasks,
            local_process=local_process,
            max_submit_jobs=None if is_direct else config.executor.max_submit_jobs,
            verify=submission.verify,
            path_fingerprint=config.defaults.path_fingerprint,
        )

    def _create_run(
        self,
        submission: Submission,
        plans: Sequence[TaskPlan],
        parameters: Mapping[str, Any],
        store: SqliteStore | Path | str | None,
        executor: Executor,
        task_code: TaskCode,
        local_process: Mapping[str, Any] | None = None,
    ) -> Run:
        from .provenance import record_provenance
        from .run import Run
        from .stores.records import RunRecord, TaskSpecRecord
        from .stores.sharing import make_run_folder

        opened = self._store(store)
        opened.init()
        run_id = self._new_run_id()
        folder = RunFolder(submission.run_dir, run_id)
        try:
            make_run_folder(folder, opened.path)
            reference = code.find_reference(self, self._module_globals) or code.pickle_workflow(
                self, self._module_globals, folder.code
            )
            reference = code.keep(task_code, reference, folder.code)
        except OSError as error:
            raise ReflowError(f"the run directory {submission.run_dir} cannot be written: {error.strerror}") from None
        provenance = record_provenance(Path(os.getcwd()) if self.file is None else self.file.parent)
        settings = replace(
            self._settings(submission, executor, local_process, reference.to_json()), provenance=provenance.to_json()
        )
        if settings.executor_settings.get("pickled"):
            code.pickle_object(executor, folder.code / "executor.pickle")
        record = RunRecord(
            run_id=run_id,
            graph_name=self.name,
            user_id=provenance.user,
            created_at=clock.to_datetime(clock.now()),
            status=RunState.RUNNING,
            parameters=self._public_parameters(parameters),
            settings=settings.to_json(),
        )
        specs = [TaskSpecRecord(run_id, plan.name, plan.config.array, plan.to_json(), plan.upstreams) for plan in plans]
        opened.create_run(record, specs)
        return Run(run_id, opened, tasks=self.tasks)

    def _new_run_id(self) -> str:
        day = datetime.now(timezone.utc).strftime("%Y%m%d")
        # 48 random bits: a million runs a day of one workflow collide once in 500 days; the manifest refuses those.
        return f"{safe_name(self.name)}-{day}-{os.urandom(6).hex()}"
