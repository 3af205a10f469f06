"""A fan-out of elements that do nothing, alone in their slots and packed."""

from __future__ import annotations

from typing import Annotated

from reflow import Result, Workflow

single = Workflow("single")
packed = Workflow("packed")
#: For arrays that are too wide for one slot each.
wide = Workflow("wide")


@single.job(mem="50M", cache=False)
@packed.job(mem="50M", cache=False)
@wide.job(mem="50M", cache=False)
def numbers(width: int) -> list[int]:
    """Return as many numbers as there shall be elements."""
    return list(range(width))


@single.array_job(mem="50M", cache=False)
@packed.array_job(mem="50M", cache=False, pack=100)
@wide.array_job(mem="50M", cache=False, pack=1_000)
def nothing(number: Annotated[int, Result("numbers")]) -> int:
    """Return the number."""
    return number
