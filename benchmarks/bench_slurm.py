"""Elements that do nothing on a private real Slurm: what reflow adds to the array jobs of Slurm itself.

Three parts, of which ``REFLOW_PARTS=speed,calls`` chooses some:

``chunks``
    5,000 elements where an array may have 1,001
``speed``
    2,000 elements: ``sbatch --array`` of a Python that does nothing, reflow, and reflow with 100 elements to a slot.
    One after the other on the same cluster, in as many rounds as ``REFLOW_ROUNDS`` says, each round in another order.
    The wall time of a run is from before its submit until the manifest says SUCCESS, so it has one job more, whose
    result says how wide the array is, and what comes between. CPU seconds are those of daemons, jobs and this process.
    Slurm starts jobs as fast as it can, and all of them share this machine's few cores, so CPU decides. On a cluster
    they run on the nodes, and what decides is how many jobs a second slurmctld starts.
``calls``
    how often Slurm's commands are called in a run of 10, 1,000 and 100,000 elements (these in packs of 1,000) that
    nobody looks at
"""

from __future__ import annotations

import os
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from reflow import RunState, TaskState, Workflow
from reflow.stores.sqlite import SqliteStore
from reflow.testing.cluster import PrivateSlurm

from .slurm_pipeline import packed, single, wide
from .slurm_site import COMMANDS, CountingCommands, cpu_seconds, wait_until_empty
from .table import Table

PARTS = os.environ.get("REFLOW_PARTS", "chunks,speed,calls").split(",")
ROUNDS = int(os.environ.get("REFLOW_ROUNDS", "3"))

PLAIN = "sbatch --array, python -c pass"
CHUNKED, WIDTH = 5_000, 2_000
MAX_ARRAY_SIZE = 1_001

#: A run of this width takes some minutes; much longer means that it hangs.
PATIENCE = 1_800.0


@dataclass(frozen=True)
class Spent:
    """What one array took, in seconds."""

    wall: float
    cpu: float
    waves: int = 1


Rows = list[tuple[str, str]]


def measure() -> Table:
    """Return the rows of the chosen parts, with the machine's load before and after."""
    rows: Rows = [("load before", _load())]
    parts = {"chunks": _chunks, "speed": _speed, "calls": _calls}
    with tempfile.TemporaryDirectory() as folder:
        for part in PARTS:
            with _cluster() as slurm:
                rows += parts[part](Path(folder) / part, slurm)
    rows.append(("load after", _load()))
    return Table("elements that do nothing, private Slurm, 64 CPUs", tuple(rows))


@contextmanager
def _cluster() -> Iterator[PrivateSlurm]:
    # The finished jobs of all rounds stay in the controller's memory, and count.
    lines = [f"MaxArraySize={MAX_ARRAY_SIZE}", "MaxJobCount=100000"]
    with PrivateSlurm(nodes=8, cpus=8, config_lines=lines) as slurm, _speaking_to(slurm):
        yield slurm


@contextmanager
def _speaking_to(slurm: PrivateSlurm) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(slurm.environment)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # workers would compile reflow each time
    yield
    os.environ.clear()
    os.environ.update(before)


def _chunks(folder: Path, slurm: PrivateSlurm) -> Rows:
    spent = _run(single, CHUNKED, folder, slurm)
    title = f"{CHUNKED:,} elements, MaxArraySize {MAX_ARRAY_SIZE:,}"
    return [(title, f"{spent.wall:.1f} s"), ("  arrays", str(spent.waves)), ("  CPU", f"{spent.cpu:.1f} s")]


def _speed(folder: Path, slurm: PrivateSlurm) -> Rows:
    ways: dict[str, Callable[[Path], Spent]] = {
        PLAIN: lambda place: _plain(place, slurm),
        "reflow": lambda place: _run(single, WIDTH, place, slurm),
        "reflow, pack=100": lambda place: _run(packed, WIDTH, place, slurm),
    }
    found: dict[str, list[Spent]] = {name: [] for name in ways}
    names = list(ways)
    for number in range(ROUNDS):
        for name in names:
            found[name].append(ways[name](folder / f"{number}-{len(found[name])}-{names.index(name)}"))
        names = [*names[1:], names[0]]
    rows = [(f"{WIDTH:,} elements, median of {ROUNDS}", f"{'wall':>10}{'CPU':>10}{'of plain':>10}{'CPU':>8}")]
    middle = {name: Spent(_median(each, "wall"), _median(each, "cpu")) for name, each in found.items()}
    plain = middle[PLAIN]
    for name, spent in middle.items():
        ratios = f"{spent.wall / plain.wall:>10.2f}{spent.cpu / plain.cpu:>8.2f}"
        rows.append((f"  {name}", f"{spent.wall:>8.1f} s{spent.cpu:>8.1f} s{ratios}"))
    by_packing = {name: spent.wall / middle["reflow, pack=100"].wall for name, spent in middle.items()}
    rows.append(("  plain / packed, reflow / packed", f"{by_packing[PLAIN]:.1f}, {by_packing['reflow']:.1f}"))
    return rows


def _median(spent: list[Spent], what: str) -> float:
    return statistics.median(getattr(each, what) for each in spent)


def _calls(folder: Path, slurm: PrivateSlurm) -> Rows:
    rows = [("calls in a run", "".join(f"{name:>9}" for name in COMMANDS))]
    for workflow, width, words in ((single, 10, ""), (single, 1_000, ""), (wide, 100_000, ", pack=1,000")):
        commands = CountingCommands(folder / f"commands-{width}", slurm)
        _run(workflow, width, folder / str(width), slurm, commands)
        counts = commands.counts()
        rows.append((f"  {width:,} elements{words}", "".join(f"{counts[name]:>9}" for name in COMMANDS)))
    return rows


def _run(
    workflow: Workflow, width: int, run_dir: Path, slurm: PrivateSlurm, commands: CountingCommands | None = None
) -> Spent:
    """Submit, look on without helping until the run is over, and wait until its last sentinel has gone too."""
    executor = (commands or CountingCommands(run_dir.with_name(f"{run_dir.name}-commands"), slurm)).executor
    used, began = cpu_seconds(), time.perf_counter()
    with SqliteStore.for_run_dir(run_dir) as store:
        run = workflow.submit(run_dir, store=store, executor=executor, width=width)
    with SqliteStore.for_run_dir(run_dir, readonly=True) as store:
        while _status(store, run.run_id) is RunState.RUNNING:
            assert time.perf_counter() - began < PATIENCE, f"the run {run.run_id} in {run_dir} does not end"
            time.sleep(0.1)
        wall = time.perf_counter() - began
        wait_until_empty(slurm)
        used = cpu_seconds() - used
        assert store.task_state_summary(run.run_id)["nothing"] == {TaskState.SUCCESS: width}
        waves = sum(wave.task_name == "nothing" for wave in store.list_waves(run.run_id))
    return Spent(wall, used, waves)


def _status(store: SqliteStore, run_id: str) -> RunState:
    record = store.get_run_record(run_id)
    assert record is not None
    return record.status


def _plain(folder: Path, slurm: PrivateSlurm) -> Spent:
    """Run the same number of Pythons that do nothing, in arrays of at most MaxArraySize, without reflow."""
    folder.mkdir(parents=True)
    script = folder / "nothing.sh"
    script.write_text(f"#!/bin/bash\nexec {shlex.quote(sys.executable)} -c pass\n")
    words = ["--parsable", "--mem=50M", "--time=30", f"--output={folder}/log", "--open-mode=append"]
    used, began = cpu_seconds(), time.perf_counter()
    for first in range(0, WIDTH, MAX_ARRAY_SIZE):
        slots = min(MAX_ARRAY_SIZE, WIDTH - first)
        slurm.run("sbatch", *words, f"--array=0-{slots - 1}", script)
    wait_until_empty(slurm)
    return Spent(time.perf_counter() - began, cpu_seconds() - used)


def _load() -> str:
    return " ".join(f"{each:.2f}" for each in os.getloadavg())


if __name__ == "__main__":
    print(measure())
