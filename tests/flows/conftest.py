"""What whole runs need: a manifest, and the places that run jobs without a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from reflow import LocalExecutor, SlurmExecutor
from reflow.executors.base import Executor
from reflow.stores.sqlite import SqliteStore


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    """A manifest of this test's own."""
    with SqliteStore(tmp_path / "manifest.db") as opened:
        yield opened


@pytest.fixture(params=["local", "fake Slurm"])
def executor(request: pytest.FixtureRequest, tmp_path: Path) -> Executor:
    """The local queue, and the fake Slurm."""
    if request.param == "local":
        return LocalExecutor(folder=str(tmp_path / "queue"), cpus=4)
    request.getfixturevalue("fake_slurm")
    return SlurmExecutor()
