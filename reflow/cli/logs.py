"""``logs``: what one instance printed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .app import ABORTED
from .opening import open_run, store_path_option

if TYPE_CHECKING:
    from ..workflow import Workflow


def command(workflow: Workflow | None) -> click.Command:
    """Return the command."""

    @click.command(
        "logs",
        help="Print what one instance wrote in its newest attempt: a TASK, or TASK[INDEX] of an array. Where it left "
        "nothing of its own: what its job's shell and the scheduler wrote.",
    )
    @click.argument("run_id", metavar="RUN_ID")
    @click.argument("instance", metavar="TASK[INDEX]")
    @click.option("--attempt", type=click.IntRange(min=1), metavar="N", help="That attempt, not the newest.")
    @click.option("-f", "--follow", is_flag=True, help="Go on until the instance has ended, through its retries.")
    @store_path_option
    def logs(run_id: str, instance: str, attempt: int | None, follow: bool, store_path: Path | None) -> int:
        from ..run import parse_instance

        run = open_run(workflow, run_id, store_path)
        task, index = parse_instance(instance)
        if follow:
            try:
                for text in run.follow(task, index, attempt, tell=_tell):
                    click.echo(text, nl=False)
                    sys.stdout.flush()
            except KeyboardInterrupt:
                _tell(f"{instance} is not followed any more; run {run_id} goes on")
                return ABORTED
            return 0
        found = run.log_files(task, index, attempt)
        for log in found:
            text = log.text()
            if not log.own:
                _tell(f"{instance} left no log of its own; from {log.path}:")
            elif not text:
                _tell(f"{instance} has printed nothing: {log.path}")
            click.echo(text, nl=False)
        if not found:
            _tell(run.why_no_log(task, index, attempt))
        return 0

    return logs


def _tell(text: str) -> None:
    """Say something that is not the instance's own."""
    click.echo(text, err=True)
