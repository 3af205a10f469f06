"""Whole workflows, run locally: in the calling process and in worker processes."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest

from reflow import Param, Result, RunDir, RunState, TaskState, Workflow
from reflow.code import load_file
from reflow.errors import ReflowError

from .scenarios import states, survey


@pytest.fixture(params=[1, 3], ids=["in this process", "in three processes"])
def max_workers(request):
    return request.param


def test_fan_out_chain_and_gather_give_the_right_results(tmp_path, store, max_workers):
    run = survey().run_local(tmp_path, store=store, max_workers=max_workers, size=20, by=2)
    assert run.status(as_dict=True)["status"] == "SUCCESS", run.status(as_dict=True, errors=True)
    assert run.results("shift") == [number**2 + 2 for number in range(20)]
    assert run.results("total") == sum(number**2 + 2 for number in range(20))


def test_an_empty_fan_out_succeeds_and_the_gather_gets_an_empty_list(tmp_path, store, max_workers):
    run = survey().run_local(tmp_path, store=store, max_workers=max_workers, size=0)
    assert run.state is RunState.SUCCESS
    assert run.results("square") == []
    assert run.results("total") == 0


def test_the_first_failure_stops_the_run(tmp_path, store):
    (tmp_path / "broken").write_text("2")
    run = survey().run_local(tmp_path, store=store, size=5)
    assert run.state is RunState.FAILED
    assert states(run, "square")[2] is TaskState.FAILED
    assert states(run, "square")[4] is TaskState.PENDING


def test_a_failed_element_does_not_hold_up_the_others(tmp_path, store, max_workers):
    (tmp_path / "broken").write_text("2")
    run = survey().run_local(tmp_path, store=store, max_workers=max_workers, on_error="continue", size=5)
    assert run.state is RunState.FAILED
    assert states(run, "shift") == {
        0: TaskState.SUCCESS,
        1: TaskState.SUCCESS,
        2: TaskState.PENDING,
        3: TaskState.SUCCESS,
        4: TaskState.SUCCESS,
    }
    assert "element 2 is broken" in store.get_task_instance_record(run.run_id, "square", 2).error_text


def test_a_worker_process_that_dies_fails_its_element_alone(tmp_path, store):
    workflow = Workflow("deadly")

    @workflow.job()
    def numbers() -> list[int]:
        return list(range(6))

    @workflow.array_job()
    def die(number: Annotated[int, Result("numbers")]) -> int:
        if number == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    run = workflow.run_local(tmp_path, store=store, max_workers=2, on_error="continue")
    assert run.state is RunState.FAILED
    assert run.results("die") == [0, 1, 3, 4, 5]
    failed = store.get_task_instance_record(run.run_id, "die", 2)
    assert (failed.state, failed.signal) == (TaskState.FAILED, signal.SIGKILL)


def test_elements_that_were_done_just_before_their_worker_died_are_not_blamed(tmp_path, store):
    # Wide enough for pieces of several elements; results are published in batches, so the neighbours were lost too.
    workflow = Workflow("deadly")

    @workflow.job()
    def numbers() -> list[int]:
        return list(range(160))

    @workflow.array_job()
    def die(number: Annotated[int, Result("numbers")]) -> int:
        if number == 7:
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    run = workflow.run_local(tmp_path, store=store, max_workers=2, on_error="continue")
    (task,) = [each for each in store.summarize(run.run_id) if each.task_name == "die"]
    assert str(task.failed) == "7"
    assert run.results("die") == [number for number in range(160) if number != 7]


def test_a_changed_item_recomputes_that_element_alone(tmp_path, store, max_workers):
    survey().run_local(tmp_path, store=store, max_workers=max_workers, size=4)
    again = survey().run_local(tmp_path, store=store, max_workers=max_workers, size=5)
    cached = {each.array_index: each.cached_from for each in store.list_task_instance_records(again.run_id, "square")}
    assert [index for index, source in cached.items() if source is None] == [4]
    assert again.results("total") == sum(number**2 + 1 for number in range(5))


def test_a_run_that_the_cache_knows_executes_nothing(tmp_path, store):
    survey().run_local(tmp_path, store=store, size=4)
    again = survey().run_local(tmp_path, store=store, size=4)
    assert again.state is RunState.SUCCESS
    assert store.list_waves(again.run_id) == []
    forced = survey().run_local(tmp_path, store=store, size=4, force_tasks=["shift"])
    assert [wave.task_name for wave in store.list_waves(forced.run_id)] == ["shift"]


@dataclass
class Star:
    name: str
    mass: float


def test_values_reach_the_function_as_their_declared_types(tmp_path, store, max_workers):
    workflow = Workflow("stars")

    @workflow.job()
    def catalogue(masses: list[float]) -> list[Star]:
        return [Star(f"star {mass}", mass) for mass in masses]

    @workflow.array_job()
    def weigh(star: Annotated[Star, Result("catalogue")], unit: str = "kg") -> tuple[str, Path]:
        assert isinstance(star, Star)
        return f"{star.mass} {unit}", Path(star.name)

    @workflow.job()
    def report(weights: Annotated[list[tuple[str, Path]], Result("weigh")], run_dir: RunDir) -> dict[str, str]:
        return {path.name: weight for weight, path in weights}

    run = workflow.run_local(tmp_path, store=store, max_workers=max_workers, masses=[1.0, 2.5])
    assert run.state is RunState.SUCCESS, run.status(as_dict=True, errors=True)
    assert run.results("catalogue") == [Star("star 1.0", 1.0), Star("star 2.5", 2.5)]
    assert run.results("report") == {"star 1.0": "1.0 kg", "star 2.5": "2.5 kg"}


def test_any_parameter_name_reaches_the_function(tmp_path, store):
    workflow = Workflow("names")

    @workflow.job()
    def collect(
        status: str,
        since: int,
        task: str,
        index: int,
        run_id: str,
        store_path: str,
        errors: bool,
        yes: bool,
        last: Annotated[int, Param(namespace="local")],
        self: int = 7,
    ) -> list[str]:
        return [str(each) for each in (status, since, task, index, run_id, store_path, errors, yes, last, self)]

    run = workflow.run_local(
        tmp_path,
        store=store,
        status="s",
        since=1,
        task="t",
        index=2,
        run_id="r",
        store_path="p",
        errors=True,
        yes=False,
        collect_last=3,
    )
    assert run.results("collect") == ["s", "1", "t", "2", "r", "p", "True", "False", "3", "7"]


def test_fan_out_inputs_of_unequal_length_fail_with_their_lengths(tmp_path, store):
    workflow = Workflow("unequal")

    @workflow.job()
    def left() -> list[int]:
        return [1, 2, 3]

    @workflow.job()
    def right() -> list[int]:
        return [1, 2]

    @workflow.array_job()
    def pair(a: Annotated[int, Result("left")], b: Annotated[int, Result("right")]) -> int:
        return a + b

    run = workflow.run_local(tmp_path, store=store)
    assert run.state is RunState.FAILED
    error = run.status(as_dict=True)["tasks"]["pair"]["error"]
    assert "'a' (from left) has 3" in error
    assert "'b' (from right) has 2" in error


def test_an_output_that_cannot_be_kept_is_refused_at_the_task_that_returned_it(tmp_path, store):
    workflow = Workflow("handles")

    @workflow.job()
    def opened() -> dict:
        return {"file": object()}

    run = workflow.run_local(tmp_path, store=store)
    failed = store.get_task_instance_record(run.run_id, "opened", None)
    assert failed.state is TaskState.FAILED
    assert failed.error_text.startswith("task 'opened':")
    assert "file" in failed.error_text


def test_a_partial_gather_takes_what_succeeded(tmp_path, store):
    workflow = Workflow("partial")

    @workflow.job()
    def numbers() -> list[int]:
        return [0, 1, 2]

    @workflow.array_job()
    def invert(number: Annotated[int, Result("numbers")]) -> float:
        return 1 / number

    @workflow.job(allow_partial=True)
    def total(values: Annotated[list[float], Result("invert")]) -> float:
        return sum(values)

    run = workflow.run_local(tmp_path, store=store, on_error="continue")
    assert run.state is RunState.SUCCESS
    assert run.results("total") == 1.5


def test_an_interrupt_from_the_keyboard_leaves_no_run_that_says_running(tmp_path, store):
    workflow = Workflow("interrupted")

    @workflow.job()
    def press() -> int:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        workflow.run_local(tmp_path, store=store)
    assert [run["status"] for run in store.list_runs()] == ["CANCELLED"]


@pytest.mark.parametrize("name", ["a 0", 'a"=0"', "a'; echo foo", "a\n0", "ä$HOME", "a%2F"])
def test_awkward_run_directories_work(tmp_path, store, name):
    folder = tmp_path / name
    run = survey().run_local(folder, store=store, max_workers=2, size=2)
    assert run.state is RunState.SUCCESS
    assert "squaring 1" in run.logs("square", 1)


PARTIAL = """
from pathlib import Path
from typing import Annotated
from reflow import Result, RunDir, Workflow

wf = Workflow("partial")

@wf.job()
def numbers() -> list[int]:
    return [0, 1, 2]

@wf.array_job()
def invert(number: Annotated[int, Result("numbers")], run_dir: RunDir) -> float:
    return 1 / (number or float((run_dir / "instead").read_text()))

@wf.job(allow_partial=True)
def total(values: Annotated[list[float], Result("invert")], run_dir: RunDir) -> float:
    if (run_dir / "broken").exists():
        raise ValueError("total is broken")
    return sum(values)
"""


@pytest.fixture
def partial(tmp_path):
    (tmp_path / "partial.py").write_text(PARTIAL)
    yield load_file(tmp_path / "partial.py").wf
    sys.modules.pop("partial", None)


def test_a_retry_that_would_leave_a_partial_result_behind_is_refused_with_the_way_out(tmp_path, store, partial):
    run = partial.run_local(tmp_path, store=store, on_error="continue")
    assert (run.state, run.results("total")) == (RunState.SUCCESS, 1.5)
    with pytest.raises(ReflowError, match=r"'total' has run on what succeeded of 'invert'.*submit a new run"):
        run.retry()
    assert run.state is RunState.SUCCESS
    assert run.retry("numbers") == 0


def test_a_partial_gather_that_is_tried_again_has_the_identity_of_what_it_gathers_then(tmp_path, store, partial):
    (tmp_path / "broken").touch()
    run = partial.run_local(tmp_path, store=store, on_error="continue")
    assert run.state is RunState.FAILED
    before = store.get_task_instance_record(run.run_id, "total", None).identity
    (tmp_path / "broken").unlink()
    (tmp_path / "instead").write_text("4")
    assert run.retry() == 2
    assert run.wait(60) is RunState.SUCCESS
    assert run.results("total") == 1.75
    after = store.get_task_instance_record(run.run_id, "total", None).identity
    assert before
    assert after
    assert before != after
