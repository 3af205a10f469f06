"""What a fake cluster is: its settings, its queue, the failures that tests have ordered, and the log of its calls.

::

    settings.json    `SiteSettings`
    bin/             the commands
    queue/           the `LocalQueue`
    calls.jsonl      one JSON object a line for every command: command, words, time
    failures.json    failures of commands still to come
    faults.json      ends still to be brought upon slots
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from ...executors.base import JobStatus
from ...executors.localqueue import LocalQueue, QueuedJob, QueueSettings, Strike
from ...indices import Indices

#: Reasons that Slurm gives for ends brought from outside.
REASONS = {
    JobStatus.NODE_FAIL: "NodeDown",
    JobStatus.OUT_OF_MEMORY: "OutOfMemory",
    JobStatus.TIMEOUT: "TimeLimit",
    JobStatus.PREEMPTED: "None",
}


@dataclass(frozen=True)
class SiteSettings:
    """How the fake cluster is set up."""

    #: CPUs by node name.
    nodes: Mapping[str, int] = field(default_factory=lambda: {"n1": 4, "n2": 4})
    #: Largest index of an array plus one.
    max_array_size: int = 1001
    #: Slots that a user may have in the queue, None for no limit.
    max_submit_jobs: int | None = None
    #: Names of the partitions; the first is the default. None: one of any name exists, ``main`` is the default.
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


@dataclass(frozen=True)
class CommandFailure:
    """What a command does instead of, or before, its work."""

    command: str
    stderr: str = ""
    code: int = 1
    #: Calls still to come; None for all.
    times: int | None = 1
    #: Seconds to wait first.
    seconds: float = 0.0
    #: Whether the work is done; its output is thrown away unless the command is only slow.
    works: bool = False
    is_only_slow: bool = False


@dataclass(frozen=True)
class SlotFault:
    """An end that is brought upon slots as they start."""

    status: str
    #: Pattern (``*?[]``) of the job's name.
    name: str = "*"
    #: Slots as in ``--array``; None for all, and for plain jobs.
    slots: str | None = None
    #: Only at this restart count; None at any.
    restart: int | None = None
    #: Strikes still to come; None for no limit.
    times: int | None = 1
    #: Seconds after the start; None: when the script ends by itself.
    delay: float | None = 0.0
    #: Whether the slot starts again; None: what the job asked for, if such an end lets it.
    requeue: bool | None = None
    #: Whether the process goes on.
    outlives: bool = False

    def fits(self, job: QueuedJob, slot: int, restart: int) -> bool:
        """Whether this start is one it strikes."""
        return (
            fnmatchcase(job.name, self.name)
            and (self.slots is None or slot in Indices.parse(self.slots))
            and (self.restart is None or restart == self.restart)
        )

    def strike(self, job: QueuedJob) -> Strike:
        """Return what is brought upon a slot of this job."""
        status = JobStatus(self.status)
        can_requeue = status in (JobStatus.NODE_FAIL, JobStatus.PREEMPTED)
        return Strike(
            status,
            REASONS.get(status, ""),
            gentle=status is JobStatus.PREEMPTED,
            requeue=(can_requeue and job.requeue) if self.requeue is None else self.requeue,
            outlives=self.outlives,
            delay=self.delay,
        )


class Site:
    """One fake cluster by its folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.settings = SiteSettings(**(_read_json(self.folder / "settings.json") or {}))
        runner = (sys.executable, str(self.folder / "command.py"), "runner")
        queue_settings = QueueSettings(self.settings.nodes, self.settings.kill_wait, linger=1.0)
        self.queue = LocalQueue(self.folder / "queue", queue_settings, runner)

    def configure(self, settings: SiteSettings) -> None:
        """Replace the settings for all commands from now on."""
        _write_json(self.folder / "settings.json", asdict(settings))
        self.__init__(self.folder)  # type: ignore[misc]

    def log_call(self, command: str, words: list[str]) -> None:
        """Write down that a command was called."""
        line = json.dumps({"command": command, "words": words, "time": time.time()}) + "\n"
        with open(self.folder / "calls.jsonl", "a", encoding="utf-8") as log:
            log.write(line)

    def calls(self, command: str | None = None) -> list[list[str]]:
        """Return the words of the calls so far, of one command without its name, of all with it."""
        calls = []
        for line in _read_text(self.folder / "calls.jsonl").splitlines():
            call = json.loads(line)
            if command is None:
                calls.append([call["command"], *call["words"]])
            elif call["command"] == command:
                calls.append(call["words"])
        return calls

    def forget_calls(self) -> None:
        """Begin the log of calls anew."""
        (self.folder / "calls.jsonl").unlink(missing_ok=True)

    def order_failure(self, failure: CommandFailure) -> None:
        """Let calls to come fail."""
        with self._changing("failures.json") as failures:
            failures.append(asdict(failure))

    def take_failure(self, command: str) -> CommandFailure | None:
        """Return the failure ordered for this call, and count it."""
        return self._take("failures.json", CommandFailure, lambda failure: failure.command == command)

    def order_fault(self, fault: SlotFault) -> None:
        """Let slots to come meet their end."""
        with self._changing("faults.json") as faults:
            faults.append(asdict(fault))

    def fate(self, job: QueuedJob, slot: int, restart: int) -> Strike | None:
        """Return what shall be brought upon a slot that starts, and count it."""
        fault = self._take("faults.json", SlotFault, lambda each: each.fits(job, slot, restart))
        return None if fault is None else fault.strike(job)

    def clear_orders(self) -> None:
        """Take back all failures and faults that have not happened yet."""
        for name in ("failures.json", "faults.json"):
            with self._changing(name) as orders:
                orders.clear()
