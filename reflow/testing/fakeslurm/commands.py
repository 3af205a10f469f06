"""Where the executables of a fake cluster begin: ``command.py sbatch ...`` in its folder calls `main`."""

from __future__ import annotations

import importlib
import sys
import time
from pathlib import Path

from ...executors.localqueue.runner import Runner, prepare_process
from .site import Site

COMMANDS = ("sbatch", "squeue", "sacct", "scancel", "scontrol")


def main(folder: Path, words: list[str]) -> int:
    """Be the command that `words` begins with; return its exit code."""
    site = Site(folder)
    command, *rest = words
    if command == "runner":
        prepare_process()
        Runner(Path(rest[0]), site.orders.fate).run()
        return 0
    site.log_call(command, rest)
    failure = site.orders.take_failure(command)
    if failure is not None:
        time.sleep(failure.seconds)
        if failure.code is not None:
            if failure.works:
                _without_output(site, command, rest)
            sys.stderr.write(failure.stderr)
            return failure.code
    return _act(site, command, rest)


def _act(site: Site, command: str, words: list[str]) -> int:
    # Each command imports its own module only: they are called hundreds of times.
    act = importlib.import_module(f"{__package__}.{command}").main
    return int(act(site, words))


def _without_output(site: Site, command: str, words: list[str]) -> None:
    """Do the work of a command whose answer is lost on the way."""
    from contextlib import redirect_stderr, redirect_stdout
    from io import StringIO

    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        _act(site, command, words)
