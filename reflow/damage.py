"""Look for results of a run that are not what they were, and tell what a retry has made of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from . import identity, log
from .errors import ORDINARY_ERRORS, ReflowError
from .flow import TaskSpec
from .indices import Indices
from .remaking import Remake
from .reuse import Reuse
from .spec import TaskPlan
from .stores.base import EngineStore
from .stores.records import TaskSpecRecord
from .wording import instance_name

#: Indices of damaged results, by task and the attempt that made them; a singleton's index is 0.
Damage = Mapping[tuple[str, int], Indices]


def find_damage(
    store: EngineStore, run_id: str, reuse: Reuse, load_tasks: Callable[[], Mapping[str, TaskSpec]]
) -> Damage:
    """Return the damaged results of a run: one pass over those that name files, are files, or have a `verify=`.

    `load_tasks` gives the user's tasks, and is called only where there is a `verify=` to ask.
    """
    plans = [TaskPlan.from_json(each.config) for each in store.list_task_spec_records(run_id)]
    if any(plan.has_verify for plan in plans):
        reuse = replace(reuse, tasks=_tasks(load_tasks))
    damage: dict[tuple[str, int], list[int]] = {}
    for plan in plans:
        mark = None if plan.has_verify and plan.name in reuse.tasks else identity.PATH_MARK
        for result in store.results_to_check(run_id, plan.name, mark):
            if reuse.is_spoilt(plan, result.output, result.output_hash):
                damage.setdefault((plan.name, result.attempt), []).append(result.index)
    return {made_by: Indices(indices) for made_by, indices in damage.items()}


def _tasks(load_tasks: Callable[[], Mapping[str, TaskSpec]]) -> Mapping[str, TaskSpec]:
    """Return the user's tasks; none where her pipeline cannot be loaded: the workers have a copy of it, and go on."""
    try:
        return load_tasks()
    except (ReflowError, SyntaxError, *ORDINARY_ERRORS) as error:
        log.warning("the pipeline cannot be loaded (%s), so no verify= is asked: only files are looked at", error)
        return {}


def only_of(damage: Damage, task: str | None) -> Damage:
    """Return the damage of one task, or with None all of it."""
    return {made_by: indices for made_by, indices in damage.items() if task in (None, made_by[0])}


def warn_of_other(damage: Damage, task: str | None, specs: Mapping[str, TaskSpecRecord]) -> None:
    """Tell of damaged results of other tasks than the one that is tried again: it may miss their files."""
    for (name, _), indices in damage.items():
        if task not in (None, name):
            log.warning(
                "task '%s': %d result(s), the first of them %s, are damaged, and what is tried again may miss their "
                "files: a retry without --task makes them again",
                name,
                len(indices),
                _first(specs[name], indices),
            )


def _first(spec: TaskSpecRecord, indices: Indices) -> str:
    return instance_name(spec.task_name, next(iter(indices)) if spec.is_array else None)


@dataclass(frozen=True)
class Retried:
    """What a person's retry has put back to waiting."""

    run_id: str
    #: How many instances had failed or were cancelled, and tasks that had failed as a whole.
    failed: int
    #: What had succeeded.
    remake: Remake
    specs: Mapping[str, TaskSpecRecord]
    #: Files of the pipeline that are not as they were at submit: the run does not see that.
    changed_files: Sequence[Path] = ()
    #: The command line by which the run was submitted.
    command: str = ""

    @property
    def count(self) -> int:
        """The number of instances that are submitted again."""
        return self.failed + self.remake.count

    def lines(self) -> Iterator[str]:
        """Yield as text lines what is made again although it had succeeded, and that changed code is not run."""
        for spec in self.specs.values():
            for found, why in (
                (self.remake.damaged, "files are gone or changed, or verify= says no"),
                (self.remake.dependent, "made from a result that is made again"),
            ):
                indices = found.get(spec.task_name)
                if indices:
                    more = "" if len(indices) == 1 else f" and {len(indices) - 1} more"
                    yield f"Again, although it had succeeded: {_first(spec, indices)}{more} ({why})"
        if self.changed_files:
            names = ", ".join(path.name for path in self.changed_files)
            yield f"Note: changed since the run was submitted: {names}. A retry runs the code as it was then."
            yield f"To run it as it is now, and take over what succeeded and is the same, submit anew: {self.command}"
