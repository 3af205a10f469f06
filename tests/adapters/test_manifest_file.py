"""The manifest as a file: who may open it, what goes wrong with files, and how processes share it."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from reflow.errors import ManifestError, ReflowError
from reflow.states import RunState, TaskState
from reflow.stores import locking
from reflow.stores.records import NewInstance, Report
from reflow.stores.sqlite import SqliteStore


@pytest.fixture
def store(tmp_path):
    with SqliteStore(tmp_path / "manifest.db") as made:
        made.init()
        made.insert_run("run", "survey", "ann", {})
        yield made


def files_of(folder: Path) -> dict[str, tuple[float, bytes]]:
    return {
        str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in sorted(folder.rglob("*")) if path.is_file()
    }


def test_the_path_comes_from_the_environment_then_the_configuration_then_the_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("REFLOW_STORE_PATH", raising=False)
    config = SimpleNamespace(store_path=tmp_path / "configured.db")
    assert SqliteStore.default_path() == tmp_path / "cache" / "reflow" / "manifest.db"
    assert SqliteStore.default_path(SimpleNamespace(store_path=None)) == SqliteStore.default_path()
    assert SqliteStore.default_path(config) == tmp_path / "configured.db"
    monkeypatch.setenv("REFLOW_STORE_PATH", str(tmp_path / "environment.db"))
    assert SqliteStore.default_path(config) == tmp_path / "environment.db"
    assert SqliteStore.default(config, readonly=True).path == tmp_path / "environment.db"
    assert SqliteStore.for_run_dir(tmp_path).path == tmp_path / "manifest.db"
    assert not (tmp_path / "cache").exists()


def test_init_makes_the_folders_and_a_file_only_the_user_can_read(tmp_path):
    with SqliteStore(tmp_path / "a" / "b" / "manifest.db") as store:
        store.init()
        assert stat.S_IMODE(store.path.stat().st_mode) == 0o600


def test_many_processes_may_init_at_once(tmp_path):
    program = (
        "import os, sys\nfrom reflow.stores.sqlite import SqliteStore\nstore = SqliteStore(sys.argv[1])\n"
        "store.init()\nstore.insert_run(str(os.getpid()), 'survey', 'ann', {})"
    )
    path = tmp_path / "new" / "manifest.db"
    workers = [subprocess.Popen([sys.executable, "-c", program, str(path)]) for _ in range(8)]
    assert [worker.wait(120) for worker in workers] == [0] * 8
    with SqliteStore(path, readonly=True) as store:
        assert {run.run_id for run in store.list_run_records()} == {str(worker.pid) for worker in workers}


def test_a_manifest_never_is_in_wal_mode(store):
    store.close()
    connection = sqlite3.connect(store.path)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    connection.close()


def test_a_missing_manifest_is_an_error_and_stays_missing(tmp_path):
    for readonly in (True, False):
        store = SqliteStore(tmp_path / "manifest.db", readonly)
        with pytest.raises(ManifestError, match=r"manifest\.db"):
            store.list_run_records()
    with pytest.raises(ManifestError):
        SqliteStore(tmp_path / "manifest.db", readonly=True).init()
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database_is_an_error_and_stays_as_it_is(tmp_path):
    path = tmp_path / "manifest.db"
    path.write_text("dear diary, " * 1_000)
    before = path.read_bytes()
    for readonly in (True, False):
        with pytest.raises(ManifestError, match="not a manifest"):
            SqliteStore(path, readonly).init()
    assert path.read_bytes() == before


def test_another_programs_database_is_left_alone(tmp_path):
    connection = sqlite3.connect(tmp_path / "other.db")
    connection.execute("CREATE TABLE runs (x)")
    connection.commit()
    connection.close()
    before = (tmp_path / "other.db").read_bytes()
    with pytest.raises(ManifestError, match="another program"):
        SqliteStore(tmp_path / "other.db").init()
    assert (tmp_path / "other.db").read_bytes() == before


def test_a_newer_schema_is_one_clear_sentence(store):
    store.close()
    connection = sqlite3.connect(store.path)
    connection.execute("PRAGMA user_version = 999")
    connection.commit()
    connection.close()
    for use in (store.init, store.list_run_records, lambda: store.get_run("run")):
        with pytest.raises(ManifestError, match=r"newer reflow .*upgrade reflow"):
            use()


@pytest.mark.parametrize("folder_is_there", [True, False])
def test_a_folder_in_place_of_the_manifest_is_an_error(tmp_path, folder_is_there):
    path = tmp_path / "manifest.db" if folder_is_there else tmp_path / "file" / "manifest.db"
    if folder_is_there:
        path.mkdir()
    else:
        path.parent.write_text("a file is in the way")
    with pytest.raises(ManifestError):
        SqliteStore(path).init()


def test_a_damaged_manifest_is_an_error_that_names_it(store):
    store.close()
    content = bytearray(store.path.read_bytes())
    content[4_096:] = b"\x00\xff" * ((len(content) - 4_096) // 2)
    store.path.write_bytes(bytes(content))
    with pytest.raises(ManifestError, match=r"manifest\.db"):
        store.list_task_instances("run")


def as_an_ordinary_user(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program without the rights of root, whom permissions do not stop."""
    drop = "import os\nif os.getuid() == 0: os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
    # Imports come first: the user may not be able to read the environment's folders.
    program = "from reflow.stores.sqlite import SqliteStore\nfrom reflow.errors import ManifestError\n" + drop + program
    return subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)


def make_reachable(folder: Path) -> None:
    for parent in [folder, *folder.parents]:
        if parent == Path(tempfile.gettempdir()):
            break
        parent.chmod(parent.stat().st_mode | 0o055)


def test_permission_denied_is_an_error_that_says_what_to_check(store, tmp_path):
    store.close()
    make_reachable(tmp_path)
    store.path.chmod(0o000)
    answer = as_an_ordinary_user(
        "import sys\ntry: SqliteStore(sys.argv[1]).list_run_records()\nexcept ManifestError as error: print(error)",
        str(store.path),
    )
    assert "manifest.db" in answer.stdout, answer.stderr
    assert "cannot be opened" in answer.stdout


def test_a_manifest_in_a_folder_that_cannot_be_written_can_be_read(store, tmp_path):
    store.close()
    store.path.chmod(0o644)
    (tmp_path / "manifest.db.lock").unlink()
    make_reachable(tmp_path)
    tmp_path.chmod(0o555)
    program = """
import sys
print([run.run_id for run in SqliteStore(sys.argv[1], readonly=True).list_run_records()])
try: SqliteStore(sys.argv[1]).update_run_status("run", "FAILED")
except ManifestError as error: print(error)
"""
    answer = as_an_ordinary_user(program, str(store.path))
    tmp_path.chmod(0o755)
    assert answer.stdout.startswith("['run']"), answer.stderr
    assert "manifest.db" in answer.stdout.splitlines()[1]


def test_a_full_disk_is_an_error_and_nothing_is_half_written(store):
    store.close()
    program = """
import resource, signal, sys
from reflow.errors import ManifestError
from reflow.stores.sqlite import SqliteStore
store = SqliteStore(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
try: store.insert_run("large", "survey", "ann", {"x": "y" * 1_000_000})
except ManifestError as error: print(error)
"""
    answer = subprocess.run(
        [sys.executable, "-c", program, str(store.path)], capture_output=True, text=True, check=False
    )
    assert "manifest.db" in answer.stdout, answer.stderr
    assert store.get_run("large") is None
    store.insert_run("small", "survey", "ann", {})


class TestReadonly:
    def test_it_reads_and_refuses_to_write(self, store):
        reader = SqliteStore(store.path, readonly=True)
        assert reader.get_run("run")["status"] == "RUNNING"
        for write in (
            lambda: reader.update_run_status("run", RunState.FAILED),
            lambda: reader.insert_run("x", "y", "z", {}),
            lambda: reader.apply([Report(1, 1, TaskState.RUNNING, 1)]),
            lambda: reader.cancel("run"),
        ):
            with pytest.raises(ManifestError, match="read-only"):
                write()
        reader.init()
        assert reader.merge() is False
        reader.close()

    def test_it_touches_nothing(self, store, tmp_path):
        store.close()
        before = files_of(tmp_path)
        with SqliteStore(store.path, readonly=True) as reader:
            reader.init()
            reader.summarize("run")
            reader.list_task_instances("run")
            assert reader.lookup_cached("count", ["abc"]) == {}
            assert reader.published_output(1) is None
            reader.merge()
        assert files_of(tmp_path) == before

    def test_it_sees_at_once_what_others_commit(self, store):
        reader = SqliteStore(store.path, readonly=True)
        for number in range(20):
            store.insert_run(f"run{number}", "survey", "ann", {})
            assert len(reader.list_run_records()) == number + 2
        reader.close()

    def test_a_write_that_was_cut_off_by_death_is_told_and_mended_by_the_next_writer(self, store, tmp_path):
        store.close()
        # Keeps the journal of a transaction whose pages have reached the file, as a killed process would.
        connection = sqlite3.connect(store.path, isolation_level=None)
        connection.execute("PRAGMA cache_size = 1")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("UPDATE runs SET status = 'FAILED'")
        values = [(f"r{number}", "x" * 1_000) for number in range(500)]
        connection.executemany(
            "INSERT INTO runs (run_id, graph_name, user_id, created_at, status, parameters, settings)"
            " VALUES (?, '', '', 0, 'RUNNING', ?, '{}')",
            values,
        )
        died = tmp_path / "died"
        died.mkdir()
        for name in ("manifest.db", "manifest.db-journal"):
            shutil.copy(tmp_path / name, died / name)
        connection.execute("ROLLBACK")
        connection.close()

        reader = SqliteStore(died / "manifest.db", readonly=True)
        with pytest.raises(ManifestError, match="unfinished write"):
            reader.list_run_records()
        with SqliteStore(died / "manifest.db") as writer:
            assert [(run.run_id, run.status) for run in writer.list_run_records()] == [("run", RunState.RUNNING)]
        assert len(reader.list_run_records()) == 1
        reader.close()


class TestSharing:
    def test_threads_may_share_a_store(self, store):
        store.insert_task_spec("run", "count", True, {}, [])
        store.expand("run", "count", [NewInstance(index) for index in range(200)], 200)
        ids = store.instance_ids("run", "count")
        failures = []

        def work(mine):
            try:
                for instance in mine:
                    store.publish([Report(instance, 1, TaskState.SUCCESS, 5, output="1")])
                    store.merge()
                    store.task_state_summary("run")
            except ReflowError as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(ids[start::4],)) for start in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert store.task_state_summary("run") == {"count": {"SUCCESS": 200}}

    def test_a_forked_child_uses_a_connection_of_its_own(self, store):
        child = os.fork()
        if child == 0:
            store.insert_run("child", "survey", "ann", {})
            os._exit(0 if len(store.list_run_records()) == 2 else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        store.insert_run("parent", "survey", "ann", {})
        assert {run.run_id for run in store.list_run_records()} == {"run", "child", "parent"}

    def test_an_error_inside_a_turn_leaves_no_lock_and_no_trace(self, store):
        store.insert_task_spec("run", "count", True, {}, [])
        with pytest.raises(ManifestError):
            store.expand("run", "count", [NewInstance(0), NewInstance(1, cached_from=99)], 2)
        with locking.hold(f"{store.path}.lock") as held:
            assert held
        assert store.count_task_instances("run", "count") == 0

    @pytest.mark.parametrize("name", ["a 0", 'a"=0"', "a'; echo foo", "a\n0", "a%20?b#c", "ü"])
    def test_paths_may_be_awkward(self, tmp_path, name):
        with SqliteStore(tmp_path / name / "manifest.db") as store:
            store.init()
            store.insert_run("run", "survey", "ann", {})
        assert SqliteStore(tmp_path / name / "manifest.db", readonly=True).get_run("run")
        assert [path.name for path in tmp_path.iterdir()] == [name]

    def test_a_relative_path_survives_a_change_of_folder(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with SqliteStore("manifest.db") as store:
            store.init()
            (tmp_path / "elsewhere").mkdir()
            monkeypatch.chdir(tmp_path / "elsewhere")
            store.close()
            assert store.list_run_records() == []


class TestPublishOnly:
    @pytest.fixture
    def leased(self, tmp_path):
        with SqliteStore(tmp_path / "manifest.db", publish_only=True) as made:
            made.init()
            made.insert_run("run", "survey", "ann", {})
            yield made

    def test_everybody_who_opens_the_manifest_knows(self, leased):
        assert leased.publish_only
        assert SqliteStore(leased.path).publish_only
        assert SqliteStore(leased.path, readonly=True).publish_only

    def test_a_manifest_with_locks_is_not_publish_only(self, store):
        assert not store.publish_only
        assert not SqliteStore(store.path, publish_only=True).publish_only

    def test_writes_take_the_lease_and_not_the_lock(self, leased, tmp_path):
        instance = leased.insert_task_instance("run", "count", 0, TaskState.PENDING, None)
        leased.publish([Report(instance, 1, TaskState.SUCCESS, 5, output="1")])
        assert leased.merge()
        assert leased.task_state_summary("run") == {"count": {"SUCCESS": 1}}
        assert not (tmp_path / "manifest.db.lock").exists()

    def test_a_merge_does_not_wait_for_the_lease_of_a_living_process(self, leased):
        from reflow.stores.lease import Lease

        instance = leased.insert_task_instance("run", "count", 0, TaskState.PENDING, None)
        leased.publish([Report(instance, 1, TaskState.SUCCESS, 5, output="1")])
        other = Lease(Path(f"{leased.path}.lease"))
        assert other.try_acquire()
        assert leased.merge() is False
        other.release()
        assert leased.merge()
