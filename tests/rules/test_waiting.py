"""What a run waits for, in words."""

from __future__ import annotations

import pytest

from reflow.indices import Indices
from reflow.states import TaskState
from reflow.stores.records import TaskSpecRecord, TaskSummary, WaveRecord, WaveState
from reflow.waiting import find_waits

SECOND = 1_000_000


def task(name, width, **counts):
    known = {TaskState(state.upper()): count for state, count in counts.items()}
    return TaskSummary(name, True, width, known, Indices(), None, None, None, 0)


def spec(name, *upstreams):
    return TaskSpecRecord("run", name, True, {}, upstreams)


def wave(task_name, job_id, slots, created_at=0):
    state = WaveState.INTENT if job_id is None else WaveState.SUBMITTED
    return WaveRecord(1, "run", task_name, "name", state, job_id, None, Indices.parse(slots), 0, None, created_at)


def told(tasks, specs=(), waves=(), reasons=None, now=60 * SECOND):
    return [wait.line.text for wait in find_waits(tasks, specs, waves, reasons or {}, now=now)]


def test_a_task_without_instances_waits_for_what_is_not_complete():
    tasks = [task("a", 1, success=1), task("b", 3, success=1, running=2), task("c", None)]
    assert told(tasks, [spec("a"), spec("b", "a"), spec("c", "a", "b")]) == ["c: waits for b"]


def test_elements_of_a_chain_wait_for_their_parents():
    tasks = [task("b", 3, running=3), task("c", 3, pending=2, running=1)]
    assert told(tasks, [spec("b"), spec("c", "b")]) == ["c: 2 wait for b"]


def test_a_submit_that_was_put_off_is_told_apart_from_one_that_is_being_made():
    tasks = [task("b", 10, pending=10)]
    assert told(tasks, waves=[wave("b", None, "0-9", created_at=59 * SECOND)]) == []
    (line,) = told(tasks, waves=[wave("b", None, "0-9", created_at=0)])
    assert line.startswith("b: 10 wait to be submitted: the scheduler takes no more jobs now")


def test_elements_in_the_queue_are_counted_by_the_schedulers_reason():
    tasks = [task("b", 5, submitted=4, running=1)]
    reasons = {"7": {"Priority": 1, "Resources": 3}, "8": {"Licenses": 1}}  # job 8 is of another task
    assert told(tasks, waves=[wave("b", "7", "0-4")], reasons=reasons) == [
        "b: 3 wait in the queue for free resources (Resources)",
        "b: 1 wait in the queue behind jobs of higher priority (Priority)",
    ]


@pytest.mark.parametrize(
    "reason", ["PartitionTimeLimit", "QOSMaxWallDurationPerJobLimit", "AssocMaxCpuPerJobLimit", "BadConstraints"]
)
def test_what_would_wait_for_ever_says_so_and_what_to_do(reason):
    tasks = [task("b", 1, submitted=1)]
    (wait,) = find_waits(tasks, [], [wave("b", "7", "0")], {"7": {reason: 1}}, now=0)
    assert wait.stuck
    assert "wait for ever" in wait.words
    assert "cancel" in wait.words


@pytest.mark.parametrize(
    "reason", ["QOSMaxJobsPerUserLimit", "AssocGrpCpuLimit", "ReqNodeNotAvail, UnavailableNodes:n1"]
)
def test_what_passes_by_itself_is_not_called_stuck(reason):
    tasks = [task("b", 1, submitted=1)]
    (wait,) = find_waits(tasks, [], [wave("b", "7", "0")], {"7": {reason: 1}}, now=0)
    assert not wait.stuck
    assert wait.reason == reason.partition(",")[0]


def test_without_an_answer_of_the_scheduler_the_queue_has_no_reason():
    assert told([task("b", 4, submitted=4)], waves=[wave("b", "7", "0-3")]) == ["b: 4 wait in the queue"]
