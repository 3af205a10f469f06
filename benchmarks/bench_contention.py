"""Many processes, each reporting RUNNING and SUCCESS for its elements as fast as it can: how long is each blocked?

On this disk; on a new ext4 with a journal, in a file (only root can mount it); and on a file system in user space
(FUSE) that stands for NFS: each request takes half a millisecond more, nothing is cached, locks reach the server. It is
no NFS: no delegations, no close-to-open rules, no lost packets, and at most ten requests at once.

An ext4 without a journal, as some virtual machines have, does not use an inode again for minutes after it is freed, and
looks at each of those when a file is made: who reports there waits for that, in any design that makes files.

Beside reflow: one update per transition under `filelock`, and SQLite's own waiting (busy_timeout), both with a
connection that stays open. No process does anything between its reports, so this is the worst a scheduler can do.
"""

from __future__ import annotations

import os
import sqlite3
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import filelock

from reflow import TaskState, clock
from reflow.stores import mounts, moves
from reflow.stores.records import NewInstance, Report
from reflow.stores.sqlite import SqliteStore
from tests.native.building import CannotBuild
from tests.native.hosts import mounted

from .table import Table

PROCESSES = (16, 64, 256)

# All processes together report about this many elements, two transitions each; fewer where a transition takes longer.
# With 1,000 on a disk the processes that are served first are done before the others have waited long.
ELEMENTS = {"disk": 4_000, "ext4": 4_000, "FUSE": 500}

# Rows that are in the manifest anyway.
WIDTH = 100_000

DELAY_MICROSECONDS = 500
PATIENCE = 3_600.0

#: Takes one report to the manifest, or leaves it where it is safe.
Transition = Callable[[Report], None]


def reflow(manifest: Path) -> Transition:
    """What a worker does: publish; after the final report merge, if nobody else does."""
    store = SqliteStore(manifest)

    def transition(report: Report) -> None:
        store.publish([report], sync=False)
        if report.state is not TaskState.RUNNING:
            store.merge()

    return transition


def locked(manifest: Path) -> Transition:
    """One update under a file lock that is polled, every 0.05 s as `filelock` does."""
    lock = filelock.FileLock(f"{manifest}.lock")
    update = bare(manifest)

    def transition(report: Report) -> None:
        with lock.acquire(timeout=PATIENCE):
            update(report)

    return transition


def bare(manifest: Path) -> Transition:
    """One update, SQLite waits by itself."""
    connection = sqlite3.connect(manifest, timeout=PATIENCE, isolation_level=None)

    def transition(report: Report) -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(
            "UPDATE instances SET state = ?, updated_at = ?, output = ? WHERE id = ?",
            (moves.CODES[report.state], report.at, report.output, report.instance),
        )
        connection.execute("COMMIT")

    return transition


DESIGNS = {"reflow": reflow, "update under filelock": locked, "SQLite, busy_timeout": bare}


@dataclass(frozen=True)
class Measured:
    """One design with one number of processes in one place."""

    transitions: int
    seconds: float
    blocked: list[float]

    def at(self, share: float) -> float:
        """Return the blocked time that `share` of the transitions did not exceed, in seconds."""
        return self.blocked[min(len(self.blocked) - 1, int(share * len(self.blocked)))]

    def words(self) -> str:
        """Return the row's figures."""
        rate = self.transitions / self.seconds
        times = (self.at(0.5), self.at(0.99), self.blocked[-1])
        return f"{rate:8,.0f}/s" + "".join(f"{1_000 * each:11,.1f}" for each in times)


def measure() -> Table:
    """Return transitions per second and blocked times, for each place, number of processes and design."""
    rows = [("", f"{'transitions':>10}{'p50 ms':>11}{'p99 ms':>11}{'max ms':>11}")]
    with ExitStack() as stack:
        for place, folder in _places(stack):
            if isinstance(folder, str):
                rows.append((place, folder))
                continue
            for processes in PROCESSES:
                # Of 256 over FUSE the other two designs are not done in ten minutes, or a process of theirs gives up.
                names = ["reflow"] if (place, processes) == ("FUSE", 256) else list(DESIGNS)
                found = {name: _contend(folder, place, processes, name) for name in names}
                rows += [(f"{place}, {processes} processes, {name}", each.words()) for name, each in found.items()]
                if len(found) == 1:
                    continue
                ratio = found["update under filelock"].at(0.99) / found["reflow"].at(0.99)
                rows.append((f"{place}, {processes} processes, p99 of filelock over reflow", f"{ratio:,.0f} times"))
                print(f"  {rows[-1][0]}: {rows[-1][1]}", file=sys.stderr, flush=True)
    return Table("contention: RUNNING and SUCCESS of every element, no work between", tuple(rows))


def _places(stack: ExitStack) -> Iterator[tuple[str, Path | str]]:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    yield "disk", folder
    yield "ext4", _journaled(stack, folder)
    (folder / "server").mkdir()
    (folder / "server" / mounts.TRUST).touch()  # else reflow would choose its lease, because FUSE may not have locks
    mount = folder / "mount"
    try:
        stack.enter_context(
            mounted(folder / "server", mount, locks="server", delay=DELAY_MICROSECONDS, cache=0),
        )
    except CannotBuild as error:
        yield "FUSE", f"left out: {error}"
        return
    yield "FUSE", mount


def _journaled(stack: ExitStack, folder: Path) -> Path | str:
    """Mount an ext4 of its own until the stack is closed; return why not where that cannot be."""
    image, mount = folder / "ext4.img", folder / "ext4"
    mount.mkdir()
    with image.open("wb") as file:
        file.truncate(2 << 30)
    for words in (["mkfs.ext4", "-q", "-F", image], ["mount", "-o", "loop", image, mount]):
        try:
            done = subprocess.run(words, capture_output=True, text=True, check=False)
        except FileNotFoundError as error:
            return f"left out: {error}"
        if done.returncode:
            return f"left out: {done.stderr.strip()}"
    stack.callback(subprocess.run, ["umount", "--lazy", mount], check=True)
    return mount


def _contend(folder: Path, place: str, processes: int, name: str) -> Measured:
    manifest = folder / f"{name.split()[0]}-{processes}.db"
    elements = max(2, round(ELEMENTS[place] / processes))
    ids = _make_manifest(manifest, processes * elements)
    children = [_Child(DESIGNS[name], manifest, ids[number::processes]) for number in range(processes)]
    for child in children:
        child.wait_until_ready()
    began = time.perf_counter()
    for child in children:
        child.go()
    blocked = sorted(seconds for child in children for seconds in child.result())
    seconds = time.perf_counter() - began
    _require_all_done(manifest, len(ids))
    return Measured(len(blocked), seconds, blocked)


class _Child:
    """A process that waits for its start together with the others, and tells how long each transition blocked it."""

    def __init__(self, design: Callable[[Path], Transition], manifest: Path, ids: list[int]) -> None:
        self._go_read, self._go_write = os.pipe()
        self._told_read, self._told_write = os.pipe()
        self._process = os.fork()
        if self._process == 0:
            code = 1
            try:
                os.close(self._go_write)
                self._run(design(manifest), ids)
                code = 0
            finally:
                os._exit(code)
        os.close(self._go_read)
        os.close(self._told_write)

    def _run(self, transition: Transition, ids: list[int]) -> None:
        os.write(self._told_write, b"r")
        os.read(self._go_read, 1)
        blocked = []
        for instance in ids:
            began_at = clock.now()
            for report in (
                Report(instance, 1, TaskState.RUNNING, began_at, node="n1"),
                Report(instance, 1, TaskState.SUCCESS, began_at + 1, node="n1", output='{"x":1}', output_hash="0" * 64),
            ):
                began = time.perf_counter()
                transition(report)
                blocked.append(time.perf_counter() - began)
        os.write(self._told_write, struct.pack(f"{len(blocked)}d", *blocked))

    def wait_until_ready(self) -> None:
        if os.read(self._told_read, 1) != b"r":
            raise RuntimeError("a process of the benchmark ended before it began")

    def go(self) -> None:
        os.write(self._go_write, b"g")

    def result(self) -> list[float]:
        told = b""
        while piece := os.read(self._told_read, 65_536):
            told += piece
        code = os.waitstatus_to_exitcode(os.waitpid(self._process, 0)[1])
        os.close(self._told_read)
        os.close(self._go_write)
        if code != 0:
            raise RuntimeError(f"a process of the benchmark ended with {code}")
        return list(struct.unpack(f"{len(told) // 8}d", told))


def _make_manifest(manifest: Path, width: int) -> list[int]:
    with SqliteStore(manifest) as store:
        store.init()
        for name, elements in (("others", WIDTH), ("mine", width)):
            run_id = f"run-{name}"
            store.insert_run(run_id, "benchmark", "someone", {})
            store.insert_task_spec(run_id, "count", True, {}, [])
            store.expand(run_id, "count", (NewInstance(index) for index in range(elements)), elements)
            store.update_task_submitted(run_id, "count", "100")
        return store.instance_ids("run-mine", "count")


def _require_all_done(manifest: Path, width: int) -> None:
    with SqliteStore(manifest) as store:
        counted = store.task_state_summary("run-mine")["count"]
    if counted != {TaskState.SUCCESS: width}:
        raise RuntimeError(f"{manifest.name}: {counted} instead of {width} successes")
