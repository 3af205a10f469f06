"""A fan-out of 10,000 elements on a Slurm that only accepts: `submit`, and the dispatch that expands the array.

The array is as wide as the list that the first task returns, so the worker of that task submits it.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from reflow.stores.sqlite import SqliteStore

from .accepting_slurm import AcceptingSlurm, run_worker, wave_files
from .pipelines import wf
from .table import Table

WIDTH = 10_000


def measure() -> Table:
    """Return wall time, write turns and sbatch calls of both steps."""
    with tempfile.TemporaryDirectory() as folder:
        run_dir, slurm = Path(folder) / "run", AcceptingSlurm(Path(folder) / "slurm")
        with SqliteStore.for_run_dir(run_dir) as store:
            store.init()

        def submit() -> None:
            with SqliteStore.for_run_dir(run_dir) as store:
                wf.submit(run_dir, store=store, executor=slurm.executor, width=WIDTH)

        rows = _measured("submit", submit, run_dir, slurm)
        (first,) = wave_files(run_dir)
        rows += _measured("first task and dispatch", lambda: run_worker(first, 0), run_dir, slurm)
    return Table(f"submit, fan-out of {WIDTH:,} elements", rows)


def _measured(name: str, step: Callable[[], None], run_dir: Path, slurm: AcceptingSlurm) -> tuple[tuple[str, str], ...]:
    turns, submits, began = _write_turns(run_dir), slurm.submits, time.perf_counter()
    step()
    seconds = time.perf_counter() - began
    return (
        (f"{name}: wall", f"{seconds:.2f} s"),
        (f"{name}: write turns", str(_write_turns(run_dir) - turns)),
        (f"{name}: sbatch calls", str(slurm.submits - submits)),
    )


def _write_turns(run_dir: Path) -> int:
    """Return how many transactions the manifest has seen: SQLite counts them in its header. No one has it open now."""
    with (run_dir / "manifest.db").open("rb") as file:
        return int.from_bytes(file.read(28)[24:28], "big")
