"""`Run.wait` returns once the run is settled, whatever died meanwhile."""

from __future__ import annotations

import logging
import os
import signal
import threading

import pytest

from reflow import RunState, SlurmExecutor, TaskState, Workflow
from reflow.code import load_file

from .scenarios import until

SLEEPERS = """
import os, time
from typing import Annotated
from reflow import Result, RunDir, Workflow

wf = Workflow("sleepers")

@wf.job(mem="100M")
def numbers() -> list[int]:
    return [0, 1]

@wf.array_job(mem="100M")
def sleeper(number: Annotated[int, Result("numbers")], run_dir: RunDir) -> int:
    (run_dir / f"pid-{number}").write_text(str(os.getpid()))
    while not (run_dir / "open").exists():
        time.sleep(0.05)
    return number
"""


@pytest.fixture
def run(tmp_path, store, fake_slurm):
    """A run whose two elements are running until the file ``open`` is there."""
    (tmp_path / "sleepers.py").write_text(SLEEPERS)
    workflow: Workflow = load_file(tmp_path / "sleepers.py").wf
    run = workflow.submit(tmp_path / "run", store=store, executor=SlurmExecutor())
    until(lambda: all(pid_of(run, number) for number in (0, 1)))
    return run


def pid_of(run, number):
    path = run.run_dir / f"pid-{number}"
    return int(path.read_text() or 0) if path.exists() else 0


def test_a_run_whose_workers_and_sentinels_are_all_gone_is_settled_by_who_waits(run, store, fake_slurm):
    until(lambda: any(wave.task_name == "sleeper" and wave.sentinel_job_id for wave in store.list_waves(run.run_id)))
    sentinels = [job.id for job in fake_slurm.jobs() if job.name.endswith("-sentinel") and not job.is_over]
    fake_slurm.run("scancel", *sentinels)
    for number in (0, 1):
        os.kill(pid_of(run, number), signal.SIGKILL)
    assert run.wait(120) is RunState.FAILED
    failures = store.list_task_instance_records(run.run_id, "sleeper", {TaskState.FAILED})
    assert [each.signal for each in failures] == [9, 9]


def test_a_wait_that_takes_too_long_says_so_and_the_run_goes_on(run):
    with pytest.raises(TimeoutError, match=f"run {run.run_id} is still RUNNING after 0.2 seconds"):
        run.wait(0.2)
    (run.run_dir / "open").touch()
    assert run.wait(60) is RunState.SUCCESS


def test_a_manifest_that_is_away_for_a_moment_does_not_end_a_wait(run, store, caplog):
    ended = []
    waiter = threading.Thread(target=lambda: ended.append(run.wait(60)))
    aside = store.path.with_name("aside.db")
    with caplog.at_level(logging.WARNING, "reflow"):
        store.path.rename(aside)
        waiter.start()
        until(lambda: "trying again" in caplog.text)
        aside.rename(store.path)
    (run.run_dir / "open").touch()
    waiter.join(60)
    assert ended == [RunState.SUCCESS]


def test_progress_is_a_line_on_stderr(run, capsys):
    (run.run_dir / "open").touch()
    assert run.wait(60, progress=True) is RunState.SUCCESS
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "sleeper 2/2" in shown.err
