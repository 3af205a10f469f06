"""What follows is submitted before its parents are done: chains of any depth, several parents, singletons."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import pytest

from reflow import Result, RunDir, RunState, SlurmExecutor, TaskState, Workflow
from reflow.indices import Indices

from .scenarios import states, until


def wait_for(file: Path, seconds: float = 30.0) -> None:
    """Wait until the file is there: how an element of a test waits for another one, or for the test."""
    deadline = time.monotonic() + seconds
    while not file.exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{file} was never made")
        time.sleep(0.02)


def diamond() -> Workflow:
    """Two arrays that follow the same one and each other, and one that follows both."""
    workflow = Workflow("diamond")

    @workflow.job(mem="100M")
    def numbers(size: int) -> list[int]:
        return list(range(size))

    @workflow.array_job(mem="100M")
    def left(number: Annotated[int, Result("numbers")], run_dir: RunDir) -> int:
        if number == 0:  # ends when the last element of the last task is done: nobody waits for his neighbours
            wait_for(run_dir / "join-3")
        if (run_dir / f"break-{number}").exists():
            raise RuntimeError(f"element {number} is broken")
        return number + 100

    @workflow.array_job(mem="100M")
    def right(number: Annotated[int, Result("left")]) -> int:
        return number + 1000

    @workflow.array_job(mem="100M")
    def join(one: Annotated[int, Result("left")], other: Annotated[int, Result("right")], run_dir: RunDir) -> int:
        (run_dir / f"join-{one - 100}").touch()
        return one + other

    return workflow


def follows(run, task):
    """Return, for each wave of a task, its slots and the tasks of the waves that it follows."""
    waves = {wave.id: wave for wave in run._store.list_waves(run.run_id)}
    return [
        (str(wave.slots), [waves[parent].task_name for parent in wave.after_waves])
        for wave in waves.values()
        if wave.task_name == task
    ]


def followed_by(run, task, index):
    """Return the tasks of the waves that the wave of an element follows."""
    return next(tasks for slots, tasks in follows(run, task) if index in Indices.parse(slots))


def test_no_element_waits_for_its_neighbours_however_deep_and_with_several_parents(tmp_path, store, executor):
    run = diamond().submit(tmp_path, store=store, executor=executor, size=4)
    assert run.wait(90) is RunState.SUCCESS, run.status(as_dict=True, errors=True)
    assert run.results("join") == [2 * number + 1200 for number in range(4)]
    # Element 0 is still on its way then; the others may be done already when it is looked.
    assert followed_by(run, "right", 0) == ["left"]
    assert followed_by(run, "join", 0) == ["left", "right"]


def test_the_child_of_two_parents_goes_back_to_waiting_when_one_fails_and_runs_after_a_retry(tmp_path, store, executor):
    (tmp_path / "break-2").touch()
    run = diamond().submit(tmp_path, store=store, executor=executor, size=4)
    assert run.wait(90) is RunState.FAILED
    assert run.results("join") == [1200, 1202, 1206]
    assert {states(run, task)[2] for task in ("right", "join")} == {TaskState.PENDING}
    (tmp_path / "break-2").unlink()
    assert run.retry() == 1
    assert run.wait(90) is RunState.SUCCESS
    assert run.results("join") == [2 * number + 1200 for number in range(4)]


def steps_in_a_row() -> Workflow:
    """Three singletons in a row; the first waits for a file, and fails when it says so."""
    workflow = Workflow("steps")

    @workflow.job(mem="100M")
    def first(run_dir: RunDir) -> int:
        wait_for(run_dir / "go")
        if (run_dir / "go").read_text() == "fail":
            raise RuntimeError("the first is broken")
        return 1

    @workflow.job(mem="100M")
    def second(number: Annotated[int, Result("first")]) -> int:
        return number + 1

    @workflow.job(mem="100M")
    def third(number: Annotated[int, Result("second")], other: Annotated[int, Result("first")]) -> list[int]:
        return [number, other]

    @workflow.array_job(mem="100M")
    def each(number: Annotated[int, Result("third")]) -> int:
        return number * 10

    return workflow


def test_singletons_in_a_row_are_submitted_at_once(tmp_path, store, executor):
    run = steps_in_a_row().submit(tmp_path, store=store, executor=executor)
    assert follows(run, "second") == [("None", ["first"])]
    assert follows(run, "third") == [("None", ["first", "second"])]
    assert follows(run, "each") == []
    (tmp_path / "go").touch()
    assert run.wait(60) is RunState.SUCCESS, run.status(as_dict=True, errors=True)
    assert run.results("third") == [2, 1]
    assert run.results("each") == [20, 10]


def test_the_second_run_takes_all_from_the_cache(tmp_path, store, executor):
    (tmp_path / "go").touch()
    first = steps_in_a_row().submit(tmp_path, store=store, executor=executor)
    assert first.wait(60) is RunState.SUCCESS
    again = steps_in_a_row().submit(tmp_path, store=store, executor=executor)
    assert again.state is RunState.SUCCESS
    assert store.list_waves(again.run_id) == []


def test_what_was_submitted_behind_a_failure_is_cleaned_up_and_runs_after_a_retry(tmp_path, store, executor):
    run = steps_in_a_row().submit(tmp_path, store=store, executor=executor)
    (tmp_path / "go").write_text("fail")
    assert run.wait(60) is RunState.FAILED
    assert (states(run, "second"), states(run, "third")) == ({None: TaskState.PENDING}, {None: TaskState.PENDING})
    (tmp_path / "go").write_text("")
    assert run.retry() == 1
    assert run.wait(60) is RunState.SUCCESS
    assert run.results("third") == [2, 1]


def test_a_cancel_takes_what_was_submitted_ahead_with_it(tmp_path, store, fake_slurm):
    run = steps_in_a_row().submit(tmp_path, store=store, executor=SlurmExecutor())
    assert run.cancel() == 3
    assert all(job.is_over for job in fake_slurm.wait_idle())
    assert run.state is RunState.CANCELLED


@pytest.mark.parametrize("pack", [1, 3])
def test_a_chain_flows_in_parts_beyond_the_longest_array(tmp_path, store, fake_slurm, pack):
    fake_slurm.configure(max_array_size=5)
    workflow = Workflow("wide")

    @workflow.job()
    def numbers() -> list[int]:
        return list(range(12))

    @workflow.array_job(pack=pack)
    def first(number: Annotated[int, Result("numbers")], run_dir: RunDir) -> int:
        wait_for(run_dir / "go")
        return number + 1

    @workflow.array_job(pack=pack)
    def second(number: Annotated[int, Result("first")]) -> int:
        return number * 2

    run = workflow.submit(tmp_path, store=store, executor=SlurmExecutor())
    parts = ["0-4", "0-4", "0-1"] if pack == 1 else ["0-3"]
    until(lambda: follows(run, "second") == [(slots, ["first"]) for slots in parts])
    (tmp_path / "go").touch()
    assert run.wait(90) is RunState.SUCCESS, run.status(as_dict=True, errors=True)
    assert run.results("second") == [2 * (number + 1) for number in range(12)]
    assert follows(run, "first") == [(slots, []) for slots in parts]
