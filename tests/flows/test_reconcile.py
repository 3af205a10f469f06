"""The scheduler is asked rarely, once for all, and what it says is settled in the end, however a worker died."""

from __future__ import annotations

import os
import time
from typing import Annotated

import pytest

from reflow import Result, RunDir, RunState, SlurmExecutor, TaskState, Workflow
from reflow.active import ActiveRun
from reflow.dispatch import open_run, settle
from reflow.reconcile import reconcile
from reflow.run import Run
from reflow.stores.sqlite import SqliteStore

from .scenarios import until


def waiting() -> Workflow:
    """Three elements that run until there is a file `go` in the run directory."""
    workflow = Workflow("waiting")

    @workflow.job()
    def numbers() -> list[int]:
        return [0, 1, 2]

    @workflow.array_job()
    def wait(number: Annotated[int, Result("numbers")], run_dir: RunDir) -> int:
        import time

        (run_dir / f"began-{number}").touch()
        while not (run_dir / "go").exists():
            time.sleep(0.05)
        return number

    return workflow


@pytest.fixture
def running(tmp_path, store, fake_slurm):
    """A run whose three elements are running, and whose scheduler nobody has asked for long."""
    run = waiting().submit(tmp_path / "run", store=store, executor=SlurmExecutor())
    until(lambda: len(list(run.run_dir.glob("began-*"))) == 3)
    # The sentinel of the first task asks too.
    until(lambda: [job.name[:5] for job in fake_slurm.jobs() if not job.is_over] == ["wait-", "wait-"])
    store.merge(wait=True)
    let_time_pass(run)
    fake_slurm.forget_calls()
    yield run
    (run.run_dir / "go").touch()


def let_time_pass(run: Run) -> None:
    """Make the last answer an old one."""
    questions = run.run_dir / "reflow" / run.run_id / "asked.json"
    os.utime(questions, (time.time() - 100, time.time() - 100))


def opened(run: Run) -> ActiveRun:
    return open_run(SqliteStore(run._store.path), run.run_id)


def test_ten_people_who_look_cost_one_question(running, fake_slurm):
    for _ in range(10):
        assert running.status(as_dict=True)["status"] == "RUNNING"
    assert (len(fake_slurm.calls("sacct")), len(fake_slurm.calls("squeue"))) == (1, 1)
    let_time_pass(running)
    running.status(as_dict=True)
    assert len(fake_slurm.calls("squeue")) == 2


def test_ten_who_look_at_the_same_time_cost_one_question(running, fake_slurm):
    children = []
    for _ in range(10):
        child = os.fork()
        if child == 0:
            settle(opened(running))
            os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
    assert len(fake_slurm.calls("squeue")) == 1


def test_a_controller_that_is_down_is_not_asked_by_everyone(running, fake_slurm):
    fake_slurm.fail("sacct", "sacct: error: slurmdbd is down", times=None)
    for _ in range(5):
        assert running.status(as_dict=True)["status"] == "RUNNING"
    assert len(fake_slurm.calls("sacct")) == 1


def test_who_must_know_asks_whoever_asked_before(running, fake_slurm):
    running.status(as_dict=True)
    reconcile(opened(running), must=True)
    assert len(fake_slurm.calls("squeue")) == 2


def test_an_element_that_the_scheduler_does_not_know_is_lost_at_the_second_look_only(running, store, fake_slurm):
    (wave,) = [wave for wave in store.list_waves(running.run_id) if wave.task_name == "wait"]
    # The scheduler answers for a job that never was its own with nothing.
    store._write(lambda connection: connection.execute("UPDATE waves SET job_id = '999999' WHERE id = ?", (wave.id,)))
    active = opened(running)
    assert reconcile(active, grace=100.0) == 0
    let_time_pass(running)
    assert reconcile(active, grace=100.0) == 0
    let_time_pass(running)
    assert reconcile(active, grace=0.0) == 3
    lost = store.list_task_instance_records(running.run_id, "wait")
    assert {(each.state, each.failure) for each in lost} == {(TaskState.FAILED, "LOST")}


def test_a_job_id_that_is_no_number_does_not_keep_the_others_from_being_settled(running, store, fake_slurm):
    (wave,) = [wave for wave in store.list_waves(running.run_id) if wave.task_name == "wait"]
    answers = SlurmExecutor().query(["forgotten-wait-1f", wave.job_id])
    assert {slot for _, slot in answers} == {0, 1, 2}


def test_a_worker_that_ends_settles_its_neighbour_that_was_killed(tmp_path, store, fake_slurm):
    fake_slurm.inject("OUT_OF_MEMORY", name="wait-*", slots="1")
    run = waiting().submit(tmp_path / "run", store=store, executor=SlurmExecutor())
    until(lambda: len(list(run.run_dir.glob("began-*"))) >= 2)
    until(lambda: any(job.states.get(1) == "OUT_OF_MEMORY" for job in fake_slurm.jobs()))
    let_time_pass(run)
    (run.run_dir / "go").touch()

    # Only the workers of the same wave: the sentinel behind it reports what is left, and finds nothing.
    fake_slurm.wait_idle(60)
    assert run.state is RunState.FAILED
    failed = store.get_task_instance_record(run.run_id, "wait", 1)
    assert (failed.failure, failed.max_rss) == ("OUT_OF_MEMORY", 1000)


def test_status_says_why_jobs_wait_and_asks_nobody_for_it(tmp_path, store, fake_slurm):
    fake_slurm.configure(nodes={"n1": 1})
    run = waiting().submit(tmp_path / "run", store=store, executor=SlurmExecutor())
    until(lambda: [job.name[:5] for job in fake_slurm.jobs() if not job.is_over] == ["wait-", "wait-"])
    store.merge(wait=True)
    let_time_pass(run)
    run.status(as_dict=True)
    asked = len(fake_slurm.calls("squeue"))
    (told,) = run.status(as_dict=True)["waits"]
    assert (told["task_name"], told["count"], told["reason"]) == ("wait", 2, "Resources")
    assert len(fake_slurm.calls("squeue")) == asked
    (run.run_dir / "go").touch()


def test_a_sentinel_that_somebody_cancelled_is_put_back(running, store, fake_slurm):
    (wave,) = [wave for wave in store.list_waves(running.run_id) if wave.task_name == "wait"]
    fake_slurm.run("scancel", wave.sentinel_job_id)
    running.status(as_dict=True)
    (again,) = [wave for wave in store.list_waves(running.run_id) if wave.task_name == "wait"]
    assert again.sentinel_job_id != wave.sentinel_job_id
    let_time_pass(running)
    running.status(as_dict=True)
    alive = [job.id for job in fake_slurm.jobs() if job.name.endswith("-sentinel") and not job.is_over]
    assert alive == [again.sentinel_job_id]
    assert store.get_run_record(running.run_id).status is RunState.RUNNING
