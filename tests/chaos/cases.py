"""The rows of the fault campaign: what is done to a run, and how it has to end with no person's help."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from reflow.states import RunState, TaskState

from .scene import FakePlace, RealPlace, Scene

#: The element to which things are done.
VICTIM = 1
WIDTH = 3

SUCCESS, FAILED = RunState.SUCCESS, RunState.FAILED


@dataclass(frozen=True)
class Case:
    """One row."""

    name: str
    #: Submits the run and does something to it.
    strike: Callable[[Scene], None]
    state: RunState
    #: Classes of failure that are right for the victims; by element of `work`.
    failures: Mapping[int, frozenset[str]] = field(default_factory=dict)
    #: Exit code or signal that the victims' record must have.
    exit_code: int | None = None
    signal: int | None = None
    #: The places that can do this.
    places: tuple[str, ...] = ("fake", "real")
    #: How many tries of the victim may have run to completion.
    completions: int = 1
    seconds: float = 120.0
    #: Whether Slurm itself may forget jobs, sentinels too. Then somebody has to look, and elements may be LOST.
    or_lost: bool = False

    @property
    def wanted(self) -> str:
        """What has to come out, in short."""
        classes = sorted({"/".join(sorted(each)) for each in self.failures.values()})
        which = f" [{','.join(map(str, self.failures))}]" if self.failures else ""
        how = f" exit {self.exit_code}" if self.exit_code else f" signal {self.signal}" if self.signal else ""
        lost = " or LOST, at a look" if self.or_lost else ""
        return " ".join(f"{self.state}{which} {' '.join(classes)}{how}".split()) + lost


@dataclass(frozen=True)
class Outcome:
    """What came out."""

    case: Case
    place: str
    got: str
    seconds: float
    #: What is not as it has to be.
    wrongs: tuple[str, ...]

    @property
    def row(self) -> tuple[str, ...]:
        """The row of the table."""
        verdict = "ok" if not self.wrongs else "; ".join(wrong.splitlines()[0] for wrong in self.wrongs)
        return self.place, self.case.name, self.case.wanted, self.got, f"{self.seconds:.1f}", verdict


def run_case(case: Case, scene: Scene) -> Outcome:
    """Do it, wait until the run is settled, and judge."""
    case.strike(scene)
    try:
        seconds = scene.settle(case.seconds, looking=case.or_lost)
    except AssertionError as error:
        return Outcome(case, scene.place.name, "RUNNING", case.seconds, (f"it hangs: {error}",))
    instances = scene.instances()
    work = {index: each for (task, index), each in instances.items() if task == "work"}
    bad = {index: each for index, each in work.items() if each.state is not TaskState.SUCCESS}
    got = str(scene.state())
    right = case
    if case.or_lost and scene.state() is FAILED:
        right = replace(case, state=FAILED, failures={index: frozenset({"LOST"}) for index in bad})
    if bad:
        first = next(iter(bad.values()))
        classes = sorted({str(each.failure or each.state) for each in bad.values()})
        how = f" signal {first.signal}" if first.signal else f" exit {first.exit_code}" if first.exit_code else ""
        got += f" [{','.join(map(str, bad))}] {' '.join(classes)}{how}"
    return Outcome(case, scene.place.name, got, seconds, tuple(_judge(right, scene, bad)))


def _judge(case: Case, scene: Scene, bad: Mapping[int, object]) -> list[str]:
    wrongs = scene.wrongs()
    if scene.state() is not case.state:
        wrongs.append(f"the run is {scene.state()}")
    if set(bad) != set(case.failures):
        wrongs.append(f"elements {sorted(bad)} failed")
    instances = scene.instances()
    for index, classes in case.failures.items():
        record = instances["work", index]
        if str(record.failure) not in classes:
            wrongs.append(f"work[{index}] is {record.failure}: {record.error_text}")
        if case.exit_code is not None and record.exit_code != case.exit_code:
            wrongs.append(f"work[{index}] has exit code {record.exit_code}")
        if case.signal is not None and record.signal != case.signal:
            wrongs.append(f"work[{index}] has signal {record.signal}")
    for (task, index), record in instances.items():
        right = {"work": index * 10, "after": index * 10 + 1, "total": sum(n * 10 + 1 for n in range(WIDTH))}
        if record.state is TaskState.SUCCESS and task in right and record.output != right[task]:
            wrongs.append(f"{task}[{index}] has the result {record.output}")
        if record.state in (TaskState.SUBMITTED, TaskState.RUNNING):
            wrongs.append(f"{task}[{index}] is {record.state} in a run that is over")
    if case.state is SUCCESS and ("total", 0) not in instances:
        wrongs.append("total did not run")
    ends = [line for line in scene.trace("end") if line[:2] == ["work", str(VICTIM)]]
    if len(ends) > case.completions:
        wrongs.append(f"work[{VICTIM}] ran to completion {len(ends)} times")
    return wrongs


def _acts(what: str) -> Callable[[Scene], None]:
    """Return a strike in which the victim itself does it."""

    def strike(scene: Scene) -> None:
        (scene.run_dir / f"act-{VICTIM}").write_text(what)
        scene.submit(width=WIDTH)

    return strike


def _while_it_runs(do: Callable[[Scene], None], *, requeue: bool = False) -> Callable[[Scene], None]:
    """Return a strike that is made while all elements run; they go on afterwards.

    With `requeue`, Slurm may start the jobs again by itself.
    """

    def strike(scene: Scene) -> None:
        scene.submit(hold=True, executor={"submit_options": {"requeue": True}} if requeue else {}, width=WIDTH)
        for index in range(WIDTH):
            scene.pid("work", index)
        do(scene)
        scene.let_go()

    return strike


def _kill_worker(scene: Scene) -> None:
    os.kill(scene.pid("work", VICTIM), signal.SIGKILL)


def _kill_shell(scene: Scene) -> None:
    (scene.run_dir / f"kill-{VICTIM}").touch()
    scene.submit(width=WIDTH)


def _memory(scene: Scene) -> None:
    if isinstance(scene.place, FakePlace):
        scene.place.slurm.inject("OUT_OF_MEMORY", name="work-*", slots=str(VICTIM), requeue=False)
        scene.submit(width=WIDTH)
    else:
        _acts("memory")(scene)


def _time(scene: Scene) -> None:
    if isinstance(scene.place, FakePlace):
        scene.place.slurm.strike("TIMEOUT", scene.job("work"), str(VICTIM))
    else:
        scene.place.run("scontrol", "update", f"JobId={scene.job('work')}_{VICTIM}", "EndTime=now")
    _wait_for_the_end_of(scene, VICTIM)


def _cancel_index(scene: Scene) -> None:
    scene.place.run("scancel", f"{scene.job('work')}_{VICTIM}")
    _wait_for_the_end_of(scene, VICTIM)


def _cancel_array(scene: Scene) -> None:
    pids = [scene.pid("work", index) for index in range(WIDTH)]
    scene.place.run("scancel", scene.job("work"))
    scene.until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids))


def _cancel_sentinel(scene: Scene) -> None:
    scene.place.run("scancel", scene.job("work", sentinel=True))


def _node_of_the_victim(scene: Scene) -> str:
    job = f"{scene.job('work')}_{VICTIM}"
    return scene.place.run("squeue", "--noheader", f"--job={job}", "--format=%N").strip()


def _lose_node(scene: Scene) -> None:
    """Let the victim's node go down with everything on it, and come back."""
    if isinstance(scene.place, RealPlace):
        node = _node_of_the_victim(scene)
        scene.place.slurm.kill_node(node)
        scene.place.run("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=chaos")
        scene.place.run("scontrol", "update", f"NodeName={node}", "State=RESUME")
        scene.place.slurm.start_node(node)
    else:
        _strike(scene, "NODE_FAIL")


def _lose_node_unnoticed(scene: Scene) -> None:
    """Kill a slurmd and all its jobs, and wait until Slurm finds out by itself."""
    assert isinstance(scene.place, RealPlace)
    node = _node_of_the_victim(scene)
    scene.place.slurm.kill_node(node)
    scene.until(lambda: "down" in scene.place.run("sinfo", "--noheader", f"--nodes={node}", "--format=%T"))
    scene.place.slurm.start_node(node)


def _preempt(scene: Scene) -> None:
    """Let a job of more weight take the victim's node."""
    if isinstance(scene.place, RealPlace):
        words = ["--partition=urgent", f"--nodelist={_node_of_the_victim(scene)}", "--exclusive", "--mem=100"]
        scene.place.run("sbatch", *words, "--output=/dev/null", "--job-name=urgent", "--wrap=true")
        _wait_for_the_end_of(scene, VICTIM)
    else:
        _strike(scene, "PREEMPTED")


def _strike(scene: Scene, status: str) -> None:
    """Bring an end upon the running victim on a fake Slurm, which starts it again if the job may be."""
    assert isinstance(scene.place, FakePlace)
    scene.place.slurm.strike(status, scene.job("work"), str(VICTIM))
    _wait_for_the_end_of(scene, VICTIM)


def _requeue(scene: Scene) -> None:
    scene.place.run("scontrol", "requeue", f"{scene.job('work')}_{VICTIM}")
    _wait_for_the_end_of(scene, VICTIM)


def _outlives(scene: Scene) -> None:
    """Slurm takes the element for dead and it starts again, while the old one goes on."""
    if isinstance(scene.place, RealPlace):
        os.kill(_parent_of(scene.pid("work", VICTIM)), signal.SIGKILL)  # slurmstepd
    else:
        assert isinstance(scene.place, FakePlace)
        scene.place.slurm.strike("NODE_FAIL", scene.job("work"), str(VICTIM), outlives=True)
    scene.until(lambda: [line[:2] for line in scene.trace("begin")].count(["work", str(VICTIM)]) == 2, 150)


def _parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _restart_controller(scene: Scene) -> None:
    if isinstance(scene.place, RealPlace):
        # Killed before it has saved them, slurmctld would forget jobs; it saves every few seconds, and when it ends.
        scene.place.slurm.stop_controller()
        scene.place.slurm.start_controller()
        _crash_controller(scene)
    else:
        assert isinstance(scene.place, FakePlace)
        for command in ("sbatch", "squeue", "sacct", "scontrol", "scancel"):
            scene.place.slurm.fail(command, "slurm_load_jobs error: Unable to contact slurm controller\n", times=2)


def _crash_controller(scene: Scene) -> None:
    """Kill slurmctld, let all elements end while there is nobody to tell, and start it again."""
    assert isinstance(scene.place, RealPlace)
    pids = [scene.pid("work", index) for index in range(WIDTH)]
    scene.place.slurm.stop_controller(kill=True)
    scene.let_go()
    scene.until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids), 150)
    scene.place.slurm.start_controller()


def _sbatch(mode: str, strikes: int = 1) -> Callable[[Scene], None]:
    """Return a strike on the submits that workers and sentinels make."""

    def strike(scene: Scene) -> None:
        scene.submit(hold=True, width=WIDTH)
        scene.pid("work", VICTIM)
        scene.sbatch_does(mode, strikes)
        scene.let_go()

    return strike


def _lock_manifest(scene: Scene) -> None:
    """Hold the manifest's lock while all elements end."""
    import fcntl

    pids = [scene.pid("work", index) for index in range(WIDTH)]
    with open(f"{scene.manifest}.lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        scene.let_go()
        scene.until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids))
        time.sleep(2)


def _hide_manifest(scene: Scene) -> None:
    """Take the manifest away while all elements end."""
    pids = [scene.pid("work", index) for index in range(WIDTH)]
    aside = scene.manifest.with_suffix(".aside")
    scene.manifest.rename(aside)
    scene.let_go()
    scene.until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids))
    aside.rename(scene.manifest)


def _wait_for_the_end_of(scene: Scene, index: int) -> None:
    pid = scene.pid("work", index)
    scene.until(lambda: not os.path.exists(f"/proc/{pid}"))


def _victim(*classes: str) -> dict[int, frozenset[str]]:
    return {VICTIM: frozenset(classes)}


CASES = [
    Case("python exception", _acts("raise"), FAILED, _victim("EXCEPTION")),
    Case("sys.exit(3)", _acts("exit"), FAILED, _victim("EXIT"), exit_code=3),
    Case("segfault", _acts("segfault"), FAILED, _victim("FAILED", "EXIT"), signal=11),
    Case("SIGKILL by itself", _acts("kill"), FAILED, _victim("FAILED", "EXIT"), signal=9),
    Case("SIGKILL of the worker", _while_it_runs(_kill_worker), FAILED, _victim("FAILED"), signal=9),
    Case("SIGKILL of its shell", _kill_shell, FAILED, _victim("FAILED"), signal=9),
    Case("OOM", _memory, FAILED, _victim("OUT_OF_MEMORY")),
    Case("TIMEOUT", _while_it_runs(_time), FAILED, _victim("TIMEOUT"), seconds=180),
    Case("scancel of one index", _while_it_runs(_cancel_index), FAILED, _victim("CANCELLED")),
    Case(
        "scancel of the array",
        _while_it_runs(_cancel_array),
        FAILED,
        {index: frozenset({"CANCELLED"}) for index in range(WIDTH)},
    ),
    Case("scancel of the sentinel", _while_it_runs(_cancel_sentinel), SUCCESS),
    Case("NODE_FAIL", _while_it_runs(_lose_node), SUCCESS, seconds=240),
    Case("NODE_FAIL, Slurm requeues", _while_it_runs(_lose_node, requeue=True), SUCCESS, seconds=240),
    Case("NODE_FAIL, slurmd killed", _while_it_runs(_lose_node_unnoticed), SUCCESS, places=("real",), seconds=240),
    Case("NODE_FAIL, worker lives on", _while_it_runs(_outlives, requeue=True), SUCCESS, completions=2, seconds=240),
    Case("requeue", _while_it_runs(_requeue, requeue=True), SUCCESS, seconds=240),
    Case("preemption", _while_it_runs(_preempt), SUCCESS, seconds=240),
    Case("preemption, Slurm requeues", _while_it_runs(_preempt, requeue=True), SUCCESS, seconds=240),
    Case("slurmctld restart", _while_it_runs(_restart_controller), SUCCESS, seconds=180),
    Case("sbatch error, three times", _sbatch("error", 3), SUCCESS),
    Case("sbatch hangs, not accepted", _sbatch("hang"), SUCCESS),
    Case("sbatch hangs, accepted", _sbatch("late"), SUCCESS),
    Case("sbatch accepted, reported as error", _sbatch("lost"), SUCCESS),
    Case("manifest locked while all end", _while_it_runs(_lock_manifest), SUCCESS),
    Case("manifest away while all end", _while_it_runs(_hide_manifest), SUCCESS),
]

#: Slurm 22.05 forgets jobs that it has accepted, or starts elements twice, when it is killed before it has saved.
CRASH = Case(
    "slurmctld killed unsaved",
    _while_it_runs(_crash_controller),
    SUCCESS,
    places=("real",),
    completions=2,
    seconds=240,
    or_lost=True,
)
