"""Say before a run what it would use again and what it would compute, as far as that can be known: ``--dry-run``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from . import clock
from .active import ActiveRun
from .expansion import ParentHashes, instances_of
from .explain import Case, Difference, judge, origins
from .flow import TaskSpec
from .inputs import UnequalWidths, Value, shared_values, value_now
from .jobs import job_of
from .reuse import Reuse
from .spec import RunSettings, TaskPlan
from .stores.records import CachedResult, NewInstance, WaveRecord, WaveState
from .stores.sqlite import SqliteStore

#: Of how many instances of a task that would be computed it is said why.
MOST_EXPLAINED = 20


@dataclass(frozen=True)
class TaskForecast:
    """What a run would do with one task."""

    task: str
    #: Number of instances, None where tasks before it decide that and have to run first.
    width: int | None
    #: How many results would be used again.
    reused: int = 0
    #: How many instances find out when they start, because their parent elements have to run first.
    open: int = 0
    #: Why the others would be computed, and how many for each reason; of the first `MOST_EXPLAINED`.
    reasons: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_settled(self) -> bool:
        """Whether there would be nothing to run."""
        return self.width is not None and self.reused == self.width

    def line(self) -> str:
        """Return the forecast as one line of text."""
        if self.width is None:
            (why,) = self.reasons
            return f"{self.task}: {why}"
        parts = [f"{self.task}: {self.reused} of {self.width} used again"]
        if self.open:
            parts.append(f"{self.open} decided when they start")
        computed = self.width - self.reused - self.open
        if computed:
            reasons = "; ".join(f"{number} {why}" if computed > 1 else why for why, number in self.reasons.items())
            parts.append(f"{computed} computed ({reasons})")
        return ", ".join(parts)


@dataclass
class _Known:
    """What is known of the tasks so far."""

    outputs: dict[str, dict[int, Value]] = field(default_factory=dict)
    widths: dict[str, int | None] = field(default_factory=dict)

    def is_complete(self, task: str) -> bool:
        return self.widths.get(task) is not None and len(self.outputs[task]) == self.widths[task]


def forecast(
    plans: Sequence[TaskPlan], settings: RunSettings, manifest: Path, tasks: Mapping[str, TaskSpec]
) -> list[TaskForecast]:
    """Return what a run would do with each task, in their order; asks the manifest and the files, writes nothing."""
    known = _Known()
    with SqliteStore(manifest, readonly=True) as store:
        reuse = Reuse.of_run(settings, str(manifest), store, tasks)
        found = store if manifest.exists() else None
        return [_task(plan, settings, reuse, found, known) for plan in plans]


def _task(
    plan: TaskPlan, settings: RunSettings, reuse: Reuse, store: SqliteStore | None, known: _Known
) -> TaskForecast:
    known.outputs[plan.name] = {}
    needed = {step.task for result in plan.results for step in result.steps}
    missing = sorted(
        name
        for name in needed
        if known.widths.get(name) is None or (name not in plan.chain_parents and not known.is_complete(name))
    )
    if missing:
        return TaskForecast(plan.name, None, reasons={f"known when {', '.join(missing)} is done": 1})
    input_hash = reuse.input_hash(plan, settings.run_dir)
    try:
        shared = shared_values(plan, known.outputs, reuse.fingerprints)
        parents = {name: _hashes_of(known.outputs[name]) for name in plan.chain_parents}
        instances = list(
            instances_of(plan, shared, input_hash, known.outputs, parents, known.widths, reuse.fingerprints)
        )
    except UnequalWidths as error:
        return TaskForecast(plan.name, None, reasons={str(error): 1})
    known.widths[plan.name] = len(instances)
    hits = reuse.usable(plan, instances) if store is not None else {}
    _take_over(plan, instances, hits, reuse, known)
    misses = [each for each in instances if each.identity not in hits]
    undecided = {each.index for each in misses if _waits(plan, each, known)}
    computed = (each for each in misses if each.index not in undecided)
    reasons = Counter(_why(plan, each, settings, reuse, store, known) for each in islice(computed, MOST_EXPLAINED))
    return TaskForecast(plan.name, len(instances), len(instances) - len(misses), len(undecided), reasons)


def _hashes_of(outputs: Mapping[int, Value]) -> ParentHashes:
    hashes = {index: each.hash for index, each in outputs.items()}
    return lambda start, stop: hashes


def _take_over(
    plan: TaskPlan, instances: Sequence[NewInstance], hits: Mapping[str, CachedResult], reuse: Reuse, known: _Known
) -> None:
    for each in instances:
        hit = hits.get(each.identity)
        if hit is not None:
            text = reuse.earlier.cached_output(hit) or "null"
            value = value_now(text, hit.output_hash, reuse.fingerprints)
            known.outputs[plan.name][each.index or 0] = value


def _waits(plan: TaskPlan, instance: NewInstance, known: _Known) -> bool:
    return any(instance.index not in known.outputs[parent] for parent in plan.chain_parents)


def _why(
    plan: TaskPlan,
    instance: NewInstance,
    settings: RunSettings,
    reuse: Reuse,
    store: SqliteStore | None,
    known: _Known,
) -> str:
    if store is None:
        return f"there is no earlier success of task '{plan.name}'"
    upstream = {each.parameter: origins(each, known.outputs, instance.index) for each in plan.results}
    case = Case("this run", settings, plan, instance.index, upstream)
    now = clock.to_datetime(clock.now())
    reason, _, differences = judge(store, case, instance.identity, now, reuse)
    return "changed: " + ", ".join(_shortly(each) for each in differences) if differences else reason


def _shortly(difference: Difference) -> str:
    return next(difference.lines())


def scripts(plans: Sequence[TaskPlan], run: ActiveRun) -> dict[str, str | None]:
    """Return, by task, the script that would be handed over now; None where it depends on earlier results."""
    shown: dict[str, str | None] = {}
    for number, plan in enumerate(plans, start=1):
        name = f"{run.run_id}-{number}"
        wave = WaveRecord(number, run.run_id, plan.name, name, WaveState.INTENT, None, None, None, 0, (), 0)
        shown[plan.name] = None if plan.upstreams else run.executor.render(job_of(run, wave, plan))
    return shown
