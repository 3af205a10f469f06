"""Nothing is submitted twice and nothing is forgotten, whoever dies or answers wrongly."""

from __future__ import annotations

import itertools
import os
import signal
from collections import Counter

import pytest

from reflow import RunState, SlurmExecutor, TaskState, codec
from reflow.dispatch import dispatch, open_run
from reflow.run import Run
from reflow.stores import expansions
from reflow.stores.records import Report, WaveState
from reflow.stores.sqlite import SqliteStore

from . import scenarios


def in_child(action):
    """Run `action` in a forked process and return its exit code, minus the signal's number."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            action()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def job_names(fake_slurm):
    return Counter(job.name for job in fake_slurm.jobs())


class DiesBeforeSubmit(SlurmExecutor):
    """A dispatcher that is killed when the intent is recorded and nothing was submitted."""

    def submit(self, script, job):
        os.kill(os.getpid(), signal.SIGKILL)


class DiesAfterSubmit(SlurmExecutor):
    """A dispatcher that is killed when the scheduler has the job and the manifest does not know."""

    def submit(self, script, job):
        super().submit(script, job)
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("executor_class", [DiesBeforeSubmit, DiesAfterSubmit])
def test_a_dispatcher_killed_around_its_submit_is_taken_over_without_a_second_job(
    tmp_path, store, fake_slurm, executor_class
):
    executor = executor_class()
    code = in_child(lambda: scenarios.survey().submit(tmp_path / "run", store=store.path, executor=executor, size=3))
    assert code == -signal.SIGKILL
    (record,) = store.list_run_records()
    run = Run(record.run_id, store)
    dispatch(open_run(store, record.run_id, SlurmExecutor()), wait=True)
    # The settings name a class that only this test has; from here on the real one goes on.
    store.update_run_settings(record.run_id, {**record.settings, "executor_settings": SlurmExecutor().settings()})
    assert run.wait(60) is RunState.SUCCESS
    assert set(job_names(fake_slurm).values()) == {1}


@pytest.mark.parametrize("turn", [3, 4])
@pytest.mark.parametrize("forced", [(), ("square", "shift")], ids=["cached", "computed"])
def test_a_dispatcher_killed_while_it_creates_rows_leaves_no_element_out(
    tmp_path, store, fake_slurm, monkeypatch, turn, forced
):
    run = scenarios.survey().submit(tmp_path / "run", store=store, executor=SlurmExecutor(), size=10, by=3)
    assert run.wait(120) is RunState.SUCCESS
    total = run.results("total")
    turns = itertools.count(1)
    add = expansions.add

    def dies_at_its_turn(*args):
        if next(turns) == turn:
            os.kill(os.getpid(), signal.SIGKILL)
        return add(*args)

    def submit():
        options = {"store": store.path, "executor": SlurmExecutor(), "force_tasks": forced}
        scenarios.survey().submit(tmp_path / "run", size=10, by=3, **options)

    with monkeypatch.context() as patch:
        patch.setattr(expansions, "TURN_ROWS", 4)
        patch.setattr(expansions, "add", dies_at_its_turn)
        assert in_child(submit) == -signal.SIGKILL
    again = Run(store.list_run_records()[0].run_id, store)
    assert again.run_id != run.run_id
    dispatch(open_run(store, again.run_id), wait=True)
    assert again.wait(120) is RunState.SUCCESS
    assert again.results("total") == total
    assert store.task_state_summary(again.run_id)["square"] == {"SUCCESS": 10}
    assert store.counts.wrong() == []


def test_a_submit_that_was_accepted_and_reported_as_timed_out_is_found_by_its_name(tmp_path, store, fake_slurm):
    fake_slurm.lose_submission(accepted=True)
    run = scenarios.survey().submit(tmp_path / "run", store=store, executor=SlurmExecutor(), size=3)
    assert run.wait(60) is RunState.SUCCESS
    assert set(job_names(fake_slurm).values()) == {1}


def test_a_submit_that_timed_out_and_was_not_accepted_is_made_again(tmp_path, store, fake_slurm):
    fake_slurm.lose_submission(accepted=False)
    run = scenarios.survey().submit(tmp_path / "run", store=store, executor=SlurmExecutor(), size=3)
    assert run.wait(60) is RunState.SUCCESS
    assert set(job_names(fake_slurm).values()) == {1}


def test_dispatchers_at_once_submit_each_wave_once(tmp_path, store, fake_slurm):
    run = scenarios.survey().submit(tmp_path / "run", store=store, executor=SlurmExecutor(), size=4)

    def interfere():
        with SqliteStore(store.path) as own:
            for _ in range(10):
                own.request_dispatch(run.run_id)
                dispatch(open_run(own, run.run_id))

    children = []
    for _ in range(6):
        child = os.fork()
        if child == 0:
            try:
                interfere()
            finally:
                os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
    assert run.wait(60) is RunState.SUCCESS
    assert set(job_names(fake_slurm).values()) == {1}
    assert sorted(wave.task_name for wave in store.list_waves(run.run_id)) == ["measure", "shift", "square", "total"]


def test_an_element_that_ran_out_of_memory_is_settled_from_the_schedulers_account(tmp_path, store, fake_slurm):
    fake_slurm.inject("OUT_OF_MEMORY", name="square-*", slots="1")
    run = scenarios.survey().submit(tmp_path / "run", store=store, executor=SlurmExecutor(), size=3)
    assert run.wait(60) is RunState.FAILED
    failed = store.get_task_instance_record(run.run_id, "square", 1)
    assert (failed.state, failed.failure) == (TaskState.FAILED, "OUT_OF_MEMORY")
    assert run.retry() == 1
    assert run.wait(60) is RunState.SUCCESS
    assert run.results("total") == sum(number**2 + 1 for number in range(3))


def test_a_limit_on_submitted_jobs_delays_a_run_and_does_not_fail_it(tmp_path, store, fake_slurm):
    # A singleton and its sentinel fit beside an array of four; a second array does not.
    fake_slurm.configure(max_submit_jobs=6)
    (tmp_path / "run").mkdir()
    hold = tmp_path / "run" / "hold"
    hold.touch()
    run = scenarios.survey().submit(tmp_path / "run", store=store, executor=SlurmExecutor(), size=4)
    scenarios.until(lambda: len(fake_slurm.calls("sbatch")) > len(fake_slurm.jobs()))  # one was refused
    hold.unlink()
    fake_slurm.wait_idle(90)
    assert store.get_run_record(run.run_id).status is RunState.SUCCESS  # and nobody looked in meanwhile
    assert set(job_names(fake_slurm).values()) == {1}


def test_wide_arrays_go_in_chunks_that_the_scheduler_takes(tmp_path, store, fake_slurm):
    fake_slurm.configure(max_array_size=4)
    run = scenarios.survey().submit(tmp_path / "run", store=store, executor=SlurmExecutor(), size=10)
    assert run.wait(90) is RunState.SUCCESS
    assert run.results("shift") == [number**2 + 1 for number in range(10)]
    # A process that has asked another cluster of this name for its limit learns of this one's by a refusal.
    waves = store.list_waves(run.run_id, {WaveState.SUBMITTED})
    square = [wave for wave in waves if wave.task_name == "square"]
    assert [(str(wave.slots), wave.offset) for wave in square] == [("0-3", 0), ("0-3", 4), ("0-1", 8)]


def test_an_array_that_was_made_for_another_limit_is_cut_into_smaller_ones(tmp_path, store, fake_slurm):
    # The first submit of this process learns a limit that is changed before the array is submitted.
    run = scenarios.survey().submit(tmp_path / "first", store=store, executor=SlurmExecutor(), size=1)
    assert run.wait(60) is RunState.SUCCESS
    fake_slurm.configure(max_array_size=4, nodes={})
    run = scenarios.survey().submit(tmp_path / "run", store=store, executor=SlurmExecutor(), size=10)
    (measure,) = store.list_task_instance_records(run.run_id, "measure")
    output = codec.dumps(list(range(10)))
    store.apply([Report(measure.id, 1, TaskState.SUCCESS, 1, output=output, output_hash="x")])
    dispatch(open_run(store, run.run_id), wait=True)
    square = [wave for wave in store.list_waves(run.run_id, {WaveState.SUBMITTED}) if wave.task_name == "square"]
    assert [(str(wave.slots), wave.offset) for wave in square] == [("0-3", 0), ("0-3", 4), ("0-1", 8)]
    run.cancel()
