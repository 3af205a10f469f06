"""The open manifest: connections, turns and errors. All SQL goes through `Database.read` and `Database.write`."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar
from urllib.parse import quote

from ..errors import ManifestError
from . import locking, schema
from .lease import Lease

_log = logging.getLogger("reflow")

P = ParamSpec("P")
T = TypeVar("T")

#: A function of the open connection: SQL only, no hashing, no subprocess, no user code.
Query = Callable[Concatenate[sqlite3.Connection, P], T]

#: Seconds that a turn waits for the lock, and SQLite for readers, before it gives up.
PATIENCE = 60.0

# Seconds that a reader tries again when it meets a state that another process is about to mend.
_READ_AGAIN_SECONDS = 5.0
_READ_AGAIN_POLL_SECONDS = 0.1

# KiB that SQLite may use for pages. Merging a million results touches more than its usual 2 MB.
_CACHE_KIB = 32_000

# Connections of the process that this one was forked from. Closing one could roll back what the parent is writing.
_inherited: list[sqlite3.Connection] = []


@dataclass(frozen=True)
class _Opened:
    """An open connection and what the manifest says about locks."""

    connection: sqlite3.Connection
    process: int
    lock: locking.Lock
    #: Why locks between hosts cannot be relied on, so that the lease is used; '' when they can.
    locks_problem: str
    #: The same of this host alone, where the others do use locks.
    host_problem: str


class Database:
    """One manifest file, opened at the first use and after each `close`.

    A write is one turn: take the lock between processes, ``BEGIN IMMEDIATE``, only SQL, commit, release. Several
    threads may share the object, and take turns. A forked child opens its own connection; do not fork while another
    thread is inside a call.
    """

    def __init__(self, path: Path, *, readonly: bool, publish_only: bool = False) -> None:
        self.path = path
        self.readonly = readonly
        self._choose_publish_only = publish_only
        self._mutex = threading.RLock()
        self._opened: _Opened | None = None
        self._holds = 0

    def create(self) -> None:
        """Create the manifest or bring its schema up to date; when `readonly`, only check that it can be read."""
        with self._mutex, self._errors():
            version, problem = (schema.VERSION, "") if self.readonly else self._recorded()
            if version < schema.VERSION:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                if version == 0:
                    problem = self._find_problem()
                lock = _make_lock(self.path, problem)
                self._take(lock, wait=True)
                try:
                    self._write_schema(problem)
                finally:
                    lock.release()
            self._open()

    def close(self) -> None:
        """Let go of the file; idempotent."""
        with self._mutex:
            opened, self._opened = self._opened, None
            if opened is None:
                return
            if opened.process == os.getpid():
                opened.connection.close()
            else:
                _inherited.append(opened.connection)

    @property
    def publish_only(self) -> bool:
        """Whether workers must leave the manifest alone, because locks between hosts cannot be relied on."""
        with self._mutex, self._errors():
            opened = self._open()
            return bool(opened.locks_problem or opened.host_problem)

    @property
    def may_write(self) -> bool:
        """Whether this process can take a turn: not read-only, and not on a host whose locks the others ignore."""
        with self._mutex, self._errors():
            return not self.readonly and not self._open().host_problem

    def read(self, query: Query[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a query on one consistent state of the manifest."""
        with self._mutex, self._errors():
            until = time.monotonic() + _READ_AGAIN_SECONDS
            while True:
                try:
                    return self._read_once(query, *args, **kwargs)
                except sqlite3.DatabaseError as error:
                    if not self._is_passing(error) or time.monotonic() > until:
                        raise
                self.close()
                time.sleep(_READ_AGAIN_POLL_SECONDS)

    def write(self, change: Query[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a change in one turn; all of it is committed, or none."""
        with self.holding():
            return self.transaction(change, *args, **kwargs)

    def transaction(self, change: Query[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a change in one transaction, under the lock that the caller is `holding`."""
        with self._mutex, self._errors():
            opened = self._open()
            connection = opened.connection
            connection.execute("BEGIN IMMEDIATE")
            try:
                result = change(connection, *args, **kwargs)
                # A change rolls back by itself when it finds that it comes too late.
                if connection.in_transaction:
                    opened.lock.check()
                    connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            return result

    @contextmanager
    def holding(self, *, wait: bool = True) -> Iterator[bool]:
        """Hold the lock between processes for a ``with`` block; may be nested.

        Yields False when it is taken and `wait` is False; raises `ManifestError` when it stays taken for `PATIENCE`.
        """
        with self._mutex:
            with self._errors():
                lock = self._open_for_writing().lock
                held = self._holds > 0 or self._take(lock, wait=wait)
            if not held:
                yield False
                return
            self._holds += 1
            try:
                yield True
            finally:
                self._holds -= 1
                if self._holds == 0:
                    # SQLite keeps no lock of its own between transactions, so its connection may stay open.
                    lock.release()

    def _take(self, lock: locking.Lock, *, wait: bool) -> bool:
        if not wait:
            return lock.try_acquire()
        if not lock.acquire(PATIENCE):
            raise ManifestError(
                f"the manifest '{self.path}' stayed locked for {PATIENCE:.0f} s by {lock.holder()}; "
                "end that process if it hangs, and try again"
            )
        return True

    def _read_once(self, query: Query[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        connection = self._open().connection
        connection.execute("BEGIN")
        try:
            return query(connection, *args, **kwargs)
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")

    def _open_for_writing(self) -> _Opened:
        if self.readonly:
            raise ManifestError(f"the manifest '{self.path}' was opened read-only; open it with readonly=False")
        opened = self._open()
        if opened.host_problem:
            raise ManifestError(
                f"host {os.uname().nodename} must not write the manifest '{self.path}', because {opened.host_problem}; "
                "write from a host that mounts it with shared locks"
            )
        return opened

    def _open(self) -> _Opened:
        if self._opened is not None and self._opened.process != os.getpid():
            self.close()
            self._holds = 0
        if self._opened is None:
            if not self.path.exists():
                raise ManifestError(f"there is no manifest at '{self.path}'; submit a run first, or name another path")
            connection = self._connect()
            try:
                self._opened = self._inspect(connection)
            finally:
                if self._opened is None:
                    connection.close()
        return self._opened

    def _inspect(self, connection: sqlite3.Connection) -> _Opened:
        version = schema.version_of(connection, self.path)
        if version == 0:
            raise ManifestError(f"the manifest '{self.path}' is empty; submit a run first, or name another path")
        if version < schema.VERSION:
            raise ManifestError(
                f"the manifest '{self.path}' was written by an older reflow; run `reflow runs` once, which brings it "
                "up to date"
            )
        problem = schema.locks_problem_of(connection)
        here = "" if problem or self.readonly else locking.mount_problem(self.path.parent)
        return _Opened(connection, os.getpid(), _make_lock(self.path, problem), problem, here)

    def _connect(self) -> sqlite3.Connection:
        mode = "ro" if self.readonly else "rw"  # never immutable=1: that reads torn pages while others write
        connection = sqlite3.connect(
            f"file:{quote(os.fspath(self.path.absolute()))}?mode={mode}",
            uri=True,
            timeout=PATIENCE,
            isolation_level=None,
            check_same_thread=False,
        )
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        connection.execute("PRAGMA temp_store = MEMORY")
        return connection

    def _recorded(self) -> tuple[int, str]:
        """Return the schema version and the problem with locks that the file records; 0 when there is nothing yet."""
        if not self.path.exists():
            return 0, ""
        with closing(self._connect()) as connection:
            version = schema.version_of(connection, self.path)
            return version, schema.locks_problem_of(connection) if version else ""

    def _find_problem(self) -> str:
        if self._choose_publish_only:
            return "this was asked for"
        problem = locking.self_test(self.path.parent).problem
        if problem:
            _log.warning(
                "locks in '%s' cannot be relied on: %s; workers will only publish their reports there, and the login "
                "node and sentinel jobs merge them",
                self.path.parent,
                problem,
            )
        return problem

    def _write_schema(self, locks_problem: str) -> None:
        # Only the user may read it. The journal gets the mode of the manifest. Opening and closing the file this way
        # would drop a connection's locks, but there is none to a file that does not exist.
        with suppress(FileExistsError):
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        with closing(self._connect()) as connection:
            # WAL needs shared memory, which network file systems do not give; a manifest in WAL mode was made so
            # by another program. The answer is the mode that it has now.
            mode = connection.execute("PRAGMA journal_mode = DELETE").fetchone()[0]
            if mode != "delete":
                raise ManifestError(f"the manifest '{self.path}' stays in journal mode {mode}; close what has it open")
            connection.execute("BEGIN IMMEDIATE")
            schema.migrate(connection, self.path, locks_problem)
            connection.execute("COMMIT")

    def _is_passing(self, error: sqlite3.DatabaseError) -> bool:
        """Return whether another process is about to end the state that a reader met."""
        if self._holds:
            return False
        # A writer died in the middle, and the next one will roll its journal back; a reader may not.
        if self.readonly and "readonly" in str(error):
            return True
        # Without locks between hosts a reader can meet a half-written state.
        return self._opened is not None and bool(self._opened.locks_problem) and "malformed" in str(error)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn what SQLite and the file system say into a sentence for a person."""
        try:
            yield
        except (sqlite3.ProgrammingError, sqlite3.IntegrityError, sqlite3.InterfaceError):
            raise  # our own mistake, with its traceback
        except sqlite3.DatabaseError as error:
            raise ManifestError(f"the manifest '{self.path}' {self._explain(str(error))}") from error
        except OSError as error:
            raise ManifestError(
                f"cannot use the manifest '{self.path}': {error.strerror} ({error.filename or self.path.parent}); "
                "check the path, its permissions and the quota"
            ) from error

    def _explain(self, text: str) -> str:
        if self.readonly and "readonly" in text:
            return (
                "holds an unfinished write of a process that died; run `reflow runs` as a user who may write it, "
                "which puts it right"
            )
        for words, explanation in _EXPLANATIONS.items():
            if words in text:
                return f"{explanation} ({text})"
        return f"cannot be used ({text})"


#: What SQLite says, and what to do about it.
_EXPLANATIONS = {
    "not a database": "is not a manifest; name another path, or move that file away",
    "malformed": "is damaged; copy it and `sqlite3 COPY .recover` what it holds, and move it away",
    "unable to open": "cannot be opened; check that you may read it and may write in its folder",
    "readonly": "cannot be written; check the permissions of the file and of its folder",
    "full": "cannot grow, the disk or the quota is full; free some space, then try again: published reports wait",
    "locked": "stayed locked by another process; try again, and look for a hanging one if it lasts",
    "I/O error": "could not be read or written; check the file system and the quota, then try again",
}


def _make_lock(path: Path, locks_problem: str) -> locking.Lock:
    if locks_problem:
        return Lease(Path(f"{path}.lease"))
    return locking.FileLock(Path(f"{path}.lock"))
