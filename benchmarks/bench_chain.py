"""A chain of three arrays of 200 elements with skewed durations, on a private real Slurm.

Beside it: the same elements as plain ``sbatch --array`` jobs with ``aftercorr``, which is what Slurm's own start
latency allows; the same workflow with a barrier after each stage; and the longest chain, which nothing can beat. Every
makespan is from the start of the first element to the end of the last.
"""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
import time
from pathlib import Path

from reflow import SlurmExecutor, TaskState, Workflow
from reflow.stores.sqlite import SqliteStore
from reflow.testing.cluster import PrivateSlurm

from .chain_pipeline import barriers, seconds, wf
from .table import Table

WIDTH = 200
STAGES = ("first", "second", "third")


def measure() -> Table:
    """Return the makespans, and reflow's as a multiple of plain Slurm's."""
    with tempfile.TemporaryDirectory() as folder, PrivateSlurm(nodes=8, cpus=8, accounting=False) as slurm:
        os.environ.update(slurm.environment)
        plain = _plain(Path(folder) / "plain")
        flowing = _makespan(wf, Path(folder) / "flowing")
        waiting = _makespan(barriers, Path(folder) / "waiting")
    chains = [sum(seconds(stage, number) for stage in (1, 2, 3)) for number in range(WIDTH)]
    return Table(
        f"chain of 3 arrays of {WIDTH} elements, 64 CPUs",
        (
            ("longest chain", f"{max(chains):.1f} s"),
            ("work / 64 CPUs", f"{sum(chains) / 64:.1f} s"),
            ("plain sbatch, aftercorr", f"{plain:.1f} s"),
            ("reflow", f"{flowing:.1f} s"),
            ("reflow with barriers", f"{waiting:.1f} s"),
            ("reflow / plain", f"{flowing / plain:.2f}"),
            ("barriers / reflow", f"{waiting / flowing:.2f}"),
        ),
    )


def _makespan(workflow: Workflow, run_dir: Path) -> float:
    with SqliteStore.for_run_dir(run_dir) as store:
        run = workflow.submit(run_dir, store=store, executor=SlurmExecutor(), width=WIDTH)
        run.wait(900)
        elements = [each for stage in STAGES for each in store.list_task_instance_records(run.run_id, stage)]
    assert [each.state for each in elements] == 3 * WIDTH * [TaskState.SUCCESS]
    begins = [each.started_at for each in elements if each.started_at is not None]
    ends = [each.finished_at for each in elements if each.finished_at is not None]
    return (max(ends) - min(begins)).total_seconds()


def _plain(folder: Path) -> float:
    """Return the makespan of the same sleeps without reflow."""
    folder.mkdir()
    job = ""
    for stage in (1, 2, 3):
        durations = folder / f"durations-{stage}"
        durations.write_text("".join(f"{seconds(stage, number)}\n" for number in range(WIDTH)))
        script = folder / f"{stage}.sh"
        python = shlex.quote(sys.executable)
        script.write_text(
            "#!/bin/sh\n"
            f"date +%s.%N >> {folder}/begins\n"
            f'{python} -c "import time; time.sleep($(sed -n $((SLURM_ARRAY_TASK_ID + 1))p {durations}))"\n'
            f"date +%s.%N >> {folder}/ends\n"
        )
        words = ["--parsable", f"--array=0-{WIDTH - 1}", "--mem=50M", "--output=/dev/null"]
        words += [f"--dependency=aftercorr:{job}"] if job else []
        job = _sbatch(*words, str(script))
    ends = folder / "ends"
    while not ends.exists() or len(ends.read_text().splitlines()) < 3 * WIDTH:
        time.sleep(0.2)
    begins = min(map(float, (folder / "begins").read_text().split()))
    return max(map(float, ends.read_text().split())) - begins


def _sbatch(*words: str) -> str:
    from reflow.executors.commands import clean_environment, run

    said = run(["sbatch", *words], env=clean_environment(os.environ), timeout=60.0)
    assert said.code == 0, said.stderr
    return said.stdout.strip()


if __name__ == "__main__":
    print(measure())
