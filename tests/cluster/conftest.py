"""The tier that runs on a private real Slurm. It says loudly when it could not run."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from reflow.testing.cluster import PrivateSlurm, missing_programs
from reflow.testing.cluster_fixture import is_required, require_programs

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder, so that ``-m 'not cluster'`` leaves the tier out."""
    for item in items:
        if item.path.is_relative_to(_HERE):
            item.add_marker(pytest.mark.cluster)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Generator[None, None, None]:
    """Say after all else, where nobody overlooks it, that the tier did not run."""
    yield
    missing = missing_programs()
    if missing and not is_required():
        terminalreporter.section("REAL SLURM TIER NOT RUN", yellow=True, bold=True)
        terminalreporter.write_line(
            f"REAL SLURM TIER NOT RUN: missing {', '.join(missing)}. `make slurm` installs them on Debian and Ubuntu.",
            yellow=True,
            bold=True,
        )


@pytest.fixture(scope="session", autouse=True)
def programs() -> None:
    """Skip, or where REFLOW_REQUIRE_CLUSTER is set fail, every test of the tier on a machine without Slurm."""
    require_programs()


@pytest.fixture(scope="session")
def cluster(programs: None) -> Iterator[PrivateSlurm]:
    """A private Slurm with accounting, shared by the session. Tests that stop parts of it start their own."""
    with PrivateSlurm() as running:
        yield running


@pytest.fixture(scope="session")
def cluster_without_accounting(programs: None) -> Iterator[PrivateSlurm]:
    """A private Slurm on which sacct says `Slurm accounting storage is disabled`, shared by the session."""
    with PrivateSlurm(nodes=2, accounting=False) as running:
        yield running


@pytest.fixture
def on_cluster(cluster: PrivateSlurm, monkeypatch: pytest.MonkeyPatch) -> Iterator[PrivateSlurm]:
    """The cluster with accounting as the one that this process's Slurm commands speak to; ends its jobs afterwards."""
    yield from _spoken_to(cluster, monkeypatch)


@pytest.fixture
def on_cluster_without_accounting(
    cluster_without_accounting: PrivateSlurm, monkeypatch: pytest.MonkeyPatch
) -> Iterator[PrivateSlurm]:
    """The cluster without accounting as the one that this process's Slurm commands speak to."""
    yield from _spoken_to(cluster_without_accounting, monkeypatch)


def _spoken_to(cluster: PrivateSlurm, monkeypatch: pytest.MonkeyPatch) -> Iterator[PrivateSlurm]:
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    yield cluster
    cluster.cancel_all()
