"""The states of a run and of an instance, and the one table of legal moves.

Nothing else in reflow knows which move is allowed: the store turns this table into guarded SQL.
Reports merge as a maximum over ``(attempt, rank of state)``, so they may arrive in any order and
any number of times.
"""

from __future__ import annotations

from enum import Enum


class TaskState(str, Enum):
    """The state of one instance of a task."""

    #: Known, waiting for its inputs or for the next dispatch. Dispatch moves it on.
    PENDING = "PENDING"
    #: The scheduler has it. The worker moves it on, or reconcile when the worker cannot.
    SUBMITTED = "SUBMITTED"
    #: A worker has said that it runs. The worker moves it on, or reconcile.
    RUNNING = "RUNNING"
    #: The function returned and its output is recorded. Final, until a person has a damaged result made again.
    SUCCESS = "SUCCESS"
    #: The function raised, or the scheduler ended it. Final until a retry.
    FAILED = "FAILED"
    #: A person cancelled it. Final until a retry.
    CANCELLED = "CANCELLED"
    #: Ended before and waiting for its next attempt. Dispatch moves it on.
    RETRYING = "RETRYING"

    __str__ = str.__str__


class RunState(str, Enum):
    """The state of one execution of a workflow."""

    #: Instances are waiting, submitted or running. Dispatch moves it on.
    RUNNING = "RUNNING"
    #: Every task is complete. A retry that finds damaged results moves it back to RUNNING.
    SUCCESS = "SUCCESS"
    #: Nothing can go on and something failed. A retry moves it back to RUNNING.
    FAILED = "FAILED"
    #: A person cancelled it. A retry moves it back to RUNNING.
    CANCELLED = "CANCELLED"

    __str__ = str.__str__


WAITING = frozenset({TaskState.PENDING, TaskState.RETRYING})
IN_FLIGHT = frozenset({TaskState.SUBMITTED, TaskState.RUNNING})
FINAL = frozenset({TaskState.SUCCESS, TaskState.FAILED, TaskState.CANCELLED})

#: How far a state is within one attempt. A move within an attempt must raise the rank, so the first
#: final report wins and a late RUNNING changes nothing.
RANK: dict[TaskState, int] = {
    TaskState.PENDING: 0,
    TaskState.RETRYING: 0,
    TaskState.SUBMITTED: 1,
    TaskState.RUNNING: 2,
    TaskState.SUCCESS: 3,
    TaskState.FAILED: 3,
    TaskState.CANCELLED: 3,
}

#: Moves within one attempt: from each state to the states it may take. A worker may start before
#: SUBMITTED is written, and a caller without workers may settle an instance directly.
MOVES: dict[TaskState, frozenset[TaskState]] = {
    old: frozenset(new for new in TaskState if RANK[new] > RANK[old]) for old in TaskState
}

#: Moves that begin the next attempt. FAILED and CANCELLED are retried; an instance that the scheduler
#: dropped because its parent failed goes back to waiting.
NEXT_ATTEMPT: dict[TaskState, frozenset[TaskState]] = {
    TaskState.FAILED: frozenset({TaskState.RETRYING}),
    TaskState.CANCELLED: frozenset({TaskState.RETRYING}),
    TaskState.SUBMITTED: frozenset({TaskState.PENDING}),
    TaskState.RUNNING: frozenset({TaskState.PENDING}),
}

#: The one move that gives up a success, and begins the next attempt too: its result is damaged (its files are gone), or
#: was made from one that is. A person's retry makes it, and neither a report nor dispatch ever does.
REMADE: dict[TaskState, frozenset[TaskState]] = {TaskState.SUCCESS: frozenset({TaskState.RETRYING})}
