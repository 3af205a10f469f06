"""``store``: look after the manifest itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .groups import LazyGroup

if TYPE_CHECKING:
    import click

    from ..workflow import Workflow

#: Each is a module ``store_<name>`` of this package.
COMMANDS = ("check", "info", "backup")


def command(workflow: Workflow | None) -> click.Command:
    """Return the group of commands."""
    return LazyGroup(
        COMMANDS,
        workflow,
        name="store",
        help="Look after the manifest: check and repair it, describe it, copy it.",
    )
