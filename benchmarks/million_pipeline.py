"""The workflow of `bench_million`: a fan-out that is cached, and a gather behind it."""

from __future__ import annotations

from typing import Annotated

from reflow import Result, Workflow

wf = Workflow("million")


@wf.job()
def numbers(width: int) -> list[int]:
    """Return as many numbers as there shall be elements."""
    return list(range(width))


@wf.array_job()
def same(number: Annotated[int, Result(step="numbers")]) -> int:
    """Return the number."""
    return number


@wf.job()
def total(values: Annotated[list[int], Result(step="same")]) -> int:
    """Return the sum."""
    return sum(values)
