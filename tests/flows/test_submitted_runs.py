"""Submitted workflows in places that need no cluster: local processes and the fake Slurm."""

from __future__ import annotations

from typing import Annotated

from reflow import Config, LocalExecutor, Result, RunState, SlurmExecutor, TaskState, Workflow
from reflow.cleaning import plan_named, remove
from reflow.config import DispatchConfig
from reflow.stores.upkeep import Upkeep
from reflow.waves import WaveFile

from . import scenarios


def test_fan_out_chain_and_gather(tmp_path, store, executor):
    scenarios.fan_out_chain_and_gather(tmp_path, store, executor, width=12, seconds=90)


def test_three_failures_are_named_and_a_retry_submits_exactly_those(tmp_path, store, executor):
    run = scenarios.three_failures(tmp_path, store, executor, width=12, seconds=90)
    scenarios.retry_of_three(tmp_path, run, width=12, seconds=90)


def test_a_workflow_made_in_a_function_runs_by_its_pickle(tmp_path, store, executor):
    offset = 5
    workflow = Workflow("inner")

    @workflow.job()
    def numbers() -> list[int]:
        return [1, 2, 3]

    @workflow.array_job()
    def add(number: "Annotated[int, Result('numbers')]") -> int:  # noqa: UP037 (a string annotation is the point)
        return number + offset

    run = workflow.submit(tmp_path, store=store, executor=executor)
    assert run.wait(60) is RunState.SUCCESS, run.status(as_dict=True, errors=True)
    assert run.results("add") == [6, 7, 8]


def test_the_logging_that_a_function_sets_up_works_in_its_worker(tmp_path, store, executor):
    workflow = Workflow("logging")

    @workflow.job()
    def work() -> int:
        import logging

        logging.basicConfig(level="INFO", format="%(levelname)s of my own: %(message)s")
        logging.getLogger("mine").info("it begins")
        return 1

    run = workflow.submit(tmp_path, store=store, executor=executor)
    assert run.wait(60) is RunState.SUCCESS, run.status(as_dict=True, errors=True)
    assert run.logs("work").splitlines()[-1] == "INFO of my own: it begins"


class OwnExecutor(LocalExecutor):
    """An executor that only this test module defines."""


def test_an_executor_of_the_users_own_reaches_the_dispatch_on_the_nodes(tmp_path, store):
    executor = OwnExecutor(folder=str(tmp_path / "queue"), cpus=2)
    scenarios.fan_out_chain_and_gather(tmp_path, store, executor, width=3, seconds=60)


def test_the_sentinel_dispatches_where_compute_nodes_may_not(tmp_path, store, fake_slurm):
    workflow = Workflow("quiet", config=Config(dispatch=DispatchConfig(mode="job")))

    @workflow.job()
    def first() -> list[int]:
        return [1]

    @workflow.array_job()
    def second(number: Annotated[int, Result("first")]) -> int:
        return number + 1

    run = workflow.submit(tmp_path, store=store, executor=SlurmExecutor())
    fake_slurm.wait_idle()
    assert [job.name for job in fake_slurm.jobs() if job.name.endswith("-sentinel")]
    assert run.wait(60) is RunState.SUCCESS
    assert run.results("second") == [2]
    assert WaveFile(run.run_dir / "reflow" / run.run_id / "waves" / "0001.wave").header.dispatch is False


def test_a_worker_that_cannot_start_is_settled_from_the_schedulers_account(tmp_path, store, executor):
    workflow = Workflow("stuck")

    @workflow.job(setup=["false"])
    def only() -> int:
        return 1

    run = workflow.submit(tmp_path, store=store, executor=executor)
    assert run.wait(90) is RunState.FAILED
    failed = store.get_task_instance_record(run.run_id, "only", None)
    assert (failed.state, failed.exit_code) == (TaskState.FAILED, 1)
    assert "the job ends before its task begins" in run.logs("only")


def test_a_run_that_is_removed_leaves_nothing_behind(tmp_path, store, executor):
    """Every file that a run makes in its folder is known to the removal."""
    run = scenarios.three_failures(tmp_path, store, executor, width=12, seconds=90)
    run.status(as_dict=True)
    folder = run.run_dir / "reflow" / run.run_id
    (folder / ".asked.json.4711").write_text("half")
    left: list[str] = []
    with Upkeep(store.path) as upkeep:
        remove(upkeep, plan_named(upkeep, [run.run_id]), left.append)
    assert left == []
    assert not folder.exists()
    assert store.list_run_records() == []
