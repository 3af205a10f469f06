"""The local queue's runner: it may be killed at any instant, and nothing is lost or run twice."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from signal import SIGINT, SIGPIPE, SIGQUIT, SIGXFSZ

import pytest

from reflow.executors.base import JobStatus
from reflow.executors.localqueue import JobHistory, LocalQueue, QueuedJob, QueueSettings
from reflow.indices import Indices


def wait_until(condition: Callable[[], object], what: str, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:g} s for this: {what}"
        time.sleep(0.01)


class Bench:
    def __init__(self, folder: Path, **settings: float) -> None:
        self.folder = folder
        self.settings = QueueSettings({"here": 4}, **{"linger": 0.2, "kill_wait": 0.5, **settings})
        self.queue = LocalQueue(folder / "queue", self.settings)

    def submit(self, script: str, slots: str | None = None, **changes: object) -> int:
        parsed = None if slots is None else Indices.parse(slots)
        values = {"id": 0, "name": "job", "folder": str(self.folder), "output": "log", "slots": parsed, **changes}
        return self.queue.submit(QueuedJob(**values), script.encode(), dict(os.environ))

    def history(self, job_id: int) -> JobHistory:
        found = self.queue.history(job_id)
        assert found is not None
        return found

    def wait(self, job_id: int) -> JobHistory:
        def is_over() -> bool:
            self.queue.keep_running()
            return self.history(job_id).is_over

        wait_until(is_over, f"job {job_id} is over")
        return self.history(job_id)

    def lines(self, name: str) -> list[str]:
        path = self.folder / name
        return path.read_text().splitlines() if path.exists() else []

    def kill_runner(self) -> None:
        pid = self.queue.runner_pid()
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: self.queue.runner_pid() is None, "the runner is dead")


@pytest.fixture
def make_bench(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(**settings: float) -> Bench:
        made.append(Bench(tmp_path, **settings))
        return made[-1]

    yield make
    for bench in made:
        bench.queue.stop()


@pytest.fixture
def bench(make_bench: Callable[..., Bench]) -> Bench:
    return make_bench()


def test_a_script_is_told_about_itself_as_slurm_tells_it(bench: Bench) -> None:
    names = "SLURM_ARRAY_JOB_ID SLURM_ARRAY_TASK_ID SLURM_JOB_NAME SLURMD_NODENAME SLURM_CPUS_PER_TASK SLURM_SUBMIT_DIR"
    words = " ".join(f"${name}" for name in names.split())
    job_id = bench.submit(f'echo "{words} ${{SLURM_RESTART_COUNT:-unset}}" > said; pwd >> said', "7", cpus=2)
    bench.wait(job_id)
    assert bench.lines("said") == [f"{job_id} 7 job here 2 {bench.folder} unset", str(bench.folder)]


def test_a_script_runs_in_a_session_of_its_own_with_default_signals(bench: Bench) -> None:
    bench.wait(bench.submit("ps -o pid=,sid= -p $$ > ids; grep SigIgn /proc/self/status >> ids"))
    (pid, session), (_, ignored) = (line.split() for line in bench.lines("ids"))
    assert pid == session
    # A shell that detaches a process lets it ignore SIGINT and SIGQUIT, and Python ignores SIGPIPE and SIGXFSZ.
    # What this test run itself was told to ignore (SIGHUP under nohup) says nothing.
    handed_on = [each.name for each in (SIGINT, SIGQUIT, SIGPIPE, SIGXFSZ) if int(ignored, 16) >> (each - 1) & 1]
    assert handed_on == []


def test_the_interpreter_is_the_one_that_the_script_names(bench: Bench) -> None:
    bench.wait(bench.submit("#!/usr/bin/env python3\nprint('snake', flush=True)\n"))
    assert bench.lines("log") == ["snake"]


def test_the_log_name_has_its_patterns_replaced(bench: Bench) -> None:
    job_id = bench.submit("echo said", "3", output="%x-%A-%4a-%%.txt", name="my")
    bench.wait(job_id)
    assert bench.lines(f"my-{job_id}-0003-%.txt") == ["said"]


def test_what_a_script_leaves_behind_in_its_group_is_killed_at_its_end(bench: Bench) -> None:
    bench.wait(bench.submit("sleep 600 & echo $! > pid"))
    pid = int(bench.lines("pid")[0])
    wait_until(lambda: not Path(f"/proc/{pid}").exists() or is_zombie(pid), "the orphan is gone")


def test_the_runner_ends_when_nothing_is_left_and_the_next_submit_starts_another(bench: Bench) -> None:
    bench.wait(bench.submit("true"))
    first = bench.queue.runner_pid()
    wait_until(lambda: bench.queue.runner_pid() is None, "the runner has ended")
    bench.wait(bench.submit("true"))
    assert bench.queue.runner_pid() != first


def test_no_submit_is_lost_when_runners_end_as_jobs_arrive(make_bench: Callable[..., Bench]) -> None:
    # Without lingering the runner ends in the middle of every one of these submits.
    bench = make_bench(linger=0.0)
    jobs = []
    for _ in range(40):
        jobs.append(bench.submit("true"))
        time.sleep(random.uniform(0, 0.12))
    wait_until(lambda: all(bench.history(job).is_over for job in jobs), "all jobs are over, with no help")
    assert {bench.history(job).status(0) for job in jobs} == {JobStatus.COMPLETED}


def test_there_is_one_runner_however_many_ask_for_it(bench: Bench) -> None:
    job_id = bench.submit("until [ -e go ]; do sleep 0.01; done")
    wait_until(lambda: bench.history(job_id).running, "it runs")
    pid = bench.queue.runner_pid()
    for _ in range(10):
        bench.queue.keep_running()
        LocalQueue(bench.queue.path, bench.settings).keep_running()
    assert bench.queue.runner_pid() == pid
    (bench.folder / "go").touch()
    bench.wait(job_id)
    assert len(bench.history(job_id).tries[0]) == 1


def test_a_killed_runner_leaves_its_scripts_running_and_the_next_one_waits_for_them(bench: Bench) -> None:
    job_id = bench.submit(
        'echo "$$" >> pids; until [ -e go ]; do sleep 0.01; done; echo end >> ends', "0-5", throttle=2
    )
    wait_until(lambda: len(bench.lines("pids")) == 2, "two slots run")
    bench.kill_runner()
    bench.queue.keep_running()
    wait_until(lambda: bench.queue.runner_pid() is not None, "another runner lives")
    assert sorted(bench.history(job_id).running) == [0, 1]
    (bench.folder / "go").touch()
    history = bench.wait(job_id)
    assert len(bench.lines("ends")) == 6
    # Nobody but its parent learns the exit code of a process, and the parent is dead.
    statuses = [history.status(slot) for slot in range(6)]
    assert statuses == [JobStatus.NODE_FAIL] * 2 + [JobStatus.COMPLETED] * 4


def test_scripts_taken_over_from_a_killed_runner_can_be_cancelled(bench: Bench) -> None:
    job_id = bench.submit("echo $$ > pid; sleep 600 & wait")
    wait_until(lambda: bench.lines("pid"), "it runs")
    bench.kill_runner()
    bench.queue.cancel(job_id)
    assert bench.wait(job_id).status(0) is JobStatus.CANCELLED
    wait_until(lambda: not Path(f"/proc/{bench.lines('pid')[0]}").exists(), "its process is gone")


def test_time_limits_hold_across_a_killed_runner(bench: Bench) -> None:
    job_id = bench.submit("echo $$ > pid; sleep 600", time_limit=2)
    wait_until(lambda: bench.lines("pid"), "it runs")
    bench.kill_runner()
    assert bench.wait(job_id).status(0) is JobStatus.TIMEOUT


def test_a_script_that_ended_while_no_runner_lived_is_settled(bench: Bench) -> None:
    job_id = bench.submit("echo begin > begun; until [ -e go ]; do sleep 0.01; done; echo end > ended")
    wait_until(lambda: bench.lines("begun"), "it runs")
    bench.kill_runner()
    (bench.folder / "go").touch()
    wait_until(lambda: bench.lines("ended"), "it has ended")
    assert bench.wait(job_id).status(0) is JobStatus.NODE_FAIL


@pytest.mark.parametrize("seed", range(4))
def test_a_runner_killed_again_and_again_loses_no_slot_and_starts_none_twice(bench: Bench, seed: int) -> None:
    chance = random.Random(seed)
    slots = 60
    job_id = bench.submit('echo "$SLURM_ARRAY_TASK_ID" >> started; sleep 0.02', f"0-{slots - 1}")
    for _ in range(8):
        time.sleep(chance.uniform(0.0, 0.2))
        pid = bench.queue.runner_pid()
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
        bench.queue.keep_running()
    history = bench.wait(job_id)
    started = Counter(map(int, bench.lines("started")))
    assert max(started.values()) == 1
    assert {len(tries) for tries in history.tries.values()} == {1}
    lost = [slot for slot in range(slots) if history.status(slot) is JobStatus.NODE_FAIL]
    completed = [slot for slot in range(slots) if history.status(slot) is JobStatus.COMPLETED]
    assert len(lost) + len(completed) == slots
    assert set(completed) <= set(started)


def test_half_a_line_of_a_killed_writer_costs_that_line_only(bench: Bench) -> None:
    job_id = bench.submit("until [ -e go ]; do sleep 0.01; done", "0-1", throttle=1, held=True)
    events = bench.queue.path / "jobs" / str(job_id) / "events"
    with open(events, "ab") as log:
        log.write(b'["drop","0-1",1')
    bench.queue.hold(job_id, held=False)
    (bench.folder / "go").touch()
    history = bench.wait(job_id)
    assert [history.status(slot) for slot in (0, 1)] == [JobStatus.COMPLETED] * 2


def test_old_jobs_are_forgotten(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(keep=1.0, linger=0.0)
    old = bench.submit("true", name="old")
    bench.wait(old)
    wait_until(lambda: bench.submit("true") and bench.queue.history(old) is None, "a runner forgets it")
    assert bench.queue.find("old") == []


def test_the_runner_ends_when_its_folder_is_removed(bench: Bench) -> None:
    bench.wait(bench.submit("true"))
    pid = bench.queue.runner_pid()

    def is_removed() -> bool:
        shutil.rmtree(bench.queue.path, ignore_errors=True)  # the runner may write into it meanwhile
        return not bench.queue.path.exists()

    wait_until(is_removed, "the folder is gone")
    wait_until(lambda: pid is None or not Path(f"/proc/{pid}").exists() or is_zombie(pid), "the runner has ended")


def test_stop_ends_the_runner_and_everything_that_the_jobs_started(bench: Bench) -> None:
    bench.submit("setsid sleep 600 & echo $! >> pids; sleep 600 & echo $! >> pids; wait", "0-1")
    wait_until(lambda: len(bench.lines("pids")) == 4, "they run")
    bench.queue.stop()
    assert bench.queue.runner_pid() is None
    assert not [pid for pid in bench.lines("pids") if Path(f"/proc/{pid}").exists() and not is_zombie(int(pid))]


def is_zombie(pid: int) -> bool:
    try:
        return ") Z" in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
