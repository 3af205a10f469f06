"""What the engine asks of a store: bulk writes, merging, waves, dispatch requests."""

from __future__ import annotations

import sqlite3
import tempfile
import threading
from datetime import datetime, timezone
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reflow import codec
from reflow.errors import ManifestError, ResultRemoved, RetryRefused, UnknownRunError, UnknownTaskError
from reflow.indices import Indices
from reflow.spec import Delivery, JobConfig, ResultInput, Step, Take, TaskPlan
from reflow.states import RunState, TaskState
from reflow.stores import expansions, merging, remakes, sqlite
from reflow.stores.records import (
    Failure,
    InFlight,
    NewInstance,
    Report,
    RunRecord,
    SlotRow,
    TaskSpecRecord,
    WaveState,
)
from reflow.stores.sqlite import SqliteStore

HASH = "5f" * 32


class Died(Exception):
    """Stands for the death of a process."""


def spec(name, *, chain="", run="run", array=True):
    results = (ResultInput("x", (Step(chain, Take.ELEMENTS),), Delivery.CHAIN, "chain"),) if chain else ()
    plan = TaskPlan(name, JobConfig(array=array), results=results)
    return TaskSpecRecord(run, name, array, plan.to_json(), plan.upstreams)


def create(store, run="run"):
    record = RunRecord(run, "survey", "ann", datetime.now(timezone.utc), RunState.RUNNING, {"x": 1}, {"python": "py"})
    store.create_run(record, [spec("list", run=run, array=False), spec("count", run=run), spec("fit", chain="count")])


@pytest.fixture
def store(tmp_path):
    with SqliteStore(tmp_path / "manifest.db") as made:
        made.init()
        create(made)
        made.take_dispatch_request("run")
        yield made


def expand(store, width, task="count"):
    store.expand("run", task, [NewInstance(index, f"[{index}]") for index in range(width)], width)
    return store.instance_ids("run", task)


def submit(store, text, *, job="100", task="count", by_rank=False):
    indices = Indices.parse(text)
    slots = Indices.range(0, len(indices)) if by_rank else indices
    offset = None if by_rank else 0
    wave = store.reserve("run", task, indices, slots=slots, offset=offset)
    store.record_submission(wave.id, job)
    return wave


def states(store, task="count"):
    return {state.value: str(indices) for state, indices in task_of(store, task).states.items()}


def task_of(store, task="count"):
    return next(each for each in store.snapshot("run").tasks if each.plan.name == task)


def success(instance, attempt=1, at=50, output='"o"', **more):
    return Report(instance, attempt, TaskState.SUCCESS, at, output=output, output_hash=HASH, **more)


def running(instance, attempt=1, at=10, **more):
    return Report(instance, attempt, TaskState.RUNNING, at, **more)


def failed(instance, attempt=1, at=50, **more):
    return Report(instance, attempt, TaskState.FAILED, at, error="boom", failure=Failure.EXCEPTION, **more)


def released(instance, attempt=2, at=50, **more):
    return Report(instance, attempt, TaskState.PENDING, at, **more)


class TestRuns:
    def test_a_created_run_has_its_tasks_in_order_and_wants_a_dispatch(self, store):
        create(store, "run2")
        assert store.list_dispatch_requests() == ["run2"]
        assert [each.task_name for each in store.list_task_spec_records("run2")] == ["list", "count"]
        record = store.get_run_record("run2")
        assert (record.parameters, record.settings, record.status) == ({"x": 1}, {"python": "py"}, RunState.RUNNING)
        assert TaskPlan.from_json(store.get_task_spec_record("run", "fit").config).chain_parents == ("count",)

    def test_a_run_that_cannot_be_created_leaves_nothing(self, store):
        with pytest.raises(ValueError, match="run"):
            create(store)
        with pytest.raises(UnknownRunError):
            store.snapshot("nobody")
        assert len(store.list_run_records()) == 1

    def test_settings_are_replaced(self, store):
        store.update_run_settings("run", {"python": "other"})
        assert store.get_run_record("run").settings == {"python": "other"}

    def test_a_run_is_finished_once(self, store):
        assert store.finish_run("run", RunState.FAILED)
        assert not store.finish_run("run", RunState.SUCCESS)
        assert store.get_run_record("run").status is RunState.FAILED

    def test_a_dispatch_request_stays_until_it_is_taken(self, store):
        store.request_dispatch("run")
        assert store.dispatch_requested("run")
        store.take_dispatch_request("run")
        assert not store.dispatch_requested("run")

    def test_an_unknown_task_is_named_with_the_tasks_there_are(self, store):
        with pytest.raises(UnknownTaskError, match="list, count, fit"):
            store.cancel("run", "cuont")


class TestExpand:
    def test_all_instances_wait_and_are_free(self, store):
        expand(store, 5)
        assert states(store) == {"PENDING": "0-4"}
        assert task_of(store).free == Indices.range(0, 5)
        assert task_of(store).width == 5

    def test_a_second_expansion_changes_nothing(self, store):
        ids = expand(store, 5)
        assert expand(store, 3) == ids

    def test_a_fan_out_that_was_cut_short_is_refused(self, store):
        with pytest.raises(ValueError, match="count"):
            store.expand("run", "count", iter([NewInstance(0)]), 2)
        assert task_of(store).width is None

    def test_an_empty_array_is_known_to_be_empty(self, store):
        assert not store.dependency_is_satisfied("run", "count")
        store.expand("run", "count", [], 0)
        assert store.dependency_is_satisfied("run", "count")
        assert task_of(store).width == 0

    def test_a_singleton_counts_as_index_0(self, store):
        store.expand("run", "list", [NewInstance(None)], 1)
        assert states(store, "list") == {"PENDING": "0"}
        assert store.get_task_instance_record("run", "list", None).array_index is None

    def test_a_cached_instance_is_a_success_with_the_others_output(self, store):
        (source,) = expand(store, 1)
        store.apply([success(source, identity=HASH)])
        create(store, "run2")
        hits = store.lookup_cached("count", [HASH, "unknown"])
        assert hits[HASH].instance == source
        assert set(hits) == {HASH}
        store.expand("run2", "count", [NewInstance(0, None, HASH, "", source), NewInstance(1)], 2)
        taken = store.get_task_instance_record("run2", "count", 0)
        assert (taken.state, taken.output, taken.output_hash) == (TaskState.SUCCESS, "o", HASH)
        assert taken.cached_from == source
        assert store.lookup_cached("count", [HASH])[HASH].run_id == "run2"
        assert [each.cached for each in store.summarize("run2")] == [0, 1]

    @given(
        st.lists(
            st.tuples(
                st.none() | st.just('"é\\u0000"') | st.integers().map(str),
                st.sampled_from(["", HASH, "text", "0" * 64]),
                st.sampled_from(["", HASH]),
                st.booleans(),
            )
        )
    )
    @settings(deadline=None)
    def test_rows_of_any_kind_come_back_as_they_were_given(self, rows):
        with (
            tempfile.TemporaryDirectory() as folder,
            pytest.MonkeyPatch.context() as patch,
            SqliteStore(Path(folder) / "manifest.db") as store,
        ):
            patch.setattr(expansions, "_TOGETHER", 3)
            store.init()
            create(store)
            (source,) = expand(store, 1)
            store.apply([success(source, identity=HASH)])
            create(store, "run2")
            rows = [(text, identity, input_hash, hit and identity == HASH) for text, identity, input_hash, hit in rows]
            new = [
                NewInstance(index, text, identity, input_hash, source if is_hit else None)
                for index, (text, identity, input_hash, is_hit) in enumerate(rows)
            ]
            store.expand("run2", "count", new, len(new))
            found = store.list_task_instance_records("run2", "count")
            assert [(each.array_index, each.input, each.identity, each.input_hash) for each in found] == [
                (index, None if text is None else codec.loads(text), *hashes)
                for index, (text, *hashes, _) in enumerate(rows)
            ]
            hits = [(source, "o") if is_hit else (None, None) for *_, is_hit in rows]
            assert [(each.cached_from, each.output) for each in found] == hits
            assert store.counts.wrong() == []

    def test_a_cached_instance_that_is_no_success_spoils_the_expansion(self, store):
        (source,) = expand(store, 1)
        create(store, "run2")
        with pytest.raises(ManifestError, match="cached"):
            store.expand("run2", "count", [NewInstance(0, cached_from=source)], 1)
        assert store.count_task_instances("run2", "count") == 0

    def test_a_cancelled_run_is_not_expanded(self, store):
        store.cancel("run")
        assert expand(store, 3) == []


class TestExpandInTurns:
    """A wide array is created in several turns, and counts as not expanded until the last."""

    @pytest.fixture(autouse=True)
    def short_turns(self, monkeypatch):
        monkeypatch.setattr(expansions, "TURN_ROWS", 4)

    def begin(self, store, width=10, until=7, **more):
        """Begin an expansion whose process dies when it makes the row `until`."""

        def instances():
            for index in range(width):
                if index == until:
                    raise Died
                yield NewInstance(index, f"[{index}]", **more)

        with pytest.raises(Died):
            store.expand("run", "count", instances(), width)

    @pytest.mark.parametrize("width", [3, 4, 5, 8, 9])
    def test_all_of_it_is_there_in_order(self, store, width):
        expand(store, width)
        assert states(store) == {"PENDING": f"0-{width - 1}"}
        assert task_of(store).width == width
        records = store.list_task_instance_records("run", "count")
        assert [record.input for record in records] == [[index] for index in range(width)]
        assert store.counts.wrong() == []

    def test_an_expansion_that_was_cut_short_counts_as_none(self, store):
        self.begin(store)
        assert store.count_task_instances("run", "count") == 4
        assert (task_of(store).width, states(store), task_of(store).free) == (None, {}, Indices())
        assert store.summarize("run")[1].width is None
        assert store.cancel("run", "count") == 0

    def test_the_next_expansion_begins_from_nothing(self, store):
        self.begin(store, until=9)
        ids = expand(store, 6)
        assert len(ids) == task_of(store).width == 6
        assert states(store) == {"PENDING": "0-5"}
        assert store.counts.wrong() == []

    def test_cached_rows_of_one_that_was_cut_short_satisfy_nobody_and_are_no_hits(self, store):
        create(store, "run2")
        store.expand("run2", "count", [NewInstance(0, identity=HASH)], 1)
        (source,) = store.instance_ids("run2", "count")
        store.apply([success(source)])
        self.begin(store, identity=HASH, cached_from=source)
        assert store.task_state_summary("run")["count"] == {"SUCCESS": 4}
        assert not store.dependency_is_satisfied("run", "count")
        assert store.lookup_cached("count", [HASH])[HASH].run_id == "run2"

    def test_rows_that_were_cancelled_and_retried_meanwhile_are_made_anew(self, store):
        self.begin(store)
        assert store.cancel("run") == 4
        assert store.retry("run") == 4
        ids = expand(store, 5)
        assert states(store) == {"PENDING": "0-4"}
        assert all(store.list_attempts(instance) == [] for instance in ids)
        assert store.counts.wrong() == []

    def test_one_that_another_dispatcher_has_begun_anew_stops(self, store):
        def instances():
            for index in range(10):
                if index == 6:
                    expand(store, 5)
                yield NewInstance(index)

        store.expand("run", "count", instances(), 10)
        assert states(store) == {"PENDING": "0-4"}
        assert store.counts.wrong() == []

    def test_one_whose_run_is_cancelled_meanwhile_stops(self, store):
        def instances():
            for index in range(10):
                if index == 6:
                    store.cancel("run")
                yield NewInstance(index)

        store.expand("run", "count", instances(), 10)
        assert store.task_state_summary("run")["count"] == {"CANCELLED": 4}

    @pytest.mark.parametrize("number", [8, 9, 11, 12, 13])
    def test_too_few_or_too_many_instances_are_refused(self, store, number):
        with pytest.raises(ValueError, match="10 wide"):
            store.expand("run", "count", (NewInstance(index) for index in range(number)), 10)
        assert task_of(store).width is None

    def test_large_inputs_make_a_turn_of_fewer_rows(self, store, monkeypatch):
        monkeypatch.setattr(expansions, "TURN_BYTES", 10)
        seen = []

        def instances():
            for index in range(6):
                seen.append(store.count_task_instances("run", "count"))
                yield NewInstance(index, '"123456"')

        store.expand("run", "count", instances(), 6)
        assert seen == [0, 0, 0, 2, 2, 4]
        assert states(store) == {"PENDING": "0-5"}


class TestCache:
    def test_another_task_with_the_same_identity_is_no_hit(self, store):
        (source,) = expand(store, 1)
        store.apply([success(source, identity=HASH)])
        assert store.lookup_cached("fit", [HASH]) == {}
        assert store.lookup_cached("count", [""]) == {}
        assert store.lookup_cached("count", []) == {}

    def test_a_whole_array_is_looked_up_at_once(self, store):
        ids = expand(store, 5_000)
        store.apply([success(instance, identity=f"{number:064x}") for number, instance in enumerate(ids)])
        found = store.lookup_cached("count", [f"{number:064x}" for number in range(2_500, 7_500)])
        assert sorted(hit.instance for hit in found.values()) == ids[2_500:]


class TestMerging:
    def test_a_published_report_is_merged_and_its_file_gone(self, store):
        (instance,) = expand(store, 1)
        store.publish([running(instance, node="n1"), success(instance, node="n1", started_at=10)])
        assert store.merge()
        record = store.get_task_instance_record("run", "count", 0)
        assert (record.state, record.output, record.node) == (TaskState.SUCCESS, "o", "n1")
        assert (record.finished_at - record.started_at).microseconds == 40
        assert store.spool.is_empty()

    def test_late_running_never_overwrites_success(self, store):
        (instance,) = expand(store, 1)
        assert store.apply([success(instance)]) == 1
        assert store.apply([running(instance)]) == 0
        assert states(store) == {"SUCCESS": "0"}

    def test_a_report_of_attempt_1_never_touches_attempt_2(self, store):
        (instance,) = expand(store, 1)
        submit(store, "0")
        store.apply([failed(instance)])
        store.retry("run")
        for stale in (running(instance), success(instance), released(instance)):
            assert store.apply([stale]) == 0
        assert states(store) == {"RETRYING": "0"}

    @pytest.mark.parametrize("late", [running, success, failed, released])
    def test_a_late_worker_cannot_revive_a_cancelled_instance(self, store, late):
        (instance,) = expand(store, 1)
        submit(store, "0")
        store.cancel("run", "count")
        store.publish([late(instance)])
        store.merge()
        assert states(store) == {"CANCELLED": "0"}

    def test_the_first_final_report_wins_and_the_other_is_a_remark(self, store):
        (instance,) = expand(store, 1)
        first, second = success(instance, node="n1"), failed(instance, at=60, node="n2")
        store.apply([first])
        for _ in range(2):
            store.apply([second, first])
        assert states(store) == {"SUCCESS": "0"}
        assert store.list_remarks(instance) == [second]

    def test_of_two_final_reports_in_one_batch_the_earlier_wins(self, store):
        (instance,) = expand(store, 1)
        store.apply([failed(instance, at=60), success(instance, at=50)])
        assert states(store) == {"SUCCESS": "0"}
        assert [each.state for each in store.list_remarks(instance)] == [TaskState.FAILED]

    def test_the_same_final_report_again_is_no_remark(self, store):
        (instance,) = expand(store, 1)
        for _ in range(3):
            store.apply([running(instance), success(instance, node="n1")])
        store.apply([success(instance, node="n1")] * 2)
        assert store.list_remarks(instance) == []

    def test_a_success_that_was_cancelled_meanwhile_is_kept_as_a_remark(self, store):
        (instance,) = expand(store, 1)
        submit(store, "0")
        store.cancel("run")
        store.apply([success(instance)])
        assert store.list_remarks(instance) == [success(instance)]

    def test_a_published_success_comes_before_a_cancel(self, store):
        (instance, _) = expand(store, 2)
        submit(store, "0-1")
        store.publish([success(instance)])
        assert store.cancel("run") == 1
        assert states(store) == {"SUCCESS": "0", "CANCELLED": "1"}

    def test_a_release_report_puts_the_instance_back_to_waiting(self, store):
        (instance,) = expand(store, 1)
        submit(store, "0")
        gone = Report(instance, 2, TaskState.PENDING, 70, node="n1", failure=Failure.NODE_FAIL, exit_code=1)
        assert store.apply([running(instance, node="n1")]) == 1
        assert store.apply([gone]) == 1
        assert store.apply([gone]) == 0
        record = store.get_task_instance_record("run", "count", 0)
        assert (record.state, record.attempt, record.job_id, record.node) == (TaskState.PENDING, 2, None, None)
        (attempt,) = store.list_attempts(instance)
        assert (attempt.attempt, attempt.state, attempt.job_id) == (1, TaskState.RUNNING, "100")
        assert (attempt.node, attempt.failure, attempt.exit_code) == ("n1", "NODE_FAIL", 1)
        assert task_of(store).free == Indices([0])

    def test_in_one_batch_a_result_goes_before_a_release(self, store):
        (instance,) = expand(store, 1)
        submit(store, "0")
        store.apply([released(instance, at=40), success(instance, at=50)])
        assert states(store) == {"SUCCESS": "0"}

    def test_a_worker_may_report_before_submitted_is_written(self, store):
        ids = expand(store, 3)
        wave = store.reserve("run", "count", Indices.range(0, 3), slots=Indices.range(0, 3), offset=0)
        store.apply([running(ids[0]), success(ids[1]), released(ids[2])])
        assert store.record_submission(wave.id, "100")
        assert states(store) == {"RUNNING": "0", "SUCCESS": "1", "PENDING": "2"}
        assert store.get_task_instance_record("run", "count", 0).job_id == "100"

    def test_an_identity_that_is_known_only_at_the_end_is_found_in_the_cache(self, store):
        (instance,) = expand(store, 1)
        store.apply([running(instance, identity=HASH), success(instance)])
        assert store.find_cached_record("count", HASH).id == instance

    def test_reports_about_nobody_are_set_aside_and_block_nothing(self, store):
        (instance,) = expand(store, 1)
        store.publish([success(4711), success(instance)])
        store.publish([running(4712)])
        assert store.merge()
        assert states(store) == {"SUCCESS": "0"}
        assert len(list((store.spool.path / "rejected").iterdir())) == 2
        assert store.apply([running(4711)]) == 0

    def test_a_corrupt_report_is_set_aside_and_blocks_nothing(self, store):
        (instance,) = expand(store, 1)
        store.publish([success(instance)])
        (store.spool.path / "1-1-1-3-broken.reports").write_bytes(b'[{"instance": 1, "att')
        assert store.merge()
        assert states(store) == {"SUCCESS": "0"}
        assert [each.name for each in (store.spool.path / "rejected").iterdir()] == ["1-1-1-3-broken.reports"]

    def test_a_crash_after_the_commit_merges_again_without_harm(self, store):
        (instance,) = expand(store, 1)
        store.publish([success(instance)])
        (name,) = store.spool.names()
        payload = store.spool.read(name)
        store.merge()
        store.publish(payload.reports)
        assert store.merge()
        assert states(store) == {"SUCCESS": "0"}
        assert store.list_remarks(instance) == []

    def test_merging_does_not_wait_for_a_lock_that_another_process_has(self, store):
        from reflow.stores import locking

        (instance,) = expand(store, 1)
        store.publish([success(instance)])
        with locking.hold(f"{store.path}.lock") as held:
            assert held
            assert store.merge() is False
        assert states(store) == {"PENDING": "0"}
        assert store.merge(wait=True)
        assert states(store) == {"SUCCESS": "0"}

    def test_who_waits_for_the_lock_gets_it_before_a_huge_spool_is_merged(self, store, monkeypatch):
        monkeypatch.setattr(merging, "HOLD_SECONDS", 0.0)
        ids = expand(store, 60)
        for instance in ids:
            store.publish([success(instance)])
        merger = threading.Thread(target=store.merge)
        merger.start()
        with SqliteStore(store.path) as other:
            while len(other.spool.names()) == len(ids):
                pass
            other.insert_run("another", "survey", "ann", {})
            assert not other.spool.is_empty(), "it waited until everything was merged"
        merger.join()
        assert states(store) == {"SUCCESS": "0-59"}
        assert store.spool.is_empty()

    def test_a_published_output_is_seen_before_and_after_it_is_merged(self, store):
        first, second = expand(store, 2)
        assert store.published_output(first) is None
        store.publish([running(first), success(first), failed(second)])
        store.publish([success(4711)])
        assert store.published_output(first) == ('"o"', HASH)
        assert store.published_output(second) is None
        assert store.published_output(4711) is None
        store.merge()
        assert store.published_output(first) == ('"o"', HASH)
        assert store.published_output(second) is None

    def test_the_output_of_an_older_attempt_is_not_published_for_the_next(self, store):
        (instance,) = expand(store, 1)
        submit(store, "0")
        store.apply([failed(instance)])
        store.retry("run")
        store.publish([success(instance, attempt=1)])
        assert store.published_output(instance) is None
        store.publish([success(instance, attempt=2)])
        assert store.published_output(instance) == ('"o"', HASH)


class TestDispatchRequests:
    def test_the_last_instance_in_flight_requests_a_dispatch(self, store):
        ids = expand(store, 3)
        submit(store, "0-1")
        store.apply([running(ids[0]), success(ids[0])])
        assert not store.dispatch_requested("run")
        store.apply([success(ids[1])])
        assert store.list_dispatch_requests() == ["run"]

    def test_the_last_release_in_flight_requests_a_dispatch(self, store):
        (instance,) = expand(store, 1)
        submit(store, "0")
        store.apply([released(instance)])
        assert store.dispatch_requested("run")

    @pytest.mark.parametrize("end", [failed, lambda each: Report(each, 1, TaskState.CANCELLED, 50)])
    def test_a_failure_that_a_chain_follows_requests_a_dispatch_at_once(self, store, end):
        ids = expand(store, 2)
        submit(store, "0-1")
        store.apply([end(ids[0])])
        assert store.dispatch_requested("run")

    def test_a_failure_that_nothing_follows_waits_for_the_rest(self, store):
        ids = expand(store, 2, "fit")
        submit(store, "0-1", task="fit")
        store.apply([failed(ids[0])])
        assert not store.dispatch_requested("run")

    def test_a_run_that_is_over_is_not_dispatched(self, store):
        (instance,) = expand(store, 1)
        submit(store, "0")
        store.cancel("run")
        store.apply([success(instance)])
        assert store.list_dispatch_requests() == []


class TestWaves:
    def test_a_wave_takes_free_instances_once(self, store):
        expand(store, 4)
        wave = store.reserve("run", "count", Indices.parse("1-2"), slots=Indices.parse("1-2"), offset=0)
        assert (wave.state, wave.job_id, wave.task_name) == (WaveState.INTENT, None, "count")
        assert store.reserve("run", "count", Indices.parse("2-3"), slots=None, offset=0) is None
        assert task_of(store).free == Indices.parse("0,3")
        (live,) = task_of(store).waves
        assert (live.id, live.job_id, live.indices) == (wave.id, None, Indices.parse("1-2"))
        assert [each.id for each in store.list_waves("run")] == [wave.id]

    def test_a_wave_of_a_run_that_is_over_is_not_reserved(self, store):
        expand(store, 1)
        store.finish_run("run", RunState.FAILED)
        assert store.reserve("run", "count", Indices([0]), slots=None, offset=0) is None

    @pytest.mark.parametrize("name", ["count", "a b/ü", "-x", "1st", "x" * 300])
    def test_job_names_are_unique_and_every_scheduler_takes_them(self, store, name):
        store.insert_task_spec("run", name, True, spec(name).config, [])
        expand(store, 2, name)
        names = {store.reserve("run", name, Indices([index]), slots=None, offset=0).job_name for index in (0, 1)}
        assert len(names) == 2
        for job_name in names:
            assert job_name[0].isalpha()
            assert len(job_name) < 64
            assert job_name.isascii()
            assert job_name.replace("-", "").replace("_", "").replace(".", "").isalnum()

    def test_the_rows_of_a_wave_come_in_slot_order_with_their_inputs(self, store):
        ids = expand(store, 10)
        wave = submit(store, "2,5-6", by_rank=True)
        assert list(store.wave_rows(wave.id)) == [
            SlotRow(ids[each], each, 1, f"[{each}]", is_identified=False) for each in (2, 5, 6)
        ]

    def test_a_wave_keeps_the_rows_that_were_retried_since(self, store):
        ids = expand(store, 3)
        wave = submit(store, "0-2")
        store.apply([failed(ids[1])])
        store.retry("run")
        later = submit(store, "1", job="200")
        assert [(row.index, row.attempt) for row in store.wave_rows(wave.id)] == [(0, 1), (1, 1), (2, 1)]
        assert [(row.index, row.attempt) for row in store.wave_rows(later.id)] == [(1, 2)]

    def test_a_wide_wave_is_read_in_pages(self, store):
        ids = expand(store, 25_000)
        wave = submit(store, "0-24999")
        assert [row.instance for row in store.wave_rows(wave.id)] == ids

    def test_in_flight_instances_come_with_job_and_slot(self, store):
        ids = expand(store, 30)
        submit(store, "0-1", job="100")
        submit(store, "10,20", job="200", by_rank=True)
        chunk = store.reserve("run", "count", Indices.parse("25-26"), slots=Indices.parse("5-6"), offset=20)
        store.record_submission(chunk.id, "300")
        alone = store.reserve("run", "count", Indices([29]), slots=None, offset=0)
        store.record_submission(alone.id, "400")
        intent = store.reserve("run", "count", Indices([28]), slots=None, offset=0)
        store.apply([running(ids[0]), success(ids[1]), running(ids[28])])
        assert intent.job_id is None
        submitted, runs = TaskState.SUBMITTED, TaskState.RUNNING
        assert store.list_in_flight("run") == [
            InFlight(ids[0], 1, runs, "100", 0),
            InFlight(ids[10], 1, submitted, "200", 0),
            InFlight(ids[20], 1, submitted, "200", 1),
            InFlight(ids[25], 1, submitted, "300", 5),
            InFlight(ids[26], 1, submitted, "300", 6),
            InFlight(ids[29], 1, submitted, "400", None),
        ]

    def test_packed_instances_share_a_slot_and_name_their_wave(self, store):
        ids = expand(store, 30)
        chunk = store.reserve("run", "count", Indices.parse("10-12,14"), slots=Indices([0, 1, 2]), offset=5, pack=2)
        store.record_submission(chunk.id, "100")
        ranked = store.reserve("run", "count", Indices([1, 20, 29]), slots=Indices([0, 1]), offset=None, pack=2)
        store.record_submission(ranked.id, "200")
        found = {each.instance: (each.job_id, each.slot, each.packed_in) for each in store.list_in_flight("run")}
        assert found == {
            **{ids[index]: ("100", slot, chunk.id) for index, slot in ((10, 0), (11, 0), (12, 1), (14, 2))},
            **{ids[index]: ("200", slot, ranked.id) for index, slot in ((1, 0), (20, 0), (29, 1))},
        }
        assert [each.pack for each in store.list_waves("run")] == [2, 2]
        assert [(each.members, each.pack, each.offset) for each in task_of(store, "count").waves] == [
            (Indices.parse("10-12,14"), 2, 5),
            (Indices.parse("1,20,29"), 2, None),
        ]

    def test_a_wide_wave_is_marked_in_turns_and_stays_an_intent_until_the_last(self, store, monkeypatch):
        monkeypatch.setattr(sqlite, "_TURN_ROWS", 4)
        expand(store, 10)
        scattered = Indices.parse("0-3,6,8-9")
        wave = store.reserve("run", "count", scattered, slots=scattered, offset=0)
        seen = []

        class Watched(SqliteStore):
            def _write(self, change, *args):
                result = super()._write(change, *args)
                (found,) = store.list_waves("run")
                seen.append((found.state, found.job_id, states(store).get("SUBMITTED", "")))
                return result

        assert Watched(store.path).record_submission(wave.id, "7")
        assert seen == [
            (WaveState.INTENT, "7", "0-3"),
            (WaveState.INTENT, "7", "0-3,6"),
            (WaveState.SUBMITTED, "7", "0-3,6,8-9"),
        ]
        assert states(store) == {"PENDING": "4-5,7", "SUBMITTED": "0-3,6,8-9"}
        assert store.counts.wrong() == []

    def test_a_report_proves_that_the_scheduler_has_the_wave(self, store):
        ids = expand(store, 2)
        wave = store.reserve("run", "count", Indices.parse("0-1"), slots=Indices.parse("0-1"), offset=0)
        assert not store.wave_is_known_to_run(wave.id)
        store.apply([running(ids[1])])
        assert store.wave_is_known_to_run(wave.id)
        store.apply([released(ids[1])])
        assert store.wave_is_known_to_run(wave.id)

    def test_a_cancel_proves_nothing_about_the_scheduler(self, store):
        expand(store, 2)
        wave = store.reserve("run", "count", Indices.parse("0-1"), slots=Indices.parse("0-1"), offset=0)
        store.cancel("run")
        assert not store.wave_is_known_to_run(wave.id)

    def test_a_submission_of_a_cancelled_run_says_so_and_keeps_the_job_id(self, store):
        expand(store, 2)
        wave = store.reserve("run", "count", Indices.parse("0-1"), slots=Indices.parse("0-1"), offset=0)
        store.cancel("run", "count")
        assert store.record_submission(wave.id, "100") is False
        assert states(store) == {"CANCELLED": "0-1"}
        assert [each.job_id for each in store.list_waves("run", [WaveState.SUBMITTED])] == ["100"]

    def test_a_refused_wave_fails_what_waits_in_it_with_the_schedulers_words(self, store):
        ids = expand(store, 3)
        wave = store.reserve("run", "count", Indices.parse("0-1"), slots=Indices.parse("0-1"), offset=0)
        store.refuse_wave(wave.id, "invalid partition specified: nope")
        record = store.get_task_instance_record("run", "count", 1)
        assert (record.id, record.state, record.failure) == (ids[1], TaskState.FAILED, "REFUSED")
        assert record.error_text == "invalid partition specified: nope"
        assert states(store) == {"FAILED": "0-1", "PENDING": "2"}
        assert store.dispatch_requested("run")

    def test_sentinels_and_followed_waves_are_recorded(self, store):
        expand(store, 1)
        expand(store, 1, "fit")
        first = submit(store, "0")
        second = store.reserve("run", "fit", Indices([0]), slots=Indices([0]), offset=0, after_waves=[first.id])
        store.record_sentinel(second.id, "101")
        assert [(each.after_waves, each.sentinel_job_id) for each in store.list_waves("run")] == [
            ((), None),
            ((first.id,), "101"),
        ]
        (followed,) = task_of(store, "fit").waves[0].followed
        assert (followed.wave, followed.task, followed.members) == (first.id, "count", Indices([0]))


class TestEndsAndRetries:
    def test_a_cancel_leaves_nothing_unfinished_and_results_alone(self, store):
        ids = expand(store, 4)
        submit(store, "0-2")
        store.apply([success(ids[0]), running(ids[1])])
        assert store.cancel("run") == 3
        assert states(store) == {"SUCCESS": "0", "CANCELLED": "1-3"}
        assert store.get_run_record("run").status is RunState.CANCELLED
        assert store.cancel("run") == 0

    def test_cancelling_a_task_leaves_the_run_running(self, store):
        expand(store, 2)
        assert store.cancel("run", "count") == 2
        assert store.get_run_record("run").status is RunState.RUNNING
        assert store.dispatch_requested("run")

    def test_a_retry_takes_exactly_what_failed_and_keeps_the_attempt(self, store):
        ids = expand(store, 4)
        submit(store, "0-3")
        store.apply([success(ids[0]), failed(ids[1], node="n1", exit_code=3), failed(ids[2]), running(ids[3])])
        store.finish_run("run", RunState.FAILED)
        assert store.retry("run", "count", Indices([1, 3])) == 1
        assert store.retry("run") == 1
        assert states(store) == {"SUCCESS": "0", "RETRYING": "1-2", "RUNNING": "3"}
        assert store.get_run_record("run").status is RunState.RUNNING
        assert store.dispatch_requested("run")
        (attempt,) = store.list_attempts(ids[1])
        assert (attempt.state, attempt.error_text, attempt.exit_code) == (TaskState.FAILED, "boom", 3)
        assert (attempt.failure, attempt.node, attempt.job_id) == ("EXCEPTION", "n1", "100")
        record = store.get_task_instance_record("run", "count", 1)
        assert (record.attempt, record.error_text, record.failure, record.exit_code) == (2, None, None, None)
        assert task_of(store).free == Indices([1, 2])

    def test_a_retry_with_nothing_to_do_leaves_the_run_alone(self, store):
        store.finish_run("run", RunState.SUCCESS)
        assert store.retry("run") == 0
        assert store.get_run_record("run").status is RunState.SUCCESS
        assert not store.dispatch_requested("run")

    def test_a_run_that_was_cancelled_before_it_had_instances_can_be_retried(self, store):
        store.cancel("run")
        assert store.retry("run") == 0
        assert store.get_run_record("run").status is RunState.RUNNING

    def test_a_retry_clears_the_error_of_a_task(self, store):
        store.fail_task("run", "count", "fan-out inputs of unequal length: 3 and 4")
        assert task_of(store).error == "fan-out inputs of unequal length: 3 and 4"
        assert store.dispatch_requested("run")
        assert store.retry("run") == 1
        assert task_of(store).error is None

    def test_a_singleton_that_failed_is_named_like_the_first_element_of_an_array(self, store):
        store.expand("run", "list", [NewInstance(None)], 1)
        (instance,) = store.instance_ids("run", "list")
        store.update_task_submitted("run", "list", "7")
        assert [str(wave.slots) for wave in store.list_waves("run")] == ["None"]
        store.apply([failed(instance)])
        assert store.summarize("run")[0].failed == Indices([0])

    def test_a_remake_gives_up_damaged_successes_and_what_was_made_from_them_element_by_element(self, store):
        ids, children = expand(store, 3), expand(store, 3, "fit")
        store.apply([success(each, identity="5e" * 32) for each in [*ids, *children]])
        store.finish_run("run", RunState.SUCCESS)
        remake = store.remake("run", {("count", 1): Indices([1])})
        assert (remake.damaged, remake.dependent) == ({"count": Indices([1])}, {"fit": Indices([1])})
        assert remake.outdated == {"count": Indices([1]), "fit": Indices([1])}
        assert states(store) == states(store, "fit") == {"SUCCESS": "0,2", "RETRYING": "1"}
        assert store.get_run_record("run").status is RunState.RUNNING
        assert store.dispatch_requested("run")
        record = store.get_task_instance_record("run", "fit", 1)
        assert (record.attempt, record.identity, record.output, record.output_hash) == (2, "", None, "")
        (earlier,) = store.list_attempts(record.id)
        assert earlier.state is TaskState.SUCCESS
        assert store.counts.wrong() == []

    def test_a_remake_that_ends_between_two_of_its_turns_leaves_nothing_that_was_made_from_what_it_gave_up(
        self, store, monkeypatch
    ):
        monkeypatch.setattr(remakes, "TURN_ROWS", 2)
        ids, children = expand(store, 3), expand(store, 3, "fit")
        store.apply([success(each) for each in [*ids, *children]])
        store.finish_run("run", RunState.SUCCESS)
        damaged = {("count", 1): Indices.range(0, 3)}
        with sqlite3.connect(store.path) as connection:
            turns = list(remakes.turns(remakes.plan(connection, "run", damaged)))
            assert [(turn.task, str(turn.successes)) for turn in turns] == [
                ("fit", "0-1"),
                ("fit", "2"),
                ("count", "0-1"),
                ("count", "2"),
            ]
            for turn in turns[:3]:
                remakes.give_up(connection, "run", turn)
        assert (states(store), states(store, "fit")) == ({"SUCCESS": "2", "RETRYING": "0-1"}, {"RETRYING": "0-2"})
        assert store.get_run_record("run").status is RunState.RUNNING
        assert store.remake("run", damaged).damaged == {"count": Indices([2])}
        assert (states(store), states(store, "fit")) == ({"RETRYING": "0-2"}, {"RETRYING": "0-2"})
        assert store.counts.wrong() == []

    def test_reports_of_a_result_that_was_given_up_change_nothing(self, store):
        (instance, *_) = expand(store, 2)
        store.apply([success(instance)])
        store.remake("run", {("count", 1): Indices([0])})
        assert store.apply([success(instance), running(instance)]) == 0
        assert states(store) == {"RETRYING": "0", "PENDING": "1"}
        assert store.published_output(instance) is None
        assert store.list_remarks(instance) == []

    def test_a_remake_leaves_alone_what_has_begun_another_attempt_or_has_not_succeeded(self, store):
        ids = expand(store, 3)
        store.apply([success(ids[0]), failed(ids[1])])
        store.remake("run", {("count", 1): Indices([0])})
        store.apply([success(ids[0], attempt=2)])
        store.finish_run("run", RunState.FAILED)
        store.take_dispatch_request("run")
        assert store.remake("run", {("count", 1): Indices([0, 1, 2])}).count == 0
        assert states(store) == {"SUCCESS": "0", "FAILED": "1", "PENDING": "2"}
        assert store.get_run_record("run").status is RunState.FAILED
        assert not store.dispatch_requested("run")

    def test_a_remake_that_is_refused_changes_nothing(self, store):
        ids, children = expand(store, 2), expand(store, 2, "fit")
        store.apply([success(each) for each in ids])
        submit(store, "1", task="fit")
        with pytest.raises(RetryRefused, match=r"'count' are damaged, and 1 instance\(s\) of task 'fit'"):
            store.remake("run", {("count", 1): Indices([0, 1])})
        assert (states(store), states(store, "fit")) == ({"SUCCESS": "0-1"}, {"PENDING": "0", "SUBMITTED": "1"})
        assert store.remake("run", {("count", 1): Indices([0])}).count == 1
        assert len(children) == 2

    def test_a_result_that_was_made_again_since_it_was_found_is_not_taken_over(self, store):
        (instance,) = expand(store, 1)
        store.apply([success(instance, identity="aa" * 32)])
        (hit,) = store.lookup_cached("count", ["aa" * 32]).values()
        store.remake("run", {("count", 1): Indices([0])})
        store.apply([success(instance, attempt=2, identity="bb" * 32)])
        create(store, "other")
        taken = NewInstance(0, None, "aa" * 32, "", hit.instance)
        with pytest.raises(ResultRemoved):
            store.expand("other", "count", [taken], 1)

    def test_only_results_that_name_files_or_are_files_are_looked_at_unless_all_are_wanted(self, store):
        ids = expand(store, 4)
        path = '{"~":"path","v":"/x"}'
        store.apply([success(ids[0]), success(ids[1], output=path), success(ids[2], output=f'"{"x" * 70_000}"')])
        seen = list(store.results_to_check("run", "count", "path"))
        assert [(each.index, each.attempt) for each in seen] == [(1, 1), (2, 1)]
        assert (seen[0].output, len(seen[1].output)) == (path, 70_002)
        assert [each.index for each in store.results_to_check("run", "count", None)] == [0, 1, 2]
        for file in store.output_files.path.rglob("*"):
            if file.is_file():
                file.unlink()
        assert [each.output for each in store.results_to_check("run", "count", "path")] == [path, None]

    def test_a_release_takes_only_what_is_in_flight(self, store):
        ids = expand(store, 4)
        submit(store, "0-2")
        store.apply([success(ids[0]), running(ids[1])])
        assert store.release("run", "count", Indices.range(0, 4)) == 2
        assert states(store) == {"SUCCESS": "0", "PENDING": "1-3"}
        assert [each.attempt for each in store.list_task_instance_records("run", "count")] == [1, 2, 2, 1]

    def test_a_published_success_comes_before_a_release(self, store):
        (instance,) = expand(store, 1)
        submit(store, "0")
        store.publish([success(instance)])
        assert store.release("run", "count", Indices([0])) == 0
        assert states(store) == {"SUCCESS": "0"}

    def test_outputs_come_as_text_in_index_order(self, store):
        ids = expand(store, 3)
        store.expand("run", "list", [NewInstance(None)], 1)
        store.apply([success(ids[2]), success(ids[0]), failed(ids[1]), success(*store.instance_ids("run", "list"))])
        assert store.outputs("run", "count") == [(0, '"o"', HASH), (2, '"o"', HASH)]
        assert store.outputs("run", "list") == [(0, '"o"', HASH)]


class TestSummaries:
    def test_a_summary_shows_counts_failures_and_times(self, store):
        ids = expand(store, 6)
        submit(store, "0-4")
        store.apply([running(each, at=10 + number) for number, each in enumerate(ids[:4])])
        store.apply([success(ids[0], at=50), failed(ids[1], at=70), failed(ids[3], at=60)])
        summary = next(each for each in store.summarize("run") if each.task_name == "count")
        assert {state.value: number for state, number in summary.counts.items()} == {
            "SUCCESS": 1,
            "FAILED": 2,
            "RUNNING": 1,
            "SUBMITTED": 1,
            "PENDING": 1,
        }
        assert (summary.width, summary.failed) == (6, Indices([1, 3]))
        assert (summary.started_at, summary.finished_at) == (10, 70)
        assert [each.task_name for each in store.summarize("run")] == ["list", "count", "fit"]

    def test_the_counts_agree_with_the_rows_after_every_kind_of_move(self, store):
        ids = expand(store, 8)
        submit(store, "0-6")
        store.apply([running(each) for each in ids[:6]])
        store.apply([success(ids[0]), failed(ids[1]), failed(ids[2]), released(ids[3])])
        store.retry("run", "count", Indices([1]))
        store.release("run", "count", Indices([4]))
        store.cancel("run", "count")
        rows = [each.state.value for each in store.list_task_instance_records("run", "count")]
        assert store.task_state_summary("run")["count"] == {state: rows.count(state) for state in set(rows)}

    def test_a_finished_task_is_one_range(self, store):
        ids = expand(store, 100)
        store.apply([success(each) for each in ids])
        assert task_of(store).states == {TaskState.SUCCESS: Indices.range(0, 100)}

    def test_a_run_that_was_made_row_by_row_cannot_be_dispatched(self, store):
        store.insert_run("rows", "survey", "ann", {})
        store.insert_task_spec("rows", "odd", False, {"cpus": 1}, [])
        with pytest.raises(ManifestError, match="odd"):
            store.snapshot("rows")


def test_sql_itself_refuses_a_move_that_the_table_forbids(store):
    (instance,) = expand(store, 1)
    store.apply([success(instance)])
    store.close()
    connection = sqlite3.connect(store.path)
    with pytest.raises(sqlite3.IntegrityError, match="forbids"):
        connection.execute("UPDATE instances SET state = 3 WHERE id = ?", (instance,))
    with pytest.raises(sqlite3.IntegrityError, match="CHECK"):
        connection.execute("INSERT INTO instances (task, idx, state, created_at, updated_at) VALUES (1, 9, 7, 0, 0)")
    connection.close()
