"""A chain of three arrays whose elements sleep, some much longer, and the same with a barrier after each stage."""

from __future__ import annotations

import time
from typing import Annotated

from reflow import Result, Workflow

#: Seconds of nearly all elements, and of one in `EVERY`, which are others in each stage.
SHORT, LONG = 1.0, 30.0
EVERY = 25


def seconds(stage: int, number: int) -> float:
    """Return how long an element takes."""
    return LONG if number % EVERY == 7 * stage else SHORT


wf = Workflow("chain")
barriers = Workflow("barriers")


@barriers.job(mem="50M", cache=False)
@wf.job(mem="50M", cache=False)
def numbers(width: int) -> list[int]:
    """Return as many numbers as there shall be elements."""
    return list(range(width))


@barriers.array_job(mem="50M", cache=False)
@wf.array_job(mem="50M", cache=False)
def first(number: Annotated[int, Result("numbers")]) -> int:
    """Sleep."""
    time.sleep(seconds(1, number))
    return number


@barriers.array_job(mem="50M", cache=False, after=["first"])
@wf.array_job(mem="50M", cache=False)
def second(number: Annotated[int, Result("first")]) -> int:
    """Sleep."""
    time.sleep(seconds(2, number))
    return number


@barriers.array_job(mem="50M", cache=False, after=["second"])
@wf.array_job(mem="50M", cache=False)
def third(number: Annotated[int, Result("second")]) -> int:
    """Sleep."""
    time.sleep(seconds(3, number))
    return number
