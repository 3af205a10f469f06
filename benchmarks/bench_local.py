"""`run_local` of 10,000 elements that do nothing, with one worker: the middle of three runs."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

from reflow.stores.sqlite import SqliteStore

from .pipelines import wf
from .table import Table

WIDTH = 10_000
ROUNDS = 3


def measure() -> Table:
    """Return milliseconds per element."""
    seconds = []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as folder, SqliteStore.for_run_dir(Path(folder)) as store:
            began = time.perf_counter()
            wf.run_local(folder, store=store, width=WIDTH)
            seconds.append(time.perf_counter() - began)
    per_element = 1_000 * statistics.median(seconds) / WIDTH
    return Table(f"run_local, {WIDTH:,} elements, 1 worker", (("per element", f"{per_element:.3f} ms"),))
