"""``clean``: remove old runs."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .moments import moment_option
from .opening import find_manifest, store_path_option, writable_manifest

if TYPE_CHECKING:
    from ..workflow import Workflow

_HELP = """Remove your runs that are over and have not changed for that long.

Without --yes it shows what would go. A run goes with all that it has: its results, which the cache cannot use any more,
its logs, scripts and copies of code. Files that your tasks wrote stay where they are, and so do the results of other
runs that were taken from a run that goes. A RUNNING run is never removed.
"""


def command(workflow: Workflow | None) -> click.Command:
    """Return the command; that of a workflow removes its own runs only."""

    @click.command("clean", help=_HELP)
    @moment_option("--older-than", "What has not changed since: 30d, 12h ago, or 2026-11-01.  [required]")
    @click.option(
        "--keep-cache",
        is_flag=True,
        help="Keep the results of runs that the cache could use; only their files go. Such a run can be shown, but not "
        "be retried.",
    )
    @click.option("-y", "--yes", is_flag=True, help="Do it, without asking.")
    @store_path_option
    def clean(older_than: datetime | None, keep_cache: bool, yes: bool, store_path: Path | None) -> int:
        from ..cleaning import plan_old
        from ..dispatch import current_user
        from ..stores.upkeep import Upkeep
        from .removing import show_and_remove

        if older_than is None:
            raise click.UsageError("missing --older-than: say how old a run must be to go, such as --older-than 30d.")
        manifest = find_manifest(workflow, store_path)
        nothing = f"No run of yours is older than {older_than.astimezone():%Y-%m-%d %H:%M}"
        if manifest is None:
            click.echo(nothing)
            return 0
        user = current_user()
        with Upkeep(writable_manifest(manifest)) as upkeep:
            graph_name = None if workflow is None else workflow.name
            removals = plan_old(upkeep, older_than, user_id=user, graph_name=graph_name, keep_cache=keep_cache)
            if removals:
                return show_and_remove(upkeep, removals, user, yes=yes)
        click.echo(nothing)
        return 0

    return clean
