"""A worker process that runs one element that does nothing, against a Python that does nothing.

Both are started in turn, so that a busy machine slows both alike: the ratio is the number to compare.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from reflow.stores.sqlite import SqliteStore

from .accepting_slurm import AcceptingSlurm, run_worker, wave_files
from .pipelines import wf
from .table import Table

ROUNDS = 20


def measure() -> Table:
    """Return the median of both, and their ratio."""
    python, worker = [], []
    with tempfile.TemporaryDirectory() as folder:
        run_dir, slurm = Path(folder) / "run", AcceptingSlurm(Path(folder) / "slurm")
        with SqliteStore.for_run_dir(run_dir) as store:
            # One element that is not measured, because the first start compiles, and one that is not run, because
            # the last one would dispatch what comes next.
            wf.submit(run_dir, store=store, executor=slurm.executor, width=ROUNDS + 2)
        run_worker(wave_files(run_dir)[0], 0)
        wave = wave_files(run_dir)[-1]
        run_worker(wave, ROUNDS)
        for slot in range(ROUNDS):
            python.append(_seconds(lambda: subprocess.run([sys.executable, "-c", "pass"], check=True)))
            worker.append(_seconds(lambda slot=slot: run_worker(wave, slot)))
    ratio = statistics.median(worker) / statistics.median(python)
    return Table(
        f"start of one worker, median of {ROUNDS}",
        (
            ("python -c pass", f"{1_000 * statistics.median(python):.1f} ms"),
            ("worker, one element", f"{1_000 * statistics.median(worker):.1f} ms"),
            ("ratio", f"{ratio:.1f}"),
        ),
    )


def _seconds(step: Callable[[], object]) -> float:
    began = time.perf_counter()
    step()
    return time.perf_counter() - began
