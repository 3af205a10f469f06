"""A dispatcher that is killed at any step of its work: the run ends all the same, and nothing is submitted twice."""

from __future__ import annotations

import os

import pytest

from reflow.states import RunState

from .cases import WIDTH
from .conftest import IS_CAMPAIGN, record
from .scene import HERE, Scene

TABLE = "dispatchers killed: place, step, where, how the run ended, seconds to the truth"

#: The campaign kills at each of so many steps, and on the real Slurm at every tenth: two whole dispatches of this
#: pipeline, with all that they submit.
STEPS = 260

#: What the normal tests strike: an early step, and just before and after a submit that nobody has recorded yet.
SHORT = (12, "call of hand_over", "return of hand_over")


@pytest.mark.parametrize("step", range(1, STEPS + 1) if IS_CAMPAIGN else SHORT)
def test_a_dispatcher_killed_at_this_step(step: int | str, fake_place, folder):
    struck = kill_at(step, Scene(fake_place, folder / "scene"))
    if not IS_CAMPAIGN:
        assert struck != "not reached", "the hook has struck nobody: it does not see the dispatch any more"


@pytest.mark.cluster
@pytest.mark.skipif(not IS_CAMPAIGN, reason="`make chaos` runs the campaign on a real Slurm")
@pytest.mark.parametrize("step", range(1, STEPS + 1, 10))
def test_a_dispatcher_killed_at_this_step_on_a_real_slurm(step: int, real_place, folder):
    kill_at(step, Scene(real_place, folder / "scene"))


def kill_at(step: int | str, scene: Scene) -> str:
    """Run the pipeline, have the first dispatcher that gets to this step killed, and return where that was."""
    marker = scene.folder / "killed"
    scene.extra = {
        "CHAOS_KILL_STEP": str(step),
        "CHAOS_MARKER": str(marker),
        "PYTHONPATH": os.pathsep.join([str(HERE / "hook"), os.environ.get("PYTHONPATH", "")]),
    }
    scene.submit(width=WIDTH)
    seconds = scene.settle(120)
    struck = marker.read_text() if marker.exists() else "not reached"
    record(TABLE, (scene.place.name, str(step), struck, str(scene.state()), f"{seconds:.1f}"))
    assert scene.state() is RunState.SUCCESS, scene.describe()
    assert scene.wrongs() == []
    assert scene.instances()["total", 0].output == sum(number * 10 + 1 for number in range(WIDTH))
    return struck
