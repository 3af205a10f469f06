"""The counts that a summary shows are those of the rows, whatever happened to them."""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reflow.errors import ManifestError
from reflow.indices import Indices
from reflow.spec import JobConfig, TaskPlan
from reflow.states import TaskState
from reflow.stores.records import NewInstance, Report
from reflow.stores.sqlite import SqliteStore

WIDTH = 6
STATES = st.sampled_from(
    [TaskState.RUNNING, TaskState.SUCCESS, TaskState.FAILED, TaskState.CANCELLED, TaskState.PENDING]
)
SPANS = st.sets(st.integers(0, WIDTH - 1), min_size=1).map(Indices)


class Life:
    """A manifest with one array, and what can happen to it."""

    def __init__(self, folder: str) -> None:
        self.store = SqliteStore(Path(folder) / "manifest.db")
        self.store.init()
        for run in ("earlier", "run"):
            self.store.insert_run(run, "survey", "ann", {})
            self.store.insert_task_spec(run, "count", True, TaskPlan("count", JobConfig(array=True)).to_json(), [])
        self.store.expand("earlier", "count", [NewInstance(0, identity="a" * 64)], 1)
        self.store.update_task_success(1, 1)

    def expand(self, cached):
        rows = [NewInstance(i, identity="a" * 64, cached_from=1 if i in cached else None) for i in range(WIDTH)]
        self.store.expand("run", "count", rows, WIDTH)

    def submit(self, indices):
        wave = self.store.reserve("run", "count", indices, slots=indices, offset=0)
        if wave is not None:
            self.store.record_submission(wave.id, "7")

    def refuse(self, indices):
        wave = self.store.reserve("run", "count", indices, slots=indices, offset=0)
        if wave is not None:
            self.store.refuse_wave(wave.id, "no")

    def report(self, reports):
        ids = self.store.instance_ids("run", "count")
        self.store.apply([Report(ids[i], attempt, state, at) for i, attempt, state, at in reports if i < len(ids)])

    def remake(self, indices, attempt):
        self.store.remake("run", {("count", attempt): indices})

    def row_by_row(self, index, state):
        ids = self.store.instance_ids("run", "count")
        if index < len(ids):
            move = {
                TaskState.RUNNING: self.store.update_task_running,
                TaskState.SUCCESS: lambda instance: self.store.update_task_success(instance, 1),
                TaskState.FAILED: lambda instance: self.store.update_task_failed(instance, "boom"),
                TaskState.CANCELLED: self.store.update_task_cancelled,
                TaskState.PENDING: self.store.mark_for_retry,
            }[state]
            move(ids[index])

    def check(self):
        assert self.store.counts.wrong() == []
        cached = sum(each.cached_from is not None for each in self.store.list_task_instance_records("run", "count"))
        assert next(iter(self.store.summarize("run"))).cached == cached


STEPS = st.one_of(
    st.tuples(st.just("submit"), SPANS),
    st.tuples(st.just("refuse"), SPANS),
    st.tuples(
        st.just("report"),
        st.lists(st.tuples(st.integers(0, WIDTH - 1), st.integers(1, 3), STATES, st.integers(1, 9)), max_size=8),
    ),
    st.tuples(st.just("remake"), SPANS, st.integers(1, 2)),
    st.tuples(st.just("row_by_row"), st.integers(0, WIDTH - 1), STATES),
    st.tuples(st.sampled_from(["cancel", "retry"])),
    st.tuples(st.sampled_from(["release", "retry"]), SPANS),
)


@given(st.sets(st.integers(0, WIDTH - 1)), st.lists(STEPS, max_size=12))
@settings(max_examples=60, deadline=None)
def test_no_sequence_of_moves_makes_a_count_drift(cached, steps):
    with tempfile.TemporaryDirectory() as folder:
        life = Life(folder)
        life.expand(cached)
        life.check()
        for name, *arguments in steps:
            if name in ("submit", "refuse", "report", "remake", "row_by_row"):
                getattr(life, name)(*arguments)
            elif name == "cancel":
                life.store.cancel("run", "count")
            else:
                getattr(life.store, name)("run", "count", *arguments)
            life.check()
        life.store.close()


def test_a_turn_that_fails_leaves_the_counts_and_their_trigger_as_they_were(tmp_path):
    life = Life(str(tmp_path))
    with pytest.raises(ManifestError):
        life.store.expand("run", "count", [NewInstance(0), NewInstance(1, cached_from=99)], 2)
    life.check()
    life.expand(set())
    with pytest.raises(OverflowError):
        life.store.apply([Report(2, 1, TaskState.SUCCESS, 5), Report(3, 1, TaskState.SUCCESS, 2**70)])
    life.row_by_row(0, TaskState.FAILED)
    life.check()
    assert life.store.task_state_summary("run")["count"] == {"PENDING": WIDTH - 1, "FAILED": 1}


def test_counts_that_somebody_has_damaged_are_found_and_made_right(tmp_path):
    life = Life(str(tmp_path))
    life.expand({1, 2})
    life.store.close()
    with closing(sqlite3.connect(life.store.path)) as connection:
        connection.execute("UPDATE counts SET instances = instances + 1 WHERE state = 0")
        connection.commit()
    assert [(counted, there) for _, _, counted, there in life.store.counts.wrong()] == [(1, 0), (WIDTH - 1, WIDTH - 2)]
    life.store.counts.repair()
    life.check()
