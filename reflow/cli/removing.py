"""What `runs --rm` and `clean` have in common: show what would go, ask, and do it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from .opening import count_instances

if TYPE_CHECKING:
    from ..cleaning import Removal
    from ..stores.upkeep import Upkeep


def show_and_remove(upkeep: Upkeep, removals: Sequence[Removal], user: str, *, yes: bool) -> int:
    """Show what would be removed, and do it when the user said ``--yes`` or says so on the terminal."""
    from ..cleaning import remove

    for line in _lines(removals, user):
        click.echo(line)
    total = _total(removals)
    if not yes:
        if not sys.stdin.isatty():
            click.echo(f"This would remove {total}. Nothing was removed: add --yes to do it.")
            return 0
        if not click.confirm(f"Remove {total}?", err=True):
            click.echo("Nothing was removed.", err=True)
            return 1
    remove(upkeep, removals, lambda sentence: click.echo(f"Warning: {sentence}", err=True))
    click.echo(f"Removed {total}.")
    return 0


def _lines(removals: Sequence[Removal], user: str) -> list[str]:
    widest = max(len(each.run.run_id) for each in removals)
    lines = []
    for each in removals:
        run = each.run
        notes = []
        if run.user_id != user:
            notes.append(f"of user {run.user_id}")
        if each.keeps_rows:
            notes.append("results stay for the cache")
        if run.is_half_removed:
            notes.append("an earlier removal was cut off")
        lines.append(
            f"{run.run_id:<{widest}}  {run.status:<9}  {run.ended_at.astimezone():%Y-%m-%d %H:%M}  "
            f"{count_instances(each.instances)}, {_files(each.usage.files, each.usage.bytes)}"
            + (f"  ({'; '.join(notes)})" if notes else "")
        )
    return lines


def _total(removals: Sequence[Removal]) -> str:
    whole = [each for each in removals if not each.keeps_rows]
    kept = len(removals) - len(whole)
    files = _files(sum(each.usage.files for each in removals), sum(each.usage.bytes for each in removals))
    parts = [_count(len(whole), "run")] if whole else []
    parts += [f"the files of {_count(kept, 'run')}"] if kept else []
    return f"{' and '.join(parts)}: {count_instances(sum(each.instances for each in removals))}, {files}"


def _files(count: int, size: int) -> str:
    return f"{_count(count, 'file')} ({format_bytes(size)})"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def format_bytes(size: float) -> str:
    """Return ``0 B``, ``12 kB``, ``3.4 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit in ("B", "kB") else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
