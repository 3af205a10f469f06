"""Run one daemon and end everything that it ever started, whatever those processes did to hide.

Usage: ``python reaper.py COMMAND...``, with a pipe as stdin. A byte ``t`` on stdin sends the daemon SIGTERM, a byte
``k`` kills it and all its descendants. So does the end of stdin: a test session that is itself killed leaves nothing
behind. The reaper ends once no descendant is left, with the daemon's exit code (128 + signal when it was killed).

slurmstepd detaches itself from slurmd and ``proctrack/linuxproc`` leaves orphans after a job, with an environment
that may be anybody's. As a child subreaper this process is given all of them, and because it kills only its own
children, which keep their ids until it has waited for them, it can never hit a process of somebody else.

A script without imports from reflow: it starts once per daemon.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
from types import FrameType

_PR_SET_CHILD_SUBREAPER = 36


def children() -> list[int]:
    """Return the ids of this process's own children, those that have ended but were not waited for included."""
    own = os.getpid()
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdecimal():
            continue
        try:
            with open(f"/proc/{entry}/stat", "rb") as stat:
                # The name in parentheses may hold spaces and parentheses: read from the last one on.
                parent = int(stat.read().rpartition(b")")[2].split()[1])
        except OSError:  # it ended while we looked
            continue
        if parent == own:
            found.append(int(entry))
    return found


def kill_children() -> None:
    """Send SIGKILL to every child; theirs become ours as soon as they are dead."""
    for child in children():
        os.kill(child, signal.SIGKILL)


def _nothing(number: int, frame: FrameType | None) -> None:
    """Make SIGCHLD wake `select`, which an ignored signal does not."""


def main(command: list[str]) -> int:
    """Run `command` until neither it nor any of its descendants is left; return its exit code."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
    wake_reader, wake_writer = os.pipe()
    os.set_blocking(wake_reader, False)
    os.set_blocking(wake_writer, False)
    signal.set_wakeup_fd(wake_writer, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, _nothing)

    daemon = os.posix_spawnp(
        command[0],
        command,
        os.environ,
        file_actions=[(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)],
        setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],  # Python ignores these, and what is ignored is inherited
    )
    exit_code: int | None = None
    watched = [0, wake_reader]
    stopping = False
    while True:
        ready, _, _ = select.select(watched, [], [])
        if 0 in ready:
            orders = os.read(0, 16)
            if not orders or b"k" in orders:
                watched.remove(0)
                stopping = True
            elif exit_code is None:
                os.kill(daemon, signal.SIGTERM)
        if wake_reader in ready:
            os.read(wake_reader, 4096)
        while True:
            try:
                child, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return exit_code or 0
            if child == 0:
                break
            if child == daemon:
                ended = os.waitstatus_to_exitcode(status)
                exit_code = ended if ended >= 0 else 128 - ended
        if stopping:
            kill_children()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
