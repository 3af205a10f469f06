"""The cache: successful instances by identity, over all runs. Functions of an open connection."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection

from ..states import TaskState
from . import moves
from .records import CachedResult, TaskInstanceRecord
from .rows import INSTANCE_QUERY, pack_hash, to_instance, unpack_hash

# Literals, because only then SQLite sees that the partial index covers the question.
_IS_HIT = f"i.state = {moves.CODES[TaskState.SUCCESS]} AND i.identity IS NOT NULL"


def find(connection: sqlite3.Connection, task_name: str, identity: str) -> TaskInstanceRecord | None:
    """Return the most recent successful instance with that identity, or None; '' finds none."""
    row = connection.execute(
        f"{INSTANCE_QUERY} WHERE i.identity = ? AND {_IS_HIT} AND t.name = ?"
        " ORDER BY i.finished_at DESC, i.id DESC LIMIT 1",
        (pack_hash(identity), task_name),
    ).fetchone()
    return to_instance(row) if row else None


def lookup(connection: sqlite3.Connection, task_name: str, identities: Collection[str]) -> dict[str, CachedResult]:
    """Return the newest successful instance per identity; identities without one are left out."""
    connection.execute("CREATE TEMP TABLE IF NOT EXISTS wanted (identity BLOB PRIMARY KEY) WITHOUT ROWID")
    connection.execute("DELETE FROM wanted")
    connection.executemany(
        "INSERT OR IGNORE INTO wanted (identity) VALUES (?)",
        [(pack_hash(identity),) for identity in identities if identity],
    )
    # CROSS JOIN keeps the order of the tables: the other way round it would read all instances of the task.
    # Of the columns beside max(), SQLite takes the values of the row that has the maximum.
    rows = connection.execute(
        "SELECT i.identity, i.id, r.run_id, i.output, i.output_hash, max(i.finished_at)"
        "  FROM wanted CROSS JOIN instances i INDEXED BY instances_cache"
        "  JOIN tasks t ON t.id = i.task JOIN runs r ON r.id = t.run"
        f" WHERE i.identity = wanted.identity AND {_IS_HIT} AND t.name = ? GROUP BY i.identity",
        (task_name,),
    )
    return {
        unpack_hash(identity): CachedResult(instance, run_id, output, unpack_hash(output_hash))
        for identity, instance, run_id, output, output_hash, _ in rows
    }
