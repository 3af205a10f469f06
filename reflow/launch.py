"""Turn the plan's steps into rows, files and jobs: expand a task, launch a wave, put a sentinel behind it."""

from __future__ import annotations

import itertools
import json
import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field, replace
from enum import Enum
from pathlib import Path

from . import identity, inputs
from .amounts import format_memory, parse_memory
from .deferred import dataclass
from .errors import (
    ConfigError,
    RenderError,
    ResultRemoved,
    SchedulerError,
    SubmitDeferred,
    SubmitOverLimit,
    SubmitRefused,
    SubmitTooLarge,
    SubmitUnknown,
)
from .executors.base import After, Dependency, Executor, Job, JobResources
from .expansion import NewInstances, ParentHashes, instances_of
from .fingerprints import Fingerprints
from .flow import TaskSpec
from .indices import Indices
from .inputs import Outputs, Value
from .paths import RunFolder
from .plan import Submit
from .reuse import Reuse
from .spec import Delivery, JobConfig, RunSettings, TaskPlan
from .stores.base import EngineStore
from .stores.records import SlotRow, WaveRecord
from .waves import WaveHeader, slot_text, write_wave

_log = logging.getLogger("reflow")

#: Longest array specification that a script carries, in characters. Scattered indices beyond it (a retry of
#: thousands) are numbered by rank, and the wave file tells each slot its index.
LONGEST_SPECIFICATION = 4_000


#: Options that name memory in another way than `JobConfig.mem`, and win over it.
MEMORY_OPTIONS = frozenset({"mem-per-cpu", "mem-per-gpu"})

#: How often a submit is tried that was not answered, and how long after the first question the scheduler is asked
#: a second time whether it has the job, in seconds.
SUBMIT_TRIES = 3
ASK_AGAIN_SECONDS = 2.0


@dataclass(frozen=True)
class CommonInputs:
    """What all instances of one task receive."""

    #: By parameter, what comes from whole upstream tasks.
    shared: Mapping[str, Value]
    #: Hash of the direct inputs.
    input_hash: str


@dataclass(frozen=True)
class ActiveRun:
    """One run with the parts that dispatch works on."""

    run_id: str
    settings: RunSettings
    store: EngineStore
    executor: Executor
    #: Path of the manifest, for the workers.
    manifest: Path
    #: What all instances of the task that this pass expanded last have in common: its waves need it once more, and
    #: the million outputs behind a gather are read once.
    common: dict[str, CommonInputs] = field(default_factory=dict, compare=False, repr=False)
    #: The user's tasks, where this process has loaded them: her own process at `submit`.
    tasks: Mapping[str, TaskSpec] = field(default_factory=dict)

    @property
    def folder(self) -> RunFolder:
        """The run's files."""
        return RunFolder(self.settings.run_dir, self.run_id)

    @property
    def reuse(self) -> Reuse:
        """What the run may take from earlier runs."""
        return Reuse.of_run(self.settings, str(self.manifest), self.store, self.tasks)


def expand(run: ActiveRun, plan: TaskPlan, widths: Mapping[str, int | None]) -> None:
    """Create the task's instances, those that the cache knows as successes, in one turn.

    `widths` has the width of each task by name. Inputs of unequal length fail the task as a whole.
    """
    reuse = run.reuse
    outputs = _outputs(run, plan, reuse.fingerprints)
    common = _common_inputs(run, plan, outputs, reuse)
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


def _common_inputs(run: ActiveRun, plan: TaskPlan, outputs: Outputs, reuse: Reuse) -> CommonInputs:
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


def _outputs(run: ActiveRun, plan: TaskPlan, fingerprints: Fingerprints) -> Outputs:
    """Return the outputs of the tasks whose results reach the plan's instances."""
    tasks = {step.task for result in plan.results for step in result.steps}
    return {task: _StoredValues(run.store, run.run_id, task, fingerprints) for task in tasks}


def reserve_waves(run: ActiveRun, step: Submit, plan: TaskPlan) -> list[WaveRecord]:
    """Record the intent for what the step names, as one wave or as many as the scheduler's limits ask for."""
    largest = run.executor.limits().max_array_size
    pack = plan.config.pack if run.executor.packs else 1
    reserved = []
    for indices, offset in _chunks(step.indices, pack, largest, _offset_of(run, step.after_waves)):
        wave = run.store.reserve(
            run.run_id,
            step.task,
            indices,
            slots=_slots(indices, offset, pack) if plan.config.array else None,
            offset=offset,
            after_waves=step.after_waves,
            pack=pack,
            resources=step.resources,
        )
        if wave is not None:
            reserved.append(wave)
    return reserved


def _slots(indices: Indices, offset: int | None, pack: int) -> Indices:
    """Return the slots of an array: of neighbouring indices, or with offset None of indices numbered by rank."""
    if offset is None:
        return Indices.range(0, len(indices)).grouped(pack)
    return indices.grouped(pack).shift(-offset)


def _offset_of(run: ActiveRun, waves: Sequence[int]) -> int | None:
    if not waves:
        return None
    return next(wave.offset for wave in run.store.list_waves(run.run_id) if wave.id == waves[0])


def _chunks(
    indices: Indices, pack: int, largest: int | None, offset: int | None
) -> Iterator[tuple[Indices, int | None]]:
    """Split indices into arrays that the scheduler takes, each with its offset, None where slots are ranks.

    Behind another wave the slots must be that wave's own, whatever the length of their list. Elsewhere slots equal
    indices (or numbers of packs) below the limit, and lie above a multiple of it beyond. Scattered indices that
    would leave packs more than half empty are packed by rank.
    """
    groups = indices.grouped(pack)
    if offset is not None:
        yield indices, offset
    elif len(str(groups)) > LONGEST_SPECIFICATION or len(groups) > 2 * -(-len(indices) // pack):
        rest = indices
        while rest:
            chunk = rest.first(pack * (largest or len(rest)))
            yield chunk, None
            rest = rest - chunk
    elif largest is None:
        yield indices, 0
    else:
        for base in range(groups.ranges[0][0] // largest * largest, groups.ranges[-1][1], largest):
            chunk = indices & Indices.range(base * pack, (base + largest) * pack)
            if chunk:
                yield chunk, base


def write_wave_file(run: ActiveRun, wave: WaveRecord, plan: TaskPlan) -> Path:
    """Write what the wave's workers read, and return its path."""
    common, reuse = run.common.get(plan.name), run.reuse
    if common is None:
        common = _common_inputs(run, plan, _outputs(run, plan, reuse.fingerprints), reuse)
    header = WaveHeader(
        wave=wave.id,
        run_id=run.run_id,
        run_dir=run.settings.run_dir,
        manifest=str(run.manifest),
        plan=plan,
        code=run.settings.code,
        slots="0" if wave.slots is None else str(wave.slots),
        shared={parameter: value.text for parameter, value in common.shared.items()},
        shared_hashes={parameter: value.hash for parameter, value in common.shared.items()},
        input_hash=common.input_hash,
        dispatch=run.settings.dispatch == "worker",
        working_dir=run.settings.working_dir,
        path_fingerprint=run.settings.path_fingerprint,
        reuse=reuse.may_use(plan),
        verify=run.settings.verify,
    )
    # A singleton that follows its parent's job has to look for the value when it starts, as elements of a chain have.
    parents = {
        result.parameter: run.store.instance_ids(run.run_id, result.steps[0].task)
        for result in plan.results
        if result.delivery is Delivery.CHAIN
        or (result.delivery is Delivery.WHOLE and result.parameter not in common.shared)
    }

    def text_of(row: SlotRow) -> str:
        own = {parameter: ids[row.index or 0] for parameter, ids in parents.items()}
        # With a parent to look for, the worker will know.
        now = "" if own else _identity_now(row, plan, header, reuse.fingerprints)
        return slot_text(row.instance, row.index, row.attempt, now, row.input, own)

    path = run.folder.wave(wave.id)
    slots = _by_slot(run.store.wave_rows(wave.id), wave)
    write_wave(path, header, (map(text_of, rows) for rows in slots))
    return path


def _identity_now(row: SlotRow, plan: TaskPlan, header: WaveHeader, fingerprints: Fingerprints) -> str:
    """Return the instance's identity where the manifest has none, or another: '' where that one stands.

    It has none where a parent had no result yet or gave up the one it had; a gather of what succeeded may gather more
    when it is tried again.
    """
    is_cached = bool(plan.config.cache and plan.code)
    if not is_cached or (row.is_identified and not (plan.config.allow_partial and row.attempt > 1)):
        return ""
    own = json.loads(row.input) if row.input else {}
    hashes = {name: identity.hash_value(json.dumps(value), fingerprints) for name, value in own.items()}
    return inputs.instance_identity(plan, header.input_hash, {**header.shared_hashes, **hashes})


def _by_slot(rows: Iterable[SlotRow], wave: WaveRecord) -> Iterator[Iterable[SlotRow]]:
    """Yield the elements of each slot; they come in the order of their indices, which is that of the slots."""
    ranks = itertools.count()

    def slot_of(row: SlotRow) -> int:
        return (next(ranks) if wave.offset is None else row.index or 0) // wave.pack

    return (members for _, members in itertools.groupby(rows, slot_of))


def job_of(run: ActiveRun, wave: WaveRecord, plan: TaskPlan, after_jobs: Sequence[str] = ()) -> Job:
    """Return what the scheduler is told about a wave; `after_jobs` are the jobs of the waves that it follows."""
    config = plan.config
    return Job(
        name=wave.job_name,
        command=(run.settings.python, "-m", "reflow.worker", "run", str(run.folder.wave(wave.id))),
        resources=_resources_of(wave, config),
        run_dir=Path(run.settings.run_dir),
        log=str(run.folder.wave_log(wave.id, plan.name).relative_to(run.settings.run_dir)),
        working_dir=Path(run.settings.working_dir),
        slots=wave.slots,
        throttle=config.array_parallelism if wave.slots is not None else None,
        after=tuple(Dependency(After.OK if wave.slots is None else After.CORRESPONDING, each) for each in after_jobs),
        setup=config.setup,
        environment=config.environment,
        signal_before=config.signal_before,
        template=config.template,
        title=f"wave {wave.id} of task '{plan.name}' of run {run.run_id}",
    )


def _resources_of(wave: WaveRecord, config: JobConfig) -> JobResources:
    """Return what the task asks for, or the more that its earlier attempts have shown to be needed."""
    asked, options = wave.resources, dict(config.submit_options)
    if asked.exclude:
        excluded = [options["exclude"]] if options.get("exclude") else []
        options["exclude"] = ",".join([*map(str, excluded), *asked.exclude])
    if asked.mem:
        options.update(_scaled_memory(config, asked.mem))
    return JobResources(config.cpus, asked.time or config.time, asked.mem or config.mem, options)


def _scaled_memory(config: JobConfig, mem: str) -> dict[str, str]:
    """Return the task's memory per CPU or GPU, which the scheduler takes in place of its memory, grown as that has."""
    first, grown = parse_memory(config.mem), parse_memory(mem)
    scaled = {}
    for option in MEMORY_OPTIONS.intersection(config.submit_options):
        try:
            each = parse_memory(str(config.submit_options[option]))
        except ValueError:
            continue  # the scheduler will say what is wrong with it
        if each and first and grown:
            scaled[option] = format_memory(-(-each * grown // (first * 1024)) * 1024)
    return scaled


class Launched(Enum):
    """What became of a wave's submit."""

    #: The scheduler has it, or has refused it for good.
    DONE = "done"
    #: The scheduler takes fewer at once: its intent was given up, and its instances are free again.
    SMALLER = "smaller"
    #: The same because of the size of the array, which is known better now.
    AGAIN = "again"
    #: A limit on queued jobs is met, and it cannot be smaller.
    FULL = "full"
    #: The scheduler takes no jobs now.
    LATER = "later"


def launch(run: ActiveRun, wave: WaveRecord, plan: TaskPlan, *, is_new: bool) -> Launched:
    """Submit a wave whose intent is recorded.

    An intent that an earlier dispatcher left behind may have been submitted: the scheduler is asked for its name
    before anything is submitted again.
    """
    if not is_new:
        try:
            known = wave.job_id or _find(run, wave)  # the id, where not all instances were marked yet
        except SubmitDeferred as error:
            _log.warning("task '%s' waits: %s", plan.name, error)
            return Launched.LATER
        if known is None and run.store.wave_is_known_to_run(wave.id):
            # Its workers have reported, so it was submitted; the scheduler forgot it before anyone asked.
            known = f"forgotten-{wave.job_name}"
        if known is not None:
            _record(run, wave, known)
            return Launched.DONE
    followed = set(wave.after_waves)
    parents = [each.job_id for each in run.store.list_waves(run.run_id) if each.id in followed] if followed else []
    write_wave_file(run, wave, plan)
    job = job_of(run, wave, plan, [job for job in parents if job is not None])
    try:
        job_id = _submit_surely(run, wave, job, run.folder.script(wave.id, plan.name))
    except SubmitRefused as error:
        if wave.resources.exclude:
            # Perhaps no node is left. One that failed before is better than none.
            return launch(run, replace(wave, resources=replace(wave.resources, exclude=())), plan, is_new=True)
        return _refuse(run, wave, error)
    except (RenderError, ConfigError) as error:  # a wrong option or template never gets right by itself
        return _refuse(run, wave, error)
    except SubmitDeferred as error:
        if _may_be_smaller(run, wave, error):
            run.store.withdraw_wave(wave.id)
            return Launched.AGAIN if isinstance(error, SubmitTooLarge) else Launched.SMALLER
        _log.warning("task '%s' waits, because the scheduler takes no more jobs now: %s", plan.name, error)
        return Launched.FULL if isinstance(error, SubmitOverLimit) else Launched.LATER
    _record(run, wave, job_id)
    return Launched.DONE


def _may_be_smaller(run: ActiveRun, wave: WaveRecord, error: SubmitDeferred) -> bool:
    if wave.slots is None or len(wave.slots) == 1:
        return False
    if isinstance(error, SubmitTooLarge):
        # The limit was changed, or could not be asked for when the wave was made.
        largest = run.executor.limits().max_array_size
        return largest is not None and wave.slots.ranges[-1][1] > largest
    return isinstance(error, SubmitOverLimit)


def _refuse(run: ActiveRun, wave: WaveRecord, error: Exception) -> Launched:
    run.store.refuse_wave(wave.id, f"task '{wave.task_name}' was refused by the scheduler: {error}")
    return Launched.DONE


def _submit_surely(run: ActiveRun, wave: WaveRecord, job: Job, script: Path) -> str:
    """Submit and return the job id; where it is not known whether the job was accepted, ask for its name first.

    Raises what `Executor.submit` raises, but `SubmitDeferred` in place of `SubmitUnknown`.
    """
    for _ in range(SUBMIT_TRIES):
        try:
            return hand_over(run, job, script)
        except SubmitUnknown as error:
            problem = error
            # A controller that was too busy to answer may still have the request before it.
            for pause in (0.0, ASK_AGAIN_SECONDS):
                time.sleep(pause)
                found = _find(run, wave)
                if found is not None:
                    return found
    raise SubmitDeferred(f"{SUBMIT_TRIES} tries to submit the job were not answered: {problem}")


def hand_over(run: ActiveRun, job: Job, script: Path) -> str:
    """Write the job's script, submit it and return the job id; raises what `Executor.submit` raises."""
    script.parent.mkdir(parents=True, exist_ok=True)
    (job.run_dir / job.log).parent.mkdir(parents=True, exist_ok=True)  # Slurm fails a job whose log has no folder
    script.write_text(run.executor.render(job), encoding="utf-8")
    return run.executor.submit(script, job)


def _find(run: ActiveRun, wave: WaveRecord) -> str | None:
    """Return the wave's job, None when it was not accepted; `SubmitDeferred` while that cannot be known."""
    try:
        return run.executor.find(wave.job_name)
    except SchedulerError as error:
        raise SubmitDeferred(f"the scheduler cannot be asked whether it has the job: {error}") from error


def _record(run: ActiveRun, wave: WaveRecord, job_id: str) -> None:
    if not run.store.record_submission(wave.id, job_id):
        run.executor.cancel([job_id])  # the run was cancelled while its job was being submitted
