"""Failed elements are tried again by themselves: those, with more where that helps, and no more often than allowed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import pytest

from reflow import Result, RunDir, RunState, SlurmExecutor, TaskState, Workflow


def flaky(failures: int = 1, **options) -> Workflow:
    """A fan-out of which elements 1 and 3 raise at their first `failures` attempts, a chain behind it, and a sum."""
    workflow = Workflow("flaky")

    @workflow.job()
    def numbers(size: int) -> list[int]:
        return list(range(size))

    @workflow.array_job(**options)
    def square(number: Annotated[int, Result("numbers")], run_dir: RunDir) -> int:
        with (run_dir / f"tries-{number}").open("a") as tries:
            tries.write("x")
        if number in (1, 3) and len((run_dir / f"tries-{number}").read_text()) <= failures:
            raise ConnectionError(f"element {number} was unlucky")
        return number**2

    @workflow.array_job()
    def shift(value: Annotated[int, Result("square")]) -> int:
        return value + 1

    @workflow.job()
    def total(values: Annotated[list[int], Result("shift")]) -> int:
        return sum(values)

    return workflow


def tries(run) -> Counter:
    return Counter({path.name: len(path.read_text()) for path in Path(run.run_dir).glob("tries-*")})


def waves_of(store, run, task):
    return [wave for wave in store.list_waves(run.run_id) if wave.task_name == task]


def test_only_the_failed_elements_are_tried_again_and_their_followers_follow(tmp_path, store, fake_slurm):
    workflow = flaky(retries=2, retry_on=OSError)
    run = workflow.submit(tmp_path / "run", store=store, executor=SlurmExecutor(), size=5)
    fake_slurm.wait_idle(90)
    assert run.state is RunState.SUCCESS, run.status(as_dict=True, errors=True)
    assert run.results("total") == sum(number**2 + 1 for number in range(5))
    assert tries(run) == {"tries-0": 1, "tries-1": 2, "tries-2": 1, "tries-3": 2, "tries-4": 1}
    retried = {index for wave in waves_of(store, run, "square")[1:] for index in wave.slots}
    assert retried == {1, 3}
    assert run.status(as_dict=True)["tasks"]["square"]["retried"] == 2
    (first,) = store.list_attempts(store.get_task_instance_record(run.run_id, "square", 3).id)
    assert (first.failure, first.state) == ("EXCEPTION", TaskState.FAILED)
    assert first.exception.split()[:2] == ["ConnectionError", "OSError"]


def test_an_element_that_fails_every_time_ends_the_run_and_a_person_gives_new_tries(tmp_path, store, fake_slurm):
    run = flaky(4, retries=1, retry_on="ConnectionError").submit(
        tmp_path / "run", store=store, executor=SlurmExecutor(), size=5
    )
    fake_slurm.wait_idle(90)
    assert run.state is RunState.FAILED
    assert tries(run)["tries-1"] == 2
    assert run.results("shift") == [1, 5, 17]
    assert run.retry() == 2
    fake_slurm.wait_idle(90)
    assert (run.state, tries(run)["tries-1"]) == (RunState.FAILED, 4)
    assert run.retry() == 2
    fake_slurm.wait_idle(90)
    assert (run.state, tries(run)["tries-1"]) == (RunState.SUCCESS, 5)


def test_memory_grows_with_each_attempt_that_ran_out_of_it(tmp_path, store, fake_slurm):
    fake_slurm.inject("OUT_OF_MEMORY", name="square-*", slots="2", times=2)
    run = flaky(0, retries=3, mem="300M", mem_max="1G").submit(
        tmp_path / "run", store=store, executor=SlurmExecutor(), size=3
    )
    fake_slurm.wait_idle(120)
    assert run.state is RunState.SUCCESS, run.status(as_dict=True, errors=True)
    asked = [(str(wave.slots), wave.resources.mem) for wave in waves_of(store, run, "square")]
    assert asked == [("0-2", None), ("2", "600M"), ("2", "1G")]
    scripts = sorted((run.run_dir / "reflow" / run.run_id / "scripts").glob("*-square.sh"))
    assert ["--mem=600M" in script.read_text() for script in scripts] == [False, True, False]
    assert store.get_task_instance_record(run.run_id, "square", 2).asked_mem == "1G"


def test_a_lost_node_is_avoided_and_costs_the_task_none_of_its_tries(tmp_path, store, fake_slurm):
    fake_slurm.inject("NODE_FAIL", name="square-*", slots="1", times=1)
    run = flaky(0).submit(tmp_path / "run", store=store, executor=SlurmExecutor(), size=3)
    fake_slurm.wait_idle(120)
    assert run.state is RunState.SUCCESS, run.status(as_dict=True, errors=True)
    _, second = waves_of(store, run, "square")
    (lost,) = store.list_attempts(store.get_task_instance_record(run.run_id, "square", 1).id)
    assert (lost.failure, second.resources.exclude) == ("NODE_FAIL", (lost.node,))
    assert tries(run)["tries-0"] == 1


@pytest.mark.parametrize("max_workers", [1, 2])
@pytest.mark.parametrize("on_error", ["stop", "continue"])
def test_local_runs_try_again_too(tmp_path, store, max_workers, on_error):
    run = flaky(1, retries=1, retry_on=OSError).run_local(
        tmp_path / "run", store=store, max_workers=max_workers, on_error=on_error, size=5
    )
    assert run.state is RunState.SUCCESS
    assert tries(run) == {"tries-0": 1, "tries-1": 2, "tries-2": 1, "tries-3": 2, "tries-4": 1}


def test_a_local_run_stops_at_a_failure_that_has_no_tries_left(tmp_path, store):
    run = flaky(9, retries=1, retry_on=OSError).run_local(tmp_path / "run", store=store, size=5)
    assert run.state is RunState.FAILED
    assert tries(run)["tries-1"] == 2
