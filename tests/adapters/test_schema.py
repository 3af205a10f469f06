"""The manifest's schema and its versions: a manifest that an older reflow made is the same as a new one."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from reflow.errors import ManifestError
from reflow.states import TaskState
from reflow.stores import schema
from reflow.stores.records import Failure, Report
from reflow.stores.sqlite import SqliteStore

RECORDED = Path(__file__).parent / "recorded"
RUN = "survey-20251123-0a1b"


def recorded(path: Path, version: int) -> Path:
    """Put the manifest that a reflow of that schema version recorded at `path`."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript((RECORDED / f"manifest-{version}.sql").read_text(encoding="utf-8"))
    return path


@pytest.fixture(params=range(1, schema.VERSION))
def older(request, tmp_path):
    """The path of a manifest of each version before the newest."""
    return recorded(tmp_path / "older.db", request.param)


def definitions(path: Path) -> dict[tuple[str, str], list[str]]:
    """Return everything that the schema says, by kind and name; columns and constraints of a table in no order."""
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    parts = {}
    for kind, name, text in found:
        plain = re.sub(r"\s+", " ", re.sub(r"--[^\n]*", "", text)).replace('"', "").strip()
        parts[kind, name] = [plain]
        if kind == "table":
            head, _, body = plain.partition("(")
            body, _, tail = body.rpartition(")")
            parts[kind, name] = [head.strip(), tail.strip(), *sorted(map(str.strip, top_level_parts(body)))]
    return parts


def top_level_parts(text: str) -> list[str]:
    """Split at the commas that stand in no brackets."""
    parts, depth = [""], 0
    for letter in text:
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def rules(path: Path) -> list[list[tuple[object, ...]]]:
    with closing(sqlite3.connect(path)) as connection:
        return [
            connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2, 3").fetchall() for table in ("states", "moves")
        ]


def test_a_migrated_manifest_and_a_new_one_have_the_same_schema(older, tmp_path):
    with SqliteStore(tmp_path / "new.db") as new:
        new.init()
    with SqliteStore(older) as migrated:
        migrated.init()
    assert definitions(older) == definitions(tmp_path / "new.db")
    assert rules(older) == rules(tmp_path / "new.db")
    with closing(sqlite3.connect(older)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (schema.VERSION,)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_rows_survive_a_migration_and_go_on_living(older):
    with SqliteStore(older) as store:
        assert store.task_state_summary(RUN) == {
            "split": {"SUCCESS": 1},
            "count": dict.fromkeys(["PENDING", "RETRYING", "SUBMITTED", "SUCCESS", "FAILED", "CANCELLED"], 1),
        }
        assert store.get_singleton_output(RUN, "split") == [1, 2, 3, 4, 5, 6]
        first, failed, retried, *_ = store.list_task_instance_records(RUN, "count")
        assert (first.output, first.input, first.job_id, first.node) == (1, {"number": 1}, "102", "n1")
        assert (failed.failure, failed.exit_code, failed.error_text) == ("EXCEPTION", 1, "ValueError: no")
        assert [remark.output for remark in store.list_remarks(failed.id)] == ["2"]
        assert [(each.attempt, each.failure) for each in store.list_attempts(retried.id)] == [(1, Failure.EXCEPTION)]
        assert store.lookup_cached("count", [first.identity])[first.identity].instance == first.id

        submitted = store.list_task_instance_records(RUN, "count", [TaskState.SUBMITTED])[0]
        store.apply([Report(submitted.id, 1, TaskState.SUCCESS, 5, output="5")])
        assert store.retry(RUN) == 2
        store.cancel(RUN)
        assert store.task_state_summary(RUN)["count"] == {"SUCCESS": 2, "CANCELLED": 4}
        summary = next(task for task in store.summarize(RUN) if task.task_name == "count")
        assert list(summary.failed) == []


def test_whoever_may_write_migrates_at_the_first_use(older):
    with SqliteStore(older) as store:
        assert store.get_run(RUN)["graph_name"] == "survey"
    with SqliteStore(older, readonly=True) as store:
        assert store.get_run(RUN)["graph_name"] == "survey"


def test_a_reader_of_an_older_manifest_says_what_brings_it_up_to_date(older):
    before = older.read_bytes()
    with SqliteStore(older, readonly=True) as store, pytest.raises(ManifestError, match=r"older reflow.*reflow runs"):
        store.get_run(RUN)
    assert older.read_bytes() == before


def test_a_command_migrates(older):
    command = [sys.executable, "-m", "reflow", "status", RUN, "--store-path", str(older)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    assert "count" in answer.stdout


def test_a_reflow_that_had_the_manifest_open_does_not_write_to_what_a_newer_one_made_of_it(tmp_path):
    with SqliteStore(tmp_path / "manifest.db") as store:
        store.init()
        with closing(sqlite3.connect(store.path)) as connection:
            connection.execute("PRAGMA user_version = 999")
        with pytest.raises(ManifestError, match="newer reflow"):
            store.insert_run("run", "survey", "ann", {})


def test_many_processes_may_meet_an_older_manifest_at_once(older):
    program = (
        "import os, sys\nfrom reflow.stores.sqlite import SqliteStore\n"
        "SqliteStore(sys.argv[1]).insert_run(str(os.getpid()), 'survey', 'ann', {})"
    )
    workers = [subprocess.Popen([sys.executable, "-c", program, str(older)]) for _ in range(6)]
    assert [worker.wait(120) for worker in workers] == [0] * 6
    with SqliteStore(older) as store:
        assert len(store.list_run_records()) == 7
