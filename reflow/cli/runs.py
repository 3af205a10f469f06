"""``runs``: the runs in the manifest."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import UnknownRunError
from ..states import RunState
from ..stores.records import RunRecord
from .moments import moment_option
from .opening import find_manifest, open_store, store_path_option, writable_manifest

if TYPE_CHECKING:
    from ..workflow import Workflow

#: How many are shown unless told otherwise.
SHOWN = 20


def command(workflow: Workflow | None) -> click.Command:
    """Return the command; that of a workflow shows its own runs only."""

    @click.command("runs", help="List runs, newest first: your last 20, unless told otherwise.")
    @click.argument("run_ids", nargs=-1, metavar="[RUN_ID]...")
    @click.option("--last", type=click.IntRange(min=1), metavar="N", help="At most so many.")
    @click.option("--all", "everyone", is_flag=True, help="All runs, of all users.")
    @moment_option("--since", "From 2026-11-01, 2026-11-01T08:30, 3d or 12h ago.")
    @moment_option("--until", "Up to then; a date with its whole day.", end_of_day=True)
    @click.option("--status", type=click.Choice([str(each) for each in RunState], case_sensitive=False))
    @click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
    @click.option("--rm", "remove", is_flag=True, help="Remove the named runs; without --yes, show what would go.")
    @click.option("-y", "--yes", is_flag=True, help="Remove without asking.")
    @store_path_option
    def runs(
        run_ids: Sequence[str],
        last: int | None,
        everyone: bool,
        since: datetime | None,
        until: datetime | None,
        status: str | None,
        as_json: bool,
        remove: bool,
        yes: bool,
        store_path: Path | None,
    ) -> int:
        from ..dispatch import current_user

        if remove != bool(run_ids):
            raise click.UsageError(
                "name the runs to remove: `reflow runs --rm RUN_ID...`."
                if remove
                else f"`reflow status {run_ids[0]}` shows a run; names go with --rm."
            )
        if remove:
            manifest = find_manifest(workflow, store_path)
            return _remove(manifest, list(dict.fromkeys(run_ids)), current_user(), yes=yes)
        store = open_store(workflow, store_path)
        found: Sequence[RunRecord] = ()
        if store is not None:
            found = store.list_run_records(
                None if workflow is None else workflow.name,
                None if everyone else current_user(),
                limit=last or (None if everyone else SHOWN),
                since=since,
                until=until,
                status=None if status is None else RunState(status.upper()),
            )
        if as_json:
            click.echo(json.dumps([run.to_public_dict() for run in found], indent=2, default=str))
        elif found:
            click.echo("\n".join(_lines(found, with_user=everyone)))
        else:
            click.echo("No runs found")
        return 0

    return runs


def _remove(manifest: Path | None, run_ids: Sequence[str], user: str, *, yes: bool) -> int:
    from ..cleaning import plan_named
    from ..stores.upkeep import Upkeep
    from .removing import show_and_remove

    if manifest is None:
        raise UnknownRunError(f"no run '{run_ids[0]}': there is no manifest yet; name it with --store-path")
    with Upkeep(writable_manifest(manifest)) as upkeep:
        return show_and_remove(upkeep, plan_named(upkeep, run_ids), user, yes=yes)


def _lines(runs: Sequence[RunRecord], *, with_user: bool) -> list[str]:
    widest = max(len(run.run_id) for run in runs)
    names = max(len(run.graph_name) for run in runs)
    colored = sys.stdout.isatty()
    lines = []
    for run in runs:
        status = f"{run.status:<9}"
        if colored:
            status = click.style(status, fg=_COLORS[run.status])
        created = run.created_at.astimezone().strftime("%Y-%m-%d %H:%M:%S")
        user = f"  {run.user_id}" if with_user else ""
        note = "  (results only)" if run.results_only else ""
        lines.append(f"{run.run_id:<{widest}}  {status}  {created}  {run.graph_name:<{names}}{user}{note}".rstrip())
    return lines


_COLORS = {
    RunState.RUNNING: "cyan",
    RunState.SUCCESS: "green",
    RunState.FAILED: "red",
    RunState.CANCELLED: "yellow",
}
