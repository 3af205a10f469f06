"""The table of legal moves in `reflow.states`, as codes and as the SQL conditions that guard every update.

A *report* may carry an instance into a later attempt than the manifest knows of: then the release in between was
not merged. It never stands in for a person's retry, so an attempt that has ended is left by nothing but a retry.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..states import FINAL, MOVES, NEXT_ATTEMPT, REMADE, TaskState

#: How states are stored. Persisted: a code never changes its meaning.
CODES: dict[TaskState, int] = {
    TaskState.PENDING: 0,
    TaskState.RETRYING: 1,
    TaskState.SUBMITTED: 2,
    TaskState.RUNNING: 3,
    TaskState.SUCCESS: 4,
    TaskState.FAILED: 5,
    TaskState.CANCELLED: 6,
}

#: The way back.
STATES: dict[int, TaskState] = {code: state for state, code in CODES.items()}


def codes(states: Iterable[TaskState]) -> str:
    """Return the states as an SQL list of literals, ``(0, 1)``. Literals, so that partial indexes are found."""
    return "(" + ", ".join(str(code) for code in sorted(CODES[state] for state in states)) + ")"


def sources(new: TaskState) -> frozenset[TaskState]:
    """Return the states from which `new` is reached within one attempt."""
    return frozenset(old for old, news in MOVES.items() if new in news)


def _reachable(old: TaskState) -> frozenset[TaskState]:
    return frozenset({old}) | MOVES[old]  # MOVES is transitive: every rise in rank is one move


def _starts_of_attempt(old: TaskState) -> frozenset[TaskState]:
    """The states in which the next attempt may begin, seen from `old`, without leaving an attempt that has ended."""
    lasting = {old} if old in FINAL else _reachable(old) - FINAL
    return frozenset(new for state in lasting for new in NEXT_ATTEMPT.get(state, ()))


#: From these a report may carry an instance into a later attempt.
RELEASABLE = frozenset(state for state in TaskState if state not in FINAL and _starts_of_attempt(state))

#: From these a retry begins the next attempt.
RETRYABLE = frozenset(old for old, news in NEXT_ATTEMPT.items() if TaskState.RETRYING in news)

#: From these only a retry that found a damaged result begins the next attempt.
REMAKABLE = frozenset(REMADE)

#: From these a release begins the next attempt.
IN_HAND = frozenset(old for old, news in NEXT_ATTEMPT.items() if TaskState.PENDING in news)


def rows() -> list[tuple[int, int, int]]:
    """Return the rows of the manifest's table `moves`: old code, new code, 1 if a later attempt begins."""
    within = {(old, new, 0) for old, news in MOVES.items() for new in news}
    beyond = {(old, new, 1) for old in RELEASABLE for start in _starts_of_attempt(old) for new in _reachable(start)}
    retries = {(old, new, 1) for old in RETRYABLE for new in NEXT_ATTEMPT[old]}
    remade = {(old, new, 1) for old, news in REMADE.items() for new in news}
    return sorted((CODES[old], CODES[new], next_) for old, new, next_ in within | beyond | retries | remade)


#: From these codes a report of a state is merged within the attempt, by state.
WITHIN: dict[TaskState, frozenset[int]] = {new: frozenset(CODES[old] for old in sources(new)) for new in TaskState}

#: From these codes a report of a later attempt is merged, whatever its state.
BEYOND: frozenset[int] = frozenset(CODES[state] for state in RELEASABLE)
