"""A disk that is full, and one that cannot be written: real mounts, made by root and taken away again."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from reflow.elements import patience_with, publish_stubbornly
from reflow.errors import ManifestError
from reflow.states import TaskState
from reflow.stores.records import Report
from reflow.stores.spool import Spool, encode
from reflow.stores.sqlite import SqliteStore

from ..disks import small_disk

DONE = Report(1, 1, TaskState.SUCCESS, 50, node="n1", pid=4, output='"' + "x" * 300 + '"', output_hash="5f" * 32)


@pytest.fixture
def disk(tmp_path):
    """A disk of one megabyte."""
    with small_disk(tmp_path / "disk", "1m") as folder:
        yield folder


@pytest.fixture
def manifest(disk):
    """A manifest on that disk, with one element that waits."""
    with SqliteStore(disk / "manifest.db") as store:
        store.init()
        store.insert_run("run", "survey", "ann", {})
        assert store.insert_task_instance("run", "count", 0, TaskState.PENDING, None) == 1
        yield store


def fill(disk: Path) -> Path:
    """Use up every byte, and return the file to delete."""
    path = disk / "filler"
    with path.open("wb", buffering=0) as file:
        for size in (4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                pass
    return path


PUBLISH = """
import logging, sys
from reflow.elements import publish_stubbornly
from reflow.stores.spool import Spool, decode
logging.basicConfig(format="%(message)s")
publish_stubbornly(Spool(sys.argv[1]).publish, decode(sys.stdin.buffer.read()))
"""


@pytest.mark.parametrize("report", [DONE, replace(DONE, output='"' + "x" * 200_000 + '"')], ids=["small", "big"])
def test_a_worker_keeps_its_result_until_the_full_disk_has_space_again(manifest, disk, report):
    filler = fill(disk)
    words = [sys.executable, "-c", PUBLISH, str(manifest.path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as worker:
        assert worker.stdin is not None
        assert worker.stderr is not None
        worker.stdin.write(encode([report]).decode())
        worker.stdin.close()
        said = worker.stderr.readline()
        assert "No space left" in said
        assert "trying again" in said
        filler.unlink()
        assert worker.wait(60) == 0
    assert manifest.merge()
    assert manifest.task_state_summary("run") == {"count": {"SUCCESS": 1}}


def test_a_result_outlasts_a_disk_that_is_full_for_longer_than_any_other_trouble(disk):
    filler = fill(disk)
    with pytest.raises(ManifestError) as full:
        Spool(disk / "manifest.db").publish([DONE])
    filler.unlink()
    (disk / "other.db.spool").write_text("in the way")
    with pytest.raises(ManifestError) as wrong:
        Spool(disk / "other.db").publish([DONE])
    assert patience_with(full.value) > 3_600 > patience_with(wrong.value) > 0


def test_a_report_that_an_element_runs_does_not_hold_the_element_up(disk, caplog):
    fill(disk)
    publish_stubbornly(Spool(disk / "manifest.db").publish, [Report(1, 1, TaskState.RUNNING, 50, node="n" * 200)])
    assert "No space left" in caplog.text
    assert Spool(disk / "manifest.db").is_empty()
