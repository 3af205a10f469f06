"""Several elements in one slot: one that fails, hangs or kills the process does not take the others with it."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Annotated

import pytest

from reflow import Result, RunDir, RunState, SlurmExecutor, TaskState, Workflow

from .scenarios import states, until


def packed(*, pack=4, element_time=None, setup=(), mem="4G"):
    """A fan-out whose elements do what the folder's file of their number says, and leave a line when they run."""
    workflow = Workflow("packed")

    @workflow.job(mem=mem)
    def numbers(size: int) -> list[int]:
        return list(range(size))

    @workflow.array_job(pack=pack, element_time=element_time, setup=setup, mem=mem)
    def work(number: Annotated[int, Result("numbers")], run_dir: RunDir) -> int:
        with (run_dir / "ran").open("a") as file:
            file.write(f"{number}\n")
        print(f"working on {number}")
        order = run_dir / f"do-{number}"
        what = order.read_text() if order.exists() else ""
        if what == "raise":
            raise RuntimeError(f"element {number} is broken")
        if what == "exit":
            sys.exit(3)
        if what == "hang":
            time.sleep(60)
        if what == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "leave":
            os._exit(0)
        return number * 10

    @workflow.array_job(pack=pack, mem=mem)
    def after(number: Annotated[int, Result("work")], run_dir: RunDir) -> int:
        with (run_dir / "ran-after").open("a") as file:
            file.write(f"{number}\n")
        return number + 1

    return workflow


def ran(folder: Path, name: str = "ran") -> list[int]:
    return sorted(int(line) for line in (folder / name).read_text().split())


def waves_of(run, task):
    return [(str(wave.slots), wave.pack) for wave in run._store.list_waves(run.run_id) if wave.task_name == task]


def test_every_element_runs_once_and_has_its_own_log(tmp_path, store, executor):
    run = packed().submit(tmp_path, store=store, executor=executor, size=10)
    assert run.wait(60) is RunState.SUCCESS, run.status(as_dict=True, errors=True)
    assert run.results("work") == [number * 10 for number in range(10)]
    assert run.results("after") == [number * 10 + 1 for number in range(10)]
    assert ran(tmp_path) == list(range(10))
    assert waves_of(run, "work") == waves_of(run, "after") == [("0-2", 4)]
    assert run.logs("work", 7) == "working on 7"


@pytest.mark.parametrize(("what", "failure"), [("raise", "EXCEPTION"), ("exit", "EXIT"), ("hang", "TIMEOUT")])
def test_a_failing_element_does_not_take_the_others_down(tmp_path, store, executor, what, failure):
    (tmp_path / "do-1").write_text(what)
    limit = "00:02" if what == "hang" else None
    run = packed(element_time=limit).submit(tmp_path, store=store, executor=executor, size=5)
    assert run.wait(60) is RunState.FAILED
    assert store.get_task_instance_record(run.run_id, "work", 1).failure == failure
    assert run.results("work") == [0, 20, 30, 40]
    # Slurm drops the whole slot that follows; what need not wait for element 1 then runs all the same.
    assert run.results("after") == [1, 21, 31, 41]
    assert states(run, "after")[1] is TaskState.PENDING
    assert ran(tmp_path) == [0, 1, 2, 3, 4]
    assert ran(tmp_path, "ran-after") == [0, 20, 30, 40]


@pytest.mark.parametrize(("what", "failure"), [("die", "FAILED"), ("leave", "LOST")])
def test_the_rest_of_a_killed_pack_runs_in_another_job(tmp_path, store, executor, what, failure):
    (tmp_path / "do-1").write_text(what)
    run = packed(pack=5).submit(tmp_path, store=store, executor=executor, size=5)
    assert run.wait(90) is RunState.FAILED
    broken = store.get_task_instance_record(run.run_id, "work", 1)
    assert (broken.state, broken.failure) == (TaskState.FAILED, failure)
    assert run.results("work") == [0, 20, 30, 40]
    assert [store.get_task_instance_record(run.run_id, "work", index).attempt for index in (2, 3, 4)] == [2, 2, 2]
    assert ran(tmp_path).count(1) == 1
    (tmp_path / "do-1").unlink()
    assert run.retry() == 1
    assert run.wait(60) is RunState.SUCCESS
    assert run.results("after") == [1, 11, 21, 31, 41]


def test_a_pack_whose_job_fails_before_python_begins_is_not_tried_for_ever(tmp_path, store, executor):
    run = packed(setup=["false"]).submit(tmp_path, store=store, executor=executor, size=3)
    assert run.wait(90) is RunState.FAILED
    assert set(states(run, "work").values()) == {TaskState.FAILED}
    assert len(waves_of(run, "work")) == 1


def test_a_requeued_pack_does_not_run_again_what_it_has_finished(tmp_path, store, fake_slurm):
    executor = SlurmExecutor(submit_options={"requeue": True})
    (tmp_path / "do-2").write_text("hang")
    run = packed().submit(tmp_path, store=store, executor=executor, size=4)
    until(lambda: (tmp_path / "ran").exists() and ran(tmp_path) == [0, 1, 2])
    # What is finished is published within a quarter of a second, while element 2 goes on.
    until(lambda: store.merge() and states(run, "work")[1] is TaskState.SUCCESS)
    (tmp_path / "do-2").unlink()
    (wave,) = [wave for wave in store.list_waves(run.run_id) if wave.task_name == "work"]
    fake_slurm.run("scontrol", "requeue", f"{wave.job_id}_0")
    assert run.wait(60) is RunState.SUCCESS, run.status(as_dict=True, errors=True)
    assert ran(tmp_path) == [0, 1, 2, 2, 3]


def test_a_pack_that_a_person_cancels_is_not_submitted_again(tmp_path, store, fake_slurm):
    (tmp_path / "do-1").write_text("hang")
    run = packed().submit(tmp_path, store=store, executor=SlurmExecutor(), size=4)
    until(lambda: (tmp_path / "ran").exists() and ran(tmp_path) == [0, 1])
    (wave,) = [wave for wave in store.list_waves(run.run_id) if wave.task_name == "work"]
    fake_slurm.run("scancel", f"{wave.job_id}_0")
    assert run.wait(60) is RunState.FAILED
    assert [states(run, "work")[index] for index in range(4)] == [TaskState.SUCCESS] + 3 * [TaskState.FAILED]
    assert len(waves_of(run, "work")) == 1


def test_scattered_failures_are_retried_in_full_packs(tmp_path, store, executor):
    for number in (0, 5, 11):
        (tmp_path / f"do-{number}").write_text("raise")
    run = packed().submit(tmp_path, store=store, executor=executor, size=12)
    assert run.wait(60) is RunState.FAILED
    for number in (0, 5, 11):
        (tmp_path / f"do-{number}").unlink()
    assert run.retry() == 3
    assert run.wait(60) is RunState.SUCCESS
    assert waves_of(run, "work") == [("0-2", 4), ("0", 4)]
    assert run.results("after") == [number * 10 + 1 for number in range(12)]


def test_run_local_takes_no_notice_of_packs(tmp_path, store):
    (tmp_path / "do-1").write_text("raise")
    run = packed().run_local(tmp_path, store=store, max_workers=2, on_error="continue", size=6)
    assert run.state is RunState.FAILED
    assert run.results("after") == [1, 21, 31, 41, 51]
    assert waves_of(run, "work") == [("0-5", 1)]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pack": 0}, "pack=0 must be at least 1"),
        ({"pack": "many"}, "pack='many' must be a whole number"),
        ({"pack": 4, "array": False}, "pack needs array=True"),
        ({"element_time": "00:10"}, "limits one element of a pack: add pack=N"),
        ({"pack": 4, "element_time": "soon"}, "is not a time limit"),
    ],
)
def test_what_a_pack_cannot_be_is_said_at_once(options, words):
    with pytest.raises((TypeError, ValueError), match=words):
        Workflow("wrong").job(**{"array": True, **options})(lambda: None)
