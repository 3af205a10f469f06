"""Decide what a run needs next: snapshot in, steps out. No database, no process, no clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .deferred import dataclass, field
from .indices import Indices
from .retrying import Try, next_resources, resources
from .spec import Delivery, Take, TaskPlan
from .states import RunState, TaskState
from .stores.records import TASKS_OWN, Resources


@dataclass(frozen=True)
class Followed:
    """A wave that another one follows slot by slot; it may be over."""

    wave: int
    task: str
    #: The element indices that it was made of.
    members: Indices


@dataclass(frozen=True)
class LiveWave:
    """A wave that still has instances in flight, or whose submit is not known to have happened."""

    id: int
    #: None while only the intent is recorded.
    job_id: str | None
    #: The element indices of the wave that are not final yet.
    indices: Indices
    #: The element indices that it was made of.
    members: Indices = field(default_factory=Indices)
    #: The waves that this one follows slot by slot.
    followed: tuple[Followed, ...] = ()
    #: Slot = element index // pack - offset; None when the slots are numbered by rank, and nothing can follow them.
    offset: int | None = 0
    #: How many neighbouring indices share a slot.
    pack: int = 1


@dataclass(frozen=True)
class TaskSnapshot:
    """One task as the manifest shows it. A singleton counts as an array of the one index 0."""

    plan: TaskPlan
    #: Number of instances, None before the task is expanded.
    width: int | None = None
    #: Indices per state.
    states: Mapping[TaskState, Indices] = field(default_factory=dict)
    #: Indices that are PENDING or RETRYING and belong to no wave.
    free: Indices = field(default_factory=Indices)
    waves: tuple[LiveWave, ...] = ()
    #: Why the task as a whole cannot go on, else None.
    error: str | None = None
    #: Waiting and failed indices that have failed before, by what happened to them, oldest first.
    histories: Mapping[tuple[Try, ...], Indices] = field(default_factory=dict)

    def within(self, *states: TaskState) -> Indices:
        """Return the indices that are in any of these states."""
        found = Indices()
        for state in states:
            found = found | self.states.get(state, Indices())
        return found


@dataclass(frozen=True)
class RunSnapshot:
    """One run as the manifest shows it, tasks in topological order."""

    run_id: str
    status: RunState
    tasks: tuple[TaskSnapshot, ...]


@dataclass(frozen=True)
class Expand:
    """Create the instances of a task: its width is known now."""

    task: str


@dataclass(frozen=True)
class Submit:
    """Hand these instances to the scheduler, perhaps to follow waves of their parents slot by slot."""

    task: str
    indices: Indices
    after_waves: tuple[int, ...] = ()
    #: What they ask for in place of what the task says.
    resources: Resources = TASKS_OWN


@dataclass(frozen=True)
class Retry:
    """Begin the next attempt of instances that failed and may be tried again without a person."""

    task: str
    indices: Indices


@dataclass(frozen=True)
class Release:
    """Put instances back to waiting that the scheduler has dropped, or will, because their parent failed."""

    task: str
    indices: Indices


@dataclass(frozen=True)
class Finish:
    """Nothing is left to do or to wait for: give the run its final status."""

    status: RunState


PlanStep = Expand | Submit | Retry | Release | Finish


def next_steps(snapshot: RunSnapshot, *, follow_elements: bool = True) -> tuple[PlanStep, ...]:
    """Return what to do now; nothing when the run is over or can only wait.

    `follow_elements` says whether the scheduler can start element i of a chain when element i of its parent is
    done. The caller performs the steps, takes a new snapshot and asks again until there are none.
    """
    if snapshot.status is not RunState.RUNNING:
        return ()
    view = _View(snapshot)
    releases = tuple(step for task in snapshot.tasks for step in _releases(view, task))
    retries = tuple(step for task in snapshot.tasks for step in _retries(task))
    if releases or retries:
        return releases + retries
    steps = [step for task in snapshot.tasks for step in _task_steps(view, task, follow_elements)]
    if not steps and not any(_is_in_flight(task) for task in snapshot.tasks):
        return (Finish(_final_status(view)),)
    return tuple(steps)


class _View:
    """What the rules ask about tasks, each answer worked out once."""

    def __init__(self, snapshot: RunSnapshot) -> None:
        self.tasks = {task.plan.name: task for task in snapshot.tasks}
        self._blocked: dict[str, Indices] = {}

    def blocked(self, name: str) -> Indices:
        """Return the waiting elements that cannot go on, because their parent element failed or is blocked."""
        if name not in self._blocked:
            task = self.tasks[name]
            lost = Indices()
            for parent in task.plan.chain_parents:
                lost = lost | self.tasks[parent].within(TaskState.FAILED, TaskState.CANCELLED) | self.blocked(parent)
            self._blocked[name] = task.free & lost
        return self._blocked[name]

    def is_complete(self, name: str) -> bool:
        """Return whether every instance succeeded; an empty array is complete."""
        task = self.tasks[name]
        return task.width is not None and len(task.within(TaskState.SUCCESS)) == task.width

    def is_settled(self, name: str) -> bool:
        """Return whether no instance will change any more without a person's retry."""
        task = self.tasks[name]
        if task.error is not None:
            return True
        over = task.within(TaskState.SUCCESS, TaskState.FAILED, TaskState.CANCELLED) | self.blocked(name)
        return task.width is not None and len(over) == task.width

    def is_ready(self, task: TaskSnapshot) -> bool:
        """Return whether everything but the chain parents has what this task needs."""
        partial = _partial_upstreams(task.plan)
        return all(
            self.is_complete(name) or (name in partial and self.tasks[name].error is None and self.is_settled(name))
            for name in task.plan.upstreams
            if name not in task.plan.chain_parents or name in task.plan.after
        )

    def is_fine(self, name: str) -> bool:
        """Return whether the task is no reason to call the run failed."""
        if self.is_complete(name):
            return True
        followers = [task.plan for task in self.tasks.values() if name in task.plan.upstreams]
        tolerated = bool(followers) and all(name in _partial_upstreams(plan) for plan in followers)
        return tolerated and self.tasks[name].error is None and self.is_settled(name)


def outdated_by_retry(snapshot: RunSnapshot, task: str | None) -> dict[str, str]:
    """Return the tasks that have run on part of an array whose failures a retry would run again, with that array.

    Such a result would stay, as if it had been made from the whole. `task` limits the retry to that one.
    """
    view = _View(snapshot)
    return {
        each.plan.name: parent
        for each in snapshot.tasks
        for parent in _partial_upstreams(each.plan)
        if each.within(TaskState.SUCCESS)
        and task in (None, parent)
        and view.tasks[parent].within(TaskState.FAILED, TaskState.CANCELLED)
    }


def _partial_upstreams(plan: TaskPlan) -> frozenset[str]:
    """The arrays of which this task takes whatever succeeded."""
    if not plan.config.allow_partial:
        return frozenset()
    taken = (step for result in plan.results if result.delivery is not Delivery.CHAIN for step in result.steps)
    return frozenset(step.task for step in taken if step.take in (Take.ELEMENTS, Take.FLAT)) - set(plan.after)


def _is_in_flight(task: TaskSnapshot) -> bool:
    return bool(task.waves) or bool(task.within(TaskState.SUBMITTED, TaskState.RUNNING))


def _retries(task: TaskSnapshot) -> list[Retry]:
    """Find failed elements whose history lets them be tried again; the next look submits them."""
    failed = task.within(TaskState.FAILED)
    again = Indices()
    for history, indices in task.histories.items():
        if indices & failed and next_resources(task.plan.config, history) is not None:
            again = again | (indices & failed)
    return [Retry(task.plan.name, again)] if again and task.error is None else []


def _releases(view: _View, task: TaskSnapshot) -> list[Release]:
    """Find elements submitted behind a slot whose elements are no longer all on their way in that very wave.

    The scheduler drops them (``--kill-on-invalid-dep``) when a parent element fails, of a pack all that follow it;
    and when the parent was retried before anyone looked, it runs in another wave, which these do not follow.
    """
    dropped = Indices()
    for wave in task.waves:
        for each in wave.followed:
            broken = _broken(view.tasks[each.task], each.wave, each.members, wave.pack)
            dropped = dropped | (wave.indices & task.within(TaskState.SUBMITTED) & broken)
    return [Release(task.plan.name, dropped)] if dropped else []


def _broken(task: TaskSnapshot, wave: int, members: Indices, pack: int) -> Indices:
    """Return the indices in those slots of a wave that cannot end well any more."""
    coming = task.within(TaskState.SUCCESS)
    for live in task.waves:
        if live.id == wave:
            coming = coming | live.indices
    return (members - coming).widened(pack)


def _task_steps(view: _View, task: TaskSnapshot, follow_elements: bool) -> list[PlanStep]:
    if task.error is not None or not view.is_ready(task):
        return []
    name = task.plan.name
    parents = [view.tasks[parent] for parent in task.plan.chain_parents]
    if task.width is None:
        # Where nothing can follow, a singleton has time to be looked up in the cache once it knows its inputs.
        is_early = follow_elements or task.plan.config.array
        expanded = all(
            parent.width is not None and parent.error is None and (is_early or view.is_complete(parent.plan.name))
            for parent in parents
        )
        return [Expand(name)] if expanded else []
    if not task.free:
        return []
    return [
        submit
        for indices, waves in _ways_on(task, parents)
        if not waves or follow_elements
        for submit in _submits(task, indices, waves)
    ]


def _ways_on(task: TaskSnapshot, parents: Sequence[TaskSnapshot]) -> list[tuple[Indices, tuple[LiveWave, ...]]]:
    """Return the elements that can go on now, by the waves that each of them has to follow.

    None where all parent elements have succeeded. An element with several parents follows the waves of those that
    are on their way, if these number their slots alike.
    """
    ways: list[tuple[Indices, tuple[LiveWave, ...]]] = [(task.free, ())]
    for parent in parents:
        done = parent.within(TaskState.SUCCESS)
        carried = [
            (wave, wave.indices - _broken(parent, wave.id, wave.members, wave.pack))
            for wave in parent.waves
            if wave.job_id is not None and wave.offset is not None and wave.pack == task.plan.config.pack
        ]
        longer = [(indices & done, waves) for indices, waves in ways]
        longer += [
            (indices & coming, (*waves, wave))
            for indices, waves in ways
            for wave, coming in carried
            if all(each.offset == wave.offset for each in waves)
        ]
        ways = [(indices, waves) for indices, waves in longer if indices]
    return ways


def _submits(task: TaskSnapshot, indices: Indices, followed: Sequence[LiveWave]) -> list[Submit]:
    """Submit elements in as few waves as the resources that they now need allow."""
    asked: dict[Resources, Indices] = {TASKS_OWN: indices}
    for history, tried in task.histories.items():
        more = resources(task.plan.config, history)
        asked[TASKS_OWN] = asked[TASKS_OWN] - tried
        asked[more] = asked.get(more, Indices()) | (tried & indices)
    after_waves = tuple(wave.id for wave in followed)
    return [Submit(task.plan.name, some, after_waves, which) for which, some in asked.items() if some]


def _final_status(view: _View) -> RunState:
    if all(view.is_fine(name) for name in view.tasks):
        return RunState.SUCCESS
    failed = any(task.error is not None or task.within(TaskState.FAILED) for task in view.tasks.values())
    cancelled = any(task.within(TaskState.CANCELLED) for task in view.tasks.values())
    return RunState.CANCELLED if cancelled and not failed else RunState.FAILED
