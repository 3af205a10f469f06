"""The one door to other programs."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from reflow.errors import SchedulerError
from reflow.executors.commands import CommandTimedOut, Completed, clean_environment, run, start


def python(code: str, *words: str) -> list[str]:
    return [sys.executable, "-c", code, *words]


def is_running(stat: Path) -> bool:
    """Return whether a process lives, by its file in /proc; one that only waits to be collected does not."""
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_words_arrive_as_they_are_and_both_outputs_come_back():
    tell = "import sys; print(sys.argv[1:]); print('oops', file=sys.stderr); sys.exit(3)"
    words = ["a b", "", "$HOME", "*", "\n", "é"]
    assert run(python(tell, *words), timeout=30) == Completed(f"{words}\n", "oops\n", 3)


def test_folder_environment_and_input_are_those_given(tmp_path):
    tell = "import os, sys; print(os.getcwd(), os.environ.get('HOME'), os.environ['X'], sys.stdin.read())"
    done = run(python(tell), timeout=30, cwd=tmp_path, env={"X": "1"}, input="é")
    assert done.stdout == f"{tmp_path} None 1 é\n"


def test_command_without_input_does_not_wait_for_the_keyboard():
    assert run(["cat"], timeout=30).stdout == ""


def test_bytes_that_are_no_text_do_not_stop_the_reading():
    assert run(python("import sys; sys.stdout.buffer.write(b'12\\xff')"), timeout=30).stdout == "12�"


def test_signal_that_ended_the_command_is_its_negative_code():
    assert run(python("import os; os.kill(os.getpid(), 9)"), timeout=30).code == -9


def test_missing_command_is_one_sentence():
    with pytest.raises(SchedulerError, match=r"^no-such-sbatch was not found on PATH: is this a login node"):
        run(["no-such-sbatch", "--parsable"], timeout=30)


def test_missing_folder_is_not_taken_for_a_missing_command(tmp_path):
    with pytest.raises(SchedulerError, match="there is no such folder"):
        run(["true"], timeout=30, cwd=tmp_path / "gone")


def test_file_that_is_no_program_is_one_sentence(tmp_path):
    (tmp_path / "sbatch").write_text("")
    with pytest.raises(SchedulerError, match="could not be started: Permission denied"):
        run([str(tmp_path / "sbatch")], timeout=30)


def test_too_long_a_command_line_is_one_sentence():
    with pytest.raises(SchedulerError, match="could not be started: Argument list too long"):
        run(["true", "x" * 5_000_000], timeout=30)


def test_command_that_does_not_answer_is_killed_with_all_it_started(tmp_path):
    """A wrapper's child would hold the pipes open, and reflow with them."""
    wrapper = f"sleep 600 & echo $! > {tmp_path}/child; wait"
    began = time.monotonic()
    with pytest.raises(CommandTimedOut, match=r"'sh' did not answer within 0\.5 s"):
        run(["sh", "-c", wrapper], timeout=0.5)
    assert time.monotonic() - began < 30
    child = Path("/proc") / (tmp_path / "child").read_text().strip() / "stat"
    while is_running(child) and time.monotonic() - began < 30:
        time.sleep(0.01)
    assert not is_running(child)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (Completed("out\n", "one\n\n  two \n", 1), "one; two"),
        (Completed("out\n", "", 1), "out"),
        (Completed("", "", 4), "exit code 4"),
    ],
)
def test_complaint_is_one_line(said, words):
    assert said.words == words


def test_started_process_leads_a_group_of_its_own():
    process = start(["sleep", "600"])
    assert os.getpgid(process.pid) == process.pid
    process.kill()
    assert process.wait() == -9


def test_what_a_surrounding_job_left_in_the_environment_is_taken_out():
    inherited = {
        "SLURM_JOB_ID": "17",
        "SLURM_CPU_BIND": "quiet,mask_cpu:0x1",
        "SLURMD_NODENAME": "n1",
        "SBATCH_PARTITION": "debug",
        "SALLOC_ACCOUNT": "x",
        "SQUEUE_FORMAT": "%i",
        "SACCT_FORMAT": "JobID",
        "SCANCEL_STATE": "PENDING",
        "PMI_RANK": "0",
        "CUDA_VISIBLE_DEVICES": "1",
        "TMPDIR": "/tmp/slurm.17",
        "TMP": "/tmp/170",
    }
    kept = {"SLURM_CONF": "/etc/slurm.conf", "SLURM_JWT": "secret", "PATH": "/bin", "OMP_NUM_THREADS": "4"}
    assert clean_environment({**inherited, **kept}) == {**kept, "TMP": "/tmp/170"}


def test_login_shells_devices_and_temporary_folder_stay():
    login = {"CUDA_VISIBLE_DEVICES": "1", "TMPDIR": "/tmp/ada.17", "PATH": "/bin"}
    assert clean_environment(login) == login
