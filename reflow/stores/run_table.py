"""The runs of the manifest: functions of an open connection."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from .. import clock
from ..errors import UnknownRunError
from ..states import RunState
from .records import RunRecord
from .rows import RUN_COLUMNS, RUN_FIELDS, storable, to_run

#: A run whose removal has begun is unknown to all but those who remove it.
IS_THERE = "removal < 2"


def insert(
    connection: sqlite3.Connection,
    run_id: str,
    graph_name: str,
    user_id: str,
    *,
    created_at: int,
    status: RunState,
    parameters: str,
    settings: Mapping[str, Any],
) -> None:
    """Record a run; `parameters` is JSON text. A known id raises `ValueError`."""
    if connection.execute("SELECT 1 FROM runs WHERE run_id = ?", (run_id,)).fetchone():
        raise ValueError(f"run '{run_id}' is already in the manifest; choose another id")
    connection.execute(
        f"INSERT INTO runs ({RUN_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (run_id, graph_name, user_id, created_at, status.value, storable(parameters), json.dumps(dict(settings))),
    )


def key_of(connection: sqlite3.Connection, run_id: str) -> int:
    """Return the row id of a run; `UnknownRunError` if there is none."""
    row = connection.execute(f"SELECT id FROM runs WHERE run_id = ? AND {IS_THERE}", (run_id,)).fetchone()
    if row is None:
        raise UnknownRunError(f"no run '{run_id}' is in the manifest; `reflow runs` lists those that are")
    key: int = row[0]
    return key


def status_of(connection: sqlite3.Connection, run_id: str) -> RunState:
    """Return the status of a run; `UnknownRunError` if there is none."""
    key = key_of(connection, run_id)
    return RunState(connection.execute("SELECT status FROM runs WHERE id = ?", (key,)).fetchone()[0])


def find(connection: sqlite3.Connection, run_id: str) -> RunRecord | None:
    """Return one run, or None."""
    row = connection.execute(f"SELECT {RUN_FIELDS} FROM runs WHERE run_id = ? AND {IS_THERE}", (run_id,)).fetchone()
    return to_run(row) if row else None


def find_all(
    connection: sqlite3.Connection,
    graph_name: str | None,
    user_id: str | None,
    *,
    limit: int | None,
    since: datetime | None,
    until: datetime | None,
    status: RunState | None,
) -> list[RunRecord]:
    """Return runs that meet every condition, newest first."""
    conditions: list[tuple[str, object]] = [
        ("graph_name = ?", graph_name),
        ("user_id = ?", user_id),
        ("created_at >= ?", since and clock.from_datetime(since)),
        ("created_at <= ?", until and clock.from_datetime(until)),
        ("status = ?", status and RunState(status).value),
    ]
    wanted = [(condition, value) for condition, value in conditions if value is not None]
    where = " AND ".join([IS_THERE, *(condition for condition, _ in wanted)])
    rows = connection.execute(
        f"SELECT {RUN_FIELDS} FROM runs WHERE {where} ORDER BY created_at DESC, id DESC LIMIT ?",
        (*(value for _, value in wanted), -1 if limit is None else max(limit, 0)),
    )
    return [to_run(row) for row in rows]


def set_status(connection: sqlite3.Connection, run_id: str, status: RunState) -> None:
    """Set the status of a run, whatever it was."""
    key = key_of(connection, run_id)
    connection.execute("UPDATE runs SET status = ? WHERE id = ?", (RunState(status).value, key))


def set_settings(connection: sqlite3.Connection, run_id: str, settings: Mapping[str, Any]) -> None:
    """Replace what later dispatches of the run work with."""
    key = key_of(connection, run_id)
    connection.execute("UPDATE runs SET settings = ? WHERE id = ?", (json.dumps(dict(settings)), key))


def finish(connection: sqlite3.Connection, run_id: str, status: RunState) -> bool:
    """Move a RUNNING run to a final status; return whether it was RUNNING."""
    key = key_of(connection, run_id)
    cursor = connection.execute(
        "UPDATE runs SET status = ? WHERE id = ? AND status = ?", (status.value, key, RunState.RUNNING.value)
    )
    return cursor.rowcount == 1


def set_dispatch_requested(connection: sqlite3.Connection, run_id: str, requested: bool) -> None:
    """Note that a run has to be looked at, or that somebody does."""
    key = key_of(connection, run_id)
    connection.execute("UPDATE runs SET dispatch_requested = ? WHERE id = ?", (int(requested), key))


def take_dispatch_request(connection: sqlite3.Connection, run_id: str) -> None:
    """Note that somebody looks at a run now, and will see for himself whether something is held back."""
    key = key_of(connection, run_id)
    connection.execute("UPDATE runs SET dispatch_requested = 0, refill_at = NULL WHERE id = ?", (key,))


def dispatch_requested(connection: sqlite3.Connection, run_id: str) -> bool:
    """Return whether the run has to be looked at."""
    key = key_of(connection, run_id)
    return bool(connection.execute("SELECT dispatch_requested FROM runs WHERE id = ?", (key,)).fetchone()[0])


def list_dispatch_requests(connection: sqlite3.Connection) -> list[str]:
    """Return the ids of the RUNNING runs that have to be looked at, oldest first."""
    rows = connection.execute(
        "SELECT run_id FROM runs WHERE dispatch_requested = 1 AND status = ? ORDER BY id", (RunState.RUNNING.value,)
    )
    return [run_id for (run_id,) in rows]
