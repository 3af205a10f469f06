"""A lease: one owner at a time where locks cannot be relied on, made of nothing but atomic creates.

``<manifest>.lease/`` holds numbered symlinks. The target of the highest number says who owns the lease now, or that
it is free. Every change is the atomic creation of the next number, so of two who want to change the same state only
one can; the highest number is never deleted, so whoever acts on an old look finds a higher number after its own.

A dead owner's lease is taken over: at once when it was a process of this kernel that is gone, else when the time is
over that the owner wrote into it, `LIFETIME` from when it took or renewed it. An owner commits nothing later than half
of that by its own clock. The other half is room for clocks that differ (munge, and so Slurm, allows five minutes), and
for a process that was stopped in between. A site may set another lifetime for all hosts at once, as the target of a
symlink ``lifetime`` in that folder.
"""

from __future__ import annotations

import errno
import os
import time
from contextlib import suppress
from pathlib import Path

from ..deferred import dataclass
from ..errors import ManifestError
from . import sharing

#: Seconds after which anybody may take the lease over, where the folder does not say otherwise.
LIFETIME = 1_200.0

_LIFETIME_NAME = "lifetime"
_FREE = "free"
_UNKNOWN = "?"
_POLL_SECONDS = 0.2


class Lease:
    """The lease kept in the folder `path`, created when it is missing. Implements `locking.Lock`."""

    is_lease = True

    def __init__(self, path: Path) -> None:
        self.path = path
        self._number: int | None = None
        self._lifetime = LIFETIME
        self._taken_at = 0.0

    def try_acquire(self) -> bool:
        """Take the lease if it is free or its owner is dead; return whether it was."""
        sharing.make_folder(self.path)
        number, owner = self._newest()
        if owner != _FREE and not self._is_over(number, owner):
            return False
        return self._take(number + 1)

    def acquire(self, timeout: float) -> bool:
        """Take the lease, asking again up to `timeout` seconds; return whether it came free."""
        until = time.monotonic() + timeout
        while not self.try_acquire():
            if time.monotonic() >= until:
                return False
            time.sleep(_POLL_SECONDS)
        return True

    def renew(self) -> None:
        """Make the lease young again before the next write of a long turn; `ManifestError` when it is lost."""
        if self._age() < self._lifetime / 8:
            return
        number, self._number = self._number, None
        if number is None or not self._take(number + 1):
            raise self._lost()

    def check(self) -> None:
        """Raise `ManifestError` when the lease is too old to commit under, or somebody has taken it over."""
        if self._age() > self._lifetime / 2 or self._newest()[0] != self._number:
            raise self._lost()

    def release(self) -> None:
        """Let go of the lease; harmless when somebody has taken it over."""
        if self._number is not None:
            number, self._number = self._number, None
            if self._create(number + 1, _FREE):
                self._clean(number + 1)

    def holder(self) -> str:
        """Say in words who owns the lease, and when anybody may take it over."""
        number, text = self._newest()
        owner = _Owner.parse(text)
        if owner is None:
            return "a process that has just ended" if text == _FREE else f"nobody we know ('{self._link(number)}')"
        return (
            f"process {owner.process} on host {owner.host}; if that is dead, its lease is over in "
            f"{max(0.0, owner.over_at - time.time()):.0f} s"
        )

    def _take(self, number: int) -> bool:
        lifetime, began = self._read_lifetime(), time.monotonic()
        if not self._create(number, str(_Owner.myself(lifetime))):
            return False
        if self._newest()[0] != number:
            # Our look was old: the lease had gone on to higher numbers. This look is not: having made an entry,
            # a client of NFS lists the folder anew.
            self._delete(number)
            return False
        self._number, self._lifetime, self._taken_at = number, lifetime, began
        self._clean(number)
        return True

    def _age(self) -> float:
        return time.monotonic() - self._taken_at

    def _lost(self) -> ManifestError:
        return ManifestError(
            f"the lease '{self.path}' ran out during a write that took more than {self._lifetime / 2:.0f} s; nothing "
            "of it was written; try again when the file system answers faster"
        )

    def _is_over(self, number: int, text: str) -> bool:
        owner = _Owner.parse(text)
        if owner is not None:
            return time.time() > owner.over_at or owner.is_dead_here()
        # Not written by us. Its owner can be nobody who follows the rules, but give it the time of one who does.
        with suppress(FileNotFoundError):
            return time.time() > os.lstat(self._link(number)).st_mtime + LIFETIME
        return False

    def _read_lifetime(self) -> float:
        try:
            seconds = float(os.readlink(self.path / _LIFETIME_NAME))
        except (OSError, ValueError):
            return LIFETIME
        return seconds if 0 < seconds < float("inf") else LIFETIME

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
            except OSError as error:
                # Gone since the listing, so there is a higher one. On NFS that may be "stale file handle".
                if error.errno not in (errno.ENOENT, errno.ESTALE):
                    raise

    def _create(self, number: int, text: str) -> bool:
        try:
            os.symlink(text, self._link(number))
        except FileExistsError:
            # A client of NFS that missed the server's answer asks again, and finds what it made itself.
            with suppress(OSError):
                return os.readlink(self._link(number)) == text
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


@dataclass(frozen=True)
class _Owner:
    """Who owns a lease, as it stands in a link: ``host process start kernel over_at``."""

    host: str
    process: int
    #: When the process began, in clock ticks since boot, by which a reused process number shows.
    start: str
    #: One boot of one kernel, and one numbering of its processes. A host's name will not do: many are "localhost".
    kernel: str
    #: When anybody may take the lease over, in seconds since 1970.
    over_at: float

    @staticmethod
    def myself(lifetime: float) -> _Owner:
        process = os.getpid()
        return _Owner(os.uname().nodename, process, _start_of(process), _kernel(), time.time() + lifetime)

    @staticmethod
    def parse(text: str) -> _Owner | None:
        words = text.split()
        try:
            host, process, start, kernel, over_at = words
            return _Owner(host, int(process), start, kernel, float(over_at))
        except ValueError:
            return None

    def __str__(self) -> str:
        return f"{self.host} {self.process} {self.start} {self.kernel} {self.over_at:.6f}"

    def is_dead_here(self) -> bool:
        """Whether it was a process of this kernel and container that is gone. Elsewhere only time can tell."""
        if _UNKNOWN in self.kernel or self.kernel != _kernel():
            return False
        if not _is_alive(self.process):
            return True
        start = _start_of(self.process)
        return start != _UNKNOWN and start != self.start


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # alive, and another user's
    return True


def _start_of(process: int) -> str:
    """Return when a process began; '' for one that has died and was not waited for, which still takes signals."""
    try:
        status = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return _UNKNOWN
    # The second field is the command in brackets and may hold blanks; the state is field 3, the start field 22.
    fields = status.rpartition(")")[2].split()
    return "" if fields[0] in ("Z", "X") else fields[19]


def _kernel() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return _UNKNOWN
