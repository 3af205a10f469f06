"""``explain``: why an instance was computed, or whose result it took."""

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

    @click.command(
        "explain",
        help="Say why an instance was computed again and what has changed since, or whose result was used again.",
    )
    @click.argument("run_id", metavar="RUN_ID")
    @click.argument("instance", metavar="TASK[INDEX]")
    @click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
    @store_path_option
    def explain(run_id: str, instance: str, as_json: bool, store_path: Path | None) -> int:
        from ..run import parse_instance

        explanation = open_run(workflow, run_id, store_path).explain(*parse_instance(instance))
        if as_json:
            click.echo(json.dumps(explanation.to_public_dict(), indent=2))
        else:
            click.echo("\n".join(explanation.lines()))
        return 0

    return explain
