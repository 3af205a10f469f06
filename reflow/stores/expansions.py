"""Creating the instances of a task, in turns: functions of an open connection.

A turn that wrote a million rows would keep everybody else waiting for seconds. Until the last turn the task counts as
not expanded: it has no width, and no snapshot, summary or look-up sees its rows. An expansion that was cut short is
begun again from nothing, because what it was made from may have changed since.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator
from enum import Enum
from typing import TypeGuard

from .. import clock
from ..deferred import dataclass
from ..errors import ResultRemoved
from ..states import RunState, TaskState
from . import counting, moves, run_table, task_table
from .records import NewInstance
from .rows import chunks, pack_hash, pack_index

_PENDING = moves.CODES[TaskState.PENDING]
_SUCCESS = moves.CODES[TaskState.SUCCESS]

#: Rows and bytes of input that one turn writes at most. Each turn writes to most pages of the cache's index, in which
#: neighbours lie far apart, so fewer and longer turns cost less: 100,000 rows took half a second.
TURN_ROWS = 100_000
TURN_BYTES = 64_000_000

# Rows that one statement inserts from columns.
_TOGETHER = 5_000

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


class Added(Enum):
    """What came of a turn."""

    #: The piece is written: the next one, please.
    WRITTEN = "written"
    #: Rows of an expansion that was cut short are deleted first, some in each turn: the same piece again.
    NOT_YET = "not yet"
    #: The task is expanded, the run is over, or another dispatcher has begun to expand the task: nothing more to do.
    NEEDLESS = "needless"


def add(connection: sqlite3.Connection, run_id: str, task_name: str, token: int, piece: Piece) -> Added:
    """Write one piece; the last one records the width."""
    task = task_table.key_of(connection, run_id, task_name)
    width, owner = connection.execute("SELECT width, expansion FROM tasks WHERE id = ?", (task,)).fetchone()
    if width is not None or run_table.status_of(connection, run_id) is not RunState.RUNNING:
        return Added.NEEDLESS
    if owner != token and piece.before:
        return Added.NEEDLESS
    if owner is not None:
        there = task_table.count(connection, task)
        if there < piece.before:
            return Added.NEEDLESS  # another one has begun, and has been cut short too
        if there > piece.before:
            _set_owner(connection, task, token)
            _delete(connection, task, TURN_ROWS)
            return Added.NOT_YET
    _insert(connection, task, piece.rows)
    if piece.width is not None:
        connection.execute("UPDATE tasks SET width = ?, expansion = NULL WHERE id = ?", (piece.width, task))
    elif owner != token:
        _set_owner(connection, task, token)
    return Added.WRITTEN


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
    now, tally = clock.now(), counting.Tally()
    alike, others = _alike(rows)
    for columns in alike:
        connection.execute(_INSERT_COLUMNS.format(task=task, now=now), columns)
    new = len(rows) - len(others)
    if others:
        staged, hits = _insert_rows(connection, task, now, others)
        if staged + hits != len(others):
            raise ResultRemoved("a cached result has just been removed from the manifest, or given up; submit again")
        new += staged
        tally.add(task, _SUCCESS, hits, cached=hits)
        tally.span(task, _SUCCESS, None, now if hits else None)
    tally.add(task, _PENDING, new)
    tally.write(connection)


# Rows that are no hits, have neighbouring indices and one hash of their direct inputs, from four columns that are one
# value each: 2.1 s for a million, where a statement for each row took 3.6 s. `lengths` are decimal, in 10 bytes each.
_INSERT_COLUMNS = f"""
    INSERT INTO instances (task, idx, state, created_at, updated_at, identity, input_hash, input)
    WITH RECURSIVE numbered (number, place, length) AS (
        SELECT 0, 1, CAST(substr(:lengths, 1, 10) AS INTEGER)
        UNION ALL
        SELECT number + 1, place + length, CAST(substr(:lengths, 11 + 10 * number, 10) AS INTEGER)
          FROM numbered WHERE number + 1 < :count
    )
    SELECT {{task}}, :first + number, {_PENDING}, {{now}}, {{now}},
           nullif(substr(:identities, 1 + 32 * number, 32), zeroblob(32)), :input_hash,
           nullif(CAST(substr(:inputs, place, length) AS TEXT), '')
      FROM numbered
"""
_NO_IDENTITY = bytes(32)


def _alike(rows: list[PackedRow]) -> tuple[list[dict[str, object]], list[PackedRow]]:
    """Return what `_INSERT_COLUMNS` takes, for all rows that it can insert, and the other rows."""
    alike: list[dict[str, object]] = []
    others: list[PackedRow] = []
    for some in chunks(rows, _TOGETHER):
        first, (_, _, input_hash, _, _) = some[0][0], some[0]
        identities = [row[1] or _NO_IDENTITY for row in some if _is_hash(row[1])]
        inputs = [(row[3] or "").encode() for row in some]
        fits = (
            all(row[4] is None and row[2] == input_hash for row in some)
            and len(identities) == len(some)
            and [row[0] for row in some] == list(range(first, first + len(some)))
        )
        if not fits:
            others += some
            continue
        alike.append(
            {
                "first": first,
                "count": len(some),
                "input_hash": input_hash,
                "identities": b"".join(identities),
                "inputs": b"".join(inputs),
                "lengths": "".join([f"{len(text):10}" for text in inputs]).encode(),
            }
        )
    return alike, others


def _is_hash(identity: bytes | str | None) -> TypeGuard[bytes | None]:
    """Return whether an identity is a hash, or none at all; callers may make up others."""
    return (identity is None or isinstance(identity, bytes)) and identity != _NO_IDENTITY


def _insert_rows(connection: sqlite3.Connection, task: int, now: int, rows: list[PackedRow]) -> tuple[int, int]:
    """Insert any rows, by way of a table in memory; return how many new ones that were, and how many hits."""
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
    # One statement for all: reading from the table that is written to makes a copy, each time. CROSS JOIN keeps the
    # order of the tables.
    hits = connection.execute(
        "INSERT INTO instances"
        " (task, idx, state, created_at, updated_at, finished_at, identity, input_hash, input, cached_from,"
        "  output_hash, output, output_file)"
        f" SELECT {task}, a.idx, {_SUCCESS}, {now}, {now}, {now}, a.identity, a.input_hash, a.input, s.id,"
        "  s.output_hash, s.output, s.output_file"
        f" FROM arriving a CROSS JOIN instances s ON s.id = a.cached_from AND s.state = {_SUCCESS}"
        # It may have been made again since the look-up, from other results.
        " AND s.identity IS a.identity"
    ).rowcount
    connection.execute("DELETE FROM arriving")
    return new, hits
