"""The cache at 100,000 elements: hashing and looking up beside each other, and a run of which everything is known.

The first run is not executed: its results are merged as its workers would have reported them.
"""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

from reflow import Result, RunState, Workflow, codec, identity
from reflow.dispatch import dispatch, open_run
from reflow.expansion import instances_of
from reflow.inputs import Value
from reflow.local_run import DirectExecutor
from reflow.spec import TaskPlan
from reflow.states import TaskState
from reflow.stores.records import Report
from reflow.stores.sqlite import SqliteStore

from .table import Table

WIDTH = 100_000

wf = Workflow("known")


@wf.job()
def numbers(width: int) -> list[int]:
    """Return as many numbers as there shall be elements."""
    return list(range(width))


@wf.array_job()
def twice(number: Annotated[int, Result(step="numbers")]) -> int:
    """Return twice the number."""
    return 2 * number


@wf.array_job()
def more(number: Annotated[int, Result(step="twice")]) -> int:
    """Return one more."""
    return number + 1


@wf.job()
def total(values: Annotated[list[int], Result(step="more")]) -> int:
    """Return the sum."""
    return sum(values)


class _Clock:
    """Adds up where the time goes."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str]] = []

    @contextmanager
    def row(self, name: str) -> Iterator[None]:
        """Measure the block as one row."""
        began, used = time.perf_counter(), time.process_time()
        yield
        self.rows.append((name, f"{time.perf_counter() - began:6.2f} s ({time.process_time() - used:.2f} s CPU)"))


def measure() -> Table:
    """Return the time of each part, and of the whole run that computes nothing."""
    watch = _Clock()
    with tempfile.TemporaryDirectory() as folder, SqliteStore(Path(folder) / "manifest.db") as store:
        first = wf.submit(Path(folder) / "first", store=store, executor=DirectExecutor(), width=WIDTH)
        _finish(store, first.run_id)
        plan = TaskPlan.from_json(store.get_task_spec_record(first.run_id, "twice").config)
        outputs = {
            "numbers": {index: Value(text, digest) for index, text, digest in store.outputs(first.run_id, "numbers")}
        }
        with watch.row(f"identities of {WIDTH:,} elements"):
            instances = list(instances_of(plan, {}, "0" * 64, outputs, {}, {"numbers": 1}, lambda path: ""))
        wanted = [row.identity for row in store.list_task_instance_records(first.run_id, "twice")]
        with watch.row(f"look-up of {WIDTH:,} identities, one query, all hits"):
            found = store.lookup_cached("twice", wanted)
        assert len(found) == len(instances) == WIDTH
        with watch.row(f"look-up of {WIDTH:,} identities, one query, no hit"):
            assert not store.lookup_cached("twice", [each.identity for each in instances])
        steps = _steps(store)
        with watch.row(f"all-cached run of 2 x {WIDTH:,} elements: submit"):
            again = wf.submit(Path(folder) / "again", store=store, executor=DirectExecutor(), width=WIDTH)
        assert again.state is RunState.SUCCESS
        assert not store.list_waves(again.run_id)
        watch.rows += [(f"  of that, {name}", f"{seconds:6.2f} s") for name, seconds in steps.items()]
    watch.rows.append(("peak memory", f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MB"))
    return Table(f"the cache, {WIDTH:,} elements", tuple(watch.rows))


def _steps(store: SqliteStore) -> dict[str, float]:
    """Let the store keep the time that its calls take, by what they are for."""
    names = {
        "outputs": "reading upstream outputs",
        "lookup_cached": "looking up",
        "expand": "settling and writing rows, looking up included",
        "snapshot": "planning",
    }
    spent = dict.fromkeys(names.values(), 0.0)

    def timed(call: Callable[..., object], name: str) -> Callable[..., object]:
        def run(*args: object, **kwargs: object) -> object:
            began = time.perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                spent[name] += time.perf_counter() - began

        return run

    for method, name in names.items():
        setattr(store, method, timed(getattr(store, method), name))
    return spent


def _finish(store: SqliteStore, run_id: str) -> None:
    """Report the results of the run's elements, stage by stage, and dispatch what follows."""
    functions = {"numbers": lambda _: list(range(WIDTH)), "twice": lambda i: 2 * i, "more": lambda i: 2 * i + 1}
    functions["total"] = lambda _: WIDTH * WIDTH
    plans = {each.task_name: TaskPlan.from_json(each.config) for each in store.list_task_spec_records(run_id)}
    for task, function in functions.items():
        reports = []
        for number, row in enumerate(store.list_task_instance_records(run_id, task)):
            text = codec.dumps(function(number))
            own = row.identity
            if not own:  # behind a parent whose result was not known: its worker would have worked it out
                parent = identity.hash_value(codec.dumps(2 * number))
                plan = plans[task]
                own = identity.identity(task, plan.config.version, plan.code, row.input_hash, {"number": parent})
            reports.append(
                Report(
                    row.id, 1, TaskState.SUCCESS, 1, output=text, output_hash=identity.hash_value(text), identity=own
                )
            )
        store.apply(reports)
        store.request_dispatch(run_id)
        dispatch(open_run(store, run_id, DirectExecutor()), wait=True)
