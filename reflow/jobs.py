"""What the scheduler is told: how the instances of a step become arrays, and what each array asks for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from .active import ActiveRun
from .amounts import format_memory, parse_memory
from .executors.base import After, Dependency, Job, JobResources
from .indices import Indices
from .plan import Submit
from .spec import JobConfig, TaskPlan
from .stores.records import WaveRecord

#: Longest array specification that a script carries, in characters. Scattered indices beyond it (a retry of
#: thousands) are numbered by rank, and the wave file tells each slot its index.
LONGEST_SPECIFICATION = 4_000

#: Options that name memory in another way than `JobConfig.mem`, and win over it.
MEMORY_OPTIONS = frozenset({"mem-per-cpu", "mem-per-gpu"})


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
