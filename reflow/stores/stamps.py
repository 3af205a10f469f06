"""Tell whether anybody has written to the manifest between two looks, where no lock keeps writers out."""

from __future__ import annotations

import errno
import os
from pathlib import Path


def stamp(path: Path) -> tuple[object, ...] | None:
    """Return what differs after any write to the file; None while a journal says that it is half written.

    To be called while this process has no connection that relies on SQLite's locks: closing any descriptor of the file
    drops them.
    """
    if _is_half_written(path):
        return None
    # Opened, because opening is when a client of NFS asks the server for the file's size and times.
    with open(path, "rb") as file:
        status = os.fstat(file.fileno())
        return status.st_ino, status.st_size, status.st_mtime_ns, file.read(100)


def _is_half_written(path: Path) -> bool:
    # Listed afresh: that a name is not there may be remembered on NFS for a minute, a listing is not.
    if f"{path.name}-journal" not in os.listdir(path.parent):
        return False
    try:
        with open(f"{path}-journal", "rb") as journal:
            # The header stays zero until the journal is whole on disk, and only then the file is written.
            return journal.read(1) not in (b"", b"\0")
    except OSError as error:
        # Gone since the listing: on NFS that may be "stale file handle".
        return error.errno not in (errno.ENOENT, errno.ESTALE)
