"""What the engine does to 10,000, 100,000 and 1,000,000 elements, each phase in a process of its own.

``REFLOW_WIDTHS=10000,100000`` measures others. CPU seconds stand where the machine's other work would spoil wall time.
"""

from __future__ import annotations

import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from reflow import clock, identity
from reflow.dispatch import dispatch, open_run
from reflow.indices import Indices
from reflow.states import TaskState
from reflow.stores import expansions
from reflow.stores.records import CachedResult, NewInstance, Report
from reflow.stores.sqlite import SqliteStore

from .accepting_slurm import AcceptingSlurm, wave_files
from .million_pipeline import wf
from .table import Table

WIDTHS = tuple(int(each) for each in os.environ.get("REFLOW_WIDTHS", "10000,100000,1000000").split(","))
BATCH = 5_000
RUN = "mixed"
INSERT = (
    "INSERT INTO instances (task, idx, state, created_at, updated_at, identity, input_hash, input)"
    " VALUES (1, ?, 0, 1, 1, ?, ?, ?)"
)


def measure() -> Table:
    """Return a row for each quantity, with a column for each width."""
    columns = [column(width) for width in WIDTHS]
    rows = [(name, "".join(f"{column[name]:>14}" for column in columns)) for name in columns[0]]
    return Table("a run at width", (("elements", "".join(f"{width:>14,}" for width in WIDTHS)), *rows))


class TimedStore(SqliteStore):
    """Adds up what the parts of a re-run take in the manifest."""

    spent: dict[str, float]

    def lookup_cached(self, task_name: str, identities: Collection[str]) -> dict[str, CachedResult]:
        with self._adding("lookup"):
            return super().lookup_cached(task_name, identities)

    def iterate_outputs(self, run_id: str, task_name: str) -> Iterator[tuple[int, str, str]]:
        waiting = super().iterate_outputs(run_id, task_name)
        while True:
            with self._adding("outputs"):
                some = list(islice(waiting, BATCH))
            if not some:
                return
            yield from some

    def _write(self, change: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        with self._adding("rows" if change is expansions.add else "other turns"):
            return super()._write(change, *args, **kwargs)

    @contextmanager
    def _adding(self, name: str) -> Iterator[None]:
        began = time.process_time()
        yield
        self.spent[name] = self.spent.get(name, 0.0) + time.process_time() - began


def column(width: int) -> dict[str, str]:
    """Measure one width, phase by phase."""
    measured: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        for phase in PHASES:
            command = [sys.executable, "-m", "benchmarks.bench_million", str(width), phase, folder]
            measured.update(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout))
    return measured


def _peak() -> str:
    """Return the most memory that this process has had."""
    status = Path("/proc/self/status").read_text()
    return next(f"{int(line.split()[1]) / 1024:.0f} MB" for line in status.splitlines() if line.startswith("VmHWM"))


def _rows(folder: Path, width: int) -> dict[str, str]:
    digests = [bytes.fromhex(identity.hash_value(str(index))) for index in range(width)]

    def packed() -> Iterator[tuple[int, bytes, bytes, str]]:
        return ((index, digests[index], digests[0], f'{{"number":{index}}}') for index in range(width))

    bare = _cpu(lambda: _insert_bare(folder / "bare.db", packed()))
    store = SqliteStore(folder / "manifest.db")
    store.init()
    store.insert_run(RUN, "benchmark", "someone", {})
    store.insert_task_spec(RUN, "same", True, {}, [])
    common = digests[0].hex()
    instances = (NewInstance(i, f'{{"number":{i}}}', digests[i].hex(), common) for i in range(width))
    expand = _cpu(lambda: store.expand(RUN, "same", instances, width))
    size = store.path.stat().st_size / width
    everything = Indices.range(0, width)

    def submit() -> None:
        wave = store.reserve(RUN, "same", everything, slots=everything, offset=0, after_waves=())
        assert wave is not None
        store.record_submission(wave.id, "1")

    submitted = _cpu(submit)
    peak = _peak()
    ids = store.instance_ids(RUN, "same")
    merged = 0.0
    for start in range(0, width, BATCH):
        reports = [_report(each, number) for number, each in enumerate(ids[start : start + BATCH])]
        merged += _cpu(lambda reports=reports: store.apply(reports))
    snapshot = _cpu(lambda: store.summarize(RUN))
    store.close()
    return {
        "bare executemany, rows/s": f"{width / bare:,.0f}",
        "expand + submit rows, rows/s": f"{width / (expand + submitted):,.0f}",
        "of the bare rate": f"{bare / (expand + submitted):.2f}",
        "expand alone": f"{expand:.2f} s",
        "reserve + mark submitted": f"{submitted:.2f} s",
        "  peak memory, with the bench's own rows": peak,
        "bytes per waiting instance": f"{size:.0f}",
        "merge in batches, each": f"{1e6 * merged / width:.1f} us",
        "summary": f"{1_000 * snapshot:.1f} ms",
        **_commands(folder),
        **_spool(folder, width),
    }


def _report(instance: int, number: int) -> Report:
    # Of each batch, some run and some have failed, between those that have succeeded.
    states = (TaskState.SUCCESS, TaskState.RUNNING, TaskState.SUCCESS, TaskState.FAILED)
    state = states[number % 4] if number < 40 else TaskState.SUCCESS
    output = str(instance) if state is TaskState.SUCCESS else None
    return Report(instance, 1, state, clock.now(), node="n1", pid=1, output=output, output_hash="ab" * 32)


def _insert_bare(path: Path, rows: Iterator[tuple[int, bytes, bytes, str]]) -> None:
    with SqliteStore(path) as store:
        store.init()
        store.insert_run(RUN, "benchmark", "someone", {})
        store.insert_task_spec(RUN, "same", True, {}, [])
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA cache_size = -32000")
        for (trigger,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {trigger}")
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(INSERT, rows)
        connection.execute("COMMIT")


def _commands(folder: Path) -> dict[str, str]:
    environment = {**os.environ, "REFLOW_STORE_PATH": str(folder / "manifest.db")}

    def wall(*words: str) -> str:
        seconds = []
        for _ in range(3):
            began = time.perf_counter()
            command = [sys.executable, "-m", "reflow", *words]
            subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
            seconds.append(time.perf_counter() - began)
        return f"{statistics.median(seconds):.2f} s"

    return {"reflow status, whole process": wall("status", RUN), "reflow runs, whole process": wall("runs")}


def _spool(folder: Path, width: int) -> dict[str, str]:
    """Merge reports that were published one by one, into the manifest with all its rows."""
    with SqliteStore(folder / "manifest.db") as store:
        store.insert_run("more", "benchmark", "someone", {})
        store.insert_task_spec("more", "same", True, {}, [])
        number = min(width, 2_000)
        store.expand("more", "same", [NewInstance(index) for index in range(number)], number)
        for instance in store.instance_ids("more", "same"):
            store.publish([_report(instance, 0)])
        each = _cpu(store.merge) / number
    return {"merge from the spool, each": f"{1e6 * each:.0f} us"}


def _fan_out(folder: Path, width: int) -> dict[str, str]:
    slurm, run_dir = AcceptingSlurm(folder / "slurm"), folder / "run"
    with SqliteStore(folder / "run.db") as store:
        run = wf.submit(run_dir, store=store, executor=slurm.executor, width=width)
        _end(store, run.run_id, "numbers", ["[" + ",".join(map(str, range(width))) + "]"])
        active = open_run(store, run.run_id, slurm.executor)
        seconds = _cpu(lambda: dispatch(active))
        peak = _peak()
        _end(store, run.run_id, "same", map(str, range(width)))
    wave = max(wave_files(run_dir), key=lambda path: path.stat().st_size).stat().st_size / width
    return {
        "dispatch: fan-out, wave file, submit": f"{seconds:.2f} s",
        "  peak memory of it": peak,
        "wave file, bytes per element": f"{wave:.0f}",
    }


def _gather(folder: Path, width: int) -> dict[str, str]:
    slurm = AcceptingSlurm(folder / "slurm")
    with SqliteStore(folder / "run.db") as store:
        (record,) = store.list_run_records()
        active = open_run(store, record.run_id, slurm.executor)
        seconds = _cpu(lambda: dispatch(active))
        peak = _peak()
        _end(store, record.run_id, "total", ["0"])
        dispatch(active)
    return {"dispatch: gather": f"{seconds:.2f} s", "  peak memory of the gather": peak}


def _again(folder: Path, width: int) -> dict[str, str]:
    slurm = AcceptingSlurm(folder / "slurm")
    with TimedStore(folder / "run.db") as store:
        store.spent = {}
        again = _cpu(lambda: wf.submit(folder / "run", store=store, executor=slurm.executor, width=width))
        peak = _peak()
        assert all(task.cached == task.width for task in store.summarize(store.list_run_records()[0].run_id))
    rest = again - sum(store.spent.values())
    return {
        "all-cached re-run": f"{again:.2f} s",
        "  reading outputs": f"{store.spent['outputs']:.2f} s",
        "  looking up": f"{store.spent['lookup']:.2f} s",
        "  writing rows": f"{store.spent['rows']:.2f} s",
        "  hashing and the rest": f"{rest:.2f} s",
        "  peak memory of the re-run": peak,
    }


#: In the order in which they build on each other.
PHASES: dict[str, Callable[[Path, int], dict[str, str]]] = {
    "rows": _rows,
    "fan-out": _fan_out,
    "gather": _gather,
    "again": _again,
}


def _end(store: SqliteStore, run_id: str, task: str, outputs: Iterable[str]) -> None:
    reports: list[Report] = []
    for instance, text in zip(store.instance_ids(run_id, task), outputs, strict=True):
        digest = identity.hash_value(text)
        reports.append(Report(instance, 1, TaskState.SUCCESS, clock.now(), output=text, output_hash=digest))
        if len(reports) == BATCH:
            store.apply(reports)
            reports = []
    store.apply(reports)


def _cpu(step: Callable[[], Any]) -> float:
    began = time.process_time()
    step()
    return time.process_time() - began


if __name__ == "__main__":
    print(json.dumps(PHASES[sys.argv[2]](Path(sys.argv[3]), int(sys.argv[1]))))
