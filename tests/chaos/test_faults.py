"""Whatever dies or lies: the run ends, in the right state, of itself, and nothing ran or was submitted twice."""

from __future__ import annotations

import pytest

from .cases import CASES, Case, run_case
from .conftest import IS_CAMPAIGN, record
from .scene import Scene

TABLE = "fault campaign: place, case, wanted, got, seconds to the truth"

#: The rows that the normal tests run; `make chaos` runs all.
SHORT = {
    "SIGKILL of the worker",
    "SIGKILL of its shell",
    "NODE_FAIL, not requeued",
    "python exception",
    "sbatch accepted, reported as error",
    "manifest locked while all end",
}


def rows(place: str) -> list[object]:
    chosen = [case for case in CASES if place in case.places and (IS_CAMPAIGN or case.name in SHORT)]
    return [pytest.param(case, id=case.name) for case in chosen]


@pytest.mark.parametrize("case", rows("fake"))
def test_on_a_fake_slurm(case: Case, fake_place, folder):
    outcome = run_case(case, Scene(fake_place, folder / "scene"))
    record(TABLE, outcome.row)
    assert outcome.wrongs == ()


@pytest.mark.cluster
@pytest.mark.skipif(not IS_CAMPAIGN, reason="`make chaos` runs the campaign on a real Slurm")
@pytest.mark.parametrize("case", rows("real"))
def test_on_a_real_slurm(case: Case, real_place, folder):
    outcome = run_case(case, Scene(real_place, folder / "scene"))
    record(TABLE, outcome.row)
    assert outcome.wrongs == ()
