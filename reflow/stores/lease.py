"""A lease: one owner at a time where locks cannot be relied on, made of nothing but atomic creates.

``<manifest>.lease/`` holds numbered symlinks. The target of the highest number says who owns the lease now, or that
it is free. Every change is the atomic creation of the next number, so of two who want to change the same state only
one can; the highest number is never deleted, so whoever acts on an old look finds a higher number after its own.

A dead owner's lease is taken over: at once when it was a process of this host that is gone, else after `LIFETIME`
by the owner's clock. An owner commits nothing after `USABLE` by its own clock, which leaves room for clocks that
differ and for a process that was stopped in between.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

from ..errors import ManifestError

#: Seconds after which anybody may take the lease over.
LIFETIME = 1_200.0

#: Seconds during which its owner may still commit.
USABLE = 600.0

_FREE = "free"
_UNKNOWN = "?"
_POLL_SECONDS = 0.2


class Lease:
    """The lease kept in the folder `path`, created when it is missing. Implements `locking.Lock`."""

    is_lease = True

    def __init__(self, path: Path) -> None:
        self.path = path
        self._number: int | None = None
        self._taken_at = 0.0

    def try_acquire(self) -> bool:
        """Take the lease if it is free or its owner is dead; return whether it was."""
        os.makedirs(self.path, mode=0o700, exist_ok=True)
        number, owner = self._newest()
        if owner != _FREE and not _is_dead(owner):
            return False
        taken_at = time.monotonic()
        if not self._create(number + 1, _describe_self()):
            return False
        if self._newest()[0] != number + 1:
            self._delete(number + 1)  # our look was old: the lease had gone on to higher numbers
            return False
        self._number, self._taken_at = number + 1, taken_at
        self._clean(number + 1)
        return True

    def acquire(self, timeout: float) -> bool:
        """Take the lease, asking again up to `timeout` seconds; return whether it came free."""
        until = time.monotonic() + timeout
        while not self.try_acquire():
            if time.monotonic() >= until:
                return False
            time.sleep(_POLL_SECONDS)
        return True

    def check(self) -> None:
        """Raise `ManifestError` when the lease is too old to commit under, or somebody has taken it over."""
        if time.monotonic() - self._taken_at > USABLE or self._newest()[0] != self._number:
            raise ManifestError(
                f"the lease '{self.path}' ran out during a write that took more than {USABLE:.0f} s; nothing was "
                "written; try again when the file system answers faster"
            )

    def release(self) -> None:
        """Let go of the lease; harmless when somebody has taken it over."""
        if self._number is not None:
            number, self._number = self._number, None
            if self._create(number + 1, _FREE):
                self._clean(number + 1)

    def holder(self) -> str:
        """Say in words who owns the lease."""
        owner = self._newest()[1].split()
        return f"process {owner[1]} on host {owner[0]}" if len(owner) == 5 else "a process that has just ended"

    def _newest(self) -> tuple[int, str]:
        """Return the highest number and what it says; ``(0, free)`` before the first."""
        while True:
            # A fresh listing each time: a kept descriptor was up to 30 s old on NFS.
            with os.scandir(self.path) as entries:
                number = max((int(entry.name) for entry in entries if entry.name.isdecimal()), default=0)
            if number == 0:
                return 0, _FREE
            try:
                return number, os.readlink(self._link(number))
            except FileNotFoundError:
                continue  # gone since the listing, so there is a higher one

    def _create(self, number: int, text: str) -> bool:
        try:
            os.symlink(text, self._link(number))
        except FileExistsError:
            return False
        return True

    def _delete(self, number: int) -> None:
        with suppress(FileNotFoundError):
            os.unlink(self._link(number))

    def _clean(self, newest: int) -> None:
        with os.scandir(self.path) as entries:
            numbers = [int(entry.name) for entry in entries if entry.name.isdecimal()]
        for number in numbers:
            if number < newest:
                self._delete(number)

    def _link(self, number: int) -> Path:
        return self.path / str(number)


def _describe_self() -> str:
    """Return ``host pid start namespace time``: who owns the lease, and how to tell that it is dead."""
    process = os.getpid()
    return f"{os.uname().nodename} {process} {_start_of(process)} {_namespace()} {time.time():.3f}"


def _is_dead(owner: str) -> bool:
    words = owner.split()
    if len(words) != 5:
        return False
    host, process, start, namespace, taken_at = words
    if time.time() - float(taken_at) > LIFETIME:
        return True
    # A container on the same host may have other process numbers: only time can tell there.
    if (host, namespace) != (os.uname().nodename, _namespace()):
        return False
    return not _is_alive(int(process)) or _start_of(int(process)) not in (start, _UNKNOWN)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # alive, and another user's
    return True


def _start_of(process: int) -> str:
    """Return when the process began, in clock ticks since boot, by which a reused process number shows."""
    try:
        status = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return _UNKNOWN
    # The second field is the command in brackets and may hold blanks; the start is field 22.
    return status.rpartition(")")[2].split()[19]


def _namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return _UNKNOWN
