"""Pytest fixtures that give a test a private real Slurm; see `reflow.testing.cluster`."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from .cluster import PrivateSlurm, missing_programs


def require_programs(accounting: bool = True) -> None:
    """Skip the current test when Slurm's programs are missing; fail it when REFLOW_REQUIRE_CLUSTER is set and not 0."""
    missing = missing_programs(accounting)
    if not missing:
        return
    sentence = f"a private real Slurm cannot start here: missing {', '.join(missing)}"
    if is_required():
        pytest.fail(f"{sentence} (and REFLOW_REQUIRE_CLUSTER is set)", pytrace=False)
    pytest.skip(sentence)


def is_required() -> bool:
    """Return whether a machine without Slurm's programs is an error, as it is where continuous integration runs."""
    return os.environ.get("REFLOW_REQUIRE_CLUSTER", "0") not in ("", "0")


@pytest.fixture(scope="session")
def private_slurm_session() -> Iterator[PrivateSlurm]:
    """One private real Slurm with accounting for the whole session; its start takes 3 s."""
    require_programs()
    with PrivateSlurm() as cluster:
        yield cluster


@pytest.fixture
def private_slurm(private_slurm_session: PrivateSlurm, monkeypatch: pytest.MonkeyPatch) -> Iterator[PrivateSlurm]:
    """The session's private Slurm, to which Slurm's commands of this test speak; its jobs are cancelled afterwards."""
    with monkeypatch.context() as patch:
        for name, value in private_slurm_session.environment.items():
            patch.setenv(name, value)
        yield private_slurm_session
    private_slurm_session.cancel_all()
