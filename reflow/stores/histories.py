"""The failures of instances that failed or wait for another attempt, as `retrying` wants them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from ..indices import Indices
from ..retrying import Try
from ..spec import TaskPlan
from ..states import WAITING, TaskState
from . import moves, task_table
from .records import Failure

_FAILED = moves.CODES[TaskState.FAILED]

# By way of the task's waves, because who failed was in one; of other tasks' attempts none is read.
_EARLIER = f"""
    SELECT max(i.idx, 0) AS place, a.attempt, a.failure, a.exception, n.name, a.forgiven
      FROM waves w
      JOIN attempts a ON a.wave = w.id
      JOIN instances i ON i.id = a.instance
      LEFT JOIN nodes n ON n.id = a.node
     WHERE w.task = :task AND a.state = {_FAILED} AND a.failure IS NOT NULL
           AND i.state IN {moves.codes(WAITING | {TaskState.FAILED})}
"""

_NEWEST = f"""
    SELECT max(i.idx, 0), i.attempt, i.failure, i.exception, n.name, 0
      FROM instances i
      LEFT JOIN nodes n ON n.id = i.node
     WHERE i.task = :task AND i.state = {_FAILED} AND i.failure IS NOT NULL
"""


def histories(connection: sqlite3.Connection, task: int, plan: TaskPlan) -> dict[tuple[Try, ...], Indices]:
    """Return the waiting and failed instances of a task that have failed before, by what happened to them.

    What makes no difference to the decision is left out, so that thousands of failures are a few entries.
    """
    unsettled = (*WAITING, TaskState.FAILED)
    if not task_table.count(connection, task, unsettled):
        return {}
    found: dict[tuple[Try, ...], list[int]] = {}
    rows = connection.execute(f"{_EARLIER} UNION ALL {_NEWEST} ORDER BY 1, 2", {"task": task})
    for index, tries in groupby(rows, key=lambda row: row[0]):
        found.setdefault(tuple(_tries(tries, plan)), []).append(index)
    return {history: Indices(indices) for history, indices in found.items()}


def _tries(rows: Iterator[tuple[Any, ...]], plan: TaskPlan) -> Iterator[Try]:
    for _, _, failure, exception, node, forgiven in rows:
        yield Try(
            Failure(failure),
            exception=exception or "" if plan.config.retry_on is not None else "",
            node=node or "" if failure == Failure.NODE_FAIL else "",
            counts=not forgiven,
        )
