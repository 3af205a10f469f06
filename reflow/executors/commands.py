"""The only door to other programs: words in, text out."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ..errors import SchedulerError

# What Slurm's own tools read as options, and what it tells a job about itself. A submit from inside a job that
# inherits them asks for the submitting job's shape (measured: SLURM_CPU_BIND made others' jobs 3 times slower).
_JOB_PREFIXES = (
    "SLURM_",
    "SLURMD_",
    "SBATCH_",
    "SALLOC_",
    "SRUN_",
    "SQUEUE_",
    "SACCT_",
    "SCANCEL_",
    "SCONTROL_",
    "PMI_",
    "PMIX_",
)

# How the tools find the cluster and prove who calls.
_KEPT = frozenset({"SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT"})

# What Slurm gives to one job and takes back when it ends: the next job would see devices that are not its own.
_JOB_DEVICES = frozenset({"CUDA_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL", "ROCR_VISIBLE_DEVICES", "ZE_AFFINITY_MASK"})


#: A child process, for those who may not import subprocess themselves.
Process = subprocess.Popen


class CommandTimedOut(SchedulerError):
    """A command did not end in time and was killed; what it asked for may have happened all the same."""


@dataclass(frozen=True)
class Completed:
    """What a command that ended has said."""

    stdout: str
    stderr: str
    #: Exit code; minus the signal's number when a signal ended it.
    code: int

    @property
    def words(self) -> str:
        """What it complained about, on one line: its stderr, else its stdout, else its exit code."""
        text = self.stderr.strip() or self.stdout.strip()
        return "; ".join(line.strip() for line in text.splitlines() if line.strip()) or f"exit code {self.code}"


def run(
    words: Sequence[str],
    *,
    timeout: float,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    input: str | None = None,
) -> Completed:
    """Run a command to its end and return what it said, whatever its exit code.

    `timeout` is in seconds; `env` replaces the whole environment. Bytes that are not UTF-8 come back replaced.
    Raises `CommandTimedOut` after the time, and `SchedulerError` when the command cannot be started.
    """
    source = subprocess.DEVNULL if input is None else subprocess.PIPE
    process = start(words, cwd=cwd, env=env, stdin=source, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        stdout, stderr = process.communicate(None if input is None else input.encode(), timeout=timeout)
    except subprocess.TimeoutExpired as error:
        raise CommandTimedOut(f"'{words[0]}' did not answer within {timeout:g} s") from error
    finally:
        if process.returncode is None:
            _end_session(process)
    return Completed(stdout.decode(errors="replace"), stderr.decode(errors="replace"), process.returncode)


def start(
    words: Sequence[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: int | IO[bytes] | None = subprocess.DEVNULL,
    stdout: int | IO[bytes] | None = None,
    stderr: int | IO[bytes] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a command in a session of its own, so that signals to its process group reach all it started.

    Raises `SchedulerError` when it cannot be started.
    """
    if cwd is not None and not cwd.is_dir():  # else its absence would look like that of the command
        raise SchedulerError(f"'{words[0]}' cannot run in '{cwd}': there is no such folder")
    try:
        return subprocess.Popen(
            list(words),
            cwd=cwd,
            env=None if env is None else dict(env),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise _not_found(words[0]) from error
    except OSError as error:
        raise SchedulerError(f"'{words[0]}' could not be started: {error.strerror}") from error


def find_program(name: str) -> None:
    """Raise `SchedulerError` when a program is not to be found."""
    if shutil.which(name) is None:
        raise _not_found(name)


def _not_found(name: str) -> SchedulerError:
    return SchedulerError(
        f"{name} was not found on PATH: is this a login node, and are the scheduler's commands loaded?"
    )


def clean_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for a scheduler's commands: without what a surrounding Slurm job has put in.

    What a job's commands need (modules, variables) is declared, not inherited. Where the cluster is stays.
    """
    inside = environ.get("SLURM_JOB_ID")
    return {
        name: value
        for name, value in environ.items()
        if name in _KEPT
        or not (
            name.startswith(_JOB_PREFIXES)
            or (inside and name in _JOB_DEVICES)
            # A folder named after this job is gone when the next one starts.
            or (inside and name in ("TMPDIR", "TMP", "TEMP") and inside in re.findall(r"\d+", value))
        )
    }


def _end_session(process: subprocess.Popen[bytes]) -> None:
    """Kill the command and all it started: a wrapper's child would hold the pipes open, and us with them."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


class Conversation:
    """A child process that is spoken to line by line."""

    def __init__(self, words: Sequence[str], *, cwd: Path | None = None) -> None:
        self._process = start(words, cwd=cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def say(self, line: str) -> None:
        """Send one line; nothing happens when the child is gone, `hear` tells."""
        assert self._process.stdin is not None, "started with a pipe"
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()

    def hear(self) -> str:
        """Wait for one line and return it; '' when the child is gone."""
        assert self._process.stdout is not None, "started with a pipe"
        return self._process.stdout.readline().decode()

    def fileno(self) -> int:
        """Return what `select` waits on until there is something to hear."""
        assert self._process.stdout is not None, "started with a pipe"
        return self._process.stdout.fileno()

    def terminate(self) -> None:
        """Send SIGTERM."""
        self._process.terminate()

    def close(self) -> int:
        """Say that no more is coming, wait for the end and return the exit code, minus the signal's number."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        return self._process.wait()
