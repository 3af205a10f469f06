"""``store check``, ``store info`` and ``store backup``: what they find, what they mend, and what they never touch."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reflow import clock, codec
from reflow.states import RunState, TaskState
from reflow.stores import locking
from reflow.stores.records import Report
from reflow.stores.sqlite import SqliteStore

from .conftest import is_one_line

LONG_AGO = time.time() - 200_000


def change(manifest: Path, *statements: str) -> None:
    connection = sqlite3.connect(manifest)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def age(path: Path) -> None:
    os.utime(path, (LONG_AGO, LONG_AGO), follow_symlinks=False)


def check_then_repair(project, said: str) -> None:
    """The finding is told, mended, and gone."""
    found = project.reflow("store", "check")
    assert (found.code, found.err) == (1, "")
    assert is_one_line(found.out)
    assert said in found.out
    assert "--repair would: " in found.out
    repaired = project.reflow("store", "check", "--repair")
    assert (repaired.code, repaired.err) == (0, "")
    assert "Done: " in repaired.out
    assert project.reflow("store", "check").out == f"The manifest '{project.manifest}' is in order\n"


def test_a_sound_manifest_is_in_order_also_after_removals_and_retries(project, failed):
    failed.retry()
    failed.wait(60)
    project.workflow.run_local(project.run_dir, n=3)
    project.reflow("runs", "--yes", "--rm", failed.run_id)
    outcome = project.reflow("store", "check")
    assert (outcome.code, outcome.out, outcome.err) == (0, f"The manifest '{project.manifest}' is in order\n", "")


def test_wrong_counts_are_counted_again(project, done):
    change(project.manifest, "UPDATE counts SET instances = instances + 1 WHERE state = 4")
    check_then_repair(project, "3 counts of instances are wrong")
    assert SqliteStore(project.manifest).task_state_summary(done.run_id)["square"] == {"SUCCESS": 3}


def test_rows_that_belong_to_nothing_are_deleted(project, done):
    change(
        project.manifest,
        "INSERT INTO attempts (instance, attempt, state) VALUES (999, 1, 5)",
        "INSERT INTO tasks (run, name, is_array) VALUES (99, 'lost', 0)",
        "INSERT INTO instances (task, idx, state, created_at, updated_at) SELECT id, 0, 0, 1, 1 FROM tasks"
        " WHERE name = 'lost'",
    )
    check_then_repair(project, "1 of tasks")
    assert len(SqliteStore(project.manifest).list_task_instances(done.run_id)) == 5


def test_stranded_reports_are_merged(project):
    store = SqliteStore(project.manifest)
    store.init()
    store.insert_run("run", "demo", "ann", {})
    instance = store.insert_task_instance("run", "count", 0, TaskState.PENDING, None)
    store.publish([Report(instance, 1, TaskState.SUCCESS, clock.now(), output="1")])
    assert project.reflow("store", "check").code == 0, "a report that was just published is on its way"
    age(store.spool.path / store.spool.names()[0])
    with locking.hold(f"{project.manifest}.lock"):
        assert project.reflow("store", "check").code == 0, "somebody merges"
    check_then_repair(project, "1 report in ")
    assert store.task_state_summary("run") == {"count": {"SUCCESS": 1}}


def test_reports_of_removed_runs_are_deleted_and_others_are_left_for_a_person(project, done):
    store = SqliteStore(project.manifest)
    instance = store.list_task_instance_records(done.run_id)[0].id
    project.reflow("runs", "--yes", "--rm", done.run_id)
    store.publish([Report(instance, 1, TaskState.SUCCESS, clock.now(), output="1")])
    store.merge()
    check_then_repair(project, "outlived their removed runs")
    store.publish([Report(99_999, 1, TaskState.SUCCESS, clock.now(), output="1")])
    store.merge()
    outcome = project.reflow("store", "check", "--repair")
    assert outcome.code == 1
    assert "You can: look at them" in outcome.out
    assert len(store.spool.rejected()) == 1


def test_leftovers_of_dead_processes_are_deleted(project, done):
    SqliteStore(project.manifest).publish([Report(1, 1, TaskState.RUNNING, 5)])
    SqliteStore(project.manifest).merge()
    spool = Path(f"{project.manifest}.spool")
    for path in (spool / ".1-1-1-3-x.reports", project.folder / ".reflow-lock-test-1-1"):
        path.write_text("half")
        age(path)
    (spool / ".2-2-1-3-x.reports").write_text("young")
    check_then_repair(project, "2 temporary files")
    assert (spool / ".2-2-1-3-x.reports").exists()


def test_big_outputs_that_nobody_names_are_deleted_once_they_are_old(project, done):
    folder = Path(f"{project.manifest}.outputs") / "ab"
    folder.mkdir(parents=True)
    named, unnamed, young = (folder / f"ab{letter * 62}" for letter in "123")
    for path in (named, unnamed, young):
        path.write_text('"big"')
    age(named)
    age(unnamed)
    change(project.manifest, f"UPDATE instances SET output_file = X'{named.name}' WHERE id = 1")
    check_then_repair(project, "1 big output in ")
    assert sorted(folder.iterdir()) == [named, young]
    named.unlink()
    assert "1 big output that instances name" in project.reflow("store", "check").out


def test_big_outputs_go_with_the_runs_that_named_them(project, done):
    with SqliteStore(project.manifest) as store:
        output = codec.dumps(store.looks.instance(1).output)
        big = store.output_files.path_of(store.output_files.put(output))
    age(big)
    change(project.manifest, f"UPDATE instances SET output_file = X'{big.name}' WHERE id = 1")
    second = project.workflow.run_local(project.run_dir, n=3)
    change(project.manifest, f"UPDATE instances SET output_file = X'{big.name}' WHERE cached_from = 1")
    project.reflow("runs", "--yes", "--rm", done.run_id)
    assert big.exists(), "the second run took it over"
    project.reflow("runs", "--yes", "--rm", second.run_id)
    assert not big.exists()


def test_a_removal_that_was_cut_off_is_told(project, done):
    change(project.manifest, "UPDATE runs SET removal = 2")
    outcome = project.reflow("store", "check")
    assert outcome.code == 1
    assert f"reflow runs --yes --rm {done.run_id}" in outcome.out
    assert project.reflow("status", done.run_id).code == 1
    assert project.reflow("runs", "--yes", "--rm", done.run_id).code == 0
    assert project.reflow("store", "check").code == 0


def test_a_folder_of_an_unknown_run_is_told_and_left_alone(project, done):
    other = project.workflow.run_local(project.run_dir, n=1)
    for table in ("instances", "waves", "dependencies", "counts"):
        change(project.manifest, f"DELETE FROM {table} WHERE task IN (SELECT id FROM tasks WHERE run = 2)")
    change(project.manifest, "DELETE FROM tasks WHERE run = 2", "DELETE FROM runs WHERE id = 2")
    outcome = project.reflow("store", "check", "--repair")
    assert outcome.code == 1
    assert is_one_line(outcome.out)
    assert other.run_id in outcome.out
    assert (project.run_dir / "reflow" / other.run_id).is_dir()


def test_a_manifest_that_is_mostly_free_space_is_packed(project):
    store = SqliteStore(project.manifest)
    store.init()
    store.insert_run("large", "demo", "root", {"text": "x" * 30_000_000})
    store.update_run_status("large", RunState.CANCELLED)
    project.reflow("runs", "--yes", "--rm", "large")
    assert project.manifest.stat().st_size > 30_000_000
    check_then_repair(project, "are free space")
    assert project.manifest.stat().st_size < 1_000_000


@pytest.mark.parametrize("command", ["check", "info", "backup"])
def test_a_missing_manifest_is_one_line_and_is_not_made(project, command):
    outcome = project.reflow("store", command, *(["copy.db"] if command == "backup" else []))
    assert outcome.code == 1
    assert is_one_line(outcome.err)
    assert "the first submit makes it" in outcome.err
    assert not project.manifest.exists()


def test_info_as_json_is_one_object_with_what_the_lines_say(project, done):
    facts = json.loads(project.reflow("store", "info", "--json").out)
    assert facts["path"] == str(project.manifest)
    assert facts["bytes"] == project.manifest.stat().st_size
    assert facts["runs"] == {"SUCCESS": 1}
    assert facts["rows"]["instances"] == 5
    assert facts["journal_mode"] == "delete"
    assert facts["lock_problem"] == ""
    assert not facts["publish_only"]
    shown = project.reflow("store", "info").out
    assert str(project.manifest) in shown
    assert "1 SUCCESS" in shown
    assert f"{facts['file_system']} at {facts['mount_point']}" in shown


def test_a_backup_is_a_whole_manifest_of_the_user_alone(project, done):
    copy = project.folder / "copy.db"
    outcome = project.reflow("store", "backup", "copy.db")
    assert (outcome.code, outcome.err) == (0, "")
    assert "copy.db" in outcome.out
    assert copy.stat().st_mode & 0o777 == 0o600
    assert project.reflow("status", done.run_id, "--store-path", copy).code == 0
    assert project.reflow("store", "check", "--store-path", copy).code == 0
    assert not [path.name for path in project.folder.iterdir() if path.name.endswith(".part")]


def test_a_backup_replaces_nothing_unless_told(project, done):
    copy = project.folder / "copy.db"
    copy.write_text("precious")
    refused = project.reflow("store", "backup", copy)
    assert refused.code == 1
    assert is_one_line(refused.err)
    assert "--force" in refused.err
    assert copy.read_text() == "precious"
    itself = project.reflow("store", "backup", project.manifest, "--force")
    assert itself.code == 1
    assert "the manifest itself" in itself.err
    assert project.reflow("store", "backup", copy, "--force").code == 0
    assert project.reflow("status", done.run_id, "--store-path", copy).code == 0
    lost = project.reflow("store", "backup", project.folder / "nowhere" / "copy.db")
    assert lost.code == 1
    assert is_one_line(lost.err)


def test_a_backup_takes_the_big_outputs_along(project, done):
    folder = Path(f"{project.manifest}.outputs") / "ab"
    folder.mkdir(parents=True)
    big = folder / f"ab{'1' * 62}"
    big.write_text('"big"')
    change(project.manifest, f"UPDATE instances SET output_file = X'{big.name}' WHERE id = 1")
    project.reflow("store", "backup", "copy.db")
    assert (project.folder / "copy.db.outputs" / "ab" / big.name).read_text() == '"big"'


@pytest.mark.parametrize("publish_only", [False, True])
def test_a_backup_is_whole_while_others_write(project, publish_only):
    store = SqliteStore(project.manifest, publish_only=publish_only)
    store.init()
    store.close()
    program = (
        "import itertools, sys\nfrom reflow.stores.sqlite import SqliteStore\n"
        "with SqliteStore(sys.argv[1]) as store:\n"
        "    print('ready', flush=True)\n"
        "    for number in itertools.count():\n"
        "        store.insert_run(f'{sys.argv[2]}-{number}', 'demo', 'ann', {'text': 'x' * 2_000})\n"
    )
    words = [sys.executable, "-c", program, str(project.manifest)]
    writers = [
        subprocess.Popen([*words, str(number)], stdout=subprocess.PIPE) for number in range(1 if publish_only else 2)
    ]
    try:
        for writer in writers:
            assert writer.stdout is not None
            writer.stdout.readline()
        sizes = []
        for number in range(3):
            assert project.reflow("store", "backup", f"copy{number}.db").code == 0
            copy = SqliteStore(project.folder / f"copy{number}.db", readonly=True)
            sizes.append(len(copy.list_run_records()))
            copy.close()
            # Until a writer has had its turn. Not read-only: under a lease only its owner reads what is whole.
            while len(store.list_run_records()) <= sizes[-1]:
                assert all(writer.poll() is None for writer in writers)
    finally:
        for writer in writers:
            writer.kill()
            writer.communicate()
    assert sizes == sorted(set(sizes))


def test_an_unknown_store_command_is_one_line_with_a_guess(project):
    outcome = project.reflow("store", "chek")
    assert outcome.code == 2
    assert is_one_line(outcome.err)
    assert "Did you mean 'check'?" in outcome.err


@pytest.mark.parametrize(
    ("folder_mode", "mode", "said"),
    [
        (0o755, 0o602, "everybody may write"),
        (0o757, 0o600, "everybody may write"),
        (0o3770, 0o660, "chmod -t"),
        (0o755, 0o660, "chmod g+ws"),
        (0o1777, 0o600, "is in order"),
        (0o2770, 0o660, "is in order"),
    ],
)
def test_modes_that_endanger_the_manifest_are_told(project, done, folder_mode, mode, said):
    project.folder.chmod(folder_mode)
    project.manifest.chmod(mode)
    outcome = project.reflow("store", "check")
    assert said in outcome.out
    assert is_one_line(outcome.out)
    assert outcome.code == (0 if "order" in said else 1)
