"""Between rows and records: hashes, indices, times, and the columns that each record is read from."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, TypeVar

from .. import clock, codec
from ..indices import Indices
from ..states import RunState
from . import moves
from .outputs import OutputFiles
from .records import AttemptRecord, Resources, RunRecord, TaskInstanceRecord, WaveRecord, WaveState

#: The stored index of a singleton.
SINGLETON = -1

#: Larger than every stored index.
_END = 2**62

# SQLite before 3.32 takes 999 parameters in one statement.
_CHUNK = 900

T = TypeVar("T")

RUN_COLUMNS = "run_id, graph_name, user_id, created_at, status, parameters, settings"

#: What `to_run` reads.
RUN_FIELDS = f"{RUN_COLUMNS}, removal"

INSTANCE_QUERY = """
    SELECT i.id, r.run_id, t.name, i.idx, i.state, w.job_id, i.input, i.output, i.error, i.identity, i.input_hash,
           i.output_hash, i.created_at, i.updated_at, i.attempt, i.started_at, i.finished_at, n.name, i.failure,
           i.exit_code, i.signal, i.cached_from, i.exception, i.max_rss, w.mem, w.time, i.output_file
      FROM instances i
      JOIN tasks t ON t.id = i.task
      JOIN runs r ON r.id = t.run
      LEFT JOIN waves w ON w.id = i.wave
      LEFT JOIN nodes n ON n.id = i.node
"""

WAVE_QUERY = """
    SELECT w.id, r.run_id, t.name, w.job_name, w.state, w.job_id, w.sentinel_job_id, w.slots, w.slot_offset,
           w.after_waves, w.created_at, w.pack, w.mem, w.time, w.exclude
      FROM waves w
      JOIN tasks t ON t.id = w.task
      JOIN runs r ON r.id = t.run
"""


def pack_hash(text: str) -> bytes | str | None:
    """Return how a hash is stored: SHA-256 in lower-case hex as 32 bytes, other text as it is, '' as NULL."""
    if len(text) == 64:
        try:
            packed = bytes.fromhex(text)
        except ValueError:
            return text
        return packed if packed.hex() == text else text
    return storable(text) or None


def unpack_hash(stored: bytes | str | None) -> str:
    """Return what `pack_hash` was given."""
    return stored.hex() if isinstance(stored, bytes) else stored or ""


def storable(text: str) -> str:
    """Return text that SQLite can hold: lone surrogates, as in undecodable file names, become ``\\udc80``.

    Inside JSON that is the same string.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="backslashreplace").decode()
    return text


def pack_index(index: int | None) -> int:
    """Return the stored form of an array index."""
    return SINGLETON if index is None else index


def unpack_index(stored: int) -> int | None:
    """Return what `pack_index` was given."""
    return None if stored == SINGLETON else stored


def spans(indices: Iterable[int] | None) -> list[tuple[int, int]]:
    """Return first and last stored index of each range; None is all. Index 0 finds a singleton too."""
    if indices is None:
        return [(SINGLETON, _END)]
    if not isinstance(indices, Indices):
        indices = Indices(indices)
    return [(start or SINGLETON, stop - 1) for start, stop in indices.ranges]


def collect(stored: Iterable[int]) -> Indices:
    """Return stored indices, in ascending order, as Indices; a singleton counts as 0."""
    ranges: list[tuple[int, int]] = []
    start = following = 0
    for index in stored:
        place = max(index, 0)
        if place != following or following == start:
            ranges.append((start, following))
            start = place
        following = place + 1
    ranges.append((start, following))
    return Indices.from_ranges(span for span in ranges if span[0] < span[1])


def chunks(items: Sequence[T], size: int = _CHUNK) -> Iterator[Sequence[T]]:
    """Yield the items in pieces of at most `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def marks(count: int) -> str:
    """Return that many SQL parameters, ``?, ?, ?``."""
    return ", ".join("?" * count)


def to_run(row: Sequence[Any]) -> RunRecord:
    """Make a record of `RUN_FIELDS`."""
    run_id, graph_name, user_id, created_at, status, parameters, settings, removal = row
    return RunRecord(
        run_id,
        graph_name,
        user_id,
        clock.to_datetime(created_at),
        RunState(status),
        codec.loads(parameters),
        json.loads(settings),
        results_only=removal == 1,
    )


def to_instance(row: Sequence[Any], outputs: OutputFiles | None) -> TaskInstanceRecord:
    """Make a record of `INSTANCE_QUERY`; decodes input and output.

    An output that is a file is read from `outputs` (`OutputLost`); without them it is left out.
    """
    file = unpack_hash(row[26])
    return TaskInstanceRecord(
        id=row[0],
        run_id=row[1],
        task_name=row[2],
        array_index=unpack_index(row[3]),
        state=moves.STATES[row[4]],
        job_id=row[5],
        input=_decode(row[6]),
        output=_decode(outputs.text(file) if file and outputs is not None else row[7]),
        error_text=row[8],
        identity=unpack_hash(row[9]),
        input_hash=unpack_hash(row[10]),
        output_hash=unpack_hash(row[11]),
        created_at=clock.to_datetime(row[12]),
        updated_at=clock.to_datetime(row[13]),
        attempt=row[14],
        started_at=_moment(row[15]),
        finished_at=_moment(row[16]),
        node=row[17],
        failure=row[18],
        exit_code=row[19],
        signal=row[20],
        cached_from=row[21],
        exception=row[22] or "",
        max_rss=row[23],
        asked_mem=row[24],
        asked_time=row[25],
    )


def to_attempt(row: Sequence[Any]) -> AttemptRecord:
    """Make a record of the columns that `AttemptRecord` names, in that order."""
    attempt, state, job_id, node, started_at, finished_at, failure, exit_code, signal, error, *more = row
    exception, max_rss, asked_mem, asked_time = more
    return AttemptRecord(
        attempt,
        moves.STATES[state],
        job_id,
        node,
        _moment(started_at),
        _moment(finished_at),
        failure,
        exit_code,
        signal,
        error,
        exception or "",
        max_rss,
        asked_mem,
        asked_time,
    )


def to_wave(row: Sequence[Any]) -> WaveRecord:
    """Make a record of `WAVE_QUERY`."""
    slots = row[7]
    return WaveRecord(
        id=row[0],
        run_id=row[1],
        task_name=row[2],
        job_name=row[3],
        state=WaveState(row[4]),
        job_id=row[5],
        sentinel_job_id=row[6],
        slots=None if slots is None else Indices.parse(slots),
        offset=row[8],
        after_waves=tuple(Indices.parse(row[9] or "")),
        created_at=row[10],
        pack=row[11],
        resources=Resources(row[12], row[13], tuple(row[14].split(",")) if row[14] else ()),
    )


def update_spans(cursor: sqlite3.Cursor, statement: str, values: Sequence[Any], indices: Iterable[int] | None) -> int:
    """Run an UPDATE that ends in ``idx BETWEEN ? AND ?`` for each range of indices; return how many rows it changed."""
    cursor.executemany(statement, [(*values, first, last) for first, last in spans(indices)])
    return max(cursor.rowcount, 0)  # -1 when there was no range at all


def _decode(text: str | None) -> Any:
    return None if text is None else codec.loads(text)


def _moment(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else clock.to_datetime(microseconds)
