"""What can be said about a manifest as a file: its size, its rows, and the file system that it lies on."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any

from . import locking, mounts, run_table, schema
from .connection import Database
from .lease import Lease
from .spool import Spool
from .upkeep import output_files

_TABLES = ("runs", "tasks", "instances", "attempts", "waves", "remarks")


def facts_of(path: Path) -> dict[str, Any]:
    """Return everything that `reflow store info` shows, JSON-safe. Writes nothing but the files of the lock test."""
    database = Database(path, readonly=True)
    try:
        found = database.read(_read, path)
        publish_only = database.publish_only
    finally:
        database.close()
    folder = path.parent
    mount = mounts.mount_of(folder)
    problem = locking.self_test(folder).problem if os.access(folder, os.W_OK) else mounts.problem_of(folder)
    spool = Spool(path)
    outputs = [output.stat().st_size for output in output_files(path)]
    lease = Path(f"{path}.lease")
    status = path.stat()
    return {
        "path": str(path),
        "bytes": status.st_size,
        "mode": f"{status.st_mode & 0o7777:04o}",
        **found,
        "file_system": None if mount is None else mount.kind,
        "mount_point": None if mount is None else mount.point,
        "mount_options": [] if mount is None else sorted(mount.options),
        "lock_problem": problem,
        "publish_only": publish_only,
        "lease": Lease(lease).holder() if lease.is_dir() else None,
        "waiting_reports": len(spool.waiting()),
        "rejected_reports": len(spool.rejected()),
        "big_outputs": len(outputs),
        "big_output_bytes": sum(outputs),
    }


def _read(connection: sqlite3.Connection, path: Path) -> dict[str, Any]:
    pragmas = {
        name: connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "page_size", "page_count", "freelist_count")
    }
    shown = run_table.IS_THERE
    return {
        "schema_version": schema.version_of(connection, path),
        "journal_mode": pragmas["journal_mode"],
        "free_bytes": pragmas["page_size"] * pragmas["freelist_count"],
        "rows": {table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in _TABLES},
        "runs": dict(connection.execute(f"SELECT status, count(*) FROM runs WHERE {shown} GROUP BY status").fetchall()),
    }
