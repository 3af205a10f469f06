"""What the scheduler does not take now goes on later, with nobody's help, also when no job of the run is left."""

from __future__ import annotations

import os
import time
from collections import Counter

from reflow import RunState, SlurmExecutor, dispatch
from reflow.paths import RunFolder

from . import scenarios

FULL = "sbatch: error: AssocMaxSubmitJobLimit\nsbatch: error: Batch job submission failed: " + (
    "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)\n"
)

DOWN = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n"


def test_a_first_job_that_is_deferred_leaves_an_alarm_that_submits_it(tmp_path, store, fake_slurm):
    fake_slurm.fail("sbatch", FULL)
    run = scenarios.survey().submit(tmp_path / "run", store=store, executor=SlurmExecutor(), size=3)
    assert [job.name.startswith("reflow-alarm-") for job in fake_slurm.jobs()] == [True]
    fake_slurm.wait_idle(90)
    assert store.get_run_record(run.run_id).status is RunState.SUCCESS
    assert set(Counter(job.name for job in fake_slurm.jobs()).values()) == {1}


def test_where_not_even_an_alarm_is_taken_a_person_is_told_what_to_do(tmp_path, store, fake_slurm, caplog):
    fake_slurm.fail("sbatch", FULL, times=None)
    run = scenarios.survey().submit(tmp_path / "run", store=store, executor=SlurmExecutor(), size=3)
    assert "nothing of it is in the queue" in caplog.text
    assert f"`reflow status {run.run_id}` tries again" in caplog.text
    assert fake_slurm.jobs() == []
    fake_slurm.clear()
    run.status(as_dict=True)
    fake_slurm.wait_idle(90)
    assert store.get_run_record(run.run_id).status is RunState.SUCCESS


def test_however_many_watch_a_run_that_is_not_taken_it_is_tried_ever_more_rarely(tmp_path, store, fake_slurm):
    fake_slurm.fail("sbatch", FULL, times=None)
    run = scenarios.survey().submit(tmp_path / "run", store=store, executor=SlurmExecutor(), size=3)
    folder, tries = RunFolder(run.run_dir, run.run_id), []
    for pause in (5, 10, 20, 40, 60, 60):
        assert 0 < os.stat(folder.deferred).st_mtime - time.time() <= pause
        for is_due in (False, True):
            if is_due:
                os.utime(folder.deferred, (0, 0))
            fake_slurm.forget_calls()
            for _ in range(10):
                run.attention().look()
            tries.append(len(fake_slurm.calls("sbatch")))
    # Of ten who look, one tries when it is due: the job, and as that is not taken, an alarm.
    assert tries == 6 * [0, 2]


def test_what_is_requested_while_the_scheduler_is_asked_is_dispatched_by_the_same_look(
    tmp_path, store, fake_slurm, monkeypatch
):
    fake_slurm.configure(nodes={})
    run = scenarios.survey().submit(tmp_path / "run", store=store, executor=SlurmExecutor(), size=3)

    def reconcile(active, *, must):
        store.request_dispatch(run.run_id)  # as a merge on the way does, when it finds that a stage has ended
        return False

    monkeypatch.setattr(dispatch, "reconcile", reconcile)
    for watching in (False, True):
        run.refresh(watching=watching)
        assert not store.dispatch_requested(run.run_id)
    run.cancel()


def test_a_command_tries_at_once_and_what_is_taken_is_no_longer_put_off(tmp_path, store, fake_slurm):
    fake_slurm.fail("sbatch", FULL, times=None)
    run = scenarios.survey().submit(tmp_path / "run", store=store, executor=SlurmExecutor(), size=3)
    fake_slurm.clear()
    fake_slurm.forget_calls()
    run.status(as_dict=True)
    assert fake_slurm.calls("sbatch")
    assert not RunFolder(run.run_dir, run.run_id).deferred.exists()
    run.cancel()


def test_looking_at_a_deferred_run_does_not_add_alarms(tmp_path, store, fake_slurm):
    fake_slurm.configure(nodes={})  # so that the alarm waits
    fake_slurm.fail("sbatch", FULL)
    run = scenarios.survey().submit(tmp_path / "run", store=store, executor=SlurmExecutor(), size=3)
    for _ in range(3):
        fake_slurm.fail("sbatch", FULL)
        run.status(as_dict=True)
        fake_slurm.clear()
    assert len(fake_slurm.jobs()) == 1
    run.cancel()
    assert all(job.is_over for job in fake_slurm.jobs())


def test_a_sentinel_whose_submit_was_not_answered_is_not_submitted_twice(tmp_path, store, fake_slurm):
    fake_slurm.configure(nodes={})
    run = scenarios.survey().submit(tmp_path / "run", store=store, executor=SlurmExecutor(), size=3)
    (wave,) = store.list_waves(run.run_id)
    # As if the dispatcher had been killed before it recorded the sentinel.
    store._write(lambda connection: connection.execute("UPDATE waves SET sentinel_job_id = NULL"))
    store.request_dispatch(run.run_id)
    run.status(as_dict=True)
    (again,) = store.list_waves(run.run_id)
    assert again.sentinel_job_id == wave.sentinel_job_id
    assert set(Counter(job.name for job in fake_slurm.jobs()).values()) == {1}
    run.cancel()


def test_an_array_wider_than_the_users_limit_goes_in_waves_that_fit(tmp_path, store, fake_slurm):
    fake_slurm.configure(max_submit_jobs=6)
    run = scenarios.survey().submit(tmp_path / "run", store=store, executor=SlurmExecutor(), size=9)
    fake_slurm.wait_idle(180)
    assert store.get_run_record(run.run_id).status is RunState.SUCCESS
    assert run.results("shift") == [number**2 + 1 for number in range(9)]
    assert set(Counter(job.name for job in fake_slurm.jobs()).values()) == {1}


def test_max_submit_jobs_divides_a_wide_array_into_waves(tmp_path, store, fake_slurm, monkeypatch):
    monkeypatch.setenv("REFLOW_MAX_SUBMIT_JOBS", "8")
    run = scenarios.survey().submit(tmp_path / "run", store=store, executor=SlurmExecutor(), size=30)
    fake_slurm.wait_idle(180)
    assert store.get_run_record(run.run_id).status is RunState.SUCCESS
    assert run.results("total") == sum(number**2 + 1 for number in range(30))
    waves = [len(wave.slots) for wave in store.list_waves(run.run_id) if wave.slots is not None]
    assert sum(waves) == 60
    assert max(waves) <= 8
    assert len(waves) <= 60 / 2 + 2


def test_sentinels_that_the_scheduler_does_not_answer_ask_again(tmp_path, store, fake_slurm):
    fake_slurm.inject("OUT_OF_MEMORY", name="square-*", slots="1")
    fake_slurm.fail("sacct", DOWN, times=6)
    run = scenarios.survey().submit(tmp_path / "run", store=store, executor=SlurmExecutor(), size=3)
    fake_slurm.wait_idle(120)
    assert store.get_run_record(run.run_id).status is RunState.FAILED
    assert store.get_task_instance_record(run.run_id, "square", 1).failure == "OUT_OF_MEMORY"


def test_a_submit_in_doubt_waits_while_the_scheduler_cannot_be_asked(tmp_path, store, fake_slurm):
    fake_slurm.lose_submission(accepted=True)
    fake_slurm.fail("squeue", DOWN, times=1)
    run = scenarios.survey().submit(tmp_path / "run", store=store, executor=SlurmExecutor(), size=3)
    fake_slurm.wait_idle(120)
    assert store.get_run_record(run.run_id).status is RunState.SUCCESS
    assert set(Counter(job.name for job in fake_slurm.jobs()).values()) == {1}


def test_an_intent_waits_while_the_scheduler_cannot_be_asked(tmp_path, store, fake_slurm):
    fake_slurm.fail("sbatch", DOWN, times=2)  # the first job, and its alarm
    run = scenarios.survey().submit(tmp_path / "run", store=store, executor=SlurmExecutor(), size=3)
    fake_slurm.fail("squeue", DOWN, times=1)
    assert run.status(as_dict=True)["status"] == "RUNNING"
    fake_slurm.wait_idle(120)
    assert store.get_run_record(run.run_id).status is RunState.SUCCESS
