"""Which slots of a local queue may start, told on histories without any process."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflow.amounts import format_duration, parse_time_limit
from reflow.executors.base import JobStatus
from reflow.executors.localqueue import Condition, ConditionKind, JobHistory, Outcome, QueuedJob, Strike
from reflow.executors.localqueue import history as events
from reflow.executors.localqueue.planning import Schedule
from reflow.indices import Indices


class Stage:
    """A schedule with jobs, and slots that are said to have ended."""

    def __init__(self, nodes: dict[str, int] | None = None) -> None:
        self.histories: dict[int, JobHistory] = {}
        self.schedule = Schedule(nodes or {"n1": 100}, self.histories.get)

    def job(self, slots: str | None = None, *after: Condition, **changes: object) -> JobHistory:
        number = len(self.histories) + 1
        parsed = None if slots is None else Indices.parse(slots)
        made = QueuedJob(number, changes.pop("name", f"job{number}"), "/", "log", parsed, conditions=after, **changes)
        self.histories[number] = JobHistory(made)
        self.schedule.add(self.histories[number])
        return self.histories[number]

    def step(self) -> dict[int, list[int]]:
        """Start what can start and return it, by job; drop what never can."""
        while lost := self.schedule.settle():
            for history, slots in lost:
                history.apply([events.drop(slots, 0)])
        started: dict[int, list[int]] = {}
        for place in self.schedule.startable():
            place.history.apply([events.begin(place.slot, 0, 0, place.node)])
            started.setdefault(place.history.job.id, []).append(place.slot)
        return started

    def end(
        self, history: JobHistory, slot: int, status: JobStatus = JobStatus.COMPLETED, requeue: bool = False
    ) -> None:
        history.apply([events.end(slot, 0, Outcome(status), requeue)])


def after(kind: str, history: JobHistory, slot: int | None = None) -> Condition:
    return Condition(ConditionKind(kind), history.job.id, slot)


def test_jobs_start_in_the_order_in_which_they_came_until_no_cpu_is_free() -> None:
    stage = Stage({"n1": 3})
    stage.job("0-1")
    stage.job("5-9")
    assert stage.step() == {1: [0, 1], 2: [5]}


def test_a_slot_that_does_not_fit_holds_back_the_younger_ones() -> None:
    stage = Stage({"n1": 4})
    first = stage.job(cpus=3)
    wide = stage.job(cpus=4)
    stage.job()
    assert stage.step() == {1: [0]}
    stage.end(first, 0)
    assert stage.step() == {wide.job.id: [0]}


def test_a_slot_that_wants_more_than_there_is_gets_everything() -> None:
    stage = Stage({"n1": 2})
    stage.job(cpus=64)
    stage.job()
    assert stage.step() == {1: [0]}


def test_excluded_nodes_are_not_used() -> None:
    stage = Stage({"n1": 1, "n2": 1})
    history = stage.job("0-5", excluded_nodes=("n1",))
    assert stage.step() == {1: [0]}
    assert history.running[0].node == "n2"


def test_afterok_waits_for_the_whole_array_and_drops_when_one_element_failed() -> None:
    stage = Stage()
    first = stage.job("0-1")
    second = stage.job(None, after("afterok", first))
    stage.step()
    stage.end(first, 0, JobStatus.FAILED)
    stage.step()
    assert second.status(0) is JobStatus.PENDING
    stage.end(first, 1)
    assert stage.step() == {}
    assert second.status(0) is JobStatus.DEPENDENCY


def test_a_job_that_may_not_be_dropped_pends_for_ever() -> None:
    stage = Stage()
    first = stage.job()
    second = stage.job(None, after("afterok", first), kill_on_invalid_dependency=False)
    stage.step()
    stage.end(first, 0, JobStatus.FAILED)
    assert stage.step() == {}
    assert second.status(0) is JobStatus.PENDING


def test_aftercorr_of_an_index_that_the_other_lacks_waits_for_all_of_it() -> None:
    stage = Stage()
    first = stage.job("0-1")
    second = stage.job("0-2", after("aftercorr", first))
    stage.step()
    stage.end(first, 0)
    assert stage.step() == {second.job.id: [0]}
    stage.end(first, 1)
    assert stage.step() == {second.job.id: [1, 2]}


def test_a_dropped_element_drops_its_followers_in_the_same_step() -> None:
    stage = Stage()
    first = stage.job("0-1")
    second = stage.job("0-1", after("aftercorr", first))
    third = stage.job("0-1", after("aftercorr", second))
    stage.step()
    stage.end(first, 1, JobStatus.TIMEOUT)
    stage.step()
    assert third.status(1) is JobStatus.DEPENDENCY
    assert third.status(0) is JobStatus.PENDING


def test_a_requeued_element_keeps_its_follower_waiting() -> None:
    stage = Stage()
    first = stage.job("0-1")
    second = stage.job("0-1", after("aftercorr", first))
    stage.step()
    stage.end(first, 0, JobStatus.PREEMPTED, requeue=True)
    assert stage.step() == {first.job.id: [0]}
    assert first.running[0].restart == 1
    stage.end(first, 0)
    assert stage.step() == {second.job.id: [0]}


def test_a_condition_on_a_forgotten_job_holds() -> None:
    stage = Stage()
    stage.job(None, Condition(ConditionKind.SUCCEEDED, 99))
    assert stage.step() == {1: [0]}


def test_of_alternatives_one_is_enough_and_all_must_be_lost_to_drop() -> None:
    stage = Stage()
    one, two = stage.job(), stage.job()
    either = stage.job(None, after("afterok", one), after("afterok", two), any_condition=True)
    stage.step()
    stage.end(one, 0, JobStatus.FAILED)
    assert stage.step() == {}
    stage.end(two, 0)
    assert stage.step() == {either.job.id: [0]}


def test_singletons_of_one_name_run_one_after_the_other() -> None:
    stage = Stage()
    single = Condition(ConditionKind.SINGLETON)
    first = stage.job(None, single, name="same")
    second = stage.job(None, single, name="same")
    stage.job(None, single, name="other")
    assert stage.step() == {1: [0], 3: [0]}
    stage.end(first, 0)
    stage.schedule.remove(first.job.id)
    assert stage.step() == {second.job.id: [0]}


def test_held_slots_wait_until_they_are_released() -> None:
    stage = Stage()
    history = stage.job("0-2", held=True)
    assert stage.step() == {}
    history.apply([events.hold(Indices([1]), False)])
    stage.schedule.add(history)
    assert stage.step() == {1: [1]}
    history.apply([events.hold(None, False)])
    stage.schedule.add(history)
    assert stage.step() == {1: [0, 2]}


def test_cancelling_ends_waiting_slots_at_once_and_marks_running_ones() -> None:
    stage = Stage({"n1": 1})
    history = stage.job("0-3")
    stage.step()
    history.apply([events.strike(Indices.parse("0,2"), 5, Strike(JobStatus.CANCELLED, gentle=True))])
    assert history.status(2) is JobStatus.CANCELLED
    assert history.status(0) is JobStatus.RUNNING
    assert history.struck[0].gentle
    assert history.waiting == Indices([1, 3])


def test_an_end_of_a_slot_that_is_over_changes_nothing() -> None:
    stage = Stage()
    history = stage.job("0-1")
    stage.step()
    stage.end(history, 0)
    stage.end(history, 0, JobStatus.FAILED)
    assert history.status(0) is JobStatus.COMPLETED
    assert not history.is_over


@given(
    slots=st.sets(st.integers(0, 30), min_size=1),
    throttle=st.integers(1, 4),
    ends=st.lists(st.sampled_from(["COMPLETED", "FAILED", "PREEMPTED"]), max_size=200),
)
def test_whatever_happens_every_slot_starts_and_no_more_run_than_the_throttle_lets(
    slots: set[int], throttle: int, ends: list[str]
) -> None:
    stage = Stage()
    history = stage.job(str(Indices(slots)), throttle=throttle)
    outcomes = iter(ends)
    for _ in range(len(ends) + len(slots) + 1):
        stage.step()
        assert len(history.running) <= throttle
        if history.running:
            status = JobStatus(next(outcomes, "COMPLETED"))
            stage.end(history, min(history.running), status, requeue=status is JobStatus.PREEMPTED)
    assert history.is_over
    assert set(history.tries) == slots


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 5400), ("1:30", 90), ("00:30:00", 1800), ("2-12", 216_000), ("1-01:01", 90_060), ("1-00:00:01", 86_401)],
)
def test_time_limits_are_read_as_slurm_reads_them(text: str, seconds: int) -> None:
    assert parse_time_limit(text) == seconds


@pytest.mark.parametrize("text", ["unlimited", "INFINITE", "0"])
def test_no_limit_is_none(text: str) -> None:
    assert parse_time_limit(text) is None


@pytest.mark.parametrize("text", ["", "soon", "1:2:3:4", "-5", "1h"])
def test_what_is_no_time_limit_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a time limit"):
        parse_time_limit(text)


@given(st.integers(1, 10**7))
def test_a_printed_duration_is_read_back(seconds: int) -> None:
    assert parse_time_limit(format_duration(seconds)) == seconds
