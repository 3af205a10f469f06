"""A removal that is killed at random instants: the next one ends it, and nothing of another run is touched."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections import Counter

import pytest

from reflow.cleaning import plan_named, remove
from reflow.paths import RunFolder
from reflow.states import RunState, TaskState
from reflow.stores.health import Health
from reflow.stores.records import NewInstance, Report
from reflow.stores.sqlite import SqliteStore
from reflow.stores.upkeep import Upkeep

ROUNDS = int(os.environ.get("REFLOW_KILL_ROUNDS", "30")) // 3
WIDTH, FILES = 200, 200

REMOVE = """
import sys
from reflow.stores import upkeep
from reflow.cleaning import plan_named, remove
upkeep.ROWS_PER_TURN = 10
with upkeep.Upkeep(sys.argv[1]) as opened:
    planned = plan_named(opened, [sys.argv[2]])
    print("ready", flush=True)
    remove(opened, planned, print)
"""


def create(store: SqliteStore, folder, run_id: str) -> None:
    """Record a run that went well, with logs."""
    store.insert_run(run_id, "survey", "ann", {})
    store.update_run_settings(run_id, {"run_dir": str(folder)})
    store.insert_task_spec(run_id, "count", True, {}, [])
    store.expand(run_id, "count", [NewInstance(index) for index in range(WIDTH)], WIDTH)
    ids = store.instance_ids(run_id, "count")
    store.apply([Report(instance, 1, TaskState.SUCCESS, 5, output="1", output_hash="5f" * 32) for instance in ids])
    store.update_run_status(run_id, RunState.SUCCESS)
    logs = RunFolder(folder, run_id).path / "logs" / "count"
    logs.mkdir(parents=True)
    for number in range(FILES):
        (logs / f"{number}.1.log").write_text("said something")


def rows_left(store: SqliteStore, run_id: str) -> int:
    return len(store.list_task_instance_records(run_id))


@pytest.mark.stress
def test_a_removal_may_be_killed_anywhere(tmp_path, capsys):
    chance = random.Random(4711)
    phases: Counter[str] = Counter()
    with SqliteStore(tmp_path / "manifest.db") as store:
        store.init()
        create(store, tmp_path, "kept")
        for number in range(ROUNDS):
            run_id = f"run{number}"
            create(store, tmp_path, run_id)
            words = [sys.executable, "-c", REMOVE, str(store.path), run_id]
            with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
                assert process.stdout is not None
                process.stdout.readline()
                try:
                    process.wait(chance.uniform(0, 0.06))
                except subprocess.TimeoutExpired:
                    process.send_signal(signal.SIGKILL)
            with Upkeep(store.path) as upkeep:
                found = upkeep.removable_runs(run_ids=[run_id])
                hidden = bool(found) and found[0].is_half_removed
                phases["ended" if not found else "not begun" if not hidden else _phase(store, run_id)] += 1
                assert (store.get_run(run_id) is None) == (hidden or not found)
                if found:
                    remove(upkeep, plan_named(upkeep, [run_id]), print)
                assert not upkeep.removable_runs(run_ids=[run_id])
            assert not RunFolder(tmp_path, run_id).path.exists()
            assert rows_left(store, "kept") == WIDTH
            health = Health(store.path)
            assert [finding.problem for finding in health.findings()] == []
            health.close()
        assert len(list((RunFolder(tmp_path, "kept").path / "logs" / "count").iterdir())) == FILES
    with capsys.disabled():
        print(f"\n{ROUNDS} removals killed: {dict(phases)}, lost 0")


def _phase(store: SqliteStore, run_id: str) -> str:
    return "among rows" if rows_left(store, run_id) else "among files"
