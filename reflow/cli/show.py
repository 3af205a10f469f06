"""``show``: what a run was given and where it comes from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .opening import open_run, store_path_option

if TYPE_CHECKING:
    from ..workflow import Workflow


def command(workflow: Workflow | None) -> click.Command:
    """Return the command."""

    @click.command("show", help="Show who submitted a run from where, its parameters, settings and resources.")
    @click.argument("run_id", metavar="RUN_ID")
    @click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
    @store_path_option
    def show(run_id: str, as_json: bool, store_path: Path | None) -> int:
        found = open_run(workflow, run_id, store_path).description()
        if as_json:
            click.echo(json.dumps(found.to_public_dict(), indent=2, default=str))
        else:
            click.echo("\n".join(found.lines()))
        return 0

    return show
