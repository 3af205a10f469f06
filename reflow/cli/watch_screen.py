"""One screen that is kept up to date while a run goes on."""

from __future__ import annotations

import logging
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ..states import TaskState
from ..stores.records import TaskSummary
from ..watching import Look
from ..wording import Line, Tone
from .status_table import STATE_STYLES, STYLES

_FAREWELL = "Ctrl-C ends the watching and leaves the run alone"
_BAR = 20


class Screen:
    """Draws looks over each other. Warnings, which would tear the screen, are shown as a line of it."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        self._live = Live(console=self._console, auto_refresh=False, transient=True, vertical_overflow="crop")
        self._warnings = _LastWarning()
        self._handlers: list[logging.Handler] = []

    def __enter__(self) -> Screen:
        logger = logging.getLogger("reflow")
        self._handlers, logger.handlers = logger.handlers, [self._warnings]
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()
        logging.getLogger("reflow").handlers = self._handlers

    def show(self, look: Look) -> None:
        """Draw a look."""
        self._live.update(Group(*self._parts(look)), refresh=True)

    def _parts(self, look: Look) -> list[Text | Table]:
        below = look.lines_below()
        if self._warnings.text:
            below.append(Line(f"Warning: {self._warnings.text}", Tone.WARNING))
        below.append(Line(_FAREWELL, Tone.QUIET))
        head = Text.assemble(
            look.run.run_id, "  ", (str(look.run.status), STATE_STYLES[look.run.status]), f"  {look.age}"
        )
        # The line below the last one stays free for the cursor. Some tasks are always shown.
        rows = max(3, self._console.height - len(below) - 2)
        tasks, hidden = look.fitting(rows)
        parts: list[Text | Table] = [head, self._table(look, tasks)]
        if hidden:
            parts.append(Text(f"  ... {hidden}", style=STYLES[Tone.QUIET]))
        parts += [Text(f"  {line.text}", style=STYLES[line.tone]) for line in below]
        for part in parts:
            if isinstance(part, Text):
                part.no_wrap, part.overflow = True, "ellipsis"
        return parts

    def _table(self, look: Look, tasks: list[TaskSummary]) -> Table:
        table = Table(box=None, pad_edge=True, show_header=False)
        for _ in range(4):
            table.add_column(no_wrap=True, overflow="ellipsis")
        for task in tasks:
            table.add_row(*_row(look, task))
        return table


def _row(look: Look, task: TaskSummary) -> tuple[Text | ProgressBar, ...]:
    failed = bool(task.error or task.counts.get(TaskState.FAILED))
    words = Text(look.remarks(task), style="red" if failed else "dim" if task.width is None else "")
    if task.width is None:
        return Text(task.task_name), Text(""), Text(""), words
    done = task.counts.get(TaskState.SUCCESS, 0)
    bar = ProgressBar(total=max(task.width, 1), completed=done if task.width else 1, width=_BAR)
    return Text(task.task_name), bar, Text(f"{done}/{task.width}"), words


class _LastWarning(logging.Handler):
    """Keeps the last warning."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text = " ".join(record.getMessage().split())
