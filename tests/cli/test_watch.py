"""``watch``: one screen on a terminal, a line for each change elsewhere, and an exit code that a script can use."""

from __future__ import annotations

import os

import pytest

from reflow import RunState, SlurmExecutor
from reflow.run import Run
from reflow.stores.sqlite import SqliteStore

from .terminal import Piped, Terminal

#: Elements that wait until the test lets them go.
GATED = """
    import os, sys, time
    from typing import Annotated
    from reflow import Result, RunDir, Workflow

    wf = Workflow("gated")

    @wf.job(mem="100M")
    def numbers(width: int = 3) -> list[int]:
        return list(range(width))

    @wf.array_job(mem="100M")
    def gate(number: Annotated[int, Result("numbers")], run_dir: RunDir, unlucky: int = -1) -> int:
        print("at the gate", number)
        while not (run_dir / "open").exists():
            time.sleep(0.05)
        if number == unlucky:
            raise ValueError(f"{number} is unlucky")
        print("through the gate", number)
        return number

    @wf.job(mem="100M")
    def total(values: Annotated[list[int], Result("gate")]) -> int:
        return sum(values)
"""


@pytest.fixture
def gated(project, fake_slurm, monkeypatch):
    """Submit the gated pipeline to a fake Slurm, and return its run."""
    monkeypatch.setenv("REFLOW_STORE_PATH", str(project.manifest))
    project.write(GATED)

    def submit(**parameters) -> Run:
        return project.workflow.submit(project.run_dir, store=project.manifest, executor=SlurmExecutor(), **parameters)

    return submit


def state_of(run):
    with SqliteStore(run._store.path, readonly=True) as store:
        return store.get_run_record(run.run_id).status


def test_a_run_that_is_over_is_shown_and_its_end_is_the_exit_code(project, done, failed):
    outcome = project.process("-m", "reflow", "watch", done.run_id)
    assert (outcome.code, outcome.err) == (0, "")
    outcome = project.process("-m", "reflow", "watch", failed.run_id)
    assert outcome.code == 1
    assert "square[1]: EXCEPTION" in outcome.out
    assert f"retry   reflow retry {failed.run_id} --task square" in outcome.out


def test_without_a_terminal_each_change_is_a_line(project, gated):
    run = gated(unlucky=1)
    watch = Piped("-m", "reflow", "watch", run.run_id)
    watch.wait_for(f"{run.run_id} RUNNING")
    (project.run_dir / "open").touch()
    assert watch.end() == (1, "")
    lines = [line.partition("  ")[2] for line in watch.out.splitlines()]
    assert any(line.startswith("gate 2/3  1 failed [1]") for line in lines)
    assert any(line.startswith("gate[1]: EXCEPTION at ") and "1 is unlucky" in line for line in lines)
    assert f"{run.run_id} FAILED" in lines
    assert "\x1b" not in watch.out


def test_on_a_terminal_one_screen_is_drawn_over_until_the_run_is_over(project, gated):
    run = gated()
    terminal = Terminal("-m", "reflow", "watch", run.run_id, rows=20, columns=70)
    terminal.wait_for("3 running")
    terminal.wait_for("longest [")
    (project.run_dir / "open").touch()
    assert terminal.end() == 0
    assert f"{run.run_id}  SUCCESS" in terminal.text
    assert "\x1b[1A" in terminal.raw, "the cursor never went up"
    assert max(map(len, terminal.text.splitlines())) <= 70


def test_ctrl_c_ends_the_watching_and_leaves_the_run_alone(project, gated, fake_slurm):
    run = gated()
    terminal = Terminal("-m", "reflow", "watch", run.run_id)
    terminal.wait_for("3 running")
    terminal.type("\x03")
    assert terminal.end() == 130
    assert f"Run {run.run_id} goes on; `reflow watch {run.run_id}` shows it again." in terminal.text
    assert "Traceback" not in terminal.text
    assert state_of(run) is RunState.RUNNING
    (project.run_dir / "open").touch()
    fake_slurm.wait_idle()
    assert state_of(run) is RunState.SUCCESS


def test_a_screen_with_few_rows_shows_what_moves_and_counts_the_rest(project, fake_slurm):
    names = "".join(
        f'\n    @wf.job(mem="100M")\n    def done{number}() -> int:\n        return 1\n' for number in range(12)
    )
    project.write(
        f"""
    import sys, time
    from reflow import RunDir, Workflow

    wf = Workflow("many")
{names}
    @wf.job(mem="100M", after=["done{0}"])
    def slow(run_dir: RunDir) -> None:
        while not (run_dir / "open").exists():
            time.sleep(0.05)
    """
    )
    run = project.workflow.submit(project.run_dir, store=project.manifest, executor=SlurmExecutor())
    terminal = Terminal("-m", "reflow", "watch", run.run_id, "--store-path", project.manifest, rows=10, columns=80)
    terminal.wait_for("tasks complete")
    terminal.wait_for("1 running")
    (project.run_dir / "open").touch()
    assert terminal.end() == 0


def test_a_manifest_that_one_may_only_read_is_watched_all_the_same(project, failed):
    if os.getuid() == 0:
        pytest.skip("root may write everywhere")
    project.manifest.chmod(0o444)
    assert project.process("-m", "reflow", "watch", failed.run_id).code == 1


def test_an_unknown_run_is_one_line(project, done):
    outcome = project.reflow("watch", "nope-1")
    assert outcome.code == 1
    assert "no run 'nope-1'" in outcome.err
    assert len(outcome.err.splitlines()) == 1
