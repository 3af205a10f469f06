"""The workflow that is measured: a fan-out of elements that do nothing, so that only reflow's own work is left."""

from __future__ import annotations

from typing import Annotated

from reflow import Result, Workflow

wf = Workflow("benchmark")


@wf.job(cache=False)
def numbers(width: int) -> list[int]:
    """Return as many numbers as there shall be elements."""
    return list(range(width))


@wf.array_job(cache=False)
def nothing(number: Annotated[int, Result(step="numbers")]) -> int:
    """Return the number."""
    return number
