"""Failure cards: what fails alike is one card, and it says what a person needs at night."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from reflow.failures import Commands, FailureCard, group_alike, last_message, newest_failures
from reflow.indices import Indices
from reflow.spec import JobConfig
from reflow.states import TaskState
from reflow.stores.records import AttemptRecord, FailedInstance, TaskInstanceRecord

BEGAN = datetime(2026, 11, 24, 2, 0, tzinfo=timezone.utc)


def traceback(line: int, message: str) -> str:
    return f'Traceback (most recent call last):\n  File "/home/p/fit.py", line {line}, in fit\n    fit(x)\n{message}'


def failed(index, error="", failure="EXCEPTION", task="fit", **more):
    known = {"exit_code": None, "signal": None, "node": "n1", "finished_at": 1_000 + (index or 0), **more}
    return FailedInstance(100 + (index or 0), task, index, 1, failure, error=error, **known)


def test_three_hundred_elements_with_numbers_in_their_messages_are_one_group():
    failures = [
        failed(index, traceback(7, f"ValueError: subject {index} has {index * 3} volumes")) for index in range(300)
    ]
    (group,) = group_alike(failures)
    assert group.indices == Indices.range(0, 300)
    assert group.first == failures[0]


def test_names_of_files_and_quoted_values_do_not_tell_failures_apart():
    failures = [
        failed(0, "FileNotFoundError: [Errno 2] No such file: '/data/alice.nii'"),
        failed(1, "FileNotFoundError: [Errno 2] No such file: '/data/bob.nii'"),
        failed(2, "PermissionError: [Errno 13] Permission denied: '/data/bob.nii'"),
    ]
    assert [str(group.indices) for group in group_alike(failures)] == ["0-1", "2"]


def test_another_place_another_class_and_another_signal_are_other_groups():
    failures = [
        failed(0, traceback(7, "ValueError: no")),
        failed(1, traceback(8, "ValueError: no")),
        failed(2, "job 12_2: the scheduler says TIMEOUT", "TIMEOUT"),
        failed(3, "job 12_3: the scheduler says FAILED", "FAILED", signal=9),
        failed(4, "job 12_4: the scheduler says FAILED", "FAILED", signal=11),
    ]
    assert len(group_alike(failures)) == 5


def test_the_nodes_of_a_group_are_counted_the_worst_first():
    failures = [failed(index, "same", node="n2" if index % 3 else "n1") for index in range(9)]
    (group,) = group_alike(failures)
    assert list(group.nodes.items()) == [("n2", 6), ("n1", 3)]


def test_tasks_keep_their_order_and_the_largest_group_of_each_comes_first():
    failures = [
        failed(0, "a"),
        failed(1, "b"),
        failed(2, "b"),
        failed(None, "c", task="after"),
    ]
    assert [(group.task_name, str(group.indices)) for group in group_alike(failures)] == [
        ("fit", "1-2"),
        ("fit", "0"),
        ("after", "0"),
    ]


def test_the_newest_way_to_fail_is_the_one_whose_last_member_ended_last():
    failures = [failed(0, "a", finished_at=5), failed(1, "b", finished_at=7), failed(2, "a", finished_at=9)]
    assert [str(group.indices) for group in newest_failures(group_alike(failures))] == ["0,2", "1"]


@given(
    st.dictionaries(
        st.integers(0, 500), st.tuples(st.sampled_from(["a", "b 7", "b 8", "c"]), st.sampled_from(["EXIT", "TIMEOUT"]))
    ),
    st.randoms(),
)
def test_every_failure_is_in_exactly_one_group_in_whatever_order_they_come(found, random):
    failures = [failed(index, error, failure) for index, (error, failure) in found.items()]
    groups = group_alike(failures)
    members = [index for group in groups for index in group.indices]
    assert sorted(members) == sorted(found)
    random.shuffle(failures)
    assert {str(group.indices) for group in group_alike(failures)} == {str(group.indices) for group in groups}


def test_the_message_is_the_line_of_the_exception_and_not_its_last_line():
    assert last_message(traceback(3, "ValidationError: 2 fields are wrong\n  age\n  name")) == (
        "ValidationError: 2 fields are wrong"
    )
    assert last_message("job 12_4: the scheduler says OUT_OF_MEMORY") == "job 12_4: the scheduler says OUT_OF_MEMORY"
    assert last_message("") == ""


def example(index: int | None, **more) -> TaskInstanceRecord:
    known = {"attempt": 1, "failure": "OUT_OF_MEMORY", "node": "n17", **more}
    return TaskInstanceRecord(
        id=7,
        run_id="study-1",
        task_name="fit",
        array_index=index,
        state=TaskState.FAILED,
        job_id="12",
        input=None,
        output=None,
        error_text="job 12_4711: the scheduler says OUT_OF_MEMORY",
        identity="",
        input_hash="",
        output_hash="",
        created_at=BEGAN,
        updated_at=BEGAN,
        started_at=BEGAN,
        finished_at=BEGAN + timedelta(minutes=72),
        **known,
    )


def card_of(failures, record, **more) -> FailureCard:
    (group,) = group_alike(failures)
    return FailureCard(group, record, commands=Commands("study-1"), **more)


def text_of(card: FailureCard) -> list[str]:
    return [line.text.strip() for line in card.lines()]


def test_a_card_says_class_node_attempt_time_and_memory_asked_last_lines_and_what_to_type():
    earlier = AttemptRecord(
        1, TaskState.FAILED, "9", "n3", BEGAN, BEGAN + timedelta(minutes=9), "TIMEOUT", None, None, ""
    )
    card = card_of(
        [failed(4711, "job 12_4711: the scheduler says OUT_OF_MEMORY", "OUT_OF_MEMORY")],
        example(4711, attempt=2, max_rss=4_090_000, asked_mem="6G"),
        earlier=(earlier,),
        asked=JobConfig(array=True, mem="4G", time="02:00:00", submit_options={"partition": "long"}),
        tries=3,
        log_lines=("loading", "allocating 3 GB"),
    )
    lines = text_of(card)
    assert lines[0].startswith("fit[4711]: OUT_OF_MEMORY, on n17, attempt 2 of 3, after 1 h 12 min, at ")
    assert "asked   mem 6G, time 02:00:00, 1 CPU, partition long" in lines, "the attempt asked for more than its task"
    assert "used    mem 3.9G (65 %, sampled), time 1 h 12 min" in lines
    assert "before  attempt 1: TIMEOUT, on n3, after 9 min 00 s" in lines
    assert "| job 12_4711: the scheduler says OUT_OF_MEMORY" in lines
    assert "| allocating 3 GB" in lines
    assert lines[-2:] == ["log     reflow logs study-1 'fit[4711]'", "retry   reflow retry study-1 --task fit"]


def test_a_card_of_many_names_their_indices_and_the_first():
    failures = [failed(index, "same", "OUT_OF_MEMORY") for index in (3, 4, 5, 9)]
    lines = text_of(card_of(failures, example(3)))
    assert lines[0] == "fit: 4 elements failed alike [3-5,9]"
    assert lines[1].startswith("first   fit[3]: OUT_OF_MEMORY, on n17")


def test_the_card_of_a_singleton_names_no_index():
    card = card_of([failed(None, "same", "OUT_OF_MEMORY")], example(None))
    assert text_of(card)[0].startswith("fit: OUT_OF_MEMORY")
    assert "log     reflow logs study-1 fit" in text_of(card)
    assert card.to_public_dict()["indices"] is None


def test_commands_are_quoted_and_find_the_same_manifest():
    commands = Commands("study-1", "python my.py", ("--store-path", "/data/my runs/manifest.db"))
    assert commands.logs("a b", 3) == "python my.py logs study-1 'a b[3]' --store-path '/data/my runs/manifest.db'"


def test_a_cards_dict_has_what_its_lines_tell():
    card = card_of([failed(4711, "x", "OUT_OF_MEMORY")], example(4711), asked=JobConfig(mem="4G"), tries=3)
    public = card.to_public_dict()
    assert (public["indices"], public["count"], public["failure"], public["tries"]) == ("4711", 1, "OUT_OF_MEMORY", 3)
    assert public["asked"]["mem"] == "4G"
    assert public["used"]["seconds"] == 72 * 60
    assert public["commands"]["logs"] == "reflow logs study-1 'fit[4711]'"
