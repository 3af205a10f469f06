"""What a retry makes again beside damaged results, as values: no database, no files."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reflow.errors import RetryRefused
from reflow.indices import Indices
from reflow.plan import RunSnapshot, TaskSnapshot
from reflow.remaking import plan_remake
from reflow.spec import Delivery, JobConfig, ResultInput, Step, Take, TaskPlan
from reflow.states import RunState, TaskState

ALL = Indices.range(0, 4)


def task(name, *takes, array=False, after=(), **states):
    """A task that is expanded and, unless `states` say otherwise, has succeeded as a whole."""
    inputs = tuple(
        ResultInput(f"x{number}", (Step(parent, Take.ELEMENTS),), delivery, "")
        for number, (parent, delivery) in enumerate(takes)
    )
    width = 4 if array else 1
    found = {TaskState[state]: Indices.parse(text) for state, text in states.items()}
    found = found or {TaskState.SUCCESS: Indices.range(0, width)}
    free = found.get(TaskState.PENDING, Indices()) | found.get(TaskState.RETRYING, Indices())
    return TaskSnapshot(TaskPlan(name, JobConfig(array=array), results=inputs, after=after), width, found, free)


def plan(damaged, *tasks):
    wanted = {name: Indices.parse(text) for name, text in damaged.items()}
    remake = plan_remake(RunSnapshot("run", RunState.SUCCESS, tasks), wanted)
    return {
        name: {each: str(indices) for each, indices in getattr(remake, name).items()}
        for name in ("damaged", "dependent", "outdated")
    }


CHAIN, LIST, WHOLE, EACH = Delivery.CHAIN, Delivery.LIST, Delivery.WHOLE, Delivery.EACH
SOURCE = task("source", array=True)
FOLLOWER = task("follower", ("source", CHAIN), array=True)


def test_along_chains_only_the_same_elements_are_made_again():
    tasks = SOURCE, FOLLOWER, task("last", ("follower", CHAIN), array=True)
    assert plan({"source": "1,3"}, *tasks)["dependent"] == {"follower": "1,3", "last": "1,3"}


def test_behind_a_gather_and_a_broadcast_everything_is():
    gather = task("gather", ("follower", LIST))
    shared = task("shared", ("source", EACH), ("gather", WHOLE), array=True)
    found = plan({"follower": "2"}, SOURCE, FOLLOWER, gather, shared)
    assert found == {
        "damaged": {"follower": "2"},
        "dependent": {"gather": "0", "shared": "0-3"},
        "outdated": {"follower": "2", "gather": "0", "shared": "0-3"},
    }


def test_what_is_damaged_and_follows_something_damaged_counts_once():
    found = plan({"source": "0-1", "follower": "1-2"}, SOURCE, FOLLOWER)
    assert found["damaged"] == {"source": "0-1", "follower": "1-2"}
    assert found["dependent"] == {"follower": "0"}
    assert found["outdated"] == {"source": "0-1", "follower": "0-2"}


def test_what_failed_or_waits_behind_it_only_loses_its_identity():
    follower = task("follower", ("source", CHAIN), array=True, SUCCESS="0", FAILED="1", CANCELLED="2", RETRYING="3")
    gather = task("gather", ("follower", LIST), PENDING="0")
    found = plan({"source": "0-3"}, SOURCE, follower, gather)
    assert found["dependent"] == {"follower": "0"}
    assert found["outdated"] == {"source": "0-3", "follower": "0-3", "gather": "0"}


def test_what_only_waits_for_it_stays():
    assert plan({"source": "0"}, SOURCE, task("later", after=("source",)))["dependent"] == {}


def test_what_is_not_expanded_yet_will_be_from_the_new_results():
    later = replace(task("later", ("source", EACH), array=True), width=None, states={}, free=Indices())
    assert plan({"source": "0"}, SOURCE, later)["outdated"] == {"source": "0"}


@pytest.mark.parametrize("damaged", ["source", "follower"])
def test_elements_made_from_items_are_refused_also_behind_other_tasks(damaged):
    wide = task("wide", ("follower", EACH), array=True)
    with pytest.raises(RetryRefused, match=rf"'{damaged}' are damaged.*task 'wide'.*items of 'follower'.*submit the"):
        plan({damaged: "0"}, SOURCE, FOLLOWER, wide)


@pytest.mark.parametrize("state", ["SUBMITTED", "RUNNING", "PENDING"])
def test_what_is_on_its_way_behind_a_damaged_result_is_refused_and_beside_it_is_not(state):
    follower = task("follower", ("source", CHAIN), array=True, SUCCESS="0-1,3", **{state: "2"})
    follower = replace(follower, free=Indices())  # an intent is PENDING, and in a wave
    with pytest.raises(RetryRefused, match=r"1 instance\(s\) of task 'follower'.*on their way"):
        plan({"source": "2"}, SOURCE, follower)
    assert plan({"source": "3"}, SOURCE, follower)["dependent"] == {"follower": "3"}


def test_only_successes_are_made_again():
    source = task("source", array=True, SUCCESS="0", FAILED="1", RUNNING="2-3")
    assert plan({"source": "0-3"}, source)["damaged"] == {"source": "0"}
