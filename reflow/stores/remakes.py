"""Making successes again whose results are damaged: functions of an open connection.

The look for damage is the caller's, outside of any turn. Whatever has begun another attempt since is left out.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from typing import Any

from .. import clock
from ..deferred import dataclass
from ..indices import Indices
from ..remaking import Remake, plan_remake
from ..states import RunState, TaskState
from . import instance_table, moves, run_table, snapshots, task_table
from .rows import collect, unpack_hash, update_spans

#: Rows that one turn gives up at most: 0.5 s of CPU, most of it for the history of attempts.
TURN_ROWS = 100_000

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


def plan(connection: sqlite3.Connection, run_id: str, damaged: Mapping[tuple[str, int], Indices]) -> Remake:
    """Return what is to be made again; `damaged` has indices by task and by the attempt that made the result."""
    still: dict[str, Indices] = {}
    for (task_name, attempt), indices in damaged.items():
        still[task_name] = still.get(task_name, Indices()) | _at(connection, run_id, task_name, attempt, indices)
    return plan_remake(snapshots.snapshot(connection, run_id), still)


@dataclass(frozen=True)
class Turn:
    """What one turn gives up of one task."""

    task: str
    #: Successes that become RETRYING.
    successes: Indices
    #: Those, and what waits or failed behind a result that is given up: their identity is to be found anew.
    outdated: Indices


def turns(planned: Remake) -> Iterator[Turn]:
    """Yield what is planned in turns of at most `TURN_ROWS` rows, what was made from others before those.

    So wherever it ends, nothing stays that was made from a result that was given up.
    """
    for task, outdated in reversed(tuple(planned.outdated.items())):
        rest = outdated
        while rest:
            some = rest.first(TURN_ROWS)
            yield Turn(task, planned.successes(task) & some, some)
            rest = rest - some


def give_up(connection: sqlite3.Connection, run_id: str, turn: Turn) -> None:
    """Make successes RETRYING at their next attempt, let go of identities, and make the run RUNNING."""
    task = task_table.key_of(connection, run_id, turn.task)
    _update(connection, "UPDATE instances SET identity = NULL WHERE identity IS NOT NULL", [], task, turn.outdated)
    statement = instance_table.begin_next_attempt(TaskState.RETRYING, moves.REMAKABLE)
    _update(connection, statement, [clock.now()], task, turn.successes)
    instance_table.forgive(connection, task, turn.successes)
    run_table.set_status(connection, run_id, RunState.RUNNING)
    run_table.set_dispatch_requested(connection, run_id, True)


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
