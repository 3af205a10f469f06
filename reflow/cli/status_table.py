"""The status of a run on a terminal: a table with a bar for each task, and the same lines as in plain text."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ..states import RunState, TaskState
from ..status import RunStatus, remarks_text, unexpanded_text
from ..stores.records import TaskSummary
from ..wording import Line, Tone

STATE_STYLES = {
    RunState.RUNNING: "bold cyan",
    RunState.SUCCESS: "bold green",
    RunState.FAILED: "bold red",
    RunState.CANCELLED: "bold yellow",
}
STYLES = {Tone.PLAIN: "", Tone.BAD: "red", Tone.QUIET: "dim", Tone.WARNING: "bold yellow"}


def show(status: RunStatus, *, errors: bool) -> None:
    """Print the status on the terminal."""
    console = Console(highlight=False, soft_wrap=True)
    console.print(Text.assemble(status.run.run_id, "  ", (str(status.run.status), STATE_STYLES[status.run.status])))
    console.print(task_table(status.tasks, status.run.status))
    for line in styled(status.lines_below(errors=errors)):
        console.print(line)


def task_table(tasks: Iterable[TaskSummary], run: RunState) -> Table:
    """Return a row with a bar for each task."""
    table = Table(box=None, pad_edge=True, show_header=False)
    for task in tasks:
        table.add_row(*_row(task, run))
    return table


def styled(lines: Iterable[Line]) -> list[Text]:
    """Return the lines as a terminal shows them."""
    return [Text(line.text, style=STYLES[line.tone]) for line in lines]


def _row(task: TaskSummary, run: RunState) -> tuple[Text | ProgressBar, ...]:
    name = Text(task.task_name)
    if task.width is None:
        return (
            name,
            Text(""),
            Text(unexpanded_text(task, run), style="red" if task.error else "dim"),
        )
    done = task.counts.get(TaskState.SUCCESS, 0)
    # A bar of no elements is full: an empty array is a success.
    bar = ProgressBar(total=max(task.width, 1), completed=done if task.width else 1, width=24)
    failed = task.counts.get(TaskState.FAILED, 0)
    words = Text(remarks_text(task), style="red" if failed else "")
    return name, bar, Text(f"{done}/{task.width}", justify="right"), words
