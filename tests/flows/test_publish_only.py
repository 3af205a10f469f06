"""Where locks between hosts cannot be relied on: workers publish, and sentinels and people do the rest."""

from __future__ import annotations

import pytest

from reflow import RunState, SlurmExecutor
from reflow.stores.sqlite import SqliteStore

from . import scenarios


@pytest.fixture
def store(tmp_path):
    with SqliteStore(tmp_path / "manifest.db", publish_only=True) as opened:
        yield opened


def test_a_run_with_fan_out_chain_and_gather_ends(tmp_path, store, executor):
    scenarios.fan_out_chain_and_gather(tmp_path, store, executor, width=4, seconds=120)
    assert store.publish_only


def test_sentinels_alone_bring_a_run_to_its_end(tmp_path, store, fake_slurm):
    run = scenarios.survey().submit(tmp_path, store=store, executor=SlurmExecutor(), size=3)
    fake_slurm.wait_idle()  # nobody looks meanwhile
    with SqliteStore(store.path, readonly=True) as reader:
        assert reader.get_run_record(run.run_id).status is RunState.SUCCESS
        assert reader.spool.is_empty()


def test_a_local_run_works(tmp_path, store):
    run = scenarios.survey().run_local(tmp_path, store=store, max_workers=2, size=6)
    assert run.status(as_dict=True)["status"] == "SUCCESS"
