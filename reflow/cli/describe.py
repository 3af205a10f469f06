"""``describe``: a workflow as JSON, for other programs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from .opening import definitions_checked
from .pipeline import PipelineCommand

if TYPE_CHECKING:
    from ..workflow import Workflow

_HELP = "Print the tasks, their wiring and the parameters as one JSON object."


def command(workflow: Workflow | None) -> click.Command:
    """Return the command of a workflow, or the one that takes a pipeline file first."""
    return PipelineCommand("describe", _describe, _HELP) if workflow is None else _describe(workflow)


def _describe(workflow: Workflow) -> click.Command:
    @click.command("describe", help=_HELP)
    def describe() -> int:
        with definitions_checked():
            description = workflow.describe()
        click.echo(json.dumps(description, indent=2))
        return 0

    return describe
