"""What the decorator takes about trying again, and the sentences about what it does not take."""

from __future__ import annotations

import pytest

from reflow import Flow


class NotThere(OSError):
    pass


def config(**options):
    flow = Flow("f")

    @flow.job("work", **options)
    def work() -> int:
        return 1

    return flow.task("work").config


def test_exceptions_are_named_by_class_or_name_and_failures_by_their_class():
    found = config(retries=2, retry_on=[NotThere, ValueError, "urllib.error.URLError", "TIMEOUT", ValueError])
    assert found.retry_on == ("NotThere", "ValueError", "urllib.error.URLError", "TIMEOUT")


def test_a_single_cause_needs_no_list():
    assert config(retries=1, retry_on=OSError).retry_on == ("OSError",)
    assert config(retries=1, retry_on="EXCEPTION").retry_on == ("EXCEPTION",)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"retries": "3"}, "retries='3' must be a whole number"),
        ({"retries": -1}, "retries=-1 must be 0 or more"),
        ({"retries": True}, "retries=True must be a whole number"),
        ({"retry_on": OSError}, "retry_on needs retries=N"),
        ({"retries": 1, "retry_on": []}, "retry_on=\\[\\] retries nothing"),
        ({"retries": 1, "retry_on": 5}, "retry_on=5 must be a list"),
        ({"retries": 1, "retry_on": [3]}, "retry_on has 3"),
        ({"retries": 1, "retry_on": "OUT_OF_MEMROY"}, "no class of failures.*Did you mean 'OUT_OF_MEMORY'"),
        ({"retries": 1, "retry_on": "CANCELLED"}, "no class of failures"),
        ({"retries": 1, "retry_on": "not a name"}, "no class of failures"),
        ({"mem_factor": 0.5}, "mem_factor=0.5 must lie between 1"),
        ({"mem_factor": float("nan")}, "mem_factor=nan must lie between 1"),
        ({"time_factor": "2"}, "time_factor='2' must be a number"),
        ({"mem": "4G", "mem_max": "2G"}, "mem_max='2G' is less than mem='4G'"),
        ({"mem_max": 8}, "mem_max=8 must be a string, as mem='4G' is"),
        ({"mem_max": "lots"}, "'lots' is not an amount of memory"),
        ({"time": "02:00:00", "time_max": "01:00:00"}, "time_max='01:00:00' is less than time='02:00:00'"),
        ({"time_max": "0"}, "time_max='0' is no limit: leave it out"),
        ({"max_retries": 3}, "no keyword 'max_retries'. Did you mean 'retries'"),
    ],
)
def test_a_mistake_is_one_sentence_on_the_login_node(options, sentence):
    with pytest.raises((TypeError, ValueError), match=f"Task 'work': .*{sentence}"):
        config(**options)
