"""I2 under fire: SIGKILL at named points and at random instants of publish, lock, merge, commit, unlink and creation.

After each round the manifest is whole, every report whose publish had returned is merged exactly once, and a fresh
process gets the lock. The long form is `make stress`, which prints the table.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from reflow.states import TaskState
from reflow.stores.records import NewInstance
from reflow.stores.sqlite import SqliteStore

from ..native.building import CannotBuild, library
from . import victims

ROUNDS = int(os.environ.get("REFLOW_KILL_ROUNDS", "30")) * 4

# Instances of a round: those that wait in the spool when it begins, the victim's, and those of a worker beside it.
WAITING, VICTIMS, BESIDE = 12, 6, 4
RANDOM = "at a random instant"


class Victims:
    """The process of ``victims.py``."""

    def __init__(self) -> None:
        environment = dict(os.environ)
        self.reaches_into_sqlite = True
        try:
            environment["LD_PRELOAD"] = str(library("kill_at"))
        except CannotBuild:
            self.reaches_into_sqlite = False
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.stress.victims"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=Path(__file__).parents[2],
        )

    def start(self, **task) -> None:
        self._process.stdin.write(json.dumps(task) + "\n")
        self._process.stdin.flush()

    def result(self) -> dict:
        return json.loads(self._process.stdout.readline())

    def run(self, **task) -> dict:
        self.start(**task)
        return self.result()

    def close(self) -> None:
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


@pytest.fixture
def crews():
    made = [Victims(), Victims()]
    yield made
    for crew in made:
        crew.close()


def points(crew: Victims, leased: bool) -> list[str]:
    """Every named point that can be reached here."""
    other = "lock, " if leased else "lease, "
    return [
        point
        for point in victims.POINTS
        if not point.startswith(other) and (crew.reaches_into_sqlite or ", in the commit, " not in point)
    ]


def integrity(path: Path) -> str:
    connection = sqlite3.connect(path)
    try:
        return connection.execute("PRAGMA integrity_check").fetchone()[0]
    finally:
        connection.close()


class Campaign:
    """The manifest that is fired at, and what happened."""

    def __init__(self, folder: Path, rounds: int, leased: bool) -> None:
        self.folder = folder
        self.leased = leased
        self.store = SqliteStore(folder / "manifest.db", publish_only=leased)
        self.store.init()
        self.store.insert_run("run", "survey", "ann", {})
        self.store.insert_task_spec("run", "count", True, {}, [])
        width = rounds * (WAITING + VICTIMS + BESIDE)
        self.store.expand("run", "count", [NewInstance(index) for index in range(width)], width)
        self.store.update_task_submitted("run", "count", "100")
        self.fresh = self.store.instance_ids("run", "count")
        self.kills: Counter[str] = Counter()
        self.missed: Counter[str] = Counter()
        self.acknowledged: set[int] = set()
        self.longest_wait = 0
        self.lost: set[int] = set()

    def take(self, count: int) -> list[int]:
        taken, self.fresh = self.fresh[:count], self.fresh[count:]
        return taken

    def take_the_lock(self, crew: Victims, path: Path) -> None:
        """Let a fresh process take the lock that a dead one may have held, and give it back."""
        answer = crew.run(manifest=str(path), does="take the lock", leased=self.leased)
        assert answer["code"] == 0
        self.longest_wait = max(self.longest_wait, *answer["acknowledged"])

    def note(self, name: str, code: int) -> None:
        assert code in (0, -signal.SIGKILL), f"{name}: ended with {code}"
        (self.kills if code else self.missed)[name] += 1

    def fire(self, crews: list[Victims], name: str, target: dict) -> None:
        """One round: publish, kill, and look."""
        victim, beside = crews
        waiting = self.take(WAITING)
        for instance in waiting:
            for report in victims.reports_of(instance):
                self.store.publish([report])
        self.acknowledged.update(waiting)
        companions = self.take(BESIDE)
        # A worker beside it in every other round only: it would often do the merge that the victim is to die in.
        crowded = len(self.acknowledged) % 2 == 0 or name == RANDOM
        if crowded:
            beside.start(manifest=str(self.store.path), does="work", instances=companions)
        mine = self.take(VICTIMS)
        ended = victim.run(manifest=str(self.store.path), instances=mine, **target)
        if crowded:
            answer = beside.result()
            assert answer == {"code": 0, "acknowledged": companions}
            self.acknowledged.update(companions)
        self.note(name, ended["code"])
        self.acknowledged.update(ended["acknowledged"])
        self.take_the_lock(beside, self.store.path)
        assert integrity(self.store.path) == "ok"
        assert self.store.merge(wait=True)
        self.look({*waiting, *ended["acknowledged"], *(companions if crowded else [])}, {*waiting, *mine, *companions})

    def create(self, crews: list[Victims], name: str, target: dict) -> None:
        """One round: kill who makes a manifest; the next one makes it, and it works."""
        path = self.folder / f"new-{sum(self.kills.values())}-{sum(self.missed.values())}.db"
        ended = crews[0].run(manifest=str(path), leased=self.leased, **target)
        self.note(name, ended["code"])
        self.take_the_lock(crews[1], path)
        with SqliteStore(path, publish_only=self.leased) as store:
            store.init()
            assert integrity(path) == "ok"
            store.insert_run("run", "survey", "ann", {})
            assert [run.run_id for run in store.list_run_records()] == ["run"]
            assert store.publish_only == self.leased

    def look(self, acknowledged: set[int], all_of: set[int]) -> None:
        """Assert that these are merged once, and that what was not acknowledged is whole or not there."""
        marks = ",".join(map(str, all_of))
        connection = sqlite3.connect(self.store.path)
        rows = connection.execute(
            f"SELECT i.id, s.name, i.attempt, i.output, i.started_at, i.finished_at"
            f" FROM instances i JOIN states s ON s.code = i.state WHERE i.id IN ({marks})"
        ).fetchall()
        counted = connection.execute("SELECT state, count(*) FROM instances GROUP BY state ORDER BY state").fetchall()
        kept = connection.execute("SELECT state, instances FROM counts WHERE instances ORDER BY state").fetchall()
        remarks = connection.execute("SELECT count(*) FROM remarks").fetchone()[0]
        connection.close()
        self.lost |= acknowledged - {row[0] for row in rows if row[1] == TaskState.SUCCESS}
        for instance, state, attempt, output, started_at, finished_at in rows:
            assert attempt == 1
            if state == TaskState.SUCCESS:
                assert (output, started_at, finished_at) == (
                    victims.output_of(instance),
                    1_000_000 + instance,
                    1_000_001 + instance,
                )
            else:
                assert state in (TaskState.SUBMITTED, TaskState.RUNNING)
                assert output is None
        assert counted == kept
        assert remarks == 0

    def table(self) -> str:
        killed, missed = sum(self.kills.values()), sum(self.missed.values())
        rows = [
            *sorted(self.kills.items()),
            ("reports acknowledged", len(self.acknowledged)),
            ("lost", len(self.lost)),
            ("longest wait for the lock, microseconds", self.longest_wait),
        ]
        return "\n".join(
            [
                f"Kill campaign under a {'lease' if self.leased else 'lock'}: {killed + missed:,} rounds, {killed:,} "
                f"kills ({missed:,} victims were done before)",
                *(f"  {name:<46} {count:>7,}" for name, count in rows),
            ]
        )


@pytest.mark.stress
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize(("leased", "rounds"), [(False, ROUNDS), (True, ROUNDS // 4)], ids=["lock", "lease"])
def test_whoever_is_killed_wherever_nothing_published_is_lost(tmp_path, crews, capsys, leased, rounds):
    chance = random.Random(20_261_124)
    campaign = Campaign(tmp_path, rounds, leased)
    named = points(crews[0], leased)
    for number in range(rounds):
        if number % 4 == 3:
            does = chance.choice(["work", "work", "merge"])
            campaign.fire(crews, RANDOM, {"does": does, "kill_after": chance.expovariate(1 / 0.008)})
            continue
        point = named[(number - number // 4) % len(named)]
        does, reach = victims.POINTS[point]
        target = {"does": does, "point": point, "nth": chance.randint(1, reach)}
        (campaign.create if does == "create" else campaign.fire)(crews, point, target)
    with capsys.disabled():
        print(f"\n{campaign.table()}")
    assert campaign.lost == set()
    everything = campaign.store.list_task_instance_records("run", "count", [TaskState.SUCCESS])
    assert campaign.acknowledged <= {record.id for record in everything}
    assert not (campaign.store.spool.path / "rejected").exists()
    # A campaign that does not kill proves nothing.
    assert sum(campaign.kills.values()) > rounds * 0.7
    assert set(campaign.kills) >= {RANDOM, *named} or rounds < 5 * len(named)
