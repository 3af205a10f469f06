"""``store``: look after the manifest itself."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

import click

from ..suggest import did_you_mean

if TYPE_CHECKING:
    from ..workflow import Workflow

#: Each is a module ``store_<name>`` of this package with a function ``command(workflow)``.
COMMANDS = ("check", "info", "backup")


class _StoreCommands(click.Group):
    def __init__(self, workflow: Workflow | None) -> None:
        super().__init__("store", help="Look after the manifest: check and repair it, describe it, copy it.")
        self._workflow = workflow

    def list_commands(self, context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = import_module(f".store_{name}", __package__).command(self._workflow)
        return command

    def resolve_command(
        self, context: click.Context, words: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if words[0] not in COMMANDS and not words[0].startswith("-"):
            hint = did_you_mean(words[0], COMMANDS) or f" The commands are: {', '.join(COMMANDS)}."
            raise click.UsageError(f"there is no command 'store {words[0]}'.{hint}", context)
        return super().resolve_command(context, words)


def command(workflow: Workflow | None) -> click.Command:
    """Return the group of commands."""
    return _StoreCommands(workflow)
