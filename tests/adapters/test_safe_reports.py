"""When a worker leaves, its result survives a power failure: it is committed, about to be, or synced in the spool."""

from __future__ import annotations

import sqlite3

import pytest

from reflow.states import TaskState
from reflow.stores import spool as spool_module
from reflow.stores.locking import hold
from reflow.stores.records import Report
from reflow.stores.sqlite import SqliteStore
from reflow.worker import after_report


@pytest.fixture
def synced(monkeypatch):
    """The folders that were synced, in order."""
    folders = []
    monkeypatch.setattr(spool_module, "sync_folder", folders.append)
    return folders


@pytest.fixture
def published(request, tmp_path, synced):
    """A manifest, publish-only if so asked, with one success in its spool that nobody has synced."""
    store = SqliteStore(tmp_path / "manifest.db", publish_only=getattr(request, "param", False))
    store.init()
    store.insert_run("run", "demo", "ann", {})
    instance = store.insert_task_instance("run", "count", 0, TaskState.PENDING, None)
    store.spool.publish([Report(instance, 1, TaskState.RUNNING, 4)])
    store.spool.publish([Report(instance, 1, TaskState.SUCCESS, 5, output="1")], sync=False)
    store.close()
    synced.clear()  # the folder itself has been made, which is synced
    return store


def test_a_final_report_is_synced_and_one_that_an_element_runs_is_not(published, synced):
    published.spool.publish([Report(1, 1, TaskState.RUNNING, 4)])
    assert synced == []
    published.spool.publish([Report(1, 1, TaskState.SUCCESS, 5, output="1")])
    assert synced == [published.spool.path]


def test_what_is_merged_is_committed_and_needs_no_sync(published, synced):
    after_report(str(published.path), may_dispatch=False)
    assert published.task_state_summary("run") == {"count": {TaskState.SUCCESS: 1}}
    assert synced == []


def test_what_another_process_is_about_to_merge_is_left_to_its_commit(published, synced):
    with hold(f"{published.path}.lock") as held:
        assert held
        after_report(str(published.path), may_dispatch=False)
    assert len(published.spool.names()) == 2
    assert synced == []


@pytest.mark.parametrize("published", [True], indirect=True)
def test_where_workers_only_publish_they_sync(published, synced):
    after_report(str(published.path), may_dispatch=False)
    assert len(published.spool.names()) == 2
    assert synced == [published.spool.path]


def test_what_cannot_be_merged_is_synced(published, synced):
    connection = sqlite3.connect(published.path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    after_report(str(published.path), may_dispatch=False)
    assert synced == [published.spool.path]
