"""I2: a published report is never lost, whoever publishes, merges, reads or dies at the same time."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from reflow.states import TaskState
from reflow.stores.records import NewInstance
from reflow.stores.sqlite import SqliteStore

ROUNDS = int(os.environ.get("REFLOW_KILL_ROUNDS", "30"))

# What a worker does with the manifest: RUNNING, then SUCCESS, each published and then merged if nobody else does.
WORKER = """
import sys, time
from reflow.states import TaskState
from reflow.stores.records import Report
from reflow.stores.spool import Spool
manifest, instances = sys.argv[1], [int(word) for word in sys.argv[2:]]
spool = Spool(manifest)
from reflow.stores.sqlite import SqliteStore
store = SqliteStore(manifest)
for instance in instances:
    now = time.time_ns() // 1000
    spool.publish([Report(instance, 1, TaskState.RUNNING, now, node="n1")])
    store.merge()
    output = '"' + str(instance) * (1 if instance % 2 else 2_000) + '"'
    spool.publish([Report(instance, 1, TaskState.SUCCESS, now + 1, node="n1", output=output, started_at=now)])
    print(instance, flush=True)
    store.merge()
"""


@pytest.fixture
def store(tmp_path):
    with SqliteStore(tmp_path / "manifest.db") as made:
        made.init()
        made.insert_run("run", "survey", "ann", {})
        made.insert_task_spec("run", "count", True, {}, [])
        yield made


def expand(store: SqliteStore, width: int) -> list[int]:
    store.expand("run", "count", [NewInstance(index) for index in range(width)], width)
    store.update_task_submitted("run", "count", "100")
    return store.instance_ids("run", "count")


def output_of(instance: int) -> str:
    """What the worker returns: small results travel as symlinks, large ones as files."""
    return str(instance) * (1 if instance % 2 else 2_000)


def start(program: str, *arguments: object) -> subprocess.Popen[str]:
    words = [str(argument) for argument in arguments]
    return subprocess.Popen(
        [sys.executable, "-c", program, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def assert_whole(path: Path) -> None:
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


@pytest.mark.stress
def test_64_workers_report_at_once_while_others_read(store):
    ids = expand(store, 64 * 5)
    workers = [start(WORKER, store.path, *ids[first::64]) for first in range(64)]
    over = threading.Event()
    seen: list[int] = []
    totals: set[int] = set()

    def read() -> None:
        with SqliteStore(store.path, readonly=True) as reader:
            while not over.is_set():
                summary = reader.task_state_summary("run")["count"]
                seen.append(summary.get("SUCCESS", 0))
                totals.add(sum(summary.values()))

    reader = threading.Thread(target=read)
    reader.start()
    # A person's command has to get its turn too, while all of them merge.
    store.request_dispatch("run")
    answers = [worker.communicate(timeout=240) for worker in workers]
    over.set()
    reader.join()
    assert [error for _, error in answers if error] == []
    assert [worker.returncode for worker in workers] == [0] * 64
    # No merge here: the workers themselves must have left nothing behind.
    assert store.spool.is_empty()
    assert store.task_state_summary("run") == {"count": {"SUCCESS": len(ids)}}
    assert store.get_array_outputs("run", "count") == [output_of(instance) for instance in ids]
    assert seen == sorted(seen)
    assert len(seen) > 1
    assert totals == {len(ids)}
    assert_whole(store.path)


@pytest.mark.stress
def test_nothing_published_is_lost_when_workers_are_killed(store):
    """Kill -9 at random instants; what a worker acknowledged before must be there in the end."""
    chance = random.Random(20_240_607)
    ids = expand(store, ROUNDS * 3 * 10)
    acknowledged: set[int] = set()
    for number in range(ROUNDS):
        mine = ids[number * 30 : number * 30 + 30]
        workers = [start(WORKER, store.path, *mine[first::3]) for first in range(3)]
        for worker in workers:
            assert worker.stdout is not None
            acknowledged.add(int(worker.stdout.readline()))  # all of them are at work by now
        time.sleep(chance.uniform(0, 0.05))
        for worker in workers[:2]:
            worker.send_signal(signal.SIGKILL)
        for worker in workers:
            output, error = worker.communicate(timeout=120)
            assert error == ""
            # A line that was cut off was not acknowledged.
            acknowledged.update(int(line) for line in output.splitlines(keepends=True) if line.endswith("\n"))
    assert store.merge(wait=True)
    merged = store.list_task_instance_records("run", "count", [TaskState.SUCCESS])
    assert acknowledged <= {record.id for record in merged}
    assert len(acknowledged) > ROUNDS * 10
    for record in merged:
        assert record.output == output_of(record.id)
        assert record.started_at is not None
    counted = store.task_state_summary("run")["count"]
    assert sum(counted.values()) == len(ids)
    assert counted["SUCCESS"] == len(merged)
    assert not (store.spool.path / "rejected").exists()
    assert_whole(store.path)


# Merges again and again, so that a kill hits a merge at some instant.
MERGER = """
import sys
from reflow.stores.sqlite import SqliteStore
store = SqliteStore(sys.argv[1])
print("ready", flush=True)
while True:
    store.merge(wait=True)
"""


@pytest.mark.stress
def test_nothing_published_is_lost_when_a_merge_is_killed(store):
    from reflow.stores.records import Report

    chance = random.Random(7)
    ids = expand(store, ROUNDS * 200)
    for number in range(ROUNDS):
        merger = start(MERGER, store.path)
        assert merger.stdout is not None
        assert merger.stdout.readline() == "ready\n"
        mine = ids[number * 200 : number * 200 + 200]
        killer = threading.Timer(chance.uniform(0.001, 0.1), merger.kill)
        killer.start()
        for instance in mine:
            store.publish([Report(instance, 1, TaskState.SUCCESS, 5, output=str(instance))])
        killer.join()
        _, error = merger.communicate(timeout=60)
        assert error == ""
        # The lock of a dead holder is free at once, and the next one mends what it left.
        assert store.merge(wait=True)
    assert store.task_state_summary("run") == {"count": {"SUCCESS": len(ids)}}
    assert store.get_array_outputs("run", "count") == ids
    assert all(store.list_remarks(instance) == [] for instance in ids)
    assert_whole(store.path)
