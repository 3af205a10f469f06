"""Pytest fixtures for pipelines: a fake Slurm. Loaded wherever reflow and pytest are installed: keep it quick."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .cluster_fixture import private_slurm, private_slurm_session

if TYPE_CHECKING:
    from .fakeslurm.control import FakeSlurm


__all__ = ["fake_slurm", "private_slurm", "private_slurm_session"]


@pytest.fixture
def fake_slurm(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeSlurm]:
    """A running fake Slurm whose commands are first on PATH.

    The user's configuration of reflow, its variables and its manifest are out of the way: each test has its own.
    """
    from ..executors.slurm import forget_limits
    from .fakeslurm.control import FakeSlurm

    forget_limits()  # those of another test's cluster
    home = tmp_path_factory.mktemp("slurm")
    isolate(home, monkeypatch)
    with FakeSlurm(home / "cluster") as cluster:
        monkeypatch.setenv("PATH", cluster.environment["PATH"])
        yield cluster


def isolate(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let reflow find its configuration, cache and manifest below `home`, and no variable of a surrounding job."""
    for name in list(os.environ):
        if name.startswith(("REFLOW_", "SLURM", "SBATCH_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))
    monkeypatch.setenv("REFLOW_STORE_PATH", str(home / "manifest.db"))
