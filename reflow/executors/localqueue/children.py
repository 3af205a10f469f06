"""One running slot: start its script as Slurm would, notice its end, end it."""

from __future__ import annotations

import getpass
import os
import re
import signal
from pathlib import Path

from ...errors import SchedulerError
from ..base import JobStatus
from ..commands import Process, start
from . import processes
from .folder import QueueFolder
from .history import Outcome, Try
from .records import QueuedJob

_DEFAULT_INTERPRETER = "/bin/bash"


class Child:
    """The process of one slot, leader of a session and group of its own."""

    def __init__(self, pid: int, birth: str, own: Process[bytes] | None) -> None:
        self.pid = pid
        self.birth = birth
        self._own = own

    @classmethod
    def adopt(cls, pid: int, birth: str) -> Child | None:
        """Take over a process that another runner started; None when it has ended."""
        return cls(pid, birth, None) if processes.birth(pid) == birth else None

    @property
    def is_adopted(self) -> bool:
        """Whether another runner started it, so that no SIGCHLD tells of its end."""
        return self._own is None

    def has_ended(self) -> bool:
        """Return whether the process has ended; then nothing of its group lives any more."""
        if self._own is None:
            if processes.birth(self.pid) == self.birth:
                return False
            # Children that outlived it keep its number from being used again.
            processes.tell_group(self.pid, signal.SIGKILL)
            return True
        if self._own.returncode is None:
            if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                return False
            # While it is not waited for, its id cannot name another group.
            processes.tell_group(self.pid, signal.SIGKILL)
            self._own.wait()
        return True

    def outcome(self) -> Outcome:
        """Return how the process ended by itself; the exit code of an adopted one is known to nobody."""
        if self._own is None:
            return Outcome(JobStatus.NODE_FAIL, reason="RunnerDied")
        code = self._own.returncode
        if code < 0:
            return Outcome(JobStatus.FAILED, 0, -code, "JobLaunchFailure" if code == -signal.SIGKILL else "")
        status = JobStatus.FAILED if code else JobStatus.COMPLETED
        return Outcome(status, code, 0, "NonZeroExitCode" if code else "")

    def ask_to_end(self) -> None:
        """Send SIGTERM to the script's own process only, as Slurm does: what it ``exec``s gets it, children do not."""
        processes.tell(self.pid, signal.SIGCONT)
        processes.tell(self.pid, signal.SIGTERM)

    def warn(self) -> None:
        """Send SIGUSR1 to the script's own process."""
        processes.tell(self.pid, signal.SIGUSR1)

    def kill(self) -> None:
        """Send SIGKILL to everything that the script started."""
        processes.tell_group(self.pid, signal.SIGKILL)


def start_slot(folder: QueueFolder, job: QueuedJob, slot: int, attempt: Try, mark: str) -> Child | None:
    """Start the script for one slot; None when its folder or log cannot be opened."""
    environment = folder.environment(job.id)
    environment.update(slot_variables(job, slot, attempt))
    environment[processes.MARK] = mark
    script = folder.script(job.id)
    words = [*_interpreter(script), str(script), *job.arguments]
    mode = "ab" if job.append else "wb"
    try:
        with open(Path(job.folder, expand_pattern(job.output, job, slot, attempt)), mode) as output:
            if job.errors is None:
                own = start(words, cwd=Path(job.folder), env=environment, stdout=output, stderr=output)
            else:
                with open(Path(job.folder, expand_pattern(job.errors, job, slot, attempt)), mode) as errors:
                    own = start(words, cwd=Path(job.folder), env=environment, stdout=output, stderr=errors)
    except (OSError, SchedulerError):
        return None
    return Child(own.pid, processes.birth(own.pid) or "ended", own)


def _interpreter(script: Path) -> list[str]:
    """Read the script's ``#!`` line as the kernel does; it cannot do so itself where files may not be executed."""
    with open(script, "rb") as lines:
        first = os.fsdecode(lines.readline(4096)).strip()
    # All that follows the program is one argument.
    return first[2:].split(None, 1) if first.startswith("#!") and first != "#!" else [_DEFAULT_INTERPRETER]


def slot_variables(job: QueuedJob, slot: int, attempt: Try) -> dict[str, str]:
    """Return what Slurm tells a script about itself."""
    variables = {
        "SLURM_JOB_ID": str(attempt.raw_id),
        "SLURM_JOBID": str(attempt.raw_id),
        "SLURM_JOB_NAME": job.name,
        "SLURM_SUBMIT_DIR": job.folder,
        "SLURM_CPUS_PER_TASK": str(job.cpus),
        "SLURM_CPUS_ON_NODE": str(job.cpus),
        "SLURMD_NODENAME": attempt.node,
        "SLURM_JOB_NODELIST": attempt.node,
        "SLURM_NODELIST": attempt.node,
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_NTASKS": "1",
    }
    if attempt.restart:
        variables["SLURM_RESTART_COUNT"] = str(attempt.restart)
    if job.slots is not None:
        first, last = job.slots.ranges[0][0], job.slots.ranges[-1][1] - 1
        variables |= {
            "SLURM_ARRAY_JOB_ID": str(job.id),
            "SLURM_ARRAY_TASK_ID": str(slot),
            "SLURM_ARRAY_TASK_COUNT": str(len(job.slots)),
            "SLURM_ARRAY_TASK_MIN": str(first),
            "SLURM_ARRAY_TASK_MAX": str(last),
        }
    return variables


def expand_pattern(pattern: str, job: QueuedJob, slot: int, attempt: Try) -> str:
    """Return a file name with sbatch's patterns replaced; a width as in ``%4a`` pads with zeros.

    One backslash anywhere switches all patterns off, and is taken out where it escapes a character.
    """
    if "\\" in pattern:
        return re.sub(r"\\(.)", r"\1", pattern, flags=re.DOTALL)
    values = {
        "A": str(job.id),
        "a": str(slot) if job.slots is not None else "4294967294",
        "j": str(attempt.raw_id),
        "J": str(attempt.raw_id),
        "x": job.name,
        "N": attempt.node,
        "u": getpass.getuser(),
        "%": "%",
    }

    def value(match: re.Match[str]) -> str:
        return values[match[2]].zfill(int(match[1] or 0)) if match[2] in values else match[0]

    return re.sub(r"%(\d*)(\w|%)", value, pattern)
