"""``dag``, ``describe``, and how the command ``reflow`` finds the workflow in a file."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

import reflow

from .conftest import is_one_line


def test_dag_as_text(project):
    assert project.pipeline("dag").out == "prepare\nsquare [array]  <- prepare\ntotal  <- square\n"
    assert project.reflow("dag", project.file).out == project.pipeline("dag", "--format", "text").out


def test_dag_as_mermaid(project):
    assert project.pipeline("dag", "--format", "mermaid").out.split("\n") == [
        "flowchart TD",
        "    prepare[prepare]",
        "    square[[square]]",
        "    total[total]",
        "    prepare --> square",
        "    square --> total",
        "",
    ]


def test_dag_as_dot(project):
    assert project.pipeline("dag", "--format", "dot").out.split("\n") == [
        "digraph {",
        '    "prepare";',
        '    "square" [peripheries=2];',
        '    "total";',
        '    "prepare" -> "square";',
        '    "square" -> "total";',
        "}",
        "",
    ]


def test_odd_names_of_tasks_stay_inside_their_quotes(project):
    project.write(
        """
        from reflow import Workflow

        wf = Workflow("odd")

        @wf.job("end")
        def one() -> None: ...

        @wf.job('a "b"]; x', after=["end"])
        def two() -> None: ...

        @wf.job("task1", after=['a "b"]; x'])
        def three() -> None: ...
        """
    )
    assert project.pipeline("dag", "--format", "mermaid").out.splitlines()[1:] == [
        '    task1_["end"]',
        '    task2["a #34;b#34;#93;#59; x"]',
        "    task1[task1]",
        "    task1_ --> task2",
        "    task2 --> task1",
    ]
    assert '    "a \\"b\\"]; x" -> "task1";' in project.pipeline("dag", "--format", "dot").out.splitlines()


def test_describe_is_one_json_object(project):
    outcome = project.reflow("describe", "pipeline.py")
    assert outcome.err == ""
    described = json.loads(outcome.out)
    assert described == project.workflow.describe()
    assert [task["name"] for task in described["tasks"]] == ["prepare", "square", "total"]


def test_a_cycle_is_one_line(project):
    project.write(
        """
        from reflow import Workflow

        wf = Workflow("round")

        @wf.job(after=["b"])
        def a() -> None: ...

        @wf.job(after=["a"])
        def b() -> None: ...
        """
    )
    for command in ("dag", "describe"):
        outcome = project.pipeline(command)
        assert outcome.code == 2
        assert is_one_line(outcome.err)
        assert "cycle" in outcome.err


TWO = """
    from reflow import Workflow

    first = Workflow("one")
    second = Workflow("two")

    @first.job()
    def a() -> None: ...

    @second.job()
    def b() -> None: ...
"""


@pytest.mark.parametrize("words", [["pipeline.py", "--workflow", "two"], ["--workflow", "second", "pipeline.py"]])
def test_one_of_several_workflows_is_chosen_by_name(project, words):
    project.write(TWO)
    assert project.reflow("dag", *words).out == "b\n"


@pytest.mark.parametrize(
    ("source", "words", "named"),
    [
        (TWO, [], "--workflow one of one, two"),
        (TWO, ["--workflow=three"], "only one, two"),
        ("x = 1", [], "no workflow"),
        ("def f(:\n    pass", [], "line 1"),
        ("\n\nimport not_there_at_all", [], "line 3"),
        ("def f():\n    return 1 / 0\nf()", [], "ZeroDivisionError: division by zero"),
        ("import sys\nsys.exit(3)", [], "__main__"),
    ],
)
def test_a_file_that_gives_no_workflow_is_one_line(project, source, words, named):
    project.write(source)
    outcome = project.reflow("dag", project.file, *words)
    assert outcome.code == 1
    assert is_one_line(outcome.err)
    assert "pipeline.py" in outcome.err
    assert named in outcome.err


def test_a_missing_file_is_one_line(project):
    outcome = project.reflow("submit", "nowhere.py", "--run-dir", "run")
    assert outcome.code == 1
    assert is_one_line(outcome.err)
    assert "'nowhere.py'" in outcome.err


def test_modules_beside_the_file_can_be_imported(project, monkeypatch):
    project.write("NAME = 'helped'", "helper_beside.py")
    project.write(
        "import helper_beside\nfrom reflow import Workflow\nwf = Workflow(helper_beside.NAME)\n@wf.job()\ndef a(): ..."
    )
    monkeypatch.chdir("/")
    assert project.reflow("dag", project.file).out == "a\n"


def test_the_version(project):
    assert project.reflow("--version").out == f"reflow {reflow.__version__}\n"


def test_an_unknown_command_is_one_line_with_a_guess(project):
    outcome = project.pipeline("statsu")
    assert outcome.code == 2
    assert is_one_line(outcome.err)
    assert "Did you mean 'status'?" in outcome.err


def test_no_command_shows_the_commands(project):
    outcome = project.pipeline()
    assert (outcome.code, outcome.out) == (2, "")
    assert "submit" in outcome.err


def test_a_reader_that_goes_away_is_no_error(project):
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "reflow", "describe", "pipeline.py"],
        stdout=writer,
        stderr=subprocess.PIPE,
        timeout=60,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_warnings_are_plain_lines_on_stderr_and_each_is_said_once(project):
    project.write(
        """
        import logging
        from reflow import Workflow

        wf = Workflow("loud")
        for _ in range(3):
            logging.getLogger("reflow.something").warning("look at %s", "this")

        @wf.job()
        def a() -> None: ...
        """
    )
    outcome = project.reflow("dag", "pipeline.py")
    assert (outcome.out, outcome.err) == ("a\n", "Warning: look at this\n")
