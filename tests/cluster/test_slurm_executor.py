"""The Slurm executor against a real Slurm: strange paths, ends, cancels, chains."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from reflow.errors import SubmitRefused
from reflow.executors.base import After, Dependency, Job, JobResources, JobStatus
from reflow.executors.slurm import SlurmExecutor
from reflow.indices import Indices
from reflow.testing.daemons import wait_until

# Slurm expands "%j" in the folder of the submit as well, and takes a backslash there for an escape.
STRANGE = ["a 0", 'a"=0"', "a'; echo foo", "a\n0", "p%j%A_%a%%", "back\\slash", "-dash", "$HOME", "é漢", "\n%j\\ \"'"]

SMALL = JobResources(mem="20M", options={"comment": "say \"hi\" 'you' \\ #1"})


def make_job(run_dir: Path, name: str, code: str, **changes) -> Job:
    """Return a job whose worker runs Python code."""
    job = Job(name, (sys.executable, "-c", code), SMALL, run_dir, f"{name}%j.log", run_dir)
    return replace(job, **changes)


def submit(executor: SlurmExecutor, job: Job) -> str:
    script = job.run_dir / f"{job.name}.sh"
    script.write_text(executor.render(job), encoding="utf-8")
    return executor.submit(script, job)


def statuses(executor: SlurmExecutor, job_id: str) -> dict[int | None, JobStatus]:
    return {slot: answer.status for (_, slot), answer in executor.query([job_id]).items()}


def wait_for(executor: SlurmExecutor, job_id: str, expected: dict[int | None, JobStatus]) -> None:
    wait_until(lambda: statuses(executor, job_id) == expected, f"the slots of {job_id} are {expected}")


def test_array_runs_and_logs_in_a_folder_of_any_name(on_cluster, tmp_path):
    executor = SlurmExecutor(environment={"VALUE": "a'b\"c\n$HOME \\ é"})
    tell = "import json, os, sys; print(json.dumps([os.getcwd(), os.environ['VALUE'], sys.argv[1:]]))"
    jobs = {}
    for number, strange in enumerate(STRANGE):
        folder = tmp_path / strange
        folder.mkdir()
        job = make_job(folder, f"strange.{number}", tell, slots=Indices([0, 3]))
        job = replace(job, command=(*job.command, strange))
        jobs[strange] = (job, submit(executor, job))
    for strange, (job, job_id) in jobs.items():
        wait_for(executor, job_id, dict.fromkeys((0, 3), JobStatus.COMPLETED))
        assert executor.find(job.name) == job_id
        told = [json.loads(line) for line in (job.run_dir / job.log).read_text().splitlines()]
        assert sorted(told) == [[str(job.run_dir), "a'b\"c\n$HOME \\ é", [strange, slot]] for slot in ("0", "3")]


def test_exit_codes_and_signals_are_those_of_the_worker(on_cluster, tmp_path):
    code = "import os, sys; slot = int(sys.argv[1]); slot < 100 and sys.exit(slot); os.kill(os.getpid(), slot - 100)"
    job = make_job(tmp_path, "ends", code, slots=Indices([0, 1, 9, 109, 111]))
    executor = SlurmExecutor()
    job_id = submit(executor, job)
    failed = dict.fromkeys((1, 9, 109, 111), JobStatus.FAILED)
    wait_for(executor, job_id, {0: JobStatus.COMPLETED, **failed})
    ends = {slot: (answer.exit_code, answer.signal) for (_, slot), answer in executor.query([job_id]).items()}
    assert ends == {0: (0, None), 1: (1, None), 9: (9, None), 109: (None, 9), 111: (None, 11)}


def test_failing_setup_line_is_in_the_jobs_log(on_cluster, tmp_path):
    executor = SlurmExecutor(setup=["module load no-such-module"])
    job = make_job(tmp_path, "setup", "print('never')")
    job_id = submit(executor, job)
    wait_for(executor, job_id, {None: JobStatus.FAILED})
    log = (tmp_path / job.log).read_text()
    assert "the job ends before its task begins: exit code" in log
    assert "of: module load no-such-module" in log
    assert "never" not in log


def test_chain_drops_only_the_element_whose_parent_failed(on_cluster, tmp_path):
    executor = SlurmExecutor()
    parent = make_job(tmp_path, "parent", "import sys; sys.exit(sys.argv[1] == '1')", slots=Indices.range(0, 3))
    parent_id = submit(executor, parent)
    child = make_job(
        tmp_path, "child", "pass", slots=Indices.range(0, 3), after=(Dependency(After.CORRESPONDING, parent_id),)
    )
    child_id = submit(executor, child)
    wait_for(
        executor,
        child_id,
        {0: JobStatus.COMPLETED, 1: JobStatus.DEPENDENCY, 2: JobStatus.COMPLETED},
    )


def test_cancelled_slots_are_gone_and_the_others_stay(on_cluster, tmp_path):
    executor = SlurmExecutor()
    job = make_job(tmp_path, "long", "import time; time.sleep(600)", slots=Indices.range(0, 400), throttle=2)
    job_id = submit(executor, job)
    waiting = dict.fromkeys(range(2, 400), JobStatus.PENDING)
    wait_for(executor, job_id, {0: JobStatus.RUNNING, 1: JobStatus.RUNNING, **waiting})
    even = Indices(range(2, 400, 2))
    executor.cancel([job_id], {job_id: even})
    waiting = dict.fromkeys(range(3, 400, 2), JobStatus.PENDING)
    wait_for(executor, job_id, {0: JobStatus.RUNNING, 1: JobStatus.RUNNING, **waiting})
    executor.cancel([job_id, "4000000"])
    wait_until(lambda: set(statuses(executor, job_id).values()) == {JobStatus.CANCELLED}, "all is cancelled")


def test_unknown_partition_is_refused_in_slurms_own_words(on_cluster, tmp_path):
    executor = SlurmExecutor(submit_options={"partition": "nope"})
    with pytest.raises(SubmitRefused, match="Invalid partition name specified"):
        submit(executor, make_job(tmp_path, "refused", "pass"))


def test_unknown_jobs_are_unknown_and_the_limit_is_the_clusters(on_cluster):
    executor = SlurmExecutor()
    assert executor.query(["4000000"]) == {}
    assert executor.query(["4000000", "4000001"]) == {}
    assert executor.find("no-such-job") is None
    assert f"MaxArraySize            = {executor.limits().max_array_size}\n" in on_cluster.scontrol("show", "config")


def test_without_accounting_ends_are_known_while_the_queue_remembers(on_cluster_without_accounting, tmp_path):
    executor = SlurmExecutor()
    job = make_job(tmp_path, "unaccounted", "import sys; sys.exit(int(sys.argv[1]))", slots=Indices.range(0, 2))
    job_id = submit(executor, job)
    wait_for(executor, job_id, {0: JobStatus.COMPLETED, 1: JobStatus.FAILED})
    assert executor.query([job_id])[job_id, 1].exit_code == 1
    assert executor.find("unaccounted") == job_id
    assert executor.find("no-such-job") is None
