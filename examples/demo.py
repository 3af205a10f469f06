"""Run the word count: on Slurm where a controller answers, else on this machine. What `make demo` runs.

Exits 0 only if the run succeeded and its totals are those of the whole text, counted in one go.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from wordcount import wf

from reflow import Run, RunState
from reflow.stores.sqlite import SqliteStore

CHECKOUT = Path(__file__).resolve().parents[1]


def main() -> int:
    """Run, show the status and the most frequent words, check the totals; return the exit code."""
    run = run_on_slurm() if slurm_answers() else run_here()
    print()
    run.status()
    print(f"\nEverything that the run wrote is in {run.run_dir}")
    if run.state is not RunState.SUCCESS:
        run.status(errors=True)
        return 1
    totals = run.results("total")
    print("\nThe most frequent words:")
    for word, count in list(totals.items())[:5]:
        print(f"  {word:<10}{count:>6}")
    right = Counter((run.run_dir / "corpus" / "whole.txt").read_text().split())
    if totals != right:
        print("The totals differ from those of the whole text.", file=sys.stderr)
        return 1
    return 0


def slurm_answers() -> bool:
    """Return whether jobs can be submitted from here."""
    if shutil.which("sbatch") is None or shutil.which("scontrol") is None:
        return False
    try:
        ping = subprocess.run(["scontrol", "ping"], capture_output=True, text=True, timeout=30, check=False)
    except subprocess.TimeoutExpired:
        return False
    return ping.returncode == 0 and " UP" in ping.stdout


def run_on_slurm() -> Run:
    """Submit the word count and wait for it. Compute nodes see the checkout, but not this machine's /tmp."""
    parent = CHECKOUT / "demo-run"
    parent.mkdir(exist_ok=True)
    run_dir = Path(tempfile.mkdtemp(prefix="slurm-", dir=parent))
    print(f"Counting words on Slurm, in {run_dir}")
    run = wf.submit(run_dir, store=SqliteStore.for_run_dir(run_dir), executor="slurm")
    print(f"Created run {run.run_id}")
    run.wait(timeout=900, progress=True)
    return run


def run_here() -> Run:
    """Run the word count in two processes of this machine."""
    run_dir = Path(tempfile.mkdtemp(prefix="reflow-demo-"))
    print(f"No Slurm controller answers: counting words with two processes, in {run_dir}")
    return wf.run_local(run_dir, store=SqliteStore.for_run_dir(run_dir), max_workers=2)


if __name__ == "__main__":
    sys.exit(main())
