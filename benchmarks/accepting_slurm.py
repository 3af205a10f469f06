"""A Slurm that accepts every job and runs none: what a submit costs, without jobs that take the machine from it."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

from reflow.executors.slurm import SlurmExecutor

_SBATCH = """#!/bin/sh
echo call >> {calls}
wc -l < {calls}
"""
_SCONTROL = """#!/bin/sh
echo 'MaxArraySize            = 1000001'
"""
_NOTHING = """#!/bin/sh
exit 0
"""


class AcceptingSlurm:
    """Stands in for Slurm's commands, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._calls = folder / "calls"
        self._calls.touch()
        scripts = {
            "sbatch": _SBATCH.format(calls=shlex.quote(str(self._calls))),
            "scontrol": _SCONTROL,
            **dict.fromkeys(("squeue", "sacct", "scancel"), _NOTHING),
        }
        for name, text in scripts.items():
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)
        self.executor = SlurmExecutor(**{name: shlex.quote(str(folder / name)) for name in scripts})

    @property
    def submits(self) -> int:
        """How often sbatch was called."""
        return len(self._calls.read_text().splitlines())


def wave_files(run_dir: Path) -> list[Path]:
    """Return the wave files of the run in this directory, oldest first."""
    return sorted(run_dir.glob("reflow/*/waves/*.wave"))


def run_worker(wave: Path, slot: int) -> None:
    """Run one slot as Slurm would have: in a process of its own, with bytecode that is kept."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-m", "reflow.worker", "run", str(wave), str(slot)]
    subprocess.run(command, check=True, env=environment)
