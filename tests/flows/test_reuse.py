"""What is used again and what is computed again, here and on the fake Slurm: the cache is never wrong."""

from __future__ import annotations

import importlib
import os
import sys
import textwrap
from pathlib import Path
from typing import Annotated

import pytest

from reflow import Config, Result, RunDir, RunState, SlurmExecutor, Workflow
from reflow.code import load_file
from reflow.config import DefaultsConfig
from reflow.dispatch import dispatch, open_run
from reflow.local_run import DirectExecutor
from reflow.signals import Interruption
from reflow.waves import WaveFile
from reflow.worker import run_slots

from . import reuse_scenarios
from .reuse_scenarios import counts
from .scenarios import survey


class Held(DirectExecutor):
    """Keeps what is submitted until `finish` runs it: a scheduler in whose queue a run waits."""

    name = "held"
    kept: list[Held] = []  # noqa: RUF012 (the run finds the executor of its last submit here)

    def __init__(self) -> None:
        super().__init__()
        Held.kept.append(self)


class Unguarded(SlurmExecutor):
    """Slurm without sentinels, which are half of all processes here, and whose subject this is not."""

    needs_sentinel = False


def finish(run, *, dispatch_from: Path) -> None:
    """Run what was submitted and what follows, dispatching from another folder."""
    executor, home = Held.kept[-1], Path.cwd()
    while executor.waves:
        wave = executor.waves.popleft()
        os.chdir(home)
        run_slots(WaveFile(wave.path), wave.slots, Interruption(), stop_on_failure=False, own_logs=False)
        os.chdir(dispatch_from)
        run._store.merge(wait=True)
        run._store.request_dispatch(run.run_id)
        dispatch(open_run(run._store, run.run_id, executor), wait=True)


@pytest.fixture(params=["run_local", "fake Slurm"])
def start(request):
    """Run a workflow to its end, in one place or the other."""
    if request.param == "run_local":
        return lambda workflow, folder, **options: workflow.run_local(folder, **options)
    request.getfixturevalue("fake_slurm")

    def submit(workflow, folder, **options):
        run = workflow.submit(folder, executor=Unguarded(), **options)
        run.wait(300)
        return run

    return submit


def test_every_row_of_the_table_is_used_again_or_computed_again_as_it_must(tmp_path, store, start, monkeypatch):
    pipeline = reuse_scenarios.Pipeline(tmp_path / "pipeline")
    before = pipeline.workflow("before")
    parameters = pipeline.parameters(before, "before")
    first = before.run_local(tmp_path / "first", store=store, **parameters)
    assert first.state is RunState.SUCCESS, first.status(as_dict=True, errors=True)
    # What only workers know of is made in the place itself; all of it there would take as long again as the rest.
    forced = reuse_scenarios.MADE_BY_WORKERS
    made = start(before, tmp_path / "first", store=store, force_tasks=forced, **parameters)
    assert made.state is RunState.SUCCESS, made.status(as_dict=True, errors=True)
    assert {counts(made, [task])[task][0] for task in forced} == {0}
    assert counts(made, ["value0", "same_third"]) == {"value0": (1, 0), "same_third": (3, 0)}

    monkeypatch.setenv("REUSE_TABLE_VERSION", "2")
    pipeline.change_outputs()
    after = pipeline.workflow("after")
    parameters = pipeline.parameters(after, "after")
    second = start(after, tmp_path / "second", store=store, force_tasks=["writes_again"], **parameters)
    assert second.state is RunState.SUCCESS, second.status(as_dict=True, errors=True)

    tasks = {task for row in reuse_scenarios.ROWS for task in row.wanted}
    table = reuse_scenarios.report(reuse_scenarios.counts(second, tasks))
    print("\n".join(table))
    assert [line for line in table if line.endswith("WRONG")] == []
    assert len(reuse_scenarios.ROWS) >= 40


def pipeline(folder: Path, body: str, name: str = "main") -> Workflow:
    """Return the workflow `wf` of a pipeline file with these lines under the imports."""
    head = (
        "from pathlib import Path\nfrom typing import Annotated, Any\n"
        f"from reflow import Param, Result, RunDir, Workflow\nwf = Workflow({name!r})\n"
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pipeline.py").write_text(head + textwrap.dedent(body))
    sys.modules.pop("helping", None)
    sys.path[:] = [str(folder), *(each for each in sys.path if not each.startswith(str(folder.parent)))]
    return load_file(folder / "pipeline.py").wf


CODE = """
    {import_}
    FACTOR = {constant}

    def helper(x):
        return x * {factor}

    @wf.job({options})
    def work(x: int = 2) -> int:
        {comment}
        return helper(x) * FACTOR
"""
PLAIN = {"import_": "", "constant": "1", "factor": "1", "options": "", "comment": "pass"}


@pytest.mark.parametrize(
    ("change", "reused"),
    [
        ({}, True),
        ({"comment": "# a comment\n        pass"}, True),
        ({"factor": "(1)"}, True),
        ({"factor": "2"}, False),
        ({"constant": "2"}, False),
        ({"options": "mem='1G', time='10'"}, True),
        ({"options": "version='2'"}, False),
    ],
    ids=str,
)
def test_a_change_of_the_code_that_a_task_reaches_recomputes_and_one_of_its_spelling_does_not(
    tmp_path, store, change, reused
):
    for number, words in enumerate([PLAIN, {**PLAIN, **change}]):
        run = pipeline(tmp_path / str(number), CODE.format(**words)).run_local(tmp_path / "run", store=store)
    assert counts(run, ["work"]) == {"work": (1, 0) if reused else (0, 1)}


def test_a_change_in_a_module_beside_the_pipeline_recomputes(tmp_path, store):
    for number, factor in enumerate(["1", "2"]):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "helping.py").write_text(f"def help(x):\n    return x * {factor}\n")
        body = "import helping\n@wf.job()\ndef work(x: int = 2) -> int:\n    return helping.help(x)\n"
        run = pipeline(tmp_path / str(number), body).run_local(tmp_path / "run", store=store)
    assert counts(run, ["work"]) == {"work": (0, 1)}
    assert run.results("work") == 4


def test_with_cache_version_the_code_may_change_but_not_the_version_and_not_the_workflow(tmp_path, store):
    body = "@wf.job(cache='version', version={version!r})\ndef work(x: int = 2) -> int:\n    return x + {number}\n"
    found = []
    for number, (version, name) in enumerate([("1", "main"), ("1", "main"), ("2", "main"), ("1", "other")]):
        workflow = pipeline(tmp_path / str(number), body.format(version=version, number=number), name)
        found.append(counts(workflow.run_local(tmp_path / "run", store=store), ["work"])["work"])
    assert found == [(0, 1), (1, 0), (0, 1), (0, 1)]


def test_two_workflows_share_a_result_only_where_code_and_inputs_are_the_same(tmp_path, store):
    body = "@wf.job()\ndef work(x: int = 2) -> int:\n    return x + {number}\n"
    first = pipeline(tmp_path / "0", body.format(number=0), "first").run_local(tmp_path / "run", store=store)
    other = pipeline(tmp_path / "1", body.format(number=1), "other").run_local(tmp_path / "run", store=store)
    assert (first.results("work"), other.results("work")) == (2, 3)


def test_another_run_directory_never_gets_the_paths_of_the_first_one(tmp_path, store):
    workflow = Workflow("folders")

    @workflow.job()
    def write(run_dir: RunDir) -> Path:
        (run_dir / "result.txt").write_text("text")
        return run_dir / "result.txt"

    @workflow.job()
    def read(path: Annotated[Path, Result("write")]) -> str:
        return path.read_text()

    tasks = ["write", "read"]
    workflow.run_local(tmp_path / "first", store=store)
    second = workflow.run_local(tmp_path / "second", store=store)
    assert second.results("write") == tmp_path / "second" / "result.txt"
    assert counts(second, tasks) == {"write": (0, 1), "read": (0, 1)}
    assert counts(workflow.run_local(tmp_path / "first", store=store), tasks) == {"write": (1, 0), "read": (1, 0)}


def test_a_relative_path_is_the_file_where_the_tasks_run_whoever_dispatches_from_where(tmp_path, store, monkeypatch):
    workflow = Workflow("relative")

    @workflow.job()
    def first() -> int:
        return 1

    @workflow.job()
    def read(after: Annotated[int, Result("first")], path: Path) -> str:
        return path.read_text()

    def run_from(folder: Path, text: str) -> tuple[str, tuple[int, int]]:
        (tmp_path / "home" / "data").write_text(text)
        monkeypatch.chdir(tmp_path / "home")
        run = workflow.submit(tmp_path / "run", store=store, executor=Held(), path=Path("data"))
        finish(run, dispatch_from=folder)
        return run.results("read"), counts(run, ["read"])["read"]

    for name in ("home", "away"):
        (tmp_path / name).mkdir()
    assert run_from(tmp_path / "away", "one") == ("one", (0, 1))
    assert run_from(tmp_path / "away", "other") == ("other", (0, 1))


def test_a_result_whose_input_file_changed_while_the_function_ran_is_never_used_again(tmp_path, store):
    workflow = Workflow("racing")
    source, running = tmp_path / "source", tmp_path / "running"

    @workflow.job()
    def copy(path: Path) -> str:
        if running.exists():
            path.write_text("changed")
        return path.read_text()

    def put(text: str) -> None:
        source.write_text(text)
        os.utime(source, (1_000_000_000, 1_000_000_000))

    put("first")
    running.touch()
    assert workflow.run_local(tmp_path / "run", store=store, path=source).results("copy") == "changed"
    running.unlink()
    put("first")
    again = workflow.run_local(tmp_path / "run", store=store, path=source)
    assert again.results("copy") == "first"
    assert counts(again, ["copy"]) == {"copy": (0, 1)}


def test_elements_of_a_chain_that_also_take_from_a_list_are_told_apart_by_both(tmp_path, store):
    workflow = Workflow("zipped")

    @workflow.job()
    def numbers(seed: int) -> list[int]:
        return [seed, seed]

    @workflow.job()
    def names(end: str) -> list[str]:
        return ["a", end]

    @workflow.array_job()
    def zero(number: Annotated[int, Result("numbers")]) -> int:
        return 0

    @workflow.array_job()
    def join(number: Annotated[int, Result("zero")], name: Annotated[str, Result("names")]) -> str:
        return f"{name}{number}"

    first = workflow.run_local(tmp_path, store=store, seed=1, end="b")
    assert first.results("join") == ["a0", "b0"]
    again = workflow.run_local(tmp_path, store=store, seed=2, end="c")
    assert again.results("join") == ["a0", "c0"]
    assert counts(again, ["zero", "join"]) == {"zero": (0, 2), "join": (1, 1)}


def test_an_element_that_finds_its_result_when_it_starts_counts_as_cached_in_the_status(tmp_path, store, start):
    workflow = Workflow("late")

    @workflow.job()
    def numbers() -> list[int]:
        return [0, 1, 2]

    @workflow.array_job()
    def parity(number: Annotated[int, Result("numbers")]) -> int:
        return number % 2

    @workflow.array_job()
    def name(number: Annotated[int, Result("parity")]) -> str:
        return f"{number}"

    start(workflow, tmp_path, store=store)
    again = start(workflow, tmp_path, store=store, force_tasks=["parity"])
    tasks = again.status(as_dict=True)["tasks"]
    assert {each: (tasks[each]["counts"], tasks[each]["cached"]) for each in tasks} == {
        "numbers": ({"SUCCESS": 1}, 1),
        "parity": ({"SUCCESS": 3}, 0),
        "name": ({"SUCCESS": 3}, 3),
    }
    assert again.results("name") == ["0", "1", "0"]


def test_a_forced_element_behind_a_chain_does_not_look(tmp_path, store):
    workflow = Workflow("forced")

    @workflow.job()
    def numbers() -> list[int]:
        return [0, 1]

    @workflow.array_job()
    def parity(number: Annotated[int, Result("numbers")]) -> int:
        return number % 2

    @workflow.array_job()
    def name(number: Annotated[int, Result("parity")]) -> str:
        return f"{number}"

    workflow.run_local(tmp_path, store=store)
    assert counts(workflow.run_local(tmp_path, store=store, force=True), ["name"]) == {"name": (0, 2)}


def test_a_run_that_the_cache_knows_is_over_when_submit_returns_and_asks_the_scheduler_for_nothing(tmp_path, store):
    survey().run_local(tmp_path, store=store, size=4)
    run = survey().submit(tmp_path, store=store, executor=Held(), size=4)
    assert run.state is RunState.SUCCESS
    assert run._store.list_waves(run.run_id) == []


def test_one_of_a_thousand_changed_recomputes_one_on_every_stage_and_one_appended_one(tmp_path, store):
    workflow = Workflow("thousand")

    @workflow.job()
    def items(width: int, changed: int = -1) -> list[int]:
        return [-number if number == changed else number for number in range(width)]

    @workflow.array_job()
    def first(item: Annotated[int, Result("items")]) -> int:
        return item + 1

    @workflow.array_job()
    def second(item: Annotated[int, Result("first")]) -> int:
        return item * 2

    @workflow.array_job()
    def third(item: Annotated[int, Result("second")]) -> int:
        return item - 1

    @workflow.job()
    def total(values: Annotated[list[int], Result("third")]) -> int:
        return sum(values)

    stages = ["first", "second", "third", "total"]
    workflow.run_local(tmp_path, store=store, width=1000)
    changed = workflow.run_local(tmp_path, store=store, width=1000, changed=500)
    assert counts(changed, stages) == {**dict.fromkeys(stages[:3], (999, 1)), "total": (0, 1)}
    assert changed.results("total") == sum(2 * (item + 1) - 1 for item in range(1000)) - 2000
    appended = workflow.run_local(tmp_path, store=store, width=1001)
    assert counts(appended, stages) == {**dict.fromkeys(stages[:3], (1000, 1)), "total": (0, 1)}


def test_with_verify_a_result_that_names_an_empty_file_or_none_is_not_used_again(tmp_path, store):
    workflow = Workflow("verified")

    @workflow.job()
    def empty() -> Path:
        (tmp_path / "empty").touch()
        return tmp_path / "empty"

    @workflow.job()
    def nothing() -> Path:
        return tmp_path / "nothing"

    @workflow.job()
    def full() -> Path:
        (tmp_path / "full").write_text("text")
        return tmp_path / "full"

    tasks = ["empty", "nothing", "full"]
    workflow.run_local(tmp_path, store=store)
    assert counts(workflow.run_local(tmp_path, store=store), tasks) == dict.fromkeys(tasks, (1, 0))
    verified = workflow.run_local(tmp_path, store=store, verify=True)
    assert counts(verified, tasks) == {"empty": (0, 1), "nothing": (0, 1), "full": (1, 0)}


def test_a_folder_of_too_many_files_is_recomputed_and_never_guessed(tmp_path, store, monkeypatch):
    monkeypatch.setattr("reflow.fingerprints.MOST_ENTRIES", 5)
    workflow = Workflow("crowded")

    @workflow.job()
    def count(folder: Path) -> int:
        return len(list(folder.iterdir()))

    (tmp_path / "data").mkdir()
    for number in range(5):
        (tmp_path / "data" / str(number)).touch()
    for _ in range(2):
        run = workflow.run_local(tmp_path, store=store, folder=tmp_path / "data")
    assert counts(run, ["count"]) == {"count": (1, 0)}
    (tmp_path / "data" / "one more").touch()
    for _ in range(2):
        run = workflow.run_local(tmp_path, store=store, folder=tmp_path / "data")
    assert counts(run, ["count"]) == {"count": (0, 1)}


def test_files_count_with_their_content_where_the_configuration_says_so(tmp_path, store):
    workflow = Workflow("contents", config=Config(defaults=DefaultsConfig(path_fingerprint="content")))

    @workflow.job()
    def write(text: str) -> Path:
        (tmp_path / "out").write_text(text)
        return tmp_path / "out"

    @workflow.job()
    def read(path: Annotated[Path, Result("write")]) -> str:
        return path.read_text()

    workflow.run_local(tmp_path, store=store, text="one")
    forced = workflow.run_local(tmp_path, store=store, text="one", force_tasks=["write"])
    assert counts(forced, ["write", "read"]) == {"write": (0, 1), "read": (1, 0)}
    (tmp_path / "out").write_text("two")  # the size is the same, and the time may be
    changed = workflow.run_local(tmp_path, store=store, text="one")
    assert counts(changed, ["write", "read"]) == {"write": (0, 1), "read": (1, 0)}


def test_a_change_of_one_task_leaves_the_others_cached(tmp_path, store):
    body = """
        @wf.job()
        def first() -> int:
            return 1

        @wf.job()
        def second(x: Annotated[int, Result("first")]) -> int:
            return x + {number}
    """
    for number in (1, 2):
        run = pipeline(tmp_path / str(number), body.format(number=number)).run_local(tmp_path / "run", store=store)
    assert counts(run, ["first", "second"]) == {"first": (1, 0), "second": (0, 1)}
    explanation = run.explain("second")
    assert [each.part for each in explanation.differences] == ["code"]
    assert [line for line in explanation.differences[0].diff if line.startswith(("-  ", "+  "))] == [
        "-    return x + 1",
        "+    return x + 2",
    ]


STARS = """
    from dataclasses import dataclass
    from enum import Enum
    from typing import NamedTuple, TypedDict

    {imported}

    @dataclass
    class Star:
        {star}

    class Colour(Enum):
        {colour}

    class Place(NamedTuple):
        {place}
"""
USES_STARS = """
    import starbase

    @wf.job({options})
    def make() -> {returns}:
        return {value}

    @wf.job()
    def use(given: Annotated[{returns}, Result("make")]) -> str:
        return str(given)
"""
STAR = {"imported": "", "star": "mass: float = 1", "colour": "RED = 1", "place": "x: int = 1; y: int = 2"}
VALUES = {
    "starbase.Star": "starbase.Star()",
    "list[starbase.Star]": "[starbase.Star()]",
    "starbase.Colour": "starbase.Colour.RED",
    "starbase.Place": "starbase.Place()",
}


@pytest.mark.parametrize("options", ["", "cache='version'"])
@pytest.mark.parametrize(
    ("returns", "change", "reused"),
    [
        ("starbase.Star", {"imported": "import math"}, True),
        ("starbase.Star", {"star": "mass: float = 1; name: str = ''"}, False),
        ("starbase.Star", {"star": "name: str = ''"}, False),
        ("list[starbase.Star]", {"star": "pass"}, False),
        ("starbase.Colour", {"colour": "RED = 1; BLUE = 2"}, False),
        ("starbase.Place", {"place": "y: int = 2; x: int = 1"}, False),
    ],
    ids=str,
)
def test_a_result_of_a_class_outside_the_users_code_is_computed_again_when_its_fields_have_changed(
    tmp_path, store, monkeypatch, returns, change, reused, options
):
    package = tmp_path / "site-packages"
    package.mkdir()
    monkeypatch.syspath_prepend(package)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # two versions of a file in one second look alike
    for number, words in enumerate([STAR, {**STAR, **change}]):
        (package / "starbase.py").write_text(textwrap.dedent(STARS.format(**words)))
        sys.modules.pop("starbase", None)
        importlib.invalidate_caches()
        body = USES_STARS.format(returns=returns, value=VALUES[returns], options=options)
        run = pipeline(tmp_path / "own" / str(number), body).run_local(tmp_path / "run", store=store)
    assert run.state is RunState.SUCCESS, run.status(as_dict=True, errors=True)
    assert counts(run, ["make"]) == {"make": (1, 0) if reused else (0, 1)}
    if not reused:
        (difference,) = run.explain("make").differences
        assert (difference.part, difference.name) == ("code", "result (type)")
        assert len([line for line in difference.diff if line.startswith(("-", "+"))]) >= 3


def test_results_whose_files_are_gone_or_changed_are_named(tmp_path, store):
    workflow = Workflow("retried")

    @workflow.job()
    def write() -> Path:
        (tmp_path / "out").write_text("text")
        return tmp_path / "out"

    @workflow.job()
    def read(path: Annotated[Path, Result("write")]) -> str:
        raise RuntimeError(path.name)

    run = workflow.run_local(tmp_path / "run", store=store)
    assert run.damaged_results() == {}
    (tmp_path / "out").unlink()
    assert run.damaged_results() == {"write": [None]}
