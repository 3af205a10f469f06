"""The run as `plan.next_steps` wants it, read in one pass over what is not finished."""

from __future__ import annotations

import json
import sqlite3

from ..errors import ManifestError
from ..indices import Indices
from ..plan import Followed, LiveWave, RunSnapshot, TaskSnapshot
from ..spec import TaskPlan
from ..states import FINAL, WAITING, TaskState
from . import moves, run_table, task_table
from .histories import histories
from .records import WaveState

#: Ranges of stored indices by state and wave.
_Ranges = dict[tuple[TaskState, "int | None"], list[tuple[int, int]]]


def snapshot(connection: sqlite3.Connection, run_id: str) -> RunSnapshot:
    """Return the run; `UnknownRunError` if there is none, `ManifestError` if a task has no plan."""
    status = run_table.status_of(connection, run_id)
    tasks = connection.execute(
        "SELECT t.id, t.name, t.config, t.width, t.error FROM tasks t JOIN runs r ON r.id = t.run"
        " WHERE r.run_id = ? ORDER BY t.id",
        (run_id,),
    ).fetchall()
    return RunSnapshot(run_id, status, tuple(_task(connection, run_id, *task) for task in tasks))


def _task(
    connection: sqlite3.Connection, run_id: str, key: int, name: str, config: str, width: int | None, error: str | None
) -> TaskSnapshot:
    try:
        plan = TaskPlan.from_json(json.loads(config))
    except (KeyError, TypeError, ValueError) as problem:
        raise ManifestError(
            f"task '{name}' of run '{run_id}' was not recorded by `submit`, so it cannot be dispatched; "
            "submit the workflow again"
        ) from problem
    ranges = _ranges(connection, key)
    states: dict[TaskState, list[tuple[int, int]]] = {}
    free: list[tuple[int, int]] = []
    in_waves: dict[int, list[tuple[int, int]]] = {}
    for (state, wave), found in ranges.items():
        states.setdefault(state, []).extend(found)
        if state in WAITING and wave is None:
            free += found
        if state not in FINAL and wave is not None:
            in_waves.setdefault(wave, []).extend(found)
    return TaskSnapshot(
        plan=plan,
        width=width,
        states={state: Indices.from_ranges(found) for state, found in states.items()},
        free=Indices.from_ranges(free),
        waves=_live_waves(connection, key, in_waves),
        error=error,
        histories=histories(connection, key, plan),
    )


def _live_waves(
    connection: sqlite3.Connection, task: int, in_waves: dict[int, list[tuple[int, int]]]
) -> tuple[LiveWave, ...]:
    rows = connection.execute(
        "SELECT id, state, job_id, indices, after_waves, slot_offset, pack FROM waves WHERE task = ? ORDER BY id",
        (task,),
    ).fetchall()
    return tuple(
        LiveWave(
            wave,
            job_id,
            Indices.from_ranges(in_waves.get(wave, ())),
            members=Indices.parse(indices),
            followed=_followed(connection, after_waves),
            offset=offset,
            pack=pack,
        )
        for wave, state, job_id, indices, after_waves, offset, pack in rows
        if wave in in_waves or state == WaveState.INTENT.value
    )


def _followed(connection: sqlite3.Connection, after_waves: str | None) -> tuple[Followed, ...]:
    """Return the waves with these ids, which another one follows; most are over by the time that anyone asks."""
    found = []
    for wave in Indices.parse(after_waves or ""):
        name, indices = connection.execute(
            "SELECT t.name, w.indices FROM waves w JOIN tasks t ON t.id = w.task WHERE w.id = ?", (wave,)
        ).fetchone()
        found.append(Followed(wave, name, Indices.parse(indices)))
    return tuple(found)


def _ranges(connection: sqlite3.Connection, task: int) -> _Ranges:
    if task_table.is_expanding(connection, task):
        return {}
    finished = _finished_range(connection, task)
    if finished is not None:
        return finished
    ranges: dict[int, list[tuple[int, int]]] = {}
    # State and wave as one number, because a million comparisons of it take half the time. Of what has ended, the wave
    # is no matter, and fewer ranges are left.
    rows = connection.execute(
        f"SELECT max(idx, 0), CASE WHEN state IN {moves.codes(FINAL)} THEN state ELSE state + 8 * ifnull(wave, 0) END"
        " FROM instances WHERE task = ? ORDER BY idx",
        (task,),
    )
    last = start = following = 0
    for index, key in rows:
        if key != last or index != following:
            if following > start:
                ranges.setdefault(last, []).append((start, following))
            start, last = index, key
        following = index + 1
    if following > start:
        ranges.setdefault(last, []).append((start, following))
    return {(moves.STATES[key % 8], key // 8 or None): found for key, found in ranges.items()}


def _finished_range(connection: sqlite3.Connection, task: int) -> _Ranges | None:
    """Return the only range of a task that is in one final state throughout, without looking at its instances."""
    counts = task_table.counts(connection, task)
    if len(counts) != 1:
        return {} if not counts else None
    ((state, number),) = counts.items()
    if state not in FINAL:
        return None
    # Two queries, because SQLite takes only one of min and max from the end of an index.
    first = connection.execute("SELECT min(idx) FROM instances WHERE task = ?", (task,)).fetchone()[0]
    last = connection.execute("SELECT max(idx) FROM instances WHERE task = ?", (task,)).fetchone()[0]
    if last - first + 1 != number:
        return None
    return {(state, None): [(max(first, 0), max(last, 0) + 1)]}
