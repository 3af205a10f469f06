"""Creating the instances of a task, in turns: functions of an open connection.

A turn that wrote a million rows would keep everybody else waiting for seconds. Until the last turn the task counts as
not expanded: it has no width, and no snapshot, summary or look-up sees its rows. An expansion that was cut short is
begun again from nothing, because what it was made from may have changed since.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from .. import clock
from ..errors import ResultRemoved
from ..states import RunState, TaskState
from . import counting, moves, run_table, task_table
from .records import NewInstance
from .rows import pack_hash, pack_index

_PENDING = moves.CODES[TaskState.PENDING]
_SUCCESS = moves.CODES[TaskState.SUCCESS]

#: Rows and bytes of input that one turn writes at most. Each turn writes to most pages of the cache's index, in which
#: neighbours lie far apart, so fewer and longer turns cost less: 100,000 rows took half a second.
TURN_ROWS = 100_000
TURN_BYTES = 64_000_000

#: Stored index, identity, input hash, input and id of the cached instance, as `NewInstance` has them.
PackedRow = tuple[int, "bytes | str | None", "bytes | str | None", "str | None", "int | None"]


@dataclass(frozen=True)
class Piece:
    """What one turn writes."""

    rows: list[PackedRow]
    #: How many rows of the task come before these.
    before: int
    #: Width of the task if these are the last, else None.
    width: int | None


def pieces(task_name: str, instances: Iterable[NewInstance], width: int) -> Iterator[Piece]:
    """Yield the instances turn by turn, packed; `ValueError` if they are not as many as `width`.

    The last piece comes only when nothing follows it, so that too many are refused as well.
    """
    rows: list[PackedRow] = []
    common: dict[str, bytes | str | None] = {}  # one hash of the direct inputs for all instances, as a rule
    before = size = 0
    for new in instances:
        if len(rows) == TURN_ROWS or size > TURN_BYTES:
            yield Piece(rows, before, None)
            before += len(rows)
            rows, size = [], 0
        if new.input_hash not in common:
            common = {new.input_hash: pack_hash(new.input_hash)}
        rows.append(
            (pack_index(new.index), pack_hash(new.identity), common[new.input_hash], new.input, new.cached_from)
        )
        size += len(new.input or "")
    if before + len(rows) != width:
        raise ValueError(f"task '{task_name}' is {width} wide, but {before + len(rows)} instances were given")
    yield Piece(rows, before, width)


def new_token() -> int:
    """Return a number by which an expansion knows that the rows of its task are its own."""
    return int.from_bytes(os.urandom(7), "little") + 1


def add(connection: sqlite3.Connection, run_id: str, task_name: str, token: int, piece: Piece) -> bool | None:
    """Write one piece; the last one records the width.

    Returns False, and has to be called again, while rows of an expansion that was cut short have to be deleted first,
    some in each turn. Returns None when there is nothing more to do: the task is expanded, the run is over, or another
    dispatcher has begun to expand the task.
    """
    task = task_table.key_of(connection, run_id, task_name)
    width, owner = connection.execute("SELECT width, expansion FROM tasks WHERE id = ?", (task,)).fetchone()
    if width is not None or run_table.status_of(connection, run_id) is not RunState.RUNNING:
        return None
    if owner != token and piece.before:
        return None
    if owner is not None:
        there = task_table.count(connection, task)
        if there < piece.before:
            return None  # another one has begun, and has been cut short too
        if there > piece.before:
            _set_owner(connection, task, token)
            _delete(connection, task, TURN_ROWS)
            return False
    _insert(connection, task, piece.rows)
    if piece.width is not None:
        connection.execute("UPDATE tasks SET width = ?, expansion = NULL WHERE id = ?", (piece.width, task))
    elif owner != token:
        _set_owner(connection, task, token)
    return True


def _set_owner(connection: sqlite3.Connection, task: int, token: int) -> None:
    connection.execute("UPDATE tasks SET expansion = ? WHERE id = ?", (token, task))


def _delete(connection: sqlite3.Connection, task: int, limit: int) -> None:
    """Delete some of what an expansion that was cut short has left; no worker has ever heard of these instances."""
    (first,) = connection.execute("SELECT min(idx) FROM instances WHERE task = ?", (task,)).fetchone()
    span = {"task": task, "first": first, "last": first + limit - 1}
    doomed = "FROM instances WHERE task = :task AND idx BETWEEN :first AND :last"
    tally = counting.Tally()
    for state, number, cached in connection.execute(
        f"SELECT state, count(*), count(cached_from) {doomed} GROUP BY state", span
    ):
        tally.add(task, state, -number, cached=-cached)
    tally.write(connection)
    # A history they have if the run was cancelled and retried since.
    connection.execute(f"DELETE FROM attempts WHERE instance IN (SELECT id {doomed})", span)
    connection.execute(f"DELETE {doomed}", span)


def _insert(connection: sqlite3.Connection, task: int, rows: list[PackedRow]) -> None:
    """Insert by one statement from a table in memory: a fifth less than a statement for each row.

    For cached rows it is much less, since reading from the table that is written to makes a copy for each statement.
    """
    now, tally = clock.now(), counting.Tally()
    connection.execute(
        "CREATE TEMP TABLE IF NOT EXISTS arriving"
        " (idx INTEGER, identity BLOB, input_hash BLOB, input TEXT, cached_from INTEGER)"
    )
    connection.execute("DELETE FROM arriving")
    connection.executemany("INSERT INTO arriving VALUES (?, ?, ?, ?, ?)", rows)
    new = connection.execute(
        "INSERT INTO instances (task, idx, state, created_at, updated_at, identity, input_hash, input)"
        f" SELECT {task}, idx, {_PENDING}, {now}, {now}, identity, input_hash, input FROM arriving"
        " WHERE cached_from IS NULL"
    ).rowcount
    tally.add(task, _PENDING, new)
    if new < len(rows):
        hits = _take_over(connection, task, now)
        if new + hits != len(rows):
            raise ResultRemoved("a cached result has just been removed from the manifest, or given up; submit again")
        tally.add(task, _SUCCESS, hits, cached=hits)
        tally.span(task, _SUCCESS, None, now)
    tally.write(connection)
    connection.execute("DELETE FROM arriving")


def _take_over(connection: sqlite3.Connection, task: int, now: int) -> int:
    # CROSS JOIN keeps the order of the tables.
    return connection.execute(
        "INSERT INTO instances"
        " (task, idx, state, created_at, updated_at, finished_at, identity, input_hash, input, cached_from,"
        "  output_hash, output, output_file)"
        f" SELECT {task}, a.idx, {_SUCCESS}, {now}, {now}, {now}, a.identity, a.input_hash, a.input, s.id,"
        "  s.output_hash, s.output, s.output_file"
        f" FROM arriving a CROSS JOIN instances s ON s.id = a.cached_from AND s.state = {_SUCCESS}"
        # It may have been made again since the look-up, from other results.
        " AND s.identity IS a.identity"
    ).rowcount
