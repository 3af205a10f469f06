"""``cancel``: stop runs, or one task of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .opening import count_instances, open_run, store_path_option

if TYPE_CHECKING:
    from ..workflow import Workflow


def command(workflow: Workflow | None) -> click.Command:
    """Return the command."""

    @click.command("cancel", help="Cancel everything of the runs that is not done yet.")
    @click.argument("run_ids", nargs=-1, required=True, metavar="RUN_ID...")
    @click.option("--task", metavar="TASK", help="Only this task.")
    @click.option("-y", "--yes", is_flag=True, help="Do not ask.")
    @store_path_option
    def cancel(run_ids: Sequence[str], task: str | None, yes: bool, store_path: Path | None) -> int:
        # All are looked up first: an unknown one cancels none.
        runs = [open_run(workflow, run_id, store_path, to_change=True) for run_id in dict.fromkeys(run_ids)]
        if len(runs) > 1 and not yes and not click.confirm(f"Cancel {len(runs)} runs?", err=True):
            click.echo("Nothing was cancelled.", err=True)
            return 1
        for run in runs:
            click.echo(f"Cancelled {count_instances(run.cancel(task))} of {run.run_id}")
        return 0

    return cancel
