"""``store backup``: copy the manifest while it is in use."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .opening import required_manifest, store_path_option
from .removing import format_bytes

if TYPE_CHECKING:
    from ..workflow import Workflow

_HELP = """Copy the manifest to FILE, whole and checked, while runs go on.

Its big outputs go to FILE.outputs. Logs and other files of runs are not copied.
"""


def command(workflow: Workflow | None) -> click.Command:
    """Return the command."""

    @click.command("backup", help=_HELP)
    @click.argument("file", type=click.Path(path_type=Path), metavar="FILE")
    @click.option("--force", is_flag=True, help="Replace FILE.")
    @store_path_option
    def backup(file: Path, force: bool, store_path: Path | None) -> int:
        from ..stores.backup import back_up

        manifest = required_manifest(workflow, store_path)
        size = back_up(manifest.absolute(), file.expanduser().absolute(), force=force)
        click.echo(f"Copied {manifest} to {file} ({format_bytes(size)})")
        return 0

    return backup
