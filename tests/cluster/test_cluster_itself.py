"""The private Slurm is a real one, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from reflow.testing.cluster import ClusterError, PrivateSlurm
from reflow.testing.daemons import wait_until

# A process that hides as well as it can: a session of its own, no environment, no parent.
HIDING = 'setsid -f env -i sh -c \'echo $$ > "$0.tmp" && mv "$0.tmp" "$0" && exec sleep 600\' {file}'


def submit(cluster: PrivateSlurm, command: str, *options: str) -> str:
    """Submit a shell command and return the job id."""
    return cluster.run("sbatch", "--parsable", "--output=/dev/null", *options, "--wrap", command).strip()


def wait_for_state(cluster: PrivateSlurm, job: str, state: str) -> None:
    """Return once squeue shows the job or array element in that state."""
    wait_until(lambda: cluster.squeue().get(job) == state, f"job {job} is {state}")


def is_alive(process: int) -> bool:
    """Return whether a process of that id exists, zombies included."""
    return Path(f"/proc/{process}").exists()


def account(cluster: PrivateSlurm, job: str) -> dict[str, tuple[str, str]]:
    """Return state and exit code of every element of an array from sacct."""
    lines = cluster.run("sacct", "-X", "-n", "-P", "-j", job, "-o", "JobID,State,ExitCode").splitlines()
    return {name: (state, code) for name, state, code in (line.split("|") for line in lines)}


def test_every_element_of_an_array_runs_and_sacct_tells_how_it_ended(cluster, tmp_path):
    job = submit(cluster, f"echo ran > {tmp_path}/$SLURM_ARRAY_TASK_ID; exit $SLURM_ARRAY_TASK_ID", "--array=0-3")
    expected = {
        f"{job}_0": ("COMPLETED", "0:0"),
        f"{job}_1": ("FAILED", "1:0"),
        f"{job}_2": ("FAILED", "2:0"),
        f"{job}_3": ("FAILED", "3:0"),
    }
    wait_until(lambda: account(cluster, job) == expected, f"sacct tells {expected}")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1", "2", "3"]


def test_aftercorr_waits_for_the_own_element_only(cluster):
    first = submit(cluster, "sleep 0.2; test $SLURM_ARRAY_TASK_ID != 1", "--array=0-2")
    second = submit(cluster, "true", "--array=0-2", f"--dependency=aftercorr:{first}", "--kill-on-invalid-dep=yes")
    wait_for_state(cluster, f"{first}_1", "FAILED")
    wait_for_state(cluster, f"{second}_0", "COMPLETED")
    wait_for_state(cluster, f"{second}_1", "CANCELLED")
    wait_for_state(cluster, f"{second}_2", "COMPLETED")


def test_requeued_job_starts_again_with_its_restart_count(cluster, tmp_path):
    starts = tmp_path / "starts"
    job = submit(cluster, f"echo ${{SLURM_RESTART_COUNT:-0}} >> {starts}; sleep 600", "--requeue")
    wait_until(starts.exists, "the job has started")
    cluster.scontrol("requeue", job)
    wait_until(lambda: starts.read_text().split() == ["0", "1"], "the job has started twice")
    cluster.run("scancel", job)


def test_scancel_ends_one_element_and_leaves_its_neighbour(cluster):
    job = submit(cluster, "sleep 600", "--array=0-1")
    wait_for_state(cluster, f"{job}_0", "RUNNING")
    wait_for_state(cluster, f"{job}_1", "RUNNING")
    cluster.run("scancel", f"{job}_0")
    wait_for_state(cluster, f"{job}_0", "CANCELLED")
    assert cluster.squeue()[f"{job}_1"] == "RUNNING"
    cluster.cancel_all()
    assert cluster.squeue()[f"{job}_1"] == "CANCELLED"


def test_without_accounting_squeue_answers_and_sacct_refuses(cluster_without_accounting):
    job = submit(cluster_without_accounting, "exit 3")
    wait_for_state(cluster_without_accounting, job, "FAILED")
    with pytest.raises(ClusterError, match="accounting storage is disabled"):
        cluster_without_accounting.run("sacct", "-j", job)


def test_limits_of_the_account_are_enforced():
    with PrivateSlurm(nodes=1, config_lines=["AccountingStorageEnforce=limits"]) as cluster:
        cluster.run("sacctmgr", "-i", "modify", "account", "test", "set", "MaxSubmitJobs=2")
        with pytest.raises(ClusterError, match="AssocMaxSubmitJobLimit"):
            submit(cluster, "true", "--array=0-2")
        job = submit(cluster, "true", "--array=0-1")
        wait_for_state(cluster, f"{job}_1", "COMPLETED")


def test_jobs_survive_a_crash_of_the_controller_and_end_with_their_node(tmp_path):
    hiding = tmp_path / "hiding"
    with PrivateSlurm(nodes=2, accounting=False) as cluster:
        doomed, safe = cluster.nodes
        job = submit(cluster, f"{HIDING.format(file=hiding)}; sleep 600", f"--nodelist={doomed}", "--no-requeue")
        neighbour = submit(cluster, "sleep 600", f"--nodelist={safe}")
        wait_until(hiding.exists, "the job has started")
        wait_for_state(cluster, neighbour, "RUNNING")

        # Killed within about 6 s of a start, slurmctld would not remember it: have it saved first.
        cluster.stop_controller()
        cluster.start_controller()
        cluster.stop_controller(kill=True)
        cluster.start_controller()
        assert cluster.squeue() == {job: "RUNNING", neighbour: "RUNNING"}

        cluster.kill_node(doomed)
        assert not is_alive(int(hiding.read_text()))
        cluster.scontrol("update", f"NodeName={doomed}", "State=DOWN", "Reason=test")
        wait_for_state(cluster, job, "NODE_FAIL")
        assert cluster.squeue()[neighbour] == "RUNNING"

        cluster.start_node(doomed)
        wait_for_state(cluster, submit(cluster, "true", f"--nodelist={doomed}"), "COMPLETED")


@pytest.mark.skipif(
    os.geteuid() != 0 or not Path("/sys/fs/cgroup/memory").exists(),
    reason="memory limits need root and control groups of version 1",
)
def test_job_over_its_memory_ends_out_of_memory():
    with PrivateSlurm(nodes=1, accounting=False, memory_limits=True) as cluster:
        job = submit(cluster, f"{sys.executable} -c 'bytearray(300_000_000)'", "--mem=50M")
        wait_for_state(cluster, job, "OUT_OF_MEMORY")


def test_stop_leaves_no_process_and_no_folder(tmp_path):
    hiding = tmp_path / "hiding"
    cluster = PrivateSlurm(nodes=1)
    cluster.start()
    folder = cluster.folder
    submit(cluster, f"{HIDING.format(file=hiding)}; sleep 600")
    wait_until(hiding.exists, "the job has started")
    assert processes_of(folder)
    cluster.stop()
    assert not is_alive(int(hiding.read_text()))
    assert processes_of(folder) == []
    assert not folder.exists()


def test_killed_session_leaves_no_process(tmp_path):
    hiding, folder = tmp_path / "hiding", Path(f"/tmp/reflow-killed-{os.getpid()}")
    script = f"""
import subprocess, time
from reflow.testing.cluster import PrivateSlurm
cluster = PrivateSlurm(folder={str(folder)!r}, nodes=1, accounting=False)
cluster.start()
cluster.run("sbatch", "--output=/dev/null", "--wrap", {HIDING.format(file=hiding) + "; sleep 600"!r})
time.sleep(600)
"""
    session = subprocess.Popen([sys.executable, "-c", script])
    try:
        wait_until(lambda: hiding.exists() or session.poll() is not None, "the job has started")
        session.send_signal(signal.SIGKILL)
        session.wait()
        assert hiding.exists()
        wait_until(lambda: not is_alive(int(hiding.read_text())), "the job's process is dead")
        wait_until(lambda: processes_of(folder) == [], "all daemons are dead")
    finally:
        session.kill()
        session.wait()
        subprocess.run(["rm", "-rf", str(folder)], check=True)


def test_daemon_that_cannot_start_is_named_with_its_own_words():
    cluster = PrivateSlurm(nodes=1, accounting=False, config_lines=["NoSuchOption=1"])
    with pytest.raises(ClusterError, match=r"(?s)slurmctld ended.*unrecognized key: NoSuchOption"):
        cluster.start()
    with pytest.raises(ClusterError, match="does not run"):
        cluster.folder  # noqa: B018  (nothing may be left of the failed start)


def test_folder_too_long_for_sockets_is_refused_and_not_left_behind(tmp_path):
    folder = tmp_path / ("long" * 20)
    with pytest.raises(ClusterError, match="too long for Slurm's unix sockets"):
        PrivateSlurm(folder=folder, accounting=False).start()
    assert not folder.exists()


def processes_of(folder: Path) -> list[int]:
    """Return the processes whose command or environment names the folder of a cluster."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        try:
            told = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
        except OSError:  # ended meanwhile, or another user's
            continue
        if bytes(folder) + b"/" in told:
            found.append(int(entry.name))
    return found
