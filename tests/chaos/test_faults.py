"""Whatever dies or lies: the run ends, in the right state, of itself, and nothing ran or was submitted twice."""

from __future__ import annotations

import pytest

from reflow.testing import PrivateSlurm

from .cases import CASES, CRASH, Case, run_case
from .conftest import IS_CAMPAIGN, record
from .scene import RealPlace, Scene

TABLE = "fault campaign: place, case, wanted, got, seconds to the truth"

#: The rows that the normal tests run; `make chaos` runs all.
SHORT = {
    "SIGKILL of the worker",
    "NODE_FAIL",
    "python exception",
    "sbatch accepted, reported as error",
    "manifest locked while all end",
}


def rows(place: str) -> list[object]:
    chosen = [case for case in CASES if place in case.places and (IS_CAMPAIGN or case.name in SHORT)]
    return [pytest.param(case, id=case.name) for case in chosen]


def check(case: Case, scene: Scene) -> None:
    outcome = run_case(case, scene)
    record(TABLE, outcome.row)
    assert not outcome.wrongs, "\n".join([*outcome.wrongs, scene.describe()])


@pytest.mark.parametrize("case", rows("fake"))
def test_on_a_fake_slurm(case: Case, fake_place, folder):
    check(case, Scene(fake_place, folder / "scene"))


@pytest.mark.cluster
@pytest.mark.skipif(not IS_CAMPAIGN, reason="`make chaos` runs the campaign on a real Slurm")
@pytest.mark.parametrize("case", rows("real"))
def test_on_a_real_slurm(case: Case, real_place, folder):
    check(case, Scene(real_place, folder / "scene"))


@pytest.mark.cluster
@pytest.mark.skipif(not IS_CAMPAIGN, reason="`make chaos` runs the campaign on a real Slurm")
def test_a_controller_that_is_killed_before_it_has_saved(real_slurm, folder):
    # One of its own: it gives job ids a second time afterwards.
    with PrivateSlurm(nodes=2) as slurm:
        check(CRASH, Scene(RealPlace(slurm), folder / "scene"))
