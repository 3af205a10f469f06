"""What a fake cluster is: its settings, its queue, and the log of its commands' calls.

::

    settings.json    `SiteSettings`
    bin/             the commands
    queue/           the `LocalQueue`
    calls.jsonl      one JSON object a line for every command: command, words, time
    failures.json    failures of commands still to come   (see `orders`)
    faults.json      ends still to be brought upon slots
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ...executors.localqueue import LocalQueue, QueueSettings
from .orders import Orders


@dataclass(frozen=True)
class SiteSettings:
    """How a fake cluster is set up."""

    #: CPUs by node name.
    nodes: Mapping[str, int] = field(default_factory=lambda: {"n1": 4, "n2": 4})
    #: Nodes that an administrator has set down.
    down: tuple[str, ...] = ()
    #: Largest index of an array plus one.
    max_array_size: int = 1001
    #: Slots that a user may have in the queue, None for no limit.
    max_submit_jobs: int | None = None
    #: Names of the partitions, the first is the default; None: any name will do, ``main`` is the default.
    partitions: tuple[str, ...] | None = None
    #: Seconds between SIGTERM and SIGKILL.
    kill_wait: float = 2.0
    #: Seconds after which squeue and scontrol forget what has ended.
    min_job_age: float = 300.0
    #: Whether sacct answers.
    accounting: bool = True
    #: Seconds by which sacct is behind.
    account_lag: float = 0.0
    cluster_name: str = "fake"

    @property
    def default_partition(self) -> str:
        """The partition of jobs that name none."""
        return self.partitions[0] if self.partitions else "main"


class Site:
    """One fake cluster, as its folder says when this is made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.settings = read_settings(self.folder)
        self.orders = Orders(self.folder)
        runner = (sys.executable, str(self.folder / "command.py"), "runner")
        nodes = {name: cpus for name, cpus in self.settings.nodes.items() if name not in self.settings.down}
        self.queue = LocalQueue(
            self.folder / "queue", QueueSettings(nodes, self.settings.kill_wait, linger=1.0), runner
        )

    def log_call(self, command: str, words: list[str]) -> None:
        """Write down that a command was called."""
        line = json.dumps({"command": command, "words": words, "time": time.time()}) + "\n"
        with open(self.folder / "calls.jsonl", "a", encoding="utf-8") as log:
            log.write(line)

    def calls(self) -> list[tuple[str, list[str]]]:
        """Return command and words of every call so far."""
        try:
            lines = (self.folder / "calls.jsonl").read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []
        return [(call["command"], call["words"]) for call in map(json.loads, lines)]

    def forget_calls(self) -> None:
        """Begin the log of calls anew."""
        (self.folder / "calls.jsonl").unlink(missing_ok=True)


def read_settings(folder: Path) -> SiteSettings:
    """Return the settings of the cluster in that folder."""
    values = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    values["down"] = tuple(values["down"])
    values["partitions"] = None if values["partitions"] is None else tuple(values["partitions"])
    return SiteSettings(**values)


def write_settings(folder: Path, settings: SiteSettings) -> None:
    """Set the cluster up so, from the next command on."""
    new = folder / "settings.json.new"
    new.write_text(json.dumps(asdict(settings)), encoding="utf-8")
    new.replace(folder / "settings.json")
