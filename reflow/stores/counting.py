"""Counts of instances by state, for turns that move so many that a trigger for each row would be most of the cost.

Measured with 1,000,000 rows: the trigger on every insert took 1.3 s of 3.4 s, on every merged result 1.3 s of 7.7 s.
Whoever moves a few rows leaves it to the trigger `instance_moved`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from ..deferred import dataclass
from . import run_table
from .connection import Database


@dataclass()
class _Gain:
    """What one state of one task gains."""

    instances: int = 0
    cached: int = 0
    started_at: int | None = None
    finished_at: int | None = None


class Tally:
    """What a turn changes in `counts`, by task and state code; `write` puts it there."""

    def __init__(self) -> None:
        self._gains: dict[tuple[int, int], _Gain] = {}

    def add(self, task: int, state: int, number: int = 1, *, cached: int = 0) -> None:
        """Count instances that are new in this state; or that left it, with a negative number."""
        gain = self._of(task, state)
        gain.instances += number
        gain.cached += cached

    def span(self, task: int, state: int, started_at: int | None, finished_at: int | None) -> None:
        """Note when an instance that came to this state started and ended."""
        gain = self._of(task, state)
        if started_at is not None and (gain.started_at is None or started_at < gain.started_at):
            gain.started_at = started_at
        if finished_at is not None and (gain.finished_at is None or finished_at > gain.finished_at):
            gain.finished_at = finished_at

    def write(self, connection: sqlite3.Connection) -> None:
        """Add what was counted to the manifest, in the caller's transaction."""
        connection.executemany(
            "UPDATE counts SET instances = instances + :instances, cached = cached + :cached,"
            " started_at = min(ifnull(started_at, :started_at), ifnull(:started_at, started_at)),"
            " finished_at = max(ifnull(finished_at, :finished_at), ifnull(:finished_at, finished_at))"
            " WHERE task = :task AND state = :state",
            [{"task": task, "state": state, **vars(gain)} for (task, state), gain in self._gains.items()],
        )
        self._gains.clear()

    def _of(self, task: int, state: int) -> _Gain:
        try:
            return self._gains[task, state]
        except KeyError:
            return self._gains.setdefault((task, state), _Gain())


@contextmanager
def counted(connection: sqlite3.Connection) -> Iterator[Tally]:
    """Yield the tally of a block that moves instances and counts them itself; written at its end."""
    tally = Tally()
    connection.execute("INSERT INTO bulk (turn) VALUES (1)")
    yield tally  # an error rolls the whole turn back, and the row with it
    tally.write(connection)
    connection.execute("DELETE FROM bulk")


class Counts:
    """The counts of a manifest, for whoever wants to check them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def wrong(self) -> list[tuple[int, int, int, int]]:
        """Return ``(task, state code, counted, really there)`` of every count that is wrong; scans all instances."""
        return self._database.read(wrong)

    def repair(self) -> None:
        """Make every count right again."""
        self._database.write(repair)


def wrong(connection: sqlite3.Connection) -> list[tuple[int, int, int, int]]:
    """Return ``(task, state code, counted, really there)`` of every count that is wrong; scans all instances.

    Nobody sees the counts of a run that is being removed, and they are not kept right.
    """
    rows = connection.execute(
        "SELECT c.task, c.state, c.instances, ifnull(n.instances, 0) FROM counts c"
        " JOIN tasks t ON t.id = c.task JOIN runs r ON r.id = t.run"
        " LEFT JOIN (SELECT task, state, count(*) AS instances FROM instances GROUP BY task, state) n"
        " ON n.task = c.task AND n.state = c.state"
        f" WHERE r.{run_table.IS_THERE} AND c.instances <> ifnull(n.instances, 0) ORDER BY c.task, c.state"
    )
    return [(task, state, counted_, there) for task, state, counted_, there in rows]


def repair(connection: sqlite3.Connection) -> None:
    """Make every count right again."""
    connection.execute(
        "UPDATE counts SET"
        " instances = (SELECT count(*) FROM instances i WHERE i.task = counts.task AND i.state = counts.state),"
        " cached = (SELECT count(cached_from) FROM instances i WHERE i.task = counts.task AND i.state = counts.state)"
    )
