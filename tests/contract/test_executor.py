"""What every executor promises, told once and tried on each: this machine's queue, and Slurm as the fake plays it."""

from __future__ import annotations

import itertools
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from reflow.executors.base import (
    After,
    Dependency,
    Executor,
    Job,
    JobResources,
    JobStatus,
    SlotStatus,
)
from reflow.executors.local import LocalExecutor
from reflow.executors.slurm import SlurmExecutor
from reflow.indices import Indices
from reflow.testing.cluster_fixture import private_slurm, private_slurm_session

__all__ = ["private_slurm", "private_slurm_session"]

PATIENCE = 60.0

# Names are unique over all jobs of a cluster, as reflow's are.
_NUMBERS = itertools.count(os.getpid() * 1_000)


def wait_until(condition: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:g} s for this: {what}"
        time.sleep(0.02)


@dataclass
class Bench:
    """One executor, a run directory, and short ways to submit shell lines and to wait."""

    executor: Executor
    run_dir: Path
    names: Iterator[int] = field(default_factory=lambda: _NUMBERS)
    #: Whether time limits are kept to the second; the real Slurm rounds up to minutes.
    seconds_matter: bool = True

    def job(self, shell: str, slots: str | None = None, **changes: object) -> Job:
        """A job of which each slot runs `shell` with the slot as ``$1``."""
        job = Job(
            name=f"job-{next(self.names)}",
            command=("bash", "-c", shell, "bash"),
            resources=JobResources(time="00:10:00", mem="10M"),
            run_dir=self.run_dir,
            log="job.log",
            working_dir=self.run_dir,
            slots=None if slots is None else Indices.parse(slots),
        )
        return replace(job, **changes)

    def script(self, job: Job) -> Path:
        script = self.run_dir / f"{job.name}.sh"
        script.write_text(self.executor.render(job))
        return script

    def submit(self, shell: str, slots: str | None = None, **changes: object) -> str:
        job = self.job(shell, slots, **changes)
        return self.executor.submit(self.script(job), job)

    def answers(self, job_id: str) -> dict[int | None, SlotStatus]:
        return {slot: answer for (asked, slot), answer in self.executor.query([job_id]).items() if asked == job_id}

    def statuses(self, job_id: str) -> dict[int | None, JobStatus]:
        return {slot: answer.status for slot, answer in self.answers(job_id).items()}

    def wait(self, job_id: str) -> dict[int | None, SlotStatus]:
        """Wait until every slot that the scheduler knows of is over."""
        last: Mapping[int | None, SlotStatus] = {}

        def is_over() -> bool:
            nonlocal last
            last = self.answers(job_id)
            return bool(last) and all(answer.status.is_over for answer in last.values())

        wait_until(is_over, f"job {job_id} is over")
        return dict(last)

    def lines(self, name: str) -> list[str]:
        path = self.run_dir / name
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture(params=["local", "fake-slurm", pytest.param("slurm", marks=pytest.mark.cluster)])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    if request.param == "local":
        executor = LocalExecutor(folder=str(tmp_path / "queue"), cpus=3)
        yield Bench(executor, run_dir)
        executor.queue.stop()
    elif request.param == "fake-slurm":
        request.getfixturevalue("fake_slurm")
        yield Bench(SlurmExecutor(), run_dir)
    else:
        request.getfixturevalue("private_slurm")
        yield Bench(SlurmExecutor(), run_dir, seconds_matter=False)


def test_an_array_runs_every_slot_once_and_tells_each_its_number(bench: Bench) -> None:
    job_id = bench.submit('echo "$1" >> ran', "0-4,7,20-22")
    answers = bench.wait(job_id)
    assert sorted(map(int, bench.lines("ran"))) == [0, 1, 2, 3, 4, 7, 20, 21, 22]
    assert {slot: answer.status for slot, answer in answers.items()} == dict.fromkeys(
        [0, 1, 2, 3, 4, 7, 20, 21, 22], JobStatus.COMPLETED
    )


def test_a_plain_job_has_the_slot_none_and_gets_a_zero(bench: Bench) -> None:
    answers = bench.wait(bench.submit('echo "$1" >> ran'))
    assert {slot: answer.status for slot, answer in answers.items()} == {None: JobStatus.COMPLETED}
    assert bench.lines("ran") == ["0"]


def test_a_failed_script_is_reported_with_its_exit_code_and_node(bench: Bench) -> None:
    answer = bench.wait(bench.submit("exit 3"))[None]
    assert (answer.status, answer.exit_code, answer.signal) == (JobStatus.FAILED, 3, None)
    assert answer.node


def test_a_killed_script_is_reported_with_the_signal(bench: Bench) -> None:
    answer = bench.wait(bench.submit("kill -SEGV $$"))[None]
    assert (answer.status, answer.signal) == (JobStatus.FAILED, signal.SIGSEGV)


def test_the_throttle_is_never_exceeded(bench: Bench) -> None:
    watch = "echo begin >> watch; sleep 0.1; echo end >> watch"
    bench.wait(bench.submit(watch, "0-7", throttle=2))
    running = most = 0
    for line in bench.lines("watch"):
        running += 1 if line == "begin" else -1
        most = max(most, running)
    assert len(bench.lines("watch")) == 16
    assert most == 2


def test_afterany_starts_once_the_other_has_ended_even_if_it_failed(bench: Bench) -> None:
    first = bench.submit("sleep 0.2; echo first >> order; exit 1", "0-1")
    second = bench.submit("echo second >> order", after=(Dependency(After.ANY, first),))
    assert bench.wait(second)[None].status is JobStatus.COMPLETED
    assert bench.lines("order") == ["first", "first", "second"]


def test_afterok_of_a_failed_job_is_dropped_and_reported_as_dependency(bench: Bench) -> None:
    first = bench.submit('exit "$1"', "0-1")
    second = bench.submit("echo ran >> ran", after=(Dependency(After.OK, first),))
    assert bench.wait(second)[None].status is JobStatus.DEPENDENCY
    assert bench.lines("ran") == []


def test_aftercorr_starts_each_element_behind_its_own(bench: Bench) -> None:
    # Slot 1 of the first waits for slot 0 of the second: no order of whole jobs could end well.
    first = bench.submit('if [ "$1" = 1 ]; then until [ -e go ]; do sleep 0.02; done; fi', "0-1")
    second = bench.submit('if [ "$1" = 0 ]; then touch go; fi', "0-1", after=(Dependency(After.CORRESPONDING, first),))
    assert {slot: answer.status for slot, answer in bench.wait(second).items()} == {
        0: JobStatus.COMPLETED,
        1: JobStatus.COMPLETED,
    }


def test_only_the_follower_of_a_failed_element_is_dropped_along_a_chain(bench: Bench) -> None:
    first = bench.submit("exit $(( $1 == 1 ))", "0-2")
    second = bench.submit("true", "0-2", after=(Dependency(After.CORRESPONDING, first),))
    third = bench.submit('echo "$1" >> third', "0-2", after=(Dependency(After.CORRESPONDING, second),))
    assert {slot: answer.status for slot, answer in bench.wait(third).items()} == {
        0: JobStatus.COMPLETED,
        1: JobStatus.DEPENDENCY,
        2: JobStatus.COMPLETED,
    }
    assert bench.statuses(second)[1] is JobStatus.DEPENDENCY
    assert sorted(bench.lines("third")) == ["0", "2"]


def test_cancel_ends_what_runs_and_what_waits_and_leaves_nothing_running(bench: Bench) -> None:
    job_id = bench.submit('sleep 600 & echo "$! $$" >> pids; wait', "0-5", throttle=2)
    wait_until(lambda: len(bench.lines("pids")) == 2, "two slots run")
    bench.executor.cancel([job_id])
    answers = bench.wait(job_id)
    assert {answer.status for answer in answers.values()} == {JobStatus.CANCELLED}
    pids = [int(pid) for line in bench.lines("pids") for pid in line.split()]
    assert len(pids) == 4
    wait_until(lambda: not any(is_alive(pid) for pid in pids), "all processes are gone")


def test_cancel_of_some_slots_leaves_the_others_alone(bench: Bench) -> None:
    shell = 'if [ "$1" = 0 ]; then touch started; sleep 600; fi; echo "$1" >> ran'
    job_id = bench.submit(shell, "0-3", throttle=1)
    wait_until((bench.run_dir / "started").exists, "the first slot runs")
    bench.executor.cancel([job_id], {job_id: Indices([0, 2])})
    bench.wait(job_id)
    wait_until(lambda: sorted(bench.lines("ran")) == ["1", "3"], "the others have run")
    assert bench.statuses(job_id)[0] is JobStatus.CANCELLED


def test_cancel_of_jobs_that_are_over_or_unknown_is_no_error(bench: Bench) -> None:
    job_id = bench.submit("true")
    bench.wait(job_id)
    bench.executor.cancel([job_id, unknown(job_id)])
    assert bench.statuses(job_id) == {None: JobStatus.COMPLETED}


def test_a_job_is_found_by_its_name_while_it_lives_and_afterwards(bench: Bench) -> None:
    job = bench.job("true", "0-1")
    assert bench.executor.find(job.name) is None
    job_id = bench.executor.submit(bench.script(job), job)
    assert bench.executor.find(job.name) == job_id
    bench.wait(job_id)
    assert bench.executor.find(job.name) == job_id


def test_a_query_tells_nothing_of_a_job_that_the_scheduler_does_not_know(bench: Bench) -> None:
    job_id = bench.submit("true")
    bench.wait(job_id)
    answer = bench.executor.query([unknown(job_id), job_id])
    assert set(answer) == {(job_id, None)}


def test_one_query_tells_of_many_jobs(bench: Bench) -> None:
    jobs = [bench.submit("true"), bench.submit("true", "3,5")]
    for job_id in jobs:
        bench.wait(job_id)
    assert set(bench.executor.query(jobs)) == {(jobs[0], None), (jobs[1], 3), (jobs[1], 5)}


def test_a_job_that_takes_too_long_gets_sigterm_and_ends_as_timeout(bench: Bench) -> None:
    if not bench.seconds_matter:
        pytest.skip("the shortest limit of a real Slurm is a minute")
    resources = JobResources(time="00:00:01", mem="10M")
    shell = 'trap "echo warned >> warned; exit 0" TERM; while :; do sleep 0.05; done'
    answer = bench.wait(bench.submit(shell, resources=resources))[None]
    assert answer.status is JobStatus.TIMEOUT
    assert bench.lines("warned") == ["warned"]


def test_a_job_that_ignores_sigterm_is_killed(bench: Bench) -> None:
    if not bench.seconds_matter:
        pytest.skip("the shortest limit of a real Slurm is a minute")
    resources = JobResources(time="00:00:01", mem="10M")
    shell = 'trap "" TERM; echo $$ >> pid; while :; do sleep 0.05; done'
    job_id = bench.submit(shell, resources=resources)
    assert bench.wait(job_id)[None].status is JobStatus.TIMEOUT
    wait_until(lambda: not is_alive(int(bench.lines("pid")[0])), "the process is gone")


def test_the_log_has_what_the_command_printed_to_both_streams_and_is_appended_to(bench: Bench) -> None:
    (bench.run_dir / "job.log").write_text("before\n")
    bench.wait(bench.submit("echo out; echo err >&2"))
    assert bench.lines("job.log") == ["before", "out", "err"]


def test_a_job_whose_log_cannot_be_opened_fails(bench: Bench) -> None:
    answer = bench.wait(bench.submit("touch ran", log="missing/job.log"))[None]
    assert answer.status is JobStatus.FAILED
    assert answer.reason == "JobLaunchFailure"
    assert not (bench.run_dir / "ran").exists()


def test_setup_lines_and_variables_come_before_the_command(bench: Bench) -> None:
    job_id = bench.submit(
        'printf "%s|%s" "$FROM_SETUP" "$GIVEN" > said',
        setup=("export FROM_SETUP=setup",),
        environment={"GIVEN": "it's $HOME"},
    )
    bench.wait(job_id)
    assert (bench.run_dir / "said").read_text() == "setup|it's $HOME"


def test_a_failing_setup_line_ends_the_job_before_its_command(bench: Bench) -> None:
    answer = bench.wait(bench.submit("touch ran", setup=("(exit 7)",)))[None]
    assert (answer.status, answer.exit_code) == (JobStatus.FAILED, 7)
    assert not (bench.run_dir / "ran").exists()


@pytest.mark.parametrize(
    "strange", ["a 0", 'a"=0"', "a'; echo foo", "a\n0", "$HOME `id` \\", "100%done", "ünïcødé ☃", "-rf"]
)
def test_a_run_directory_of_any_name_works(bench: Bench, strange: str) -> None:
    bench.run_dir = bench.run_dir / strange
    bench.run_dir.mkdir()
    job_id = bench.submit('echo "$1" > here', log=f"{strange}.log")
    assert bench.wait(job_id)[None].status is JobStatus.COMPLETED
    assert bench.lines("here") == ["0"]
    assert (bench.run_dir / f"{strange}.log").exists()


def test_an_equal_executor_is_made_from_the_settings(bench: Bench) -> None:
    job_id = bench.submit("true", "0-2")
    bench.wait(job_id)
    twin = type(bench.executor)(**bench.executor.settings())
    assert twin.settings() == bench.executor.settings()
    assert twin.query([job_id]) == bench.executor.query([job_id])


def test_jobs_go_on_when_the_submitting_process_is_gone(bench: Bench) -> None:
    job = bench.job('echo "$1" >> ran', "0-3")
    script = bench.script(job)
    program = f"""
from pathlib import Path
from reflow.executors.base import Job, JobResources
from reflow.executors.{bench.executor.name} import {type(bench.executor).__name__} as Made
from reflow.indices import Indices
folder = Path({str(job.run_dir)!r})
job = Job(name={job.name!r}, command={job.command!r}, resources=JobResources(mem="10M"), run_dir=folder,
          log="job.log", working_dir=folder, slots=Indices.parse("0-3"))
print(Made(**{bench.executor.settings()!r}).submit(Path({str(script)!r}), job), end="")
"""
    submitted = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, env=with_reflow(), timeout=60
    )
    assert submitted.returncode == 0, submitted.stderr
    answers = bench.wait(submitted.stdout)
    assert {answer.status for answer in answers.values()} == {JobStatus.COMPLETED}
    assert sorted(bench.lines("ran")) == ["0", "1", "2", "3"]


def test_the_script_is_the_one_that_was_submitted_even_if_the_file_changes(bench: Bench) -> None:
    first = bench.submit("until [ -e go ]; do sleep 0.02; done")
    job = bench.job("echo old > said", after=(Dependency(After.ANY, first),))
    script = bench.script(job)
    job_id = bench.executor.submit(script, job)
    script.write_text("#!/bin/bash\necho new > said\n")
    (bench.run_dir / "go").touch()
    bench.wait(job_id)
    assert bench.lines("said") == ["old"]


def is_alive(pid: int) -> bool:
    """Whether the process lives; one that only nobody has waited for does not."""
    try:
        return ") Z" not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def unknown(job_id: str) -> str:
    number, at, machine = job_id.partition("@")
    return f"{int(number) + 1_000_000}{at}{machine}"


def with_reflow() -> dict[str, str]:
    root = str(Path(__file__).resolve().parents[2])
    return {**os.environ, "PYTHONPATH": shlex.quote(root) if " " in root else root}
