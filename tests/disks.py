"""Disks of a megabyte or two, which are soon full."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def mount(*words: object) -> None:
    """Call mount(8); skips the test where that is not allowed."""
    done = subprocess.run(["mount", *map(str, words)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"cannot mount here: {done.stderr.strip()}")


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """Mount a disk of that size (``1m``) on a new folder; unmounts it, and what was mounted over it, afterwards."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount")
    folder.mkdir()
    mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder)
    yield folder
    while os.path.ismount(folder):
        subprocess.run(["umount", "--lazy", folder], check=True)
