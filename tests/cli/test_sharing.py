"""One manifest, two users: what a group shares works for both, and what nobody shares is the user's alone."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from .conftest import is_one_line
from .users import User, make_user, reachable_folder

GROUP = 47_110

PIPELINE = """
from typing import Annotated
from reflow import Result, Workflow
wf = Workflow("demo")

@wf.job()
def prepare(n: int = 3) -> list[int]:
    return list(range(n))

@wf.array_job()
def square(item: Annotated[int, Result(step="prepare")]) -> str:
    if item == 2 and __import__("os").path.exists("fail"):
        raise ValueError("unlucky")
    return str(item) * 5_000
"""

RUN = f"""
from pathlib import Path
Path("pipeline.py").write_text({PIPELINE!r})
from reflow.cli.pipeline import load_workflow
run = load_workflow(Path("pipeline.py")).run_local("runs", store=sys.argv[5], on_error="continue")
print(run.run_id)
"""

PUBLISH = """
from reflow.states import TaskState
from reflow.stores.records import Report
from reflow.stores.sqlite import SqliteStore
store = SqliteStore(sys.argv[5])
store.init()
if store.get_run("ours") is None:
    store.insert_run("ours", "demo", "ann", {})
    for index in range(4):
        store.insert_task_instance("ours", "count", index, TaskState.PENDING, None)
ids = store.instance_ids("ours", "count")
for index in map(int, sys.argv[6:]):
    text = '"' + "x" * 9_000 * (index % 2) + '"'
    store.publish([Report(ids[index], 1, TaskState.SUCCESS, 5, output=text, output_hash="5f" * 32)])
"""

MERGE = """
from reflow.stores.sqlite import SqliteStore
store = SqliteStore(sys.argv[5])
print(store.merge(wait=True), store.task_state_summary("ours"), store.spool.is_empty())
"""


def modes(folder: Path) -> dict[str, str]:
    """Return the modes of everything below the folder but symlinks."""
    return {
        str(path.relative_to(folder)): f"{stat.S_IMODE(path.lstat().st_mode):04o}"
        for path in sorted(folder.rglob("*"))
        if not path.is_symlink()
    }


@pytest.fixture
def place():
    with reachable_folder() as folder:
        yield folder


@pytest.fixture(params=["022", "077"])
def users(request, place) -> tuple[User, User]:
    return tuple(make_user(place, number, GROUP, request.param) for number in (47_001, 47_002))


@pytest.fixture
def shared(users, place):
    """A folder that the group of both users shares."""
    folder = place / "shared"
    folder.mkdir()
    os.chown(folder, users[0].number, GROUP)
    folder.chmod(0o2770)
    return folder


def test_what_nobody_shares_is_the_users_alone(users):
    ann, ben = users
    made = ann.python(RUN, ann.home / "store" / "manifest.db")
    assert made.code == 0, made.err
    ann.python(PUBLISH, ann.home / "store" / "manifest.db", 0, 1)
    ann.home.chmod(0o755)
    (ann.home / "store").chmod(0o755)
    (ann.home / "runs").chmod(0o755)
    found = {name: mode for name, mode in modes(ann.home / "store").items() if mode[2:] != "00"}
    assert found == {}
    run_folder = ann.home / "runs" / "reflow" / made.out.strip()
    assert stat.S_IMODE(run_folder.stat().st_mode) == 0o700
    outcome = ben.reflow("runs", "--all", "--store-path", ann.home / "store" / "manifest.db")
    assert outcome.code == 1
    assert is_one_line(outcome.err)
    assert "check that you may read it" in outcome.err


def test_two_users_of_a_shared_folder_run_and_see_each_others_runs(users, shared):
    ann, ben = users
    manifest = shared / "manifest.db"
    ids = []
    for user in (ann, ben, ann, ben):
        made = user.python(RUN, manifest)
        assert made.code == 0, made.err
        ids.append(made.out.strip())
    for user in users:
        seen = user.reflow("runs", "--all", "--store-path", manifest)
        assert seen.err == ""
        assert [line.split()[0] for line in reversed(seen.out.splitlines())] == ids
        assert [line.split()[1] for line in seen.out.splitlines()] == ["SUCCESS"] * 4
        for run_id in ids:
            assert user.reflow("status", run_id, "--store-path", manifest).code == 0
    assert {name: mode for name, mode in modes(shared).items() if mode[-2] == "0"} == {}
    assert {path.stat().st_gid for path in shared.rglob("*") if not path.is_symlink()} == {GROUP}


def test_what_one_user_published_the_other_merges_and_deletes(users, shared):
    ann, ben = users
    manifest = shared / "manifest.db"
    for user, indices in ((ann, (0, 1)), (ben, (2, 3))):
        made = user.python(PUBLISH, manifest, *indices)
        assert made.code == 0, made.err
    merged = ben.python(MERGE, manifest)
    assert (merged.out, merged.err) == ("True {'count': {'SUCCESS': 4}} True\n", "")
    assert ann.reflow("store", "check", "--store-path", manifest).out.endswith("is in order\n")


def test_a_write_that_one_user_died_in_the_other_mends(users, shared):
    ann, ben = users
    manifest = shared / "manifest.db"
    ann.python(PUBLISH, manifest)
    died = ann.python(
        """
import sqlite3, os, signal
connection = sqlite3.connect(sys.argv[5], isolation_level=None)
connection.execute("PRAGMA cache_size = 1")
connection.execute("BEGIN IMMEDIATE")
connection.execute("UPDATE runs SET status = 'FAILED'")
connection.executemany("INSERT INTO nodes (name) VALUES (?)", [("x" * 1000 + str(number),) for number in range(500)])
os.kill(os.getpid(), signal.SIGKILL)
""",
        manifest,
    )
    assert died.code == -9
    assert Path(f"{manifest}-journal").exists()
    seen = ben.reflow("runs", "--all", "--store-path", manifest)
    assert "RUNNING" in seen.out, seen.err
    assert not Path(f"{manifest}-journal").exists()


def test_a_run_of_another_user_is_not_cancelled_retried_or_removed(users, shared):
    ann, ben = users
    manifest = shared / "manifest.db"
    (ann.home / "fail").touch()
    made = ann.python("import os; os.chdir(os.environ['HOME'])" + RUN, manifest)
    run_id = made.out.strip()
    for command in ("cancel", "retry"):
        outcome = ben.reflow(command, run_id, "--store-path", manifest)
        assert outcome.code == 1
        assert is_one_line(outcome.err)
        assert f"only {ann.number} can {command} it" in outcome.err
    ann.home.chmod(0o755)
    outcome = ben.reflow("runs", "--yes", "--rm", run_id, "--store-path", manifest)
    assert outcome.code == 1
    assert is_one_line(outcome.err)
    assert f"ask its owner ({ann.number})" in outcome.err
    assert ben.reflow("clean", "--older-than", "0s", "--yes", "--store-path", manifest).out.startswith("No run of")
    assert ann.reflow("status", run_id, "--store-path", manifest).code == 0
    assert ann.reflow("clean", "--older-than", "0s", "--yes", "--store-path", manifest).code == 0


def test_looking_at_a_run_of_another_user_dispatches_nothing(users, shared):
    ann, ben = users
    manifest = shared / "manifest.db"
    ann.python(RUN, manifest)
    wanted = """
from reflow.stores.sqlite import SqliteStore
from reflow.states import RunState
store = SqliteStore(sys.argv[5])
(run,) = store.list_run_records()
store.update_run_status(run.run_id, RunState.RUNNING)
store.request_dispatch(run.run_id)
print(run.run_id)
"""
    run_id = ann.python(wanted, manifest).out.strip()
    assert ben.reflow("status", run_id, "--store-path", manifest).out.startswith(f"{run_id}  RUNNING")
    assert ann.reflow("status", run_id, "--store-path", manifest).code == 0
