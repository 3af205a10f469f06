"""Several elements in one slot, one after the other in one process, and what is left when that process is killed.

The worker of a pack publishes results in batches, so that a process which is killed leaves elements of which the
manifest does not know whether they ran. Before each element begins, the worker therefore writes its number into a
small file: a write without fsync outlives the process (not the node), and costs a few microseconds, where a report
for each beginning would cost a round trip or more.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from .stores.records import InFlight

#: Digits of a number, so that each overwrites the one before it.
_WIDTH = 20


class BegunFile:
    """Where the worker of a pack says which element it begins."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def write(self, instance: int) -> None:
        """Record that the element with this database id begins."""
        os.pwrite(self._descriptor, f"{instance:>{_WIDTH}}".encode(), 0)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._descriptor)


def last_begun(path: Path) -> int | None:
    """Return the database id of the element that began last; None where none did, or the node took it along."""
    try:
        text = path.read_text(encoding="ascii")
    except FileNotFoundError:
        return None
    return int(text) if text.strip().isdecimal() else None


def struck_down(silent: Sequence[InFlight], begun: int | None) -> tuple[InFlight, ...]:
    """Return those elements of a dead pack that its death is the failure of; the others go back to waiting.

    `silent` are the elements without a final report, of one slot, and `begun` is the one that began last. It was
    killed while it ran. Those before it have lost what the last batch would have published, and those after it have
    not begun. Where none began, no element is to blame more than another, and all fail: with the rest sent back, a
    broken environment would be submitted again and again. Each death ends an element, or comes after one that ended.
    """
    if begun is None:
        return tuple(silent)
    return tuple(each for each in silent if each.instance == begun)
