"""The files of a run: how many they are, and how they are deleted without touching anything else.

Every folder is opened from the one above it and never through a symlink, so nothing outside the run's folder can be
reached, even while somebody exchanges folders.
"""

from __future__ import annotations

import errno
import os
import pwd
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from .errors import ReflowError
from .paths import RunFolder

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True)
class Usage:
    """What files take."""

    files: int = 0
    bytes: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.files + other.files, self.bytes + other.bytes)


def exist(folder: RunFolder) -> bool:
    """Return whether the run has a folder that can be reached without a symlink of somebody else's."""
    with _opened(folder) as descriptor:
        return descriptor is not None


def measure(folder: RunFolder) -> Usage:
    """Count the run's files and their bytes; what is not reflow's own is left out."""
    total = Usage()
    with _opened(folder) as descriptor:
        if descriptor is not None:
            for name in (*folder.FOLDERS, *folder.FILES):
                total += _measure(name, descriptor)
    return total


def check_removable(folder: RunFolder) -> None:
    """Raise `ReflowError` when this user may not delete the run's files."""
    places = [folder.path, *(folder.path / name for name in folder.FOLDERS)]
    for place in places:
        if place.is_dir() and not place.is_symlink() and not os.access(place, os.W_OK | os.X_OK):
            raise _not_ours(folder, place)


def remove(folder: RunFolder) -> list[str]:
    """Delete the run's files and its folder; return the names in it that are not reflow's and stay with the folder.

    Raises `ReflowError` when something cannot be deleted; a later call goes on.
    """
    try:
        with _opened(folder) as descriptor:
            if descriptor is None:
                return []
            for name in (*folder.FOLDERS, *folder.FILES):
                _remove(name, descriptor)
            half_written = tuple(f".{name}." for name in folder.FILES)
            for name in os.listdir(descriptor):
                if name.startswith(half_written):
                    _remove(name, descriptor)
            left = sorted(os.listdir(descriptor))
        if not left:
            for place in (folder.path, folder.path.parent):
                with suppress(FileNotFoundError):
                    os.rmdir(place)
    except OSError as error:
        if (
            error.errno == errno.ENOTEMPTY
        ):  # other runs are in the run directory too, or a worker has just written a log
            return []
        raise ReflowError(
            f"the files of run '{folder.run_id}' in '{folder.path}' cannot be deleted: {error.strerror}; see to that "
            "and remove the run again"
        ) from error
    return left


@contextmanager
def _opened(folder: RunFolder) -> Iterator[int | None]:
    """Open the run's folder; yields None where there is none, or a symlink in its place."""
    opened: list[int] = []
    try:
        # The run directory is the user's, who may reach it by any symlinks; what is below it is ours.
        opened.append(os.open(folder.run_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        for name in folder.path.relative_to(folder.run_dir).parts:
            opened.append(os.open(name, _FOLDER, dir_fd=opened[-1]))
    except (FileNotFoundError, NotADirectoryError):
        pass
    except PermissionError:
        _close(opened)
        raise _not_ours(folder, folder.run_dir) from None
    except OSError as error:
        if error.errno != errno.ELOOP:
            _close(opened)
            raise
    try:
        depth = 1 + len(folder.path.relative_to(folder.run_dir).parts)
        yield opened[-1] if len(opened) == depth else None
    finally:
        _close(opened)


def _close(descriptors: list[int]) -> None:
    for descriptor in reversed(descriptors):
        os.close(descriptor)


def _measure(name: str, parent: int) -> Usage:
    try:
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if not stat.S_ISDIR(found.st_mode):
            return Usage(1, found.st_size)
        descriptor = os.open(name, _FOLDER, dir_fd=parent)
    except OSError:
        return Usage()  # gone meanwhile, or not ours to see
    try:
        total = Usage()
        for inner in os.listdir(descriptor):
            total += _measure(inner, descriptor)
        return total
    finally:
        os.close(descriptor)


def _remove(name: str, parent: int) -> None:
    try:
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if not stat.S_ISDIR(found.st_mode):
            os.unlink(name, dir_fd=parent)
            return
        if found.st_dev != os.fstat(parent).st_dev:
            return  # something is mounted there
        descriptor = os.open(name, _FOLDER, dir_fd=parent)
        try:
            for inner in os.listdir(descriptor):
                _remove(inner, descriptor)
        finally:
            os.close(descriptor)
        os.rmdir(name, dir_fd=parent)
    except FileNotFoundError:
        pass  # another removal was faster


def _not_ours(folder: RunFolder, place: Path) -> ReflowError:
    try:
        owner = f" ({_name_of(place.stat().st_uid)})"
    except OSError:
        owner = ""
    return ReflowError(
        f"run '{folder.run_id}' was not removed: you may not delete files in '{place}'; ask its owner{owner} to remove "
        "the run"
    )


def _name_of(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)
