"""The Slurm executor and its commands. The commands here are stand-ins on PATH; tests/cluster has the real ones."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from reflow.errors import SchedulerError, SubmitDeferred, SubmitRefused, SubmitUnknown
from reflow.executors.base import Job, JobResources, JobStatus, Limits
from reflow.executors.slurm import SlurmExecutor
from reflow.indices import Indices

CONTROLLER_DOWN = "Unable to contact slurm controller (connect failure)"


class StandIns:
    """Commands of Slurm that say what they are told to and note how they were called."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._calls = folder / "calls"
        for command in ("sbatch", "squeue", "sacct", "scancel", "scontrol"):
            self.say(command, "")

    def say(self, command: str, stdout: str, stderr: str = "", code: int = 0, first: str = "") -> None:
        """Make a command print these texts and exit; `first` is shell code before that."""
        path = self.folder / command
        path.write_text(
            f'#!/bin/bash\n{{ printf "%s\\0" {command} "$PWD" "$(env | grep ^SLURM_ | sort | tr "\\n" " ")" "$@"; '
            f'printf "\\n\\0"; }} >> {shlex.quote(str(self._calls))}\n'
            f"{first}\nprintf %s {shlex.quote(stdout)}\nprintf %s {shlex.quote(stderr)} >&2\nexit {code}\n"
        )
        path.chmod(0o755)

    def calls(self, command: str) -> list[list[str]]:
        """Return the calls of one command: folder, Slurm's variables, words."""
        text = self._calls.read_text() if self._calls.exists() else ""
        calls = [call.split("\0")[:-1] for call in text.split("\n\0")[:-1]]
        return [call[1:] for call in calls if call[0] == command]


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Stand-ins as the only Slurm on PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "slurm.conf"))
    return StandIns(folder)


@pytest.fixture
def job(tmp_path):
    run_dir = tmp_path / "the run"
    run_dir.mkdir()
    return Job("r.a.1", ("true",), JobResources(), run_dir, "w.log", Path("/"), slots=Indices.range(0, 3))


@pytest.fixture
def script(job):
    path = job.run_dir / "script.sh"
    path.write_text(SlurmExecutor().render(job))
    return path


def test_submit_runs_in_the_run_directory_without_what_a_surrounding_job_left(slurm, job, script, monkeypatch):
    monkeypatch.setenv("SLURM_CPU_BIND", "mask_cpu:0x1")
    monkeypatch.setenv("SBATCH_PARTITION", "debug")
    slurm.say("sbatch", "17\n")
    assert SlurmExecutor().submit(script, job) == "17"
    ((folder, variables, *words),) = slurm.calls("sbatch")
    assert folder == str(job.run_dir)
    assert variables == f"SLURM_CONF={slurm.folder.parent / 'slurm.conf'} "
    assert words == ["--parsable", str(script)]


def test_command_may_have_arguments(slurm, job, script):
    slurm.say("sbatch", "17;big\n")
    assert SlurmExecutor(sbatch="sbatch --clusters='big one'").submit(script, job) == "17;big"
    assert slurm.calls("sbatch")[0][2:] == ["--clusters=big one", "--parsable", str(script)]


@pytest.mark.parametrize(
    ("stdout", "stderr", "code", "error"),
    [
        ("", "sbatch: error: Batch job submission failed: Invalid partition name specified", 1, SubmitRefused),
        ("", f"sbatch: error: Batch job submission failed: {CONTROLLER_DOWN}", 1, SubmitDeferred),
        ("", "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation", 1, SubmitUnknown),
        ("Hello, no id today\n", "", 0, SubmitUnknown),
    ],
)
def test_failed_submit_says_whether_to_try_again(slurm, job, script, stdout, stderr, code, error):
    slurm.say("sbatch", stdout, stderr, code)
    with pytest.raises(error):
        SlurmExecutor().submit(script, job)


def test_submit_that_does_not_answer_may_have_been_accepted(slurm, job, script):
    slurm.say("sbatch", "17\n", first="sleep 600")
    with pytest.raises(SubmitUnknown, match=r"'sbatch' did not answer within 0\.3 s"):
        SlurmExecutor(submit_timeout=0.3).submit(script, job)


def test_absent_slurm_is_one_sentence(job, script, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SchedulerError, match="sbatch was not found on PATH"):
        SlurmExecutor().submit(script, job)


def test_query_asks_each_command_once_for_all_jobs(slurm):
    slurm.say("sacct", "7_0|COMPLETED|0:0|n1|None|2026-11-24T01:40:15\n7_1|RUNNING|0:0|n1|None|2026-11-24T01:40:15\n")
    slurm.say("squeue", "7_1|RUNNING|0|n1|None|\n8|PENDING|0||Dependency|\n")
    found = SlurmExecutor().query(["7", "8", "7"])
    assert {key: answer.status for key, answer in found.items()} == {
        ("7", 0): JobStatus.COMPLETED,
        ("7", 1): JobStatus.RUNNING,
        ("8", None): JobStatus.PENDING,
    }
    ((_, sacct_variables, *sacct_words),) = slurm.calls("sacct")
    ((_, squeue_variables, *squeue_words),) = slurm.calls("squeue")
    assert "--jobs=7,8" in sacct_words
    assert "--jobs=7,8" in squeue_words
    for variables in (sacct_variables, squeue_variables):
        assert "SLURM_BITSTR_LEN=0 " in variables  # else long lists of slots are cut


def test_query_of_nothing_asks_nothing(slurm):
    assert SlurmExecutor().query([]) == {}
    assert slurm.calls("squeue") == []


def test_jobs_of_two_clusters_are_asked_for_where_they_are(slurm):
    slurm.say("squeue", "7|RUNNING|0|n1|None|\n")
    found = SlurmExecutor().query(["7", "7;big"])
    assert set(found) == {("7", None), ("7;big", None)}
    assert ["--clusters=big" in call for call in slurm.calls("squeue")] == [False, True]


def test_single_forgotten_job_is_not_an_error(slurm):
    """squeue fails when it is asked for one job that it has forgotten, and not when it is asked for two."""
    slurm.say("squeue", "", "slurm_load_jobs error: Invalid job id specified", 1)
    assert SlurmExecutor().query(["7"]) == {}


def test_without_accounting_the_queue_alone_answers_and_sacct_is_asked_once(slurm):
    slurm.say("sacct", "", "Slurm accounting storage is disabled", 1)
    slurm.say("squeue", "7|FAILED|256|n1|NonZeroExitCode|\n")
    executor = SlurmExecutor()
    for _ in range(2):
        assert executor.query(["7"])["7", None].exit_code == 1
    assert len(slurm.calls("sacct")) == 1


@pytest.mark.parametrize("command", ["squeue", "sacct"])
def test_failed_question_says_nothing_about_the_jobs(slurm, command):
    slurm.say(command, "", f"{command}: error: {CONTROLLER_DOWN}", 1)
    with pytest.raises(SchedulerError, match=rf"^{command} failed: {command}: error: Unable to contact"):
        SlurmExecutor().query(["7"])


def test_find_asks_the_account_only_for_what_the_queue_does_not_know(slurm):
    slurm.say("squeue", "7|PENDING\n")
    assert SlurmExecutor().find("r.a.1") == "7"
    assert slurm.calls("sacct") == []
    slurm.say("squeue", "")
    slurm.say("sacct", "8_0|COMPLETED\n8_1|FAILED\n")
    assert SlurmExecutor().find("r.a.1") == "8"
    assert "--name=r.a.1" in slurm.calls("sacct")[0]


def test_job_that_cannot_be_looked_for_is_not_taken_for_absent(slurm):
    """Else it would be submitted twice."""
    slurm.say("sacct", "", "sacct: error: Problem talking to the database: Connection refused", 1)
    with pytest.raises(SchedulerError, match="sacct failed"):
        SlurmExecutor().find("r.a.1")


def test_cancel_names_jobs_and_slots(slurm):
    SlurmExecutor().cancel(["7", "8", "9;big"], {"8": Indices([1, 2, 3, 7]), "7": Indices()})
    calls = [call[2:] for call in slurm.calls("scancel")]
    assert calls == [["8_[1-3,7]"], ["--clusters=big", "9"]]


def test_cancel_of_ten_thousand_scattered_slots_fits_the_command_line(slurm):
    slots = Indices(range(0, 60_000, 2))
    SlurmExecutor().cancel(["7"], {"7": slots})
    words = [word for call in slurm.calls("scancel") for word in call[2:]]
    assert max(map(len, words)) < 10_000
    named = Indices.parse(",".join(word.removeprefix("7_[").removesuffix("]") for word in words))
    assert named == slots


def test_cancel_of_an_ended_job_is_no_error_but_an_absent_controller_is(slurm):
    slurm.say("scancel", "", "scancel: error: Kill job error on job id 7: Job/step already completing or completed", 1)
    SlurmExecutor().cancel(["7"])
    slurm.say("scancel", "", f"scancel: error: Kill job error on job id 7: {CONTROLLER_DOWN}", 8)
    with pytest.raises(SchedulerError, match=r"scancel failed: .*Unable to contact"):
        SlurmExecutor().cancel(["7"])


def test_limits_are_asked_once_and_guessed_only_while_nobody_answers(slurm):
    slurm.say("scontrol", "", CONTROLLER_DOWN, 1)
    assert SlurmExecutor().limits() == Limits(max_array_size=1001)
    slurm.say("scontrol", "MaxArraySize            = 5001\n")
    assert SlurmExecutor().limits() == Limits(max_array_size=5001)
    assert SlurmExecutor().limits() == Limits(max_array_size=5001)
    assert len(slurm.calls("scontrol")) == 2
