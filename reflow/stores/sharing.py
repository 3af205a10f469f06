"""Who may use what reflow makes beside a manifest: its user alone, or a group.

One rule for files and folders: where the folder that they are made in gives its group to all that is made in it
(setgid), and lets the group write, they are the group's too, whatever the umask says. Everywhere else they are the
user's alone. Folders made by this rule hand it on.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from ..paths import RunFolder

_PRIVATE_FILE, _PRIVATE_FOLDER = 0o600, 0o700
_SHARED_FILE, _SHARED_FOLDER = 0o660, 0o2770


def is_shared(folder: Path | str) -> bool:
    """Return whether what is made in that folder is its group's too."""
    mode = os.stat(folder).st_mode
    return bool(mode & stat.S_ISGID and mode & stat.S_IWGRP)


def open_file(path: Path | str, flags: int) -> int:
    """Open a file and return its descriptor; makes it when it is missing, or fails with ``O_EXCL`` when it is there."""
    if not flags & os.O_EXCL:
        try:
            # Without O_CREAT first: Linux refuses that on another user's file in a folder with the sticky bit
            # (fs.protected_regular), although the file may be opened.
            return os.open(path, flags | os.O_CLOEXEC)
        except FileNotFoundError:
            pass
    shared = is_shared(os.path.dirname(path) or ".")
    mode = _SHARED_FILE if shared else _PRIVATE_FILE
    descriptor = os.open(path, flags | os.O_CREAT | os.O_CLOEXEC, mode)
    if shared and os.fstat(descriptor).st_uid == os.geteuid():
        os.fchmod(descriptor, mode)  # the umask has taken from it
    return descriptor


def make_folder(path: Path | str) -> None:
    """Make a folder, and those above it that are missing, unless it is there."""
    try:
        _make_one(path)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        _make_one(path)


def _make_one(path: Path | str) -> None:
    shared = is_shared(os.path.dirname(path) or ".")
    try:
        os.mkdir(path, _SHARED_FOLDER if shared else _PRIVATE_FOLDER)
    except FileExistsError:
        return
    if shared:
        os.chmod(path, _SHARED_FOLDER)  # the umask has taken from it


def make_run_folder(folder: RunFolder, manifest: Path) -> None:
    """Make the folder of a new run, for the user alone: what lies in it is run.

    The group that shares the manifest, if one does, may read the logs. Raises `OSError` when it cannot be made.
    """
    folder.path.mkdir(parents=True)
    folder.path.chmod(_PRIVATE_FOLDER)
    for name in folder.FOLDERS:
        (folder.path / name).mkdir(mode=_PRIVATE_FOLDER)
    if is_shared(manifest.parent):
        with suppress(PermissionError):  # not a member of that group: then she reads them alone
            for path in (folder.path, folder.path / "logs"):
                os.chown(path, -1, manifest.stat().st_gid)
                path.chmod(0o750)
