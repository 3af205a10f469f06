"""`Workflow.forecast`: what a run would use again, said without writing anything."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pytest

from reflow import Result, Workflow


@pytest.fixture
def workflow():
    made = Workflow("expected")

    @made.job()
    def items(n: int) -> list[int]:
        return list(range(n))

    @made.array_job()
    def scale(item: Annotated[int, Result("items")], by: int = 1) -> int:
        return item * by

    @made.array_job()
    def shift(value: Annotated[int, Result("scale")], less: int = 0) -> int:
        return value + 1 - less

    @made.job()
    def total(values: Annotated[list[int], Result("shift")]) -> int:
        return sum(values)

    return made


def lines(workflow, tmp_path, store, **options):
    return [each.line() for each in workflow.forecast(tmp_path / "run", store=store, **options)]


def test_without_a_manifest_everything_is_computed_and_none_is_made(workflow, tmp_path):
    assert lines(workflow, tmp_path, tmp_path / "none.db", n=3) == [
        "items: 0 of 1 used again, 1 computed (there is no earlier success of task 'items')",
        "scale: known when items is done",
        "shift: known when scale is done",
        "total: known when shift is done",
    ]
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_the_cache_knows_uses_all_again_and_writes_nothing(workflow, tmp_path, store):
    workflow.run_local(tmp_path / "run", store=store, n=3)
    store.close()
    before = {path: path.stat() for path in tmp_path.rglob("*")}
    assert lines(workflow, tmp_path, store, n=3) == [
        "items: 1 of 1 used again",
        "scale: 3 of 3 used again",
        "shift: 3 of 3 used again",
        "total: 1 of 1 used again",
    ]
    after = {path: path.stat() for path in tmp_path.rglob("*")}
    assert {path: (each.st_size, each.st_mtime_ns) for path, each in after.items()} == {
        path: (each.st_size, each.st_mtime_ns) for path, each in before.items()
    }


def test_a_changed_parameter_is_named_with_both_values_and_what_follows_is_left_open(workflow, tmp_path, store):
    workflow.run_local(tmp_path / "run", store=store, n=3)
    assert lines(workflow, tmp_path, store, n=3, by=2) == [
        "items: 1 of 1 used again",
        "scale: 0 of 3 used again, 3 computed (3 changed: parameter 'by': 1 -> 2)",
        "shift: 0 of 3 used again, 3 decided when they start",
        "total: known when shift is done",
    ]


def test_forced_tasks_say_so(workflow, tmp_path, store):
    workflow.run_local(tmp_path / "run", store=store, n=2)
    assert lines(workflow, tmp_path, store, n=2, force_tasks=["shift"])[2] == (
        "shift: 0 of 2 used again, 2 computed (2 the run was submitted with --force-tasks for it)"
    )


def test_of_a_partly_computed_array_the_known_elements_count(workflow, tmp_path, store):
    workflow.run_local(tmp_path / "run", store=store, n=2)
    half = workflow.run_local(tmp_path / "run", store=store, n=4)
    assert half.results("total") == 10
    again = lines(workflow, tmp_path, store, n=4, less=1)
    assert again[2] == "shift: 0 of 4 used again, 4 computed (4 changed: parameter 'less': 0 -> 1)"


def test_a_result_whose_file_is_gone_is_counted_as_computed(tmp_path, store):
    workflow = Workflow("files")

    @workflow.job()
    def write() -> Path:
        (tmp_path / "out").write_text("text")
        return tmp_path / "out"

    workflow.run_local(tmp_path / "run", store=store)
    (tmp_path / "out").unlink()
    (line,) = lines(workflow, tmp_path, store)
    assert line.startswith("write: 0 of 1 used again, 1 computed (write of files-")
    assert line.endswith(f"gone: {tmp_path / 'out'})")
