"""`reflow status` of a run with 100,000 finished elements, as a whole process, and the size of its manifest."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from reflow import TaskState, clock
from reflow.stores.records import NewInstance, Report
from reflow.stores.sqlite import SqliteStore

from .table import Table

WIDTH = 100_000
ROUNDS = 3
RUN = "benchmark-run"


def measure() -> Table:
    """Return the wall time of the command, and bytes per element."""
    with tempfile.TemporaryDirectory() as folder:
        manifest = Path(folder) / "manifest.db"
        _fill(manifest)
        environment = {**os.environ, "REFLOW_STORE_PATH": str(manifest)}
        seconds = []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            command = [sys.executable, "-m", "reflow", "status", RUN]
            subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
            seconds.append(time.perf_counter() - began)
        size = manifest.stat().st_size / WIDTH
    return Table(
        f"status, {WIDTH:,} elements",
        (
            (f"reflow status, median of {ROUNDS}", f"{1_000 * statistics.median(seconds):.0f} ms"),
            ("manifest, per element", f"{size:.0f} bytes"),
        ),
    )


def _fill(manifest: Path) -> None:
    """Record a run whose array has succeeded, with a small output for each element."""
    with SqliteStore(manifest) as store:
        store.init()
        store.insert_run(RUN, "benchmark", "someone", {})
        store.insert_task_spec(RUN, "nothing", True, {}, [])
        store.expand(RUN, "nothing", (NewInstance(index, f'{{"number":{index}}}') for index in range(WIDTH)), WIDTH)
        store.apply(
            [
                Report(instance, 1, TaskState.SUCCESS, clock.now(), output=str(instance), output_hash="0" * 64)
                for instance in store.instance_ids(RUN, "nothing")
            ]
        )
