"""What a test holds of a fake cluster."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from ...executors.base import JobStatus
from ...executors.commands import Completed, run
from ...executors.localqueue import LocalQueue
from ...indices import Indices
from .commands import COMMANDS
from .orders import CommandFailure, SlotFault
from .site import Site, SiteSettings, read_settings, write_settings

_PACKAGE_ROOT = Path(__file__).resolve().parents[3]

#: What sbatch says when the controller does not answer in time.
TIMED_OUT = "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation\n"


@dataclass(frozen=True)
class FakeJob:
    """One job as it stands now."""

    id: str
    name: str
    #: State by slot; a plain job has the one slot None. Slots that wait for another try are PENDING.
    states: Mapping[int | None, JobStatus]
    #: How often each slot has started.
    starts: Mapping[int | None, int]

    @property
    def is_over(self) -> bool:
        """Whether nothing of it waits or runs."""
        return all(state.is_over for state in self.states.values())


class FakeSlurm:
    """``sbatch squeue sacct scancel scontrol`` in a folder, which run scripts as real processes of this machine.

    Use it with ``with``, or `start` and `stop` it; what it started is ended then. Put `bin` first on PATH, or use
    `environment`. It knows arrays with throttles, dependencies, time limits and requeues; it limits no memory.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        nodes: int = 2,
        cpus: int = 4,
        max_array_size: int = 1001,
        max_submit_jobs: int | None = None,
        partitions: tuple[str, ...] | None = None,
        kill_wait: float = 2.0,
        min_job_age: float = 300.0,
        accounting: bool = True,
        account_lag: float = 0.0,
    ) -> None:
        """Describe a cluster of `nodes` nodes with `cpus` CPUs each; nothing happens before `start`.

        :param max_array_size: largest index of an array plus one, Slurm's ``MaxArraySize``
        :param max_submit_jobs: slots that may be in the queue at once; sbatch refuses more
        :param partitions: names of the partitions, the first is the default; None: any name will do
        :param kill_wait: seconds between SIGTERM and SIGKILL
        :param min_job_age: seconds after which squeue forgets what has ended
        :param accounting: whether sacct answers
        :param account_lag: seconds by which sacct is behind
        """
        self.folder = Path(folder).resolve()
        self._settings = SiteSettings(
            nodes={f"n{number}": cpus for number in range(1, nodes + 1)},
            max_array_size=max_array_size,
            max_submit_jobs=max_submit_jobs,
            partitions=partitions,
            kill_wait=kill_wait,
            min_job_age=min_job_age,
            accounting=accounting,
            account_lag=account_lag,
        )

    @property
    def bin(self) -> Path:
        """The folder of the commands."""
        return self.folder / "bin"

    @property
    def environment(self) -> dict[str, str]:
        """This process's environment with the commands first on PATH, and without what a real Slurm has put there."""
        own = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "SBATCH_"))}
        return {**own, "PATH": os.pathsep.join([str(self.bin), os.environ.get("PATH", os.defpath)])}

    def start(self) -> FakeSlurm:
        """Write the commands and return this cluster."""
        self.bin.mkdir(parents=True, exist_ok=True)
        write_settings(self.folder, self._settings)
        program = self.folder / "command.py"
        program.write_text(
            "import sys\n"
            "from pathlib import Path\n"
            f"sys.path.insert(0, {str(_PACKAGE_ROOT)!r})\n"
            "from reflow.testing.fakeslurm.commands import main\n"
            "sys.exit(main(Path(__file__).parent, sys.argv[1:]))\n",
            encoding="utf-8",
        )
        for name in COMMANDS:
            command = self.bin / name
            # By way of a shell: a "#!" line may not be long, nor its path hold blanks.
            words = shlex.join([sys.executable, str(program), name])
            command.write_text(f'#!/bin/sh\nexec {words} "$@"\n', encoding="utf-8")
            command.chmod(0o755)
        return self

    def stop(self) -> None:
        """End every process that was started here; the folder stays."""
        self.queue.stop()

    def __enter__(self) -> FakeSlurm:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def queue(self) -> LocalQueue:
        """The queue behind the commands."""
        return Site(self.folder).queue

    def configure(self, **changes: Any) -> None:
        """Change settings of the running cluster, by the names of `SiteSettings`: ``accounting=False``."""
        write_settings(self.folder, replace(read_settings(self.folder), **changes))
        self.queue.apply_settings()

    def run(
        self, *words: str, cwd: Path | None = None, env: Mapping[str, str] | None = None, timeout: float = 60.0
    ) -> Completed:
        """Run a command, ``run("squeue", "-h")``, with `env` besides `environment`, and return what it said."""
        environment = {**self.environment, **(env or {})}
        return run([str(self.bin / words[0]), *words[1:]], timeout=timeout, cwd=cwd, env=environment)

    def jobs(self) -> list[FakeJob]:
        """Return all jobs, oldest first."""
        found = []
        for history in self.queue.histories():
            keys = {slot: None if history.job.slots is None else slot for slot in history.slots}
            states = {keys[slot]: history.status(slot) for slot in history.slots}
            starts = {keys[slot]: len(history.tries.get(slot, ())) for slot in history.slots}
            found.append(FakeJob(str(history.job.id), history.name, states, starts))
        return found

    def wait_idle(self, timeout: float = 60.0) -> list[FakeJob]:
        """Wait until no job waits or runs and return all; `TimeoutError` names those that still do."""
        deadline = time.monotonic() + timeout
        while unfinished := [job for job in self.jobs() if not job.is_over]:
            if time.monotonic() > deadline:
                left = ", ".join(f"{job.id} ({job.name})" for job in unfinished)
                raise TimeoutError(f"after {timeout:g} s these jobs are not over: {left}")
            self.queue.keep_running()
            time.sleep(0.02)
        return self.jobs()

    def calls(self, command: str) -> list[list[str]]:
        """Return the words of every call of one command so far, without its name."""
        return [words for name, words in Site(self.folder).calls() if name == command]

    def forget_calls(self) -> None:
        """Count calls from here on."""
        Site(self.folder).forget_calls()

    def fail(self, command: str, stderr: str = "", code: int = 1, times: int | None = 1) -> None:
        """Let the next `times` calls (None for all) of a command fail, and do nothing else."""
        self._order(CommandFailure(command, stderr, code, times))

    def slow(self, command: str, seconds: float, times: int | None = 1) -> None:
        """Let the next `times` calls (None for all) of a command wait before they do their work."""
        self._order(CommandFailure(command, code=None, times=times, seconds=seconds))

    def lose_submission(self, accepted: bool, times: int | None = 1) -> None:
        """Let sbatch say that the controller did not answer, when the job was `accepted` or when it was not."""
        self._order(CommandFailure("sbatch", TIMED_OUT, times=times, works=accepted))

    def inject(
        self,
        status: JobStatus | str,
        *,
        name: str = "*",
        slots: str | None = None,
        restart: int | None = None,
        times: int | None = 1,
        delay: float | None = 0.0,
        requeue: bool | None = None,
        outlives: bool = False,
    ) -> None:
        """Bring an end upon slots that start from now on: OUT_OF_MEMORY, NODE_FAIL, PREEMPTED, TIMEOUT, FAILED, ...

        :param name: pattern (``*``, ``?``) of the job's name
        :param slots: only these, as in ``--array``
        :param restart: only the start with this ``SLURM_RESTART_COUNT``
        :param times: how many slots are struck in all; None for every one
        :param delay: seconds after the start; None: the script ends by itself, and its end counts as this one
        :param requeue: whether Slurm starts the slot again; by default after NODE_FAIL and PREEMPTED, unless the
            job was submitted with ``--no-requeue``
        :param outlives: the process goes on, as on a node that is only cut off
        """
        fault = SlotFault(JobStatus(status).value, name, slots, restart, times, delay, requeue, outlives)
        Site(self.folder).orders.order_fault(fault)

    def strike(
        self,
        status: JobStatus | str,
        job_id: str,
        slots: str | None = None,
        *,
        requeue: bool | None = None,
        outlives: bool = False,
    ) -> None:
        """Bring an end upon slots of a job (None for all) that run now; the rest as in `inject`."""
        history = self.queue.history(int(job_id))
        if history is None:
            raise ValueError(f"there is no job {job_id}")
        fault = SlotFault(JobStatus(status).value, requeue=requeue, outlives=outlives)
        self.queue.cancel(history.job.id, None if slots is None else Indices.parse(slots), fault.strike(history.job))

    def clear(self) -> None:
        """Take back failures and ends that have not happened yet."""
        Site(self.folder).orders.clear()

    def _order(self, failure: CommandFailure) -> None:
        Site(self.folder).orders.order_failure(failure)
