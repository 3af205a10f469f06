"""The time limit is near: the function is told, saves its work, and goes on in the next attempt."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Annotated

import pytest

from reflow import Checkpoint, Result, RunDir, RunState, SlurmExecutor, TaskInterrupted, Workflow

from .scenarios import states, until


def counting(*, steps=3, how="waits for the signal", resume=True, saves=True, limit="00:00:12", before=4, mem="4G"):
    """Each attempt comes one step further, saves it, and waits for its end, until `steps` are done.

    A busy machine takes seconds to start a worker, and the warning must find the function at work.
    """
    workflow = Workflow("counting")

    @workflow.job(time=limit, signal_before=before, resume=resume, mem=mem)
    def work(saved: Checkpoint, run_dir: RunDir) -> list[str]:
        done = saved.load(default=[])
        (saved.folder / "notes").open("a").write(f"{len(done)} ")
        if len(done) == steps - 1:
            return [*done, (saved.folder / "notes").read_text()]
        try:
            if saves and how != "waits for the signal":
                saved.save([*done, "unasked"])
            if how == "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            while True:
                time.sleep(0.05)
        except TaskInterrupted as interrupted:
            if saves:
                saved.save([*done, interrupted.reason.value])
            raise

    @workflow.job(mem=mem)
    def after(words: Annotated[list[str], Result("work")]) -> int:
        return len(words)

    return workflow


def checkpoints(run) -> list[Path]:
    return list((run.run_dir / "reflow" / run.run_id / "checkpoints").glob("*/*"))


def failures(store, run):
    instance = store.get_task_instance_record(run.run_id, "work", None)
    return [each.failure for each in store.list_attempts(instance.id)], instance.failure


def test_a_task_that_saves_goes_on_over_its_time_limit(tmp_path, store, executor):
    run = counting().submit(tmp_path, store=store, executor=executor)
    assert run.wait(90) is RunState.SUCCESS, run.status(as_dict=True, errors=True)
    assert run.results("work") == ["TIMEOUT", "TIMEOUT", "0 1 2 "]
    assert run.results("after") == 3
    assert failures(store, run) == (["TIMEOUT", "TIMEOUT"], None)
    assert checkpoints(run) == []


def test_a_task_that_saves_nothing_new_is_not_tried_for_ever(tmp_path, store, executor):
    run = counting(saves=False).submit(tmp_path, store=store, executor=executor)
    assert run.wait(60) is RunState.FAILED
    assert failures(store, run) == ([], "TIMEOUT")
    assert "TaskInterrupted: the time limit of the job is near" in run.logs("work")


def test_without_resume_what_was_saved_waits_for_a_person(tmp_path, store, executor):
    run = counting(steps=2, resume=False).submit(tmp_path, store=store, executor=executor)
    assert run.wait(60) is RunState.FAILED
    assert len(checkpoints(run)) == 1
    assert run.retry() == 1
    assert run.wait(60) is RunState.SUCCESS
    assert run.results("work") == ["TIMEOUT", "0 1 "]


def test_after_a_time_limit_without_warning_the_scheduler_says_why_and_the_work_goes_on(tmp_path, store, executor):
    run = counting(steps=2, limit="00:00:08", before=None).submit(tmp_path, store=store, executor=executor)
    assert run.wait(60) is RunState.SUCCESS, run.status(as_dict=True, errors=True)
    assert run.results("work") == ["UNKNOWN", "0 1 "]
    assert failures(store, run) == (["TIMEOUT"], None)


def test_a_killed_process_has_not_been_interrupted(tmp_path, store, executor):
    run = counting(how="dies").submit(tmp_path, store=store, executor=executor)
    assert run.wait(60) is RunState.FAILED
    assert failures(store, run) == ([], "FAILED")


@pytest.mark.parametrize(("requeue", "earlier"), [(False, ["PREEMPTED"]), (True, [])], ids=["for good", "requeued"])
def test_what_is_preempted_goes_on_from_what_it_saved(tmp_path, store, fake_slurm, requeue, earlier):
    run = counting(steps=2, how="saves first", limit="01:00:00").submit(tmp_path, store=store, executor=SlurmExecutor())
    until(lambda: checkpoints(run))
    job = next(job for job in fake_slurm.jobs() if job.name.startswith("work-"))
    fake_slurm.strike("PREEMPTED", job.id, requeue=requeue)
    assert run.wait(60) is RunState.SUCCESS, run.status(as_dict=True, errors=True)
    assert run.results("work")[-1] == "0 1 "
    assert failures(store, run) == (earlier, None)


def test_elements_have_checkpoints_of_their_own_here_too(tmp_path, store):
    workflow = Workflow("own")

    @workflow.job()
    def numbers() -> list[int]:
        return [1, 2, 3]

    @workflow.array_job()
    def work(number: Annotated[int, Result("numbers")], saved: Checkpoint, run_dir: RunDir) -> int:
        before = saved.load(default=0)
        saved.save(before + number)
        if number == 2 and before == 0:
            raise RuntimeError("once")
        return before + number

    run = workflow.run_local(tmp_path, store=store, on_error="continue")
    assert (run.state, run.results("work")) == (RunState.FAILED, [1, 3])
    assert len(checkpoints(run)) == 1
    again = workflow.run_local(tmp_path / "other", store=store, on_error="continue")
    assert sorted(str(state) for state in states(again, "work").values()) == ["FAILED", "SUCCESS", "SUCCESS"]


def test_a_checkpoint_is_no_parameter_of_the_run_and_changes_no_identity(tmp_path, store):
    def workflow(with_checkpoint: bool) -> Workflow:
        made = Workflow("plain")
        if with_checkpoint:

            @made.job(name="work")
            def saving(number: int, saved: Checkpoint) -> int:
                return number

        else:

            @made.job()
            def work(number: int) -> int:
                return number

        return made

    described = workflow(True).describe()
    assert [each["name"] for each in described["cli_params"]] == ["number"]
    first = workflow(True).run_local(tmp_path, store=store, number=1)
    second = workflow(True).run_local(tmp_path, store=store, number=1)
    assert first.results("work") == second.results("work") == 1
    assert store.get_task_instance_record(second.run_id, "work", None).cached_from is not None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"signal_before": 0}, "must be seconds before the end of time"),
        ({"signal_before": "30"}, "must be a number of seconds"),
        ({"signal_before": 1800}, "must be seconds before the end of time='00:30:00'"),
        ({"resume": 1}, "must be True or False"),
        ({"signal": "USR1@30"}, "signal_before=SECONDS says it"),
    ],
)
def test_a_wrong_option_is_said_at_once(options, words):
    with pytest.raises((TypeError, ValueError), match=words):
        Workflow("wrong").job(**options)(lambda: None)


def test_resume_without_a_checkpoint_is_said_on_the_login_node():
    workflow = Workflow("wrong")

    @workflow.job(resume=True)
    def work() -> int:
        return 1

    with pytest.raises(ValueError, match="saved: Checkpoint"):
        workflow.validate()
