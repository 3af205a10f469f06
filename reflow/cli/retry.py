"""``retry``: submit what failed again, and what was damaged since."""

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
    @click.option(
        "--verify/--no-verify",
        default=True,
        show_default=True,
        help="Look at results too: those whose files are gone or changed are made again, with what depends on them.",
    )
    @store_path_option
    def retry(run_id: str, task: str | None, verify: bool, store_path: Path | None) -> int:
        retried = open_run(workflow, run_id, store_path, to_change=True).retry_and_tell(task, verify)
        click.echo(f"Resubmitted {count_instances(retried.count)} of {run_id}")
        for line in retried.lines():
            click.echo(line)
        return 0

    return retry
