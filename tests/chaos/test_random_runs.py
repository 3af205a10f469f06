"""Random workflows under random faults: none hangs, none is doubled, none is lost.

A seed that fails is run again alone with ``REFLOW_CHAOS_SEEDS=17 pytest tests/chaos/test_random_runs.py``.
"""

from __future__ import annotations

import os

import pytest

from reflow.run import Run
from reflow.states import RunState, TaskState
from reflow.stores.sqlite import SqliteStore

from . import random_runs
from .conftest import IS_CAMPAIGN, record
from .scene import HERE, Scene

TABLE = "random chaos: seed, run, seconds, what struck, verdict"

#: How long a run may take to settle, in seconds: a second look at a silent element alone takes 10.
SECONDS = 150.0


def seeds() -> list[int]:
    """Return the seeds of ``REFLOW_CHAOS_SEEDS`` (``17`` or ``0-299``); 300 of them in the campaign, else 2."""
    first, _, last = os.environ.get("REFLOW_CHAOS_SEEDS", "0-299" if IS_CAMPAIGN else "0-1").partition("-")
    return list(range(int(first), int(last or first) + 1))


@pytest.mark.parametrize("seed", seeds())
def test_a_random_run_under_random_faults(seed: int, fake_place, folder):
    plan = random_runs.make_plan(seed)
    pipeline = random_runs.write_pipeline(plan, folder)
    scene = Scene(fake_place, folder / "scene", pipeline=pipeline)
    for (task, index), what in plan.faults.items():
        (scene.run_dir / f"fault-{task}-{index}").write_text(what)
    marker = scene.folder / "killed"
    if plan.kill_step is not None:
        scene.extra = {
            "CHAOS_KILL_STEP": str(plan.kill_step),
            "CHAOS_MARKER": str(marker),
            "PYTHONPATH": os.pathsep.join([str(HERE / "hook"), os.environ.get("PYTHONPATH", "")]),
        }
    scene.submit()
    if plan.sbatch is not None:
        scene.sbatch_does(*plan.sbatch)
    struck = random_runs.strike_at_moments(plan, scene)
    try:
        seconds = scene.settle(SECONDS)
    except AssertionError:
        record(TABLE, (str(seed), "RUNNING", f"{SECONDS:.0f}", "; ".join(struck), "HANGS"))
        raise
    if marker.exists():
        struck.append(marker.read_text())
    began = {f"{task}[{index}]" for task, index, *_ in scene.trace("begin")}
    struck += [f"{task}[{index}]={what}" for (task, index), what in plan.faults.items() if f"{task}[{index}]" in began]
    wrongs = judge(plan, scene, hurt=bool(struck))
    settled = str(scene.state())
    if not wrongs:
        wrongs = retried(plan, scene)
    verdict = "; ".join(wrongs) or "ok"
    record(TABLE, (str(seed), settled, f"{seconds:.1f}", "; ".join(struck), verdict))
    assert wrongs == [], f"seed {seed}: {plan.describe()}\n{scene.describe()}"


def judge(plan: random_runs.Plan, scene: Scene, *, hurt: bool) -> list[str]:
    """Return what is wrong with a run that is settled; one that nothing has hurt must have gone well."""
    wrongs = scene.wrongs()
    if not hurt and scene.state() is not RunState.SUCCESS:
        wrongs.append(f"nothing has hurt it, and it is {scene.state()}")
    instances = scene.instances()
    for task in plan.tasks:
        width = len(task.values) if task.kind == "array" else 1
        own = {index: each for (name, index), each in instances.items() if name == task.name}
        if scene.state() is RunState.SUCCESS and len(own) != width:
            wrongs.append(f"{task.name} has {len(own)} elements and should have {width}")
        for index, each in own.items():
            if each.state is TaskState.SUCCESS and each.output != task.values[index]:
                wrongs.append(f"{task.name}[{index}] is {each.output} and should be {task.values[index]}")
            if each.state in (TaskState.SUBMITTED, TaskState.RUNNING, TaskState.RETRYING):
                wrongs.append(f"{task.name}[{index}] is {each.state} in a run that is over")
            if scene.state() is RunState.SUCCESS and each.state is not TaskState.SUCCESS:
                wrongs.append(f"{task.name}[{index}] is {each.state} in a run that is SUCCESS")
    return wrongs


def retried(plan: random_runs.Plan, scene: Scene) -> list[str]:
    """Let a person retry what has failed: now nothing strikes, so nothing may be missing in the end."""
    if scene.state() is RunState.SUCCESS:
        return []
    scene.place.slurm.clear()
    for fault in scene.run_dir.glob("fault-*"):
        fault.unlink()
    scene.sbatch_does("", 0)
    with SqliteStore(scene.manifest) as store:
        Run(scene.run_id, store).retry()
    scene.settle(SECONDS)
    if scene.state() is not RunState.SUCCESS:
        return [f"after a retry it is {scene.state()}"]
    return judge(plan, scene, hurt=False)
