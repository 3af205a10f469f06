"""The table of what is used again: a change between two runs of one workflow, and the counts that it must lead to."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path, PurePosixPath
from typing import Any

import numpy

from reflow import Workflow
from reflow.code import load_file
from reflow.run import Run

from .scenarios import PIPELINES

REUSED, AGAIN = (1, 0), (0, 1)
UTC, PARIS = timezone.utc, timezone(timedelta(hours=1))


@dataclass(frozen=True)
class Row:
    """One row: what changes, and how many instances of which task are reused and recomputed."""

    change: str
    #: Values of parameters in the two runs, by key; a function is given the folder of files and makes the value.
    before: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)
    wanted: dict[str, tuple[int, int]] = field(default_factory=dict)


def value(number: int, change: str, before: Any, after: Any, wanted: tuple[int, int]) -> Row:
    """A row about the one parameter of a task of its own."""
    task = f"value{number}"
    return Row(change, {f"{task}_x": before}, {f"{task}_x": after}, {task: wanted})


def stage(change: str, before: list[int], after: list[int], again: int, items: tuple[int, int] = AGAIN) -> Row:
    """A row about the items of a fan-out with two chains and a gather behind it."""
    name, rest = change.split()[0], (len(after) - again, again)
    arrays = {f"{name}_{task}": rest for task in ("first", "second", "third")}
    total = REUSED if before == after else AGAIN
    wanted = {f"{name}_items": items, **arrays, f"{name}_total": total}
    return Row(change, {f"{name}_items_x": before}, {f"{name}_items_x": after}, wanted)


def file(name: str, text: str = "text", *, mtime: int = 1_000_000_000) -> Callable[[Path], Path]:
    """A value that is the path of a file with this content and time of change."""

    def make(folder: Path) -> Path:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        os.utime(path, (mtime, mtime))
        return path

    return make


def folder_of(name: str, **files: str) -> Callable[[Path], Path]:
    """A value that is the path of a folder with these files."""

    def make(folder: Path) -> Path:
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir()
        for inner, text in files.items():
            file(f"{name}/{inner}", text)(folder)
        os.utime(folder / name, (1_000_000_000, 1_000_000_000))
        return folder / name

    return make


def link(name: str, target: str) -> Callable[[Path], Path]:
    """A value that is a symbolic link to one of two files of the same size and time."""

    def make(folder: Path) -> Path:
        file("target-1", "1111")(folder)
        file("target-2", "2222")(folder)
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)
        return folder / name

    return make


def no_file(name: str) -> Callable[[Path], Path]:
    """A value that is the path of no file."""

    def make(folder: Path) -> Path:
        (folder / name).unlink(missing_ok=True)
        return folder / name

    return make


def device(folder: Path) -> Path:
    """A value that is a path of which nothing honest can be said."""
    path = folder / "pipe"
    if not path.exists():
        os.mkfifo(path)
    return path


NAN = float("nan")
MOMENT = datetime(2026, 1, 1, 12, tzinfo=UTC)

ROWS = [
    value(0, "nothing", 1, 1, REUSED),
    value(1, "number changed", 1, 2, AGAIN),
    value(2, "1 to '1'", 1, "1", AGAIN),
    value(3, "1 to 1.0", 1, 1.0, AGAIN),
    value(4, "1 to True", 1, True, AGAIN),
    value(5, "'1' to Path('1')", "1", Path("1"), AGAIN),
    value(6, "0.0 to -0.0", 0.0, -0.0, AGAIN),
    value(7, "NaN stays NaN", NAN, -NAN, REUSED),
    value(8, "order of a dict", {"a": 1, "b": 2}, {"b": 2, "a": 1}, REUSED),
    value(9, "order of a set", {"x", "y", "z"}, {"z", "y", "x"}, REUSED),
    value(10, "order of a list", [1, 2], [2, 1], AGAIN),
    value(11, "list to tuple", [1], (1,), AGAIN),
    value(12, "deep inside", {"a": [{"b": 1}]}, {"a": [{"b": 2}]}, AGAIN),
    value(13, "None to 'None'", None, "None", AGAIN),
    value(14, "bytes to text", b"1", "1", AGAIN),
    value(15, "same bytes", b"\0\xff", b"\0\xff", REUSED),
    value(16, "1 to numpy's 1", 1, numpy.int64(1), AGAIN),
    value(17, "numpy's type", numpy.float32(1), numpy.float64(1), AGAIN),
    value(18, "same array", numpy.arange(9.0), numpy.arange(9.0), REUSED),
    value(19, "one item of an array", numpy.array([1.0, 2.0]), numpy.array([1.0, 3.0]), AGAIN),
    value(20, "shape of an array", numpy.ones(4), numpy.ones((2, 2)), AGAIN),
    value(21, "same moment", MOMENT, datetime(2026, 1, 1, 12, tzinfo=UTC), REUSED),
    value(22, "time zone", MOMENT, datetime(2026, 1, 1, 13, tzinfo=PARIS), AGAIN),
    value(23, "key of a dict, 1 to '1'", {1: 0}, {"1": 0}, AGAIN),
    value(24, "same file", file("same"), file("same"), REUSED),
    value(25, "content of a file", file("content", "1"), file("content", "22"), AGAIN),
    value(26, "file touched", file("touched"), file("touched", mtime=1_000_000_001), AGAIN),
    value(27, "file deleted", file("deleted"), no_file("deleted"), AGAIN),
    value(28, "file made", no_file("made"), file("made"), AGAIN),
    value(29, "still no file", no_file("absent"), no_file("absent"), REUSED),
    value(30, "same folder", folder_of("whole", a="1", b="2"), folder_of("whole", a="1", b="2"), REUSED),
    value(31, "file in a folder", folder_of("inside", a="1"), folder_of("inside", a="22"), AGAIN),
    value(32, "file added to a folder", folder_of("more", a="1"), folder_of("more", a="1", b=""), AGAIN),
    value(33, "link to another file", link("link", "target-1"), link("link", "target-2"), AGAIN),
    value(34, "a pipe, of which nothing can be told", device, device, AGAIN),
    value(35, "Path to PurePath", Path("p"), PurePosixPath("p"), AGAIN),
    Row("enum", {"color_x": "RED"}, {"color_x": "BLUE"}, {"color": AGAIN}),
    Row("same dataclass", {"star_x": ("a", 1.0)}, {"star_x": ("a", 1.0)}, {"star": REUSED}),
    Row("field of a dataclass", {"heavier_x": ("a", 1.0)}, {"heavier_x": ("a", 2.0)}, {"heavier": AGAIN}),
    Row("default given", {}, {"default_x": 3}, {"default": REUSED}),
    Row("Param(cache=False)", {"threads_x": 1}, {"threads_x": 8}, {"threads": REUSED}),
    Row(
        "file touched, Param(content=True)",
        {"reads_x": file("read")},
        {"reads_x": file("read", mtime=1_000_000_001)},
        {"reads": REUSED},
    ),
    Row(
        "content under the same size and time, Param(content=True)",
        {"reads_restored_x": file("restored", "1")},
        {"reads_restored_x": file("restored", "2")},
        {"reads_restored": AGAIN},
    ),
    Row("cache=False", wanted={"uncached": AGAIN}),
    Row("version", wanted={"versioned": AGAIN}),
    Row("other run directory, RunDir taken", wanted={"knows_run_dir": AGAIN}),
    Row("other run directory, RunDir not taken", wanted={"ignores_run_dir": REUSED}),
    Row("output file intact", wanted={"writes": REUSED, "after_writes": REUSED}),
    Row("output file deleted", wanted={"writes_deleted": AGAIN, "after_writes_deleted": AGAIN}),
    Row("output file changed", wanted={"writes_changed": AGAIN, "after_writes_changed": AGAIN}),
    Row("forced", wanted={"writes_again": AGAIN}),
    Row("verify= accepts", wanted={"accepted": REUSED}),
    Row("verify= rejects", wanted={"rejected": AGAIN}),
    stage("same items", [1, 2, 3], [1, 2, 3], 0, REUSED),
    stage("changed one of four", [1, 2, 3, 4], [1, 2, 9, 4], 1),
    stage("appended one", [1, 2, 3], [1, 2, 3, 4], 1),
    stage("inserted in the middle", [1, 2, 3], [1, 9, 2, 3], 1),
    stage("reordered", [1, 2, 3], [3, 1, 2], 0),
    stage("removed one", [1, 2, 3], [1, 3], 0),
    Row(
        "upstream ran again to the same output",
        {"sign_x": 5, "parity_x": 5},
        {"sign_x": 6, "parity_x": 6},
        {"sign": AGAIN, "parity": (0, 3), "half": (3, 0), "sum_of_halves": REUSED, "weigh": (3, 0)},
    ),
]


#: Tasks whose elements learn their identity when they start, or whose files are looked at where they run.
MADE_BY_WORKERS = (
    *("changed_first", "changed_second", "changed_third", "parity", "half", "sum_of_halves"),
    *("writes", "writes_deleted", "writes_changed", "reads"),
)


@dataclass(frozen=True)
class Pipeline:
    """The workflow and its two runs' parameters."""

    folder: Path

    def __post_init__(self) -> None:
        (self.folder / "files").mkdir(parents=True)

    def workflow(self, which: str) -> Workflow:
        """Return a copy of the workflow: of the same text, and of the version that the environment says."""
        copy = self.folder / which / "reuse_table.py"
        copy.parent.mkdir(exist_ok=True)
        shutil.copy(PIPELINES / "reuse_table.py", copy)
        return load_file(copy).wf

    def parameters(self, workflow: Workflow, which: str) -> dict[str, Any]:
        """Return the run's parameters; makes the files."""
        module = load_file(self.folder / which / "reuse_table.py")
        given: dict[str, Any] = {f"value{number}_x": None for number in range(module.VALUES)}
        for task in ("writes", "writes_deleted", "writes_changed", "writes_again"):
            given[f"{task}_x"] = self.folder / "files" / task
        for row in ROWS:
            for key, each in (row.before if which == "before" else row.after).items():
                made = each(self.folder / "files") if callable(each) else each
                if key == "color_x":
                    made = module.Color[made]
                elif key in ("star_x", "heavier_x"):
                    made = module.Star(*made)
                given[key] = made
        return given

    def change_outputs(self) -> None:
        """Do between the runs to the files of results what some rows are about."""
        (self.folder / "files" / "writes_deleted").unlink()
        (self.folder / "files" / "writes_changed").write_text("something else")


def counts(run: Run, tasks: Any) -> dict[str, tuple[int, int]]:
    """Return by task how many instances were used again, and how many ran."""
    found = {}
    for task in tasks:
        rows = run._store.list_task_instance_records(run.run_id, task)
        reused = sum(row.cached_from is not None for row in rows)
        found[task] = (reused, len(rows) - reused)
    return found


def report(found: dict[str, tuple[int, int]]) -> list[str]:
    """Return the table: change, task, wanted and found counts of reused and recomputed instances."""
    lines = [f"{'change':<58} {'task':<22} {'wanted':>9} {'found':>9}"]
    for row in ROWS:
        for task, wanted in row.wanted.items():
            mark = "" if found[task] == wanted else "  <- WRONG"
            lines.append(f"{row.change:<58} {task:<22} {_pair(wanted):>9} {_pair(found[task]):>9}{mark}")
    return lines


def _pair(counted: tuple[int, int]) -> str:
    return f"{counted[0]} / {counted[1]}"
