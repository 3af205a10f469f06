"""Decide whether an element that failed is tried again without a person, and what it asks for then. Pure.

Three kinds of failures. What the *infrastructure* loses (a node failed, the job was preempted) is tried again in any
case, has a budget of its own and avoids the nodes that failed. Everything else that is *wanted* uses up the task's
``retries``; by default that is what ends abnormally, while an exception must be asked for, because the same call mostly
raises the same again. What a person or the scheduler *refuses* is never tried again by itself.

A person's retry gives both budgets afresh. What was learnt stays: after OUT_OF_MEMORY the next attempt asks for more
memory, whoever asked for the attempt.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from . import amounts
from .deferred import dataclass
from .spec import JobConfig
from .stores.records import Failure, Resources

#: Lost by the infrastructure and no fault of the task.
INFRASTRUCTURE = frozenset({Failure.NODE_FAIL, Failure.PREEMPTED})

#: How often an element is tried again after such losses.
INFRASTRUCTURE_RETRIES = 5

#: What ``retries=N`` alone tries again: the process came to an end that the function did not choose.
ABNORMAL = frozenset(
    {Failure.OUT_OF_MEMORY, Failure.TIMEOUT, Failure.FAILED, Failure.EXIT, Failure.INTERRUPTED, Failure.LOST}
)

#: After what a task with ``resume=True`` goes on without using up a retry, while each attempt saves something new.
RESUMABLE = frozenset({Failure.TIMEOUT, Failure.PREEMPTED})

#: What ``retry_on=`` may name.
RETRYABLE = ABNORMAL | {Failure.EXCEPTION, Failure.WORKER}

#: At most this many nodes are avoided, the latest to fail: a longer list could leave no node of a small partition.
MOST_EXCLUDED = 4


@dataclass(frozen=True)
class Try:
    """One attempt that failed."""

    failure: Failure
    #: Names of the exception's class and those it inherits from, separated by blanks; '' when nothing was raised.
    exception: str = ""
    #: The node that it ran on; '' when nobody knows, or where it does not matter.
    node: str = ""
    #: Whether it counts against the budget: not once a person has given a new one.
    counts: bool = True


def next_resources(config: JobConfig, history: Sequence[Try]) -> Resources | None:
    """Return what the next attempt asks for, after the failures in `history`, oldest first; None to give up."""
    last = history[-1]
    counted = [each for each in history if each.counts]
    losses = sum(each.failure in INFRASTRUCTURE for each in counted)
    if last.failure in INFRASTRUCTURE:
        return resources(config, history) if losses <= INFRASTRUCTURE_RETRIES else None
    if not _is_wanted(config, last) or len(counted) - losses > config.retries:
        return None
    asked = resources(config, history)
    # The same again would end the same.
    if last.failure is Failure.OUT_OF_MEMORY and config.mem_factor > 1 and asked.mem == _mem(config, history[:-1]):
        return None
    if last.failure is Failure.TIMEOUT and config.time_factor > 1 and asked.time == _time(config, history[:-1]):
        return None
    return asked


def resources(config: JobConfig, history: Sequence[Try]) -> Resources:
    """Return what an attempt after these failures asks for, whoever wants it."""
    lost = [each.node for each in history if each.failure is Failure.NODE_FAIL and each.node]
    latest = list(dict.fromkeys(reversed(lost)))[:MOST_EXCLUDED]
    return Resources(_mem(config, history), _time(config, history), tuple(sorted(latest)))


def _is_wanted(config: JobConfig, last: Try) -> bool:
    if config.retry_on is None:
        return last.failure in ABNORMAL
    if last.failure not in RETRYABLE:
        return False
    names = set(last.exception.split())
    names |= {name.rpartition(".")[2] for name in names}
    return last.failure.value in config.retry_on or not names.isdisjoint(config.retry_on)


def _mem(config: JobConfig, history: Sequence[Try]) -> str | None:
    asked = _escalated(
        amounts.parse_memory,
        config.mem,
        config.mem_max,
        config.mem_factor,
        _count(history, Failure.OUT_OF_MEMORY),
        # In whole MiB, which is what schedulers count in.
        lambda kib: math.ceil(kib / 1024) * 1024,
    )
    return None if asked is None else amounts.format_memory(asked)


def _time(config: JobConfig, history: Sequence[Try]) -> str | None:
    asked = _escalated(
        amounts.parse_time_limit,
        config.time,
        config.time_max,
        config.time_factor,
        _count(history, Failure.TIMEOUT),
        math.ceil,
    )
    return None if asked is None else amounts.format_duration(asked)


def _count(history: Sequence[Try], failure: Failure) -> int:
    """Count failures since the scheduler refused an attempt: from there on, it has been asked for too much."""
    since = [each.failure for each in history]
    if Failure.REFUSED in since:
        since = since[len(since) - since[::-1].index(Failure.REFUSED) :]
    return since.count(failure)


def _escalated(
    parse: Callable[[str], int | None],
    first: str,
    most: str | None,
    factor: float,
    times: int,
    rounded: Callable[[float], int],
) -> int | None:
    """Return `first` times the factor for each time, no more than `most`; None while that is `first` itself."""
    base, ceiling = parse(first), parse(most) if most is not None else None
    if base is None or times == 0 or factor == 1:
        return None  # (no limit at all, or nothing learnt)
    # Bounded, because a person may retry for ever and a float does not hold everything.
    asked = rounded(base * factor ** min(times, 40))
    if ceiling is not None:
        asked = min(asked, ceiling)
    return asked if asked > base else None
