"""``status``: how far a run is, and what failed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .opening import commands_for, open_run, store_path_option

if TYPE_CHECKING:
    from ..workflow import Workflow


def command(workflow: Workflow | None) -> click.Command:
    """Return the command."""

    @click.command("status", help="Show how far a run is, and what failed and why.")
    @click.argument("run_id", metavar="RUN_ID")
    @click.option("--task", metavar="TASK", help="Only this task.")
    @click.option("--errors", is_flag=True, help="Show the whole error texts.")
    @click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
    @store_path_option
    def status(run_id: str, task: str | None, errors: bool, as_json: bool, store_path: Path | None) -> int:
        from ..status import ALL_CARDS, MOST_CARDS

        found = open_run(workflow, run_id, store_path).current_status(
            task, commands_for(run_id, store_path), most_cards=ALL_CARDS if errors or as_json else MOST_CARDS
        )
        if as_json:
            click.echo(json.dumps(found.to_public_dict(errors=errors), indent=2, default=str))
        elif sys.stdout.isatty():
            from .status_table import show  # it brings rich, which only a terminal needs

            show(found, errors=errors)
        else:
            click.echo("\n".join(line.text for line in found.lines(errors=errors)))
        return 0

    return status
