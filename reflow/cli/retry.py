"""``retry``: submit what failed again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .opening import count_instances, open_run, store_path_option

if TYPE_CHECKING:
    from ..workflow import Workflow


def command(workflow: Workflow | None) -> click.Command:
    """Return the command."""

    @click.command("retry", help="Submit the failed and cancelled instances again, and then what depends on them.")
    @click.argument("run_id", metavar="RUN_ID")
    @click.option("--task", metavar="TASK", help="Only this task.")
    @store_path_option
    def retry(run_id: str, task: str | None, store_path: Path | None) -> int:
        count = open_run(workflow, run_id, store_path, to_change=True).retry(task)
        click.echo(f"Resubmitted {count_instances(count)} of {run_id}")
        return 0

    return retry
