"""Slurm's own warning before the time limit reaches the function, and its work goes on in another job."""

from __future__ import annotations

import pytest

from reflow import RunState, SlurmExecutor
from reflow.stores.sqlite import SqliteStore

from ..flows.test_time_limits import checkpoints, counting, failures


@pytest.fixture
def store(tmp_path):
    with SqliteStore(tmp_path / "manifest.db") as opened:
        yield opened


def test_a_task_that_saves_goes_on_over_slurms_time_limit(tmp_path, store, on_cluster):
    # Slurm sends the warning up to a minute early, so soon after the start.
    workflow = counting(steps=2, limit="00:02:00", before=110, mem="100M")
    run = workflow.submit(tmp_path, store=store, executor=SlurmExecutor())
    assert run.wait(200) is RunState.SUCCESS, run.status(as_dict=True, errors=True)
    assert run.results("work") == ["TIMEOUT", "0 1 "]
    assert failures(store, run) == (["TIMEOUT"], None)
    assert checkpoints(run) == []
