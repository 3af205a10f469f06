"""The pipeline of the fault campaign. What an element does at its first try is said by files in the run directory.

Each element notes in ``trace`` when it begins and when it has done all, so that what ran twice is seen.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from pathlib import Path
from typing import Annotated

from reflow import Result, RunDir, Workflow

wf = Workflow("victims")


def note(folder: Path, *words: object) -> None:
    """Add a line to the trace, in one write, so that elements at once do not tear each other's."""
    job = os.environ.get("SLURM_ARRAY_JOB_ID") or os.environ.get("SLURM_JOB_ID", "0")
    restart = os.environ.get("SLURM_RESTART_COUNT", "0")
    line = " ".join(map(str, [*words, job, restart, os.getpid()])) + "\n"
    trace = os.open(folder / "trace", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.write(trace, line.encode())
    os.close(trace)


def wait_while_held(folder: Path) -> None:
    while (folder / "hold").exists():
        time.sleep(0.02)


def act(folder: Path, number: int) -> None:
    """Do what the file ``act-<number>`` says, at the first try only."""
    try:
        os.close(os.open(folder / f"acted-{number}", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    file = folder / f"act-{number}"
    match file.read_text() if file.exists() else "":
        case "raise":
            raise ValueError(f"{number} is unlucky")
        case "exit":
            sys.exit(3)
        case "segfault":
            ctypes.string_at(0)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "memory":
            hoard = [bytearray(10_000_000) for _ in range(100)]
            print(len(hoard))


@wf.job(mem="100M", time="5")
def numbers(width: int = 3) -> list[int]:
    return list(range(width))


@wf.array_job(mem="100M", time="5", setup=['test ! -e "kill-$SLURM_ARRAY_TASK_ID" || kill -9 $$'])
def work(number: Annotated[int, Result("numbers")], run_dir: RunDir) -> int:
    note(run_dir, "begin", "work", number)
    act(run_dir, number)
    wait_while_held(run_dir)
    note(run_dir, "end", "work", number)
    return number * 10


@wf.array_job(mem="100M", time="5")
def after(value: Annotated[int, Result("work")], run_dir: RunDir) -> int:
    note(run_dir, "begin", "after", value // 10)
    note(run_dir, "end", "after", value // 10)
    return value + 1


@wf.job(mem="100M", time="5")
def total(values: Annotated[list[int], Result("after")], run_dir: RunDir) -> int:
    note(run_dir, "begin", "total", 0)
    note(run_dir, "end", "total", 0)
    return sum(values)
