"""The open manifest: connections, turns and errors. All SQL goes through `Database.read` and `Database.write`."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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

# KiB that SQLite may use for pages. Merging a million results touches more than its usual 2 MB.
_CACHE_KIB = 32_000

# Connections of the process that this one was forked from. Closing one could roll back what the parent is writing.
_inherited: list[sqlite3.Connection] = []


class Database:
    """One manifest file, opened at the first use and after each `close`.

    A write is one turn: take the lock between processes, ``BEGIN IMMEDIATE``, only SQL, commit, release. Several
    threads may share the object, and take turns; a forked child opens its own connection.
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
        self._lock: locking.Lock = locking.FileLock(Path(f"{self.path}.lock"))
        self._holds = 0
        #: Why locks cannot be relied on: everywhere (then the lease is used), and on this host alone.
        self._locks_problem = ""
        self._host_problem = ""

    def create(self) -> None:
        """Create the manifest or bring its schema up to date; when `readonly`, only check that it can be read."""
        with self._mutex, self._errors():
            if self.readonly or self._is_current():
                self._open()
                return
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self._exists():
                self._locks_problem = self._recorded_problem()
            else:
                self._locks_problem = self._find_problem()
            self._use_lock()
            with self.holding():
                connection = self._connect_new()
                try:
                    connection.execute("BEGIN IMMEDIATE")
                    schema.migrate(connection, self.path)
                    connection.execute(
                        "INSERT OR IGNORE INTO meta (key, value) VALUES ('locks', ?)", (self._locks_problem,)
                    )
                    connection.execute("COMMIT")
                finally:
                    connection.close()

    def close(self) -> None:
        """Let go of the file; idempotent."""
        with self._mutex:
            if self._process != os.getpid():
                self._abandon()
            if self._connection is not None:
                self._connection.close()
            self._forget()

    @property
    def publish_only(self) -> bool:
        """Whether workers must leave the manifest alone, because locks between hosts cannot be relied on."""
        with self._mutex, self._errors():
            self._open()
            return bool(self._locks_problem or self._host_problem)

    @property
    def may_write(self) -> bool:
        """Whether this process can take a turn: not read-only, and not on a host whose locks the others ignore."""
        with self._mutex, self._errors():
            self._open()
            return not self.readonly and not self._host_problem

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
                time.sleep(0.1)

    def write(self, change: Query[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a change in one turn; all of it is committed, or none."""
        with self.holding():
            return self.transaction(change, *args, **kwargs)

    def transaction(self, change: Query[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a change in one transaction, under the lock that the caller is `holding`."""
        with self._mutex, self._errors():
            connection = self._open()
            connection.execute("BEGIN IMMEDIATE")
            try:
                result = change(connection, *args, **kwargs)
                # The change itself rolls back when it finds that it comes too late.
                if connection.in_transaction:
                    self._lock.check()
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
            if self._holds == 0:
                with self._errors():
                    held = self._take_lock(wait)
                if not held:
                    yield False
                    return
            self._holds += 1
            try:
                yield True
            finally:
                self._holds -= 1
                if self._holds == 0:
                    # SQLite holds no lock of its own between transactions, so its connection may stay open.
                    self._lock.release()

    def _take_lock(self, wait: bool) -> bool:
        if self.readonly:
            raise ManifestError(f"the manifest '{self.path}' was opened read-only; open it with readonly=False")
        if self._exists():
            self._open_for_lock()
        if self._host_problem:
            raise ManifestError(
                f"the manifest '{self.path}' cannot be written from host {os.uname().nodename}, because "
                f"{self._host_problem}; write from a login node, or mount the folder with shared locks"
            )
        if not wait:
            return self._lock.try_acquire()
        if not self._lock.acquire(PATIENCE):
            raise ManifestError(
                f"the manifest '{self.path}' stayed locked for {PATIENCE:.0f} s by {self._lock.holder()}; "
                "end that process if it hangs, and try again"
            )
        return True

    def _open_for_lock(self) -> None:
        """Open the manifest before the lock is taken: it says what kind of lock it wants. `create` needs it too."""
        if self._connection is None and self._is_current():
            self._open()

    def _read_once(self, query: Query[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        connection = self._open()
        if connection.in_transaction:
            return query(connection, *args, **kwargs)
        connection.execute("BEGIN")
        try:
            return query(connection, *args, **kwargs)
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")

    def _open(self) -> sqlite3.Connection:
        if self._process != os.getpid():
            self._abandon()
        if self._connection is None:
            if not self._exists():
                raise ManifestError(f"there is no manifest at '{self.path}'; submit a run first, or name another path")
            connection = self._connect()
            try:
                self._check_version(connection)
                self._locks_problem = _recorded_problem(connection)
            except BaseException:
                connection.close()
                raise
            if not self._locks_problem and not self.readonly:
                self._host_problem = locking.mount_problem(self.path.parent)
            self._use_lock()
            self._connection = connection
        return self._connection
