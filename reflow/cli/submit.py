"""``submit``: create a run and hand over what can start now."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..states import RunState
from .opening import definitions_checked
from .parameters import ParameterOption, parameter_options
from .pipeline import PipelineCommand

if TYPE_CHECKING:
    from ..forecast import TaskForecast
    from ..workflow import Workflow

_HELP = "Create a run and submit what can start now; from then on it moves by itself."


def command(workflow: Workflow | None) -> click.Command:
    """Return the command of a workflow, or the one that takes a pipeline file first."""
    return PipelineCommand("submit", SubmitCommand, _HELP) if workflow is None else SubmitCommand(workflow)


class SubmitCommand(click.Command):
    """``submit`` with an option for every parameter of the workflow."""

    def __init__(self, workflow: Workflow) -> None:
        super().__init__("submit", params=_own_options(), callback=self._submit, help=_HELP)
        self._workflow = workflow
        self._parameters: list[ParameterOption] | None = None

    def get_params(self, context: click.Context) -> list[click.Parameter]:
        # Read late: a wrong definition must not stop the commands that need none.
        own = super().get_params(context)
        if self._parameters is None:
            with definitions_checked():
                self._parameters = parameter_options(self._workflow)
        return [*self._parameters, *own]

    def _submit(
        self,
        run_dir: Path | None,
        force: bool,
        force_tasks: Sequence[str],
        verify: bool,
        store_path: Path | None,
        executor: str | None,
        dry_run: bool,
        **values: Any,
    ) -> int:
        options = self._parameters or []
        given: dict[str, Any] = {}
        for option in options:
            given.update(option.given(values[str(option.name)]))
        folder = run_dir or self._workflow.config.defaults.run_dir
        missing = [
            each.parameter.flag for each in options if each.parameter.required and each.parameter.key not in given
        ]
        if folder is None:
            missing.insert(0, "--run-dir")
        if missing or folder is None:
            help_command = f"{click.get_current_context().command_path} --help"
            raise click.UsageError(f"missing {', '.join(missing)}: give each a value, as `{help_command}` shows.")
        with definitions_checked():
            self._workflow.validate()
            if dry_run:
                expected = self._workflow.forecast(
                    folder, store=store_path, force=force, force_tasks=force_tasks, verify=verify, **given
                )
                _show(self._workflow.preview(folder, executor=executor, **given), expected)
                return 0
            run = self._workflow.submit(
                folder,
                store=store_path,
                executor=executor,
                force=force,
                force_tasks=force_tasks,
                verify=verify,
                **given,
            )
        click.echo(f"Created run {run.run_id} in {run.run_dir}")
        if run.state is not RunState.FAILED:
            return 0
        # What the scheduler refuses for good has failed already, and she is still here to read why.
        click.echo("\n".join(line.text for line in run.current_status().lines()), err=True)
        return 1


def _own_options() -> list[click.Parameter]:
    # `reflow.parameters.TAKEN_FLAGS` keeps these flags from the user's parameters.
    folder = click.Path(path_type=Path)
    return [
        click.Option(["--run-dir"], type=folder, metavar="DIR", help="Folder for what the run writes."),
        click.Option(["--force"], is_flag=True, help="Recompute everything, although earlier results are known."),
        click.Option(["--force-tasks"], multiple=True, metavar="TASK", help="Recompute this task.  [repeatable]"),
        click.Option(["--verify"], is_flag=True, help="Look at the files of earlier results before using them again."),
        click.Option(
            ["--store-path"],
            type=folder,
            metavar="FILE",
            help="The manifest, where it is not the configured one.",
        ),
        click.Option(["--executor"], metavar="NAME", help="What runs the jobs: slurm, local, ..."),
        click.Option(["--dry-run"], is_flag=True, help="Show the scripts; write and submit nothing."),
    ]


def _show(scripts: dict[str, str | None], expected: Sequence[TaskForecast]) -> None:
    for each in expected:
        click.echo(f"# {each.line()}")
    click.echo()
    settled = {each.task for each in expected if each.is_settled}
    for task, script in scripts.items():
        if script is not None and task not in settled:
            click.echo(f"# Task '{task}' would be submitted now:\n{script.rstrip()}\n")
    later = [task for task, script in scripts.items() if script is None and task not in settled]
    if later:
        click.echo(f"# Later, when the tasks before them are done: {', '.join(later)}")
