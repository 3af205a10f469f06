"""The fake Slurm says what the real one says, and goes wrong when it is told to."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from reflow.errors import SubmitDeferred, SubmitRefused, SubmitUnknown
from reflow.executors.base import JobStatus
from reflow.executors.slurm_answers import classify_refusal, parse_config_limits
from reflow.testing import FakeSlurm
from reflow.testing.fakeslurm.options import WrongOption, read_options, script_options, split_directive
from reflow.testing.fakeslurm.requests import parse_array, parse_dependency, parse_nodes

UID = os.getuid()


def wait_until(condition: Callable[[], object], what: str, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:g} s for this: {what}"
        time.sleep(0.02)


def sbatch(slurm: FakeSlurm, shell: str, *words: str, cwd: Path | None = None) -> str:
    """Submit shell lines and return the job id; the output goes nowhere unless the words say otherwise."""
    said = slurm.run("sbatch", "--parsable", "--output=/dev/null", *words, "--wrap", shell, cwd=cwd)
    assert said.code == 0, said
    return said.stdout.strip()


def account(slurm: FakeSlurm, job_id: str, *words: str) -> list[str]:
    said = slurm.run("sacct", "-X", "-n", "-P", "-j", job_id, "-o", "JobID,State,ExitCode", *words)
    assert said.code == 0, said
    return said.stdout.splitlines()


def queue(slurm: FakeSlurm, job_id: str, *words: str) -> list[str]:
    said = slurm.run("squeue", "-h", "-t", "all", "-j", job_id, "-o", "%i|%T|%r", *words)
    assert said.code == 0, said
    return said.stdout.splitlines()


class TestSubmit:
    def test_parsable_prints_the_id_alone(self, fake_slurm: FakeSlurm) -> None:
        said = fake_slurm.run("sbatch", "--parsable", "--output=/dev/null", "--wrap", "true")
        assert re.fullmatch(r"\d+\n", said.stdout)

    def test_without_it_prints_a_sentence(self, fake_slurm: FakeSlurm) -> None:
        said = fake_slurm.run("sbatch", "--output=/dev/null", "--wrap", "true")
        assert re.fullmatch(r"Submitted batch job \d+\n", said.stdout)

    @pytest.mark.parametrize(
        ("words", "code", "text"),
        [
            (["--bogus"], 255, "sbatch: unrecognized option '--bogus'"),
            (["-y"], 255, "sbatch: invalid option -- 'y'"),
            (["--time=soon", "--wrap", "true"], 255, "sbatch: error: Invalid --time specification"),
            (["--array=0-1001", "--wrap", "true"], 1, "Invalid job array specification"),
            (["--array=a", "--wrap", "true"], 1, "Invalid job array specification"),
            (["--dependency=whenever:1", "--wrap", "true"], 1, "Job dependency problem"),
            (["missing.sh"], 1, "sbatch: error: Unable to open file missing.sh"),
            (["--partition=gpu", "--wrap", "true"], 1, "Invalid partition name specified"),
        ],
    )
    def test_what_is_wrong_is_refused(self, fake_slurm: FakeSlurm, words: list[str], code: int, text: str) -> None:
        fake_slurm.configure(partitions=("main", "long"))
        said = fake_slurm.run("sbatch", *words)
        assert (said.code, said.stdout) == (code, "")
        assert text in said.stderr
        # A wide array can be submitted in chunks.
        kind = SubmitDeferred if "array" in text else SubmitRefused
        assert isinstance(classify_refusal(said.stderr, said.code), kind)
        assert fake_slurm.jobs() == []

    def test_a_file_that_is_no_script_is_refused(self, fake_slurm: FakeSlurm, tmp_path: Path) -> None:
        (tmp_path / "job.sh").write_text("echo hello\n")
        said = fake_slurm.run("sbatch", str(tmp_path / "job.sh"))
        assert said.code == 1
        assert "This does not look like a batch script" in said.stderr

    def test_more_slots_than_a_user_may_have_are_refused_for_now(self, fake_slurm: FakeSlurm) -> None:
        fake_slurm.configure(max_submit_jobs=5)
        first = sbatch(fake_slurm, "true", "--hold", "--array=0-3")
        said = fake_slurm.run("sbatch", "--array=0-1", "--wrap", "true")
        assert said.code == 1
        assert said.stderr.startswith("sbatch: error: AssocMaxSubmitJobLimit\n")
        assert isinstance(classify_refusal(said.stderr, said.code), SubmitDeferred)
        assert fake_slurm.run("scancel", first).code == 0
        assert fake_slurm.run("sbatch", "--output=/dev/null", "--array=0-1", "--wrap", "true").code == 0

    def test_an_empty_array_is_a_plain_job(self, fake_slurm: FakeSlurm) -> None:
        job_id = sbatch(fake_slurm, "true", "--array=")
        fake_slurm.wait_idle()
        assert account(fake_slurm, job_id) == [f"{job_id}|COMPLETED|0:0"]

    def test_directives_are_read_and_words_win_over_them(self, fake_slurm: FakeSlurm, tmp_path: Path) -> None:
        script = tmp_path / "job.sh"
        script.write_text(
            '#!/bin/bash\n#SBATCH --job-name="a name" --array=1-3\n# a comment\n\n#SBATCH -o "out %a.txt"\n'
            "echo $SLURM_JOB_NAME $1\n#SBATCH --job-name=too-late\n"
        )
        fake_slurm.run("sbatch", "--array=2", str(script), "argument", cwd=tmp_path)
        (job,) = fake_slurm.wait_idle()
        assert (job.name, dict(job.states)) == ("a name", {2: JobStatus.COMPLETED})
        assert (tmp_path / "out 2.txt").read_text() == "a name argument\n"

    def test_the_script_gets_the_environment_that_export_says(self, fake_slurm: FakeSlurm, tmp_path: Path) -> None:
        os.environ["SEEN"] = "outside"
        try:
            for export in ("ALL", "NONE", "SEEN", "ALL,SEEN=given"):
                sbatch(fake_slurm, f'echo "{export} ${{SEEN:-nothing}}" >> said', f"--export={export}", cwd=tmp_path)
        finally:
            del os.environ["SEEN"]
        fake_slurm.wait_idle()
        assert sorted((tmp_path / "said").read_text().splitlines()) == [
            "ALL outside",
            "ALL,SEEN=given given",
            "NONE nothing",
            "SEEN outside",
        ]

    def test_wait_returns_when_the_job_is_over_with_its_exit_code(self, fake_slurm: FakeSlurm) -> None:
        assert fake_slurm.run("sbatch", "--wait", "--output=/dev/null", "--wrap", "exit 4").code == 4

    def test_a_job_may_submit_another(self, fake_slurm: FakeSlurm, tmp_path: Path) -> None:
        sbatch(fake_slurm, "sbatch -o /dev/null --wrap 'touch inner'", cwd=tmp_path)
        fake_slurm.wait_idle()
        wait_until((tmp_path / "inner").exists, "the inner job has run")


class TestEnds:
    @pytest.mark.parametrize(
        ("shell", "row", "wait_status"),
        [
            ("true", "COMPLETED|0:0", "0"),
            ("exit 1", "FAILED|1:0", "256"),
            ("nonsense-command", "FAILED|127:0", "32512"),
            ("exit 137", "FAILED|9:0", "35072"),
            ("exit 200", "FAILED|72:0", "51200"),
            ("kill -9 $$", "FAILED|0:9", "9"),
            ("kill -11 $$", "FAILED|0:11", "11"),
        ],
    )
    def test_ends_look_as_in_slurm(self, fake_slurm: FakeSlurm, shell: str, row: str, wait_status: str) -> None:
        job_id = sbatch(fake_slurm, shell)
        fake_slurm.wait_idle()
        assert account(fake_slurm, job_id) == [f"{job_id}|{row}"]
        assert (
            fake_slurm.run("squeue", "-h", "-t", "all", "-j", job_id, "-O", "exit_code:|").stdout == f"{wait_status}|\n"
        )

    def test_a_missing_output_folder_is_a_launch_failure(self, fake_slurm: FakeSlurm, tmp_path: Path) -> None:
        job_id = sbatch(fake_slurm, "true", f"--output={tmp_path}/missing/log")
        fake_slurm.wait_idle()
        assert account(fake_slurm, job_id) == [f"{job_id}|FAILED|0:53"]
        assert queue(fake_slurm, job_id) == [f"{job_id}|FAILED|JobLaunchFailure"]

    def test_a_time_limit_ends_as_timeout_whatever_the_script_exits_with(self, fake_slurm: FakeSlurm) -> None:
        job_id = sbatch(fake_slurm, "trap 'exit 0' TERM; while :; do sleep 0.05; done", "--time=0:01")
        fake_slurm.wait_idle()
        assert account(fake_slurm, job_id) == [f"{job_id}|TIMEOUT|0:0"]

    def test_sigterm_reaches_the_script_but_not_its_children(self, fake_slurm: FakeSlurm, tmp_path: Path) -> None:
        child = "trap 'touch child-saw-it' TERM; touch up; while :; do sleep 0.05; done"
        sbatch(fake_slurm, f'bash -c "{child}"; true', "--time=0:01", cwd=tmp_path)
        fake_slurm.wait_idle()
        assert (tmp_path / "up").exists()
        assert not (tmp_path / "child-saw-it").exists()

    def test_a_dropped_element_is_cancelled_by_nobody(self, fake_slurm: FakeSlurm) -> None:
        first = sbatch(fake_slurm, "exit $((SLURM_ARRAY_TASK_ID == 1))", "--array=0-1")
        words = [f"--dependency=aftercorr:{first}", "--kill-on-invalid-dep=yes", "--array=0-1"]
        second = sbatch(fake_slurm, "true", *words)
        fake_slurm.wait_idle()
        assert account(fake_slurm, second) == [f"{second}_0|COMPLETED|0:0", f"{second}_1|CANCELLED|0:0"]
        assert f"{second}_1|CANCELLED|DependencyNeverSatisfied" in queue(fake_slurm, second)

    def test_without_kill_on_invalid_dep_it_pends_for_ever(self, fake_slurm: FakeSlurm) -> None:
        first = sbatch(fake_slurm, "exit 1")
        second = sbatch(fake_slurm, "true", f"--dependency=afterok:{first}")
        wanted = [f"{second}|PENDING|DependencyNeverSatisfied"]
        wait_until(lambda: queue(fake_slurm, second) == wanted, "the reason shows")

    def test_a_dependency_on_a_forgotten_job_holds_even_if_that_job_failed(self, fake_slurm: FakeSlurm) -> None:
        first = sbatch(fake_slurm, "exit 1")
        fake_slurm.wait_idle()
        fake_slurm.configure(min_job_age=0.0)
        second = sbatch(fake_slurm, "true", f"--dependency=afterok:{first}")
        fake_slurm.wait_idle()
        assert account(fake_slurm, second) == [f"{second}|COMPLETED|0:0"]


class TestCancel:
    def test_running_elements_are_cancelled_by_the_user_and_waiting_ones_leave_no_trace(
        self, fake_slurm: FakeSlurm, tmp_path: Path
    ) -> None:
        job_id = sbatch(fake_slurm, "touch up; sleep 600", "--array=0-3%1", cwd=tmp_path)
        wait_until((tmp_path / "up").exists, "the first runs")
        assert fake_slurm.run("scancel", f"{job_id}_[0,2]", f"{job_id}_3").code == 0
        wanted = [f"{job_id}_0|CANCELLED by {UID}|0:0", f"{job_id}_1|RUNNING|0:0"]
        wait_until(lambda: account(fake_slurm, job_id) == wanted, "only two elements are known any more")

    def test_a_whole_waiting_job_is_shown_as_cancelled(self, fake_slurm: FakeSlurm) -> None:
        job_id = sbatch(fake_slurm, "true", "--hold")
        fake_slurm.run("scancel", job_id)
        assert account(fake_slurm, job_id) == [f"{job_id}|CANCELLED by {UID}|0:0"]

    def test_by_name_and_state(self, fake_slurm: FakeSlurm) -> None:
        kept = sbatch(fake_slurm, "true", "--hold", "--job-name=kept")
        gone = sbatch(fake_slurm, "true", "--hold", "--job-name=gone")
        assert fake_slurm.run("scancel", "--name=gone", "--state=PENDING").code == 0
        assert account(fake_slurm, gone) == [f"{gone}|CANCELLED by {UID}|0:0"]
        assert account(fake_slurm, kept) == [f"{kept}|PENDING|0:0"]

    def test_a_signal_is_sent_to_the_script_and_cancels_nothing(self, fake_slurm: FakeSlurm, tmp_path: Path) -> None:
        shell = "trap 'touch saw; exit 0' USR1; touch up; while :; do sleep 0.05; done"
        job_id = sbatch(fake_slurm, shell, cwd=tmp_path)
        wait_until((tmp_path / "up").exists, "it runs")
        assert fake_slurm.run("scancel", "--signal=USR1", job_id).code == 0
        fake_slurm.wait_idle()
        assert (tmp_path / "saw").exists()
        assert account(fake_slurm, job_id) == [f"{job_id}|COMPLETED|0:0"]

    def test_unknown_and_ended_jobs_are_passed_over_without_a_word(self, fake_slurm: FakeSlurm) -> None:
        job_id = sbatch(fake_slurm, "true")
        fake_slurm.wait_idle()
        said = fake_slurm.run("scancel", job_id, "999")
        assert (said.code, said.stdout, said.stderr) == (0, "", "")
        assert account(fake_slurm, job_id) == [f"{job_id}|COMPLETED|0:0"]


class TestListings:
    def test_the_waiting_rest_is_one_row_with_its_throttle(self, fake_slurm: FakeSlurm) -> None:
        job_id = sbatch(fake_slurm, "true", "--hold", "--array=2-4,8%2")
        assert account(fake_slurm, job_id) == [f"{job_id}_[2-4,8%2]|PENDING|0:0"]
        assert queue(fake_slurm, job_id) == [f"{job_id}_[2-4,8%2]|PENDING|JobHeldUser"]
        assert len(queue(fake_slurm, job_id, "-r")) == 4

    def test_long_lists_of_slots_are_cut_unless_asked_not_to(self, fake_slurm: FakeSlurm) -> None:
        slots = ",".join(str(slot) for slot in range(0, 100, 2))
        job_id = sbatch(fake_slurm, "true", "--hold", f"--array={slots}")
        assert queue(fake_slurm, job_id)[0].split("|")[0].endswith("...]")
        said = fake_slurm.run("squeue", "-h", "-o", "%i", env={"SLURM_BITSTR_LEN": "0"})
        assert said.stdout == f"{job_id}_[{slots}]\n"

    def test_squeue_shows_what_lives_and_forgets_what_ended(self, fake_slurm: FakeSlurm) -> None:
        job_id = sbatch(fake_slurm, "true")
        fake_slurm.wait_idle()
        assert fake_slurm.run("squeue", "-h").stdout == ""
        assert len(queue(fake_slurm, job_id)) == 1
        fake_slurm.configure(min_job_age=0.0)
        said = fake_slurm.run("squeue", "-h", "-t", "all", "-j", job_id)
        assert (said.code, said.stderr) == (1, "slurm_load_jobs error: Invalid job id specified\n")
        assert account(fake_slurm, job_id) == [f"{job_id}|COMPLETED|0:0"]

    def test_of_several_jobs_squeue_leaves_out_the_forgotten_ones(self, fake_slurm: FakeSlurm) -> None:
        job_id = sbatch(fake_slurm, "true", "--hold")
        assert queue(fake_slurm, f"999,{job_id}") == [f"{job_id}|PENDING|JobHeldUser"]

    def test_sacct_without_accounting_says_so(self, fake_slurm: FakeSlurm) -> None:
        fake_slurm.configure(accounting=False)
        said = fake_slurm.run("sacct", "-X")
        assert (said.code, said.stderr) == (1, "Slurm accounting storage is disabled\n")

    def test_sacct_is_behind_by_the_account_lag(self, fake_slurm: FakeSlurm) -> None:
        job_id = sbatch(fake_slurm, "true")
        fake_slurm.wait_idle()
        fake_slurm.configure(account_lag=3600.0)
        assert account(fake_slurm, job_id) == []
        assert queue(fake_slurm, job_id) == [f"{job_id}|COMPLETED|None"]

    def test_raw_ids_name_single_elements(self, fake_slurm: FakeSlurm) -> None:
        job_id = sbatch(fake_slurm, "true", "--array=0-2")
        fake_slurm.wait_idle()
        said = fake_slurm.run("sacct", "-X", "-n", "-P", "-j", job_id, "-o", "JobIDRaw")
        raw = said.stdout.split()
        # The last one to start has the array's own number.
        assert len(set(raw)) == 3
        assert job_id in raw
        other = next(number for number in raw if number != job_id)
        assert len(account(fake_slurm, other)) == 1

    def test_an_unknown_field_is_refused(self, fake_slurm: FakeSlurm) -> None:
        said = fake_slurm.run("sacct", "-o", "JobID,Nonsense")
        assert (said.code, said.stderr) == (1, 'sacct: error: Invalid field requested: "Nonsense"\n')

    def test_scontrol_tells_the_limits(self, fake_slurm: FakeSlurm) -> None:
        fake_slurm.configure(max_array_size=77)
        assert parse_config_limits(fake_slurm.run("scontrol", "show", "config").stdout).max_array_size == 77

    def test_scontrol_describes_a_job(self, fake_slurm: FakeSlurm) -> None:
        job_id = sbatch(fake_slurm, "true", "--hold", "--time=5", "--job-name=me")
        text = fake_slurm.run("scontrol", "show", "job", job_id).stdout
        for part in (f"JobId={job_id}", "JobName=me", "JobState=PENDING", "TimeLimit=00:05:00", "Reason=JobHeldUser"):
            assert part in text
        assert fake_slurm.run("scontrol", "show", "job", "999").code == 1


class TestScontrol:
    def test_release_lets_a_held_job_go(self, fake_slurm: FakeSlurm) -> None:
        job_id = sbatch(fake_slurm, "true", "--hold", "--array=0-1")
        assert fake_slurm.run("scontrol", "release", job_id).code == 0
        fake_slurm.wait_idle()
        assert len(account(fake_slurm, job_id)) == 2

    def test_requeue_starts_a_new_try_with_the_restart_count(self, fake_slurm: FakeSlurm, tmp_path: Path) -> None:
        shell = 'echo "${SLURM_RESTART_COUNT:-0}" >> tries; [ "${SLURM_RESTART_COUNT:-0}" = 1 ] || sleep 600'
        job_id = sbatch(fake_slurm, shell, cwd=tmp_path)
        wait_until((tmp_path / "tries").exists, "it runs")
        assert fake_slurm.run("scontrol", "requeue", job_id).code == 0
        fake_slurm.wait_idle()
        assert (tmp_path / "tries").read_text() == "0\n1\n"
        assert account(fake_slurm, job_id) == [f"{job_id}|COMPLETED|0:0"]
        assert account(fake_slurm, job_id, "-D") == [f"{job_id}|REQUEUED|0:0", f"{job_id}|COMPLETED|0:0"]

    def test_a_job_that_may_not_start_again_is_not_requeued(self, fake_slurm: FakeSlurm, tmp_path: Path) -> None:
        job_id = sbatch(fake_slurm, "touch up; sleep 600", "--no-requeue", cwd=tmp_path)
        wait_until((tmp_path / "up").exists, "it runs")
        said = fake_slurm.run("scontrol", "requeue", job_id)
        assert (said.code, "Requested operation is presently disabled" in said.stderr) == (1, True)

    def test_the_throttle_can_be_changed(self, fake_slurm: FakeSlurm, tmp_path: Path) -> None:
        job_id = sbatch(fake_slurm, "touch up.$SLURM_ARRAY_TASK_ID; sleep 600", "--array=0-3%1", cwd=tmp_path)
        wait_until(lambda: len(list(tmp_path.glob("up.*"))) == 1, "one runs")
        fake_slurm.run("scontrol", "update", f"JobId={job_id}", "ArrayTaskThrottle=3")
        wait_until(lambda: len(list(tmp_path.glob("up.*"))) == 3, "three run")

    def test_an_end_time_of_now_is_a_timeout(self, fake_slurm: FakeSlurm, tmp_path: Path) -> None:
        job_id = sbatch(fake_slurm, "touch up; sleep 600", cwd=tmp_path)
        wait_until((tmp_path / "up").exists, "it runs")
        fake_slurm.run("scontrol", "update", f"JobId={job_id}", "EndTime=now")
        fake_slurm.wait_idle()
        assert account(fake_slurm, job_id) == [f"{job_id}|TIMEOUT|0:0"]

    def test_a_node_that_goes_down_takes_its_jobs_with_it(self, fake_slurm: FakeSlurm, tmp_path: Path) -> None:
        job_id = sbatch(fake_slurm, "touch up; sleep 600", "--no-requeue", "-w", "n2", cwd=tmp_path)
        wait_until((tmp_path / "up").exists, "it runs")
        fake_slurm.run("scontrol", "update", "NodeName=n2", "State=DOWN", "Reason=test")
        fake_slurm.wait_idle()
        assert account(fake_slurm, job_id) == [f"{job_id}|NODE_FAIL|0:0"]
        assert "NodeName=n2 CPUTot=4 State=DOWN" in fake_slurm.run("scontrol", "show", "nodes").stdout


class TestFaults:
    def test_out_of_memory_strikes_the_slot_it_was_ordered_for_and_once(self, fake_slurm: FakeSlurm) -> None:
        fake_slurm.inject("OUT_OF_MEMORY", name="train*", slots="1")
        other = sbatch(fake_slurm, "sleep 0.1", "--array=0-1", "--job-name=other")
        job_id = sbatch(fake_slurm, "sleep 0.1", "--array=0-2", "--job-name=train-1")
        again = sbatch(fake_slurm, "sleep 0.1", "--array=1", "--job-name=train-2")
        fake_slurm.wait_idle()
        assert account(fake_slurm, job_id)[1] == f"{job_id}_1|OUT_OF_MEMORY|0:125"
        states = {row.split("|")[1] for each in (other, again) for row in account(fake_slurm, each)}
        assert states == {"COMPLETED"}

    def test_out_of_memory_of_a_child_counts_even_when_the_script_ends_well(
        self, fake_slurm: FakeSlurm, tmp_path: Path
    ) -> None:
        fake_slurm.inject(JobStatus.OUT_OF_MEMORY, delay=None)
        job_id = sbatch(fake_slurm, "sleep 0.1; touch done; exit 0", cwd=tmp_path)
        fake_slurm.wait_idle()
        assert (tmp_path / "done").exists()
        assert account(fake_slurm, job_id) == [f"{job_id}|OUT_OF_MEMORY|0:125"]

    @pytest.mark.parametrize("status", ["NODE_FAIL", "PREEMPTED"])
    def test_lost_nodes_and_preemption_start_the_slot_again(
        self, fake_slurm: FakeSlurm, tmp_path: Path, status: str
    ) -> None:
        fake_slurm.inject(status, delay=0.2)
        shell = 'echo "${SLURM_RESTART_COUNT:-0}" >> tries; [ "${SLURM_RESTART_COUNT:-0}" = 1 ] || sleep 600'
        job_id = sbatch(fake_slurm, shell, cwd=tmp_path)
        (job,) = fake_slurm.wait_idle()
        assert (tmp_path / "tries").read_text() == "0\n1\n"
        assert job.starts == {None: 2}
        assert account(fake_slurm, job_id, "-D") == [f"{job_id}|{status}|0:0", f"{job_id}|COMPLETED|0:0"]

    def test_no_requeue_leaves_the_slot_where_it_fell(self, fake_slurm: FakeSlurm) -> None:
        fake_slurm.inject("NODE_FAIL")
        job_id = sbatch(fake_slurm, "sleep 600", "--no-requeue")
        fake_slurm.wait_idle()
        assert account(fake_slurm, job_id) == [f"{job_id}|NODE_FAIL|0:0"]

    def test_a_worker_may_outlive_its_node_beside_its_own_second_try(
        self, fake_slurm: FakeSlurm, tmp_path: Path
    ) -> None:
        fake_slurm.inject("NODE_FAIL", outlives=True, delay=0.2)
        shell = 'echo "begin ${SLURM_RESTART_COUNT:-0}" >> said; until [ -e go ]; do sleep 0.02; done; echo end >> said'
        job_id = sbatch(fake_slurm, shell, cwd=tmp_path)
        said = tmp_path / "said"
        wait_until(lambda: said.exists() and len(said.read_text().splitlines()) == 2, "both copies run")
        (tmp_path / "go").touch()
        fake_slurm.wait_idle()
        wait_until(lambda: said.read_text().splitlines()[2:] == ["end", "end"], "both have ended")
        assert account(fake_slurm, job_id, "-D") == [f"{job_id}|NODE_FAIL|0:0", f"{job_id}|COMPLETED|0:0"]

    @pytest.mark.parametrize("accepted", [True, False])
    def test_a_lost_submission_leaves_open_whether_the_job_is_there(
        self, fake_slurm: FakeSlurm, accepted: bool
    ) -> None:
        fake_slurm.lose_submission(accepted)
        said = fake_slurm.run("sbatch", "--parsable", "--output=/dev/null", "--job-name=mine", "--wrap", "true")
        assert (said.code, said.stdout) == (1, "")
        assert isinstance(classify_refusal(said.stderr, said.code), SubmitUnknown)
        assert [job.name for job in fake_slurm.jobs()] == (["mine"] if accepted else [])

    def test_a_command_fails_as_often_as_ordered(self, fake_slurm: FakeSlurm) -> None:
        fake_slurm.fail("squeue", stderr="slurm_load_jobs error: Unable to contact slurm controller\n", times=2)
        codes = [fake_slurm.run("squeue").code for _ in range(3)]
        assert codes == [1, 1, 0]

    def test_a_slow_command_does_its_work_all_the_same(self, fake_slurm: FakeSlurm) -> None:
        job_id = sbatch(fake_slurm, "true", "--hold")
        fake_slurm.slow("squeue", 0.5)
        began = time.monotonic()
        assert queue(fake_slurm, job_id) == [f"{job_id}|PENDING|JobHeldUser"]
        assert time.monotonic() - began >= 0.5

    def test_orders_can_be_taken_back(self, fake_slurm: FakeSlurm) -> None:
        fake_slurm.fail("sbatch", times=None)
        fake_slurm.inject("NODE_FAIL", times=None)
        fake_slurm.clear()
        job_id = sbatch(fake_slurm, "true")
        fake_slurm.wait_idle()
        assert account(fake_slurm, job_id) == [f"{job_id}|COMPLETED|0:0"]

    def test_every_call_is_written_down(self, fake_slurm: FakeSlurm) -> None:
        fake_slurm.run("squeue", "-h", "--name=a b")
        fake_slurm.run("squeue", "-j", "7")
        assert fake_slurm.calls("squeue") == [["-h", "--name=a b"], ["-j", "7"]]
        fake_slurm.forget_calls()
        assert fake_slurm.calls("squeue") == []

    def test_waiting_for_what_never_ends_says_what_it_waits_for(self, fake_slurm: FakeSlurm) -> None:
        job_id = sbatch(fake_slurm, "true", "--hold", "--job-name=stuck")
        with pytest.raises(TimeoutError, match=rf"{job_id} \(stuck\)"):
            fake_slurm.wait_idle(timeout=0.1)

    def test_stop_ends_what_still_runs(self, tmp_path: Path) -> None:
        with FakeSlurm(tmp_path / "cluster") as slurm:
            sbatch(slurm, "echo $$ > pid; exec sleep 600", cwd=tmp_path)
            wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), "it runs")
        pid = (tmp_path / "pid").read_text().strip()
        wait_until(lambda: not Path(f"/proc/{pid}").exists(), "it is gone")


class TestReading:
    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ('--job-name="a b" -p main', ["--job-name=a b", "-p", "main"]),
            ("--comment='it is' # a comment", ["--comment=it is"]),
            (r"--output=a\ b --x=\"", ["--output=a b", '--x="']),
            ('--comment=""', ["--comment="]),
            ("--comment=a#b", ["--comment=a#b"]),
        ],
    )
    def test_directives_are_split_as_sbatch_splits_them(self, text: str, words: list[str]) -> None:
        assert split_directive(text) == words

    def test_options_end_at_the_first_command(self) -> None:
        assert script_options("#!/bin/sh\n#SBATCH -J one\n\n# x\n#SBATCH -c2\ntrue\n#SBATCH -J two\n") == {
            "job-name": "one",
            "cpus-per-task": "2",
        }

    def test_long_names_may_be_shortened_and_short_ones_joined(self) -> None:
        assert read_options(["--parti", "gpu", "-Hn4", "job.sh", "-n", "9"]) == (
            {"partition": "gpu", "hold": "", "ntasks": "4"},
            ["job.sh", "-n", "9"],
        )

    @pytest.mark.parametrize("words", [["--mem-"], ["--time"], ["-n"], ["--nonsense=1"]])
    def test_what_is_no_option_is_refused(self, words: list[str]) -> None:
        with pytest.raises(WrongOption):
            read_options(words)

    @pytest.mark.parametrize(
        ("text", "slots", "throttle"),
        [("0-6:3", "0,3,6", None), ("1,3-5%2", "1,3-5", 2), ("[0-2]", "0-2", None), ("5", "5", None)],
    )
    def test_arrays_are_read(self, text: str, slots: str, throttle: int | None) -> None:
        indices, limit = parse_array(text)
        assert (str(indices), limit) == (slots, throttle)

    @pytest.mark.parametrize("text", ["a", "3-1", "1-", "1%0", "1%x", "-1"])
    def test_wrong_arrays_are_refused(self, text: str) -> None:
        with pytest.raises(ValueError, match=r"no index or range|empty range|no number"):
            parse_array(text)

    @pytest.mark.parametrize(
        ("text", "conditions", "is_any"),
        [
            ("afterok:1:2,singleton", ["afterok:1", "afterok:2", "singleton"], False),
            ("afterany:1?aftercorr:7_3", ["afterany:1", "aftercorr:7_3"], True),
            ("after:5+10", ["after:5"], False),
        ],
    )
    def test_dependencies_are_read(self, text: str, conditions: list[str], is_any: bool) -> None:
        found, any_condition = parse_dependency(text)
        assert ([str(each) for each in found], any_condition) == (conditions, is_any)

    def test_node_lists_are_read(self) -> None:
        assert parse_nodes("n1,gpu[2-3,7],x-1") == ["n1", "gpu2", "gpu3", "gpu7", "x-1"]
