"""``watch``: how a run goes on, until it is over."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..states import RunState
from .app import ABORTED
from .opening import commands_for, open_run, store_path_option

if TYPE_CHECKING:
    from ..run import Run
    from ..watching import Look
    from ..workflow import Workflow


def command(workflow: Workflow | None) -> click.Command:
    """Return the command."""

    @click.command(
        "watch",
        help="Show how a run goes on until it is over: on a terminal one screen, elsewhere a line for each change. "
        "Exit code 0 when the run is SUCCESS, else 1. Ctrl-C ends the watching and leaves the run alone.",
    )
    @click.argument("run_id", metavar="RUN_ID")
    @store_path_option
    def watch(run_id: str, store_path: Path | None) -> int:
        run = open_run(workflow, run_id, store_path)
        try:
            last = _on_screen(run) if sys.stdout.isatty() else _in_lines(run)
        except KeyboardInterrupt:
            commands = commands_for(run_id, store_path)
            click.echo(f"Run {run_id} goes on; `{commands.watch()}` shows it again.", err=True)
            return ABORTED
        status = run.read_status(commands=commands_for(run_id, store_path))
        if sys.stdout.isatty():
            from .status_table import show

            show(status, errors=False)
        else:
            click.echo("\n".join(line.text for line in status.lines()))
        return 0 if last.run.status is RunState.SUCCESS else 1

    return watch


def _in_lines(run: Run) -> Look:
    """Print a line for each change; return the last look."""
    from ..watching import LONGEST_PAUSE

    watcher = run.watcher()
    before: Look | None = None
    pause = 0.0
    with run.attention().from_aside() as check:
        while True:
            look = watcher.look()
            for line in look.changes(before):
                click.echo(line)
            sys.stdout.flush()
            if look.is_over:
                return look
            before = look
            pause = min(max(watcher.pause, 1.1 * pause), LONGEST_PAUSE)
            time.sleep(pause)
            check()


def _on_screen(run: Run) -> Look:
    """Keep one screen up to date; return the last look."""
    from .watch_screen import Screen  # it brings rich, which only a terminal needs

    watcher = run.watcher()
    with Screen() as screen, run.attention().from_aside() as check:
        while True:
            look = watcher.look()
            screen.show(look)
            if look.is_over:
                return look
            time.sleep(watcher.pause)
            check()
