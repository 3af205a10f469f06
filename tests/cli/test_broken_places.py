"""A full disk, a read-only mount, no permission, a damaged file, a newer schema: one sentence from every command."""

from __future__ import annotations

import shutil
import sqlite3

import pytest

from reflow import clock
from reflow.states import TaskState
from reflow.stores.records import Report
from reflow.stores.sqlite import SqliteStore

from ..disks import mount, small_disk
from .conftest import is_one_line
from .users import make_user, reachable_folder

#: Commands that only look, and those that change something, with RUN in place of the run's id.
LOOKS = [("status", "RUN"), ("runs",), ("logs", "RUN", "prepare"), ("store", "info"), ("store", "backup", "COPY")]
CHANGES = [
    ("cancel", "RUN"),
    ("retry", "RUN"),
    ("runs", "--yes", "--rm", "RUN"),
    ("clean", "--older-than", "0s", "--yes"),
    ("store", "check"),
]


def words_of(command: tuple[str, ...], run_id: str, copy: object) -> list[str]:
    return [{"RUN": run_id, "COPY": str(copy)}.get(word, word) for word in command]


@pytest.fixture
def disk(tmp_path):
    with small_disk(tmp_path / "disk", "2m") as folder:
        yield folder


@pytest.fixture
def on_disk(project, disk, monkeypatch):
    """A run whose manifest and run directory lie on a disk of its own."""
    project.manifest, project.run_dir = disk / "manifest.db", disk / "run"
    monkeypatch.setenv("REFLOW_STORE_PATH", str(project.manifest))
    return project.workflow.run_local(project.run_dir, on_error="continue", max_workers=2, n=3, unlucky=1)


def make_read_only(disk):
    """Mount the disk once more over itself, read-only: what has files open there does not stand in the way."""
    mount("--bind", disk, disk)
    mount("-o", "remount,bind,ro", disk)


def fill(disk):
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                pass
    return filler


def assert_is_a_sentence(outcome, *said):
    assert outcome.code == 1, outcome
    assert is_one_line(outcome.err or outcome.out), outcome
    assert any(text in outcome.err + outcome.out for text in said), outcome


@pytest.mark.parametrize("command", LOOKS)
def test_on_a_full_disk_everything_can_be_seen(project, on_disk, disk, command, tmp_path):
    fill(disk)
    outcome = project.reflow(*words_of(command, on_disk.run_id, tmp_path / "copy.db"))
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out or command[0] == "logs"


def test_on_a_full_disk_a_submit_is_one_sentence_and_works_once_there_is_space(project, on_disk, disk):
    filler = fill(disk)
    submit = ("submit", project.file, "--run-dir", project.run_dir, "--executor", "local", "-n", 2)
    outcome = project.reflow(*submit)
    assert_is_a_sentence(outcome, "the disk or the quota is full", "No space left")
    filler.unlink()
    outcome = project.reflow(*submit)
    assert outcome.code == 0, outcome
    run_id = outcome.out.split()[2]
    assert project.workflow.run_status(run_id, as_dict=True, store=project.manifest)["run_id"] == run_id
    from reflow.run import Run

    assert Run(run_id, SqliteStore(project.manifest)).wait(60) == "SUCCESS"


@pytest.mark.parametrize("command", [("retry", "RUN"), ("runs", "--yes", "--rm", "RUN")])
def test_on_a_full_disk_a_change_is_one_sentence_or_done(project, on_disk, disk, command):
    fill(disk)
    outcome = project.reflow(*words_of(command, on_disk.run_id, ""))
    if outcome.code:
        assert_is_a_sentence(outcome, "the disk or the quota is full", "No space left", "could not be read or written")


def test_on_a_full_disk_reports_wait_in_the_spool_until_they_can_be_merged(project, on_disk, disk):
    store = SqliteStore(project.manifest)
    store.insert_run("wide", "demo", "ann", {})
    ids = [store.insert_task_instance("wide", "count", index, TaskState.PENDING, None) for index in range(40)]
    for instance in ids:
        store.publish([Report(instance, 1, TaskState.SUCCESS, clock.now(), output='"' + "x" * 3_000 + '"')])
    filler = fill(disk)
    seen = project.reflow("status", on_disk.run_id)
    assert seen.code == 0, "what was merged before can be seen"
    assert is_one_line(seen.err)
    assert "the disk or the quota is full" in seen.err
    assert len(store.spool.waiting()) == 40
    filler.unlink()
    assert project.reflow("status", on_disk.run_id).err == ""
    assert store.spool.is_empty()
    assert store.task_state_summary("wide") == {"count": {"SUCCESS": 40}}


@pytest.mark.parametrize("command", [*LOOKS, *CHANGES])
def test_on_a_read_only_mount_looks_work_and_changes_are_one_sentence(project, on_disk, disk, command, tmp_path):
    make_read_only(disk)
    outcome = project.reflow(*words_of(command, on_disk.run_id, tmp_path / "copy.db"))
    if command in LOOKS:
        assert (outcome.code, outcome.err) == (0, "")
    else:
        assert_is_a_sentence(outcome, "you may only read the manifest")


def test_on_a_read_only_mount_a_submit_is_one_sentence(project, on_disk, disk):
    make_read_only(disk)
    submit = ("submit", project.file, "--run-dir", project.folder / "other", "--executor", "local", "-n", 2)
    assert_is_a_sentence(project.reflow(*submit), "Read-only file system", "cannot be written")
    elsewhere = ("--store-path", project.folder / "other.db")
    submit = ("submit", project.file, "--run-dir", disk / "other", "--executor", "local", "-n", 2, *elsewhere)
    assert_is_a_sentence(project.reflow(*submit), "Read-only file system")


@pytest.mark.parametrize("mode", [0o000, 0o444])
@pytest.mark.parametrize("command", [*LOOKS, *CHANGES])
def test_without_permission_it_is_one_sentence(project, done, command, mode):
    with reachable_folder() as folder:
        user = make_user(folder, 47_001, 47_001)
        shutil.copy(project.manifest, folder / "manifest.db")
        (folder / "manifest.db").chmod(mode)
        # Her own run directory cannot be reached either: that is for `logs` to say.
        words = words_of(command, done.run_id, user.home / "copy.db")
        outcome = user.reflow(*words, "--store-path", folder / "manifest.db")
    if mode and command in LOOKS and command[0] != "logs":
        assert (outcome.code, outcome.err) == (0, "")
    else:
        assert_is_a_sentence(outcome, "you may only read", "that you may read it", "Permission denied", "no log")


@pytest.mark.parametrize("command", [*LOOKS, *CHANGES])
def test_a_damaged_manifest_is_one_sentence(project, done, command, tmp_path):
    content = bytearray(project.manifest.read_bytes())
    for place in range(4_096 + 100, len(content), 97):
        content[place] ^= 0xFF
    project.manifest.write_bytes(bytes(content))
    outcome = project.reflow(*words_of(command, done.run_id, tmp_path / "copy.db"))
    assert_is_a_sentence(outcome, "damaged", "cannot be used", "no run")
    assert not (tmp_path / "copy.db").exists()


@pytest.mark.parametrize("command", [*LOOKS, *CHANGES])
def test_a_manifest_of_a_newer_reflow_is_one_sentence(project, done, command, tmp_path):
    connection = sqlite3.connect(project.manifest)
    connection.execute("PRAGMA user_version = 99")
    connection.commit()
    connection.close()
    outcome = project.reflow(*words_of(command, done.run_id, tmp_path / "copy.db"))
    assert_is_a_sentence(outcome, "upgrade reflow")


def test_a_worker_that_meets_a_newer_manifest_leaves_its_report_in_the_spool(project):
    store = SqliteStore(project.manifest)
    store.init()
    store.insert_run("run", "demo", "ann", {})
    instance = store.insert_task_instance("run", "count", 0, TaskState.PENDING, None)
    store.close()
    connection = sqlite3.connect(project.manifest)
    connection.execute("PRAGMA user_version = 99")
    connection.commit()
    program = (
        "import sys\nfrom reflow.states import TaskState\nfrom reflow.stores.records import Report\n"
        "from reflow.stores.spool import Spool\nfrom reflow.worker import after_report\n"
        f"Spool(sys.argv[1]).publish([Report({instance}, 1, TaskState.SUCCESS, 5, output='1')])\n"
        "after_report(sys.argv[1], may_dispatch=True)"
    )
    outcome = project.process("-c", program, project.manifest)
    assert outcome.code == 0
    assert is_one_line(outcome.err)
    assert "upgrade reflow" in outcome.err
    assert len(store.spool.waiting()) == 1
    connection.execute("PRAGMA user_version = 2")
    connection.commit()
    connection.close()
    assert store.merge()
    assert store.task_state_summary("run") == {"count": {"SUCCESS": 1}}
