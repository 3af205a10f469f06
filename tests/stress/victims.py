"""A process that starts victims: each does to a manifest what workers do, and dies by SIGKILL where it is told to.

Run as a script. Each line on stdin is a `Task` as JSON; the answer is a line with how it ended and what it had
acknowledged by then. Victims are forked from here, so that a round takes milliseconds and not the start of Python.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import select
import signal
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from reflow.states import TaskState
from reflow.stores import connection, lease, locking, merging, schema, spool  # noqa: F401  imported before the fork
from reflow.stores.records import Report
from reflow.stores.sqlite import SqliteStore

LARGE = 6_000


class Trap:
    """Kills this process the n-th time that it is sprung."""

    def __init__(self, nth: int) -> None:
        self._left = nth

    def spring(self) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def _is_report(path: Any) -> bool:
    return os.fsdecode(path).endswith(".reports")


def _is_lease(path: Any) -> bool:
    return os.path.dirname(os.fsdecode(path)).endswith(".lease")


def _call(module: Any, name: str, trap: Trap, *, after: bool, when: Callable[..., bool] = lambda *_: True) -> None:
    """Spring the trap before or after calls of a function of the operating system."""
    real = getattr(module, name)

    def hooked(*words: Any, **options: Any) -> Any:
        meant = when(*words)
        if meant and not after:
            trap.spring()
        result = real(*words, **options)
        if meant and after:
            trap.spring()
        return result

    setattr(module, name, hooked)


def _statement(trap: Trap, *beginnings: str) -> None:
    """Spring the trap before SQL statements that begin so."""
    real = sqlite3.connect

    def trace(statement: str) -> None:
        if statement.lstrip().startswith(beginnings):
            trap.spring()

    def connect(*words: Any, **options: Any) -> sqlite3.Connection:
        made = real(*words, **options)
        made.set_trace_callback(trace)
        return made

    module: Any = sqlite3
    module.connect = connect


def _machine(call: str, nth: int) -> None:
    """Die before the n-th such call of the process from now on, also inside SQLite; see ``kill_at.c``."""
    ctypes.CDLL(None).kill_at(call.encode(), nth)


#: Where a victim may die: what the victim does, and how far apart the numbers of the calls reach.
POINTS: dict[str, tuple[str, int]] = {
    "publish, before the symlink": ("work", 8),
    "publish, after the symlink": ("work", 8),
    "publish, temporary file written": ("work", 3),
    "publish, after the rename": ("work", 3),
    "lock, just taken": ("work", 4),
    "lock, just given back": ("work", 4),
    "lease, just taken": ("work", 4),
    "lease, just given back": ("work", 4),
    "merge, folder listed": ("merge", 2),
    "merge, in read": ("merge", 12),
    "merge, transaction begun": ("merge", 1),
    "merge, in the transaction": ("merge", 12),
    "merge, before commit": ("merge", 1),
    "merge, in the commit, before a write": ("merge", 12),
    "merge, in the commit, before a sync": ("merge", 4),
    "merge, in the commit, before the journal goes": ("merge", 1),
    "merge, between commit and unlink": ("merge", 1),
    "merge, in unlink": ("merge", 12),
    "create, file made": ("create", 1),
    "create, in the schema": ("create", 25),
    "create, before commit": ("create", 1),
    "create, in the commit, before a write": ("create", 30),
    "create, in the commit, before the journal goes": ("create", 2),
}


def set_trap(point: str, nth: int) -> None:
    """Prepare this process to die at the n-th passing of a point of `POINTS`."""
    trap = Trap(nth)
    match point:
        case "publish, before the symlink":
            _call(os, "symlink", trap, after=False, when=lambda _, path: _is_report(path))
        case "publish, after the symlink":
            _call(os, "symlink", trap, after=True, when=lambda _, path: _is_report(path))
        case "publish, temporary file written":
            _call(os, "rename", trap, after=False)
        case "publish, after the rename":
            _call(os, "rename", trap, after=True)
        case "lock, just taken":
            _call(fcntl, "flock", trap, after=True, when=lambda _, how: bool(how & fcntl.LOCK_EX))
        case "lock, just given back":
            _call(fcntl, "flock", trap, after=True, when=lambda _, how: how == fcntl.LOCK_UN)
        case "lease, just taken":
            _call(os, "symlink", trap, after=True, when=lambda text, path: _is_lease(path) and text != "free")
        case "lease, just given back":
            _call(os, "symlink", trap, after=True, when=lambda text, path: _is_lease(path) and text == "free")
        case "merge, folder listed":
            _call(os, "scandir", trap, after=True, when=lambda path: os.fspath(path).endswith(".spool"))
        case "merge, in read":
            _call(os, "readlink", trap, after=False, when=_is_report)
        case "merge, transaction begun":
            _statement(trap, "UPDATE instances")
        case "merge, in the transaction":
            _statement(trap, "UPDATE instances", "INSERT OR IGNORE INTO remarks", "UPDATE runs")
        case "merge, before commit" | "create, before commit":
            _statement(trap, "COMMIT")
        case "merge, between commit and unlink" | "merge, in unlink":
            _call(os, "unlink", trap, after=point == "merge, in unlink", when=_is_report)
        case "create, file made":
            _call(os, "open", trap, after=True, when=lambda path, how, *_: bool(how & os.O_EXCL))
        case "create, in the schema":
            _statement(trap, "CREATE", "INSERT INTO moves", "PRAGMA user_version")
        case _ if point.endswith("before a write"):
            _machine("pwrite", nth)
        case _ if point.endswith("before a sync"):
            _machine("fsync", nth)
        case _ if point.endswith("before the journal goes"):
            _machine("unlink", nth)
        case "":
            pass
        case _:
            raise ValueError(f"no point '{point}'")


def output_of(instance: int) -> str:
    """Return what an instance yields: three of four travel as symlinks, the rest as files."""
    return json.dumps(str(instance) * (LARGE // len(str(instance)) if instance % 4 == 0 else 1))


def reports_of(instance: int) -> tuple[Report, Report]:
    """Return what a worker says of an instance: that it runs, and its result."""
    began = 1_000_000 + instance
    return (
        Report(instance, 1, TaskState.RUNNING, began, node="n1"),
        Report(instance, 1, TaskState.SUCCESS, began + 1, node="n1", output=output_of(instance), started_at=began),
    )


def _work(store: SqliteStore, instances: list[int], acknowledge: Callable[[int], None]) -> None:
    for instance in instances:
        running, success = reports_of(instance)
        store.publish([running])
        store.merge()
        store.publish([success])
        acknowledge(instance)
        store.merge()


def _run(task: dict[str, Any], acknowledge: Callable[[int], None]) -> None:
    set_trap(task.get("point", ""), task.get("nth", 1))
    store = SqliteStore(task["manifest"], publish_only=task.get("leased", False))
    if task["does"] == "create":
        store.init()
    elif task["does"] == "take the lock":
        began = time.perf_counter()
        lock = lease.Lease(store.path.with_name(f"{store.path.name}.lease"))
        taken = (lock if task["leased"] else locking.FileLock(Path(f"{store.path}.lock"))).acquire(60)
        acknowledge(round(1_000_000 * (time.perf_counter() - began)) if taken else 60_000_000)
    elif task["does"] == "merge":
        store.merge(wait=True)
    else:
        _work(store, task["instances"], acknowledge)


def _run_as_child(task: dict[str, Any]) -> dict[str, Any]:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(reader)
            _run(task, lambda instance: os.write(writer, b"%d\n" % instance) and None)
            code = 0
        finally:
            os._exit(code)
    os.close(writer)
    if "kill_after" in task:
        if not select.select([reader], [], [], 0)[0]:
            time.sleep(task["kill_after"])
        os.kill(child, signal.SIGKILL)
    acknowledged = b""
    while piece := os.read(reader, 65_536):
        acknowledged += piece
    os.close(reader)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return {"code": code, "acknowledged": [int(line) for line in acknowledged.split()]}


def main() -> int:
    """Start a victim for each line, and answer when it has ended."""
    for line in sys.stdin:
        print(json.dumps(_run_as_child(json.loads(line))), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
