"""Groups of commands whose modules are imported when they are asked for, so that `--help` of one costs one."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from ..suggest import did_you_mean

if TYPE_CHECKING:
    from ..workflow import Workflow


class LazyGroup(click.Group):
    """Commands by name; each is a module of this package with a function ``command(workflow)``.

    The module is called ``<name>``, in a group with a name of its own ``<group>_<name>``. With a workflow the commands
    are that workflow's own.
    """

    def __init__(
        self, names: Sequence[str], workflow: Workflow | None, *, name: str | None = None, **options: Any
    ) -> None:
        super().__init__(name, **options)
        self._names = names
        self._workflow = workflow
        self._before = [] if name is None else [name]

    def list_commands(self, context: click.Context) -> list[str]:
        return list(self._names)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in self._names:
            return None
        command: click.Command = import_module(f".{'_'.join([*self._before, name])}", __package__).command(
            self._workflow
        )
        return command

    def resolve_command(
        self, context: click.Context, words: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if words[0] not in self._names and not words[0].startswith("-"):
            hint = did_you_mean(words[0], self._names) or f" The commands are: {', '.join(self._names)}."
            raise click.UsageError(f"there is no command '{' '.join([*self._before, words[0]])}'.{hint}", context)
        return super().resolve_command(context, words)
