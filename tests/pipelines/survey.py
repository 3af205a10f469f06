"""A pipeline with every kind of stage, whose elements fail while a file in the run directory names them, and
wait while it holds a file ``hold``.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

from reflow import Result, RunDir, Workflow

wf = Workflow("survey")


def wait_while_held(folder: Path) -> None:
    while (folder / "hold").exists():
        time.sleep(0.02)


def refuse_if_named(folder: Path, number: int) -> None:
    named = folder / "broken"
    if named.exists() and str(number) in named.read_text().split():
        raise RuntimeError(f"element {number} is broken")


@wf.job(mem="100M", time="5")
def measure(size: int = 5) -> list[int]:
    return list(range(size))


@wf.array_job(mem="100M", time="5")
def square(number: Annotated[int, Result("measure")], run_dir: RunDir) -> int:
    print(f"squaring {number}")
    wait_while_held(run_dir)
    refuse_if_named(run_dir, number)
    return number * number


@wf.array_job(mem="100M", time="5")
def shift(value: Annotated[int, Result("square")], by: int = 1) -> int:
    return value + by


@wf.job(mem="100M", time="5")
def total(values: Annotated[list[int], Result("shift")]) -> int:
    return sum(values)


if __name__ == "__main__":
    sys.exit(wf.cli())
