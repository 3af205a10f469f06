"""``logs``: of each attempt, of elements that never began, and of those that are still at it."""

from __future__ import annotations

import os

import pytest

from reflow import RunState, SlurmExecutor, Workflow
from reflow.run import Run
from reflow.stores.sqlite import SqliteStore

from ..flows.scenarios import until
from .conftest import is_one_line
from .terminal import Piped

TRIES = """
    import time
    from typing import Annotated
    from reflow import Result, RunDir, Workflow

    wf = Workflow("tries")

    @wf.job(mem="100M")
    def numbers() -> list[int]:
        return [0, 1, 2]

    @wf.array_job(mem="100M")
    def work(number: Annotated[int, Result("numbers")], run_dir: RunDir) -> int:
        first = not (run_dir / f"tried-{number}").exists()
        (run_dir / f"tried-{number}").touch()
        print(f"number {number} begins, ä, first: {first}", flush=True)
        if number == 1:
            while not (run_dir / "open").exists():
                time.sleep(0.05)
            if first:
                (run_dir / "open").unlink()
                raise RuntimeError("once is not enough")
        print(f"number {number} ends")
        return number
"""


@pytest.fixture
def run(project, fake_slurm, monkeypatch):
    """A run whose element 1 waits for the file ``open`` and fails at its first attempt."""
    monkeypatch.setenv("REFLOW_STORE_PATH", str(project.manifest))
    project.write(TRIES)
    return project.workflow.submit(project.run_dir, store=project.manifest, executor=SlurmExecutor())


def state_of(run, task, index):
    with SqliteStore(run._store.path) as store:
        store.merge()
        return store.get_task_instance_record(run.run_id, task, index)


def test_an_array_without_an_index_names_the_elements_that_failed(project, failed):
    outcome = project.reflow("logs", failed.run_id, "square")
    assert outcome.code == 1
    assert is_one_line(outcome.err)
    assert "square[0] to square[2]; failed: 1" in outcome.err


def test_an_index_of_a_singleton_says_that_it_is_no_array(project, failed):
    outcome = project.reflow("logs", failed.run_id, "prepare[1]")
    assert outcome.code == 1
    assert "'prepare' is no array" in outcome.err


def test_each_attempt_has_its_log_and_an_unknown_one_lists_them(project, run):
    (project.run_dir / "open").touch()
    assert run.wait(60) is RunState.FAILED
    (project.run_dir / "open").touch()
    run.retry()
    assert run.wait(60) is RunState.SUCCESS
    newest = project.reflow("logs", run.run_id, "work[1]")
    assert newest.out == "number 1 begins, ä, first: False\nnumber 1 ends\n"
    first = project.reflow("logs", run.run_id, "work[1]", "--attempt", 1)
    assert first.out.startswith("number 1 begins, ä, first: True\n")
    assert "once is not enough" in first.out
    unknown = project.reflow("logs", run.run_id, "work[1]", "--attempt", 7)
    assert unknown.code == 1
    assert is_one_line(unknown.err)
    assert "its attempts are 1 (EXCEPTION), 2 (SUCCESS)" in unknown.err


def test_following_begins_before_the_element_and_ends_with_it(project, run):
    follower = Piped("-m", "reflow", "logs", "--follow", run.run_id, "work[1]")
    follower.wait_for("number 1 begins")
    (project.run_dir / "open").touch()
    code, err = follower.end()
    assert code == 0
    assert "once is not enough" in follower.out
    assert "work[1] attempt 1: EXCEPTION" in err


def test_following_goes_on_with_the_next_attempt(project, run):
    until((project.run_dir / "tried-1").exists)
    (project.run_dir / "open").touch()
    until(lambda: state_of(run, "work", 1).failure == "EXCEPTION")
    run.retry()
    follower = Piped("-m", "reflow", "logs", "--follow", run.run_id, "work[1]")
    follower.wait_for("first: False")
    (project.run_dir / "open").touch()
    code, err = follower.end()
    assert (code, follower.out) == (0, "number 1 begins, ä, first: False\nnumber 1 ends\n")
    assert "attempt 2: SUCCESS" in err


def test_following_goes_on_when_the_element_is_tried_again_by_itself(project, fake_slurm, monkeypatch):
    monkeypatch.setenv("REFLOW_STORE_PATH", str(project.manifest))
    project.write(TRIES.replace("@wf.array_job(", '@wf.array_job(retries=1, retry_on=["RuntimeError"], '))
    run = project.workflow.submit(project.run_dir, store=project.manifest, executor=SlurmExecutor())
    follower = Piped("-m", "reflow", "logs", "--follow", run.run_id, "work[1]")
    follower.wait_for("first: True")
    (project.run_dir / "open").touch()
    follower.wait_for("first: False")
    (project.run_dir / "open").touch()
    code, err = follower.end()
    assert code == 0
    assert "once is not enough" in follower.out
    assert follower.out.endswith("number 1 ends\n")
    assert "begins attempt 2" in err


def test_ctrl_c_ends_the_following_and_leaves_the_run_alone(project, run, fake_slurm):
    follower = Piped("-m", "reflow", "logs", "--follow", run.run_id, "work[1]")
    follower.wait_for("number 1 begins")
    follower.interrupt()
    code, err = follower.end()
    assert code == 130
    assert f"run {run.run_id} goes on" in err
    assert "Traceback" not in err
    for _ in range(2):
        (project.run_dir / "open").touch()
        fake_slurm.wait_idle()
        run.retry()
    assert run.wait(60) is RunState.SUCCESS


def test_an_element_killed_before_its_worker_began_shows_what_its_shell_said(project, fake_slurm):
    workflow = Workflow("stuck")

    @workflow.job(setup=["echo no such module >&2; false"], mem="100M")
    def only() -> int:
        return 1

    run = workflow.submit(project.run_dir, store=project.manifest, executor=SlurmExecutor())
    assert run.wait(60) is RunState.FAILED
    outcome = project.reflow("logs", run.run_id, "only", "--store-path", project.manifest)
    assert outcome.code == 0
    assert "no such module" in outcome.out
    assert "only left no log of its own" in outcome.err
    followed = project.reflow("logs", "-f", run.run_id, "only", "--store-path", project.manifest)
    assert "no such module" in followed.out


def test_a_result_from_the_cache_names_the_run_that_printed(project):
    first = project.workflow.run_local(project.run_dir, max_workers=2, n=3)
    again = project.workflow.run_local(project.run_dir, max_workers=2, n=3)
    outcome = project.reflow("logs", again.run_id, "prepare")
    assert outcome.code == 0
    assert f"`reflow logs {first.run_id} prepare`" in outcome.err


def test_an_element_that_has_not_begun_says_so(project, fake_slurm):
    project.write(TRIES)
    fake_slurm.configure(nodes={"n1": 1})
    run: Run = project.workflow.submit(project.run_dir, store=project.manifest, executor=SlurmExecutor())
    until(lambda: state_of(run, "work", 2) is not None and state_of(run, "work", 1).state != "PENDING")
    until((project.run_dir / "tried-1").exists)
    outcome = project.reflow("logs", run.run_id, "work[2]", "--store-path", project.manifest)
    assert "work[2] has not begun, it is SUBMITTED" in outcome.err
    assert os.fspath(project.run_dir) in outcome.err
