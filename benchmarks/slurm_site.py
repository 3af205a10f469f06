"""What a benchmark on a private real Slurm needs: commands that count how often they are called, and CPU seconds."""

from __future__ import annotations

import os
import shlex
import shutil
import time
from collections import Counter
from pathlib import Path

from reflow import SlurmExecutor
from reflow.testing.cluster import PrivateSlurm

COMMANDS = ("sbatch", "squeue", "sacct", "scontrol", "scancel")

_SHIM = """#!/bin/sh
echo {name} >> {calls}
exec {real} "$@"
"""

#: How often the queue is looked at, in seconds. Each look is work for the machine that is measured.
_LOOK = 0.25


class CountingCommands:
    """Slurm's commands with a line in a file for every call, whoever calls: this process, workers or sentinels."""

    def __init__(self, folder: Path, slurm: PrivateSlurm) -> None:
        folder.mkdir(parents=True)
        self._calls = folder / "calls"
        self.forget()
        paths = {}
        for name in COMMANDS:
            real = shutil.which(name, path=slurm.environment["PATH"])
            assert real is not None, f"the private Slurm runs, so {name} is there"
            shim = folder / name
            shim.write_text(
                _SHIM.format(name=name, calls=shlex.quote(str(self._calls)), real=shlex.quote(real)), encoding="utf-8"
            )
            shim.chmod(0o755)
            paths[name] = shlex.quote(str(shim))
        self.executor = SlurmExecutor(**paths)

    def forget(self) -> None:
        """Count from here on."""
        self._calls.write_text("")

    def counts(self) -> Counter[str]:
        """Return how often each command was called."""
        return Counter(self._calls.read_text().split())


def wait_until_empty(slurm: PrivateSlurm) -> None:
    """Return once nothing waits or runs in the queue."""
    while slurm.run("squeue", "--noheader"):
        time.sleep(_LOOK)


def cpu_seconds() -> float:
    """Return what this process and all below it have used, those that ended and were waited for included.

    The daemons of a private Slurm are below it, each with a parent that waits for every orphan of its jobs; so two
    readings tell what was used between them, and nothing that anybody else does on the machine counts.
    """
    ticks: dict[int, tuple[int, int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            try:
                fields = Path(f"/proc/{entry}/stat").read_text(errors="replace").rpartition(")")[2].split()
            except OSError:  # it ended while we looked
                continue
            # The fields behind the name: state, parent, ..., utime, stime, and both of the children waited for.
            ticks[int(entry)] = int(fields[1]), sum(map(int, fields[11:15]))
    total, below = 0, {os.getpid()}
    while below:
        total += sum(ticks[pid][1] for pid in below)
        below = {pid for pid, (parent, _) in ticks.items() if parent in below}
    return total / os.sysconf("SC_CLK_TCK")
