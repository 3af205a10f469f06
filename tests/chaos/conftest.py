"""Places for chaos, and the tables that are printed at the end."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from reflow.testing import FakeSlurm, PrivateSlurm
from reflow.testing.cluster_fixture import require_programs
from reflow.testing.plugin import isolate

from .scene import FakePlace, RealPlace

#: Whether this is the campaign and not the short form among the normal tests.
IS_CAMPAIGN = os.environ.get("REFLOW_CHAOS", "0") not in ("", "0")

#: A job of this partition takes what it needs from those of the other.
_PREEMPTION = (
    "PreemptType=preempt/partition_prio",
    "PreemptMode=REQUEUE",
    "PartitionName=urgent Nodes=ALL PriorityTier=10",
)

_tables: dict[str, list[tuple[str, ...]]] = {}


def record(table: str, row: tuple[str, ...]) -> None:
    """Add a row to a table that is printed when all tests have run."""
    _tables.setdefault(table, []).append(row)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the tables."""
    for title, rows in _tables.items():
        terminalreporter.section(title)
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        for row in rows:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            terminalreporter.write_line("  ".join(cells).rstrip())


@pytest.fixture
def fake_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakePlace]:
    """A fake Slurm of this test's own."""
    isolate(tmp_path / "home", monkeypatch)
    monkeypatch.delenv("REFLOW_STORE_PATH")
    with FakeSlurm(tmp_path / "cluster") as slurm:
        monkeypatch.setenv("PATH", slurm.environment["PATH"])
        yield FakePlace(slurm)


@pytest.fixture(scope="session")
def real_slurm() -> Iterator[PrivateSlurm]:
    """A private real Slurm that limits memory and preempts, for the whole session."""
    require_programs()
    with PrivateSlurm(memory_limits=os.getuid() == 0, config_lines=_PREEMPTION) as slurm:
        yield slurm


@pytest.fixture
def real_place(real_slurm: PrivateSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RealPlace]:
    """The real Slurm; its jobs are cancelled afterwards."""
    isolate(tmp_path / "home", monkeypatch)
    monkeypatch.delenv("REFLOW_STORE_PATH")
    yield RealPlace(real_slurm)
    real_slurm.cancel_all()


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short path."""
    with tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as made:
        yield Path(made)
