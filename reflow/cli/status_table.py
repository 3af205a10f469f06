"""The status of a run on a terminal: a table with a bar for each task."""

from __future__ import annotations

from rich.console import Console
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ..states import RunState, TaskState
from ..status import RunStatus, failure_line, remarks_text, unexpanded_text
from ..stores.records import TaskSummary

_STYLES = {
    RunState.RUNNING: "bold cyan",
    RunState.SUCCESS: "bold green",
    RunState.FAILED: "bold red",
    RunState.CANCELLED: "bold yellow",
}


def show(status: RunStatus, *, errors: bool) -> None:
    """Print the status on the terminal."""
    console = Console(highlight=False, soft_wrap=True)
    console.print(Text.assemble(status.run.run_id, "  ", (str(status.run.status), _STYLES[status.run.status])))
    table = Table(box=None, pad_edge=True, show_header=False)
    for task in status.tasks:
        table.add_row(*_row(task, status.run.status))
    console.print(table)
    for task in status.tasks:
        if task.error:
            console.print(Text(f"  {task.task_name}: {task.error}", style="red"))
    for failure in status.failures:
        console.print(Text(f"  {failure_line(failure)}", style="red"))
        if errors and failure.error_text:
            console.print(Text("\n".join(f"    {line}" for line in failure.error_text.splitlines())))
    unread = sum(task.counts.get(TaskState.FAILED, 0) for task in status.tasks) - len(status.failures)
    if unread > 0:
        console.print(Text(f"  ... and {unread} more failures", style="red"))


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
