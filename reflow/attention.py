"""Attend a run until it is settled: look often, ask the scheduler ever more rarely, and give the run what it needs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread

from . import log
from .errors import ManifestError, ReflowError, UnknownRunError
from .states import RunState
from .stores.sqlite import SqliteStore

#: How often a look is taken by `Run.wait`, and how often, at first and at most, it asks the scheduler, in seconds.
LOOK_SECONDS = 0.5
ASK_SECONDS = (5.0, 60.0)

#: For how long a manifest that cannot be read or written does not end a watch, in seconds. File servers come back.
PATIENCE = 300.0


class Attention:
    """Somebody's attention for one run, so that it goes on although its workers and sentinels have died."""

    def __init__(self, store: SqliteStore, run_id: str, refresh: Callable[[], None]) -> None:
        """Attend a run; `refresh` asks the scheduler about what stopped reporting, and dispatches what is due."""
        self._store = store
        self._run_id = run_id
        self._refresh = refresh
        self._pause, self._longest = ASK_SECONDS
        self._ask_at = time.monotonic() + self._pause
        self._dispatch_at = 0.0
        self._state = RunState.RUNNING
        self._bad_since: float | None = None

    def look(self) -> RunState:
        """Do what is due now and return the run's state.

        A manifest that cannot be used now is tried again at later looks, and its error raised after `PATIENCE`.
        """
        try:
            self._state = self._look()
        except (ManifestError, OSError) as error:
            now = time.monotonic()
            if self._bad_since is None:
                self._bad_since = now
                log.warning("%s (trying again for %.0f s)", error, PATIENCE)
            elif now - self._bad_since > PATIENCE:
                raise
        else:
            self._bad_since = None
        return self._state

    @contextmanager
    def from_aside(self) -> Iterator[Callable[[], None]]:
        """Attend the run from another thread for a ``with`` block, because a busy scheduler answers after a minute.

        Yields what raises the error that ended the thread, if one did.
        """
        stop, failed = Event(), list[Exception]()

        def attend() -> None:
            try:
                while self.look() is RunState.RUNNING and not stop.wait(LOOK_SECONDS):
                    pass
            except (ReflowError, OSError) as error:
                failed.append(error)

        def check() -> None:
            if failed:
                raise failed[0]

        # A daemon: who stops watching does not wait for the scheduler. What a dispatch cut off half-way leaves
        # behind is what one that is killed leaves, and others go on from there.
        thread = Thread(target=attend, name="attention", daemon=True)
        thread.start()
        try:
            yield check
        finally:
            stop.set()
            thread.join(LOOK_SECONDS)

    def _look(self) -> RunState:
        self._store.merge()
        state = self._read_state()
        if state is not RunState.RUNNING:
            return state
        now = time.monotonic()
        if now < self._ask_at and (now < self._dispatch_at or not self._store.dispatch_requested(self._run_id)):
            return state
        self._refresh()
        self._dispatch_at = time.monotonic() + ASK_SECONDS[0]  # a request stays while the scheduler takes no jobs
        self._pause = min(self._pause * 1.5, self._longest)
        self._ask_at = time.monotonic() + self._pause
        return self._read_state()

    def _read_state(self) -> RunState:
        record = self._store.get_run_record(self._run_id)
        if record is None:
            raise UnknownRunError(f"run '{self._run_id}' is no longer in {self._store.path}: it was removed")
        return record.status
