"""Each decision of the plan, without database or process."""

from __future__ import annotations

from dataclasses import replace

from reflow.indices import Indices
from reflow.plan import (
    Expand,
    Finish,
    Followed,
    LiveWave,
    Release,
    Retry,
    RunSnapshot,
    Submit,
    TaskSnapshot,
    next_steps,
)
from reflow.retrying import Try
from reflow.spec import Delivery, JobConfig, ResultInput, Step, Take, TaskPlan
from reflow.states import RunState, TaskState
from reflow.stores.records import Failure, Resources

FAN_OUT = (Take.ITEMS, Delivery.EACH)
CHAIN = (Take.ELEMENTS, Delivery.CHAIN)
WHOLE = (Take.VALUE, Delivery.WHOLE)
GATHER = (Take.ELEMENTS, Delivery.LIST)


def plan(name, *inputs, after=(), **config):
    results = tuple(
        ResultInput(f"from_{task}", (Step(task, take),), delivery, "test") for task, (take, delivery) in inputs
    )
    array = any(delivery in (Delivery.EACH, Delivery.CHAIN) for _, (_, delivery) in inputs)
    return TaskPlan(name, JobConfig(array=array, **config), results=results, after=after)


def task(its_plan, width=None, *, waves=(), error=None, **states):
    in_state = {TaskState(state): Indices.parse(text) for state, text in states.items()}
    waiting = in_state.get(TaskState.PENDING, Indices()) | in_state.get(TaskState.RETRYING, Indices())
    for wave in waves:
        waiting = waiting - wave.indices
    return TaskSnapshot(its_plan, width, in_state, waiting, tuple(waves), error)


def wave(number, indices, job="100", **more):
    return LiveWave(number, job, Indices.parse(indices), **more)


def upto(stop):
    return Indices.range(0, stop)


def steps(*tasks, status=RunState.RUNNING, **options):
    return next_steps(RunSnapshot("run", status, tasks), **options)


LIST = plan("list")
COUNT = plan("count", ("list", FAN_OUT))
SCALE = plan("scale", ("count", CHAIN))
TOTAL = plan("total", ("scale", GATHER))
LIST_DONE = task(LIST, 1, SUCCESS="0")


def test_a_new_run_expands_its_roots_only():
    assert steps(task(LIST), task(COUNT)) == (Expand("list"),)


def test_a_waiting_singleton_is_submitted():
    assert steps(task(LIST, 1, PENDING="0"), task(COUNT)) == (Submit("list", Indices([0])),)


def test_a_fan_out_is_expanded_once_its_list_is_there():
    assert steps(LIST_DONE, task(COUNT)) == (Expand("count"),)


def test_an_intent_is_neither_submitted_again_nor_is_the_run_finished():
    assert steps(task(LIST, 1, PENDING="0", waves=[wave(1, "0", job=None)])) == ()


def test_a_run_that_can_only_wait_has_no_steps():
    assert steps(task(LIST, 1, SUBMITTED="0", waves=[wave(1, "0")])) == ()


def test_an_empty_fan_out_is_a_success_and_what_follows_goes_on():
    chain = plan("total", ("count", GATHER))
    assert steps(LIST_DONE, task(COUNT, 0), task(chain)) == (Expand("total"),)
    assert steps(LIST_DONE, task(COUNT, 0), task(chain, 1, SUCCESS="0")) == (Finish(RunState.SUCCESS),)


def test_a_partly_cached_array_submits_the_rest():
    assert steps(LIST_DONE, task(COUNT, 5, SUCCESS="0-1,4", PENDING="2-3")) == (Submit("count", Indices([2, 3])),)


def test_a_chain_follows_its_parents_wave_slot_by_slot():
    running = task(COUNT, 4, SUCCESS="0", RUNNING="1", SUBMITTED="2-3", waves=[wave(2, "1-3")])
    assert steps(LIST_DONE, running, task(SCALE)) == (Expand("scale"),)
    assert steps(LIST_DONE, running, task(SCALE, 4, PENDING="0-3")) == (
        Submit("scale", Indices([0])),
        Submit("scale", Indices([1, 2, 3]), after_waves=(2,)),
    )


def test_a_chain_waits_for_single_elements_where_the_scheduler_cannot_follow_them():
    running = task(COUNT, 3, SUCCESS="0", RUNNING="1-2", waves=[wave(2, "1-2")])
    assert steps(LIST_DONE, running, task(SCALE, 3, PENDING="0-2"), follow_elements=False) == (
        Submit("scale", Indices([0])),
    )


def test_nothing_follows_a_wave_whose_job_is_not_known_or_whose_slots_are_renumbered():
    for live in (wave(2, "0-1", job=None), wave(2, "0-1", offset=None)):
        parent = task(COUNT, 2, PENDING="0-1", waves=[live])
        assert steps(LIST_DONE, parent, task(SCALE, 2, PENDING="0-1")) == ()


def test_the_follower_of_a_failed_element_goes_back_to_waiting():
    parent = task(COUNT, 3, FAILED="1", RUNNING="0,2", waves=[wave(2, "0,2")])
    child = task(
        SCALE, 3, SUBMITTED="0-2", waves=[wave(3, "0-2", followed=(Followed(2, "count", Indices.parse("0-2")),))]
    )
    assert steps(LIST_DONE, parent, child) == (Release("scale", Indices([1])),)


def test_the_follower_of_an_element_that_was_retried_is_submitted_behind_the_new_wave():
    parent = task(COUNT, 2, SUCCESS="0", SUBMITTED="1", waves=[wave(4, "1")])
    child = task(
        SCALE,
        2,
        SUCCESS="0",
        SUBMITTED="1",
        waves=[wave(3, "1", followed=(Followed(2, "count", Indices.parse("0-1")),))],
    )
    assert steps(LIST_DONE, parent, child) == (Release("scale", Indices([1])),)
    released = task(SCALE, 2, SUCCESS="0", PENDING="1")
    assert steps(LIST_DONE, parent, released) == (Submit("scale", Indices([1]), after_waves=(4,)),)


def test_a_running_follower_is_left_alone():
    parent = task(COUNT, 1, SUCCESS="0")
    child = task(SCALE, 1, RUNNING="0", waves=[wave(3, "0", followed=(Followed(2, "count", Indices.parse("0")),))])
    assert steps(LIST_DONE, parent, child) == ()


def test_a_failed_element_blocks_only_its_own_followers_and_the_gather():
    parent = task(COUNT, 3, SUCCESS="0,2", FAILED="1")
    child = task(SCALE, 3, SUCCESS="0,2", PENDING="1")
    assert steps(LIST_DONE, parent, child, task(TOTAL)) == (Finish(RunState.FAILED),)


def test_a_gather_that_allows_partial_runs_on_what_succeeded():
    partial = plan("total", ("scale", GATHER), allow_partial=True)
    parent = task(COUNT, 3, SUCCESS="0,2", FAILED="1")
    child = task(SCALE, 3, SUCCESS="0,2", PENDING="1")
    assert steps(LIST_DONE, parent, child, task(partial)) == (Expand("total"),)


def test_a_partial_gather_waits_until_every_element_is_settled():
    partial = plan("total", ("count", GATHER), allow_partial=True)
    running = task(COUNT, 3, SUCCESS="0", FAILED="1", RUNNING="2", waves=[wave(2, "2")])
    assert steps(LIST_DONE, running, task(partial)) == ()


def test_failures_that_the_gather_allows_do_not_fail_the_run():
    partial = plan("total", ("count", GATHER), allow_partial=True)
    assert steps(LIST_DONE, task(COUNT, 2, SUCCESS="0", FAILED="1"), task(partial, 1, SUCCESS="0")) == (
        Finish(RunState.SUCCESS),
    )


def test_a_failed_branch_does_not_hold_up_the_other():
    other = plan("other", ("list", FAN_OUT))
    assert steps(LIST_DONE, task(COUNT, 1, FAILED="0"), task(other)) == (Expand("other"),)


def test_a_task_that_failed_as_a_whole_fails_the_run():
    assert steps(LIST_DONE, task(COUNT, error="two inputs of unequal length")) == (Finish(RunState.FAILED),)


def test_after_orders_without_data():
    clean = plan("clean", after=("count",))
    running = task(COUNT, 1, RUNNING="0", waves=[wave(2, "0")])
    assert steps(LIST_DONE, running, task(clean)) == ()
    assert steps(LIST_DONE, task(COUNT, 1, SUCCESS="0"), task(clean)) == (Expand("clean"),)


def test_a_run_whose_only_trouble_was_a_cancelled_element_is_cancelled():
    assert steps(LIST_DONE, task(COUNT, 2, SUCCESS="0", CANCELLED="1")) == (Finish(RunState.CANCELLED),)


def test_a_run_that_is_over_has_no_steps():
    assert steps(task(LIST, 1, PENDING="0"), status=RunState.CANCELLED) == ()


OOM = Try(Failure.OUT_OF_MEMORY)
STUBBORN = plan("count", ("list", FAN_OUT), retries=2, mem="1G")


def failed(its_plan, width, histories, **states):
    known = task(its_plan, width, **states)
    return replace(known, histories={tuple(tries): Indices.parse(text) for text, tries in histories.items()})


def test_failed_elements_begin_their_next_attempt_while_their_neighbours_run():
    running = wave(2, "3")
    count = replace(
        failed(STUBBORN, 4, {"0-1": [OOM], "2": [OOM, OOM, OOM]}, FAILED="0-2", RUNNING="3"), waves=(running,)
    )
    assert steps(LIST_DONE, count) == (Retry("count", Indices([0, 1])),)


def test_a_task_without_retries_leaves_its_failures_to_a_person():
    assert steps(LIST_DONE, failed(COUNT, 1, {"0": [OOM]}, FAILED="0")) == (Finish(RunState.FAILED),)


def test_what_a_node_has_lost_is_tried_again_although_the_task_has_no_retries():
    lost = Try(Failure.NODE_FAIL, node="n1")
    assert steps(LIST_DONE, failed(COUNT, 1, {"0": [lost]}, FAILED="0")) == (Retry("count", Indices([0])),)
    waiting = failed(COUNT, 1, {"0": [lost]}, RETRYING="0")
    assert steps(LIST_DONE, waiting) == (Submit("count", Indices([0]), resources=Resources(exclude=("n1",))),)


def test_elements_are_submitted_in_one_wave_for_each_amount_that_they_need():
    histories = {"1,3": [OOM], "2": [OOM, OOM], "4": [Try(Failure.LOST)]}
    count = failed(STUBBORN, 6, histories, RETRYING="1-4", PENDING="0,5")
    assert steps(LIST_DONE, count) == (
        Submit("count", Indices([0, 4, 5])),
        Submit("count", Indices([1, 3]), resources=Resources(mem="2G")),
        Submit("count", Indices([2]), resources=Resources(mem="4G")),
    )


def test_the_followers_of_elements_that_are_tried_again_are_released_and_follow_the_new_wave():
    parent = replace(
        failed(STUBBORN, 2, {"1": [OOM]}, RUNNING="0", FAILED="1"),
        waves=(wave(2, "0"),),
    )
    child = task(SCALE, 2, SUBMITTED="0-1", waves=[wave(3, "0-1", followed=(Followed(2, "count", upto(2)),))])
    assert steps(LIST_DONE, parent, child) == (Release("scale", Indices([1])), Retry("count", Indices([1])))
    again = replace(parent, states={TaskState.RUNNING: Indices([0]), TaskState.RETRYING: Indices([1])})
    again = replace(again, free=Indices([1]))
    released = task(
        SCALE, 2, SUBMITTED="0", PENDING="1", waves=[wave(3, "0", followed=(Followed(2, "count", upto(2)),))]
    )
    assert steps(LIST_DONE, again, released) == (Submit("count", Indices([1]), resources=Resources(mem="2G")),)


PACKED_COUNT = plan("count", ("list", FAN_OUT), pack=4)
PACKED_SCALE = plan("scale", ("count", CHAIN), pack=4)


def test_a_pack_follows_a_pack_of_the_same_size():
    running = task(PACKED_COUNT, 8, SUCCESS="0", RUNNING="1-7", waves=[wave(2, "1-7", members=upto(8), pack=4)])
    assert steps(LIST_DONE, running, task(PACKED_SCALE, 8, PENDING="0-7")) == (
        Submit("scale", Indices([0])),
        Submit("scale", Indices.parse("1-7"), after_waves=(2,)),
    )
    for other in (SCALE, plan("scale", ("count", CHAIN), pack=2)):
        assert steps(LIST_DONE, running, task(other, 8, PENDING="0-7")) == (Submit("scale", Indices([0])),)


def test_one_failure_in_a_pack_releases_the_whole_slot_behind_it_and_nothing_follows_that_slot():
    parent = task(
        PACKED_COUNT, 8, FAILED="1", SUCCESS="0", RUNNING="2-7", waves=[wave(2, "2-7", members=upto(8), pack=4)]
    )
    behind = wave(3, "0-7", members=upto(8), followed=(Followed(2, "count", upto(8)),), pack=4)
    assert steps(LIST_DONE, parent, task(PACKED_SCALE, 8, SUBMITTED="0-7", waves=[behind])) == (
        Release("scale", upto(4)),
    )
    rest = wave(3, "4-7", members=upto(8), followed=(Followed(2, "count", upto(8)),), pack=4)
    waiting = task(PACKED_SCALE, 8, PENDING="0-3", SUBMITTED="4-7", waves=[rest])
    assert steps(LIST_DONE, parent, waiting) == (Submit("scale", Indices([0])),)


FIRST = plan("first")
SECOND = plan("second", ("first", WHOLE))
FIT = plan("fit", ("count", CHAIN), ("scale", CHAIN))


def test_a_singleton_is_submitted_behind_the_singleton_whose_value_it_takes():
    running = task(FIRST, 1, RUNNING="0", waves=[wave(2, "0")])
    assert steps(running, task(SECOND)) == (Expand("second"),)
    assert steps(running, task(SECOND, 1, PENDING="0")) == (Submit("second", Indices([0]), after_waves=(2,)),)
    assert steps(running, task(SECOND), follow_elements=False) == ()
    assert steps(task(FIRST, 1, SUCCESS="0"), task(SECOND), follow_elements=False) == (Expand("second"),)


def test_a_singleton_behind_one_that_failed_goes_back_to_waiting_and_the_run_ends():
    failed = task(FIRST, 1, FAILED="0")
    behind = wave(3, "0", followed=(Followed(2, "first", upto(1)),))
    assert steps(failed, task(SECOND, 1, SUBMITTED="0", waves=[behind])) == (Release("second", upto(1)),)
    assert steps(failed, task(SECOND, 1, PENDING="0")) == (Finish(RunState.FAILED),)


def test_a_chain_of_three_is_submitted_at_once():
    third = plan("third", ("scale", CHAIN))
    first = task(COUNT, 3, SUBMITTED="0-2", waves=[wave(2, "0-2")])
    second = task(SCALE, 3, SUBMITTED="0-2", waves=[wave(3, "0-2", followed=(Followed(2, "count", upto(3)),))])
    assert steps(LIST_DONE, first, second, task(third, 3, PENDING="0-2")) == (Submit("third", upto(3), (3,)),)


def test_an_element_with_two_parents_follows_those_that_are_on_their_way():
    first = task(COUNT, 6, SUCCESS="0-2", RUNNING="3-5", waves=[wave(2, "3-5")])
    second = task(SCALE, 6, SUCCESS="0,3", RUNNING="1-2,4", PENDING="5", waves=[wave(3, "1-2,4")])
    # Element 5 waits, because nothing is known yet of the job that its second parent will be in.
    assert set(steps(LIST_DONE, first, second, task(FIT, 6, PENDING="0-5"))) == {
        Submit("scale", Indices([5]), (2,)),
        Submit("fit", Indices([0])),
        Submit("fit", Indices.parse("1-2"), (3,)),
        Submit("fit", Indices([3]), (2,)),
        Submit("fit", Indices([4]), (2, 3)),
    }


def test_waves_that_number_their_slots_differently_cannot_be_followed_together():
    first = task(COUNT, 2, RUNNING="0-1", waves=[wave(2, "0-1")])
    second = task(SCALE, 2, RUNNING="0-1", waves=[wave(3, "0-1", offset=-5)])
    assert steps(LIST_DONE, first, second, task(FIT, 2, PENDING="0-1")) == ()


def test_an_element_with_two_parents_is_released_when_one_of_them_failed():
    first = task(COUNT, 2, SUCCESS="0", FAILED="1")
    second = task(SCALE, 2, RUNNING="0-1", waves=[wave(3, "0-1")])
    followed = (Followed(2, "count", upto(2)), Followed(3, "scale", upto(2)))
    child = task(FIT, 2, SUBMITTED="0-1", waves=[wave(4, "0-1", followed=followed)])
    assert steps(LIST_DONE, first, second, child) == (Release("fit", Indices([1])),)
