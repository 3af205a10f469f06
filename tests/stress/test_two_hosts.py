"""Two hosts that share a folder, but not its locks: what NFS does with 'nolock' or 'local_lock=all'.

Each host has a name, a network, process numbers and a mount of its own; the kernel plays the locks of each mount by
itself, and caches its files by itself.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections import Counter
from pathlib import Path

import pytest

from reflow.states import TaskState
from reflow.stores.records import NewInstance
from reflow.stores.sqlite import SqliteStore

from ..native.building import CannotBuild
from ..native.hosts import Host
from . import victims

HERE = Path(__file__).parents[2]

# Seconds after which a lease of a dead host may be taken over, here; 20 minutes where people work.
LIFETIME = 3


@pytest.fixture
def folder(tmp_path):
    """Where the hosts see the shared folder; `shared` itself is on the server."""
    (tmp_path / "shared").mkdir()
    return tmp_path / "seen"


@pytest.fixture
def hosts(tmp_path, folder):
    made = []
    try:
        for name in ("north", "south"):
            made.append(Host(name, tmp_path / "shared", folder))
        yield made
    except CannotBuild as error:
        pytest.skip(str(error))
    finally:
        for host in made:
            host.close()


HOLD = """
import sys
from pathlib import Path
from reflow.stores.locking import FileLock
lock = FileLock(Path(sys.argv[1]))
print(int(lock.try_acquire()), flush=True)
sys.stdin.read()
"""


@pytest.mark.stress
def test_the_locks_of_one_host_really_do_not_reach_the_other(hosts, folder):
    """Without this, the other tests here would prove nothing."""
    north, south = hosts
    assert north.answer("import os; print(os.uname().nodename)") == "north"
    assert south.answer("import os; print(os.getpid() < 100)") == "True"
    holder = north.python(HOLD, folder / "x.lock")
    assert holder.stdout.readline() == "1\n"
    try_it = HOLD.replace("sys.stdin.read()", "")
    assert north.answer(try_it, folder / "x.lock") == "0"
    assert south.answer(try_it, folder / "x.lock") == "1"
    holder.communicate()


SELF_TEST = """
import sys
from reflow.stores import locking
report = locking.self_test(sys.argv[1])
print(report.is_trusted, report.kind, len(report.tried), report.problem)
"""


@pytest.mark.stress
def test_the_self_test_does_not_trust_locks_that_look_right_from_one_host(hosts, folder, tmp_path):
    for host in hosts:
        said = host.answer(SELF_TEST, folder)
        assert said.startswith("False fuse.shared_folder 2 ")
        assert "may keep locks on each host" in said
    (tmp_path / "shared" / ".reflow-locks-are-global").touch()
    assert hosts[0].answer(SELF_TEST, folder).startswith("True fuse.shared_folder 2")


INIT = """
import sys
from reflow.stores.sqlite import SqliteStore
store = SqliteStore(sys.argv[1])
store.init()
print(store.publish_only)
"""


@pytest.mark.stress
def test_a_manifest_made_in_such_a_place_is_publish_only_on_every_host(hosts, folder):
    north, south = hosts
    maker = north.python(INIT, folder / "manifest.db")
    output, error = maker.communicate()
    assert output == "True\n"
    assert "workers will only publish" in error
    assert south.answer(INIT, folder / "manifest.db") == "True"


@pytest.mark.stress
def test_a_host_with_locks_of_its_own_publishes_to_a_manifest_of_others_and_leaves_the_rest(hosts, folder, tmp_path):
    """The login node sees the folder with locks that work, a compute node does not."""
    with SqliteStore(tmp_path / "shared" / "manifest.db") as store:
        store.init()
        instance = a_run(store, 1)[0]
        said = (
            hosts[0]
            .answer(
                f"import sys\nsys.path.insert(0, {str(HERE)!r})\n"
                """
from reflow.errors import ManifestError
from reflow.stores.sqlite import SqliteStore
from tests.stress import victims
store = SqliteStore(sys.argv[1])
store.publish(victims.reports_of(int(sys.argv[2])))
print(store.publish_only, store.merge())
try: store.cancel("run")
except ManifestError as error: print(error)
""",
                folder / "manifest.db",
                instance,
            )
            .splitlines()
        )
        assert said[0] == "True False"
        assert "host north must not write" in said[1]
        assert store.merge()
        assert store.task_state_summary("run") == {"count": {"SUCCESS": 1}}


def a_run(store: SqliteStore, width: int) -> list[int]:
    store.insert_run("run", "survey", "ann", {})
    store.insert_task_spec("run", "count", True, {}, [])
    store.expand("run", "count", [NewInstance(index) for index in range(width)], width)
    store.update_task_submitted("run", "count", "100")
    return store.instance_ids("run", "count")


def make_leased(shared: Path, width: int) -> list[int]:
    """Make the manifest on the server, with a short lease."""
    with SqliteStore(shared / "manifest.db", publish_only=True) as store:
        store.init()
        os.symlink(str(LIFETIME), shared / "manifest.db.lease" / "lifetime")
        return a_run(store, width)


# A sentinel that merges again and again, and dies at its n-th passing of a named point while it owns the lease.
SENTINEL = f"""
import sys
sys.path.insert(0, {str(HERE)!r})
from tests.stress import victims
from reflow.stores.sqlite import SqliteStore
manifest, point, nth = sys.argv[1:]
victims.set_trap(point, int(nth))
store = SqliteStore(manifest)
print("ready", flush=True)
while True:
    store.merge(wait=True)
"""

WORKER = f"""
import sys
sys.path.insert(0, {str(HERE)!r})
from tests.stress import victims
from reflow.stores.spool import Spool
spool = Spool(sys.argv[1])
for instance in map(int, sys.argv[2:]):
    for report in victims.reports_of(instance):
        spool.publish([report])
    print(instance, flush=True)
"""

DEATHS = [
    "merge, in the transaction",
    "merge, between commit and unlink",
    "lease, just taken",
]
if "REFLOW_KILL_ROUNDS" in os.environ:
    DEATHS += ["merge, before commit", "merge, in unlink", "lease, just given back"] * 3


@pytest.mark.stress
def test_owners_of_the_lease_die_on_either_host_and_nothing_is_lost(hosts, folder, tmp_path, capsys):
    north, south = hosts
    manifest = folder / "manifest.db"
    ids = make_leased(tmp_path / "shared", 240)
    pieces = [ids[first :: len(DEATHS)] for first in range(len(DEATHS))]
    waits = Counter()
    acknowledged = set()
    for number, (point, mine) in enumerate(zip(DEATHS, pieces, strict=True)):
        here, there = (north, south) if number % 2 == 0 else (south, north)
        sentinel = here.python(SENTINEL, manifest, point, 1)
        assert sentinel.stdout.readline() == "ready\n"
        workers = [host.python(WORKER, manifest, *mine[start::4]) for start, host in enumerate([here, there] * 2)]
        for worker in workers:
            output, error = worker.communicate(timeout=60)
            assert error == ""
            acknowledged.update(int(line) for line in output.split())
        _, error = sentinel.communicate(timeout=60)
        assert (sentinel.returncode, error) == (-signal.SIGKILL, "")
        # The other host has to wait until the lease is over; on the same host death shows at once.
        began = time.monotonic()
        successor = there if number % 3 else here
        successor.answer(
            "import sys\nfrom reflow.stores.sqlite import SqliteStore\nSqliteStore(sys.argv[1]).merge(wait=True)",
            manifest,
        )
        waits["same host" if successor is here else "other host"] = max(
            waits["same host" if successor is here else "other host"], round(time.monotonic() - began, 1)
        )
    assert acknowledged == set(ids)
    with sqlite3.connect(tmp_path / "shared" / "manifest.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("SELECT count(*) FROM remarks").fetchone() == (0,)
    connection.close()
    with SqliteStore(tmp_path / "shared" / "manifest.db", readonly=True) as store:
        assert store.spool.is_empty()
        assert store.task_state_summary("run") == {"count": {"SUCCESS": len(ids)}}
        records = store.list_task_instance_records("run", "count", [TaskState.SUCCESS])
        assert all(record.output == victims.output_of(record.id).strip('"') for record in records)
    with capsys.disabled():
        print(f"\nLongest wait after the death of an owner whose lease lasts {LIFETIME} s: {dict(waits)}")


# A merge that stands still between its write and its commit for longer than its lease lasts.
SLEEPER = f"""
import sqlite3, sys
sys.path.insert(0, {str(HERE)!r})
from tests.stress import victims
from reflow.errors import ManifestError
from reflow.stores.sqlite import SqliteStore
from reflow.stores.records import NewInstance
class Stop:
    written = 0
    def spring(self):
        self.written += 1
        if self.written == 2:  # each statement inserts 5,000 rows of a kilobyte
            print("writing", flush=True)
            sys.stdin.readline()
victims._statement(Stop(), "INSERT INTO instances")
store = SqliteStore(sys.argv[1])
store.insert_task_spec("run", "large", True, {{}}, [])
rows = [NewInstance(index, '"' + "x" * 1_000 + '"') for index in range(int(sys.argv[2]))]
try:
    store.expand("run", "large", rows, len(rows))
except ManifestError as error:
    print(error)
"""


@pytest.mark.stress
def test_an_owner_that_slept_beyond_its_lease_leaves_the_next_ones_work_alone(hosts, folder, tmp_path):
    """Its transaction is larger than SQLite's cache. Rolling it back must not touch the file any more."""
    north, south = hosts
    manifest = folder / "manifest.db"
    ids = make_leased(tmp_path / "shared", 40)
    sleeper = north.python(SLEEPER, manifest, 50_000)
    assert sleeper.stdout.readline() == "writing\n"
    south.answer(WORKER, manifest, *ids)
    south.answer(
        "import sys\nfrom reflow.stores.sqlite import SqliteStore\nassert SqliteStore(sys.argv[1]).merge(wait=True)",
        manifest,
    )
    output, error = sleeper.communicate("\n", timeout=60)
    assert error == ""
    assert "nothing of it was written" in output
    with sqlite3.connect(tmp_path / "shared" / "manifest.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
    with SqliteStore(tmp_path / "shared" / "manifest.db") as store:
        assert store.task_state_summary("run") == {"count": {"SUCCESS": 40}}


READER = """
import sys
from reflow.stores.sqlite import SqliteStore
store = SqliteStore(sys.argv[1], readonly=True)
seen = [0]
while seen[-1] < int(sys.argv[2]):
    summary = store.task_state_summary("run")["count"]
    records = store.list_task_instance_records("run", "count")
    assert sum(summary.values()) == len(records) == int(sys.argv[2]), summary
    assert all((record.output is not None) == (record.state == "SUCCESS") for record in records)
    seen.append(sum(record.state == "SUCCESS" for record in records))
assert seen == sorted(seen), seen
print(len(seen))
"""


@pytest.mark.stress
def test_a_reader_on_the_other_host_sees_whole_states_only(hosts, folder, tmp_path):
    north, south = hosts
    manifest = folder / "manifest.db"
    ids = make_leased(tmp_path / "shared", 300)
    reader = south.python(READER, manifest, len(ids))
    merger = north.python(
        WORKER.replace("    print(instance, flush=True)", "    store.merge(wait=True)").replace(
            "spool = ", "from reflow.stores.sqlite import SqliteStore\nstore = SqliteStore(sys.argv[1])\nspool = "
        ),
        manifest,
        *ids,
    )
    _, error = merger.communicate(timeout=120)
    assert error == ""
    output, error = reader.communicate(timeout=120)
    assert error == ""
    assert int(output) > 3


RUN = f"""
import sys
sys.path.insert(0, {str(HERE)!r})
from pathlib import Path
from reflow import LocalExecutor
from reflow.stores.sqlite import SqliteStore
from tests.flows import scenarios
shared, name, own = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
store = SqliteStore(shared / "manifest.db")
executor = LocalExecutor(folder=own, cpus=2)
scenarios.fan_out_chain_and_gather(shared / name, store, executor, width=4, seconds=120)
print(store.publish_only)
"""


@pytest.mark.stress
def test_whole_runs_of_two_hosts_share_one_manifest(hosts, folder, tmp_path):
    """Submit, workers, sentinels and waiting persons on both hosts, all writes under one lease."""
    processes = [host.python(RUN, folder, host.name, tmp_path / host.name) for host in hosts]
    for process in processes:
        output, error = process.communicate(timeout=200)
        assert (output, process.returncode) == ("True\n", 0), error
    with SqliteStore(tmp_path / "shared" / "manifest.db", readonly=True) as store:
        assert [run.status for run in store.list_run_records()] == ["SUCCESS", "SUCCESS"]
        assert store.spool.is_empty()
    with sqlite3.connect(tmp_path / "shared" / "manifest.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
