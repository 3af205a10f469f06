"""``status``, ``runs``, ``logs``, ``retry`` and ``cancel``: what can be done with runs that exist."""

from __future__ import annotations

import json
import os
import shlex
import sys

import pytest

from reflow import RunState

from .conftest import is_one_line


def test_status_needs_no_pipeline_file(project, done):
    project.file.unlink()
    outcome = project.process("-m", "reflow", "status", done.run_id)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.splitlines()[0] == f"{done.run_id}  SUCCESS"
    assert "square" in outcome.out
    assert "3/3" in outcome.out


def test_status_shows_what_failed_and_with_errors_the_whole_text(project, failed):
    outcome = project.pipeline("status", failed.run_id)
    assert "square[1]: EXCEPTION" in outcome.out
    assert "Traceback" not in outcome.out
    assert "Traceback" in project.pipeline("status", failed.run_id, "--errors").out
    assert "prepare" not in project.pipeline("status", failed.run_id, "--task", "square").out


def test_status_as_json_is_one_object_and_nothing_else(project, failed):
    outcome = project.reflow("status", failed.run_id, "--json", "--errors")
    assert outcome.err == ""
    shown = json.loads(outcome.out)
    assert (shown["run_id"], shown["status"]) == (failed.run_id, "FAILED")
    assert shown["parameters"] == {"n": 3, "unlucky": 1}
    assert shown["tasks"]["square"]["failed"] == "1"
    assert "1 is unlucky" in shown["failures"][0]["error_text"]


def test_status_on_a_terminal_is_a_table(project, failed):
    reader, terminal = os.openpty()
    pid = os.fork()
    if pid == 0:
        os.dup2(terminal, 1)
        os.environ["TERM"] = "xterm"
        os.execv(sys.executable, [sys.executable, "-m", "reflow", "status", failed.run_id])
    os.close(terminal)
    shown = b""
    while True:
        try:
            part = os.read(reader, 4096)
        except OSError:  # Linux says so when the other side has closed
            break
        if not part:
            break
        shown += part
    _, code = os.waitpid(pid, 0)
    os.close(reader)
    assert code == 0
    assert b"\x1b[" in shown
    assert b"2/3" in shown
    assert b"square[1]: EXCEPTION" in shown


@pytest.mark.parametrize("command", ["status", "cancel", "retry"])
def test_an_unknown_run_is_one_line(project, done, command):
    outcome = project.reflow(command, "demo-nope")
    assert outcome.code == 1
    assert is_one_line(outcome.err)
    assert "no run 'demo-nope'" in outcome.err
    assert "reflow runs" in outcome.err


def test_a_missing_manifest_is_one_line_and_is_not_created(project):
    outcome = project.reflow("status", "demo-nope")
    assert outcome.code == 1
    assert is_one_line(outcome.err)
    assert "--store-path" in outcome.err
    assert not project.manifest.exists()


def test_a_file_that_is_no_manifest_is_one_line(project):
    project.manifest.write_text("not a database " * 100)
    outcome = project.reflow("status", "demo-nope")
    assert outcome.code == 1
    assert is_one_line(outcome.err)
    assert str(project.manifest) in outcome.err


@pytest.mark.parametrize("command", ["status", "cancel", "retry"])
def test_an_unknown_task_is_one_line_with_a_guess(project, done, command):
    outcome = project.reflow(command, done.run_id, "--task", "squares")
    assert outcome.code == 1
    assert is_one_line(outcome.err)
    assert "Did you mean 'square'?" in outcome.err


def test_logs_are_what_the_instance_printed(project):
    run = project.workflow.run_local(project.run_dir, max_workers=2, n=3, unlucky=1)
    assert project.reflow("logs", run.run_id, "prepare").out == "preparing 3\n"
    assert "ValueError: 1 is unlucky" in project.reflow("logs", run.run_id, "square[1]").out


def test_a_silent_instance_says_where_its_log_would_be(project, done):
    outcome = project.reflow("logs", done.run_id, "square[1]")
    assert (outcome.code, outcome.out) == (0, "")
    assert is_one_line(outcome.err)
    assert str(project.run_dir) in outcome.err


@pytest.mark.parametrize(
    ("instance", "named"),
    [("square", "square[0] to square[2]"), ("square[7]", "square[7]"), ("square[x]", "square[x]")],
)
def test_logs_of_no_instance_are_one_line(project, done, instance, named):
    outcome = project.reflow("logs", done.run_id, instance)
    assert outcome.code == 1
    assert is_one_line(outcome.err)
    assert named in outcome.err


def test_no_runs(project):
    assert project.reflow("runs").out == "No runs found\n"
    assert json.loads(project.reflow("runs", "--json").out) == []
    assert not project.manifest.exists()


def test_runs_are_listed_newest_first(project):
    ids = [project.workflow.run_local(project.run_dir, n=number).run_id for number in range(3)]
    listed = [line.split()[0] for line in project.reflow("runs").out.splitlines()]
    assert listed == ids[::-1]
    assert [run["run_id"] for run in json.loads(project.reflow("runs", "--last", 2, "--json").out)] == ids[:0:-1]


def test_runs_can_be_narrowed(project, done, failed):
    def listed(*words):
        return [run["run_id"] for run in json.loads(project.reflow("runs", "--json", *words).out)]

    assert listed("--status", "failed") == [failed.run_id]
    assert listed("--since", "1h") == [failed.run_id, done.run_id]
    assert listed("--until", "1h") == []
    assert listed("--since", "2026-01-01", "--until", "2999-12-31") == [failed.run_id, done.run_id]
    assert listed("--until", "2001-01-01T00:00:00Z") == []


def test_a_workflow_lists_its_own_runs_only(project, done):
    project.write(
        """
        from reflow import Workflow

        wf = Workflow("other")
        """,
        "other.py",
    )
    project.file = project.folder / "other.py"
    assert project.pipeline("runs").out == "No runs found\n"
    assert done.run_id in project.reflow("runs").out


def test_others_runs_are_listed_when_asked_for(project, done):
    done._store.insert_run("theirs", "demo", "somebody", {})
    assert "theirs" not in project.reflow("runs").out
    assert "somebody" in project.reflow("runs", "--all").out


def test_a_wrong_time_is_one_line(project):
    outcome = project.reflow("runs", "--since", "yesterday")
    assert outcome.code == 2
    assert is_one_line(outcome.err)
    assert "3d or 12h" in outcome.err


def test_cancel_of_several_runs_asks_first(project, done, failed):
    words = ("-m", "reflow", "cancel", done.run_id, failed.run_id)
    assert project.process(*words, stdin="n\n").code == 1
    agreed = project.process(*words, stdin="y\n")
    assert agreed.code == 0
    assert project.process(*words, "--yes").out == agreed.out
    assert agreed.out.splitlines() == [
        f"Cancelled 0 instances of {done.run_id}",
        f"Cancelled 0 instances of {failed.run_id}",
    ]


def test_cancel_and_retry_say_how_many(project):
    project.write(
        """
        import time
        from reflow import Workflow

        wf = Workflow("slow")

        @wf.job()
        def sleep(seconds: float) -> None:
            time.sleep(seconds)
        """
    )
    run_id = project.pipeline("submit", "--run-dir", "run", "--seconds", 60, "--executor", "local").out.split()[2]
    assert project.reflow("cancel", run_id).out == f"Cancelled 1 instance of {run_id}\n"
    assert "CANCELLED" in project.reflow("status", run_id).out
    assert project.reflow("retry", run_id).out == f"Resubmitted 1 instance of {run_id}\n"
    assert "RUNNING" in project.reflow("status", run_id).out
    assert project.reflow("cancel", run_id).code == 0


def test_an_interrupt_is_one_word_and_130(project, done, failed):
    # At the end of its input, the question is broken off as Ctrl-C breaks it off.
    outcome = project.process("-m", "reflow", "cancel", done.run_id, failed.run_id, stdin="")
    assert outcome.code == 130
    assert outcome.err.endswith("Aborted\n")
    assert "Traceback" not in outcome.err


def test_explain_says_what_has_changed_since(project, done):
    run = project.workflow.run_local(project.run_dir, n=4)
    outcome = project.reflow("explain", run.run_id, "prepare")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == (
        f"prepare of {run.run_id}: computed: changed: parameter\n"
        f"Since prepare of {done.run_id}:\n  parameter 'n': 3 -> 4\n"
    )
    assert f"used again: nothing that decides has changed since square[2] of {done.run_id}" in (
        project.reflow("explain", run.run_id, "square[2]").out
    )


def test_explain_as_json_is_one_object(project, done):
    shown = json.loads(project.reflow("explain", done.run_id, "total", "--json").out)
    assert (shown["task"], shown["index"], shown["outcome"]) == ("total", None, "miss")
    assert shown["reason"] == "there is no earlier success of task 'total'"


@pytest.mark.parametrize(("instance", "named"), [("square", "name an element"), ("sqare[1]", "Did you mean 'square'")])
def test_explain_of_no_instance_is_one_line(project, done, instance, named):
    outcome = project.reflow("explain", done.run_id, instance)
    assert outcome.code == 1
    assert is_one_line(outcome.err)
    assert named in outcome.err


PURGED = """
    from pathlib import Path
    from typing import Annotated

    from reflow import Result, Workflow

    wf = Workflow("purged")


    def is_two(number: int) -> bool:
        return number == 2


    @wf.job()
    def write(folder: Path) -> Path:
        (folder / "file").write_text("two")
        return folder / "file"


    @wf.job(verify=is_two)
    def length(path: Annotated[Path, Result("write")]) -> int:
        return len(path.read_text()) - 1
"""


def test_retry_tells_what_it_makes_again_of_a_run_that_had_succeeded(project):
    project.write(PURGED)
    run = project.workflow.run_local(project.run_dir, folder=project.folder)
    (project.folder / "file").unlink()
    assert project.reflow("retry", run.run_id, "--no-verify").out == f"Resubmitted 0 instances of {run.run_id}\n"
    outcome = project.reflow("retry", run.run_id)
    assert outcome.out.splitlines() == [
        f"Resubmitted 2 instances of {run.run_id}",
        "Again, although it had succeeded: write (files are gone or changed, or verify= says no)",
        "Again, although it had succeeded: length (made from a result that is made again)",
    ]
    assert run.wait(60) is RunState.SUCCESS
    assert (project.folder / "file").read_text() == "two"


def test_retry_says_that_changed_code_is_not_run_and_how_to_run_it(project):
    project.write(PURGED)
    submitted = project.pipeline("submit", "--run-dir", "run", "--folder", project.folder, "--executor", "local")
    run_id = submitted.out.split()[2]
    assert len(project.reflow("retry", run_id).out.splitlines()) == 1
    project.file.write_text(PURGED.replace('"two"', '"new"'))
    lines = project.reflow("retry", run_id).out.splitlines()
    assert "changed since the run was submitted: pipeline.py" in lines[-2]
    assert lines[-1].endswith(f"submit anew: {shlex.join(sys.orig_argv)}")


def test_retry_looks_at_files_alone_where_the_pipeline_cannot_be_loaded(project):
    project.write(PURGED)
    run = project.workflow.run_local(project.run_dir, folder=project.folder)
    project.file.unlink()
    sys.modules.pop("pipeline", None)
    outcome = project.reflow("retry", run.run_id)
    assert (outcome.code, outcome.out) == (0, f"Resubmitted 0 instances of {run.run_id}\n")
    assert "so no verify= is asked" in outcome.err
    assert is_one_line(outcome.err)
