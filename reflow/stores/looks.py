"""What a person is shown of single instances: which failed and how, which run longest, what was like one before."""

from __future__ import annotations

import sqlite3
from datetime import datetime
from typing import Any

from .. import clock
from ..states import TaskState
from . import cache, moves, task_table
from .connection import Database
from .records import FailedInstance, RunningInstance, TaskInstanceRecord
from .rows import INSTANCE_QUERY, to_instance, unpack_index

# The end of an error text that tells failures apart: the last lines of a traceback. Whole texts have 8,000 characters,
# and ten thousand of them would be read to show five.
_ERROR_TAIL = 1_200


class Looks:
    """The questions that only people ask."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def failures(self, run_id: str, task_name: str | None = None, *, limit: int) -> list[FailedInstance]:
        """Return failed instances in short, tasks in the order of the run, by index; at most `limit` of them."""
        return self._database.read(_failures, run_id, task_name, limit)

    def longest_running(self, run_id: str) -> list[RunningInstance]:
        """Return for each task the instance that has been running longest. Scans the tasks that have a running one."""
        return self._database.read(_longest_running, run_id)

    def instance(self, instance: int) -> TaskInstanceRecord | None:
        """Return the instance with that database id, or None; without an output that is a file."""
        row = self._database.read(_row_of, instance)
        return to_instance(row, None) if row else None

    def earlier_successes(
        self, task_name: str, index: int | None, identity: str, before: datetime, limit: int
    ) -> list[TaskInstanceRecord]:
        """Return successes of tasks of that name that ended by then, the likest first: of that identity or index."""
        return self._database.read(cache.earlier, task_name, index, identity, clock.from_datetime(before), limit)


def _failures(connection: sqlite3.Connection, run_id: str, task_name: str | None, limit: int) -> list[FailedInstance]:
    found: list[FailedInstance] = []
    for key in task_table.keys_of(connection, run_id, task_name):
        if not task_table.count(connection, key, (TaskState.FAILED,)):
            continue
        rows = connection.execute(
            "SELECT i.id, t.name, i.idx, i.attempt, i.failure, i.exit_code, i.signal, n.name, i.finished_at,"
            f" ifnull(substr(i.error, -{_ERROR_TAIL}), '')"
            " FROM instances i JOIN tasks t ON t.id = i.task LEFT JOIN nodes n ON n.id = i.node"
            f" WHERE i.task = ? AND i.state = {moves.CODES[TaskState.FAILED]} ORDER BY i.idx LIMIT ?",
            (key, limit - len(found)),
        )
        found += [FailedInstance(row[0], row[1], unpack_index(row[2]), *row[3:]) for row in rows]
    return found


def _longest_running(connection: sqlite3.Connection, run_id: str) -> list[RunningInstance]:
    found = []
    for key in task_table.keys_of(connection, run_id, None):
        if not task_table.count(connection, key, (TaskState.RUNNING,)):
            continue
        row = connection.execute(
            "SELECT t.name, i.idx, i.started_at FROM instances i JOIN tasks t ON t.id = i.task"
            f" WHERE i.task = ? AND i.state = {moves.CODES[TaskState.RUNNING]} AND i.started_at IS NOT NULL"
            " ORDER BY i.started_at LIMIT 1",
            (key,),
        ).fetchone()
        if row is not None:
            found.append(RunningInstance(row[0], unpack_index(row[1]), row[2]))
    return found


def _row_of(connection: sqlite3.Connection, instance: int) -> tuple[Any, ...] | None:
    row: tuple[Any, ...] | None = connection.execute(f"{INSTANCE_QUERY} WHERE i.id = ?", (instance,)).fetchone()
    return row
