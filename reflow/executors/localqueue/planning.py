"""Which slots may start now, which never can, and why the others wait. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from ...indices import Indices
from ..base import JobStatus
from .history import JobHistory
from .records import Condition, ConditionKind, QueuedJob

#: Finds a job by id; None when it is not known (any more).
Lookup = Callable[[int], "JobHistory | None"]


class Standing(Enum):
    """What a condition says about a slot now."""

    MET = "met"
    WAITING = "waiting"
    NEVER = "never"


def standing(history: JobHistory, slot: int, lookup: Lookup, is_first_of_its_name: bool) -> Standing:
    """Return whether the conditions of a job let this slot of it start.

    `is_first_of_its_name`: no earlier job of that name is open, which only singletons ask for.
    """
    if not history.conditions:
        return Standing.MET
    standings = {
        (Standing.MET if is_first_of_its_name else Standing.WAITING)
        if condition.kind is ConditionKind.SINGLETON
        else _standing_of(condition, slot, lookup)
        for condition in history.conditions
    }
    first, second = (Standing.MET, Standing.NEVER) if history.any_condition else (Standing.NEVER, Standing.MET)
    if first in standings:
        return first
    return second if standings == {second} else Standing.WAITING


def _standing_of(condition: Condition, slot: int, lookup: Lookup) -> Standing:
    other = None if condition.job_id is None else lookup(condition.job_id)
    if other is None:
        # Slurm has it so: a job that it has forgotten is as good as one that succeeded.
        return Standing.MET
    wanted = condition.slot
    if condition.kind is ConditionKind.CORRESPONDING and wanted is None and slot in other.slots:
        wanted = slot
    if wanted is not None and wanted in other.slots:
        status = other.status(wanted)
        is_over, is_good, has_started = status.is_over, status is JobStatus.COMPLETED, wanted in other.tries
    else:
        is_over, is_good, has_started = other.is_over, other.has_succeeded, other.has_started
    if condition.kind is ConditionKind.STARTED:
        return Standing.MET if has_started or is_over else Standing.WAITING
    if not is_over:
        return Standing.WAITING
    wants_good = {
        ConditionKind.SUCCEEDED: True,
        ConditionKind.CORRESPONDING: True,
        ConditionKind.FAILED: False,
    }.get(condition.kind)
    return Standing.MET if wants_good in (None, is_good) else Standing.NEVER


@dataclass(frozen=True)
class Place:
    """One slot that starts now, and where."""

    history: JobHistory
    slot: int
    node: str


class Schedule:
    """The open jobs of a queue in order of submission, and the nodes that they share.

    Every question costs the number of open jobs and of slots that changed, never the width of the arrays.
    """

    def __init__(self, nodes: Mapping[str, int], lookup: Lookup) -> None:
        self.nodes = nodes
        self._lookup = lookup
        self._lines: dict[int, _Line] = {}

    @property
    def histories(self) -> list[JobHistory]:
        """The open jobs, oldest first."""
        return [line.history for line in self._lines.values()]

    def add(self, history: JobHistory) -> None:
        """Take in an open job, or look at one afresh after its conditions or its ended slots changed."""
        is_youngest = not self._lines or history.job.id >= next(reversed(self._lines))
        self._lines[history.job.id] = _Line(history)
        if not is_youngest:
            self._lines = dict(sorted(self._lines.items()))

    def remove(self, job_id: int) -> None:
        """Forget a job that is over."""
        self._lines.pop(job_id, None)

    def settle(self) -> list[tuple[JobHistory, Indices]]:
        """Look at what ended since the last call; return the slots whose conditions can never hold, by job."""
        lost = []
        first = self._first_of_each_name()
        for line in self._lines.values():
            never = line.settle(self._lookup, first[line.history.name] == line.history.job.id)
            if never:
                lost.append((line.history, Indices(never)))
        return lost

    def startable(self) -> list[Place]:
        """Return the slots that start now. Call `settle` before, and record every one of them as begun.

        First come, first served: a slot that does not fit holds back all younger ones, so wide ones are not starved.
        """
        places: list[Place] = []
        free = self._free()
        for line in self._lines.values():
            fitting = [node for node in self.nodes if node not in line.history.job.excluded_nodes]
            if not fitting:
                continue
            wanted = _cpus_on(line.history.job, max(self.nodes[node] for node in fitting))
            allowed = _room(line.history)
            while allowed > 0 and (slot := line.peek()) is not None:
                node = max(fitting, key=lambda node: free[node])
                if free[node] < wanted:
                    return places
                line.take()
                free[node] -= wanted
                allowed -= 1
                places.append(Place(line.history, slot, node))
        return places

    def _free(self) -> dict[str, int]:
        free = dict(self.nodes)
        for history in self.histories:
            for attempt in history.running.values():
                if attempt.node in free:
                    free[attempt.node] -= _cpus_on(history.job, self.nodes[attempt.node])
        return free

    def _first_of_each_name(self) -> dict[str, int]:
        first: dict[str, int] = {}
        for history in self.histories:
            first.setdefault(history.name, history.job.id)
        return first


def _cpus_on(job: QueuedJob, node_cpus: int) -> int:
    """CPUs a slot takes: one that asks for more than there are gets them all, instead of waiting for ever."""
    return min(job.cpus, node_cpus)


def _room(history: JobHistory) -> int:
    """How many more slots the throttle lets run."""
    return len(history.slots) if history.throttle is None else history.throttle - len(history.running)


class _Line:
    """The waiting slots of one job, those first that have been found free to start."""

    def __init__(self, history: JobHistory) -> None:
        self.history = history
        self._ready: list[int] = []
        self._known_ready: set[int] = set()
        self._unbegun = history.unbegun()
        self._next_unbegun = next(self._unbegun, None)
        self._is_whole_job_ready = False
        self._by_slot = any(condition.kind is ConditionKind.CORRESPONDING for condition in history.conditions)
        self._looked_at = dict.fromkeys(history.conditions, 0)
        self._seen_over: set[Condition] = set()
        self._is_new = True

    def settle(self, lookup: Lookup, is_first: bool) -> list[int]:
        """Find the slots that have become free to start; return those that never will be and shall be dropped."""
        if self._is_whole_job_ready:
            self._push(self.history.requeued)
            return []
        if self._by_slot:
            never = self._settle_slots(lookup, is_first)
        else:
            # The conditions say the same about every slot.
            now = standing(self.history, next(iter(self.history.slots)), lookup, is_first)
            self._is_whole_job_ready = now is Standing.MET
            self._push(self.history.requeued if self._is_whole_job_ready else ())
            never = list(self.history.waiting) if now is Standing.NEVER else []
        return never if self.history.job.kill_on_invalid_dependency else []

    def _settle_slots(self, lookup: Lookup, is_first: bool) -> list[int]:
        never = []
        for slot in self._changed_slots(lookup):
            if self.history.status(slot) is JobStatus.PENDING:
                now = standing(self.history, slot, lookup, is_first)
                if now is Standing.MET:
                    self._push((slot,))
                elif now is Standing.NEVER:
                    never.append(slot)
        return never

    def _changed_slots(self, lookup: Lookup) -> set[int]:
        """The slots about which a condition may say something new."""
        changed = set(self.history.requeued)
        everything = self._is_new
        self._is_new = False
        for condition in self.history.conditions:
            everything = everything or condition.kind is ConditionKind.SINGLETON
            other = None if condition.job_id is None else lookup(condition.job_id)
            if other is None:
                continue
            changed.update(other.finished[self._looked_at[condition] :])
            self._looked_at[condition] = len(other.finished)
            if other.is_over and condition not in self._seen_over:
                # Slots that the other job does not have wait for all of it.
                self._seen_over.add(condition)
                everything = True
        return set(self.history.waiting) if everything else {slot for slot in changed if slot in self.history.slots}

    def _push(self, slots: Iterable[int]) -> None:
        for slot in slots:
            if slot not in self._known_ready:
                self._known_ready.add(slot)
                heapq.heappush(self._ready, slot)

    def peek(self) -> int | None:
        """Return the next slot that may start, None when there is none now."""
        while self._ready and not self._may_start(self._ready[0]):
            self._pop()
        if self._ready:
            return self._ready[0]
        if not self._is_whole_job_ready:
            return None
        while self._next_unbegun is not None and not self._may_start(self._next_unbegun):
            self._next_unbegun = next(self._unbegun, None)
        return self._next_unbegun

    def take(self) -> None:
        """Go past the slot that `peek` returned."""
        if self._ready:
            self._pop()
        else:
            self._next_unbegun = next(self._unbegun, None)

    def _pop(self) -> None:
        self._known_ready.discard(heapq.heappop(self._ready))

    def _may_start(self, slot: int) -> bool:
        return self.history.status(slot) is JobStatus.PENDING and not self.history.is_held(slot)
