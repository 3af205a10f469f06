"""Merging reports into the manifest: a maximum over ``(attempt, rank of state)``, in whatever order they come.

An attempt ends once: by its first final report, by a release (PENDING at the next attempt), or by a person. Within
one batch the earliest final report is the first, and a result goes before a release. What comes later about an ended
attempt is kept as a remark. ``started_at`` is the earliest start that any copy of the attempt reported.
"""

from __future__ import annotations

import math
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from .. import clock
from ..deferred import dataclass
from ..states import FINAL, RANK, TaskState
from . import counting, moves, task_table
from .connection import Database
from .records import Report
from .rows import chunks, marks, pack_hash, storable
from .spool import Published, Spool, decode, encode

# Entries and bytes of the spool that one transaction merges at most: few enough to fit in memory.
_BATCH_ENTRIES = 5_000
_BATCH_BYTES = 32_000_000

#: Seconds that a merge keeps the lock while others may wait for it; half of them for reading, which takes a millisecond
#: for each report on a slow network file system. Then it lets go, and goes on when its turn comes again.
HOLD_SECONDS = 1.0

# Longer than who waits for the lock sleeps between two looks, so that it gets in.
_PAUSE_SECONDS = 0.03

# The move of a report within its attempt, and of one that carries its instance into a later attempt. The conditions say
# again what `_Row.takes` has found, so that it is SQL that lets nothing else through.
_WITHIN = """
    UPDATE instances
       SET state = {state}, updated_at = :now, node = ifnull(:node, node),
           started_at = CASE WHEN started_at IS NULL OR :started_at < started_at THEN :started_at ELSE started_at END,
           finished_at = :finished_at, failure = :failure, exit_code = :exit_code, signal = :signal,
           exception = :exception, max_rss = :max_rss, cached_from = :cached_from,
           output_hash = :output_hash, output = :output, output_file = :output_file, error = :error
     WHERE id = :instance AND attempt = :attempt AND state IN {sources}
"""
_BEYOND = """
    UPDATE instances
       SET state = {state}, attempt = :attempt, updated_at = :now, wave = NULL, node = :node, started_at = :started_at,
           finished_at = :finished_at, failure = :failure, exit_code = :exit_code, signal = :signal,
           exception = :exception, max_rss = :max_rss, cached_from = :cached_from,
           output_hash = :output_hash, output = :output, output_file = :output_file, error = :error
     WHERE id = :instance AND attempt < :attempt AND state IN {sources}
"""

_REPORTED = (TaskState.PENDING, TaskState.RUNNING, *sorted(FINAL))
_MERGE = {
    (state, False): _WITHIN.format(state=moves.CODES[state], sources=moves.codes(moves.sources(state)))
    for state in _REPORTED
} | {
    (state, True): _BEYOND.format(state=moves.CODES[state], sources=moves.codes(moves.RELEASABLE))
    for state in _REPORTED
}

# Elements of chains learn their identity when they start. Apart from the move, because it touches an index.
_IDENTITY = "UPDATE instances SET identity = :identity WHERE id = :instance AND identity IS NOT :identity"

# A late RUNNING moves nothing, but may tell of an earlier start.
_EARLIER_START = f"""
    UPDATE instances
       SET started_at = :started_at,
           node = CASE WHEN node IS NULL OR state = {moves.CODES[TaskState.RUNNING]}
                       THEN ifnull(:node, node) ELSE node END
     WHERE id = :instance AND attempt = :attempt AND (started_at IS NULL OR started_at > :started_at)
"""

# What a release says is about the attempt that it ends.
_RELEASED = """
    UPDATE attempts
       SET finished_at = :at, node = ifnull(:node, node), failure = :failure, exit_code = :exit_code, signal = :signal,
           error = :error
     WHERE instance = :instance AND attempt = :attempt - 1
"""


@dataclass(frozen=True)
class Merged:
    """What became of a batch of reports."""

    #: Number of instances' attempts that moved.
    changed: int
    #: Instances that are not in the manifest.
    unknown: frozenset[int]
    #: Final reports that came too late.
    late: tuple[Report, ...]


@dataclass(frozen=True)
class _Change:
    """What all reports of a batch about one attempt of one instance come to."""

    winner: Report
    #: The earliest RUNNING, if there was one.
    running: Report | None
    #: Further final reports, which differ from the winner.
    others: tuple[Report, ...]


class Merger:
    """Merges the spool into the manifest, under the lock between processes."""

    def __init__(self, database: Database, spool: Spool) -> None:
        self._database = database
        self._spool = spool

    def merge(self, *, wait: bool) -> bool:
        """Merge if the lock is free, or wait for it; return whether the spool was seen empty after that.

        Keeps the lock for about `HOLD_SECONDS` at a time, however much there is.
        """
        if not self._database.may_write:
            return False
        unreadable: set[str] = set()
        while True:
            with self._database.holding(wait=wait) as held:
                if not held:
                    return False
                finished = self._merge_until(time.monotonic() + HOLD_SECONDS, unreadable)
            if not finished:
                wait = True  # whoever published meanwhile relies on us, and who has the lock now may not merge
                time.sleep(_PAUSE_SECONDS)
                continue
            # Who published between our last look and the release found the lock taken and went away.
            left = set(self._spool.names())
            if left <= unreadable:
                return not left

    def merge_held(self) -> None:
        """Merge everything, under the lock that the caller holds."""
        self._merge_until(math.inf, set())

    def _merge_until(self, deadline: float, unreadable: set[str]) -> bool:
        """Merge until nothing is left or the deadline is over; return whether nothing was left."""
        while True:
            names = [name for name in self._spool.names() if name not in unreadable]
            if not names:
                return True
            waiting = iter(names)
            while batch := self._read_batch(waiting, deadline - HOLD_SECONDS / 2, unreadable):
                self._merge_batch(batch)
                if time.monotonic() > deadline - HOLD_SECONDS / 2:
                    return False

    def _read_batch(self, names: Iterator[str], deadline: float, unreadable: set[str]) -> list[Published]:
        """Read entries until they are enough for a transaction or the deadline is over, but one at least."""
        batch: list[Published] = []
        size = 0
        for name in names:
            published = self._spool.read(name)
            if published is None:
                unreadable.add(name)  # gone or set aside by now, or a later look will do
                continue
            batch.append(published)
            size += published.size
            if len(batch) == _BATCH_ENTRIES or size > _BATCH_BYTES or time.monotonic() > deadline:
                break
        return batch

    def _merge_batch(self, batch: Sequence[Published]) -> None:
        reports = [report for published in batch for report in published.reports]
        merged = self._database.transaction(apply, reports)
        # Only now: a report is deleted after the transaction that merged it has committed.
        strange = {each.name for each in batch if any(report.instance in merged.unknown for report in each.reports)}
        self._spool.remove([each.name for each in batch if each.name not in strange])
        for name in sorted(strange):
            self._spool.reject(name, "it names an instance that is not in the manifest")


class _Row:
    """An instance as the manifest has it, kept up to date while a batch is merged."""

    __slots__ = ("attempt", "identity", "started_at", "state", "task")

    def __init__(
        self, task: int, state: int, attempt: int, started_at: int | None, identity: bytes | str | None
    ) -> None:
        self.task = task
        self.state = state
        self.attempt = attempt
        self.started_at = started_at
        self.identity = identity

    def takes(self, report: Report) -> bool:
        """Return whether the report moves it."""
        if report.attempt == self.attempt:
            return self.state in moves.WITHIN[report.state]
        return report.attempt > self.attempt and self.state in moves.BEYOND


def apply(connection: sqlite3.Connection, reports: Iterable[Report]) -> Merged:
    """Merge reports in the caller's transaction, and request the dispatches that follow from them."""
    with counting.counted(connection) as tally:
        batch = _Batch(connection, tally)
        # By attempt, so that a release comes after the end that it competes with.
        for _, changes in groupby(_fold(reports), key=lambda change: change.winner.attempt):
            batch.merge(list(changes))
    connection.executemany(
        "INSERT OR IGNORE INTO remarks (instance, report) VALUES (?, ?)",
        [(report.instance, encode([report]).decode("ascii")) for report in batch.late],
    )
    task_table.request_dispatch(connection, batch.ended, batch.failed, batch.resumed)
    return Merged(batch.changed, frozenset(batch.unknown), tuple(batch.late))


class _Batch:
    """One pass over the reports of a transaction: read the rows they name, decide, write with few statements."""

    def __init__(self, connection: sqlite3.Connection, tally: counting.Tally) -> None:
        self.changed = 0
        self.unknown: set[int] = set()
        self.late: list[Report] = []
        #: Tasks of which instances ended, of which some failed, and of which some go on from what they have saved.
        self.ended: set[int] = set()
        self.failed: set[int] = set()
        self.resumed: set[int] = set()
        self._connection = connection
        self._tally = tally
        self._nodes = _Nodes(connection)
        self._rows: dict[int, _Row] = {}
        self._now = clock.now()

    def merge(self, changes: Sequence[_Change]) -> None:
        """Merge the changes of one attempt number, in the order of their instances."""
        self._read([change.winner.instance for change in changes])
        moved: dict[tuple[TaskState, bool], list[dict[str, object]]] = {}
        released: list[dict[str, object]] = []
        identities: list[dict[str, object]] = []
        overtaken: list[_Change] = []
        for change in changes:
            report = change.winner
            row = self._rows.get(report.instance)
            if row is None:
                self.unknown.add(report.instance)
                continue
            self.late.extend(change.others)
            if not row.takes(report):
                overtaken.append(change)
                continue
            values = _values(change, self._nodes, self._now)
            moved.setdefault((report.state, report.attempt > row.attempt), []).append(values)
            if values["identity"] is not None and values["identity"] != row.identity:
                identities.append(values)
            if report.state is TaskState.PENDING:
                released.append(_release_values(report, self._nodes))
            self._count(row, report, values)
        for (state, is_later), parameters in moved.items():
            cursor = self._connection.executemany(_MERGE[state, is_later], parameters)
            assert cursor.rowcount == len(parameters), "the guards of SQL and of `_Row.takes` are the same table"
            self.changed += cursor.rowcount
        self._connection.executemany(_IDENTITY, identities)
        self._connection.executemany(_RELEASED, released)
        for change in overtaken:
            self._note_overtaken(change)

    def _read(self, instances: Sequence[int]) -> None:
        for piece in chunks([instance for instance in instances if instance not in self._rows]):
            for key, *columns in self._connection.execute(
                "SELECT id, task, state, attempt, started_at, identity FROM instances"
                f" WHERE id IN ({marks(len(piece))})",
                piece,
            ):
                self._rows[key] = _Row(*columns)

    def _count(self, row: _Row, report: Report, values: Mapping[str, Any]) -> None:
        state, started_at = moves.CODES[report.state], values["started_at"]
        if report.attempt == row.attempt and row.started_at is not None:
            started_at = row.started_at if started_at is None else min(started_at, row.started_at)
        self._tally.add(row.task, row.state, -1)
        self._tally.add(row.task, state, cached=int(values["cached_from"] is not None))
        self._tally.span(row.task, state, started_at, values["finished_at"])
        row.state, row.attempt, row.started_at = state, report.attempt, started_at
        if report.state is not TaskState.RUNNING:
            self.ended.add(row.task)
        if report.state in (TaskState.FAILED, TaskState.CANCELLED):
            self.failed.add(row.task)
        if report.state is TaskState.PENDING and report.failure is not None:
            self.resumed.add(row.task)

    def _note_overtaken(self, change: _Change) -> None:
        """Keep what a report says that moved nothing: an earlier start, or a second end."""
        if change.running is not None:
            values = _values(change, self._nodes, self._now)
            self._connection.execute(_EARLIER_START, {**values, "started_at": change.running.at})
        if change.winner.state in FINAL and not _is_merged(self._connection, change.winner):
            self.late.append(change.winner)


def move(connection: sqlite3.Connection, instance: int, state: TaskState, values: Mapping[str, Any]) -> bool:
    """Move an instance within the attempt that it is at, by a report made here; return whether the move is legal.

    `values` are fields of `Report`. An unknown instance changes nothing.
    """
    row = connection.execute(
        f"SELECT attempt FROM instances WHERE id = ? AND state IN {moves.codes(moves.sources(state))}", (instance,)
    ).fetchone()
    if row is None:
        return False
    return apply(connection, [Report(instance, row[0], state, clock.now(), **values)]).changed == 1


def remarks(connection: sqlite3.Connection, instance: int) -> list[Report]:
    """Return the final reports about an instance that came too late, in the order of their times."""
    rows = connection.execute("SELECT report FROM remarks WHERE instance = ?", (instance,))
    return sorted((report for (text,) in rows for report in decode(text.encode("ascii"))), key=_order)


def _fold(reports: Iterable[Report]) -> list[_Change]:
    """Reduce reports to one change per attempt of an instance, by attempt and then by instance.

    By attempt, so that a release comes after the end that it competes with; by instance, because updates of
    neighbouring rows were measured seven times faster than scattered ones.
    """
    grouped: dict[tuple[int, int], list[Report]] = {}
    for report in reports:
        grouped.setdefault((report.attempt, report.instance), []).append(report)
    return [_change(grouped[key]) for key in sorted(grouped)]


def _change(reports: list[Report]) -> _Change:
    if len(reports) == 1:
        (report,) = reports
        return _Change(report, report if report.state is TaskState.RUNNING else None, ())
    ordered = sorted(dict.fromkeys(reports), key=_order)
    highest = max(RANK[report.state] for report in ordered)
    winner, *others = (report for report in ordered if RANK[report.state] == highest)
    running = next((report for report in ordered if report.state is TaskState.RUNNING), None)
    return _Change(winner, running, tuple(report for report in others if report.state in FINAL))


def _order(report: Report) -> tuple[object, ...]:
    # More than the time, so that equal times do not leave it to the order of arrival within a batch.
    return (
        report.at,
        report.state.value,
        report.node,
        report.pid,
        report.restart,
        report.output or report.output_file,
        report.error or "",
        report.failure.value if report.failure is not None else "",
        -1 if report.exit_code is None else report.exit_code,
        report.signal or 0,
        report.max_rss or 0,
        report.cached_from or 0,
        report.identity,
        report.started_at or 0,
    )


def _values(change: _Change, nodes: _Nodes, now: int) -> dict[str, object]:
    """Return what the row holds after the change; a release leaves it empty."""
    report, running = change.winner, change.running
    waits = report.state is TaskState.PENDING
    final = report.state in FINAL
    starts = [report.started_at] if final and report.started_at is not None else []
    if running is not None:
        starts.append(running.at)
    node = "" if waits else report.node or (running.node if running else "")
    identity = report.identity or (running.identity if running else "")
    return {
        "instance": report.instance,
        "attempt": report.attempt,
        "now": now,
        "node": nodes.key_of(node),
        "started_at": min(starts, default=None),
        "finished_at": report.at if final else None,
        "failure": report.failure.value if final and report.failure else None,
        "exit_code": report.exit_code if final else None,
        "signal": report.signal if final else None,
        "exception": storable(report.exception) or None if final else None,
        "max_rss": report.max_rss if final else None,
        "cached_from": report.cached_from if report.state is TaskState.SUCCESS else None,
        "identity": pack_hash(identity),
        "output_hash": pack_hash(report.output_hash) if final else None,
        "output": _text(report.output) if final else None,
        "output_file": pack_hash(report.output_file) if final else None,
        "error": _text(report.error) if final else None,
    }


def _release_values(report: Report, nodes: _Nodes) -> dict[str, object]:
    return {
        "instance": report.instance,
        "attempt": report.attempt,
        "at": report.at,
        "node": nodes.key_of(report.node),
        "failure": report.failure.value if report.failure else None,
        "exit_code": report.exit_code,
        "signal": report.signal,
        "error": _text(report.error),
    }


def _text(text: str | None) -> str | None:
    return None if text is None else storable(text)


def _is_merged(connection: sqlite3.Connection, report: Report) -> bool:
    """Return whether a final report that changed nothing is the one that ended its attempt, once more."""
    state = moves.CODES[report.state]
    found = connection.execute(
        "SELECT 1 FROM"
        " (SELECT state, finished_at, node FROM instances WHERE id = :instance AND attempt = :attempt"
        "  UNION ALL"
        "  SELECT state, finished_at, node FROM attempts WHERE instance = :instance AND attempt = :attempt) ended"
        " LEFT JOIN nodes n ON n.id = ended.node"
        " WHERE state = :state AND finished_at = :at AND :node IN ('', n.name)",
        {
            "instance": report.instance,
            "attempt": report.attempt,
            "state": state,
            "at": report.at,
            "node": storable(report.node),
        },
    ).fetchone()
    return found is not None


class _Nodes:
    """The interned names of nodes, each asked for once per batch."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._keys: dict[str, int] = {}

    def key_of(self, name: str) -> int | None:
        """Return the row id of a node's name, recording it when it is new; None for ''."""
        if not name:
            return None
        if name not in self._keys:
            stored = storable(name)
            self._connection.execute("INSERT OR IGNORE INTO nodes (name) VALUES (?)", (stored,))
            row = self._connection.execute("SELECT id FROM nodes WHERE name = ?", (stored,)).fetchone()
            self._keys[name] = row[0]
        return self._keys[name]
