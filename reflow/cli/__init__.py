"""The command line: `reflow COMMAND` from anywhere, and ``python pipeline.py COMMAND`` after `Workflow.cli`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..workflow import Workflow


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command ``reflow`` and return its exit code; `argv` defaults to the process's words."""
    from .app import run  # it brings click, which whoever only imports this module does not need

    return run(None, argv)


def run_workflow(workflow: Workflow, argv: Sequence[str] | None = None) -> int:
    """Run the command line of one workflow and return its exit code; `argv` defaults to the process's words."""
    from .app import run

    return run(workflow, argv)
