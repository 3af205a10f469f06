"""The tasks of the manifest and the counts of their instances: functions of an open connection."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .. import clock, pacing
from ..errors import UnknownTaskError
from ..indices import Indices
from ..states import IN_FLIGHT, RunState, TaskState
from . import moves, run_table
from .records import RunRecord, TaskSpecRecord, TaskSummary
from .rows import collect, storable


def create_run(
    connection: sqlite3.Connection, run: RunRecord, parameters: str, specs: Iterable[TaskSpecRecord]
) -> None:
    """Record a run with all its tasks, and request its first dispatch; `parameters` is JSON text."""
    run_table.insert(
        connection,
        run.run_id,
        run.graph_name,
        run.user_id,
        created_at=clock.from_datetime(run.created_at),
        status=run.status,
        parameters=parameters,
        settings=run.settings,
    )
    for spec in specs:
        put_spec(connection, spec)
    run_table.set_dispatch_requested(connection, run.run_id, True)


def put_spec(connection: sqlite3.Connection, spec: TaskSpecRecord) -> None:
    """Record a task specification and its dependencies; the same run and name again replaces it."""
    run = run_table.key_of(connection, spec.run_id)
    task = ensure(connection, run, spec.task_name, spec.is_array)
    connection.execute(
        "UPDATE tasks SET is_array = ?, config = ?, retries = ? WHERE id = ?",
        (int(spec.is_array), storable(json.dumps(dict(spec.config))), _retries(spec.config), task),
    )
    chained = _chain_parents(spec.config)
    connection.execute("DELETE FROM dependencies WHERE task = ?", (task,))
    connection.executemany(
        "INSERT INTO dependencies (task, name, chain) VALUES (?, ?, ?)",
        [(task, name, int(name in chained)) for name in sorted(set(spec.dependencies))],
    )


def ensure(connection: sqlite3.Connection, run: int, task_name: str, is_array: bool) -> int:
    """Return the row id of a task, making a row without specification when there is none."""
    connection.execute(
        "INSERT OR IGNORE INTO tasks (run, name, is_array) VALUES (?, ?, ?)", (run, task_name, int(is_array))
    )
    key: int = connection.execute("SELECT id FROM tasks WHERE run = ? AND name = ?", (run, task_name)).fetchone()[0]
    return key


def find_key(connection: sqlite3.Connection, run_id: str, task_name: str) -> int | None:
    """Return the row id of a task, or None."""
    row = connection.execute(
        "SELECT t.id FROM tasks t JOIN runs r ON r.id = t.run WHERE r.run_id = ? AND t.name = ?", (run_id, task_name)
    ).fetchone()
    return row[0] if row else None


def key_of(connection: sqlite3.Connection, run_id: str, task_name: str) -> int:
    """Return the row id of a task; `UnknownRunError` or `UnknownTaskError` if there is none."""
    key = find_key(connection, run_id, task_name)
    if key is None:
        run = run_table.key_of(connection, run_id)
        names = [name for (name,) in connection.execute("SELECT name FROM tasks WHERE run = ? ORDER BY id", (run,))]
        raise UnknownTaskError(f"run '{run_id}' has no task '{task_name}'; its tasks are: {', '.join(names) or 'none'}")
    return key


def keys_of(connection: sqlite3.Connection, run_id: str, task_name: str | None) -> list[int]:
    """Return the row id of the task, or with None of all tasks of the run, in the order of the run."""
    if task_name is not None:
        return [key_of(connection, run_id, task_name)]
    run = run_table.key_of(connection, run_id)
    return [key for (key,) in connection.execute("SELECT id FROM tasks WHERE run = ? ORDER BY id", (run,))]


def find_specs(connection: sqlite3.Connection, run_id: str, task_name: str | None = None) -> list[TaskSpecRecord]:
    """Return the specification of the task, or with None of all tasks, in the order in which they were recorded."""
    rows = connection.execute(
        "SELECT t.id, t.name, t.is_array, t.config FROM tasks t JOIN runs r ON r.id = t.run"
        " WHERE r.run_id = ? AND (? IS NULL OR t.name = ?) AND t.config IS NOT NULL ORDER BY t.id",
        (run_id, task_name, task_name),
    ).fetchall()
    return [
        TaskSpecRecord(run_id, name, bool(is_array), json.loads(config), tuple(_dependencies(connection, key)))
        for key, name, is_array, config in rows
    ]


def list_dependencies(connection: sqlite3.Connection, run_id: str, task_name: str) -> list[str]:
    """Return the names of the tasks it depends on, sorted; none for an unknown task."""
    key = find_key(connection, run_id, task_name)
    return [] if key is None else _dependencies(connection, key)


def count(connection: sqlite3.Connection, task: int, states: Iterable[TaskState] = TaskState) -> int:
    """Return how many instances of the task are in one of these states."""
    counted = connection.execute(
        f"SELECT sum(instances) FROM counts WHERE task = ? AND state IN {moves.codes(states)}", (task,)
    ).fetchone()
    return counted[0] or 0


def count_of(connection: sqlite3.Connection, run_id: str, task_name: str) -> int:
    """Return how many instances the task has; 0 for an unknown one."""
    key = find_key(connection, run_id, task_name)
    return 0 if key is None else count(connection, key)


def counts(connection: sqlite3.Connection, task: int) -> dict[TaskState, int]:
    """Return the number of instances per state, states that do not occur left out."""
    rows = connection.execute("SELECT state, instances FROM counts WHERE task = ? AND instances > 0", (task,))
    return {moves.STATES[code]: number for code, number in rows}


def is_satisfied(connection: sqlite3.Connection, run_id: str, task_name: str) -> bool:
    """Return whether the task has instances and all succeeded, or is an array known to be empty."""
    key = find_key(connection, run_id, task_name)
    if key is None:
        return False
    number = count(connection, key)
    if number == 0 or is_expanding(connection, key):
        return bool(connection.execute("SELECT width = 0 FROM tasks WHERE id = ?", (key,)).fetchone()[0])
    return count(connection, key, (TaskState.SUCCESS,)) == number


def is_expanding(connection: sqlite3.Connection, task: int) -> bool:
    """Return whether rows of the task are there, and not yet all of them."""
    row = connection.execute("SELECT expansion IS NOT NULL FROM tasks WHERE id = ?", (task,)).fetchone()
    return bool(row[0])


def state_summary(connection: sqlite3.Connection, run_id: str) -> dict[str, dict[str, int]]:
    """Return ``{task: {state: count}}``, tasks without instances and states that do not occur left out."""
    rows = connection.execute(
        "SELECT t.name, c.state, c.instances FROM tasks t JOIN runs r ON r.id = t.run JOIN counts c ON c.task = t.id"
        " WHERE r.run_id = ? AND c.instances > 0 ORDER BY t.id, c.state",
        (run_id,),
    )
    summary: dict[str, dict[str, int]] = {}
    for name, code, number in rows:
        summary.setdefault(name, {})[moves.STATES[code].value] = number
    return summary


def summarize(connection: sqlite3.Connection, run_id: str) -> list[TaskSummary]:
    """Return what `status` shows, tasks in the order of the run. Reads counts and failures, no success."""
    run = run_table.key_of(connection, run_id)
    tasks = connection.execute("SELECT id, name, is_array, width, error FROM tasks WHERE run = ? ORDER BY id", (run,))
    return [_summary(connection, *task) for task in tasks.fetchall()]


def _summary(
    connection: sqlite3.Connection, key: int, name: str, is_array: int, width: int | None, error: str | None
) -> TaskSummary:
    if is_expanding(connection, key):
        return TaskSummary(name, bool(is_array), None, {}, Indices(), error, None, None, cached=0)
    started_at, finished_at, cached = connection.execute(
        "SELECT min(started_at), max(finished_at), sum(cached) FROM counts WHERE task = ?", (key,)
    ).fetchone()
    failed = connection.execute(
        f"SELECT idx FROM instances WHERE task = ? AND state = {moves.CODES[TaskState.FAILED]} ORDER BY idx", (key,)
    )
    number = counts(connection, key)
    return TaskSummary(
        task_name=name,
        is_array=bool(is_array),
        width=width if width is not None else sum(number.values()) or None,
        counts=number,
        failed=collect(index for (index,) in failed),
        error=error,
        started_at=started_at,
        finished_at=finished_at,
        cached=cached,
        retried=_count_retried(connection, key),
    )


def _count_retried(connection: sqlite3.Connection, task: int) -> int:
    ended = moves.codes((TaskState.FAILED, TaskState.CANCELLED))
    counted: int = connection.execute(
        "SELECT count(DISTINCT a.instance) FROM waves w JOIN attempts a ON a.wave = w.id"
        f" WHERE w.task = ? AND a.state IN {ended}",
        (task,),
    ).fetchone()[0]
    return counted


def fail(connection: sqlite3.Connection, run_id: str, task_name: str, error_text: str) -> None:
    """Record that the task as a whole cannot go on."""
    key = key_of(connection, run_id, task_name)
    connection.execute("UPDATE tasks SET error = ? WHERE id = ?", (storable(error_text), key))
    request_dispatch(connection, [key], [key])


def request_dispatch(
    connection: sqlite3.Connection, ended: Iterable[int], failed: Iterable[int], resumed: Iterable[int] = ()
) -> None:
    """Note that runs have to be looked at, of whose tasks some instances ended, of these some failed, some go on.

    That is so when a task has nothing in flight any more, when so few instances of the run are that there is room for
    what was held back, at a failure that other arrays follow element by element (their elements have to go back to
    waiting), and when failures may be tried again or work goes on, at the pace of `pacing`.
    """
    ended, failed = list(ended), list(failed)
    mark = (
        f"UPDATE runs SET dispatch_requested = 1 WHERE status = '{RunState.RUNNING.value}' AND dispatch_requested = 0"
        " AND id = (SELECT t.run FROM tasks t WHERE t.id = ? AND {condition})"
    )
    idle = (
        "NOT EXISTS (SELECT 1 FROM counts c WHERE c.task = t.id AND c.instances > 0"
        f" AND c.state IN {moves.codes(IN_FLIGHT)})"
    )
    followed = (
        "EXISTS (SELECT 1 FROM tasks f JOIN dependencies d ON d.task = f.id"
        " WHERE f.run = t.run AND d.name = t.name AND d.chain = 1)"
    )
    connection.executemany(mark.format(condition=idle), [(task,) for task in ended])
    connection.executemany(mark.format(condition=followed), [(task,) for task in failed])
    connection.executemany(
        f"UPDATE runs SET dispatch_requested = 1 WHERE status = '{RunState.RUNNING.value}' AND dispatch_requested = 0"
        f" AND id = (SELECT run FROM tasks WHERE id = ?) AND {_HAS_ROOM}",
        [(task,) for task in ended],
    )
    due = [(task,) for task in ended if _may_try_again(connection, task)]
    due += [(task,) for task in resumed if _is_due(connection, task)]
    connection.executemany(mark.format(condition="1"), due)


def hold_back(connection: sqlite3.Connection, run_id: str, refill_at: int) -> None:
    """Note that a run has more to submit once no more than so many of its instances are in flight."""
    run = run_table.key_of(connection, run_id)
    connection.execute("UPDATE runs SET refill_at = ? WHERE id = ?", (refill_at, run))
    # Those that have ended since the dispatcher looked found no note.
    connection.execute(f"UPDATE runs SET dispatch_requested = 1 WHERE id = ? AND {_HAS_ROOM}", (run,))


# `runs` is the table that the statement around it updates.
_HAS_ROOM = f"""
    refill_at IS NOT NULL AND refill_at >= (
        SELECT ifnull(sum(c.instances), 0) FROM tasks a JOIN counts c ON c.task = a.id
         WHERE a.run = runs.id AND c.state IN {moves.codes(IN_FLIGHT)}
    )
"""


def _may_try_again(connection: sqlite3.Connection, task: int) -> bool:
    (retries,) = connection.execute("SELECT retries FROM tasks WHERE id = ?", (task,)).fetchone()
    return bool(retries) and bool(count(connection, task, (TaskState.FAILED,))) and _is_due(connection, task)


def _is_due(connection: sqlite3.Connection, task: int) -> bool:
    (began,) = connection.execute(
        "SELECT r.created_at FROM tasks t JOIN runs r ON r.id = t.run WHERE t.id = ?", (task,)
    ).fetchone()
    waves, last = connection.execute("SELECT count(*), max(created_at) FROM waves WHERE task = ?", (task,)).fetchone()
    now = clock.now()
    return last is not None and pacing.retry_is_due(waves, (now - began) / 1e6, (now - last) / 1e6)


def _dependencies(connection: sqlite3.Connection, key: int) -> list[str]:
    rows = connection.execute("SELECT name FROM dependencies WHERE task = ? ORDER BY name", (key,))
    return [name for (name,) in rows]


def _retries(config: Mapping[str, Any]) -> int:
    """Find in a `TaskPlan`'s JSON how often instances are tried again; in any other configuration 0."""
    options = config.get("config")
    retries = options.get("retries") if isinstance(options, Mapping) else None
    return retries if isinstance(retries, int) else 0


def _chain_parents(config: Mapping[str, Any]) -> set[str]:
    """Find in a `TaskPlan`'s JSON the arrays that the task follows; in any other configuration there are none."""
    results = config.get("results")
    chains = [
        result["steps"]
        for result in (results if isinstance(results, Sequence) else ())
        if isinstance(result, Mapping) and result.get("delivery") == "chain"
    ]
    return {step["task"] for steps in chains for step in steps}
