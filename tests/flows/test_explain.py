"""`Run.explain`: why an instance was computed, and what has changed since."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import pytest

from reflow import Param, Result, RunDir, Workflow
from reflow.paths import RunFolder


@pytest.fixture
def workflow():
    made = Workflow("explained")

    @made.job()
    def items(first: int, data: Path, jobs: Annotated[int, Param(cache=False)] = 1) -> list[int]:
        return [first, 2, 3]

    @made.array_job()
    def scale(item: Annotated[int, Result("items")], by: float = 1.0) -> float:
        return item * by

    @made.array_job()
    def shift(value: Annotated[float, Result("scale")]) -> float:
        return value + 1

    @made.job()
    def total(values: Annotated[list[float], Result("shift")]) -> float:
        return sum(values)

    return made


@pytest.fixture
def run(workflow, store, tmp_path):
    """Run the workflow with these parameters, on one data file."""

    def start(data: str = "text", **parameters):
        path = tmp_path / "data"
        if not path.exists() or path.read_text() != data:
            path.write_text(data)
        return workflow.run_local(tmp_path / "run", store=store, data=path, **{"first": 1, **parameters})

    return start


def differences(run, task, index=None):
    return [(each.part, each.name, each.old, each.new) for each in run.explain(task, index).differences]


def test_the_first_of_its_name_has_nothing_before_it(run):
    found = run().explain("items")
    assert (found.outcome, found.reason) == ("miss", "there is no earlier success of task 'items'")


def test_a_hit_names_the_instance_whose_result_it_took(run):
    first, second = run(), run()
    found = second.explain("scale", 2)
    assert (found.outcome, found.against_run, found.against_index) == ("hit", first.run_id, 2)
    assert found.lines() == [
        f"scale[2] of {second.run_id}: used again: nothing that decides has changed since scale[2] of {first.run_id}"
    ]


def test_a_parameter_is_shown_with_its_old_and_its_new_value_and_one_that_does_not_count_is_not(run):
    run()
    assert differences(run(first=9, jobs=4), "items") == [("parameter", "'first'", "1", "9")]


def test_a_long_value_is_shortened(run):
    run()
    ((_, _, _, new),) = differences(run(first=10**200), "items")
    assert len(new) == 60
    assert new.endswith("...")


def test_a_file_is_shown_with_its_size_and_time(run):
    run()
    ((part, name, old, new),) = differences(run("longer text"), "items")
    assert (part, Path(name).name) == ("file", "data")
    assert old.startswith("4 bytes of 20")
    assert new.startswith("11 bytes of 20")


def test_an_element_names_the_upstream_element_that_differs(run):
    run()
    second = run(first=9)
    assert differences(second, "scale", 0) == [("upstream", "'item' from item 0 of items", "1", "9")]
    assert differences(second, "shift", 0) == [("upstream", "'value' from scale[0]", "1.0", "9.0")]
    assert differences(second, "total") == [("upstream", "'values' from shift[0]", "2.0", "10.0")]


def test_of_several_earlier_results_the_one_that_differs_least_is_compared(run):
    first = run()
    run(first=7, by=7.0)
    third = run(by=2.0)
    found = third.explain("scale", 0)
    assert (found.against_run, [each.part for each in found.differences]) == (first.run_id, ["parameter"])


def test_a_forced_run_says_so(workflow, store, run, tmp_path):
    run()
    forced = workflow.run_local(tmp_path / "run", store=store, data=tmp_path / "data", first=1, force_tasks=["items"])
    assert forced.explain("items").reason == "the run was submitted with --force-tasks for it"


def task_run_twice(store, tmp_path, decorate, between=lambda: None):
    for number in (1, 2):
        workflow = Workflow("twice")
        decorate(workflow, number)
        run = workflow.run_local(tmp_path / "twice" / str(number), store=store)
        between()
    return run.explain("task")


def test_a_task_that_is_never_cached_says_so(store, tmp_path):
    def decorate(workflow, number):
        @workflow.job(cache=False)
        def task() -> int:
            return 1

    assert task_run_twice(store, tmp_path, decorate).reason == "its decorator says cache=False"


def test_the_version_is_shown(store, tmp_path):
    def decorate(workflow, number):
        @workflow.job(version=str(number))
        def task() -> int:
            return 1

    (found,) = task_run_twice(store, tmp_path, decorate).differences
    assert (found.part, found.old, found.new) == ("version", "1", "2")


def test_another_run_directory_is_shown(store, tmp_path):
    def decorate(workflow, number):
        @workflow.job()
        def task(run_dir: RunDir) -> int:
            return 1

    (found,) = task_run_twice(store, tmp_path, decorate).differences
    assert (found.part, found.new) == ("run directory", str(tmp_path / "twice" / "2"))


def test_a_result_whose_file_is_gone_names_the_file(store, tmp_path):
    path = tmp_path / "output"

    def decorate(workflow, number):
        @workflow.job()
        def task() -> Path:
            path.write_text("text")
            return path

    found = task_run_twice(store, tmp_path, decorate, between=lambda: path.unlink(missing_ok=True))
    assert found.reason.endswith(f"cannot be used: files that it names are gone or changed; gone: {path}")


def test_an_input_of_which_nothing_can_be_told_is_named(store, tmp_path, monkeypatch):
    monkeypatch.setattr("reflow.fingerprints.MOST_ENTRIES", 1)
    (tmp_path / "many").mkdir()
    for name in "ab":
        (tmp_path / "many" / name).touch()

    def decorate(workflow, number):
        @workflow.job()
        def task(folder: Path = tmp_path / "many") -> int:
            return 1

    reason = task_run_twice(store, tmp_path, decorate).reason
    assert (
        reason == f"nothing can be told of parameter 'folder': {tmp_path / 'many'} is in a folder of more than 1 files"
    )


def test_changed_code_shows_which_function_and_how(workflow, store, run, tmp_path):
    first = run()
    second = workflow.run_local(tmp_path / "run", store=store, data=tmp_path / "data", first=1, force=True)
    for each, source in ((first, "def helper():\n    return 1\n"), (second, "def helper():\n    return 2\n")):
        plan = store.get_task_spec_record(each.run_id, "items")
        store.insert_task_spec(
            each.run_id, "items", False, {**plan.config, "code": source.encode().hex()}, plan.dependencies
        )
        folder = RunFolder(each.run_dir, each.run_id).code
        folder.mkdir(exist_ok=True)
        (folder / "parts.json").write_text(json.dumps({"items": {"main.helper": source, "main.items": "same"}}))
    settings = store.get_run_record(second.run_id).settings
    store.update_run_settings(second.run_id, {**settings, "force": False})

    (found,) = type(second)(second.run_id, store).explain("items").differences
    assert (found.part, found.name) == ("code", "main.helper")
    assert found.diff[-3:] == (" def helper():", "-    return 1", "+    return 2")


def test_the_json_form_is_plain(run):
    run()
    public = run(first=9).explain("items").to_public_dict()
    assert json.loads(json.dumps(public))["differences"] == [
        {"part": "parameter", "name": "'first'", "old": "1", "new": "9", "diff": []}
    ]
