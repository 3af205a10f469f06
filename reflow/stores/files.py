"""Small questions about files that other processes may delete at any moment."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path


def names_in(folder: Path) -> list[str]:
    """Return the names in a folder, sorted; none when it is not there."""
    try:
        return sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []


def age_of(path: Path) -> float:
    """Return how many seconds ago a file, or the symlink itself, was changed; 0 when it is gone."""
    try:
        return time.time() - os.stat(path, follow_symlinks=False).st_mtime
    except FileNotFoundError:
        return 0.0


def time_left(path: Path) -> float | None:
    """Return the seconds until the time of change that a file was given; None where it cannot be had."""
    try:
        return os.stat(path).st_mtime - time.time()
    except OSError:
        return None


def sync_folder(path: Path) -> None:
    """Ask for the folder's entries to survive a power failure too."""
    with suppress(OSError):  # some network file systems cannot sync a folder, and need not
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
