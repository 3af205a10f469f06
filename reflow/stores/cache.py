"""The cache: successful instances by identity, over all runs. Functions of an open connection."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator
from typing import Any

from ..states import TaskState
from . import moves, run_table
from .records import CachedResult, TaskInstanceRecord
from .rows import INSTANCE_QUERY, marks, pack_hash, pack_index, to_instance, unpack_hash

_SUCCESS = moves.CODES[TaskState.SUCCESS]

# Reading a row in order costs a fifth of finding one by its identity.
_SCAN_FACTOR = 4

# Results of a run that is being removed are about to go, and so may those of an expansion that is under way.
_IS_USABLE = f"r.{run_table.IS_THERE} AND t.expansion IS NULL"
_IS_HIT = f"i.state = {_SUCCESS} AND i.identity IS NOT NULL AND {_IS_USABLE}"

# What the index holds, in its very words: only then SQLite finds it.
_PREFIX = "substr(i.identity, 1, 8)"


def find(connection: sqlite3.Connection, task_name: str, identity: str) -> list[tuple[Any, ...]]:
    """Return the successful instances with that identity as rows of `INSTANCE_QUERY`, newest first; '' finds none."""
    return connection.execute(
        f"{INSTANCE_QUERY} WHERE i.identity = :identity AND {_PREFIX} = substr(:identity, 1, 8) AND {_IS_HIT}"
        " AND t.name = :task ORDER BY i.finished_at DESC, i.id DESC",
        {"identity": pack_hash(identity), "task": task_name},
    ).fetchall()


def lookup(connection: sqlite3.Connection, task_name: str, identities: Collection[str]) -> dict[str, CachedResult]:
    """Return the newest successful instance per identity; identities without one are left out."""
    # In the caller's order, in which neighbours among the results mostly lie together.
    wanted = {pack_hash(identity): identity for identity in identities if identity}
    tasks = _tasks(connection, task_name)
    there = sum(number for _, number in tasks.values())
    rows = _scan(connection, task_name) if there < _SCAN_FACTOR * len(wanted) else _join(connection, wanted)
    newest: dict[str, tuple[int, CachedResult]] = {}
    for packed, instance, task, output, output_hash, finished_at, file in rows:
        identity = wanted.get(packed)
        if identity is not None and task in tasks:
            known = newest.get(identity)
            if known is None or (finished_at, instance) > (known[0], known[1].instance):
                result = CachedResult(instance, tasks[task][0], output, unpack_hash(output_hash), unpack_hash(file))
                newest[identity] = finished_at, result
    return {identity: result for identity, (_, result) in newest.items()}


def _tasks(connection: sqlite3.Connection, task_name: str) -> dict[int, tuple[str, int]]:
    """Return, by row id of each task of that name, its run and its successes; those left out have none to use.

    Asked for once: to join them to each of a million instances took a third of the look-up.
    """
    rows = connection.execute(
        "SELECT t.id, r.run_id, c.instances FROM tasks t JOIN runs r ON r.id = t.run JOIN counts c ON c.task = t.id"
        f" WHERE t.name = ? AND {_IS_USABLE} AND c.state = {_SUCCESS} AND c.instances > 0",
        (task_name,),
    )
    return {task: (run_id, number) for task, run_id, number in rows}


_COLUMNS = "i.identity, i.id, i.task, i.output, i.output_hash, ifnull(i.finished_at, 0), i.output_file"


def _scan(connection: sqlite3.Connection, task_name: str) -> Iterator[tuple[Any, ...]]:
    """Read every success of the task's name, in the order of the file."""
    return connection.execute(
        f"SELECT {_COLUMNS} FROM tasks t CROSS JOIN instances i"
        f" WHERE t.name = ? AND i.task = t.id AND i.state = {_SUCCESS} AND i.identity IS NOT NULL",
        (task_name,),
    )


def _join(connection: sqlite3.Connection, wanted: Collection[bytes | str | None]) -> Iterator[tuple[Any, ...]]:
    """Ask the index for each identity."""
    connection.execute("CREATE TEMP TABLE IF NOT EXISTS wanted (identity BLOB)")
    connection.execute("DELETE FROM wanted")
    connection.executemany("INSERT INTO wanted (identity) VALUES (?)", zip(wanted))
    # CROSS JOIN keeps the order of the tables: the other way round it would read all instances.
    return connection.execute(
        f"SELECT {_COLUMNS} FROM wanted CROSS JOIN instances i INDEXED BY instances_cache"
        f" WHERE {_PREFIX} = substr(wanted.identity, 1, 8) AND i.identity = wanted.identity"
        f" AND i.identity IS NOT NULL AND i.state = {_SUCCESS}"
    )


def earlier(
    connection: sqlite3.Connection, task_name: str, index: int | None, identity: str, before: int, limit: int
) -> list[TaskInstanceRecord]:
    """Return successes of the task's name that ended by then, the likest first: of that identity, index, or any."""
    condition = f"t.name = :task AND i.task = t.id AND i.state = {_SUCCESS} AND i.finished_at <= :before"
    values = {"task": task_name, "index": pack_index(index), "identity": pack_hash(identity), "before": before}
    keys: list[int] = []
    for narrower in (
        f"i.identity = :identity AND {_PREFIX} = substr(:identity, 1, 8)",
        "i.idx = :index",
        "i.idx = (SELECT min(idx) FROM instances WHERE task = t.id)",
    ):
        found = connection.execute(
            f"SELECT i.id FROM tasks t CROSS JOIN instances i WHERE {condition} AND {narrower}"
            " ORDER BY i.finished_at DESC, i.id DESC LIMIT :limit",
            {**values, "limit": limit},
        )
        keys += [key for (key,) in found if key not in keys]
        if len(keys) >= limit:
            break
    rows = connection.execute(f"{INSTANCE_QUERY} WHERE i.id IN ({marks(len(keys))})", keys)
    instances = (to_instance(row, None) for row in rows)  # without outputs that are files
    return sorted(instances, key=lambda each: keys.index(each.id))[:limit]
