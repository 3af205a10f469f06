"""A retry makes again what succeeded and is damaged since, and all that was made from it; never anything else."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import pytest

from reflow import Config, Result, RunDir, RunState, TaskState, Workflow
from reflow.config import DefaultsConfig
from reflow.errors import ReflowError, RetryRefused
from reflow.indices import Indices
from reflow.paths import RunFolder
from reflow.states import WAITING
from reflow.stores.locking import hold

from .reuse_scenarios import counts
from .scenarios import states


def files_of(size: int = 4) -> Workflow:
    """A file for each element, its length in a chain, their sum, and arrays with and without a share in it."""
    workflow = Workflow("files")

    def called(run_dir: Path, name: str) -> None:
        with (run_dir / "calls").open("a") as calls:
            calls.write(f"{name}\n")

    @workflow.job()
    def numbers() -> list[int]:
        return list(range(size))

    @workflow.array_job()
    def write(number: Annotated[int, Result("numbers")], run_dir: RunDir) -> Path:
        called(run_dir, f"write {number}")
        path = run_dir / f"file-{number}"
        path.write_text("x" * number)
        return path

    @workflow.array_job()
    def length(path: Annotated[Path, Result("write")], run_dir: RunDir) -> int:
        called(run_dir, f"length {path.name[5:]}")
        return len(path.read_text())

    @workflow.job()
    def total(values: Annotated[list[int], Result("length")], run_dir: RunDir) -> int:
        called(run_dir, "total")
        if (run_dir / "broken").exists():
            raise RuntimeError("broken")
        return sum(values)

    @workflow.array_job()
    def share(
        number: Annotated[int, Result("numbers")], whole: Annotated[int, Result("total", broadcast=True)]
    ) -> float:
        return number / whole

    @workflow.array_job()
    def apart(number: Annotated[int, Result("numbers")], run_dir: RunDir) -> int:
        called(run_dir, f"apart {number}")
        return number

    return workflow


def calls(run) -> Counter:
    return Counter((run.run_dir / "calls").read_text().splitlines())


def identities(run, task):
    return [each.identity for each in run._store.list_task_instance_records(run.run_id, task)]


def test_a_purged_file_is_made_again_with_what_was_made_from_it_and_nothing_else(tmp_path, store, executor):
    run = files_of().submit(tmp_path / "run", store=store, executor=executor)
    assert run.wait(120) is RunState.SUCCESS, run.status(as_dict=True, errors=True)
    assert (run.retry(), run.state) == (0, RunState.SUCCESS)
    before = identities(run, "length")
    (run.run_dir / "file-3").unlink()
    assert run.damaged_results() == {"write": [3]}
    retried = run.retry_and_tell()
    assert retried.count == 1 + 1 + 1 + 4
    assert list(retried.lines()) == [
        "Again, although it had succeeded: write[3] (files are gone or changed, or verify= says no)",
        "Again, although it had succeeded: length[3] (made from a result that is made again)",
        "Again, although it had succeeded: total (made from a result that is made again)",
        "Again, although it had succeeded: share[0] and 3 more (made from a result that is made again)",
    ]
    assert run.wait(120) is RunState.SUCCESS, run.status(as_dict=True, errors=True)
    assert (run.run_dir / "file-3").read_text() == "xxx"
    assert run.results("share") == [number / 6 for number in range(4)]
    twice = {name for name, count in calls(run).items() if count == 2}
    assert (twice, max(calls(run).values())) == ({"write 3", "length 3", "total"}, 2)
    after = identities(run, "length")
    assert after[:3] == before[:3]
    assert after[3] not in ("", before[3])
    assert store.counts.wrong() == []
    assert run.damaged_results() == {}
    assert run.retry() == 0


def test_a_failed_run_makes_the_purged_files_again_and_then_what_failed(tmp_path, store, executor):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "broken").touch()
    run = files_of().submit(tmp_path / "run", store=store, executor=executor)
    assert run.wait(120) is RunState.FAILED
    (run.run_dir / "broken").unlink()
    for number in range(4):
        (run.run_dir / f"file-{number}").unlink()
    assert run.retry() == 4 + 4 + 1
    assert run.wait(120) is RunState.SUCCESS, run.status(as_dict=True, errors=True)
    assert run.results("total") == 6
    assert calls(run)["total"] == 2


def test_without_verify_only_what_failed_is_tried_again(tmp_path, store):
    (tmp_path / "broken").touch()
    run = files_of().run_local(tmp_path, store=store, on_error="continue")
    (tmp_path / "broken").unlink()
    (tmp_path / "file-3").unlink()
    assert run.retry(verify=False) == 1
    assert run.wait(60) is RunState.SUCCESS
    assert calls(run)["write 3"] == 1


def test_a_retry_of_one_task_looks_at_that_task_and_names_the_damage_of_others(tmp_path, store, caplog):
    (tmp_path / "broken").touch()
    run = files_of().run_local(tmp_path, store=store, on_error="continue")
    (tmp_path / "broken").unlink()
    (tmp_path / "file-3").unlink()
    assert run.retry("total") == 1
    assert "'write': 1 result(s), the first of them write[3], are damaged" in caplog.text
    assert run.wait(60) is RunState.SUCCESS
    assert run.retry("write") == 1 + 1 + 1 + 4
    assert run.wait(60) is RunState.SUCCESS
    assert calls(run)["write 3"] == 2


def test_a_file_that_was_written_over_is_damaged_too(tmp_path, store):
    run = files_of().run_local(tmp_path, store=store)
    (tmp_path / "file-2").write_text("something else")
    assert run.retry() == 1 + 1 + 1 + 4
    assert run.wait(60) is RunState.SUCCESS
    assert (tmp_path / "file-2").read_text() == "xx"


def test_elements_that_were_made_from_the_items_of_a_damaged_result_are_for_a_new_run(tmp_path, store):
    workflow = Workflow("split")

    @workflow.job()
    def split(run_dir: RunDir) -> list[Path]:
        for name in ("a", "b"):
            (run_dir / name).write_text(name)
        return [run_dir / "a", run_dir / "b"]

    @workflow.array_job()
    def count(path: Annotated[Path, Result("split")]) -> int:
        return len(path.read_text())

    run = workflow.run_local(tmp_path, store=store)
    (tmp_path / "b").unlink()
    with pytest.raises(RetryRefused, match=r"'split' are damaged.*elements of task 'count'.*submit the workflow again"):
        run.retry()
    assert (run.state, run.retry(verify=False)) == (RunState.SUCCESS, 0)
    again = workflow.run_local(tmp_path, store=store)
    assert again.results("count") == [1, 1]


def test_a_result_that_verify_rejects_is_made_again_and_one_that_it_accepts_stays(tmp_path, store):
    workflow = Workflow("checked")

    def is_fresh(number: int) -> bool:
        return number >= int((tmp_path / "wanted").read_text())

    (tmp_path / "wanted").write_text("1")

    @workflow.job(verify=is_fresh)
    def first() -> int:
        return int((tmp_path / "wanted").read_text())

    @workflow.job(verify=is_fresh)
    def high() -> int:
        return 100

    run = workflow.run_local(tmp_path / "run", store=store)
    (tmp_path / "wanted").write_text("2")
    assert run.retry() == 1
    assert run.wait(60) is RunState.SUCCESS
    assert (run.results("first"), run.results("high")) == (2, 100)


def test_an_output_file_beside_the_manifest_that_is_lost_is_made_again(tmp_path, store):
    workflow = Workflow("big")

    @workflow.job()
    def text() -> str:
        return "x" * 100_000

    @workflow.job()
    def length(text: Annotated[str, Result("text")]) -> int:
        return len(text)

    run = workflow.run_local(tmp_path / "run", store=store)
    (lost,) = (path for path in store.output_files.path.rglob("*") if path.is_file())
    lost.unlink()
    assert run.retry() == 2
    assert run.wait(60) is RunState.SUCCESS
    assert (len(run.results("text")), run.results("length")) == (100_000, 100_000)


def test_a_folder_too_large_to_tell_is_damaged_only_when_it_is_gone(tmp_path, store, monkeypatch):
    monkeypatch.setattr("reflow.fingerprints.MOST_ENTRIES", 1)
    workflow = Workflow("crowded")

    @workflow.job()
    def fill(run_dir: RunDir) -> Path:
        for name in ("a", "b", "c"):
            (run_dir / "folder").mkdir(exist_ok=True)
            (run_dir / "folder" / name).touch()
        return run_dir / "folder"

    run = workflow.run_local(tmp_path, store=store)
    assert run.damaged_results() == {}
    (tmp_path / "folder").rename(tmp_path / "elsewhere")
    assert run.damaged_results() == {"fill": [None]}


def told(folder: Path) -> Workflow:
    """A file that says what `word` says, which no identity knows; a value follows from it, and a list of that."""
    workflow = Workflow("told")

    @workflow.job()
    def write() -> Path:
        (folder / "file").write_text((folder / "word").read_text())
        return folder / "file"

    @workflow.job()
    def read(path: Annotated[Path, Result("write")]) -> str:
        return path.read_text()

    @workflow.job()
    def shout(texts: Annotated[list[str], Result(steps=["read"])]) -> str:
        return texts[0].upper()

    return workflow


def test_what_is_made_from_another_result_than_before_is_kept_under_another_identity(tmp_path, store):
    (tmp_path / "word").write_text("one")
    workflow = told(tmp_path)
    run = workflow.run_local(tmp_path / "run", store=store)
    before = identities(run, "shout")
    (tmp_path / "file").unlink()
    (tmp_path / "word").write_text("two")
    assert run.retry() == 3
    assert run.wait(60) is RunState.SUCCESS
    assert run.results("shout") == "TWO"
    assert identities(run, "shout") != before
    again = workflow.run_local(tmp_path / "run", store=store)
    assert counts(again, ["write", "read", "shout"]) == dict.fromkeys(["write", "read", "shout"], (1, 0))
    (tmp_path / "word").write_text("one")
    forced = workflow.run_local(tmp_path / "run", store=store, force_tasks=["write"])
    assert (forced.results("read"), forced.results("shout")) == ("one", "ONE")


def test_what_failed_before_the_damage_was_found_is_kept_under_its_new_identity_too(tmp_path, store):
    (tmp_path / "word").write_text("one")
    workflow = told(tmp_path)

    @workflow.job()
    def end(texts: Annotated[list[str], Result(steps=["shout"])]) -> str:
        if not (tmp_path / "mended").exists():
            raise RuntimeError(texts)
        return texts[0]

    run = workflow.run_local(tmp_path / "run", store=store)
    assert run.state is RunState.FAILED
    (tmp_path / "mended").touch()
    (tmp_path / "file").unlink()
    (tmp_path / "word").write_text("two")
    assert run.retry() == 4
    assert run.wait(60) is RunState.SUCCESS
    assert run.results("end") == "TWO"
    (tmp_path / "word").write_text("one")
    assert workflow.run_local(tmp_path / "run", store=store, force_tasks=["write"]).results("end") == "ONE"


def test_what_is_made_again_may_be_another_runs_result_of_the_same_identity(tmp_path, store):
    workflow = Workflow("contents", config=Config(defaults=DefaultsConfig(path_fingerprint="content")))

    @workflow.job()
    def write() -> Path:
        (tmp_path / "file").write_text("text")
        return tmp_path / "file"

    @workflow.job()
    def read(path: Annotated[Path, Result("write")]) -> str:
        return path.read_text()

    @workflow.job()
    def shout(text: Annotated[str, Result("read")]) -> str:
        return text.upper()

    tasks = ["write", "read", "shout"]
    run = workflow.run_local(tmp_path / "run", store=store)
    other = workflow.run_local(tmp_path / "run", store=store, force=True)
    later = workflow.run_local(tmp_path / "run", store=store)
    assert counts(later, tasks) == dict.fromkeys(tasks, (1, 0))
    (tmp_path / "file").unlink()
    assert run.retry() == 3
    assert run.wait(60) is RunState.SUCCESS
    assert counts(run, tasks) == {"write": (0, 1), "read": (1, 0), "shout": (1, 0)}
    assert counts(other, tasks) == dict.fromkeys(tasks, (0, 1))
    # What a run has taken from another one is given up like its own.
    (tmp_path / "file").unlink()
    assert later.retry() == 3
    assert later.wait(60) is RunState.SUCCESS
    assert counts(later, tasks) == {"write": (0, 1), "read": (1, 0), "shout": (1, 0)}
    assert store.counts.wrong() == []


def test_what_cannot_be_made_again_fails_the_run_and_the_next_retry_goes_on_from_there(tmp_path, store):
    (tmp_path / "word").write_text("one")
    run = told(tmp_path).run_local(tmp_path / "run", store=store)
    (tmp_path / "file").unlink()
    (tmp_path / "word").unlink()
    assert run.retry() == 3
    assert run.wait(60) is RunState.FAILED
    assert states(run, "write") == {None: TaskState.FAILED}
    assert states(run, "shout")[None] in WAITING
    (tmp_path / "word").write_text("one")
    assert run.retry() == 1
    assert run.wait(60) is RunState.SUCCESS
    assert run.results("shout") == "ONE"


def test_explain_says_that_a_result_was_made_again(tmp_path, store):
    (tmp_path / "word").write_text("one")
    run = told(tmp_path).run_local(tmp_path / "run", store=store)
    (tmp_path / "file").unlink()
    run.retry()
    assert run.wait(60) is RunState.SUCCESS
    assert "a retry made it again" in run.explain("shout").reason


def test_a_second_retry_that_looked_before_the_first_one_acted_gives_up_nothing(tmp_path, store):
    run = files_of().run_local(tmp_path, store=store)
    (tmp_path / "file-3").unlink()
    seen = run._find_damage()
    assert run.retry() == 1 + 1 + 1 + 4
    assert run.wait(60) is RunState.SUCCESS
    assert seen == {("write", 1): Indices([3])}
    assert store.remake(run.run_id, seen).count == 0
    assert run.state is RunState.SUCCESS


def test_a_retry_gives_up_nothing_while_a_dispatcher_is_at_work(tmp_path, store, monkeypatch):
    monkeypatch.setattr("reflow.dispatch.LOCK_SECONDS", 0.1)
    run = files_of().run_local(tmp_path, store=store)
    (tmp_path / "file-3").unlink()
    with hold(RunFolder(tmp_path, run.run_id).dispatch_lock), pytest.raises(ReflowError, match="retry when it is done"):
        run.retry()
    assert (run.state, states(run, "write")[3]) == (RunState.SUCCESS, TaskState.SUCCESS)
