"""What Slurm 22.05 really printed, and what reflow reads in it. `recorded/` holds the outputs as they came."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflow.errors import SubmitDeferred, SubmitOverLimit, SubmitRefused, SubmitTooLarge, SubmitUnknown
from reflow.executors import slurm_answers as answers
from reflow.executors.base import JobStatus, Limits, SlotStatus
from reflow.indices import Indices

RECORDED = Path(__file__).parent / "recorded"


def recorded(name: str) -> str:
    return (RECORDED / name).read_text()


@pytest.fixture(scope="module")
def account():
    return answers.parse_account(recorded("sacct-ends.txt"))


@pytest.fixture(scope="module")
def queue():
    return answers.parse_queue(recorded("squeue-ends.txt"))


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        ("12\n", "12"),
        ("71;rs\n", "71;rs"),
        ("Welcome to the cluster, 3 news\n12\n", "12"),
        ("Submitted batch job 12\n", "12"),
        ("", None),
        ("job 12 is fine\n", None),
    ],
)
def test_job_id_is_found_in_what_sbatch_prints(printed, expected):
    assert answers.parse_job_id(printed) == expected


#: slot of job 138: what its script did, and how the queue shows it.
ENDS = {
    0: ("exit 0", SlotStatus(JobStatus.COMPLETED, exit_code=0, node="n1")),
    1: ("exit 1", SlotStatus(JobStatus.FAILED, exit_code=1, node="n1", reason="NonZeroExitCode")),
    2: ("exit 2", SlotStatus(JobStatus.FAILED, exit_code=2, node="n1", reason="NonZeroExitCode")),
    3: ("exit 127", SlotStatus(JobStatus.FAILED, exit_code=127, node="n1", reason="NonZeroExitCode")),
    4: ("exit 137", SlotStatus(JobStatus.FAILED, exit_code=137, signal=9, node="n1", reason="NonZeroExitCode")),
    5: ("kill -9 $$", SlotStatus(JobStatus.FAILED, signal=9, node="n1", reason="JobLaunchFailure")),
    6: ("kill -15 $$", SlotStatus(JobStatus.FAILED, signal=15, node="n1", reason="JobLaunchFailure")),
    7: ("kill -11 $$", SlotStatus(JobStatus.FAILED, signal=11, node="n1", reason="JobLaunchFailure")),
    8: ("exit 9", SlotStatus(JobStatus.FAILED, exit_code=9, node="n1", reason="NonZeroExitCode")),
    9: ("exit 200", SlotStatus(JobStatus.FAILED, exit_code=200, node="n1", reason="NonZeroExitCode")),
}


@pytest.mark.parametrize("slot", ENDS, ids=[script for script, _ in ENDS.values()])
def test_queue_tells_exit_codes_and_signals_apart(queue, slot):
    assert answers.merge(queue, [])["138", slot] == ENDS[slot][1]


@pytest.mark.parametrize("slot", [0, 1, 2, 3, 4, 5, 6, 7], ids=[ENDS[slot][0] for slot in range(8)])
def test_account_tells_the_same_ends_once_the_queue_has_forgotten_them(account, slot):
    expected = ENDS[slot][1]
    found = answers.merge([], account)["138", slot]
    assert (found.status, found.exit_code, found.signal) == (expected.status, expected.exit_code, expected.signal)


def test_account_cannot_tell_exit_code_9_from_a_shell_that_passed_on_137(account):
    by_slot = answers.merge([], account)
    assert by_slot["138", 4] == by_slot["138", 8]


@pytest.mark.parametrize("source", ["queue", "account"])
def test_element_dropped_because_its_parent_failed_is_told_from_those_that_ran(source, queue, account):
    merged = answers.merge(queue, []) if source == "queue" else answers.merge([], account)
    statuses = [merged["140", slot].status for slot in range(4)]
    assert statuses == [JobStatus.COMPLETED, JobStatus.DEPENDENCY, JobStatus.COMPLETED, JobStatus.COMPLETED]


@pytest.mark.parametrize("source", ["queue", "account"])
@pytest.mark.parametrize("job", ["148", "149"], ids=["while it waited", "while it ran"])
def test_job_that_a_person_cancelled_is_not_taken_for_a_dropped_one(source, job, queue, account):
    """Both depended on another job, and sacct gives ``Dependency`` as the reason of both."""
    merged = answers.merge(queue, []) if source == "queue" else answers.merge([], account)
    assert merged[job, None].status is JobStatus.CANCELLED


def test_waiting_rest_of_an_array_is_every_slot_of_it(queue, account):
    merged = answers.merge(queue, account)
    statuses = {slot: answer.status for (job, slot), answer in merged.items() if job == "141"}
    assert statuses == {
        0: JobStatus.RUNNING,
        1: JobStatus.CANCELLED,
        2: JobStatus.RUNNING,
        **dict.fromkeys((3, 4, 5, 8), JobStatus.PENDING),
    }


def test_slots_cancelled_while_waiting_are_not_in_the_answer(queue, account):
    merged = answers.merge(queue, account)
    waiting = {slot for job, slot in merged if job == "144"}
    assert waiting == {1, 3, 5, 7, 9, 11, 13, 15, 17, 19, *range(21, 41)}


def test_requeued_job_is_what_its_newest_try_is(queue, account):
    merged = answers.merge(queue, account)
    assert merged["143", None].status is JobStatus.RUNNING  # sacct still has only the row REQUEUED
    assert merged["145", None].status is JobStatus.PENDING  # the node failed under its first try


def test_node_failure_keeps_the_node(queue, account):
    assert answers.merge([], account)["147", 0] == SlotStatus(JobStatus.NODE_FAIL, node="n2")
    assert answers.merge(queue, account)["147", 0] == SlotStatus(JobStatus.NODE_FAIL, node="n2", reason="NodeDown")


def test_job_that_could_not_be_launched_has_no_signal_53(queue):
    assert answers.merge(queue, [])["146", None] == SlotStatus(JobStatus.FAILED, node="n2", reason="JobLaunchFailure")


def test_newest_of_several_rows_wins_in_any_order():
    old = "7_1|NODE_FAIL|0:0|n1|None|2026-11-24T01:40:15"
    new = "7_1|COMPLETED|0:0|n2|None|2026-11-24T01:42:15"
    for text in (f"{old}\n{new}\n", f"{new}\n{old}\n"):
        assert answers.merge([], answers.parse_account(text))["7", 1].status is JobStatus.COMPLETED


def test_what_only_the_account_takes_for_alive_is_forgotten():
    """A job whose end never reached the database stands there as RUNNING for ever."""
    assert answers.merge([], answers.parse_account("7|RUNNING|0:0|n1|None|2026-11-24T01:40:15\n")) == {}


def test_bare_number_of_an_array_is_its_last_element_in_disguise():
    """For up to 5 s sacct has such a row, even as FAILED."""
    text = "7|FAILED|1:0|n1|None|2026-11-24T01:40:15\n7_0|COMPLETED|0:0|n1|None|2026-11-24T01:40:15\n"
    assert set(answers.merge([], answers.parse_account(text))) == {("7", 0)}
    queue = answers.parse_queue("7_0|RUNNING|0|n1|None|\n")
    bare = answers.parse_account("7|FAILED|1:0|n1|None|2026-11-24T01:40:15\n")
    assert set(answers.merge(queue, bare)) == {("7", 0)}


def test_jobs_of_another_cluster_keep_its_name():
    queue = answers.parse_queue("CLUSTER: big\n7_0|RUNNING|0|n1|None|\n")
    assert set(answers.merge(queue, [], "big")) == {("7;big", 0)}


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("7|OUT_OF_MEMORY|0:125|n1|None|x", SlotStatus(JobStatus.OUT_OF_MEMORY, node="n1")),
        ("7|TIMEOUT|0:0|n1|None|x", SlotStatus(JobStatus.TIMEOUT, node="n1")),
        ("7|PREEMPTED|0:0|n1|None|x", SlotStatus(JobStatus.PREEMPTED, node="n1")),
        ("7|BOOT_FAIL|0:0|n1|None|x", SlotStatus(JobStatus.NODE_FAIL, node="n1")),
        ("7|DEADLINE|0:0|None assigned|None|x", SlotStatus(JobStatus.FAILED, exit_code=0)),
        ("7|CANCELLED by 1000|0:0|None assigned|None|x", SlotStatus(JobStatus.CANCELLED)),
    ],
)
def test_other_ends_in_the_account(row, expected):
    assert answers.merge([], answers.parse_account(row))["7", None] == expected


@pytest.mark.parametrize("state", ["SUSPENDED", "COMPLETING", "STAGE_OUT", "A_STATE_OF_THE_FUTURE"])
def test_state_that_is_not_an_end_is_running(state):
    assert answers.merge(answers.parse_queue(f"7|{state}|0|n1|None|\n"), [])["7", None].status is JobStatus.RUNNING


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        ("7_[1-899:2%2]", Indices(range(1, 900, 2))),
        ("7_[0-899%7]", Indices.range(0, 900)),
        ("7_[1,5-7,20-28:4]", Indices([1, 5, 6, 7, 20, 24, 28])),
        ("7_[3]", Indices([3])),
        ("7_3", Indices([3])),
        ("7", None),
    ],
)
def test_slots_are_read_in_every_notation_that_slurm_prints(shown, expected):
    """Evenly spaced slots come with a step, though ``SLURM_BITSTR_LEN=0`` was set."""
    (row,) = answers.parse_queue(f"{shown}|PENDING|0||Resources|\n")
    assert (row.number, row.slots) == ("7", expected)


@given(st.text())
def test_no_text_makes_the_readers_fail(text):
    answers.parse_account(text)
    answers.parse_queue(text)
    answers.parse_found(text)
    answers.parse_job_id(text)


def test_found_job_is_the_living_one_else_the_newest():
    assert answers.parse_found("9|CANCELLED\n7|PENDING\n8|COMPLETED\n") == "7"
    assert answers.parse_found("7|FAILED\n9|CANCELLED\n8|COMPLETED\n") == "9"
    assert answers.parse_found("141|CANCELLED\n141_[3-5%2]|PENDING\n") == "141"
    assert answers.parse_found("") is None


def test_limits_are_read_from_the_configuration():
    assert answers.parse_config_limits(recorded("scontrol-config.txt")) == Limits(max_array_size=1001)
    assert answers.parse_config_limits("MaxArraySize            = 100001\n") == Limits(max_array_size=100_001)
    assert answers.parse_config_limits("nothing of the sort") == Limits(max_array_size=1001)


FAILED = "sbatch: error: Batch job submission failed: "
POLICY = FAILED + "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"

REFUSALS = [
    # An index beyond MaxArraySize, limits and a busy or absent controller pass.
    (FAILED + "Invalid job array specification", 1, SubmitTooLarge),
    ("sbatch: error: AssocMaxSubmitJobLimit\n" + POLICY, 1, SubmitOverLimit),
    ("sbatch: error: QOSMaxSubmitJobPerUserLimit\n" + POLICY, 1, SubmitOverLimit),
    (POLICY, 1, SubmitOverLimit),
    (
        "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying\n"
        + FAILED
        + "Resource temporarily unavailable",
        1,
        SubmitDeferred,
    ),
    (FAILED + "Unable to contact slurm controller (connect failure)", 1, SubmitDeferred),
    (FAILED + "Required partition not available (inactive or drain)", 1, SubmitDeferred),
    (FAILED + "Protocol authentication error", 1, SubmitDeferred),
    # The job may have been accepted: seen with a controller that hung, which ran the job when it went on.
    (FAILED + "Socket timed out on send/recv operation", 1, SubmitUnknown),
    (FAILED + "Zero Bytes were transmitted or received", 1, SubmitUnknown),
    ("", -9, SubmitUnknown),
    # These stay.
    ("sbatch: error: QOSMaxWallDurationPerJobLimit\n" + POLICY, 1, SubmitRefused),
    (
        "sbatch: error: invalid partition specified: nope\n" + FAILED + "Invalid partition name specified",
        1,
        SubmitRefused,
    ),
    (FAILED + "Invalid account or account/partition combination specified", 1, SubmitRefused),
    (FAILED + "Invalid qos specification", 1, SubmitRefused),
    (FAILED + "Invalid node name specified", 1, SubmitRefused),
    (FAILED + "Invalid feature specification", 1, SubmitRefused),
    ("sbatch: error: Invalid generic resource (gres) specification", 1, SubmitRefused),
    (
        "sbatch: error: Memory specification can not be satisfied\n"
        + FAILED
        + "Requested node configuration is not available",
        1,
        SubmitRefused,
    ),
    (FAILED + "Job dependency problem", 1, SubmitRefused),
    ("sbatch: error: Invalid --time specification", 255, SubmitRefused),
    ("sbatch: unrecognized option '--bogus=1'\nTry \"sbatch --help\" for more information", 255, SubmitRefused),
    ("sbatch: error: please charge your job to a project", 1, SubmitRefused),
    ("", 1, SubmitRefused),
]


@pytest.mark.parametrize(("stderr", "code", "expected"), REFUSALS)
def test_failed_submit_is_refused_deferred_or_unknown(stderr, code, expected):
    assert type(answers.classify_refusal(stderr, code)) is expected


def test_refusal_keeps_the_schedulers_own_words_on_one_line():
    stderr = f"sbatch: error: invalid partition specified: nope\n{FAILED}Invalid partition name specified\n"
    assert str(answers.classify_refusal(stderr, 1)) == (
        "Slurm refuses the job: invalid partition specified: nope; "
        "Batch job submission failed: Invalid partition name specified"
    )


@pytest.mark.parametrize(
    ("stderr", "expected"),
    [
        ("scancel: error: Kill job error on job id 7: Job/step already completing or completed\n", True),
        ("scancel: error: Kill job error on job id 7: Invalid job id specified\n", True),
        ("scancel: error: Kill job error on job id 79: Unable to contact slurm controller (connect failure)\n", False),
        ("", False),
    ],
)
def test_cancel_of_an_ended_job_is_told_from_a_cancel_that_failed(stderr, expected):
    assert answers.is_over_already(stderr) is expected


def test_the_memory_that_steps_used_is_read_of_each_slot_at_its_most():
    text = "53_2|\n53_2.batch|123456K\n53_2.0|1.50G\n53_4.batch|\n54.batch|812M\n54.extern|0\n"
    assert answers.parse_usage(text) == {("53", 2): 1_572_864, ("54", None): 831_488}
    assert answers.parse_usage("7.batch|5K\n", "big") == {("7;big", None): 5}
