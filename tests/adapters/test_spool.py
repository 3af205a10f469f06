"""The folder of reports that are not merged yet: real files, real symlinks."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from reflow.errors import ManifestError
from reflow.states import TaskState
from reflow.stores.records import Failure, Report
from reflow.stores.spool import Spool, decode, encode

SMALL = Report(7, 1, TaskState.SUCCESS, 50, node="n1", pid=4, output='{"a": "ü"}', output_hash="5f" * 32)
LARGE = Report(8, 2, TaskState.FAILED, 60, error="x" * 10_000, failure=Failure.EXCEPTION, exit_code=1, signal=9)


@pytest.fixture
def spool(tmp_path):
    return Spool(tmp_path / "manifest.db")


def everything(spool):
    return [report for name in spool.names() for report in spool.read(name).reports]


def test_nothing_is_made_before_the_first_publish(spool, tmp_path):
    assert spool.is_empty()
    assert spool.names() == []
    spool.publish([])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "report", [SMALL, LARGE, Report(1, 1, TaskState.RUNNING, 1), Report(1, 2, TaskState.PENDING, 1)]
)
def test_a_report_comes_back_as_it_was_published(spool, report):
    spool.publish([report])
    assert everything(spool) == [report]
    assert not spool.is_empty()


def test_a_publish_of_many_reports_is_one_entry(spool):
    many = [Report(number, 1, TaskState.RUNNING, number) for number in range(1, 1_001)]
    spool.publish(many)
    (name,) = spool.names()
    assert spool.read(name).reports == tuple(many)
    assert name.startswith("1-1000-1-2-")


def test_small_reports_are_one_symlink_and_large_ones_a_file(spool):
    spool.publish([SMALL])
    spool.publish([LARGE])
    small, large = (spool.path / name for name in spool.names())
    assert small.is_symlink()
    assert large.is_file()
    assert not large.is_symlink()


def test_text_with_lone_surrogates_travels(spool):
    report = Report(1, 1, TaskState.FAILED, 5, error="cannot open 'caf\udce9'")
    spool.publish([report])
    assert everything(spool) == [report]


def test_the_same_report_twice_is_two_entries(spool):
    spool.publish([SMALL])
    spool.publish([SMALL])
    assert everything(spool) == [SMALL, SMALL]


def test_only_the_user_can_look_into_the_spool(spool):
    spool.publish([LARGE])
    assert spool.path.stat().st_mode & 0o777 == 0o700
    assert (spool.path / spool.names()[0]).stat().st_mode & 0o777 == 0o600


def test_removed_entries_are_gone_and_removing_again_is_harmless(spool):
    spool.publish([SMALL])
    names = spool.names()
    spool.remove(names)
    spool.remove(names)
    assert spool.is_empty()
    assert spool.read(names[0]) is None


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"not json",
        b"{}",
        b'[{"instance": 1}]',
        b'[{"instance": 1, "attempt": 1, "state": "RUNNING"}]',
        b'[{"instance": "1", "attempt": 1, "state": "RUNNING", "at": 1}]',
        b'[{"instance": 1, "attempt": 0, "state": "RUNNING", "at": 1}]',
        b'[{"instance": 1, "attempt": true, "state": "RUNNING", "at": 1}]',
        b'[{"instance": 1, "attempt": 1, "state": "SUBMITTED", "at": 1}]',
        b'[{"instance": 1, "attempt": 1, "state": "DONE", "at": 1}]',
        b'[{"instance": 1, "attempt": 1, "state": ["RUNNING"], "at": 1}]',
        b'[{"instance": 1, "attempt": 1, "state": "FAILED", "at": 1, "failure": "BAD LUCK"}]',
        b'[{"instance": 1, "attempt": 1, "state": "SUCCESS", "at": 1, "output": {"a": 1}}]',
        b'[{"instance": 99999999999999999999, "attempt": 1, "state": "RUNNING", "at": 1}]',
        b'[{"instance": 1, "attempt": 1, "state": "RUNNING", "at": 1}, 5]',
        b"[" * 200_000,
        b"\xff\xfe\x00",
    ],
)
def test_what_makes_no_sense_is_set_aside(spool, payload, caplog):
    spool.publish([SMALL])
    (spool.path / "odd.reports").write_bytes(payload)
    assert spool.read("odd.reports") is None
    assert len(spool.names()) == 1
    assert (spool.path / "rejected" / "odd.reports").read_bytes() == payload
    assert "odd.reports" in caplog.text


def test_fields_of_a_newer_reflow_are_ignored():
    payload = encode([SMALL]).replace(b'"instance":7', b'"instance":7,"energy":3.5')
    assert b"energy" in payload
    assert decode(payload) == (SMALL,)


def test_a_success_is_found_by_instance_and_attempt(spool):
    spool.publish([Report(7, 1, TaskState.RUNNING, 1)])
    assert spool.success_of(7, 1) is None
    spool.publish([Report(3, 1, TaskState.RUNNING, 1), SMALL, Report(9, 1, TaskState.FAILED, 1)])
    assert spool.success_of(7, 1) == SMALL
    assert spool.success_of(7, 2) is None
    assert spool.success_of(9, 1) is None


def test_temporary_files_are_not_read_and_cleaned_once_they_are_old(spool):
    spool.publish([SMALL])
    young, old = spool.path / ".8-8-1-3-x.reports", spool.path / ".9-9-1-3-x.reports"
    for path in (young, old):
        path.write_bytes(b"[{")
    os.utime(old, (time.time() - 7_200, time.time() - 7_200))
    assert len(spool.names()) == 1
    assert young.exists()
    assert not old.exists()


def test_a_spool_that_cannot_be_written_says_where_and_what_to_do(tmp_path):
    (tmp_path / "manifest.db.spool").write_text("a file is in the way")
    with pytest.raises(ManifestError, match=r"manifest\.db\.spool"):
        Spool(tmp_path / "manifest.db").publish([SMALL])


@pytest.mark.parametrize("name", ["a 0", 'a"=0"', "a'; echo foo", "a\n0", "a%20?b#c", "ü"])
def test_paths_may_be_awkward(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    spool = Spool(str(folder / "manifest.db"))
    spool.publish([SMALL])
    spool.publish([LARGE])
    assert everything(spool) == [SMALL, LARGE]


def test_publishing_needs_neither_sqlite_nor_anything_slow():
    heavy = "sqlite3 click jinja2 rich platformdirs filelock asyncio subprocess"
    program = f"import sys, reflow.stores.spool\nprint([each for each in {heavy.split()!r} if each in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
