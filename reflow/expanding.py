"""Create the instances of a task: read what they receive, look up what is known, write the rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from . import inputs
from .active import ActiveRun, CommonInputs
from .deferred import dataclass
from .errors import ResultRemoved
from .expansion import NewInstances, ParentHashes, instances_of
from .fingerprints import Fingerprints
from .inputs import Outputs, Value
from .reuse import Reuse
from .spec import TaskPlan
from .stores.base import EngineStore


def expand(run: ActiveRun, plan: TaskPlan, widths: Mapping[str, int | None]) -> None:
    """Create the task's instances, those that the cache knows as successes.

    `widths` has the width of each task by name. Inputs of unequal length fail the task as a whole.
    """
    reuse = run.reuse
    outputs = outputs_of(run, plan, reuse.fingerprints)
    common = common_inputs(run, plan, outputs, reuse)
    run.common.clear()
    run.common[plan.name] = common
    # Of a parent in a chain only the hash counts here: its output may be large, and is its element's business.
    parents = {task: _hashes_of(run, task) for task in plan.chain_parents}
    try:
        instances = instances_of(plan, common.shared, common.input_hash, outputs, parents, widths, reuse.fingerprints)
    except inputs.UnequalWidths as error:
        run.store.fail_task(run.run_id, plan.name, str(error))
        return
    _create(run, plan, instances)


def _create(run: ActiveRun, plan: TaskPlan, instances: NewInstances) -> None:
    try:
        run.store.expand(run.run_id, plan.name, run.reuse.settle(plan, instances), instances.width)
    except ResultRemoved:  # between look-up and expansion: the next look-up does not find it any more
        run.store.expand(run.run_id, plan.name, run.reuse.settle(plan, instances), instances.width)


def _hashes_of(run: ActiveRun, task: str) -> ParentHashes:
    return lambda start, stop: dict(run.store.output_hashes(run.run_id, task, start, stop))


def common_inputs(run: ActiveRun, plan: TaskPlan, outputs: Outputs, reuse: Reuse) -> CommonInputs:
    """Return what all instances of the task receive, from these outputs."""
    shared = inputs.shared_values(plan, outputs, reuse.fingerprints)
    return CommonInputs(shared, reuse.input_hash(plan, run.settings.run_dir))


@dataclass(frozen=True)
class _StoredValues:
    """The outputs of one task, read from the manifest whenever they are asked for: a million are never all here."""

    store: EngineStore
    run_id: str
    task: str
    fingerprints: Fingerprints

    def values(self) -> Iterator[Value]:
        for _, text, digest in self.store.iterate_outputs(self.run_id, self.task):
            yield inputs.value_now(text, digest, self.fingerprints)


def outputs_of(run: ActiveRun, plan: TaskPlan, fingerprints: Fingerprints) -> Outputs:
    """Return the outputs of the tasks whose results reach the plan's instances."""
    tasks = {step.task for result in plan.results for step in result.steps}
    return {task: _StoredValues(run.store, run.run_id, task, fingerprints) for task in tasks}
