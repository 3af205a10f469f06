"""Start and end daemons for tests: each one under a reaper, with its log, and never more than it started."""

from __future__ import annotations

import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_REAPER = Path(__file__).with_name("reaper.py")

# Below the ephemeral range of every Linux we know (32768 by default), so that no outgoing connection takes one.
_FIRST_PORT, _LAST_PORT = 12_000, 30_000

# TCP_LISTEN as /proc/net/tcp writes it.
_LISTEN = "0A"

#: How often a condition is looked at. Short: a look costs less than the time a test would waste.
_POLL = 0.02


class ClusterError(RuntimeError):
    """A private scheduler could not be started or used; holds the last lines of the log that says why."""


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 60.0, poll: float = _POLL) -> None:
    """Return once `condition` holds; raise `TimeoutError` naming `what` if it does not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"after {seconds:.0f} s still waiting until {what}")
        time.sleep(poll)


def free_ports(count: int) -> range:
    """Return `count` neighbouring TCP ports on which nothing listens on 127.0.0.1 at this moment.

    The block begins at a random place, so that two sessions that look at the same time hardly ever meet.
    """
    for _ in range(200):
        first = random.randrange(_FIRST_PORT, _LAST_PORT - count)
        block = range(first, first + count)
        if all(_is_free(port) for port in block):
            return block
    raise ClusterError(f"found no {count} neighbouring free ports between {_FIRST_PORT} and {_LAST_PORT}")


def listens(port: int) -> bool:
    """Return whether something listens at `port`, without connecting: daemons complain about silent callers."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    sockets = (line.split()[1:4] for line in lines)  # local address:port in hex, remote one, state
    return any(state == _LISTEN and local.endswith(f":{port:04X}") for local, _, state in sockets)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # The daemons set it too; without it, a port whose last connection is in TIME_WAIT would look taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


class Daemon:
    """One daemon in the foreground under its own reaper. It and all it started are one tree that ends together."""

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as output:
            self._reaper = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_REAPER), *command],
                stdin=subprocess.PIPE,
                bufsize=0,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=log.parent,
                env=dict(environment),
                # Ctrl-C is for pytest alone, which then stops the daemons in their order.
                start_new_session=True,
            )

    @property
    def is_running(self) -> bool:
        """Whether the daemon, or anything that it started, is left."""
        return self._reaper.poll() is None

    def wait_until(self, condition: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
        """Return once `condition` holds; raise `ClusterError` with the log's end when the daemon dies or time is up."""
        try:
            wait_until(lambda: self._holds(condition, what), what, seconds)
        except TimeoutError as error:
            raise ClusterError(f"{self.name}: {error}\n{self.log_tail()}") from error

    def log_tail(self, lines: int = 20) -> str:
        """Return the last lines that the daemon printed."""
        text = self.log.read_text(errors="replace").splitlines()[-lines:]
        return "\n".join([f"Last lines of {self.name}'s log:", *(f"  {line}" for line in text)])

    def terminate(self) -> None:
        """Ask the daemon to end (SIGTERM) and return at once; what it started lives on."""
        self._order(b"t")

    def kill(self) -> None:
        """Kill the daemon and everything it started; returns when none of them is left."""
        self._order(b"k")
        self._reaper.wait(timeout=30)
        if self._reaper.stdin is not None:
            self._reaper.stdin.close()

    def ends_within(self, seconds: float) -> bool:
        """Wait up to `seconds` for the daemon and all it started to be gone; return whether they are."""
        try:
            self._reaper.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _holds(self, condition: Callable[[], bool], what: str) -> bool:
        if not self.is_running:
            raise ClusterError(
                f"{self.name} ended with exit code {self._reaper.returncode} before {what}\n{self.log_tail()}"
            )
        return condition()

    def _order(self, letter: bytes) -> None:
        stdin = self._reaper.stdin
        if stdin is None or stdin.closed:
            return
        try:
            stdin.write(letter)
        except BrokenPipeError:  # the reaper has ended: nothing of it is left
            return
