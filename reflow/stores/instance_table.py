"""The instances of the manifest, all moves but those of reports: functions of an open connection."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

from .. import clock
from ..indices import Indices
from ..states import IN_FLIGHT, WAITING, RunState, TaskState
from . import counting, moves, run_table, task_table
from .records import AttemptRecord
from .rows import (
    INSTANCE_QUERY,
    pack_hash,
    pack_index,
    spans,
    storable,
    to_attempt,
    unpack_hash,
    update_spans,
)

_SUCCESS = moves.CODES[TaskState.SUCCESS]

# A person's retry gives the budgets of automatic retries afresh.
_FORGIVE = f"""
    UPDATE attempts SET forgiven = 1
     WHERE instance IN (SELECT id FROM instances
                         WHERE state = {moves.CODES[TaskState.RETRYING]} AND task = ? AND idx BETWEEN ? AND ?)
"""


def insert(
    connection: sqlite3.Connection,
    run_id: str,
    task_name: str,
    array_index: int | None,
    state: TaskState,
    input_text: str | None,
    identity: str,
    input_hash: str,
) -> int:
    """Record one instance and return its id; `ValueError` when the task has that instance already."""
    run = run_table.key_of(connection, run_id)
    task = task_table.ensure(connection, run, task_name, array_index is not None)
    if find(connection, run_id, task_name, array_index) is not None:
        which = task_name if array_index is None else f"{task_name}[{array_index}]"
        raise ValueError(f"run '{run_id}' has an instance '{which}' already")
    now, code = clock.now(), moves.CODES[TaskState(state)]
    tally = counting.Tally()
    tally.add(task, code)
    tally.write(connection)
    cursor = connection.execute(
        "INSERT INTO instances (task, idx, state, created_at, updated_at, identity, input_hash, input)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            task,
            pack_index(array_index),
            code,
            now,
            now,
            pack_hash(identity),
            pack_hash(input_hash),
            input_text,
        ),
    )
    return int(cursor.lastrowid or 0)


def find(
    connection: sqlite3.Connection, run_id: str, task_name: str, array_index: int | None
) -> tuple[Any, ...] | None:
    """Return one instance as a row of `INSTANCE_QUERY`, or None."""
    task = task_table.find_key(connection, run_id, task_name)
    row: tuple[Any, ...] | None = connection.execute(
        f"{INSTANCE_QUERY} WHERE i.task = ? AND i.idx = ?", (task, pack_index(array_index))
    ).fetchone()
    return row


def find_all(
    connection: sqlite3.Connection,
    run_id: str,
    task_name: str | None,
    states: Collection[TaskState] | None,
    *,
    limit: int | None,
) -> list[tuple[Any, ...]]:
    """Return instances, as rows of `INSTANCE_QUERY`, ordered by name of the task and index.

    Rows, so that a million outputs are decoded after the read is over: as long as it lasts no writer can commit.
    """
    left = -1 if limit is None else max(limit, 0)
    wanted = TaskState if states is None else {TaskState(state) for state in states}
    found: list[tuple[Any, ...]] = []
    for task in _keys_by_name(connection, run_id, task_name):
        rows = connection.execute(
            f"{INSTANCE_QUERY} WHERE i.task = ? AND i.state IN {moves.codes(wanted)} ORDER BY i.idx LIMIT ?",
            (task, left if left < 0 else left - len(found)),
        )
        found += rows
    return found


#: Output JSON text, output hash, and the content hash of an output that is a file: `OutputFiles.resolve` reads it.
StoredOutput = tuple["str | None", str, str]


def outputs(
    connection: sqlite3.Connection, run_id: str, task_name: str, after: int, limit: int
) -> list[tuple[int, StoredOutput]]:
    """Return ``(stored index, output)`` of up to `limit` successful instances beyond `after`, in index order."""
    task = task_table.find_key(connection, run_id, task_name)
    rows = connection.execute(
        f"SELECT idx, output, output_hash, output_file FROM instances WHERE task = ? AND state = {_SUCCESS}"
        " AND idx > ? ORDER BY idx LIMIT ?",
        (task, after, limit),
    )
    return [(index, (output, unpack_hash(output_hash), unpack_hash(file))) for index, output, output_hash, file in rows]


def output_hashes(
    connection: sqlite3.Connection, run_id: str, task_name: str, indices: Indices | None
) -> list[tuple[int, str]]:
    """Return ``(index, output hash)`` of the successful instances in index order; index 0 finds a singleton too."""
    task = task_table.find_key(connection, run_id, task_name)
    return [
        (max(index, 0), unpack_hash(output_hash))
        for first, last in spans(indices)
        for index, output_hash in connection.execute(
            f"SELECT idx, output_hash FROM instances WHERE task = ? AND state = {_SUCCESS} AND idx BETWEEN ? AND ?"
            " ORDER BY idx",
            (task, first, last),
        )
    ]


def output_of(
    connection: sqlite3.Connection, run_id: str, task_name: str, array_index: int | None
) -> StoredOutput | None:
    """Return the output of one successful instance, else None."""
    task = task_table.find_key(connection, run_id, task_name)
    row = connection.execute(
        f"SELECT output, output_hash, output_file FROM instances WHERE task = ? AND idx = ? AND state = {_SUCCESS}",
        (task, pack_index(array_index)),
    ).fetchone()
    return (row[0], unpack_hash(row[1]), unpack_hash(row[2])) if row else None


def progress_of(connection: sqlite3.Connection, instance: int) -> tuple[TaskState, int, StoredOutput] | None:
    """Return state, attempt and output of an instance, or None if it is unknown."""
    row = connection.execute(
        "SELECT state, attempt, output, output_hash, output_file FROM instances WHERE id = ?", (instance,)
    ).fetchone()
    return (moves.STATES[row[0]], row[1], (row[2], unpack_hash(row[3]), unpack_hash(row[4]))) if row else None


def ids(connection: sqlite3.Connection, run_id: str, task_name: str) -> list[int]:
    """Return the ids of the task's instances in index order."""
    task = task_table.find_key(connection, run_id, task_name)
    return [key for (key,) in connection.execute("SELECT id FROM instances WHERE task = ? ORDER BY idx", (task,))]


def attempts(connection: sqlite3.Connection, instance: int) -> list[AttemptRecord]:
    """Return the attempts that a retry or a release has put behind an instance, oldest first."""
    rows = connection.execute(
        "SELECT a.attempt, a.state, w.job_id, n.name, a.started_at, a.finished_at, a.failure, a.exit_code, a.signal,"
        " a.error, a.exception, a.max_rss, w.mem, w.time"
        " FROM attempts a LEFT JOIN waves w ON w.id = a.wave LEFT JOIN nodes n ON n.id = a.node"
        " WHERE a.instance = ? ORDER BY a.attempt",
        (instance,),
    )
    return [to_attempt(row) for row in rows]


def fail_pending(
    connection: sqlite3.Connection, run_id: str, task_name: str, error_text: str, indices: Iterable[int] | None
) -> int:
    """Make PENDING, RETRYING and SUBMITTED instances FAILED with that text; return how many."""
    task = task_table.find_key(connection, run_id, task_name)
    if task is None:
        return 0
    return _end(connection, task, TaskState.FAILED, WAITING | {TaskState.SUBMITTED}, error_text, indices)


def cancel(connection: sqlite3.Connection, run_id: str, task_name: str | None) -> int:
    """Make every instance that is not final CANCELLED, and the run too if no task is named; return how many.

    A task that is named and not wholly expanded has no instances yet.
    """
    tasks = task_table.keys_of(connection, run_id, task_name)
    if task_name is not None and task_table.is_expanding(connection, tasks[0]):
        return 0
    unfinished = moves.sources(TaskState.CANCELLED)
    if task_name is None:
        run_table.finish(connection, run_id, RunState.CANCELLED)
    return sum(
        _end(connection, task, TaskState.CANCELLED, unfinished, None, None)
        for task in tasks
        if task_table.count(connection, task, unfinished)
    )


def _end(
    connection: sqlite3.Connection,
    task: int,
    state: TaskState,
    sources: Collection[TaskState],
    error_text: str | None,
    indices: Iterable[int] | None,
) -> int:
    now = clock.now()
    statement = (
        f"UPDATE instances SET state = {moves.CODES[state]}, error = ?, finished_at = ?, updated_at = ?"
        f" WHERE state IN {moves.codes(sources)}"
    )
    error = None if error_text is None else storable(error_text)
    number = _update(connection, statement, [error, now, now], task, indices)
    if number:
        task_table.request_dispatch(connection, [task], [task])
    return number


def retry(connection: sqlite3.Connection, run_id: str, task_name: str | None, indices: Indices | None) -> int:
    """Make FAILED and CANCELLED instances RETRYING, clear the errors of tasks, and make the run RUNNING.

    Returns how many instances and failed tasks that were; with none, only a whole run that is over starts again.
    """
    marked = 0
    for task in task_table.keys_of(connection, run_id, task_name):
        if task_table.count(connection, task, moves.RETRYABLE):
            statement = begin_next_attempt(TaskState.RETRYING, moves.RETRYABLE)
            marked += _update(connection, statement, [clock.now()], task, indices)
            forgive(connection, task, indices)
        if indices is None:
            marked += connection.execute(
                "UPDATE tasks SET error = NULL WHERE id = ? AND error IS NOT NULL", (task,)
            ).rowcount
    over = run_table.status_of(connection, run_id) in (RunState.FAILED, RunState.CANCELLED)
    if marked or (over and task_name is None):
        run_table.set_status(connection, run_id, RunState.RUNNING)
        run_table.set_dispatch_requested(connection, run_id, True)
    return marked


def forgive(connection: sqlite3.Connection, task: int, indices: Indices | None) -> None:
    """Let no earlier attempt of the RETRYING instances count against the budgets of automatic retries."""
    update_spans(connection.cursor(), _FORGIVE, [task], indices)


def try_again(connection: sqlite3.Connection, run_id: str, task_name: str, indices: Indices) -> int:
    """Make these FAILED instances RETRYING without a person, who may have ended the run meanwhile; return how many."""
    if run_table.status_of(connection, run_id) is not RunState.RUNNING:
        return 0
    statement = begin_next_attempt(TaskState.RETRYING, {TaskState.FAILED})
    return _update(connection, statement, [clock.now()], task_table.key_of(connection, run_id, task_name), indices)


def retry_one(connection: sqlite3.Connection, instance: int) -> bool:
    """Make one FAILED or CANCELLED instance RETRYING; return whether it was."""
    cursor = connection.execute(
        f"{begin_next_attempt(TaskState.RETRYING, moves.RETRYABLE)} AND id = ?", (clock.now(), instance)
    )
    connection.execute("UPDATE attempts SET forgiven = 1 WHERE instance = ?", (instance,))
    return cursor.rowcount == 1


def release(connection: sqlite3.Connection, run_id: str, task_name: str, indices: Indices) -> int:
    """Put SUBMITTED and RUNNING instances back to waiting at their next attempt; return how many."""
    task = task_table.key_of(connection, run_id, task_name)
    statement = begin_next_attempt(TaskState.PENDING, moves.IN_HAND)
    number = _update(connection, statement, [clock.now()], task, indices)
    if number:
        task_table.request_dispatch(connection, [task], [])
    return number


def begin_next_attempt(state: TaskState, sources: Collection[TaskState]) -> str:
    """Return the UPDATE, to be narrowed, that begins the next attempt. A trigger keeps the last one in the history."""
    return (
        f"UPDATE instances SET state = {moves.CODES[state]}, attempt = attempt + 1, updated_at = ?, wave = NULL,"
        " node = NULL, exit_code = NULL, signal = NULL, started_at = NULL, finished_at = NULL, failure = NULL,"
        " exception = NULL, max_rss = NULL, cached_from = NULL, output_hash = NULL, output = NULL, output_file = NULL,"
        " error = NULL"
        f" WHERE state IN {moves.codes(sources)}"
    )


def in_flight(connection: sqlite3.Connection, task: int) -> Iterator[tuple[Any, ...]]:
    """Yield ``(id, attempt, state code, wave, stored index)`` of SUBMITTED and RUNNING instances in index order."""
    if not task_table.count(connection, task, IN_FLIGHT):
        return
    yield from connection.execute(
        f"SELECT id, attempt, state, wave, idx FROM instances WHERE task = ? AND state IN {moves.codes(IN_FLIGHT)}"
        " ORDER BY idx",
        (task,),
    )


def _update(
    connection: sqlite3.Connection, statement: str, values: Sequence[Any], task: int, indices: Iterable[int] | None
) -> int:
    return update_spans(
        connection.cursor(), f"{statement} AND task = ? AND idx BETWEEN ? AND ?", [*values, task], indices
    )


def _keys_by_name(connection: sqlite3.Connection, run_id: str, task_name: str | None) -> list[int]:
    rows = connection.execute(
        "SELECT t.id FROM tasks t JOIN runs r ON r.id = t.run"
        " WHERE r.run_id = ? AND (? IS NULL OR t.name = ?) ORDER BY t.name",
        (run_id, task_name, task_name),
    )
    return [key for (key,) in rows]
