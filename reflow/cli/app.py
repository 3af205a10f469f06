"""All commands together, and the one place where an error becomes a line on stderr and an exit code."""

from __future__ import annotations

import logging
import math
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .. import __version__
from ..errors import ReflowError
from .groups import LazyGroup

if TYPE_CHECKING:
    from ..workflow import Workflow

#: Each is a module of this package with a function ``command(workflow)``.
COMMANDS = (
    *("submit", "status", "watch", "cancel", "retry", "runs", "show", "clean", "store", "dag", "describe", "logs"),
    "explain",
)

ABORTED = 130
#: What a shell reports of a program that SIGPIPE ended.
PIPE_CLOSED = 141

#: How long a warning that has been shown is not shown again.
_SAID_AGAIN_SECONDS = 600.0


def _commands(workflow: Workflow | None) -> LazyGroup:
    group = LazyGroup(COMMANDS, workflow, help=_help(workflow), invoke_without_command=True, callback=_without_command)
    group.params.append(_version_option())
    return group


def _without_command() -> int:
    context = click.get_current_context()
    if context.invoked_subcommand is None:
        click.echo(context.get_help(), err=True)
        return 2
    return 0


def run(workflow: Workflow | None, argv: Sequence[str] | None) -> int:
    """Run one command and return the exit code: 0, 1 for what went wrong, 2 for wrong usage."""
    words = list(sys.argv[1:] if argv is None else argv)
    with _warnings_on_stderr():
        try:
            with _commands(workflow).make_context(_program(workflow), words) as context:
                code = context.command.invoke(context)
            sys.stdout.flush()  # here, so that a closed pipe is met where it is handled
        except click.exceptions.Exit as request:
            return request.exit_code
        except click.UsageError as error:
            return _fail(_usage_text(error), 2)
        except click.ClickException as error:
            return _fail(error.format_message(), 1)
        except ReflowError as error:
            return _fail(str(error), 1)
        except (KeyboardInterrupt, click.Abort):
            return _fail("Aborted", ABORTED, prefix="")
        except BrokenPipeError:
            # Python flushes stdout once more at its end, and would complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return PIPE_CLOSED
        except OSError as error:
            if error.filename is None:
                raise  # not about a file that a person could see to
            place = os.fsdecode(error.filename)
            return _fail(f"'{place}' cannot be used: {error.strerror}; check its permissions and the quota", 1)
    return code if isinstance(code, int) else 0


def _fail(message: str, code: int, prefix: str = "Error: ") -> int:
    line = " ".join(part.strip() for part in message.splitlines() if part.strip())
    click.echo(f"{prefix}{line}", err=True)
    return code


def _usage_text(error: click.UsageError) -> str:
    message = error.format_message()
    # Only click's own errors need the help to be understood; ours say what to do.
    if error.ctx is None or (type(error) is click.UsageError and " extra argument" not in message):
        return message
    sentence = message if message.endswith("?") else f"{message.rstrip('.')}."
    return f"{sentence} See `{error.ctx.command_path} --help`."


class _NewsOnly(logging.Filter):
    """Lets a sentence pass that was not said in the last ten minutes: `watch` meets the same trouble at every look."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        message, now = record.getMessage(), time.monotonic()
        is_news = now - self._said.get(message, -math.inf) > _SAID_AGAIN_SECONDS
        if is_news:
            self._said[message] = now
        return is_news


@contextmanager
def _warnings_on_stderr() -> Iterator[None]:
    """Show the warnings of this package as plain lines, whatever logging the pipeline has set up."""
    logger = logging.getLogger("reflow")
    handler = logging.StreamHandler(sys.stderr)
    handler.setLevel(logging.WARNING)
    handler.setFormatter(logging.Formatter("Warning: %(message)s"))
    handler.addFilter(_NewsOnly())
    propagated = logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagated


def _program(workflow: Workflow | None) -> str:
    if workflow is None:
        return "reflow"
    return f"python {Path(sys.argv[0]).name if workflow.file is None else workflow.file.name}"


def _help(workflow: Workflow | None) -> str:
    if workflow is None:
        return "Run Python pipelines as Slurm job arrays."
    return f"Run the workflow '{workflow.name}' as Slurm job arrays."


def _version_option() -> click.Option:
    def show(context: click.Context, parameter: click.Parameter, wanted: bool) -> None:
        if wanted and not context.resilient_parsing:
            click.echo(f"reflow {__version__}")
            context.exit()

    return click.Option(
        ["--version"],
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=show,
        help="Show the version and exit.",
    )
