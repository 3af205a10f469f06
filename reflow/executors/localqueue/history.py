"""What became of one job: the fold of its event log. Pure; reading and writing the log is for `folder`.

Events are short JSON arrays, because a wide array has three for every slot. The runner writes what it does
(``begin``, ``process``, ``end``, ``drop``), commands write what
people want (``strike``, ``hold``, ``change``, ``again``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from ...indices import Indices
from ..base import JobStatus
from .records import Condition, QueuedJob, Strike, parse_conditions

#: The signal number by which Slurm says that a script could not be started: its folder or its log was missing.
LAUNCH_FAILURE = 53

#: One event: its kind and what belongs to it.
Event = list[Any]


def begin(slot: int, when: int, raw_id: int, node: str) -> Event:
    """A slot is about to start; written before its process exists."""
    return ["begin", slot, when, raw_id, node]


def process(slot: int, pid: int, birth: str) -> Event:
    """The process of a slot that began; `birth` tells it from a later one with the same id."""
    return ["process", slot, pid, birth]


def end(slot: int, when: int, outcome: Outcome, requeue: bool) -> Event:
    """A slot has ended; `requeue`: and waits again."""
    return ["end", slot, when, outcome.status, outcome.exit_code, outcome.signal, outcome.reason, requeue]


def drop(slots: Indices, when: int) -> Event:
    """Waiting slots whose conditions can never hold are given up."""
    return ["drop", str(slots), when]


def strike(slots: Indices | None, when: int, what: Strike) -> Event:
    """These slots (None for all) shall end: waiting ones at once, running ones when the runner has ended them."""
    return ["strike", None if slots is None else str(slots), when, asdict(what)]


def hold(slots: Indices | None, held: bool) -> Event:
    """Waiting slots (None for the whole job) may not start until released."""
    return ["hold", None if slots is None else str(slots), held]


def change(**values: object) -> Event:
    """Replace attributes that `JobHistory` allows to change: ``throttle time_limit name conditions any_condition``."""
    return ["change", values]


def again(slots: Indices) -> Event:
    """Ended slots wait again, as the next try."""
    return ["again", str(slots)]


@dataclass(frozen=True)
class Outcome:
    """How a slot ended."""

    status: JobStatus
    exit_code: int = 0
    signal: int = 0
    reason: str = ""


@dataclass(slots=True)
class Try:
    """One start of a slot. Times are microseconds since 1970."""

    began: int
    #: The id of this start alone, Slurm's raw job id.
    raw_id: int
    node: str
    #: How often the slot had been started before.
    restart: int
    pid: int | None = None
    birth: str | None = None
    ended: int | None = None
    outcome: Outcome | None = None


class JobHistory:
    """One job with everything that happened to it so far."""

    def __init__(self, job: QueuedJob) -> None:
        self.job = job
        self.throttle = job.throttle
        self.time_limit = job.time_limit
        self.name = job.name
        self.conditions = job.conditions
        self.any_condition = job.any_condition
        #: Every start of the slots that ever started.
        self.tries: dict[int, list[Try]] = {}
        #: The slots that run now.
        self.running: dict[int, Try] = {}
        #: Running slots that someone wants ended.
        self.struck: dict[int, Strike] = {}
        #: Slots that wait for their next try.
        self.requeued: set[int] = set()
        #: Slots cancelled while they waited, and when the last of them was, and what was said.
        self.withdrawn = Indices()
        self.withdrawn_at: int | None = None
        #: Those of them that were cancelled with their whole job, not one by one.
        self.withdrawn_whole = Indices()
        #: Slots given up because a condition can never hold.
        self.dropped = Indices()
        self.dropped_at: int | None = None
        #: The slots in the order in which they ended, so that followers look at each new one once.
        self.finished: list[int] = []
        self._all_held = job.held
        self._held = Indices()
        self._slots = job.all_slots
        self._open = len(self._slots)
        self._succeeded = 0

    def apply(self, events: Iterable[Event]) -> None:
        """Take in events in the order in which they were written."""
        for event in events:
            match event:
                case ["begin", slot, when, raw_id, node]:
                    self._begin(slot, when, raw_id, node)
                case ["process", slot, pid, birth]:
                    if slot in self.running:
                        self.running[slot].pid, self.running[slot].birth = pid, birth
                case ["end", slot, when, status, exit_code, signal, reason, requeue]:
                    self._end(slot, when, Outcome(JobStatus(status), exit_code, signal, reason), requeue)
                case ["drop", slots, when]:
                    self._drop(Indices.parse(slots), when)
                case ["strike", slots, when, what]:
                    values = what | {"status": JobStatus(what["status"])}
                    self._strike(None if slots is None else Indices.parse(slots), when, Strike(**values))
                case ["hold", slots, held]:
                    self._hold(None if slots is None else Indices.parse(slots), held)
                case ["again", slots]:
                    self._again(Indices.parse(slots))
                case ["change", values]:
                    self._change(values)

    @property
    def slots(self) -> Indices:
        """All slots; a plain job has the one slot 0."""
        return self._slots

    @property
    def is_over(self) -> bool:
        """Whether no slot waits or runs."""
        return self._open == 0

    @property
    def has_succeeded(self) -> bool:
        """Whether every slot ended well."""
        return self._succeeded == len(self._slots)

    @property
    def has_started(self) -> bool:
        """Whether any slot ever started."""
        return bool(self.tries)

    @property
    def ended_at(self) -> int | None:
        """When the last slot ended, in microseconds; None while any is open."""
        if not self.is_over:
            return None
        ends = [each[-1].ended or 0 for each in self.tries.values()]
        return max([*ends, self.withdrawn_at or 0, self.dropped_at or 0])

    @property
    def waiting(self) -> Indices:
        """The slots that have not started and may still; costs a look at every slot that ever did."""
        return (self._slots - Indices(self.tries) - self.withdrawn - self.dropped) | Indices(self.requeued)

    def is_held(self, slot: int) -> bool:
        """Whether a person holds the slot back."""
        return self._all_held or slot in self._held

    def status(self, slot: int) -> JobStatus:
        """Return the state of a slot, which must be one of `slots`."""
        if slot in self.running:
            return JobStatus.RUNNING
        if slot in self.requeued:
            return JobStatus.PENDING
        if slot in self.withdrawn:
            return JobStatus.CANCELLED
        if slot in self.dropped:
            return JobStatus.DEPENDENCY
        outcome = self.last_outcome(slot)
        return JobStatus.PENDING if outcome is None else outcome.status

    def last_outcome(self, slot: int) -> Outcome | None:
        """Return how the newest try of the slot ended; None when it runs or there was none."""
        tries = self.tries.get(slot)
        return tries[-1].outcome if tries else None

    def unbegun(self) -> Iterator[int]:
        """Yield, ascending, the slots that wait for their first start, looking at each only when it is asked for."""
        for slot in self._slots:
            if slot not in self.tries and slot not in self.withdrawn and slot not in self.dropped:
                yield slot

    def _begin(self, slot: int, when: int, raw_id: int, node: str) -> None:
        tries = self.tries.setdefault(slot, [])
        self.running[slot] = Try(when, raw_id, node, restart=len(tries))
        tries.append(self.running[slot])
        self.requeued.discard(slot)

    def _end(self, slot: int, when: int, outcome: Outcome, requeue: bool) -> None:
        attempt = self.running.pop(slot, None)
        if attempt is None:
            return
        attempt.ended, attempt.outcome = when, outcome
        self.struck.pop(slot, None)
        if requeue:
            self.requeued.add(slot)
        else:
            self._close(slot, outcome.status)

    def _close(self, slot: int, status: JobStatus) -> None:
        self._open -= 1
        self._succeeded += status is JobStatus.COMPLETED
        self.finished.append(slot)

    def _drop(self, slots: Indices, when: int) -> None:
        lost = slots & self.waiting
        self.dropped, self.dropped_at = self.dropped | lost, when
        self.requeued.difference_update(lost)
        for slot in lost:
            self._close(slot, JobStatus.DEPENDENCY)

    def _strike(self, slots: Indices | None, when: int, what: Strike) -> None:
        chosen = self._slots if slots is None else slots & self._slots
        for slot in self.running:
            if slot in chosen:
                self.struck[slot] = what
        if what.status is not JobStatus.CANCELLED or what.requeue:
            return
        withdrawn = chosen & self.waiting
        if withdrawn:
            self.withdrawn, self.withdrawn_at = self.withdrawn | withdrawn, when
            self.withdrawn_whole = self.withdrawn_whole | (withdrawn if slots is None else Indices())
            self.requeued.difference_update(withdrawn)
            for slot in withdrawn:
                self._close(slot, JobStatus.CANCELLED)

    def _hold(self, slots: Indices | None, held: bool) -> None:
        if slots is None:
            self._all_held, self._held = held, Indices()
        elif held:
            self._held = self._held | slots
        else:
            # Releasing some slots of a job that is held as a whole leaves the others held.
            rest = self._slots if self._all_held else self._held
            self._all_held, self._held = False, rest - slots

    def _again(self, slots: Indices) -> None:
        for slot in slots & self._slots:
            if not self.status(slot).is_over or slot not in self.tries:
                continue
            self._succeeded -= self.status(slot) is JobStatus.COMPLETED
            self._open += 1
            self.withdrawn = self.withdrawn - Indices([slot])
            self.withdrawn_whole = self.withdrawn_whole - Indices([slot])
            self.dropped = self.dropped - Indices([slot])
            self.requeued.add(slot)

    def _change(self, values: dict[str, Any]) -> None:
        self.throttle = values.get("throttle", self.throttle)
        self.time_limit = values.get("time_limit", self.time_limit)
        self.name = values.get("name", self.name)
        self.any_condition = values.get("any_condition", self.any_condition)
        if "conditions" in values:
            self.conditions = parse_conditions(values["conditions"])


def condition_values(conditions: Iterable[Condition]) -> list[dict[str, Any]]:
    """Return conditions in the JSON form that `change` takes."""
    return [asdict(each) for each in conditions]
