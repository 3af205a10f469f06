"""I1: reports merge as a maximum over (attempt, rank), in any order, any number of times, in any batches."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from reflow.indices import Indices
from reflow.spec import JobConfig, TaskPlan
from reflow.states import FINAL, MOVES, NEXT_ATTEMPT, RANK, REMADE, RunState, TaskState
from reflow.stores.records import Failure, NewInstance, Report
from reflow.stores.sqlite import SqliteStore

INSTANCES = 3
TIMES = st.integers(1, 50)
NODES = st.sampled_from(["n1", "n2", ""])


class Manifest:
    """A manifest with three submitted instances, of which instance i has been retried i times before."""

    def __init__(self, folder: str) -> None:
        self.store = SqliteStore(Path(folder) / "manifest.db")
        self.store.init()
        self.store.insert_run("run", "survey", "ann", {})
        plan = TaskPlan("count", JobConfig(array=True))
        self.store.insert_task_spec("run", "count", True, plan.to_json(), [])
        self.store.expand("run", "count", [NewInstance(index) for index in range(INSTANCES)], INSTANCES)
        self.ids = self.store.instance_ids("run", "count")
        for index in range(INSTANCES):
            for _ in range(index):
                self.store.update_task_failed(self.ids[index], "earlier")
                self.store.retry("run", "count", Indices([index]))
        self.store.update_task_submitted("run", "count", "100")

    def rows(self) -> list[tuple[object, ...]]:
        """Everything that reports decide."""
        return [
            (
                record.state,
                record.attempt,
                record.output,
                record.output_hash,
                record.error_text,
                record.failure,
                record.exit_code,
                record.node,
                record.identity,
                record.started_at,
                record.finished_at,
                record.job_id,
            )
            for record in self.store.list_task_instance_records("run", "count")
        ]


def merged(reports: Sequence[Report], batches: Sequence[int], *, published: bool = False) -> list[tuple[object, ...]]:
    """Merge the reports in this order, in batches of these sizes, into a fresh manifest and return its rows."""
    with tempfile.TemporaryDirectory() as folder:
        manifest = Manifest(folder)
        sizes, start = iter(batches), 0
        while start < len(reports):
            size = next(sizes, len(reports))
            batch = reports[start : start + size]
            if published:
                manifest.store.publish(batch)
                assert manifest.store.merge()
            else:
                manifest.store.apply(batch)
            start += size
        rows = manifest.rows()
        manifest.store.close()
        return rows


def at(draw, instance, attempt, state, **more):
    return Report(instance, attempt, state, draw(TIMES), pid=draw(st.integers(1, 3)), **more)


def end_of(draw, instance, attempt, state=None):
    state = state or draw(st.sampled_from(sorted(FINAL)))
    success = state is TaskState.SUCCESS
    return at(
        draw,
        instance,
        attempt,
        state,
        node=draw(st.sampled_from(["n1", "n2"])),
        output=draw(st.sampled_from(['"a"', "null", "[1]"])) if success else None,
        output_hash="5f" * 32 if success else "",
        identity=draw(st.sampled_from(["", "abc"])),
        error=None if success else "boom",
        failure=None if success else draw(st.sampled_from(Failure)),
        exit_code=draw(st.sampled_from([None, 1])),
        started_at=draw(st.none() | TIMES),
    )


@st.composite
def histories(draw):
    """Everything that copies of three elements may report, however late.

    Each attempt ends at most once: by one final report, or by a release, after which come the reports of the next.
    Of attempts before the one that the manifest is at, anything may still arrive.
    """
    reports = []
    for index in range(INSTANCES):
        instance, first = index + 1, index + 1
        for stale in range(1, first):
            reports += [end_of(draw, instance, stale) for _ in range(draw(st.integers(0, 2)))]
            reports += [at(draw, instance, stale, TaskState.RUNNING) for _ in range(draw(st.integers(0, 1)))]
        releases = draw(st.integers(0, 2))
        for attempt in range(first, first + releases + 1):
            if attempt > first:
                reports.append(at(draw, instance, attempt, TaskState.PENDING))
            node = draw(NODES)
            starts = draw(st.integers(0, 2))
            reports += [at(draw, instance, attempt, TaskState.RUNNING, node=node) for _ in range(starts)]
        if draw(st.booleans()):
            reports.append(end_of(draw, instance, first + releases))
    return reports


@given(histories(), st.data())
@settings(max_examples=60, deadline=None)
def test_any_order_repetition_and_batching_gives_the_same_manifest(reports, data):
    expected = merged(reports, [])
    again = data.draw(st.lists(st.sampled_from(reports), max_size=6)) if reports else []
    shuffled = data.draw(st.permutations(reports + again))
    batches = data.draw(st.lists(st.integers(1, 4), max_size=20))
    assert merged(shuffled, batches, published=data.draw(st.booleans())) == expected


@st.composite
def anything(draw):
    """Any set of reports at all, of copies that contradict each other too."""
    reports = []
    for _ in range(draw(st.integers(1, 12))):
        instance, attempt = draw(st.integers(1, INSTANCES)), draw(st.integers(1, 4))
        state = draw(st.sampled_from([TaskState.RUNNING, TaskState.PENDING, TaskState.SUCCESS]))
        report = end_of(draw, instance, attempt) if state in FINAL else at(draw, instance, attempt, state)
        reports.append(report)
    return reports


@given(anything(), st.data())
@settings(max_examples=40, deadline=None)
def test_the_order_within_a_batch_does_not_matter(reports, data):
    assert merged(data.draw(st.permutations(reports)), []) == merged(reports, [])


def test_of_two_ends_that_differ_in_nothing_else_the_same_one_wins_in_either_order():
    ends = [
        Report(1, 1, TaskState.FAILED, 5, failure=failure, exit_code=code, identity=own, started_at=start)
        for failure in (Failure.EXIT, Failure.EXCEPTION)
        for code in (None, 1)
        for own in ("", "abc")
        for start in (None, 1)
    ]
    for one in ends:
        assert merged([one, ends[0]], []) == merged([ends[0], one], [])


@given(anything())
@settings(max_examples=40, deadline=None)
def test_rows_only_ever_rise_and_what_has_ended_stays(reports):
    with tempfile.TemporaryDirectory() as folder:
        manifest = Manifest(folder)
        for report in reports:
            before = manifest.rows()
            manifest.store.apply([report])
            after = manifest.rows()
            for old, new in zip(before, after, strict=True):
                assert (new[1], RANK[new[0]]) >= (old[1], RANK[old[0]])
                if old[0] in FINAL:
                    assert new[:2] == old[:2]
                    assert new[2:7] == old[2:7]
            manifest.store.apply([report])
            assert manifest.rows() == after
        counted = manifest.store.task_state_summary("run")["count"]
        held = [row[0].value for row in manifest.rows()]
        assert counted == {state: held.count(state) for state in set(held)}
        manifest.store.close()


@given(anything())
@settings(max_examples=30, deadline=None)
def test_every_final_report_is_in_the_manifest_or_a_remark(reports):
    with tempfile.TemporaryDirectory() as folder:
        manifest = Manifest(folder)
        manifest.store.apply(reports)
        for report in reports:
            if report.state not in FINAL:
                continue
            record = manifest.store.list_task_instance_records("run", "count")[report.instance - 1]
            ended = [(record.attempt, record.state, record.finished_at)]
            ended += [(each.attempt, each.state, each.finished_at) for each in manifest.store.list_attempts(record.id)]
            told = [(attempt, state, round(end.timestamp() * 1e6)) for attempt, state, end in ended if end is not None]
            remarked = manifest.store.list_remarks(report.instance)
            assert report in remarked or (report.attempt, report.state, report.at) in told
        manifest.store.close()


def test_the_table_of_moves_lets_nothing_leave_an_ended_attempt_but_a_retry():
    for state in FINAL:
        assert MOVES[state] == frozenset()
        assert NEXT_ATTEMPT.get(state, frozenset()) <= {TaskState.RETRYING}
    assert TaskState.SUCCESS not in NEXT_ATTEMPT
    assert {TaskState.SUCCESS: frozenset({TaskState.RETRYING})} == REMADE


def test_the_manifest_holds_the_very_table_of_moves():
    with tempfile.TemporaryDirectory() as folder:
        manifest = Manifest(folder)
        for old in TaskState:
            for new in sorted(FINAL | {TaskState.RUNNING}):
                name = f"{old}-{new}"
                instance = manifest.store.insert_task_instance("run", name, None, old, None)
                changed = manifest.store.apply([Report(instance, 1, new, 1)])
                assert (changed == 1) == (new in MOVES[old]), name
        assert manifest.store.get_run_record("run").status is RunState.RUNNING
        manifest.store.close()


# How much later than it could a report arrives; positions of an attempt are three apart.
DELAYS = st.sampled_from([0, 0, 0.5, 1.5, 2.5, 4, 7, 100])


@st.composite
def lives(draw):
    """For each element what happens to it in order: reports, and what a person or a dispatcher does in between.

    Yields ``(position, delay, instance, event)``; an event is a report, "retry", "release", or a remake of what an
    attempt has made. A copy of an element that Slurm has requeued reports its own start. What nobody waits for, a start
    or the second arrival of any report, may come at any later time, also after the attempt is long over.
    """
    events = []
    for instance in range(1, INSTANCES + 1):
        position, attempt = 0.0, instance  # instance i has been retried i - 1 times before
        ends = draw(st.lists(st.sampled_from(["retry", "remake", "release"]), max_size=3))
        for end in [*ends, draw(st.sampled_from(["success", "failure", "runs on"]))]:
            node = draw(NODES)
            for restart in range(draw(st.integers(0, 2))):
                start = at(draw, instance, attempt, TaskState.RUNNING, node=node, restart=restart)
                events.append((position, draw(DELAYS), instance, start))
            if end in ("retry", "remake", "failure", "success"):
                state = TaskState.SUCCESS if end in ("remake", "success") else TaskState.FAILED
                last = end_of(draw, instance, attempt, state)
                events.append((position + 1, 0, instance, last))
                events += [(position + 1, draw(DELAYS), instance, last) for _ in range(draw(st.integers(0, 2)))]
            if end in ("retry", "remake", "release"):
                events.append((position + 2, 0, instance, end if end != "remake" else ("remake", attempt)))
                attempt += 1
            if end == "release" and draw(st.booleans()):
                # The copy that Slurm had given up was alive after all. Too late: its result is a remark.
                events.append((position + 2.5, draw(DELAYS), instance, end_of(draw, instance, attempt - 1)))
            position += 3
    return events


def lived(events, batches, *, published) -> tuple[list[tuple[object, ...]], list[object], set[Report]]:
    """Play events ``(moment, instance, event)`` in order; return rows, ends of earlier attempts, and remarks."""
    with tempfile.TemporaryDirectory() as folder:
        manifest = Manifest(folder)
        store = manifest.store
        waiting: list[Report] = []
        sizes = iter(batches)

        def merge() -> None:
            while waiting:
                size = next(sizes, len(waiting))
                batch, waiting[:] = waiting[:size], waiting[size:]
                if published:
                    # Several entries of the spool in one merge, as a packed job and single workers leave them.
                    for piece in (batch[::2], batch[1::2]):
                        store.publish(piece)
                    assert store.merge()
                else:
                    store.apply(batch)

        for _, instance, event in sorted(events, key=lambda event: event[0]):
            if isinstance(event, Report):
                waiting.append(event)
                continue
            merge()
            chosen = Indices([instance - 1])
            match event:
                case "retry":
                    assert store.retry("run", "count", chosen) == 1
                case "release":
                    assert store.release("run", "count", chosen) == 1
                case ("remake", attempt):
                    assert store.remake("run", {("count", attempt): chosen}).count == 1
            store.update_task_submitted("run", "count", "100", indices=[instance - 1])
        merge()
        history = [
            (instance, each.attempt, each.state, each.finished_at, each.failure)
            for instance in manifest.ids
            for each in store.list_attempts(instance)
            # Others are of the manifest's making; what was released before its start was known says "submitted".
            if each.attempt >= instance and each.state in FINAL
        ]
        remarks = {report for instance in manifest.ids for report in store.list_remarks(instance)}
        rows = manifest.rows()
        store.close()
        return rows, history, remarks


@given(lives(), st.data())
@settings(max_examples=60, deadline=None)
def test_late_and_repeated_reports_change_nothing_whatever_was_retried_or_released_meanwhile(events, data):
    expected = lived([(position, instance, event) for position, _, instance, event in events], [], published=False)
    late = [(position + delay, instance, event) for position, delay, instance, event in events]
    again = data.draw(st.lists(st.sampled_from([each for each in late if isinstance(each[2], Report)] or [None])))
    late += [(moment + data.draw(DELAYS), instance, report) for moment, instance, report in filter(None, again)]
    batches = data.draw(st.lists(st.integers(1, 5), max_size=30))
    # Events of one moment come in any order.
    assert lived(data.draw(st.permutations(late)), batches, published=data.draw(st.booleans())) == expected


@given(anything(), st.data())
@settings(max_examples=40, deadline=None)
def test_of_reports_that_contradict_each_other_none_is_lost_in_any_order_and_batching(reports, data):
    """Which of two ends of one attempt counts is a matter of who was first; that both are known is not."""
    again = data.draw(st.lists(st.sampled_from(reports), max_size=4))
    shuffled = data.draw(st.permutations([*reports, *again]))
    with tempfile.TemporaryDirectory() as folder:
        manifest = Manifest(folder)
        while shuffled:
            size = data.draw(st.integers(1, 4))
            for report in shuffled[:size]:
                manifest.store.publish([report])
            shuffled = shuffled[size:]
            assert manifest.store.merge()
        for record in manifest.store.list_task_instance_records("run", "count"):
            mine = {report for report in reports if report.instance == record.id and report.state in FINAL}
            ends = [(record.attempt, record.state, record.finished_at)]
            ends += [(each.attempt, each.state, each.finished_at) for each in manifest.store.list_attempts(record.id)]
            told = {(attempt, state, round(end.timestamp() * 1e6)) for attempt, state, end in ends if end is not None}
            remarked = set(manifest.store.list_remarks(record.id))
            assert {each for each in mine if (each.attempt, each.state, each.at) not in told} <= remarked
            assert remarked <= mine
        manifest.store.close()
