"""Making successes again whose results are damaged: functions of an open connection.

The look for damage is the caller's, outside of any turn. Whatever has begun another attempt since is left out.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any

from .. import clock
from ..indices import Indices
from ..remaking import Remake, plan_remake
from ..states import RunState, TaskState
from . import instance_table, moves, run_table, snapshots, task_table
from .rows import collect, unpack_hash, update_spans

_SUCCESS = moves.CODES[TaskState.SUCCESS]


def page(
    connection: sqlite3.Connection, run_id: str, task_name: str, mark: str | None, after: int, limit: int
) -> list[tuple[int, int, instance_table.StoredOutput]]:
    """Return ``(stored index, attempt, output)`` of up to `limit` successes beyond the stored index `after`.

    With `mark` those whose output has that text in it, and those whose output is a file, whatever it has.
    """
    task = task_table.find_key(connection, run_id, task_name)
    rows = connection.execute(
        "SELECT idx, attempt, output, output_hash, output_file FROM instances"
        f" WHERE task = :task AND idx > :after AND state = {_SUCCESS}"
        " AND (:mark IS NULL OR output_file IS NOT NULL OR instr(output, :mark)) ORDER BY idx LIMIT :limit",
        {"task": task, "after": after, "mark": mark, "limit": limit},
    )
    return [
        (index, attempt, (output, unpack_hash(digest), unpack_hash(file)))
        for index, attempt, output, digest, file in rows
    ]


def remake(connection: sqlite3.Connection, run_id: str, damaged: Mapping[tuple[str, int], Indices]) -> Remake:
    """Make these successes RETRYING at their next attempt, with all that was made from them, and the run RUNNING.

    `damaged` has indices by task and by the attempt that made the result. What goes on with other inputs loses its
    identity: launch or its worker finds the new one.
    """
    still: dict[str, Indices] = {}
    for (task_name, attempt), indices in damaged.items():
        still[task_name] = still.get(task_name, Indices()) | _at(connection, run_id, task_name, attempt, indices)
    planned = plan_remake(snapshots.snapshot(connection, run_id), still)
    now = clock.now()
    for task_name, outdated in planned.outdated.items():
        task = task_table.key_of(connection, run_id, task_name)
        _update(connection, "UPDATE instances SET identity = NULL WHERE identity IS NOT NULL", [], task, outdated)
        statement = instance_table.begin_next_attempt(TaskState.RETRYING, moves.REMAKABLE)
        successes = planned.successes(task_name)
        moved = _update(connection, statement, [now], task, successes)
        assert moved == len(successes), "what is planned is what the same turn finds"
        instance_table.forgive(connection, task, successes)
    if planned.count:
        run_table.set_status(connection, run_id, RunState.RUNNING)
        run_table.set_dispatch_requested(connection, run_id, True)
    return planned


def _at(connection: sqlite3.Connection, run_id: str, task_name: str, attempt: int, indices: Indices) -> Indices:
    """Return those of the indices that are still successes of that attempt."""
    task = task_table.key_of(connection, run_id, task_name)
    rows = connection.execute(
        f"SELECT idx FROM instances WHERE task = ? AND state = {_SUCCESS} AND attempt = ? ORDER BY idx", (task, attempt)
    )
    return collect(index for (index,) in rows) & indices


def _update(connection: sqlite3.Connection, statement: str, values: list[Any], task: int, indices: Indices) -> int:
    narrowed = f"{statement} AND task = ? AND idx BETWEEN ? AND ?"
    return update_spans(connection.cursor(), narrowed, [*values, task], indices)
