"""The processes of a queue: start them, know them again, end them. Linux only, by ``/proc``.

A process id alone proves nothing, because ids are used again; with the time of its birth it names one process.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator
from pathlib import Path

#: Environment variable by which a slot's processes are found when the runner died before it wrote down their ids.
MARK = "REFLOW_QUEUE_SLOT"


def birth(pid: int) -> str | None:
    """Return what tells this process from every other one of that id, None when it has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field is the program's name in parentheses and may hold spaces and parentheses itself.
    fields = stat[stat.rindex(b")") + 2 :].split()
    if fields[0] in (b"Z", b"X"):
        return None
    return f"{fields[19].decode()}@{_boot()}"


def _boot() -> str:
    """Name this start of the machine and this container's own numbering of processes."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")[:8]
    return f"{boot}.{os.readlink('/proc/self/ns/pid').strip('pid:[]')}"


def describe(pid: int) -> str:
    """Return a process as the text that `is_alive` and `pid_of` read."""
    return f"{pid} {birth(pid)}"


def pid_of(description: str) -> int | None:
    """Return the id of a described process that is still alive, else None."""
    pid, _, known_birth = description.partition(" ")
    if not pid.isdecimal() or birth(int(pid)) != known_birth:
        return None
    return int(pid)


def marked(mark: str) -> Iterator[int]:
    """Yield the ids of all living processes of ours whose mark begins so, descendants included."""
    wanted = f"{MARK}={mark}".encode()
    own = os.getpid()
    for name in os.listdir("/proc"):
        if not name.isdecimal() or int(name) == own:
            continue
        try:
            environment = Path(f"/proc/{name}/environ").read_bytes()
        except OSError:
            # It has ended, or belongs to someone else.
            continue
        if any(entry.startswith(wanted) for entry in environment.split(b"\0")) and birth(int(name)) is not None:
            yield int(name)


def leader(mark: str) -> int | None:
    """Return the process that was started with this mark, not its descendants; None when there is none."""
    for pid in marked(mark):
        try:
            if os.getpgid(pid) == pid:
                return pid
        except ProcessLookupError:
            continue
    return None


def tell(pid: int, signal_number: int) -> None:
    """Send a signal to one process; no error when it has ended."""
    try:
        os.kill(pid, signal_number)
    except ProcessLookupError:
        return


def tell_group(pid: int, signal_number: int) -> None:
    """Send a signal to all processes of the group that `pid` leads or led; no error when there are none."""
    try:
        os.killpg(pid, signal_number)
    except (ProcessLookupError, PermissionError):
        # EPERM: only processes are left that changed their user.
        return


class Alarm:
    """Lets ``select`` wake up when a child ends."""

    def __init__(self) -> None:
        self.reader, self._writer = os.pipe()
        os.set_blocking(self.reader, False)
        os.set_blocking(self._writer, False)
        # Without a handler the signal would be ignored and nothing written to the descriptor.
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)


def wait_for_any(descriptors: list[int], seconds: float | None) -> set[int]:
    """Wait until one of the descriptors can be read, at most so long; return those that can."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return {descriptor for descriptor, _ in poll.poll(None if seconds is None else max(0.0, seconds) * 1000 + 1)}


def drain(descriptor: int) -> bool:
    """Read everything from a descriptor that does not block; return whether there was anything."""
    found = False
    try:
        while os.read(descriptor, 65536):
            found = True
    except BlockingIOError:
        return found
    return found
