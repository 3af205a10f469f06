"""What every store does, row by row: the table in API.md, one suite for all implementations."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone

import pytest

from reflow.states import FINAL, RunState, TaskState
from reflow.stores import SqliteStore, Store

HASH = "5f" * 32


@pytest.fixture(params=[SqliteStore])
def store(request, tmp_path):
    made = request.param(tmp_path / "manifest.db")
    made.init()
    made.insert_run("run", "survey", "ann", {"scale": 2})
    yield made
    made.close()


def add(store, task="count", index=None, state=TaskState.PENDING, **more):
    return store.insert_task_instance("run", task, index, state, more.pop("input", None), **more)


def state_of(store, task="count", index=None):
    return store.get_task_instance("run", task, index)["state"]


def test_every_store_is_a_store(store):
    assert isinstance(store, Store)


def test_init_may_be_called_again(store):
    store.init()
    assert store.get_run("run")["graph_name"] == "survey"


def test_a_closed_store_reopens_when_it_is_used(store):
    store.close()
    store.close()
    assert store.get_run("run")["user_id"] == "ann"
    store.close()
    store.update_run_status("run", RunState.FAILED)
    assert store.get_run("run")["status"] == "FAILED"


def test_a_new_run_is_running_and_keeps_its_parameters(store):
    before = datetime.now(timezone.utc) - timedelta(minutes=1)
    run = store.get_run("run")
    assert set(run) == {"run_id", "graph_name", "user_id", "created_at", "status", "parameters"}
    assert run["status"] == RunState.RUNNING
    assert run["parameters"] == {"scale": 2}
    assert before < datetime.fromisoformat(run["created_at"]) < before + timedelta(minutes=2)
    assert json.loads(json.dumps(run)) == run


def test_a_run_id_is_taken_once(store):
    with pytest.raises(ValueError, match="run"):
        store.insert_run("run", "other", "bob", {})
    assert store.get_run("run")["graph_name"] == "survey"


def test_an_unknown_run_is_none_and_its_parameters_a_key_error(store):
    assert store.get_run("nobody") is None
    with pytest.raises(KeyError, match="nobody"):
        store.get_run_parameters("nobody")
    assert store.get_run_parameters("run") == {"scale": 2}


@pytest.mark.parametrize("name", ["index", "since", "until", "last", "status", "task", "__run_dir__", "a b", "ü"])
def test_parameters_may_have_any_name(store, name):
    store.insert_run("named", "survey", "ann", {name: [1, {"x": None}]})
    assert store.get_run_parameters("named") == {name: [1, {"x": None}]}


@pytest.mark.parametrize("status", list(RunState))
def test_the_status_of_a_run_can_be_set(store, status):
    store.update_run_status("run", status)
    assert store.get_run("run")["status"] == status.value


def test_runs_are_listed_newest_first_and_filtered(store):
    store.insert_run("run2", "survey", "bob", {})
    store.insert_run("run3", "other", "ann", {})
    store.update_run_status("run2", RunState.SUCCESS)

    def ids(*arguments, **options):
        return [run["run_id"] for run in store.list_runs(*arguments, **options)]

    assert ids() == ["run3", "run2", "run"]
    assert ids("survey") == ["run2", "run"]
    assert ids(None, "ann") == ["run3", "run"]
    assert ids("survey", "ann") == ["run"]
    assert ids(limit=2) == ["run3", "run2"]
    assert ids(limit=0) == []
    assert ids(status=RunState.SUCCESS) == ["run2"]
    now = datetime.now(timezone.utc)
    assert ids(since=now - timedelta(hours=1)) == ["run3", "run2", "run"]
    assert ids(since=now + timedelta(hours=1)) == []
    assert ids(until=now - timedelta(hours=1)) == []
    assert ids(until=now + timedelta(hours=1), graph_name="other") == ["run3"]


def test_a_task_spec_keeps_its_sorted_dependencies_and_is_replaced_by_the_next(store):
    store.insert_task_spec("run", "sum", False, "{}", ["b", "a"])
    assert store.list_task_dependencies("run", "sum") == ["a", "b"]
    store.insert_task_spec("run", "sum", True, {"cpus": 2}, ["c"])
    assert store.list_task_dependencies("run", "sum") == ["c"]
    assert store.list_task_dependencies("run", "nothing") == []


def test_an_instance_is_found_again_by_its_key(store):
    singleton = add(store, "load", input={"path": "x"}, identity=HASH, input_hash="abc")
    element = add(store, "count", 3, input=[1, 2])
    assert singleton != element
    found = store.get_task_instance("run", "load", None)
    assert found["id"] == singleton
    assert found["array_index"] is None
    assert found["input"] == {"path": "x"}
    assert found["identity"] == HASH
    assert found["input_hash"] == "abc"
    assert found["state"] is TaskState.PENDING
    assert found["output"] is None
    assert found["job_id"] is None
    assert store.get_task_instance("run", "count", 3)["input"] == [1, 2]
    assert store.get_task_instance("run", "count", 4) is None
    assert store.get_task_instance("run", "load", 0) is None
    assert store.get_task_instance("other", "load", None) is None


@pytest.mark.parametrize("text", ["", "abc", HASH, HASH.upper(), "z" * 64, "5f 5f" + "0" * 59, "ü"])
def test_hashes_come_back_exactly_as_they_came(store, text):
    instance = add(store, identity=text, input_hash=text)
    store.update_task_success(instance, 1, text)
    found = store.get_task_instance("run", "count", None)
    assert (found["identity"], found["input_hash"], found["output_hash"]) == (text, text, text)


def test_the_same_instance_is_not_made_twice(store):
    add(store, index=1)
    with pytest.raises(ValueError, match=r"count\[1\]"):
        add(store, index=1)


def test_instances_are_listed_by_task_and_index_and_filtered(store):
    for task, index in [("b", 10), ("b", 2), ("a", None)]:
        add(store, task, index)
    store.update_task_running(store.get_task_instance("run", "b", 2)["id"])

    def keys(*arguments):
        return [(each["task_name"], each["array_index"]) for each in store.list_task_instances("run", *arguments)]

    assert keys() == [("a", None), ("b", 2), ("b", 10)]
    assert keys("b") == [("b", 2), ("b", 10)]
    assert keys(None, [TaskState.RUNNING]) == [("b", 2)]
    assert keys("b", {TaskState.PENDING, TaskState.RUNNING}) == [("b", 2), ("b", 10)]
    assert keys("b", []) == []
    assert keys("c") == []


def test_instances_are_counted(store):
    assert store.count_task_instances("run", "count") == 0
    for index in range(3):
        add(store, index=index)
    assert store.count_task_instances("run", "count") == 3
    assert store.count_task_instances("nobody", "count") == 0


def test_outputs_are_those_of_successes_in_index_order(store):
    for index in (2, 0, 1):
        add(store, index=index)
    for index in (2, 0):
        store.update_task_success(store.get_task_instance("run", "count", index)["id"], {"n": index}, f"hash{index}")
    store.update_task_failed(store.get_task_instance("run", "count", 1)["id"], "boom")
    assert store.get_array_outputs("run", "count") == [{"n": 0}, {"n": 2}]
    assert store.get_all_output_hashes("run", "count") == ["hash0", "hash2"]
    assert store.get_output_hash("run", "count", 2) == "hash2"
    assert store.get_output_hash("run", "count", 1) == ""
    assert store.get_output_hash("run", "count", 7) == ""


def test_a_singletons_output_is_none_until_it_succeeds(store):
    instance = add(store, "load")
    assert store.get_singleton_output("run", "load") is None
    store.update_task_success(instance, [1, "zwei", None], HASH)
    assert store.get_singleton_output("run", "load") == [1, "zwei", None]
    assert store.get_output_hash("run", "load") == HASH
    assert store.get_singleton_output("run", "nothing") is None


def test_a_dependency_is_satisfied_when_all_its_instances_succeeded(store):
    assert not store.dependency_is_satisfied("run", "count")
    first, second = add(store, index=0), add(store, index=1)
    store.update_task_success(first, 1)
    assert not store.dependency_is_satisfied("run", "count")
    store.update_task_success(second, 1)
    assert store.dependency_is_satisfied("run", "count")


def test_submitting_takes_all_waiting_instances_or_those_named(store):
    ids = [add(store, index=index) for index in range(4)]
    store.update_task_failed(ids[3], "boom")
    store.update_task_submitted("run", "count", "100", indices=[1])
    assert [state_of(store, index=index) for index in range(4)] == ["PENDING", "SUBMITTED", "PENDING", "FAILED"]
    store.update_task_submitted("run", "count", "101", indices=[])
    assert state_of(store, index=0) == "PENDING"
    store.mark_for_retry(ids[3])
    store.update_task_submitted("run", "count", "102")
    jobs = [(each["state"], each["job_id"]) for each in store.list_task_instances("run", "count")]
    assert jobs == [("SUBMITTED", "102"), ("SUBMITTED", "100"), ("SUBMITTED", "102"), ("SUBMITTED", "102")]


def test_index_0_names_a_singleton(store):
    add(store, "load")
    store.update_task_submitted("run", "load", "7", indices=[0])
    assert store.get_task_instance("run", "load", None)["job_id"] == "7"


def test_a_worker_may_start_before_submitted_is_written(store):
    instance = add(store)
    store.update_task_running(instance)
    store.update_task_submitted("run", "count", "100")
    assert state_of(store) == "RUNNING"


def test_a_caller_without_worker_may_settle_directly(store):
    store.update_task_success(add(store, index=0), 5)
    store.update_task_failed(add(store, index=1), "boom")
    assert state_of(store, index=0) == "SUCCESS"
    failed = store.get_task_instance("run", "count", 1)
    assert (failed["state"], failed["error_text"]) == ("FAILED", "boom")


SETTLE = {
    TaskState.SUCCESS: lambda store, instance: store.update_task_success(instance, "late", "late"),
    TaskState.FAILED: lambda store, instance: store.update_task_failed(instance, "late"),
    TaskState.CANCELLED: lambda store, instance: store.update_task_cancelled(instance),
    TaskState.RUNNING: lambda store, instance: store.update_task_running(instance),
}


@pytest.mark.parametrize("late", list(SETTLE))
@pytest.mark.parametrize("first", sorted(FINAL))
def test_a_final_state_is_final(store, first, late):
    instance = add(store)
    SETTLE[first](store, instance)
    before = store.get_task_instance("run", "count", None)
    SETTLE[late](store, instance)
    assert store.get_task_instance("run", "count", None) == before


def test_an_unknown_instance_changes_nothing(store):
    for settle in SETTLE.values():
        settle(store, 4711)
    store.mark_for_retry(4711)
    assert store.list_task_instances("run") == []


@pytest.mark.parametrize("end", [TaskState.FAILED, TaskState.CANCELLED])
def test_a_retry_clears_the_attempt_and_counts_it(store, end):
    instance = add(store, index=4, input={"x": 1}, identity=HASH)
    store.update_task_submitted("run", "count", "100")
    SETTLE[end](store, instance)
    store.mark_for_retry(instance)
    found = store.get_task_instance("run", "count", 4)
    assert found["state"] == "RETRYING"
    assert (found["job_id"], found["output"], found["error_text"], found["attempt"]) == (None, None, None, 2)
    assert (found["input"], found["identity"]) == ({"x": 1}, HASH)


@pytest.mark.parametrize("state", [each for each in TaskState if each not in (TaskState.FAILED, TaskState.CANCELLED)])
def test_only_failed_and_cancelled_instances_are_retried(store, state):
    instance = add(store, state=state)
    store.mark_for_retry(instance)
    found = store.get_task_instance("run", "count", None)
    assert (found["state"], found["attempt"]) == (state, 1)


def test_the_cache_finds_the_newest_success_of_that_task_over_all_runs(store):
    assert store.find_cached("count", HASH) is None
    add(store, "other", identity=HASH, state=TaskState.SUCCESS)
    assert store.find_cached("count", HASH) is None
    store.update_task_success(add(store, index=0, identity=HASH), "old")
    store.insert_run("run2", "survey", "ann", {})
    second = store.insert_task_instance("run2", "count", 5, TaskState.PENDING, None, identity=HASH)
    assert store.find_cached("count", HASH)["output"] == "old"
    store.update_task_success(second, "new", "h")
    found = store.find_cached("count", HASH)
    assert (found["run_id"], found["array_index"], found["output"], found["output_hash"]) == ("run2", 5, "new", "h")


def test_the_cache_finds_nothing_for_no_identity_or_a_failure(store):
    store.update_task_success(add(store, index=0), "x")
    store.update_task_failed(add(store, index=1, identity="abc"), "x")
    assert store.find_cached("count", "") is None
    assert store.find_cached("count", "abc") is None


def test_the_summary_counts_states_by_task(store):
    assert store.task_state_summary("run") == {}
    ids = [add(store, index=index) for index in range(3)]
    add(store, "load")
    store.update_task_success(ids[0], 1)
    store.update_task_running(ids[1])
    assert store.task_state_summary("run") == {
        "count": {"SUCCESS": 1, "RUNNING": 1, "PENDING": 1},
        "load": {"PENDING": 1},
    }


def test_failing_what_waits_leaves_alone_what_runs(store):
    ids = [add(store, index=index) for index in range(5)]
    store.update_task_submitted("run", "count", "1", indices=[1])
    store.update_task_running(ids[2])
    store.update_task_failed(ids[3], "boom")
    store.mark_for_retry(ids[3])
    store.update_task_success(ids[4], 1)
    assert store.fail_pending_tasks("run", "count", "gone", indices=[]) == 0
    assert store.fail_pending_tasks("run", "count", "gone", indices=[0, 2]) == 1
    assert store.fail_pending_tasks("run", "count", "gone") == 2
    assert store.fail_pending_tasks("run", "nothing", "gone") == 0
    found = [(each["state"], each["error_text"]) for each in store.list_task_instances("run")]
    gone = ("FAILED", "gone")
    assert found == [gone, gone, ("RUNNING", None), gone, ("SUCCESS", None)]


def test_error_text_may_hold_undecodable_file_names(store):
    store.update_task_failed(add(store), "cannot open 'caf\udce9'")
    assert store.get_task_instance("run", "count", None)["error_text"] == "cannot open 'caf\\udce9'"


AWKWARD = ["a b", 'a"=0"', "a'; DROP TABLE runs; --", "a\nb", "../up", "ü/ß", "-x", "%d"]


@pytest.mark.parametrize("name", AWKWARD)
def test_names_may_be_awkward(store, name):
    store.insert_run(name, name, name, {})
    store.insert_task_spec(name, name, True, {}, [name])
    instance = store.insert_task_instance(name, name, 0, TaskState.PENDING, name)
    store.update_task_submitted(name, name, name)
    store.update_task_success(instance, name, name)
    assert store.get_array_outputs(name, name) == [name]
    assert store.get_task_instance(name, name, 0)["job_id"] == name
    assert store.task_state_summary(name) == {name: {"SUCCESS": 1}}
