"""Whole workflows on a real Slurm: right results, honest failures, exact retries, nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from reflow import RunState, SlurmExecutor, TaskState
from reflow.run import Run
from reflow.stores.sqlite import SqliteStore
from reflow.testing import PrivateSlurm

from ..flows import scenarios


@pytest.fixture
def store(tmp_path):
    with SqliteStore(tmp_path / "manifest.db") as opened:
        yield opened


@pytest.fixture
def executor(on_cluster):
    return SlurmExecutor()


def array_of(run, task):
    """Return the --array line of the newest script of a task."""
    (*_, wave) = [wave for wave in run._store.list_waves(run.run_id) if wave.task_name == task]
    scripts = (run.run_dir / "reflow" / run.run_id / "scripts").glob(f"{wave.id:04d}-{task}.sh")
    return next(line.split("=", 1)[1] for line in next(scripts).read_text().splitlines() if "--array" in line)


def test_two_hundred_elements_fan_out_chain_and_gather(tmp_path, store, executor, on_cluster):
    run = scenarios.fan_out_chain_and_gather(tmp_path, store, executor, width=200, seconds=240)
    assert array_of(run, "square") == "0-199"
    assert "squaring 117" in run.logs("square", 117)
    scenarios.until(lambda: on_cluster.run("squeue", "--noheader") == "")


def test_three_failures_are_named_and_a_retry_submits_exactly_those(tmp_path, store, executor):
    run = scenarios.three_failures(tmp_path, store, executor, width=12, seconds=120)
    scenarios.retry_of_three(tmp_path, run, width=12, seconds=120)
    assert array_of(run, "square") == "3,5,11"


def test_it_works_without_accounting(tmp_path, store, on_cluster_without_accounting):
    scenarios.fan_out_chain_and_gather(tmp_path, store, SlurmExecutor(), width=5, seconds=120)


def test_the_submitting_process_is_gone_and_the_run_goes_on(tmp_path, store, on_cluster):
    words = ["submit", "--run-dir", str(tmp_path / "run"), "--store-path", str(store.path), "--size", "6"]
    done = subprocess.run(
        [sys.executable, str(scenarios.PIPELINES / "survey.py"), *words],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={**os.environ, "REFLOW_MODE": "sbatch"},
    )
    run_id = done.stdout.split()[2]
    assert done.stdout == f"Created run {run_id} in {tmp_path / 'run'}\n"

    # Nobody looks in but a reader that never writes: the workers alone must carry the run.
    def state():
        with SqliteStore(store.path, readonly=True) as reader:
            return reader.get_run_record(run_id).status

    scenarios.until(lambda: state() is not RunState.RUNNING, 120)
    assert state() is RunState.SUCCESS
    assert Run(run_id, store).results("total") == sum(number**2 + 1 for number in range(6))


SLOW = """
import os, sys, time
from typing import Annotated
from reflow import Result, RunDir, Workflow

wf = Workflow("slow")

@wf.job(mem="100M")
def numbers(size: int) -> list[int]:
    return list(range(size))

@wf.array_job(mem="100M")
def rest(number: Annotated[int, Result("numbers")], run_dir: RunDir) -> int:
    (run_dir / f"pid-{number}").write_text(str(os.getpid()))
    if not (run_dir / "quick").exists():
        time.sleep(600)
    return number

@wf.job(mem="100M")
def total(values: Annotated[list[int], Result("rest")]) -> int:
    return sum(values)
"""


@pytest.fixture
def slow_run(tmp_path, store, executor):
    """A run whose three elements are all running."""
    (tmp_path / "slow.py").write_text(SLOW)
    workflow = scenarios.load_file(tmp_path / "slow.py").wf
    run = workflow.submit(tmp_path / "run", store=store, executor=executor, size=3)
    pids = [tmp_path / "run" / f"pid-{number}" for number in range(3)]
    scenarios.until(lambda: all(path.exists() and path.read_text() for path in pids))
    yield run
    sys.modules.pop("slow", None)


def test_cancel_leaves_nothing_in_the_queue(slow_run, store, on_cluster):
    assert slow_run.cancel() == 3
    scenarios.until(lambda: on_cluster.run("squeue", "--noheader") == "")
    assert slow_run.state is RunState.CANCELLED
    assert set(scenarios.states(slow_run, "rest").values()) == {TaskState.CANCELLED}


def test_a_run_whose_workers_were_all_killed_is_settled_by_its_sentinel(slow_run, store):
    for number in range(3):
        os.kill(int((slow_run.run_dir / f"pid-{number}").read_text()), signal.SIGKILL)

    def state():
        with SqliteStore(store.path, readonly=True) as reader:
            return reader.get_run_record(slow_run.run_id).status

    scenarios.until(lambda: state() is not RunState.RUNNING, 120)
    assert state() is RunState.FAILED
    failures = store.list_task_instance_records(slow_run.run_id, "rest")
    assert [(each.failure, each.signal) for each in failures] == [("FAILED", 9)] * 3
    (slow_run.run_dir / "quick").touch()
    assert slow_run.retry() == 3
    assert slow_run.wait(120) is RunState.SUCCESS
    assert slow_run.results("total") == 3


def test_an_element_that_a_person_cancelled_at_the_scheduler_fails_with_that_word(slow_run, store, on_cluster):
    (wave,) = [wave for wave in store.list_waves(slow_run.run_id) if wave.task_name == "rest"]
    (slow_run.run_dir / "quick").touch()
    on_cluster.run("scancel", f"{wave.job_id}_[0-2]")
    assert slow_run.wait(120) is RunState.FAILED
    failures = {each.failure for each in store.list_task_instance_records(slow_run.run_id, "rest")}
    assert failures <= {"INTERRUPTED", "CANCELLED"}


@pytest.mark.parametrize("name", ["a 0", 'a"=0"', "a'; echo foo", "a\n0", "ä$HOME", "50%a"])
def test_awkward_run_directories_and_task_names_work(tmp_path, store, executor, name):
    from typing import Annotated

    from reflow import Result, Workflow

    workflow = Workflow("awkward")

    @workflow.job(f"list {name}/..", mem="100M")
    def numbers(text: str) -> list[str]:
        return [text, text]

    @workflow.array_job(mem="100M")
    def same(one: Annotated[str, Result(f"list {name}/..")]) -> str:
        return one

    run = workflow.submit(tmp_path / name, store=store, executor=executor, text=name)
    assert run.wait(90) is RunState.SUCCESS, run.status(as_dict=True, errors=True)
    assert run.results("same") == [name, name]


def test_an_unknown_partition_fails_the_task_at_once_with_slurms_words(tmp_path, store, executor):
    from reflow import Workflow

    workflow = Workflow("lost")

    @workflow.job(partition="nowhere")
    def only() -> int:
        return 1

    run = workflow.submit(tmp_path, store=store, executor=executor)
    assert run.state is RunState.FAILED
    error = store.get_task_instance_record(run.run_id, "only", None).error_text
    assert "invalid partition" in error


def test_a_controller_that_is_down_at_submit_and_comes_back_delays_the_run_only(tmp_path, store, monkeypatch):
    with PrivateSlurm(nodes=2) as own:
        for name, value in own.environment.items():
            monkeypatch.setenv(name, value)
        own.stop_controller()
        run = scenarios.survey().submit(tmp_path / "run", store=store, executor=SlurmExecutor(), size=3)
        assert run.state is RunState.RUNNING
        own.start_controller()
        assert run.wait(120) is RunState.SUCCESS
        waves = {wave.job_name for wave in store.list_waves(run.run_id)}

        def jobs():
            """The job numbers of each name, which the account learns some seconds late."""
            rows = own.run("sacct", "-X", "-n", "-P", "-S", "now-1hours", "-o", "JobID,JobName").split()
            found = {}
            for job_id, name in (row.split("|") for row in rows):
                found.setdefault(name, set()).add(job_id.partition("_")[0])
            return found

        scenarios.until(lambda: waves <= set(jobs()))
        assert {name: len(ids) for name, ids in jobs().items() if name in waves} == dict.fromkeys(waves, 1)


HELD = """
import os, time
from typing import Annotated
from reflow import Result, RunDir, Workflow

wf = Workflow("held")

@wf.job(mem="100M")
def numbers() -> list[int]:
    return [0, 1, 2]

@wf.array_job(mem="100M")
def held(number: Annotated[int, Result("numbers")], run_dir: RunDir) -> int:
    (run_dir / f"began-{number}").touch()
    while not (run_dir / "go").exists():
        time.sleep(0.02)
    return number

@wf.array_job(mem="100M")
def more(number: Annotated[int, Result("held")]) -> int:
    return number + 1

@wf.job(mem="100M")
def total(values: Annotated[list[int], Result("more")]) -> int:
    return sum(values)
"""


def test_a_controller_that_is_killed_in_the_middle_of_a_run_and_comes_back_changes_nothing(
    tmp_path, store, monkeypatch
):
    (tmp_path / "held.py").write_text(HELD)
    with PrivateSlurm(nodes=2) as own:
        for name, value in own.environment.items():
            monkeypatch.setenv(name, value)
        workflow = scenarios.load_file(tmp_path / "held.py").wf
        run = workflow.submit(tmp_path / "run", store=store, executor=SlurmExecutor())

        def look():
            """State of the run and of the array, for somebody who does not help it."""
            with SqliteStore(store.path, readonly=True) as reader:
                states = reader.task_state_summary(run.run_id).get("held", {})
                return reader.get_run_record(run.run_id).status, states.get(TaskState.SUCCESS, 0)

        scenarios.until(lambda: len(list((tmp_path / "run").glob("began-*"))) == 3)
        # Killed within about 6 s of a start, it would not remember what it has not saved. It saves when it ends.
        own.stop_controller()
        own.start_controller()
        own.stop_controller(kill=True)
        (tmp_path / "run" / "go").touch()
        scenarios.until(lambda: look() == (RunState.RUNNING, 3))  # they have ended, and there was nobody to tell
        own.start_controller()
        scenarios.until(lambda: look()[0] is not RunState.RUNNING, 120)
        assert look() == (RunState.SUCCESS, 3)
        assert run.results("total") == 6
        assert len(store.list_waves(run.run_id)) == 4
    sys.modules.pop("held", None)


def test_an_element_that_no_other_node_can_take_gets_the_node_that_failed(tmp_path, store, executor, on_cluster):
    from reflow import Workflow
    from reflow.dispatch import dispatch, open_run
    from reflow.stores.records import Failure, Report

    workflow = Workflow("last")

    @workflow.job(mem="100M", begin="now+3600")
    def only() -> int:
        return 1

    run = workflow.submit(tmp_path, store=store, executor=executor)
    (instance,) = store.list_task_instance_records(run.run_id, "only")
    nodes = on_cluster.run("sinfo", "--noheader", "--Node", "--format=%N").split()
    for attempt, node in enumerate(nodes[:4], 1):
        lost = Report(instance.id, attempt, TaskState.FAILED, attempt, node=node, failure=Failure.NODE_FAIL)
        assert store.apply([lost]) == 1
        store.request_dispatch(run.run_id)
        dispatch(open_run(store, run.run_id), wait=True)
    (*_, last) = store.list_waves(run.run_id)
    assert last.resources.exclude == tuple(sorted(nodes[:4]))
    assert last.job_id is not None
    assert run.state is RunState.RUNNING
    run.cancel()


RETRIED = """
import os, signal
from typing import Annotated
from reflow import Result, RunDir, Workflow

wf = Workflow("retried")

@wf.job(mem="100M")
def numbers() -> list[int]:
    return [0, 1, 2, 3]

@wf.array_job(mem="100M", retries=1)
def rest(number: Annotated[int, Result("numbers")], run_dir: RunDir) -> int:
    first = run_dir / f"first-{number}"
    if number in (1, 2) and not first.exists():
        first.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number

@wf.array_job(mem="100M")
def more(number: Annotated[int, Result("rest")]) -> int:
    return number + 1

@wf.job(mem="100M")
def total(values: Annotated[list[int], Result("more")]) -> int:
    return sum(values)
"""


def test_killed_elements_are_tried_again_and_their_followers_follow_with_nobody_looking(tmp_path, store, executor):
    (tmp_path / "retried.py").write_text(RETRIED)
    workflow = scenarios.load_file(tmp_path / "retried.py").wf
    run = workflow.submit(tmp_path / "run", store=store, executor=executor)
    scenarios.until(lambda: store.get_run_record(run.run_id).status is not RunState.RUNNING, 150)
    assert run.state is RunState.SUCCESS, run.status(as_dict=True, errors=True)
    assert run.results("total") == 10
    retried = [str(wave.slots) for wave in store.list_waves(run.run_id) if wave.task_name == "rest"]
    assert retried == ["0-3", "1-2"]
    (killed,) = store.list_attempts(store.get_task_instance_record(run.run_id, "rest", 1).id)
    assert (killed.failure, killed.signal) == ("FAILED", 9)
    sys.modules.pop("retried", None)
