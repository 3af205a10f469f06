"""Locks between processes, on one host and on several.

A lock is flock(2) on a file that is never deleted. `filelock.FileLock` takes the very same lock on Unix, and waits
for it; but importing it costs 64 ms, so a process that need not wait calls flock itself. Both die with their process.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ..deferred import dataclass
from . import mounts, sharing

if TYPE_CHECKING:
    import filelock

#: Of the file that the self-test locks.
_MODE = 0o600

# How often a waiter asks. Each try is one to a few round trips on a network file system.
_POLL_SECONDS = 0.02


class Lock(Protocol):
    """What a turn at the manifest is taken with. Not re-entrant, not for several threads at once."""

    @property
    def is_lease(self) -> bool:
        """Whether it holds where the kernel's locks do not reach from host to host."""

    def try_acquire(self) -> bool:
        """Take the lock if it is free; return whether it was."""

    def acquire(self, timeout: float) -> bool:
        """Take the lock, waiting up to `timeout` seconds; return whether it came free."""

    def renew(self) -> None:
        """Make sure of the lock for one more write of a long turn; `ManifestError` when it is lost."""

    def check(self) -> None:
        """Raise `ManifestError` when the lock may have been lost meanwhile, so that nothing may be committed."""

    def release(self) -> None:
        """Let go of it."""

    def holder(self) -> str:
        """Say in words who has it, for a person who waits."""


class FileLock:
    """flock(2) on `path`, which is created when it is missing."""

    is_lease = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None
        self._waited: filelock.BaseFileLock | None = None

    def try_acquire(self) -> bool:
        """Take the lock if it is free; `OSError` when the file cannot be opened or has no locks."""
        while True:
            descriptor = sharing.open_file(self.path, os.O_RDWR)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                current = _is_current(descriptor, self.path)
            except OSError as error:
                os.close(descriptor)
                if error.errno in (errno.EAGAIN, errno.EACCES):
                    return False
                raise
            if current:
                self._descriptor = descriptor
                return True
            os.close(descriptor)  # somebody deleted the file between open and flock: that lock guards no name

    def acquire(self, timeout: float) -> bool:
        """Take the lock, waiting up to `timeout` seconds; return whether it came free."""
        if self.try_acquire():
            return True
        if timeout <= 0:
            return False
        import filelock  # here, because it pulls in asyncio, and few processes ever wait

        # It gives the file the mode that it is told, every time: the one that the file has.
        mode = stat.S_IMODE(os.stat(self.path).st_mode)
        waited = filelock.FileLock(str(self.path), mode=mode, thread_local=False)
        try:
            waited.acquire(timeout=timeout, poll_interval=_POLL_SECONDS)
        except filelock.Timeout:
            return False
        self._waited = waited
        return True

    def renew(self) -> None:
        """Do nothing: the kernel keeps the lock as long as this process lives."""

    def check(self) -> None:
        """Do nothing, for the same reason."""

    def release(self) -> None:
        """Let go of the lock; the file stays, because another process may have it open already."""
        if self._waited is not None:
            self._waited.release()
            self._waited = None
        if self._descriptor is not None:
            # A child forked meanwhile has the descriptor too, and its close alone would not unlock.
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            os.close(self._descriptor)
            self._descriptor = None

    def holder(self) -> str:
        """Say which process of this host has the lock, or that it is none."""
        process = _holding_process(self.path)
        if process is None:
            return "a process on another host; look at your running jobs and at the other login nodes"
        return f"process {process} on this host ({_command_of(process)})"


@contextmanager
def hold(path: Path | str, timeout: float = 0) -> Iterator[bool]:
    """Hold the lock on any file for the length of a ``with`` block; yields False when it did not come free in time.

    The folder must exist. With `timeout` 0 it does not wait.
    """
    lock = FileLock(Path(path))
    held = lock.acquire(timeout)
    try:
        yield held
    finally:
        if held:
            lock.release()


def is_taken(path: Path | str) -> bool:
    """Return whether another process has the lock now. Creates nothing; where there is no such file, nobody has."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in (errno.EAGAIN, errno.EACCES)
    finally:
        os.close(descriptor)
    return False


@dataclass(frozen=True)
class LockReport:
    """Whether locks in a folder can be relied on, and what speaks against it."""

    folder: Path
    #: A clause that explains why they cannot; '' when they can.
    problem: str
    #: What was tried and came out well, as clauses, in that order.
    tried: tuple[str, ...] = ()
    #: The file system as the kernel calls it, such as ``nfs4``; '' where that cannot be read.
    kind: str = ""
    #: Where it is mounted.
    mount_point: str = ""
    #: Options of the mount that have to do with locks and caches.
    options: tuple[str, ...] = ()
    #: A clause about what breaks no lock, but makes other hosts' reports show late; '' for nothing.
    warning: str = ""

    @property
    def is_trusted(self) -> bool:
        """Whether two processes, on whatever hosts, exclude each other there."""
        return not self.problem

    def lines(self) -> list[str]:
        """Say it to a person: what is mounted there, what was tried, and what follows."""
        options = f" ({','.join(self.options)})" if self.options else ""
        system = f"{self.kind} mounted at '{self.mount_point}'{options}" if self.kind else "an unknown file system"
        lines = [f"'{self.folder}' lies on {system}", *(f"tried: {clause}" for clause in self.tried)]
        if self.problem:
            lines.append(
                f"locks cannot be relied on: {self.problem}; a manifest made there is written by one process at a "
                "time under a lease, and workers only publish"
            )
        else:
            lines.append("locks can be relied on, as far as one host can tell")
        if self.warning:
            lines.append(f"note: {self.warning}")
        return lines


def self_test(folder: Path | str) -> LockReport:
    """Try the locks of a folder between two processes, and read the options of its mount.

    Both are needed: locks that work between two processes of one host can still let two hosts in at once.
    Creates and deletes one small file; forks two processes that end at once. `OSError` when the folder cannot be
    written.
    """
    folder = Path(folder)
    tried: list[str] = []
    problem = _contest(folder, tried)
    mount = mounts.mount_of(folder)
    if mount is None:
        return LockReport(folder, problem, tuple(tried))
    return LockReport(
        folder,
        problem or mounts.judge(mount, mounts.is_trusted(folder)),
        tuple(tried),
        mount.kind,
        mount.point,
        mounts.telling_options(mount),
        mounts.caution(mount),
    )


def mount_problem(folder: Path | str) -> str:
    """Return the part of `self_test` that reads the mount's options alone: it costs one small read of ``/proc``."""
    return mounts.problem_of(Path(folder))


def _contest(folder: Path, tried: list[str]) -> str:
    """Let two processes contend for locks on one file; return what went wrong, else ''. Fills `tried`."""
    path = folder / f".reflow-lock-test-{os.uname().nodename}-{os.getpid()}-{time.time_ns()}"
    name = ""
    try:
        # SQLite's own locks are fcntl's, the outer one is flock's: both must hold.
        for name, take in (("flock", _flock), ("fcntl", _fcntl_lock)):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE)
            try:
                if not take(descriptor):
                    return f"a new file there cannot be locked with {name}"
                if not _is_refused_elsewhere(path, take):
                    return f"two processes got the same {name} lock there at the same time"
                tried.append(f"a {name} lock of one process keeps another one out")
            finally:
                os.close(descriptor)
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL):
            raise
        return f"the file system has no {name} locks ({error.strerror})"
    finally:
        with suppress(FileNotFoundError):
            os.unlink(path)
    return ""


def _is_refused_elsewhere(path: Path, take: Callable[[int], bool]) -> bool:
    """Return whether another process fails to take the lock that this one holds."""
    child = os.fork()
    if child == 0:
        # Nothing of the parent may run here: no exit handlers, no buffers, no locks of other threads.
        answer = 2
        try:
            answer = 1 if take(os.open(path, os.O_RDWR | os.O_CLOEXEC)) else 0
        finally:
            os._exit(answer)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) == 0


def _flock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _fcntl_lock(descriptor: int) -> bool:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # POSIX allows either for a lock that another process has
        return False
    return True


def _is_current(descriptor: int, path: Path) -> bool:
    mine = os.fstat(descriptor)
    try:
        named = os.stat(path)
    except FileNotFoundError:
        return False
    return (mine.st_dev, mine.st_ino) == (named.st_dev, named.st_ino)


def _holding_process(path: Path) -> int | None:
    """Find in /proc/locks which process of this host has the flock on `path`."""
    try:
        status = os.stat(path)
        table = Path("/proc/locks").read_text(encoding="ascii")
    except OSError:
        return None
    inode = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    for words in (line.split() for line in table.splitlines()):
        # "1: FLOCK  ADVISORY  WRITE 4711 08:02:13370 0 EOF"; waiters have "->" as their second word
        if len(words) >= 6 and words[1] == "FLOCK" and words[5] == inode and words[4].isdecimal():
            return int(words[4])
    return None


def _command_of(process: int) -> str:
    try:
        words = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return "ended meanwhile"
    return os.fsdecode(b" ".join(words).strip())[:120]
