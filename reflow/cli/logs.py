"""``logs``: what one instance printed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .opening import open_run, store_path_option

if TYPE_CHECKING:
    from ..workflow import Workflow


def command(workflow: Workflow | None) -> click.Command:
    """Return the command."""

    @click.command(
        "logs",
        help="Print what one instance wrote in its newest attempt: a TASK, or TASK[INDEX] of an array.",
    )
    @click.argument("run_id", metavar="RUN_ID")
    @click.argument("instance", metavar="TASK[INDEX]")
    @store_path_option
    def logs(run_id: str, instance: str, store_path: Path | None) -> int:
        from ..paths import RunFolder
        from ..run import parse_instance

        run = open_run(workflow, run_id, store_path)
        task, index = parse_instance(instance)
        text = run.logs(task, index)
        if text:
            click.echo(text)
            return 0
        files = run.log_files(task, index)
        if files:
            click.echo(f"{instance} has printed nothing: {', '.join(map(str, files))}", err=True)
        else:
            folder = RunFolder(run.run_dir, run_id).element_log(task, index, 1).parent
            click.echo(f"{instance} left no log in {folder}", err=True)
        return 0

    return logs
