"""Removing runs: functions of an open connection, each a short turn.

A removal may be cut off anywhere. Its first turn marks the run, which from then on nobody but a removal sees; its last
deletes the run's own row, which says where its files are. Whatever is left in between, the next removal goes on with.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from .. import clock
from ..errors import ReflowError
from ..states import RunState, TaskState
from . import moves
from .rows import SINGLETON, unpack_hash

# Run and task of the one row that outlives its run: see `_bury`.
_GRAVE = ""

_SUCCESS = moves.CODES[TaskState.SUCCESS]


@dataclass(frozen=True)
class RemovableRun:
    """A run as a removal sees it."""

    run_id: str
    user_id: str
    graph_name: str
    status: RunState
    created_at: datetime
    #: When it last changed: when its last instance ended, or when it was created.
    ended_at: datetime
    #: Number of its instances.
    instances: int
    #: Where its folder is; None when it was recorded without one.
    run_dir: str | None
    #: Whether its files were removed and its rows kept for the cache.
    results_only: bool
    #: Whether an earlier removal was cut off.
    is_half_removed: bool
    #: Whether the cache could use one of its results.
    has_results: bool


def find(
    connection: sqlite3.Connection,
    *,
    run_ids: Collection[str] | None = None,
    user_id: str | None = None,
    graph_name: str | None = None,
    before: datetime | None = None,
) -> list[RemovableRun]:
    """Return the runs that meet every condition, those of cut off removals among them, oldest first.

    `before` leaves out the runs that are not over, or have changed since.
    """
    rows = connection.execute(
        "SELECT id, run_id, user_id, graph_name, status, created_at, settings, removal FROM runs"
        " WHERE run_id <> ? ORDER BY created_at, id",
        (_GRAVE,),
    ).fetchall()
    found = []
    for key, run_id, user, graph, status, created_at, settings, removal in rows:
        if run_ids is not None and run_id not in run_ids:
            continue
        if user_id not in (None, user) or graph_name not in (None, graph):
            continue
        ended_at, instances = connection.execute(
            "SELECT max(c.finished_at), sum(c.instances) FROM tasks t JOIN counts c ON c.task = t.id WHERE t.run = ?",
            (key,),
        ).fetchone()
        changed_at = max(created_at, ended_at or 0)
        is_recent = before is not None and changed_at >= clock.from_datetime(before)
        if removal < 2 and before is not None and (is_recent or status == RunState.RUNNING.value):
            continue
        found.append(
            RemovableRun(
                run_id,
                user,
                graph,
                RunState(status),
                clock.to_datetime(created_at),
                clock.to_datetime(changed_at),
                instances or 0,
                json.loads(settings).get("run_dir"),
                removal == 1,
                removal == 2,
                _has_results(connection, key),
            )
        )
    return found


def keep_results(connection: sqlite3.Connection, run_id: str) -> None:
    """Mark the run as one whose files go and whose rows stay; a RUNNING run is refused."""
    _mark(connection, run_id, 1)


def begin(connection: sqlite3.Connection, run_id: str) -> None:
    """Mark the run as being removed, so that nobody else sees it any more; a RUNNING run is refused."""
    _mark(connection, run_id, 2)


def delete_instances(connection: sqlite3.Connection, run_id: str, limit: int) -> int:
    """Delete up to `limit` instances of a run that is being removed, with their histories; return how many."""
    row = connection.execute(
        "SELECT task, first FROM"
        " (SELECT t.id AS task, (SELECT idx FROM instances WHERE task = t.id ORDER BY idx LIMIT 1) AS first"
        "    FROM runs r JOIN tasks t ON t.run = r.id WHERE r.run_id = ? AND r.removal = 2)"
        " WHERE first IS NOT NULL LIMIT 1",
        (run_id,),
    ).fetchone()
    if row is None:
        return 0
    task, first = row
    _bury(connection, task)
    span = {"task": task, "first": first, "last": first + limit - 1}
    doomed = "SELECT id FROM instances WHERE task = :task AND idx BETWEEN :first AND :last"
    for table in ("attempts", "remarks"):
        connection.execute(f"DELETE FROM {table} WHERE instance IN ({doomed})", span)
    return connection.execute(
        "DELETE FROM instances WHERE task = :task AND idx BETWEEN :first AND :last", span
    ).rowcount


def finish(connection: sqlite3.Connection, run_id: str) -> None:
    """Delete what is left of a run whose instances and files are gone."""
    key = "(SELECT id FROM runs WHERE run_id = ? AND removal = 2)"
    tasks = f"(SELECT id FROM tasks WHERE run = {key})"
    for table in ("waves", "dependencies", "counts"):
        connection.execute(f"DELETE FROM {table} WHERE task IN {tasks}", (run_id,))
    connection.execute(f"DELETE FROM tasks WHERE run = {key}", (run_id,))
    connection.execute("DELETE FROM runs WHERE run_id = ? AND removal = 2", (run_id,))


def _mark(connection: sqlite3.Connection, run_id: str, removal: int) -> None:
    row = connection.execute("SELECT status FROM runs WHERE run_id = ?", (run_id,)).fetchone()
    if row is None:
        return  # somebody else has just removed it
    if row[0] == RunState.RUNNING.value:
        raise ReflowError(f"run '{run_id}' is RUNNING and was not removed: `reflow cancel {run_id}` ends it")
    connection.execute("UPDATE runs SET removal = ? WHERE run_id = ? AND removal < ?", (removal, run_id, removal))


def _has_results(connection: sqlite3.Connection, key: int) -> bool:
    row = connection.execute(
        "SELECT EXISTS (SELECT 1 FROM tasks t JOIN instances i ON i.task = t.id"
        f" WHERE t.run = ? AND i.state = {_SUCCESS} AND i.identity IS NOT NULL)",
        (key,),
    ).fetchone()
    return bool(row[0])


def _bury(connection: sqlite3.Connection, task: int) -> None:
    """Keep the newest row of all, empty and out of sight, if it is one of this task.

    SQLite gives the next row the number after the largest. Were that one deleted, a new instance would get its
    number, and with it the late report of a worker that outlived its run.
    """
    newest, its_task = connection.execute("SELECT id, task FROM instances ORDER BY id DESC LIMIT 1").fetchone()
    if its_task != task:
        return
    grave = _grave(connection)
    connection.execute("DELETE FROM instances WHERE task = ?", (grave,))
    for table in ("attempts", "remarks"):
        connection.execute(f"DELETE FROM {table} WHERE instance = ?", (newest,))
    connection.execute(
        "UPDATE instances SET task = ?, idx = ?, wave = NULL, node = NULL, cached_from = NULL, identity = NULL,"
        " input_hash = NULL, output_hash = NULL, input = NULL, output = NULL, error = NULL, output_file = NULL"
        " WHERE id = ?",
        (grave, SINGLETON, newest),
    )


def _grave(connection: sqlite3.Connection) -> int:
    find_grave = "SELECT t.id FROM runs r JOIN tasks t ON t.run = r.id WHERE r.run_id = ?"
    row = connection.execute(find_grave, (_GRAVE,)).fetchone()
    if row is None:
        connection.execute(
            "INSERT INTO runs (run_id, graph_name, user_id, created_at, status, parameters, settings, removal)"
            f" VALUES ('', '', '', 0, '{RunState.CANCELLED.value}', '{{}}', '{{}}', 2)"
        )
        connection.execute("INSERT INTO tasks (run, name, is_array) SELECT id, '', 0 FROM runs WHERE run_id = ''")
        row = connection.execute(find_grave, (_GRAVE,)).fetchone()
    key: int = row[0]
    return key


def named_outputs(connection: sqlite3.Connection) -> set[str]:
    """Return the hashes of all big outputs that rows name."""
    rows = connection.execute("SELECT DISTINCT output_file FROM instances WHERE output_file IS NOT NULL")
    return {unpack_hash(stored) for (stored,) in rows}
