"""Every type of parameter as an option."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import pytest

from .conftest import is_one_line

HEAD = """
    from dataclasses import dataclass
    from datetime import date, datetime
    from enum import Enum, IntEnum
    from pathlib import Path
    from typing import Annotated, Literal, NewType, Optional

    from reflow import Param, Workflow

    class Mode(Enum):
        FAST = "quick"
        SLOW = "slow"

    class Level(IntEnum):
        LOW = 1
        HIGH = 2

    @dataclass
    class Box:
        size: int
        label: str = "none"
        inside: "Box | None" = None

    Name = NewType("Name", str)

    wf = Workflow("types")

    @wf.job()
"""


def submitted(project, declaration, *words):
    """Submit a task of one parameter `x`, and return what the run was given; None when it was not given."""
    project.write(f"{HEAD}    def work(x: {declaration}) -> None: ...\n")
    outcome = project.pipeline("submit", "--run-dir", "run", "--executor", "local", *words)
    assert (outcome.code, outcome.err) == (0, ""), outcome.err
    run_id = outcome.out.split()[2]
    assert project.pipeline("cancel", run_id).code == 0
    return json.loads(project.pipeline("status", run_id, "--json").out)["parameters"].get("x")


@pytest.mark.parametrize(
    ("declaration", "words", "value"),
    [
        ("int", ["--x", "-5"], -5),
        ("float", ["--x", "1e-3"], 0.001),
        ("float", ["--x", "2"], 2.0),
        ("str", ["--x", "--force"], "--force"),
        ("str", ["--x="], ""),
        ("Name", ["--x", "a b"], "a b"),
        ("bool", ["--x"], True),
        ("bool", ["--no-x"], False),
        ("bool = True", [], None),
        ("Optional[bool] = None", ["--no-x"], False),
        ("Literal['a', 3]", ["--x", "3"], 3),
        ("Literal['a', 3]", ["--x", "a"], "a"),
        ("Mode", ["--x", "quick"], "quick"),
        ("Mode", ["--x", "FAST"], "quick"),
        ("Level", ["--x", "HIGH"], 2),
        ("list[int]", ["--x", "1", "--x", "-2"], [1, -2]),
        ("list[int] | None = None", ["--x", "1"], [1]),
        ("list[int] = [4]", [], None),
        ("int | None = None", ["--x", "7"], 7),
        ("int | str", ["--x", "7"], 7),
        ("int | str", ["--x", "seven"], "seven"),
        ("dict[str, int]", ["--x", '{"a": 1}'], {"a": 1}),
        ("tuple[int, str]", ["--x", '[1, "a"]'], [1, "a"]),
        ("list[dict[str, int]]", ["--x", '{"a": 1}', "--x", "{}"], [{"a": 1}, {}]),
        ("Box", ["--x", '{"size": 2}'], {"size": 2, "label": "none", "inside": None}),
        (
            "Box",
            ["--x", '{"size": 2, "inside": {"size": 1, "label": "in"}}'],
            {"size": 2, "label": "none", "inside": {"size": 1, "label": "in", "inside": None}},
        ),
        ("Annotated[int, Param(short='x')]", ["-x", "3"], 3),
    ],
)
def test_a_value_reaches_the_run(project, declaration, words, value):
    assert submitted(project, declaration, *words) == value


def test_paths_and_times_reach_the_run(project):
    assert Path(submitted(project, "Path", "--x", "a/b c")) == Path("a/b c")
    assert datetime.fromisoformat(submitted(project, "datetime", "--x", "2026-11-01T08:30")) == datetime(
        2026, 11, 1, 8, 30
    )


@pytest.mark.parametrize(
    ("declaration", "text", "named"),
    [
        ("int", "1.5", "a whole number"),
        ("float", "much", "a number"),
        ("datetime", "monday", "2026-11-01T08:30"),
        ("date", "monday", "a date, such as 2026-11-01"),
        ("Literal['a', 3]", "b", "one of a, 3"),
        ("Mode", "fast", "one of quick, slow"),
        ("Level", "3", "one of LOW, HIGH"),
        ("dict[str, int]", "a=1", "not JSON"),
        ("dict[str, int]", '{"a": "b"}', "dict[str, int]"),
        ("Box", "5", "Box"),
        ("Box", '{"label": "x"}', "needs size"),
        ("Box", '{"size": 1, "colour": 2}', "no field 'colour', only size, label, inside"),
        ("Box", '{"size": "big"}', "int"),
    ],
)
def test_a_wrong_text_is_one_line_that_says_what_to_write(project, declaration, text, named):
    project.write(f"{HEAD}    def work(x: {declaration}) -> None: ...\n")
    outcome = project.pipeline("submit", "--run-dir", "run", "--x", text)
    assert outcome.code == 2
    assert is_one_line(outcome.err)
    assert "--x" in outcome.err
    assert named in outcome.err


@pytest.mark.parametrize(
    ("declaration", "line"),
    [
        ("Mode = Mode.SLOW", "--x [quick|slow] [default: slow]"),
        ("Literal['a', 3]", "--x [a|3] [required]"),
        ("list[int] = [1, 2]", "--x INT [repeatable; default: 1, 2]"),
        ("bool = True", "--x / --no-x [default: x]"),
        ("Path | None = None", "--x PATH"),
        ("Annotated[str, Param(help='The word')] = 'a'", "--x TEXT The word [default: a]"),
        ("Box = Box(1)", '--x JSON [default: {"size": 1, "label": "none", "inside": null}]'),
    ],
)
def test_help_shows_type_and_default(project, declaration, line):
    project.write(f"{HEAD}    def work(x: {declaration}) -> None: ...\n")
    words = " ".join(project.pipeline("submit", "--help").out.split())
    assert f"Options: {line} --run-dir DIR" in words
