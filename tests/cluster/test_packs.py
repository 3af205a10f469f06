"""Packs on a real Slurm: a process that is killed costs one element, and a chain of packs flows slot by slot."""

from __future__ import annotations

import pytest

from reflow import RunState, SlurmExecutor, TaskState
from reflow.stores.sqlite import SqliteStore

from ..flows import scenarios
from ..flows.test_packs import packed, ran, waves_of


@pytest.fixture
def store(tmp_path):
    with SqliteStore(tmp_path / "manifest.db") as opened:
        yield opened


def test_a_killed_process_costs_one_element_and_the_rest_goes_on(tmp_path, store, on_cluster):
    (tmp_path / "do-2").write_text("die")
    (tmp_path / "do-9").write_text("raise")
    run = packed(pack=5, mem="100M").submit(tmp_path, store=store, executor=SlurmExecutor(), size=10)
    assert run.wait(120) is RunState.FAILED
    assert (store.get_task_instance_record(run.run_id, "work", 2).failure, ran(tmp_path).count(2)) == ("FAILED", 1)
    assert run.results("after") == [number * 10 + 1 for number in (0, 1, 3, 4, 5, 6, 7, 8)]
    assert {scenarios.states(run, "after")[index] for index in (2, 9)} == {TaskState.PENDING}
    (tmp_path / "do-2").unlink()
    (tmp_path / "do-9").unlink()
    assert run.retry() == 2
    assert run.wait(120) is RunState.SUCCESS
    assert run.results("after") == [number * 10 + 1 for number in range(10)]
    assert waves_of(run, "work")[0] == ("0-1", 5)
