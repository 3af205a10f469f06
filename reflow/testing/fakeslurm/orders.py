"""What tests order to go wrong: commands that fail or are slow, and ends that are brought upon slots."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from ...executors.base import JobStatus
from ...executors.localqueue import QueuedJob, Strike
from ...indices import Indices

#: Reasons that Slurm gives for ends brought from outside.
REASONS = {
    JobStatus.NODE_FAIL: "NodeDown",
    JobStatus.OUT_OF_MEMORY: "OutOfMemory",
    JobStatus.TIMEOUT: "TimeLimit",
}


@dataclass(frozen=True)
class CommandFailure:
    """What a command does besides its work, or instead of it."""

    command: str
    stderr: str = ""
    #: Exit code; None: the command is only late, and works and speaks as always.
    code: int | None = 1
    #: Calls still to come; None for all.
    times: int | None = 1
    #: Seconds to wait first.
    seconds: float = 0.0
    #: Whether the work is done although the command fails.
    works: bool = False


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
            and (self.slots is None or (job.slots is not None and slot in Indices.parse(self.slots)))
            and (self.restart is None or restart == self.restart)
        )

    def strike(self, job: QueuedJob) -> Strike:
        """Return what is brought upon a slot of this job."""
        status = JobStatus(self.status)
        can_requeue = status in (JobStatus.NODE_FAIL, JobStatus.PREEMPTED)
        return Strike(
            status,
            REASONS.get(status, ""),
            gentle=status in (JobStatus.PREEMPTED, JobStatus.TIMEOUT),
            requeue=(can_requeue and job.requeue) if self.requeue is None else self.requeue,
            outlives=self.outlives,
            delay=self.delay,
        )


class Orders:
    """The orders that wait in a fake cluster's folder; each is used up by as many processes as it is for."""

    def __init__(self, folder: Path) -> None:
        self._failures = folder / "failures.json"
        self._faults = folder / "faults.json"

    def order_failure(self, failure: CommandFailure) -> None:
        """Let calls to come fail."""
        with _changing(self._failures) as failures:
            failures.append(asdict(failure))

    def take_failure(self, command: str) -> CommandFailure | None:
        """Return the oldest failure ordered for this command, used up by one call."""
        found = _take(self._failures, lambda order: CommandFailure(**order).command == command)
        return None if found is None else CommandFailure(**found)

    def order_fault(self, fault: SlotFault) -> None:
        """Let slots to come meet their end."""
        with _changing(self._faults) as faults:
            faults.append(asdict(fault))

    def fate(self, job: QueuedJob, slot: int, restart: int) -> Strike | None:
        """Return what shall be brought upon a slot that starts, used up by one strike."""
        found = _take(self._faults, lambda order: SlotFault(**order).fits(job, slot, restart))
        return None if found is None else SlotFault(**found).strike(job)

    def clear(self) -> None:
        """Take back everything that has not happened yet."""
        for path in (self._failures, self._faults):
            with _changing(path) as orders:
                orders.clear()


def _take(path: Path, fits: Callable[[dict[str, Any]], bool]) -> dict[str, Any] | None:
    # Most of the time nothing is ordered, and thousands of slots start.
    if not path.exists():
        return None
    with _changing(path) as orders:
        for order in orders:
            if fits(order):
                if order["times"] is not None:
                    order["times"] -= 1
                    if order["times"] <= 0:
                        orders.remove(order)
                return order
    return None


@contextmanager
def _changing(path: Path) -> Iterator[list[dict[str, Any]]]:
    """Hold the file's lock while its list is changed in place."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "r+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        orders = json.loads(file.read() or "[]")
        yield orders
        file.seek(0)
        file.truncate()
        json.dump(orders, file)
