"""Outputs that are too big for a row lie beside the manifest as files: as safe as the rest, and never wrong."""

from __future__ import annotations

import os
import signal
import stat
from pathlib import Path
from typing import Annotated, Any

import pytest

from reflow import Result, Run, RunState, Workflow, codec, identity
from reflow.errors import ManifestError
from reflow.states import TaskState
from reflow.stores import merging, spool
from reflow.stores.outputs import LONGEST_INLINE, OutputLost
from reflow.stores.records import NewInstance, Report
from reflow.stores.sqlite import SqliteStore

BIG = "x" * LONGEST_INLINE
TEXT = codec.dumps(BIG)


@pytest.fixture
def store(tmp_path):
    with SqliteStore(tmp_path / "manifest.db") as made:
        made.init()
        made.insert_run("run", "survey", "ann", {})
        made.insert_task_spec("run", "count", True, {}, [])
        made.insert_task_spec("run", "single", False, {}, [])
        made.expand("run", "count", [NewInstance(index, identity=f"{index:064x}") for index in range(3)], 3)
        made.expand("run", "single", [NewInstance(None)], 1)
        yield made


def files(store: SqliteStore) -> list[Path]:
    return sorted(path for path in Path(f"{store.path}.outputs").rglob("*") if path.is_file())


def success(instance: int, text: str = TEXT) -> Report:
    return Report(instance, 1, TaskState.SUCCESS, 5, output=text, output_hash=identity.hash_value(text))


def test_an_output_of_the_longest_size_stays_in_its_row_and_a_longer_one_is_a_file(store):
    store.apply([success(1, '"' + "x" * (LONGEST_INLINE - 2) + '"')])
    assert files(store) == []
    store.apply([success(2, '"' + "x" * (LONGEST_INLINE - 1) + '"')])
    (file,) = files(store)
    assert file.parent.name == file.name[:2]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.parent.stat().st_mode) == 0o700


def test_every_reader_gets_the_value_whoever_wrote_it(store):
    store.publish([success(1)])
    assert store.published_output(1) == (TEXT, identity.hash_value(TEXT))
    store.merge()
    store.apply([success(2)])
    store.update_task_success(3, BIG, "hash")
    store.update_task_success(4, BIG)
    assert store.published_output(1) == (TEXT, identity.hash_value(TEXT))
    assert store.get_array_outputs("run", "count") == [BIG] * 3
    assert store.get_singleton_output("run", "single") == BIG
    assert [text for _, text, _ in store.outputs("run", "count")] == [TEXT] * 3
    assert [record.output for record in store.list_task_instance_records("run", "count")] == [BIG] * 3
    assert store.get_task_instance("run", "count", 2)["output"] == BIG
    assert store.find_cached("count", f"{0:064x}")["output"] == BIG
    hit = store.lookup_cached("count", [f"{0:064x}"])[f"{0:064x}"]
    assert store.cached_output(hit) == TEXT
    assert len(files(store)) == 1, "the same output is one file"


def test_text_that_is_no_utf_8_comes_back_as_it_was(store):
    text = '"' + "\udc80" * LONGEST_INLINE + '"'
    store.apply([success(1, text)])
    assert store.outputs("run", "count")[0][1] == text


def test_a_cached_instance_shares_the_file_of_the_one_it_was_taken_from(store):
    store.apply([success(1)])
    store.insert_run("again", "survey", "ann", {})
    store.insert_task_spec("again", "count", True, {}, [])
    (source,) = store.list_task_instance_records("run", "count", [TaskState.SUCCESS])
    store.expand("again", "count", [NewInstance(0, identity=source.identity, cached_from=1)], 1)
    assert store.get_array_outputs("again", "count") == [BIG]
    assert len(files(store)) == 1


def test_a_second_final_report_keeps_its_file_in_its_remark(store):
    store.apply([success(1, "1")])
    store.apply([Report(1, 1, TaskState.SUCCESS, 9, node="n2", output=TEXT)])
    (remark,) = store.list_remarks(1)
    assert store.output_files.text(remark.output_file) == TEXT


def test_a_retry_leaves_no_output_behind(store):
    store.apply([Report(1, 1, TaskState.FAILED, 5, error="boom", output=TEXT)])
    store.retry("run", "count")
    store.apply([Report(1, 2, TaskState.SUCCESS, 7, output="1")])
    assert store.get_array_outputs("run", "count") == [1]


def lose(path: Path) -> None:
    path.unlink()


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2] + b'y"')


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(("harm", "words"), [(lose, "cannot be read"), (damage, "damaged"), (cut, "damaged")])
class TestLost:
    def test_every_reader_says_which_file_and_what_to_do(self, store, harm, words):
        store.apply([success(1), success(4)])
        harm(files(store)[0])
        for read in (
            lambda: store.outputs("run", "count"),
            lambda: store.get_array_outputs("run", "count"),
            lambda: store.get_singleton_output("run", "single"),
            lambda: store.published_output(1),
            lambda: store.get_task_instance("run", "count", 0),
            lambda: store.list_task_instances("run", "count"),
        ):
            with pytest.raises(OutputLost, match=rf"outputs.*{words}.*submit again") as raised:
                read()
            assert "\n" not in str(raised.value)
        assert store.task_state_summary("run")["count"]["SUCCESS"] == 1

    def test_the_cache_does_not_know_it(self, store, harm, words):
        store.apply([success(1)])
        harm(files(store)[0])
        assert store.find_cached("count", f"{0:064x}") is None
        hit = store.lookup_cached("count", [f"{0:064x}"])[f"{0:064x}"]
        assert store.cached_output(hit) is None

    def test_putting_it_again_makes_it_whole(self, store, harm, words):
        store.apply([success(1)])
        harm(files(store)[0])
        store.apply([success(2)])
        assert store.get_array_outputs("run", "count") == [BIG, BIG]


def big_workflow() -> Workflow:
    wf = Workflow("big")

    @wf.job()
    def numbers(width: int) -> list[int]:
        return list(range(width))

    @wf.array_job()
    def grow(number: Annotated[int, Result(step="numbers")]) -> str:
        return str(number) * LONGEST_INLINE * 2

    @wf.array_job()
    def measure(text: Annotated[str, Result(step="grow")]) -> int:
        return len(text)

    @wf.job()
    def total(
        texts: Annotated[list[str], Result(step="grow")], lengths: Annotated[list[int], Result(step="measure")]
    ) -> int:
        return sum(map(len, texts)) - sum(lengths)

    return wf


def test_a_run_hands_big_outputs_on_and_recomputes_only_the_lost_one(tmp_path):
    wf = big_workflow()

    def computed(run: Run, store: SqliteStore) -> list[int | None]:
        records = store.list_task_instance_records(run.run_id, "grow")
        return [record.array_index for record in records if record.cached_from is None]

    with SqliteStore(tmp_path / "manifest.db") as store:
        first = wf.run_local(tmp_path / "run", store=store, width=3)
        assert (first.status(as_dict=True)["status"], first.results("total")) == (RunState.SUCCESS, 0)
        assert len(files(store)) == 3
        assert computed(wf.run_local(tmp_path / "run", store=store, width=3), store) == []
        lost = next(path for path in files(store) if path.read_bytes().startswith(b'"1'))
        lost.unlink()
        again = wf.run_local(tmp_path / "run", store=store, width=3)
        assert computed(again, store) == [1]
        assert again.results("grow") == [str(number) * LONGEST_INLINE * 2 for number in range(3)]


def publish_and_die(path: Path, call: int, *, after: bool) -> int:
    """Publish a big output in a child that is killed at its n-th call of the file system; return its status."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    left = call

    def hook(name: str) -> None:
        real = getattr(os, name)

        def hooked(*words: Any, **options: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0 and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            result = real(*words, **options)
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        setattr(os, name, hooked)

    for name in ("mkdir", "open", "fsync", "replace", "rename", "symlink"):
        hook(name)
    try:
        spool.Spool(path).publish([success(1)])
    finally:
        os._exit(0)


@pytest.mark.parametrize("after", [False, True])
def test_a_writer_that_is_killed_at_any_step_leaves_a_whole_result_or_none(tmp_path, after):
    assert merging  # imported before the fork
    kills = published = 0
    while True:
        folder = tmp_path / str(kills)
        with SqliteStore(folder / "manifest.db") as store:
            store.init()
            store.insert_run("run", "survey", "ann", {})
            store.insert_task_spec("run", "count", True, {}, [])
            store.expand("run", "count", [NewInstance(0)], 1)
            store.close()
            status = publish_and_die(store.path, kills + 1, after=after)
            store.merge()
            outputs = store.get_array_outputs("run", "count")  # OutputLost if a report names what is not there
            assert outputs in ([], [BIG])
            published += bool(outputs)
            # The element runs once more, and nothing that the dead one left is in its way.
            store.publish([success(1)])
            store.merge()
            assert store.get_array_outputs("run", "count") == [BIG]
        if not os.WIFSIGNALED(status):
            break
        kills += 1
    assert kills >= 8, "mkdir twice, open and fsync of file and folders, replace, symlink"
    assert 0 < published < kills


def test_an_output_that_cannot_be_written_is_an_error_and_nothing_is_published(store):
    Path(f"{store.path}.outputs").write_text("in the way")
    for write in (
        lambda: store.publish([success(1)]),
        lambda: store.apply([success(1)]),
        lambda: store.update_task_success(1, BIG),
    ):
        with pytest.raises(ManifestError, match=r"outputs.*check the quota"):
            write()
    assert store.spool.is_empty()
    assert store.task_state_summary("run")["count"] == {"PENDING": 3}
