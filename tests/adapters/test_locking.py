"""Locks between real processes, and what mounts say about locks between hosts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from reflow.errors import ManifestError
from reflow.stores import locking, mounts
from reflow.stores.lease import LIFETIME, Lease

# Takes the lock as told, says so, and keeps it until its stdin is closed.
HOLDER = """
import sys
from pathlib import Path
kind, path = sys.argv[1:]
if kind == "flock":
    from reflow.stores import locking
    lock = locking.FileLock(Path(path))
    held = lock.try_acquire()
elif kind == "filelock":
    import filelock
    lock = filelock.FileLock(path)
    lock.acquire(timeout=10)
    held = lock.is_locked
else:
    from reflow.stores.lease import Lease
    lock = Lease(Path(path))
    held = lock.try_acquire()
print(int(held), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def hold_elsewhere():
    """Start a process that takes a lock; returns it once it has answered."""
    started = []

    def start(kind, path):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, kind, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        process.held = process.stdout.readline().strip() == "1"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


@pytest.mark.parametrize("kind", ["flock", "filelock"])
def test_flock_and_filelock_exclude_each_other(tmp_path, hold_elsewhere, kind):
    path = tmp_path / "manifest.db.lock"
    holder = hold_elsewhere(kind, path)
    lock = locking.FileLock(path)
    assert not lock.try_acquire()
    assert not lock.acquire(0.1)
    assert f"process {holder.pid} on this host" in lock.holder()
    holder.kill()
    holder.wait()
    assert lock.try_acquire()
    assert not hold_elsewhere("flock", path).held
    lock.release()
    assert hold_elsewhere("flock", path).held


def test_waiting_for_a_lock_ends_when_it_comes_free(tmp_path, hold_elsewhere):
    path = tmp_path / "x.lock"
    holder = hold_elsewhere("flock", path)
    release = threading.Timer(0.3, holder.stdin.close)
    release.start()
    lock = locking.FileLock(path)
    assert lock.acquire(30)
    assert not hold_elsewhere("flock", path).held
    lock.release()
    assert hold_elsewhere("flock", path).held
    release.join()


def test_a_lock_on_any_file_is_held_for_a_block(tmp_path, hold_elsewhere):
    path = tmp_path / "dispatch.lock"
    with locking.hold(path) as held:
        assert held
        with locking.hold(path) as again:
            assert not again
        assert not hold_elsewhere("flock", path).held
    with locking.hold(path, timeout=1) as held:
        assert held


def test_a_lock_on_a_deleted_file_is_not_taken_for_the_lock(tmp_path):
    path = tmp_path / "x.lock"
    first, second = locking.FileLock(path), locking.FileLock(path)
    assert first.try_acquire()
    path.unlink()
    assert second.try_acquire()
    first.release()
    assert not locking.FileLock(path).try_acquire()
    second.release()


def test_a_child_forked_while_the_lock_is_held_does_not_keep_it(tmp_path):
    lock = locking.FileLock(tmp_path / "x.lock")
    assert lock.try_acquire()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writer)
        os.read(reader, 1)
        os._exit(0)
    os.close(reader)
    lock.release()
    assert lock.try_acquire()
    lock.release()
    os.close(writer)
    os.waitpid(child, 0)


def test_the_self_test_trusts_a_local_disk_and_leaves_nothing(tmp_path):
    report = locking.self_test(tmp_path)
    assert report.is_trusted, report.problem
    assert list(tmp_path.iterdir()) == []
    assert len(report.tried) == 2
    assert "can be relied on" in report.lines()[-1]


MOUNTINFO = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
36 22 0:31 / /home rw,relatime shared:2 - nfs4 server:/home rw,vers=4.1,local_lock=none,addr=10.0.0.1
37 22 0:32 / /scratch rw,relatime shared:3 - nfs server:/scratch rw,vers=3,nolock,local_lock=all,addr=10.0.0.1
38 22 0:33 / /old\\040disk rw,relatime - nfs server:/old rw,vers=3,local_lock=flock
39 22 0:34 / /lustre rw,relatime - lustre mgs:/fs rw,flock,lazystatfs
40 22 0:35 / /lustre/local rw,relatime - lustre mgs:/fs rw,localflock
41 22 0:36 / /lustre/none rw,relatime - lustre mgs:/fs rw,lazystatfs
45 22 0:40 / /sshfs rw,relatime - fuse.sshfs ann@server: rw,user_id=0
46 22 0:41 / /juice rw,relatime - fuse.juicefs JuiceFS:home rw
47 22 0:42 / /usb rw,relatime - fuseblk /dev/sdb1 rw
48 22 0:43 / /windows rw,relatime - cifs //server/share rw,vers=3.0,nobrl
49 22 0:44 / /samba rw,relatime - cifs //server/share rw,vers=3.0
50 22 0:45 / /bee rw,relatime - beegfs beegfs_nodev rw
51 22 0:46 / /afs rw,relatime - afs #root rw
52 22 0:47 / /gpfs rw,relatime - gpfs fs1 rw
42 36 0:37 / /home/ann/tmp rw,relatime - tmpfs tmpfs rw,size=100k
43 22 0:38 / /twice rw,relatime - nfs4 server:/a rw,local_lock=none
44 22 0:39 / /twice rw,relatime - nfs4 server:/a rw,local_lock=posix
this line makes no sense
"""


@pytest.mark.parametrize(
    ("folder", "problem"),
    [
        ("/", ""),
        ("/var/tmp", ""),
        ("/home/ann", ""),
        ("/homestead", ""),
        ("/home/ann/tmp/x", ""),
        ("/scratch/ann", "'nolock'"),
        ("/old disk/ann", "'local_lock=flock'"),
        ("/lustre/ann", ""),
        ("/lustre/local/ann", "'localflock'"),
        ("/lustre/none", "without 'flock'"),
        ("/twice", "'local_lock=posix'"),
        ("/sshfs", "'fuse.sshfs'"),
        ("/juice/ann", ""),
        ("/usb", ""),
        ("/windows", "'nobrl'"),
        ("/samba", ""),
        ("/bee", "BeeGFS"),
        ("/afs", "AFS"),
        ("/gpfs", ""),
    ],
)
def test_mount_options_tell_whether_hosts_share_locks(folder, problem):
    mount = mounts.find_mount(MOUNTINFO, folder)
    found = mounts.judge(mount)
    assert problem in found
    assert bool(found) == bool(problem)


def test_a_person_may_vouch_for_locks_but_not_against_the_options():
    for folder, trusted in [("/sshfs", True), ("/bee", True), ("/scratch/ann", False), ("/lustre/none", False)]:
        mount = mounts.find_mount(MOUNTINFO, folder)
        assert mounts.judge(mount)
        assert (mounts.judge(mount, trusted=True) == "") == trusted


def test_a_mount_that_shows_new_entries_late_is_a_note_and_no_problem():
    mount = mounts.find_mount(
        "36 22 0:31 / /home rw - nfs4 server:/home rw,vers=4.1,nocto,rsize=1048576,local_lock=none", "/home/ann"
    )
    assert mounts.judge(mount) == ""
    assert "'nocto'" in mounts.caution(mount)
    assert mounts.telling_options(mount) == ("local_lock=none", "nocto", "rw", "vers=4.1")


def test_a_lease_has_one_owner_at_a_time(tmp_path, hold_elsewhere):
    path = tmp_path / "manifest.db.lease"
    holder = hold_elsewhere("lease", path)
    assert holder.held
    lease = Lease(path)
    assert not lease.try_acquire()
    assert not lease.acquire(0.3)
    assert lease.holder().startswith(f"process {holder.pid} on host {os.uname().nodename};")
    holder.kill()
    holder.wait()
    assert lease.try_acquire()
    lease.check()
    assert not hold_elsewhere("lease", path).held
    lease.release()
    assert hold_elsewhere("lease", path).held


def give_away(path: Path, owner: str) -> None:
    """Make somebody else the owner of a lease that is free."""
    numbers = [int(entry.name) for entry in path.iterdir()]
    os.symlink(owner, path / str(max(numbers, default=0) + 1))


def test_a_lease_of_another_host_is_respected_until_its_lifetime_is_over(tmp_path):
    path = tmp_path / "lease"
    path.mkdir()
    give_away(path, f"elsewhere 1 1 boot/pid:[1] {time.time() + 5}")
    lease = Lease(path)
    assert not lease.try_acquire()
    assert "host elsewhere" in lease.holder()
    give_away(path, f"elsewhere 1 1 boot/pid:[1] {time.time() - 1}")
    assert lease.try_acquire()


def test_an_owner_that_died_and_was_not_waited_for_is_dead(tmp_path, hold_elsewhere):
    """In a container without an init nobody waits for it, and its process number goes on taking signals."""
    path = tmp_path / "lease"
    holder = hold_elsewhere("lease", path)
    os.kill(holder.pid, signal.SIGKILL)
    os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)
    assert Lease(path).try_acquire()


def test_a_host_of_the_same_name_is_another_host(tmp_path):
    """Nodes that are all called localhost: a process number that does not exist here says nothing about that one."""
    path = tmp_path / "lease"
    path.mkdir()
    give_away(path, f"{os.uname().nodename} 4194304 1 another-boot/pid:[4026531836] {time.time() + 5}")
    assert not Lease(path).try_acquire()


def test_an_owner_that_makes_no_sense_has_the_lease_for_one_lifetime(tmp_path):
    path = tmp_path / "lease"
    path.mkdir()
    give_away(path, "who am I")
    assert not Lease(path).try_acquire()
    assert "1" in Lease(path).holder()
    os.utime(path / "1", (0, time.time() - LIFETIME - 1), follow_symlinks=False)
    assert Lease(path).try_acquire()


def test_the_folder_says_how_long_a_lease_lives_on_all_hosts(tmp_path):
    path = tmp_path / "lease"
    path.mkdir()
    os.symlink("40", path / "lifetime")
    lease = Lease(path)
    assert lease.try_acquire()
    (owner,) = (os.readlink(entry) for entry in path.iterdir() if entry.name.isdecimal())
    assert time.time() + 30 < float(owner.split()[-1]) < time.time() + 41
    lease.release()
    (path / "lifetime").unlink()
    os.symlink("not a number", path / "lifetime")
    assert lease.try_acquire()
    assert not Lease(path).try_acquire()


def test_a_turn_of_many_writes_renews_its_lease(tmp_path):
    path = tmp_path / "lease"
    path.mkdir()
    os.symlink("8", path / "lifetime")
    lease = Lease(path)
    assert lease.try_acquire()
    while (path / "1").is_symlink():  # until it has been renewed, an eighth of its lifetime from now
        lease.renew()
        lease.check()
    assert not Lease(path).try_acquire()
    lease.check()
    lease.release()
    assert Lease(path).try_acquire()


def test_what_was_taken_over_is_not_renewed(tmp_path):
    path = tmp_path / "lease"
    path.mkdir()
    os.symlink("0.01", path / "lifetime")
    late, other = Lease(path), Lease(path)
    assert late.try_acquire()
    assert other.acquire(10)
    other.release()
    with pytest.raises(ManifestError, match="lease"):
        late.renew()
    late.release()
    assert len([entry for entry in path.iterdir() if entry.name.isdecimal()]) == 1


def test_a_create_whose_answer_was_lost_is_still_ones_own(tmp_path):
    """NFS: the client asks again and is told that the name exists. It is what it has just made itself."""
    program = """
import os, sys
from pathlib import Path
symlink = os.symlink
def twice(*words):
    symlink(*words)
    symlink(*words)
os.symlink = twice
from reflow.states import TaskState
from reflow.stores.lease import Lease
from reflow.stores.records import Report
from reflow.stores.spool import Spool
folder = Path(sys.argv[1])
lease = Lease(folder / "lease")
assert lease.try_acquire()
assert not Lease(folder / "lease").try_acquire()
lease.release()
assert Lease(folder / "lease").try_acquire()
Spool(folder / "manifest.db").publish([Report(1, 1, TaskState.SUCCESS, 1)])
assert len(Spool(folder / "manifest.db").names()) == 1
"""
    answer = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False)
    assert answer.stderr == ""


def test_an_owner_whose_lease_was_taken_over_commits_nothing(tmp_path):
    lease = Lease(tmp_path / "lease")
    assert lease.try_acquire()
    lease.check()
    give_away(lease.path, f"elsewhere 1 1 boot/pid:[1] {time.time() + 9}")
    with pytest.raises(ManifestError, match="lease"):
        lease.check()
    lease.release()
    assert not Lease(lease.path).try_acquire()


def test_a_lease_does_not_pile_up_entries(tmp_path):
    lease = Lease(tmp_path / "lease")
    for _ in range(20):
        assert lease.try_acquire()
        lease.release()
    assert len(list(lease.path.iterdir())) <= 2


def test_of_many_processes_that_want_the_lease_one_at_a_time_gets_it(tmp_path):
    program = """
import sys
from pathlib import Path
from reflow.stores.lease import Lease
lease, counter = Lease(Path(sys.argv[1]) / "lease"), Path(sys.argv[1]) / "counter"
for _ in range(10):
    assert lease.acquire(60)
    number = int(counter.read_text())
    counter.write_text(str(number + 1))
    lease.check()
    lease.release()
"""
    (tmp_path / "counter").write_text("0")
    workers = [subprocess.Popen([sys.executable, "-c", program, str(tmp_path)]) for _ in range(6)]
    assert [worker.wait(120) for worker in workers] == [0] * 6
    assert (tmp_path / "counter").read_text() == "60"


def test_whether_a_lock_is_taken_is_told_without_taking_or_creating_it(tmp_path, hold_elsewhere):
    path = tmp_path / "manifest.db.lock"
    assert not locking.is_taken(path)
    assert not path.exists()
    holder = hold_elsewhere("flock", path)
    assert locking.is_taken(path)
    holder.stdin.close()
    holder.wait()
    assert not locking.is_taken(path)
    assert locking.FileLock(path).try_acquire()
