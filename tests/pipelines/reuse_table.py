"""Many small tasks in one workflow, each the subject of one row of the table in tests/flows/reuse_scenarios.py.

`REUSE_TABLE_VERSION` changes the version of one task without a change of this file.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

from reflow import Flow, Param, Result, RunDir, Workflow

VALUES = 40

wf = Workflow("reuse table")


class Color(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Star:
    name: str
    mass: float = 1.0


def one(x: Annotated[Any, Param(namespace="local")]) -> str:
    return type(x).__name__


for number in range(VALUES):
    wf.job(f"value{number}", time="5", mem="10M")(one)


@wf.job(time="5", mem="10M")
def color(x: Annotated[Color, Param(namespace="local")]) -> str:
    return x.name


@wf.job(time="5", mem="10M")
def star(x: Annotated[Star, Param(namespace="local")]) -> str:
    return x.name


@wf.job(time="5", mem="10M")
def heavier(x: Annotated[Star, Param(namespace="local")]) -> str:
    return x.name


@wf.job(time="5", mem="10M")
def default(x: Annotated[int, Param(namespace="local")] = 3) -> int:
    return x


@wf.job(time="5", mem="10M")
def threads(x: Annotated[int, Param(namespace="local", cache=False)] = 1) -> int:
    return 1


@wf.job(time="5", mem="10M")
def reads(x: Annotated[Path, Param(namespace="local", content=True)]) -> str:
    return x.read_text()


@wf.job(time="5", mem="10M")
def reads_restored(x: Annotated[Path, Param(namespace="local", content=True)]) -> str:
    return x.read_text()


@wf.job(time="5", mem="10M", cache=False)
def uncached() -> int:
    return 1


@wf.job(time="5", mem="10M", version=os.environ.get("REUSE_TABLE_VERSION", "1"))
def versioned() -> int:
    return 1


@wf.job(time="5", mem="10M")
def knows_run_dir(run_dir: RunDir) -> int:
    return 1


@wf.job(time="5", mem="10M")
def ignores_run_dir() -> int:
    return 1


def writer(x: Annotated[Path, Param(namespace="local", cache=False)]) -> Path:
    x.write_text(x.name)
    return x


for name in ("writes", "writes_deleted", "writes_changed", "writes_again"):
    wf.job(name, time="5", mem="10M")(writer)


def follow(path: Path) -> str:
    return path.read_text()


@wf.job(time="5", mem="10M")
def after_writes(path: Annotated[Path, Result("writes")]) -> str:
    return follow(path)


@wf.job(time="5", mem="10M")
def after_writes_deleted(path: Annotated[Path, Result("writes_deleted")]) -> str:
    return follow(path)


@wf.job(time="5", mem="10M")
def after_writes_changed(path: Annotated[Path, Result("writes_changed")]) -> str:
    return follow(path)


def accepts(result: int) -> bool:
    return result == 1


def rejects(result: int) -> bool:
    return False


@wf.job(time="5", mem="10M", verify=accepts)
def accepted() -> int:
    return 1


@wf.job(time="5", mem="10M", verify=rejects)
def rejected() -> int:
    return 1


def stages() -> Flow:
    """Fan-out, chain, chain, and a gather."""
    flow = Flow("stages")

    @flow.job(time="5", mem="10M")
    def items(x: Annotated[list[int], Param(namespace="local")]) -> list[int]:
        return x

    @flow.array_job(time="5", mem="10M")
    def first(item: Annotated[int, Result("items")]) -> int:
        return item + 1

    @flow.array_job(time="5", mem="10M")
    def second(item: Annotated[int, Result("first")]) -> int:
        return item * 2

    @flow.array_job(time="5", mem="10M")
    def third(item: Annotated[int, Result("second")]) -> int:
        return item - 1

    @flow.job(time="5", mem="10M")
    def total(items: Annotated[list[int], Result("third")]) -> int:
        return sum(items)

    return flow


for name in ("same", "changed", "appended", "inserted", "reordered", "removed"):
    wf.include(stages(), name)


@wf.job(time="5", mem="10M")
def sign(x: Annotated[int, Param(namespace="local")]) -> list[int]:
    """Return the same for every positive number: what follows can stay."""
    return [1, 2, 3] if x > 0 else []


@wf.array_job(time="5", mem="10M")
def parity(item: Annotated[int, Result("sign")], x: Annotated[int, Param(namespace="local")]) -> int:
    return item % 2 + 0 * x


@wf.array_job(time="5", mem="10M")
def half(item: Annotated[int, Result("parity")]) -> int:
    return item


@wf.job(time="5", mem="10M")
def sum_of_halves(items: Annotated[list[int], Result("half")]) -> int:
    return sum(items)


@wf.array_job(time="5", mem="10M")
def weigh(item: Annotated[int, Result("sign")], whole: Annotated[int, Result("default", broadcast=True)]) -> int:
    return item * whole


if __name__ == "__main__":
    wf.cli()
