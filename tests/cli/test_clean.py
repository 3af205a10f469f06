"""``clean`` and ``runs --rm``: what goes, what stays, and that nothing goes unasked."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from reflow import clock
from reflow.cleaning import plan_named, remove
from reflow.states import RunState, TaskState
from reflow.stores.records import Report
from reflow.stores.sqlite import SqliteStore
from reflow.stores.upkeep import Upkeep

from .conftest import is_one_line

NOW = "--older-than", "0s"


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def rows_of(manifest: Path) -> dict[str, int]:
    """Count the rows that a run leaves in each table."""
    import sqlite3

    tables = ("runs", "tasks", "instances", "attempts", "waves", "dependencies", "counts", "remarks")
    connection = sqlite3.connect(manifest)
    try:
        return {table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables}
    finally:
        connection.close()


def run_ids(project) -> list[str]:
    return [run.run_id for run in SqliteStore(project.manifest, readonly=True).list_run_records()]


def test_without_yes_it_shows_what_would_go_and_removes_nothing(project, done):
    before = files_in(project.run_dir)
    assert before
    for words in (("clean", *NOW), ("runs", "--rm", done.run_id)):
        outcome = project.reflow(*words)
        assert (outcome.code, outcome.err) == (0, "")
        first, last = outcome.out.splitlines()
        assert first.startswith(f"{done.run_id}  SUCCESS")
        assert "5 instances" in first
        assert f"{len(before)} files" in last
        assert "add --yes" in last
    assert files_in(project.run_dir) == before
    assert run_ids(project) == [done.run_id]


@pytest.mark.parametrize("words", [("clean", *NOW, "--yes"), ("runs", "--yes", "--rm")])
def test_a_run_goes_with_all_that_it_has(project, words):
    project.workflow.run_local(project.run_dir, n=2).retry()
    empty = rows_of(project.manifest)
    empty = dict.fromkeys(empty, 0)
    (project.run_dir / "mine.csv").write_text("the user's own")
    failed = project.workflow.run_local(project.run_dir, on_error="continue", n=3, unlucky=1)
    failed.retry()
    failed.wait(60)
    names = run_ids(project) if words[0] == "runs" else []
    outcome = project.reflow(*words, *names)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.splitlines()[-1].startswith("Removed 2 runs: ")
    assert run_ids(project) == []
    assert project.reflow("runs", "--all").out == "No runs found\n"
    assert files_in(project.run_dir) == ["mine.csv"]
    assert not (project.run_dir / "reflow").exists()
    # What stays is the empty row that keeps numbers from being given twice.
    assert rows_of(project.manifest) == {**empty, "runs": 1, "tasks": 1, "instances": 1, "counts": 7}


def test_a_young_run_stays(project, done):
    outcome = project.reflow("clean", "--older-than", "1h", "--yes")
    assert outcome.code == 0
    assert outcome.out.startswith("No run of yours is older than ")
    assert run_ids(project) == [done.run_id]


def test_a_running_run_is_never_removed_and_the_sentence_says_how_to_end_it(project, done):
    store = SqliteStore(project.manifest)
    store.update_run_status(done.run_id, RunState.RUNNING)
    outcome = project.reflow("runs", "--yes", "--rm", done.run_id)
    assert outcome.code == 1
    assert is_one_line(outcome.err)
    assert f"reflow cancel {done.run_id}" in outcome.err
    assert project.reflow("clean", *NOW, "--yes").out.startswith("No run of yours")
    assert run_ids(project) == [done.run_id]
    assert files_in(project.run_dir)


def test_an_unknown_run_removes_none(project, done):
    outcome = project.reflow("runs", "--yes", "--rm", done.run_id, "demo-nope")
    assert outcome.code == 1
    assert is_one_line(outcome.err)
    assert "demo-nope" in outcome.err
    assert run_ids(project) == [done.run_id]


def test_runs_of_others_go_only_by_name(project, done):
    store = SqliteStore(project.manifest)
    store.insert_run("theirs", "demo", "ann", {})
    store.update_run_status("theirs", RunState.FAILED)
    project.reflow("clean", *NOW, "--yes")
    assert run_ids(project) == ["theirs"]
    outcome = project.reflow("runs", "--rm", "theirs")
    assert "of user ann" in outcome.out
    project.reflow("runs", "--yes", "--rm", "theirs")
    assert run_ids(project) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("clean",), "--older-than 30d"),
        (("clean", "--older-than", "old"), "no time"),
        (("runs", "--rm"), "reflow runs --rm RUN_ID"),
        (("runs", "demo-1"), "reflow status demo-1"),
    ],
)
def test_a_wrong_word_is_one_line(project, done, words, said):
    outcome = project.reflow(*words)
    assert outcome.code == 2
    assert is_one_line(outcome.err)
    assert said in outcome.err


def test_a_new_user_without_a_manifest_is_told_that_there_is_nothing(project):
    assert project.reflow("clean", *NOW).out.startswith("No run of yours")
    outcome = project.reflow("runs", "--rm", "demo-1")
    assert outcome.code == 1
    assert is_one_line(outcome.err)
    assert not project.manifest.exists()


def test_with_keep_cache_the_results_are_used_again_and_the_files_go(project, done):
    outcome = project.reflow("clean", *NOW, "--keep-cache", "--yes")
    assert "results stay for the cache" in outcome.out
    assert not files_in(project.run_dir)
    assert "(results only)" in project.reflow("runs").out
    assert "3/3" in project.reflow("status", done.run_id).out
    assert project.reflow("clean", *NOW, "--keep-cache", "--yes").out.startswith("No run of yours")
    again = project.workflow.run_local(project.run_dir, n=3)
    assert [task.cached for task in SqliteStore(project.manifest).summarize(again.run_id)] == [1, 3, 1]


def test_a_run_of_which_only_results_are_left_cannot_be_retried(project, failed):
    project.reflow("clean", *NOW, "--keep-cache", "--yes")
    outcome = project.reflow("retry", failed.run_id)
    assert outcome.code == 1
    assert is_one_line(outcome.err)
    assert "submit the workflow again" in outcome.err


def test_with_keep_cache_a_run_without_results_goes_whole(project):
    project.workflow.run_local(project.run_dir, n=1).cancel()
    store = SqliteStore(project.manifest)
    store.insert_run("empty", "demo", project_user(), {})
    store.update_run_status("empty", RunState.CANCELLED)
    project.reflow("clean", *NOW, "--keep-cache", "--yes")
    assert len(run_ids(project)) == 1


def test_what_others_took_from_a_removed_run_stays(project, done):
    second = project.workflow.run_local(project.run_dir, n=3)
    assert second.results("total") == 5
    project.reflow("runs", "--yes", "--rm", done.run_id)
    assert second.results("square") == [0, 1, 4]
    third = project.workflow.run_local(project.run_dir, n=3)
    summary = SqliteStore(project.manifest).summarize(third.run_id)
    assert [task.cached for task in summary] == [1, 3, 1]
    assert third.results("total") == 5


def test_the_number_of_a_removed_instance_is_never_given_again(project, done):
    """The late report of a worker that outlived its run must not reach another run's instance."""
    store = SqliteStore(project.manifest)
    newest = max(each.id for each in store.list_task_instance_records(done.run_id))
    for _ in range(2):
        project.reflow("clean", *NOW, "--yes")
        store.publish([Report(newest, 1, TaskState.SUCCESS, clock.now(), output='"late"')])
        store.merge()
        store.insert_run("next", "demo", project_user(), {})
        instance = store.insert_task_instance("next", "count", 0, TaskState.PENDING, None)
        assert instance > newest
        assert store.get_task_instance("next", "count", 0)["state"] is TaskState.PENDING
        store.update_run_status("next", RunState.CANCELLED)
        newest = instance


def test_a_file_that_is_not_reflows_stays_and_is_named(project, done):
    folder = project.run_dir / "reflow" / done.run_id
    (folder / "notes.txt").write_text("mine")
    outcome = project.reflow("runs", "--yes", "--rm", done.run_id)
    assert "notes.txt" in outcome.err
    assert files_in(folder) == ["notes.txt"]
    assert run_ids(project) == []


def test_no_symlink_is_followed(project, done, tmp_path):
    outside = tmp_path / "outside"
    (outside / "logs").mkdir(parents=True)
    (outside / "logs" / "precious").write_text("data")
    folder = project.run_dir / "reflow" / done.run_id
    (folder / "logs" / "link").symlink_to(outside)
    second = project.workflow.run_local(project.run_dir, n=2)
    other = project.run_dir / "reflow" / second.run_id
    other.rename(tmp_path / "moved")
    other.symlink_to(outside)
    third = project.workflow.run_local(project.run_dir, n=1)
    logs = project.run_dir / "reflow" / third.run_id / "logs"
    logs.rename(tmp_path / "moved logs")
    logs.symlink_to(outside / "logs")
    assert project.reflow("clean", *NOW, "--yes").code == 0
    assert files_in(outside) == ["logs/precious"]
    assert run_ids(project) == []
    assert not logs.is_symlink()


@pytest.mark.parametrize("instant", [0.0, 0.02, 0.05, 0.1, 0.2, 0.3])
def test_a_removal_that_is_killed_anywhere_is_ended_by_the_next(project, done, instant):
    kept = project.workflow.run_local(project.run_dir, n=4, unlucky=9)
    program = (
        "import sys\nfrom reflow.stores import upkeep\nupkeep.ROWS_PER_TURN = 1\nfrom reflow.cli import main\n"
        "print('ready', flush=True)\nmain(sys.argv[1:])"
    )
    words = [sys.executable, "-c", program, "runs", "--yes", "--rm", done.run_id]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            process.wait(instant)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
    project.reflow("runs", "--yes", "--rm", done.run_id)
    assert run_ids(project) == [kept.run_id]
    assert kept.results("square") == [0, 1, 4, 9]
    assert [path.name for path in (project.run_dir / "reflow").iterdir()] == [kept.run_id]
    assert rows_of(project.manifest)["instances"] in (6, 7)


def project_user() -> str:
    from reflow.dispatch import current_user

    return current_user()


def test_cleaning_a_copy_of_the_manifest_leaves_the_originals_files(project, done):
    before = files_in(project.run_dir)
    assert project.reflow("store", "backup", "copy.db").code == 0
    copy = ("--store-path", project.folder / "copy.db")
    outcome = project.reflow("clean", *NOW, "--yes", *copy)
    assert outcome.out.splitlines()[-1] == "Removed 1 run: 5 instances, 0 files (0 B)."
    assert project.reflow("runs", *copy).out == "No runs found\n"
    assert files_in(project.run_dir) == before
    assert project.reflow("status", done.run_id).code == 0


class CleanedMeanwhile(SqliteStore):
    """A manifest in which somebody removes an old run right after its results were found."""

    old = ""

    def lookup_cached(self, task_name, identities):
        found = super().lookup_cached(task_name, identities)
        if found and self.old:
            with Upkeep(self.path) as upkeep:
                remove(upkeep, plan_named(upkeep, [self.old]), print)
            self.old = ""
        return found


def test_a_result_that_is_removed_between_look_up_and_use_is_computed_again(project, done):
    store = CleanedMeanwhile(project.manifest)
    store.old = done.run_id
    run = project.workflow.run_local(project.run_dir, store=store, n=3)
    assert run.results("total") == 5
    assert run_ids(project) == [run.run_id]
    assert [task.cached for task in store.summarize(run.run_id)] == [0, 0, 0]


def test_results_of_a_run_whose_removal_was_cut_off_are_not_used(project, done):
    with Upkeep(project.manifest) as upkeep:
        upkeep.begin_removal(done.run_id)
    run = project.workflow.run_local(project.run_dir, n=3)
    assert [task.cached for task in SqliteStore(project.manifest).summarize(run.run_id)] == [0, 0, 0]
