"""The open manifest: connections, turns and errors. All SQL goes through `Database.read` and `Database.write`."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar
from urllib.parse import quote

from .. import log
from ..errors import ManifestError
from . import locking, schema, sharing
from .lease import Lease
from .stamps import stamp

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


class Database:
    """One manifest file, opened at the first use and after each `close`.

    A write is one turn: take the lock between processes, ``BEGIN IMMEDIATE``, only SQL, commit, release. Several
    threads may share the object, and take turns. A forked child opens its own connection; do not fork while another
    thread is inside a call.

    Where locks between hosts cannot be relied on there is a folder ``<manifest>.lease``. Then a write takes the lease,
    and opens the file under it each time: a process that saw the journal of a living writer on another host would
    take it for a dead one's and roll it back. A read opens the file so that it cannot do that, and looks before and
    after whether anybody has written meanwhile.
    """

    def __init__(self, path: Path, *, readonly: bool, publish_only: bool = False) -> None:
        self.path = path
        self.readonly = readonly
        self._choose_publish_only = publish_only
        self._mutex = threading.RLock()
        self._forget()

    def _forget(self) -> None:
        self._process = os.getpid()
        self._connection: sqlite3.Connection | None = None
        self._lock: locking.Lock | None = None
        self._host_problem = ""
        self._holds = 0

    def create(self) -> None:
        """Create the manifest or bring its schema up to date; when `readonly`, only check that it can be read."""
        with self._mutex, self._errors():
            if not self.readonly and not self._is_up_to_date():
                with self._hold(wait=True):
                    self._write_schema()
            self.read(lambda connection: None)

    def close(self) -> None:
        """Let go of the file; idempotent."""
        with self._mutex:
            self._drop_connection()
            self._forget()

    @property
    def publish_only(self) -> bool:
        """Whether workers must leave the manifest alone, because locks between hosts cannot be relied on."""
        with self._mutex, self._errors():
            return self._choose_lock().is_lease or bool(self._host_problem)

    @property
    def may_write(self) -> bool:
        """Whether this process can take a turn: not read-only, and not on a host whose locks the others ignore."""
        with self._mutex, self._errors():
            self._choose_lock()
            return not self.readonly and not self._host_problem

    def read(self, query: Query[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a query on one consistent state of the manifest."""
        with self._mutex, self._errors():
            if self._choose_lock().is_lease and self._holds == 0:
                return self._read_between_writes(query, *args, **kwargs)
            until = time.monotonic() + _READ_AGAIN_SECONDS
            while True:
                try:
                    return self._read_once(query, *args, **kwargs)
                except sqlite3.DatabaseError as error:
                    # A writer died in the middle; the next one will roll its journal back, a reader may not.
                    if not (self.readonly and "readonly" in str(error)) or time.monotonic() > until:
                        raise
                self._drop_connection()
                time.sleep(_READ_AGAIN_POLL_SECONDS)

    def write(self, change: Query[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a change in one turn; all of it is committed, or none."""
        with self.holding():
            return self.transaction(change, *args, **kwargs)

    def transaction(self, change: Query[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a change in one transaction, under the lock that the caller is `holding`."""
        with self._mutex, self._errors():
            self._choose_lock().renew()
            connection = self._open()
            connection.execute("BEGIN IMMEDIATE")
            try:
                self._require_version(connection)  # a newer reflow may have brought it further since it was opened
                result = change(connection, *args, **kwargs)
                # A change rolls back by itself when it finds that it comes too late.
                if connection.in_transaction:
                    self._choose_lock().check()
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
        if self.readonly:
            raise ManifestError(f"the manifest '{self.path}' was opened read-only; open it with readonly=False")
        self._require_file()
        with self._hold(wait=wait) as held:
            yield held

    @contextmanager
    def _hold(self, *, wait: bool) -> Iterator[bool]:
        with self._mutex:
            with self._errors():
                lock = self._choose_lock()
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
                    # SQLite keeps no lock of its own between transactions, so under a file lock its connection may
                    # stay open. Under a lease another host's writes show only in a file that is opened anew.
                    if lock.is_lease:
                        self._drop_connection()
                    lock.release()

    def _take(self, lock: locking.Lock, *, wait: bool) -> bool:
        if self._host_problem:
            raise ManifestError(
                f"host {os.uname().nodename} must not write the manifest '{self.path}', because {self._host_problem}; "
                "write from a host that mounts it with shared locks"
            )
        if not wait:
            return lock.try_acquire()
        if not lock.acquire(PATIENCE):
            raise ManifestError(
                f"the manifest '{self.path}' stayed locked for {PATIENCE:.0f} s by {lock.holder()}; "
                "end that process if it hangs, and try again"
            )
        return True

    def _read_once(self, query: Query[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return self._query(self._open(), query, *args, **kwargs)

    def _query(self, connection: sqlite3.Connection, query: Query[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        connection.execute("BEGIN")
        try:
            return query(connection, *args, **kwargs)
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")

    def _read_between_writes(self, query: Query[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a query where SQLite's locks keep nobody out, and believe it only if nothing was written meanwhile."""
        self._require_file()
        until = time.monotonic() + (PATIENCE if self.readonly else _READ_AGAIN_SECONDS)
        while True:
            before = stamp(self.path)
            failure = None
            try:
                # Opened anew for each look, or a network file system may answer from its cache.
                with closing(self._connect(readonly=True)) as connection:
                    if self._require_version(connection) < schema.VERSION:
                        break  # an older reflow's: brought up to date below
                    result = self._query(connection, query, *args, **kwargs)
            except sqlite3.DatabaseError as error:
                failure = error
            if before is not None and stamp(self.path) == before:
                if failure is not None:
                    raise failure
                return result
            if time.monotonic() > until:
                break
            time.sleep(_READ_AGAIN_POLL_SECONDS)
        if not self.readonly:
            with self.holding():  # waits for a writer that lives, and rolls back what a dead one left
                return self._read_once(query, *args, **kwargs)
        raise failure or ManifestError(
            f"the manifest '{self.path}' was written all the time for {PATIENCE:.0f} s; try again later"
        )

    def _choose_lock(self) -> locking.Lock:
        if self._process != os.getpid():
            if self._connection is not None:
                _inherited.append(self._connection)
            self._forget()
        if self._lock is None:
            lease = self._lease_folder()
            self._lock = Lease(lease) if lease.is_dir() else locking.FileLock(Path(f"{self.path}.lock"))
            if not self._lock.is_lease and not self.readonly:
                self._host_problem = locking.mount_problem(self.path.parent)
        return self._lock

    def _lease_folder(self) -> Path:
        return Path(f"{self.path}.lease")

    def _open(self) -> sqlite3.Connection:
        self._choose_lock()
        if self._connection is None:
            self._require_file()
            connection = self._connect()
            try:
                if self._require_version(connection) < schema.VERSION:
                    self._migrate(connection)
                self._connection = connection
            finally:
                if self._connection is None:
                    connection.close()
        return self._connection

    def _drop_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if self._process == os.getpid():
            connection.close()
        else:
            _inherited.append(connection)

    def _require_file(self) -> None:
        if not self.path.exists():
            raise ManifestError(f"there is no manifest at '{self.path}'; submit a run first, or name another path")

    def _require_version(self, connection: sqlite3.Connection) -> int:
        version = schema.version_of(connection, self.path)
        if version == 0:
            raise ManifestError(f"the manifest '{self.path}' is empty; submit a run first, or name another path")
        if version < schema.VERSION and self.readonly:
            raise ManifestError(
                f"the manifest '{self.path}' was written by an older reflow; run `reflow runs` once as a user who may "
                "write it, which brings it up to date"
            )
        return version

    def _migrate(self, connection: sqlite3.Connection) -> None:
        """Bring the schema up to date, in a turn of its own. Whoever may write does it at the first use."""
        with self._hold(wait=True):
            connection.execute("BEGIN IMMEDIATE")
            # Somebody else may have done it while we waited: `migrate` looks again.
            schema.migrate(connection, self.path)
            self._choose_lock().check()
            connection.execute("COMMIT")

    def _connect(self, *, readonly: bool = False) -> sqlite3.Connection:
        # Never immutable=1: that reads torn pages while others write.
        mode = "ro" if self.readonly or readonly else "rw"
        # Under a lease no lock is asked for: Lustre without 'flock' refuses them all, and then SQLite opens nothing.
        locks = "&vfs=unix-none" if self._choose_lock().is_lease else ""
        connection = sqlite3.connect(
            f"file:{quote(os.fspath(self.path.absolute()))}?mode={mode}{locks}",
            uri=True,
            timeout=PATIENCE,
            isolation_level=None,
            check_same_thread=False,
        )
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        connection.execute("PRAGMA temp_store = MEMORY")
        if self._choose_lock().is_lease:
            # No page may reach the file before the lease was looked at, right before the commit: to roll back what
            # was spilled would write old pages over the work of whoever has taken the lease over.
            connection.execute("PRAGMA cache_spill = OFF")
        return connection

    def _is_up_to_date(self) -> bool:
        """Return whether the schema is there already; chooses the kind of lock for a manifest that is not there yet."""
        if not self.path.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self._choose_publish_only or self._has_lock_problem():
                sharing.make_folder(self._lease_folder())
            self._lock = None
            return False
        if self._choose_lock().is_lease:
            return False  # only under the lease can that be known
        with closing(self._connect()) as connection:
            return schema.version_of(connection, self.path) == schema.VERSION

    def _has_lock_problem(self) -> bool:
        problem = locking.self_test(self.path.parent).problem
        if problem:
            log.warning(
                "locks in '%s' cannot be relied on: %s; workers will only publish their reports there, and the login "
                "node and sentinel jobs merge them",
                self.path.parent,
                problem,
            )
        return bool(problem)

    def _write_schema(self) -> None:
        # The journal gets the mode of the manifest. Opening and closing the file this way would drop a connection's
        # locks, but there is none to a file that does not exist.
        with suppress(FileExistsError):
            os.close(sharing.open_file(self.path, os.O_RDWR | os.O_EXCL))
        with closing(self._connect()) as connection:
            # WAL needs shared memory, which network file systems do not give; a manifest in WAL mode was made so
            # by another program. The answer is the mode that it has now.
            mode = connection.execute("PRAGMA journal_mode = DELETE").fetchone()[0]
            if mode != "delete":
                raise ManifestError(f"the manifest '{self.path}' stays in journal mode {mode}; close what has it open")
            self._migrate(connection)

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
