"""Locks that fail or lie within one host: a small C library under LD_PRELOAD takes flock and fcntl locks over."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys

import pytest

from reflow.stores.records import NewInstance
from reflow.stores.sqlite import SqliteStore

from ..native.building import CannotBuild, library


@pytest.fixture(params=["yes", "enolck", "enosys"])
def lies(request):
    """The environment of a process whose locks lie in this way."""
    try:
        return {**os.environ, "LD_PRELOAD": str(library("lying_locks")), "LYING_LOCKS": request.param}
    except CannotBuild as error:
        pytest.skip(str(error))


def run(program: str, *arguments: object, env) -> subprocess.CompletedProcess[str]:
    words = [str(argument) for argument in arguments]
    return subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, check=False, timeout=120, env=env
    )


PROBLEMS = {
    "yes": "two processes got the same flock lock there at the same time",
    "enolck": "the file system has no flock locks (No locks available)",
    "enosys": "the file system has no flock locks (Function not implemented)",
}


def test_the_self_test_says_what_is_wrong_and_what_follows(tmp_path, lies):
    program = "import sys\nfrom reflow.stores import locking\nprint(*locking.self_test(sys.argv[1]).lines(), sep='\\n')"
    answer = run(program, tmp_path, env=lies)
    assert answer.stderr == ""
    lines = answer.stdout.splitlines()
    assert lines[-1].startswith(f"locks cannot be relied on: {PROBLEMS[lies['LYING_LOCKS']]}; a manifest made there")
    assert not [line for line in lines if line.startswith("tried")]
    assert list(tmp_path.iterdir()) == []


WORKER = """
import sys
from reflow.states import TaskState
from reflow.stores.records import Report
from reflow.stores.sqlite import SqliteStore
store = SqliteStore(sys.argv[1])
for instance in map(int, sys.argv[2:]):
    store.publish([Report(instance, 1, TaskState.RUNNING, instance)])
    store.publish([Report(instance, 1, TaskState.SUCCESS, instance + 1, output=str(instance))])
    store.merge()
"""


INIT = "import sys\nfrom reflow.stores.sqlite import SqliteStore\nSqliteStore(sys.argv[1]).init()"


def test_the_manifest_goes_publish_only_and_many_processes_share_it_under_the_lease(tmp_path, lies):
    manifest = tmp_path / "manifest.db"
    assert "workers will only publish" in run(INIT, manifest, env=lies).stderr
    with SqliteStore(manifest) as store:
        assert store.publish_only
        store.insert_run("run", "survey", "ann", {})
        store.insert_task_spec("run", "count", True, {}, [])
        store.expand("run", "count", [NewInstance(index) for index in range(60)], 60)
        ids = store.instance_ids("run", "count")
        words = [str(manifest), *map(str, ids)]
        workers = [
            subprocess.Popen([sys.executable, "-c", WORKER, words[0], *words[1 + first :: 6]], env=lies)
            for first in range(6)
        ]
        assert [worker.wait(120) for worker in workers] == [0] * 6
        assert store.merge(wait=True)
        assert store.get_array_outputs("run", "count") == ids
    connection = sqlite3.connect(manifest)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_a_place_whose_locks_fail_later_says_so_in_one_sentence(tmp_path, lies):
    """The manifest was made when locks worked: nothing is written, and reports wait in the spool."""
    if lies["LYING_LOCKS"] == "yes":
        pytest.skip("a lie does not show once the manifest is there")
    with SqliteStore(tmp_path / "manifest.db") as store:
        store.init()
        store.insert_run("run", "survey", "ann", {})
        (instance,) = [store.insert_task_instance("run", "count", 0, "SUBMITTED", None)]
        answer = run(WORKER, store.path, instance, env=lies)
        assert answer.stderr.splitlines()[-1].startswith("reflow.errors.ManifestError: cannot use the manifest")
        assert len(store.spool.names()) == 2
        assert store.merge()
        assert store.task_state_summary("run") == {"count": {"SUCCESS": 1}}
