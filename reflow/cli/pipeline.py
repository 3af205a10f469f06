"""Commands that take a pipeline file first: ``reflow submit pipeline.py ...``."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import click

from ..errors import ORDINARY_ERRORS, PipelineError, ReflowError
from ..suggest import did_you_mean

if TYPE_CHECKING:
    from ..workflow import Workflow


_LOADING_ERRORS = (ReflowError, *ORDINARY_ERRORS)


class PipelineCommand(click.Command):
    """Load the workflow of the file that is given first, and hand all other words to that workflow's own command."""

    def __init__(self, name: str, make: Callable[[Workflow], click.Command], help: str) -> None:
        super().__init__(
            name,
            params=[
                click.Option(
                    ["--workflow", "workflow_name"],
                    metavar="NAME",
                    help="Which one, if the file has several.",
                ),
                click.Argument(["file"], type=click.Path(path_type=Path), metavar="PIPELINE.PY"),
                click.Argument(["words"], nargs=-1, type=click.UNPROCESSED, metavar="[OPTIONS]..."),
            ],
            # What stands behind the file is the workflow's to read.
            context_settings={"allow_interspersed_args": False},
            callback=self._hand_on,
            help=help,
            epilog=f"`reflow {name} PIPELINE.PY --help` shows the options.",
        )
        self._make = make

    def _hand_on(self, workflow_name: str | None, file: Path, words: Sequence[str]) -> Any:
        behind, rest = _take_workflow_name(words)
        workflow = load_workflow(file, behind or workflow_name)
        path = f"{click.get_current_context().command_path} {file}"
        command = self._make(workflow)
        with command.make_context(path, rest) as context:
            return command.invoke(context)


def load_workflow(file: Path, name: str | None = None) -> Workflow:
    """Return the workflow at the top level of the file; `name`, or its variable, tells which of several."""
    from ..config import require_trust
    from ..workflow import Workflow

    if not file.is_file():
        raise PipelineError(f"there is no pipeline file '{file}': give the .py file that holds the workflow")
    require_trust(file.resolve(), "the pipeline file")
    module = _load_module(file.resolve())
    found = {id(value): (variable, value) for variable, value in vars(module).items() if isinstance(value, Workflow)}
    own = [each for each in found.values() if each[1].file == file.resolve()]
    candidates = own or list(found.values())
    names = [workflow.name for _, workflow in candidates]
    chosen = [
        workflow for variable, workflow in candidates if name is None or name == workflow.name or name == variable
    ]
    if len(chosen) == 1:
        return chosen[0]
    if not candidates:
        raise PipelineError(f"'{file}' has no workflow at its top level: write `wf = Workflow(\"name\")` there")
    if name is None:
        raise PipelineError(f"'{file}' has several workflows: choose with --workflow one of {', '.join(names)}")
    if chosen:
        variables = [variable for variable, workflow in candidates if workflow.name == name]
        raise PipelineError(f"'{file}' has several workflows '{name}': name a variable, {' or '.join(variables)}")
    raise PipelineError(
        f"'{file}' has no workflow '{name}', only {', '.join(names)}: choose one of these.{did_you_mean(name, names)}"
    )


def _load_module(path: Path) -> ModuleType:
    from ..code import load_file

    # As `python pipeline.py` would: the modules beside the file can be imported.
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    try:
        return load_file(path)
    except SystemExit as error:
        raise PipelineError(
            f"'{path}' ends the program when it is imported: put `wf.cli()` under `if __name__ == \"__main__\":`"
        ) from error
    except SyntaxError as error:
        raise PipelineError(
            f"'{path}' cannot be loaded: {error.msg} ({error.filename}, line {error.lineno}): correct it"
        ) from error
    except _LOADING_ERRORS as error:
        raise PipelineError(
            f"'{path}' cannot be loaded: {_last_line(error)} ({_place(error, path)}): correct it"
        ) from error


def _last_line(error: BaseException) -> str:
    return " ".join("".join(traceback.format_exception_only(type(error), error)).split())


def _place(error: BaseException, path: Path) -> str:
    """Return where in the user's own code it happened: the innermost line below the pipeline's folder."""
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if path.parent in Path(frame.filename).parents
    ]
    return f"{frames[-1].filename}, line {frames[-1].lineno}" if frames else str(path)


def _take_workflow_name(words: Sequence[str]) -> tuple[str | None, list[str]]:
    """Take ``--workflow NAME`` out of the words: it decides which options the others are read with."""
    rest = list(words)
    end = rest.index("--") if "--" in rest else len(rest)
    for place, word in enumerate(rest[:end]):
        if word == "--workflow" and place + 1 < end:
            return rest[place + 1], rest[:place] + rest[place + 2 :]
        if word.startswith("--workflow="):
            return word.partition("=")[2], rest[:place] + rest[place + 1 :]
    return None, rest
