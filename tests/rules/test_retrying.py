"""Whether a failed element is tried again, and with what: the rules, and what holds for every history."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflow.amounts import format_memory, parse_memory, parse_time_limit
from reflow.retrying import (
    ABNORMAL,
    INFRASTRUCTURE,
    INFRASTRUCTURE_RETRIES,
    MOST_EXCLUDED,
    Try,
    next_resources,
    resources,
)
from reflow.spec import JobConfig
from reflow.stores.records import TASKS_OWN, Failure, Resources


def tries(*failures: str, **more: object) -> list[Try]:
    return [Try(Failure(failure), **more) for failure in failures]


def asked(config: JobConfig, *failures: str) -> Resources | None:
    return next_resources(config, tries(*failures))


@pytest.mark.parametrize("failure", sorted(ABNORMAL))
def test_without_retries_nothing_of_the_tasks_own_is_tried_again(failure):
    assert asked(JobConfig(), failure) is None


@pytest.mark.parametrize("failure", sorted(ABNORMAL))
def test_abnormal_ends_are_tried_again_as_often_as_the_task_says(failure):
    config = JobConfig(retries=2)
    assert asked(config, failure) is not None
    assert asked(config, failure, failure) is not None
    assert asked(config, failure, failure, failure) is None


def test_an_exception_is_tried_again_only_where_it_was_asked_for():
    raised = [Try(Failure.EXCEPTION, "requests.exceptions.ConnectTimeout OSError Exception BaseException")]
    assert next_resources(JobConfig(retries=3), raised) is None
    for cause in ("EXCEPTION", "OSError", "ConnectTimeout", "requests.exceptions.ConnectTimeout"):
        assert next_resources(JobConfig(retries=3, retry_on=(cause,)), raised) == TASKS_OWN
    for cause in ("ValueError", "other.ConnectTimeout", "OUT_OF_MEMORY"):
        assert next_resources(JobConfig(retries=3, retry_on=(cause,)), raised) is None


def test_retry_on_names_all_that_is_tried_again():
    config = JobConfig(retries=1, retry_on=("OUT_OF_MEMORY",))
    assert asked(config, "OUT_OF_MEMORY") is not None
    assert asked(config, "TIMEOUT") is None


@pytest.mark.parametrize("failure", ["REFUSED", "CANCELLED"])
def test_what_a_person_or_the_scheduler_refuses_is_never_tried_again_by_itself(failure):
    assert asked(JobConfig(retries=9), failure) is None


def test_memory_doubles_after_running_out_of_it_and_stops_at_the_ceiling():
    config = JobConfig(mem="3G", retries=9, mem_max="10G")
    assert [asked(config, *["OUT_OF_MEMORY"] * times) for times in (1, 2, 3)] == [
        Resources(mem="6G"),
        Resources(mem="10G"),
        None,
    ]


def test_time_grows_after_the_time_limit_and_memory_stays():
    config = JobConfig(time="00:10:00", retries=9, time_factor=1.5, time_max="1-00:00:00")
    assert asked(config, "TIMEOUT", "TIMEOUT") == Resources(time="00:22:30")
    assert asked(config, "FAILED") == TASKS_OWN


def test_a_factor_of_one_asks_for_the_same_again():
    assert asked(JobConfig(retries=1, mem_factor=1.0), "OUT_OF_MEMORY") == TASKS_OWN


def test_a_person_gives_a_new_budget_and_what_was_learnt_stays():
    config = JobConfig(mem="1G", retries=1)
    before = tries("OUT_OF_MEMORY", "OUT_OF_MEMORY")
    assert next_resources(config, before) is None
    known = tries("OUT_OF_MEMORY", "OUT_OF_MEMORY", counts=False)
    assert resources(config, known) == Resources(mem="4G")
    assert next_resources(config, [*known, *tries("OUT_OF_MEMORY")]) == Resources(mem="8G")


def test_after_a_refusal_of_what_was_asked_for_a_person_begins_with_the_tasks_own_again():
    history = tries("OUT_OF_MEMORY", "OUT_OF_MEMORY", "REFUSED", counts=False)
    assert resources(JobConfig(mem="1G"), history) == TASKS_OWN


def test_a_lost_node_does_not_use_up_the_tasks_budget_and_is_avoided():
    config = JobConfig(retries=1)
    history = [Try(Failure.NODE_FAIL, node="n7"), Try(Failure.FAILED, node="n1"), Try(Failure.NODE_FAIL, node="n3")]
    assert next_resources(config, history) == Resources(exclude=("n3", "n7"))


def test_a_preempted_element_may_have_its_node_again():
    assert next_resources(JobConfig(), [Try(Failure.PREEMPTED, node="n7")]) == TASKS_OWN


def test_infrastructure_is_not_tried_for_ever():
    assert asked(JobConfig(), *["NODE_FAIL"] * INFRASTRUCTURE_RETRIES) is not None
    assert asked(JobConfig(), *["NODE_FAIL"] * (INFRASTRUCTURE_RETRIES + 1)) is None


HISTORIES = st.lists(
    st.builds(
        Try,
        failure=st.sampled_from(sorted(ABNORMAL | INFRASTRUCTURE | {Failure.EXCEPTION})),
        exception=st.sampled_from(["", "OSError Exception"]),
        node=st.sampled_from(["", "n1", "n2", "n3", "n4", "n5", "n6"]),
    ),
    min_size=1,
    max_size=30,
)
CONFIGS = st.builds(
    JobConfig,
    mem=st.sampled_from(["1", "700M", "4G", "1T", "0"]),
    time=st.sampled_from(["1", "00:30:00", "2-12", "0"]),
    retries=st.integers(0, 6),
    retry_on=st.sampled_from([None, ("EXCEPTION",), ("OSError", "OUT_OF_MEMORY", "LOST")]),
    mem_factor=st.floats(1, 4),
    time_factor=st.floats(1, 4),
    mem_max=st.sampled_from([None, "2T"]),
    time_max=st.sampled_from([None, "7-00"]),
)


@given(CONFIGS, HISTORIES)
def test_an_element_that_always_fails_is_given_up_within_both_budgets(config, history):
    tried = 0
    while tried < len(history) and next_resources(config, history[: tried + 1]) is not None:
        tried += 1
    assert tried <= config.retries + INFRASTRUCTURE_RETRIES


@given(CONFIGS, HISTORIES)
def test_losses_of_the_infrastructure_never_decide_about_the_tasks_own_budget(config, history):
    own = [each for each in history if each.failure not in INFRASTRUCTURE]
    if history[-1] in own:
        found, alone = next_resources(config, history), next_resources(config, own)
        assert (found is None) == (alone is None)
        assert found is None or alone is None or (found.mem, found.time) == (alone.mem, alone.time)


@given(CONFIGS, HISTORIES)
def test_what_is_asked_for_never_shrinks_and_never_passes_its_ceiling(config, history):
    def amounts(length):
        found = resources(config, history[:length])
        mem = parse_memory(found.mem or config.mem)
        time = parse_time_limit(found.time or config.time)
        return [float("inf") if each is None else each for each in (mem, time)]

    for length in range(1, len(history) + 1):
        before, after = amounts(length - 1), amounts(length)
        assert before[0] <= after[0]
        assert before[1] <= after[1]
        if config.mem_max and config.mem != "0":
            assert after[0] <= parse_memory(config.mem_max)
        if config.time_max and config.time != "0":
            assert after[1] <= parse_time_limit(config.time_max)


@given(CONFIGS, HISTORIES)
def test_few_nodes_are_avoided_and_only_those_that_failed(config, history):
    found = resources(config, history).exclude
    failed = {each.node for each in history if each.failure is Failure.NODE_FAIL}
    assert len(found) <= MOST_EXCLUDED
    assert set(found) <= failed - {""}


@given(st.integers(1, 2**50))
def test_memory_is_written_as_it_is_read(kib):
    assert parse_memory(format_memory(kib)) == kib
