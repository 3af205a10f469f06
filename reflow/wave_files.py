"""Write the file from which the workers of a wave start."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from . import identity, inputs
from .active import ActiveRun
from .expanding import common_inputs, outputs_of
from .fingerprints import Fingerprints
from .spec import Delivery, TaskPlan
from .stores.records import SlotRow, WaveRecord
from .waves import WaveHeader, slot_text, write_wave


def write_wave_file(run: ActiveRun, wave: WaveRecord, plan: TaskPlan) -> Path:
    """Write what the wave's workers read, and return its path."""
    common, reuse = run.common.get(plan.name), run.reuse
    if common is None:
        common = common_inputs(run, plan, outputs_of(run, plan, reuse.fingerprints), reuse)
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
