"""The waves of the manifest and the instances in them: functions of an open connection.

A wave keeps its instances for ever: those that a retry or a release has taken out of it since are found in the
history of attempts, so that slot and instance always match.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Collection
from typing import Any

from .. import clock
from ..errors import ManifestError
from ..indices import Indices
from ..states import WAITING, RunState, TaskState
from . import counting, instance_table, moves, run_table, task_table
from .records import Failure, InFlight, Resources, SlotRow, WaveRecord, WaveState
from .rows import SINGLETON, WAVE_QUERY, collect, spans, storable, to_wave, unpack_index

_WAITING = moves.codes(WAITING)
_SUBMITTED = moves.CODES[TaskState.SUBMITTED]

# Job names are read by people in narrow columns.
_LONGEST_TASK_IN_NAME = 40


def reserve(
    connection: sqlite3.Connection,
    run_id: str,
    task_name: str,
    indices: Indices,
    slots: Indices | None,
    offset: int | None,
    after_waves: Collection[int],
    pack: int,
    resources: Resources,
) -> WaveRecord | None:
    """Record the intent to submit these instances; None, and nothing recorded, when one of them is not free."""
    task = task_table.key_of(connection, run_id, task_name)
    if run_table.status_of(connection, run_id) is not RunState.RUNNING or not indices:
        return None
    wave = _insert(connection, task, task_name, indices, slots, offset, after_waves, pack)
    connection.execute(
        "UPDATE waves SET mem = ?, time = ?, exclude = ? WHERE id = ?",
        (resources.mem, resources.time, ",".join(resources.exclude) or None, wave),
    )
    cursor = connection.executemany(
        f"UPDATE instances SET wave = ? WHERE task = ? AND state IN {_WAITING} AND wave IS NULL"
        " AND idx BETWEEN ? AND ?",
        [(wave, task, first, last) for first, last in spans(indices)],
    )
    if cursor.rowcount != len(indices):
        connection.execute("ROLLBACK")
        return None
    return find(connection, wave)


def find(connection: sqlite3.Connection, wave: int) -> WaveRecord:
    """Return one wave; `ManifestError` if there is none."""
    row = connection.execute(f"{WAVE_QUERY} WHERE w.id = ?", (wave,)).fetchone()
    if row is None:
        raise ManifestError(f"wave {wave} is not in the manifest; it was made from another manifest")
    return to_wave(row)


def find_all(connection: sqlite3.Connection, run_id: str, states: Collection[WaveState] | None) -> list[WaveRecord]:
    """Return the run's waves in these states, oldest first."""
    wanted = [WaveState(state).value for state in (WaveState if states is None else states)]
    rows = connection.execute(f"{WAVE_QUERY} WHERE r.run_id = ? ORDER BY w.id", (run_id,))
    return [wave for wave in map(to_wave, rows) if wave.state.value in wanted]


def rows(connection: sqlite3.Connection, wave: int, after: int, limit: int) -> list[SlotRow]:
    """Return up to `limit` instances of the wave beyond the stored index `after`, in slot order."""
    task, first, last = _span(connection, wave)
    # Each as it was when it belonged to the wave.
    found = connection.execute(
        "SELECT id, idx, attempt, input, identity IS NOT NULL FROM instances"
        " WHERE task = :task AND idx BETWEEN :first AND :last AND wave = :wave"
        " UNION ALL "
        "SELECT i.id, i.idx, a.attempt, i.input, 1 FROM attempts a JOIN instances i ON i.id = a.instance"
        " WHERE a.wave = :wave AND i.idx BETWEEN :first AND :last"
        " ORDER BY 2 LIMIT :limit",
        {"task": task, "first": max(first, after + 1), "last": last, "wave": wave, "limit": limit},
    )
    return [
        SlotRow(instance, unpack_index(index), attempt, text, bool(is_identified))
        for instance, index, attempt, text, is_identified in found
    ]


def is_known_to_run(connection: sqlite3.Connection, wave: int) -> bool:
    """Return whether a worker of the wave has ever reported."""
    task, first, last = _span(connection, wave)
    # A cancelled or refused instance is beyond SUBMITTED too, but proves nothing: no worker has said so.
    reported = moves.codes((TaskState.RUNNING, TaskState.SUCCESS))
    found = connection.execute(
        "SELECT EXISTS (SELECT 1 FROM instances WHERE task = :task AND idx BETWEEN :first AND :last AND wave = :wave"
        f" AND (state IN {reported} OR started_at IS NOT NULL))"
        " OR EXISTS (SELECT 1 FROM attempts WHERE wave = :wave AND started_at IS NOT NULL)",
        {"task": task, "first": first, "last": last, "wave": wave},
    ).fetchone()
    return bool(found[0])


def record_submission(
    connection: sqlite3.Connection, wave: int, job_id: str, after: int, limit: int
) -> tuple[int | None, bool]:
    """Record the job id and make waiting instances SUBMITTED, up to `limit` of those beyond the stored index `after`.

    Returns the index that was reached, None when that were all, and whether the job is still wanted: not when all was
    cancelled meanwhile. The wave is an intent until the last turn, so that another dispatcher can go on.
    """
    task, first, last = _span(connection, wave)
    first = max(first, after + 1)
    connection.execute("UPDATE waves SET job_id = ? WHERE id = ?", (job_id, wave))
    waiting = f"task = :task AND idx BETWEEN :first AND :last AND wave = :wave AND state IN {_WAITING}"
    values = {"task": task, "first": first, "last": last, "wave": wave, "now": clock.now()}
    beyond = connection.execute(
        "SELECT idx FROM instances WHERE task = :task AND idx BETWEEN :first AND :last"
        " ORDER BY idx LIMIT 1 OFFSET :limit",
        {**values, "limit": limit},
    ).fetchone()
    if beyond is not None:
        values["last"] = beyond[0] - 1
    with counting.counted(connection) as tally:
        for state, number in connection.execute(
            f"SELECT state, count(*) FROM instances WHERE {waiting} GROUP BY state", values
        ):
            tally.add(task, state, -number)
            tally.add(task, _SUBMITTED, number)
        connection.execute(f"UPDATE instances SET state = {_SUBMITTED}, updated_at = :now WHERE {waiting}", values)
    if beyond is not None:
        return values["last"], True
    connection.execute("UPDATE waves SET state = ? WHERE id = ?", (WaveState.SUBMITTED.value, wave))
    return None, _is_wanted(connection, wave)


def _is_wanted(connection: sqlite3.Connection, wave: int) -> bool:
    if run_table.status_of(connection, find(connection, wave).run_id) is RunState.CANCELLED:
        return False
    task, first, last = _span(connection, wave)
    cancelled = moves.CODES[TaskState.CANCELLED]
    wanted = connection.execute(
        "SELECT EXISTS (SELECT 1 FROM instances WHERE task = ? AND idx BETWEEN ? AND ? AND wave = ? AND state <> ?)",
        (task, first, last, wave, cancelled),
    ).fetchone()
    return bool(wanted[0])


def record_sentinel(connection: sqlite3.Connection, wave: int, job_id: str) -> None:
    """Record the id of the wave's sentinel job."""
    connection.execute("UPDATE waves SET sentinel_job_id = ? WHERE id = ?", (job_id, wave))


def refuse(connection: sqlite3.Connection, wave: int, error_text: str) -> None:
    """Record that the scheduler refused the wave for good: its waiting instances become FAILED."""
    task, first, last = _span(connection, wave)
    now = clock.now()
    connection.execute("UPDATE waves SET state = ? WHERE id = ?", (WaveState.REFUSED.value, wave))
    cursor = connection.execute(
        f"UPDATE instances SET state = {moves.CODES[TaskState.FAILED]}, failure = ?, error = ?, finished_at = ?,"
        f" updated_at = ? WHERE task = ? AND idx BETWEEN ? AND ? AND wave = ? AND state IN {_WAITING}",
        (Failure.REFUSED.value, storable(error_text), now, now, task, first, last, wave),
    )
    if cursor.rowcount:
        task_table.request_dispatch(connection, [task], [task])


def withdraw(connection: sqlite3.Connection, wave: int) -> None:
    """Give up an intent: its waiting instances belong to no wave again."""
    task, first, last = _span(connection, wave)
    connection.execute("UPDATE waves SET state = ? WHERE id = ?", (WaveState.REFUSED.value, wave))
    connection.execute(
        f"UPDATE instances SET wave = NULL WHERE task = ? AND idx BETWEEN ? AND ? AND wave = ? AND state IN {_WAITING}",
        (task, first, last, wave),
    )


def submit_by_hand(
    connection: sqlite3.Connection, run_id: str, task_name: str, job_id: str, indices: Collection[int] | None
) -> None:
    """Make waiting instances SUBMITTED under a job that a caller has submitted by itself; slots are the indices."""
    task = task_table.find_key(connection, run_id, task_name)
    if task is None:
        return
    waiting = [
        (instance, index)
        for first, last in spans(indices)
        for instance, index in connection.execute(
            f"SELECT id, idx FROM instances WHERE task = ? AND state IN {_WAITING} AND idx BETWEEN ? AND ?"
            " ORDER BY idx",
            (task, first, last),
        )
    ]
    if not waiting:
        return
    wave = _wave_by_hand(connection, task, task_name, job_id, [index for _, index in waiting])
    now = clock.now()
    connection.executemany(
        f"UPDATE instances SET state = {_SUBMITTED}, wave = {wave}, updated_at = {now} WHERE id = ?",
        [(instance,) for instance, _ in waiting],
    )


def list_in_flight(connection: sqlite3.Connection, run_id: str) -> list[InFlight]:
    """Return every SUBMITTED or RUNNING instance whose wave has a job id."""
    found = []
    for task in task_table.keys_of(connection, run_id, None):
        waves: dict[int, tuple[str, int | None, Callable[[int], int | None]]] = {}
        for wave, job_id, indices, numbers, offset, pack in connection.execute(
            "SELECT id, job_id, indices, slots, slot_offset, pack FROM waves WHERE task = ? AND job_id IS NOT NULL",
            (task,),
        ):
            waves[wave] = job_id, wave if pack > 1 else None, _slot_rule(indices, numbers, offset, pack)
        for instance, attempt, state, wave, index in instance_table.in_flight(connection, task):
            if wave in waves:
                job_id, packed_in, slot_of = waves[wave]
                slot = slot_of(max(index, 0))
                found.append(InFlight(instance, attempt, moves.STATES[state], job_id, slot, packed_in))
    return found


def _slot_rule(indices: str, slots: str | None, offset: int | None, pack: int) -> Callable[[int], int | None]:
    if slots is None:
        return lambda index: None
    if offset is not None:
        return lambda index: index // pack - offset
    members = Indices.parse(indices)
    return lambda index: members.rank(index) // pack


def _insert(
    connection: sqlite3.Connection,
    task: int,
    task_name: str,
    indices: Indices,
    slots: Indices | None,
    offset: int | None,
    after_waves: Collection[int],
    pack: int,
) -> int:
    cursor = connection.execute(
        "INSERT INTO waves (task, job_name, state, indices, slots, slot_offset, after_waves, created_at, pack)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            task,
            _new_job_name(task_name),
            WaveState.INTENT.value,
            str(indices),
            None if slots is None else str(slots),
            offset,
            str(Indices(after_waves)) or None,
            clock.now(),
            pack,
        ),
    )
    return int(cursor.lastrowid or 0)


def _wave_by_hand(connection: sqlite3.Connection, task: int, task_name: str, job_id: str, stored: list[int]) -> int:
    """Return the wave of that job, made or widened to hold these instances."""
    indices = collect(sorted(stored))
    row = connection.execute("SELECT id, indices FROM waves WHERE task = ? AND job_id = ?", (task, job_id)).fetchone()
    if row is None:
        wave = _insert(connection, task, task_name, indices, None if SINGLETON in stored else indices, 0, (), 1)
        connection.execute(
            "UPDATE waves SET job_id = ?, state = ? WHERE id = ?", (job_id, WaveState.SUBMITTED.value, wave)
        )
        return wave
    known, text = row
    indices = indices | Indices.parse(text)
    connection.execute(
        "UPDATE waves SET indices = ?, slots = CASE WHEN slots IS NULL THEN NULL ELSE ? END WHERE id = ?",
        (str(indices), str(indices), known),
    )
    return int(known)


def _span(connection: sqlite3.Connection, wave: int) -> tuple[Any, int, int]:
    """Return the task of a wave, and the first and last stored index between which its instances lie."""
    row = connection.execute("SELECT task, indices FROM waves WHERE id = ?", (wave,)).fetchone()
    if row is None:
        raise ManifestError(f"wave {wave} is not in the manifest; it was made from another manifest")
    ranges = spans(Indices.parse(row[1]))
    return row[0], ranges[0][0], ranges[-1][1]


def _new_job_name(task_name: str) -> str:
    """Return a name that no other job of any manifest has, and that every scheduler takes."""
    readable = "".join(
        letter if letter.isascii() and (letter.isalnum() or letter in "._-") else "_" for letter in task_name
    )
    if not readable[:1].isalpha():
        readable = f"task-{readable}"
    return f"{readable[:_LONGEST_TASK_IN_NAME]}-{os.urandom(8).hex()}"
