"""A cap on queued elements: never passed, and no submit for every element that ends."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from reflow.indices import Indices
from reflow.plan import Expand, LiveWave, RunSnapshot, Submit, TaskSnapshot
from reflow.room import fit, refill_at
from reflow.spec import JobConfig, TaskPlan
from reflow.states import RunState


def queued(number: int) -> RunSnapshot:
    waves = (LiveWave(1, "7", Indices.range(0, number)),) if number else ()
    plan = TaskPlan("count", JobConfig(array=True))
    return RunSnapshot("run", RunState.RUNNING, (TaskSnapshot(plan, 1000, waves=waves),))


def submit(first: int, stop: int) -> Submit:
    return Submit("count", Indices.range(first, stop))


def test_without_a_cap_everything_fits():
    assert fit([submit(0, 10**6)], queued(0), None) == ((submit(0, 10**6),), False)


def test_a_wide_array_is_cut_at_the_cap():
    assert fit([Expand("x"), submit(0, 50), submit(50, 90)], queued(0), 60) == (
        (Expand("x"), submit(0, 50), submit(50, 60)),
        True,
    )


def test_nothing_goes_before_a_quarter_of_the_cap_is_free():
    assert fit([submit(60, 90)], queued(46), 60) == ((), True)
    assert fit([submit(60, 90)], queued(45), 60) == ((submit(60, 75),), True)


def test_the_last_few_go_at_once():
    assert fit([submit(60, 62)], queued(58), 60) == ((submit(60, 62),), False)


@given(st.integers(1, 2000), st.integers(1, 500))
def test_an_array_goes_through_under_the_cap_in_few_submits(width, cap):
    """Elements end one by one; whoever ends asks only at the mark."""
    waiting, flying, submits, mark = width, 0, 0, None
    while waiting or flying:
        if mark is None or flying <= mark or flying == 0:
            steps, held = fit([submit(0, waiting)] if waiting else [], queued(flying), cap)
            for step in steps:
                submits += 1
                waiting -= len(step.indices)
                flying += len(step.indices)
            assert flying <= cap
            mark = min(refill_at(cap), flying - 1) if held else -1
        assert flying
        flying -= 1
    assert submits <= 2 + width / max(1, cap // 4)
