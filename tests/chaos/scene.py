"""A run that things are done to, on a fake or a real Slurm, and how to look at it without helping it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from reflow.run import Run
from reflow.states import RunState
from reflow.stores.records import TaskInstanceRecord
from reflow.stores.sqlite import SqliteStore
from reflow.testing import FakeSlurm, PrivateSlurm

HERE = Path(__file__).parent
VICTIMS = HERE / "victims.py"

# Submits a workflow and is gone. Time-outs are short, so that a command that hangs does not make a test hang.
_SUBMIT = """
import json, sys
from pathlib import Path
from reflow import SlurmExecutor
from reflow.cli.pipeline import load_workflow
file, run_dir, store, options, parameters = sys.argv[1:]
executor = SlurmExecutor(submit_timeout=4, command_timeout=20, **json.loads(options))
run = load_workflow(Path(file)).submit(run_dir, store=store, executor=executor, **json.loads(parameters))
print(run.run_id)
"""

# An sbatch that misbehaves once, or as often as its mode says, and is the real one at all other times.
_SBATCH = """#!/bin/bash
strikes=$(cat {folder}/strikes 2>/dev/null || echo 0)
for (( i = 1; i <= strikes; i++ )); do
    mkdir "{folder}/struck-$i" 2>/dev/null || continue
    case $(cat {folder}/mode) in
    error)
        echo "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)" >&2
        exit 1 ;;
    hang) exec sleep 600 ;;
    lost)
        {real} "$@" >/dev/null
        echo "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation" >&2
        exit 1 ;;
    late)
        {real} "$@" >/dev/null
        exec sleep 600 ;;
    esac
done
exec {real} "$@"
"""


class Place(ABC):
    """A Slurm under test."""

    name: str

    @property
    @abstractmethod
    def environment(self) -> dict[str, str]:
        """The variables with which commands speak to it."""

    @abstractmethod
    def job_counts(self) -> Counter[str]:
        """Return how many jobs were ever accepted under each name."""

    @abstractmethod
    def open_jobs(self) -> list[str]:
        """Return the names of jobs that wait or run."""

    def tend(self) -> None:  # noqa: B027 (a real one tends itself)
        """Keep it going; called often."""

    def run(self, *words: str, **variables: str) -> str:
        """Run a command that speaks to it and return what it printed."""
        done = subprocess.run(
            words,
            env={**self.environment, **variables},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout


class FakePlace(Place):
    """A fake Slurm."""

    name = "fake"

    def __init__(self, slurm: FakeSlurm) -> None:
        self.slurm = slurm

    @property
    def environment(self) -> dict[str, str]:
        return self.slurm.environment

    def job_counts(self) -> Counter[str]:
        return Counter(job.name for job in self.slurm.jobs())

    def open_jobs(self) -> list[str]:
        return [job.name for job in self.slurm.jobs() if not job.is_over]

    def tend(self) -> None:
        self.slurm.queue.keep_running()


class RealPlace(Place):
    """A private real Slurm."""

    name = "real"

    def __init__(self, slurm: PrivateSlurm) -> None:
        self.slurm = slurm

    @property
    def environment(self) -> dict[str, str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "SBATCH_"))}
        return own | self.slurm.environment

    def job_counts(self) -> Counter[str]:
        words = ["--noheader", "--parsable2", "--allocations", "--format=JobName,JobID", "--starttime=now-1days"]
        jobs = set()
        for line in self.run("sacct", *words).splitlines():
            name, _, job = line.partition("|")
            jobs.add((name, job.partition("_")[0]))
        return Counter(name for name, _ in jobs)

    def open_jobs(self) -> list[str]:
        return self.run("squeue", "--noheader", "--format=%j").split()


class Scene:
    """One run in one place."""

    def __init__(self, place: Place, folder: Path, *, pipeline: Path = VICTIMS) -> None:
        self.place = place
        self.folder = folder
        self.run_dir = folder / "run"
        self.run_dir.mkdir(parents=True)
        self.manifest = folder / "manifest.db"
        self.run_id = ""
        self.extra: dict[str, str] = {}
        self._pipeline = pipeline
        real = shutil.which("sbatch", path=place.environment["PATH"])
        (folder / "bin").mkdir()
        sbatch = folder / "bin" / "sbatch"
        sbatch.write_text(_SBATCH.format(folder=folder / "bin", real=real))
        sbatch.chmod(0o755)

    def submit(self, *, hold: bool = False, executor: Mapping[str, object] | None = None, **parameters: object) -> None:
        """Submit the workflow from a process that is gone afterwards; elements of `hold` wait for `let_go`.

        `executor` holds keywords of `SlurmExecutor`.
        """
        if hold:
            self.hold()
        path = os.pathsep.join([str(self.folder / "bin"), self.place.environment["PATH"]])
        home = {"XDG_CONFIG_HOME": str(self.folder / "home"), "XDG_CACHE_HOME": str(self.folder / "home")}
        words = [self._pipeline, self.run_dir, self.manifest, json.dumps(executor or {}), json.dumps(parameters)]
        done = subprocess.run(
            [sys.executable, "-c", _SUBMIT, *map(str, words)],
            cwd=self.run_dir,
            env={**self.place.environment, **home, "PATH": path, "PYTHONDONTWRITEBYTECODE": "1", **self.extra},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        self.run_id = done.stdout.split()[-1]

    def hold(self) -> None:
        """Let elements wait before they end."""
        (self.run_dir / "hold").touch()

    def let_go(self) -> None:
        """Let them end."""
        (self.run_dir / "hold").unlink(missing_ok=True)

    def sbatch_does(self, mode: str, strikes: int = 1) -> None:
        """Let the next calls of sbatch misbehave: ``error``, ``hang``; accepted: ``lost``, ``late``."""
        (self.folder / "bin" / "mode").write_text(mode)
        (self.folder / "bin" / "strikes").write_text(str(strikes))

    def trace(self, word: str) -> list[list[str]]:
        """Return the lines of the trace that begin with the word: task, index, job, restart count, pid."""
        trace = self.run_dir / "trace"
        lines = [line.split() for line in trace.read_text().splitlines()] if trace.exists() else []
        return [line[1:] for line in lines if line[0] == word]

    def pid(self, task: str, index: int) -> int:
        """Wait until an element has begun and return its process."""
        self.until(lambda: any(line[:2] == [task, str(index)] for line in self.trace("begin")))
        return int(next(line for line in self.trace("begin") if line[:2] == [task, str(index)])[-1])

    @contextmanager
    def look(self) -> Iterator[SqliteStore]:
        """Open the manifest as somebody who never writes."""
        with SqliteStore(self.manifest, readonly=True) as store:
            yield store

    def job(self, task: str, *, sentinel: bool = False) -> str:
        """Wait until a task's job, or its sentinel, is recorded, and return its id."""

        def known() -> str | None:
            with self.look() as store:
                waves = [wave for wave in store.list_waves(self.run_id) if wave.task_name == task]
            return (waves[-1].sentinel_job_id if sentinel else waves[-1].job_id) if waves else None

        self.until(lambda: known() is not None)
        return known() or ""

    def state(self) -> RunState:
        """Return the state of the run as the manifest has it."""
        with self.look() as store:
            record = store.get_run_record(self.run_id)
        assert record is not None
        return record.status

    def instances(self) -> dict[tuple[str, int], TaskInstanceRecord]:
        """Return every instance; a singleton has the index 0."""
        with self.look() as store:
            found = store.list_task_instance_records(self.run_id)
        return {(each.task_name, each.array_index or 0): each for each in found}

    def until(self, condition: Callable[[], object], seconds: float = 90.0) -> None:
        """Wait for something, and help nobody."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"it did not happen in {seconds:.0f} s: {self.describe()}"
            self.place.tend()
            time.sleep(0.05)

    def settle(self, seconds: float, *, looking: bool = False) -> float:
        """Wait until the run is settled and return how long that took; `looking` with ``reflow status``."""
        began = time.monotonic()

        def is_over() -> bool:
            if looking and self.state() is RunState.RUNNING:
                self.status()
            return self.state() is not RunState.RUNNING

        self.until(is_over, seconds)
        return time.monotonic() - began

    def status(self) -> str:
        """Do what a person does who wants to know."""
        return self.place.run(
            sys.executable, "-m", "reflow", "status", self.run_id, REFLOW_STORE_PATH=str(self.manifest)
        )

    def describe(self) -> str:
        """Return all that helps to understand a run that hangs."""
        if not self.run_id:
            return "nothing was submitted"
        with self.look() as store:
            run = Run(self.run_id, store)
            status = run.read_status()
            waves = [
                f"  wave {wave.id} {wave.task_name} {wave.state} job {wave.job_id} sentinel {wave.sentinel_job_id}"
                for wave in store.list_waves(self.run_id)
            ]
            wanted = store.dispatch_requested(self.run_id)
        lines = [line.text for line in status.lines(errors=True)]
        lines += [*waves, f"  dispatch requested: {wanted}", f"  open jobs: {self.place.open_jobs()}"]
        return "\n".join([*lines, f"  {self.folder}"])

    def wrongs(self) -> list[str]:
        """Return what no run may show: jobs of the same name, elements that ran to completion twice in one try."""
        names = {wave.job_name for wave in self._waves()}
        found = [
            f"{count} jobs are called {name}"
            for name, count in self.place.job_counts().items()
            if count > 1 and name.removesuffix("-sentinel") in names and not name.endswith("-sentinel")
        ]
        ends = Counter(tuple(line[:4]) for line in self.trace("end"))
        found += [
            f"{task}[{index}] ended {count} times in job {job}"
            for (task, index, job, _), count in ends.items()
            if count > 1
        ]
        return found

    def _waves(self) -> list:
        with self.look() as store:
            return store.list_waves(self.run_id)


def wanted_results(width: int) -> Mapping[str, object]:
    """Return what the victims' pipeline gives when nothing is lost."""
    after = [number * 10 + 1 for number in range(width)]
    return {"work": [number * 10 for number in range(width)], "after": after, "total": sum(after)}
