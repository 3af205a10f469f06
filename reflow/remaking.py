"""Decide what a person's retry makes again although it succeeded: damaged results, and what was made from them. Pure.

Along chains that is decided element by element; a gather, a broadcast and a singleton depend on the whole. What only
waits for a task (``after=``) gets no data from it and stays.
"""

from __future__ import annotations

from collections.abc import Mapping

from .deferred import dataclass, field
from .errors import RetryRefused
from .indices import Indices
from .plan import RunSnapshot, TaskSnapshot
from .spec import Delivery
from .states import IN_FLIGHT, WAITING, TaskState


@dataclass(frozen=True)
class Remake:
    """What is made again, by task."""

    #: Successes whose own result is damaged.
    damaged: Mapping[str, Indices] = field(default_factory=dict)
    #: Successes that were made from what is made again.
    dependent: Mapping[str, Indices] = field(default_factory=dict)
    #: All that will be made from other results than its identity says, in whatever state; what is damaged itself too.
    outdated: Mapping[str, Indices] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """The number of successes that are given up."""
        return sum(len(indices) for found in (self.damaged, self.dependent) for indices in found.values())

    def successes(self, task: str) -> Indices:
        """Return the successes of a task that are given up."""
        return self.damaged.get(task, Indices()) | self.dependent.get(task, Indices())


def plan_remake(snapshot: RunSnapshot, damaged: Mapping[str, Indices]) -> Remake:
    """Return what has to be made again when these successes are damaged.

    Raises `RetryRefused` where elements were made from the items of a result that is made again, because their number
    may change, and where something that depends on one is on its way and would come out of the old result.
    """
    #: Of each task of which something is made again, the damaged one that is the reason.
    reasons: dict[str, str] = {}
    own: dict[str, Indices] = {}
    dependent: dict[str, Indices] = {}
    outdated: dict[str, Indices] = {}
    for task in snapshot.tasks:  # upstream first
        name = task.plan.name
        affected = _affected(task, outdated, reasons)
        succeeded = task.within(TaskState.SUCCESS)
        spoilt = damaged.get(name, Indices()) & succeeded
        _require_at_rest(task, affected, reasons)
        if spoilt:
            reasons[name] = name
            own[name] = spoilt
        if (affected & succeeded) - spoilt:
            dependent[name] = (affected & succeeded) - spoilt
        if affected | spoilt:
            outdated[name] = affected | spoilt
    return Remake(own, dependent, outdated)


def _affected(task: TaskSnapshot, outdated: Mapping[str, Indices], reasons: dict[str, str]) -> Indices:
    """Return the instances that are made from something outdated, and note in `reasons` why."""
    everything = task.within(*TaskState)  # none before the task is expanded: it will be, from the new results
    affected = Indices()
    for result in task.plan.results:
        for step in result.steps:
            if not everything or step.task not in outdated:
                continue
            reason = reasons.setdefault(task.plan.name, reasons[step.task])
            if result.delivery is Delivery.EACH:
                raise RetryRefused(
                    f"results of task '{reason}' are damaged, and the elements of task '{task.plan.name}' were made "
                    f"from the items of '{step.task}', of which there may be others then: submit the workflow again, "
                    "which takes everything that is intact from the cache (--no-verify only submits what failed)"
                )
            affected = affected | (
                everything & outdated[step.task] if result.delivery is Delivery.CHAIN else everything
            )
    return affected


def _require_at_rest(task: TaskSnapshot, affected: Indices, reasons: Mapping[str, str]) -> None:
    """Refuse what would make a second result from the old one: an intent is on its way too."""
    on_the_way = affected & (task.within(*IN_FLIGHT) | (task.within(*WAITING) - task.free))
    if on_the_way:
        name = task.plan.name
        raise RetryRefused(
            f"results of task '{reasons[name]}' are damaged, and {len(on_the_way)} instance(s) of task '{name}', which "
            "are made from them, are on their way: retry when these have ended, or cancel them first (--no-verify only "
            "submits what failed)"
        )
