"""A copy of the manifest that is whole, although workers go on meanwhile."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterable
from contextlib import closing, suppress
from pathlib import Path

from ..errors import ManifestError
from . import removal
from .connection import Database
from .merging import Merger
from .spool import Spool
from .upkeep import output_files


def back_up(manifest: Path, target: Path, *, force: bool) -> int:
    """Copy the manifest to `target` and its big outputs beside that, and return the bytes of the copy.

    Nobody else writes meanwhile: workers publish and go on, and their reports are merged later. The copy is checked
    before it gets its name. Raises `ManifestError` when it cannot be made; an existing file is only replaced with
    `force`.
    """
    if target.exists():
        if target.samefile(manifest):
            raise ManifestError(f"'{target}' is the manifest itself: name another file for its copy")
        if not force:
            raise ManifestError(f"'{target}' exists already: name another file, or replace it with --force")
    if not target.parent.is_dir():
        raise ManifestError(f"there is no folder '{target.parent}' for the copy: make it first")
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    database = Database(manifest, readonly=not os.access(manifest, os.W_OK))
    try:
        _make(part)
        if database.readonly:
            database.read(_copy, part)
        else:
            with database.holding():
                Merger(database, Spool(manifest)).merge_held()
                database.read(_copy, part)
        _check(part, target)
        named = database.read(removal.named_outputs)
        _copy_outputs((path for path in output_files(manifest) if path.name in named), target)
        os.replace(part, target)
    except sqlite3.Error as error:
        raise ManifestError(f"the copy '{target}' cannot be written ({error}); check the disk and the quota") from error
    except OSError as error:
        raise ManifestError(f"the copy '{target}' cannot be written: {error.strerror}; name another place") from error
    finally:
        database.close()
        with suppress(OSError):
            part.unlink()
    return target.stat().st_size


def _make(part: Path) -> None:
    # The copy holds what the manifest holds: only the user may read it.
    os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def _copy(connection: sqlite3.Connection, part: Path) -> None:
    with closing(sqlite3.connect(part)) as copy:
        connection.backup(copy)


def _check(part: Path, target: Path) -> None:
    with closing(sqlite3.connect(part)) as copy:
        found = [text for (text,) in copy.execute("PRAGMA integrity_check(3)")]
    if found != ["ok"]:
        raise ManifestError(
            f"the copy '{target}' was not made, because the manifest is damaged: {'; '.join(map(str, found))}"
        )
    descriptor = os.open(part, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _copy_outputs(files: Iterable[Path], target: Path) -> None:
    """Put the files of big outputs beside the copy; they never change, so a second name for them will do."""
    for path in files:
        copy = Path(f"{target}.outputs") / path.parent.name / path.name
        if copy.exists():
            continue
        copy.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            os.link(path, copy)
        except OSError:  # another file system, or one without links
            part = copy.with_name(f".{copy.name}.{os.getpid()}")
            shutil.copy2(path, part)
            os.replace(part, copy)
