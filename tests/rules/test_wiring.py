from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from inspect import Parameter, Signature
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import pytest

from reflow.annotations import item_type
from reflow.flow import Flow
from reflow.params import Param, Result, RunDir
from reflow.spec import Delivery, ParameterInput, Step, Take
from reflow.wiring import plan_tasks


class Animal: ...


class Dog(Animal): ...


@dataclass
class Item:
    value: int


def add(flow, name, *, array=False, returns=Parameter.empty, after=None, **parameters):
    def function(**arguments):
        return arguments

    function.__signature__ = Signature(
        [Parameter(each, Parameter.KEYWORD_ONLY, annotation=kind) for each, kind in parameters.items()],
        return_annotation=returns,
    )
    flow.job(name, array=array, after=after)(function)


#: An input that gives an array its width, so that the one under test need not.
WIDTH = {"width": Annotated[int, Result(step="numbers")]}


def wire(upstreams, array, annotation, *, broadcast=False):
    """Return the input of a task that takes the type from upstreams, each (is array, return type)."""
    flow = Flow("f")
    add(flow, "numbers", returns=list[int])
    for place, (is_array, returns) in enumerate(upstreams):
        add(flow, f"up{place}", array=is_array, returns=returns, **(WIDTH if is_array else {}))
    names = [f"up{place}" for place in range(len(upstreams))]
    result = Result(step=names[0], broadcast=broadcast) if len(names) == 1 else Result(steps=names, broadcast=broadcast)
    add(flow, "down", array=array, x=Annotated[annotation, result], **(WIDTH if array else {}))
    return next(each for each in plan_tasks(flow.tasks.values())[-1].results if each.parameter == "x")


NOTHING = Parameter.empty
ONE, ARRAY = False, True

DIRECT = (Take.VALUE, Delivery.WHOLE, "direct")
FAN_OUT = (Take.ITEMS, Delivery.EACH, "fan-out")
GATHER = (Take.ELEMENTS, Delivery.LIST, "gather")
FLATTENED = (Take.FLAT, Delivery.LIST, "gather, flattened")
CHAIN = (Take.ELEMENTS, Delivery.CHAIN, "chain")
AGAIN = (Take.FLAT, Delivery.EACH, "gather, flatten, fan out again")
BROADCAST = (Take.VALUE, Delivery.WHOLE, "broadcast")
GATHER_TO_ALL = (Take.ELEMENTS, Delivery.LIST, "broadcast")
FLATTENED_TO_ALL = (Take.FLAT, Delivery.LIST, "broadcast")


@pytest.mark.parametrize(
    ("upstream", "returns", "downstream", "annotation", "wiring"),
    [
        # T to T
        (ONE, int, ONE, int, DIRECT),
        (ONE, list[int], ONE, list[int], DIRECT),
        (ONE, list, ONE, list[int], DIRECT),
        (ONE, list[int], ONE, Sequence[float], DIRECT),
        (ONE, int, ONE, float, DIRECT),
        (ONE, Dog, ONE, Animal, DIRECT),
        (ONE, int, ONE, int | None, DIRECT),
        (ONE, NOTHING, ONE, int, DIRECT),
        (ONE, int, ONE, Any, DIRECT),
        (ONE, type(None), ONE, int | None, DIRECT),
        # list[T] to T in an array
        (ONE, list[int], ARRAY, int, FAN_OUT),
        (ONE, list[int], ARRAY, float, FAN_OUT),
        (ONE, list[Dog], ARRAY, Animal, FAN_OUT),
        (ONE, list[list[int]], ARRAY, list[int], FAN_OUT),
        (ONE, list[list[int]], ARRAY, Sequence[int], FAN_OUT),
        (ONE, list[list], ARRAY, list, FAN_OUT),
        (ONE, list, ARRAY, int, FAN_OUT),
        (ONE, tuple[Path, ...], ARRAY, Path, FAN_OUT),
        (ONE, Sequence[Item], ARRAY, Item, FAN_OUT),
        (ONE, list[int] | list[str], ARRAY, int | str, FAN_OUT),
        (ONE, list[dict[str, int]], ARRAY, dict[str, int], FAN_OUT),
        (ONE, list[tuple[int, str]], ARRAY, tuple[int, str], FAN_OUT),
        (ONE, list[int], ARRAY, Any, FAN_OUT),
        (ONE, NOTHING, ARRAY, int, FAN_OUT),
        (ONE, NOTHING, ARRAY, Any, FAN_OUT),
        # list[T] to list[T] in an array
        (ONE, list[int], ARRAY, list[int], BROADCAST),
        (ONE, list, ARRAY, list, BROADCAST),
        (ONE, list[str], ARRAY, Sequence[str], BROADCAST),
        (ONE, list[int], ARRAY, list[float], BROADCAST),
        (ONE, list[list[int]], ARRAY, list[list[int]], BROADCAST),
        (ONE, list[int], ARRAY, list[int] | None, BROADCAST),
        # T in an array to list[T]
        (ARRAY, int, ONE, list[int], GATHER),
        (ARRAY, int, ONE, list[float], GATHER),
        (ARRAY, int, ONE, Sequence[int], GATHER),
        (ARRAY, int, ONE, tuple[int, ...], GATHER),
        (ARRAY, int, ONE, list, GATHER),
        (ARRAY, int, ONE, Any, GATHER),
        (ARRAY, int, ONE, list[int] | None, GATHER),
        (ARRAY, int | None, ONE, list[int | None], GATHER),
        (ARRAY, list[int], ONE, list[list[int]], GATHER),
        (ARRAY, type(None), ONE, list[None], GATHER),
        (ARRAY, Any, ONE, list[Any], GATHER),
        (ARRAY, NOTHING, ONE, list, GATHER),
        # list[T] in an array to list[T]
        (ARRAY, list[int], ONE, list[int], FLATTENED),
        (ARRAY, list[int], ONE, Sequence[float], FLATTENED),
        (ARRAY, list, ONE, list, FLATTENED),
        (ARRAY, list[list[int]], ONE, list[list[int]], FLATTENED),
        # T in an array to T in an array
        (ARRAY, int, ARRAY, int, CHAIN),
        (ARRAY, int, ARRAY, float, CHAIN),
        (ARRAY, int, ARRAY, Any, CHAIN),
        (ARRAY, NOTHING, ARRAY, Any, CHAIN),
        (ARRAY, Dog, ARRAY, Animal, CHAIN),
        (ARRAY, list[int], ARRAY, list[int], CHAIN),
        (ARRAY, list[int], ARRAY, Sequence[int], CHAIN),
        (ARRAY, list, ARRAY, list, CHAIN),
        (ARRAY, str, ARRAY, str, CHAIN),
        # list[T] in an array to T in an array
        (ARRAY, list[int], ARRAY, int, AGAIN),
        (ARRAY, list[list[int]], ARRAY, list[int], AGAIN),
        (ARRAY, list[str], ARRAY, str, AGAIN),
        # T in an array to list[T] in an array
        (ARRAY, int, ARRAY, list[int], GATHER),
        (ARRAY, list[int], ARRAY, list[list[int]], GATHER),
        (ARRAY, str, ARRAY, Sequence[str], GATHER),
    ],
)
def test_the_types_decide_the_wiring(upstream, returns, downstream, annotation, wiring):
    found = wire([(upstream, returns)], downstream, annotation)
    assert (found.steps[0].take, found.delivery, found.mode) == wiring


@pytest.mark.parametrize(
    ("upstream", "returns", "annotation", "wiring"),
    [
        (ONE, int, int, BROADCAST),
        (ONE, dict[str, int], Mapping[str, int], BROADCAST),
        (ONE, list[int], list[int], BROADCAST),
        (ONE, list, list[int], BROADCAST),
        (ONE, NOTHING, int, BROADCAST),
        (ARRAY, int, list[int], GATHER_TO_ALL),
        (ARRAY, list[int], list[list[int]], GATHER_TO_ALL),
        (ARRAY, list[int], list[int], FLATTENED_TO_ALL),
    ],
)
def test_broadcast_gives_the_whole_to_every_element(upstream, returns, annotation, wiring):
    found = wire([(upstream, returns)], ARRAY, annotation, broadcast=True)
    assert (found.steps[0].take, found.delivery, found.mode) == wiring


def assert_refused(upstreams, downstream, annotation, words):
    with pytest.raises(TypeError, match=words) as refusal:
        wire(upstreams, downstream, annotation)
    start = "Array task 'down', parameter 'x' (" if downstream else "Task 'down', parameter 'x' ("
    assert str(refusal.value).startswith(start)
    assert "'up0'" in str(refusal.value)


def test_broadcast_to_a_task_that_is_no_array_changes_nothing():
    assert wire([(ONE, int)], ONE, int, broadcast=True) == wire([(ONE, int)], ONE, int)
    assert wire([(ARRAY, int)], ONE, list[int], broadcast=True) == wire([(ARRAY, int)], ONE, list[int])


@pytest.mark.parametrize(
    ("upstream", "returns", "downstream", "annotation", "words"),
    [
        (ONE, int, ONE, str, r"task 'up0' returns int\. Write `x: Annotated\[int, Result\(step='up0'\)\]`"),
        (ONE, list[str], ONE, list[int], r"returns list\[str\]"),
        (ONE, int | None, ONE, int, r"returns int \| None"),
        (ONE, type(None), ONE, int, r"returns None: return something, or only wait, after=\['up0'\]"),
        (ONE, int, ONE, list[int], "returns int"),
        (ONE, list[int], ARRAY, str, r"`x: Annotated\[int, Result\(step='up0'\)\]` \(one item for each element\)"),
        (
            ONE,
            int,
            ARRAY,
            int,
            r"broadcast=True\)\]` \(every element gets the whole\) or return list\[int\] from 'up0'",
        ),
        (ONE, dict[str, int], ARRAY, str, r"return list\[str\] from 'up0'"),
        (ONE, set[int], ARRAY, int, r"return list\[int\] from 'up0'"),
        (ONE, tuple[int, int], ARRAY, int, r"return list\[int\] from 'up0'"),
        (ONE, str, ARRAY, str, "broadcast=True"),
        (ARRAY, int, ONE, int, r"array task 'up0' returns int\. Write `x: Annotated\[list\[int\]"),
        (
            ARRAY,
            int,
            ONE,
            list[str],
            r"Annotated\[list\[int\], Result\(step='up0'\)\]` \(the outputs of all elements\)",
        ),
        (ARRAY, str, ARRAY, int, r"Annotated\[str, Result\(step='up0'\)\]` \(each element the output of its element\)"),
    ],
)
def test_a_type_that_does_not_fit_is_refused_with_what_to_write(upstream, returns, downstream, annotation, words):
    assert_refused([(upstream, returns)], downstream, annotation, words)


@pytest.mark.parametrize(
    ("upstream", "returns", "downstream", "annotation", "words"),
    [
        (ONE, list, ARRAY, list[int], "can mean more than one thing.*one item for each element.*the whole output"),
        (ONE, list[list[int]], ARRAY, list[Any], "can mean more than one thing"),
        (ONE, NOTHING, ARRAY, list[int], "does not say whether it returns a list"),
        (ARRAY, list[int], ONE, list, "the outputs of all elements.*the items of all elements' lists"),
        (ARRAY, list[int], ONE, Any, "can mean more than one thing"),
        (ARRAY, NOTHING, ONE, list[int], "write `-> list\\[TYPE\\]` or `-> TYPE` behind the parameters of 'up0'"),
        (ARRAY, NOTHING, ONE, Any, "does not say whether it returns a list"),
        (ARRAY, list[int], ARRAY, Any, "can mean more than one thing"),
        (ARRAY, list[list[int]], ARRAY, list[Any], "can mean more than one thing"),
        (ARRAY, NOTHING, ARRAY, int, "does not say whether it returns a list"),
    ],
)
def test_types_that_leave_the_wiring_open_are_refused(upstream, returns, downstream, annotation, words):
    assert_refused([(upstream, returns)], downstream, annotation, words)


def values_of(kind, seed):
    """Return a value of the type; lists have two items, so that a list of lists shows how deep it is."""
    if kind in (int, str):
        return kind(seed)
    return [values_of(item_type(kind), 2 * seed + place) for place in (0, 1)]


def is_of(value, kind):
    if kind in (int, str):
        return type(value) is kind
    return type(value) is list and all(is_of(item, item_type(kind)) for item in value)


def delivered(found, outputs):
    """Return what one element receives, given the outputs of each upstream."""
    parts = []
    for step in found.steps:
        values = outputs[step.task]
        parts += values if step.take in (Take.VALUE, Take.ELEMENTS) else [item for value in values for item in value]
    return parts if found.delivery is Delivery.LIST else parts[0]


KINDS = [int, list[int], list[list[int]], list[str]]
UPSTREAMS = list(product([ONE, ARRAY], KINDS))


@pytest.mark.parametrize(
    "upstreams", [[one] for one in UPSTREAMS] + [list(pair) for pair in product(UPSTREAMS, repeat=2)]
)
def test_what_is_wired_is_of_the_type_that_the_function_wants(upstreams):
    outputs = {
        f"up{place}": [values_of(kind, number) for number in range(3 if is_array else 1)]
        for place, (is_array, kind) in enumerate(upstreams)
    }
    for array, annotation, broadcast in product([ONE, ARRAY], KINDS, [False, True]):
        with suppress(TypeError):  # a refusal, of which other tests tell
            found = wire(upstreams, array, annotation, broadcast=broadcast)
            assert is_of(delivered(found, outputs), annotation)


V, I, E, F = Take.VALUE, Take.ITEMS, Take.ELEMENTS, Take.FLAT  # noqa: E741


@pytest.mark.parametrize(
    ("upstreams", "downstream", "annotation", "takes", "delivery"),
    [
        ([(ONE, int), (ONE, int)], ONE, list[int], [V, V], Delivery.LIST),
        ([(ONE, list[int]), (ONE, list[int])], ONE, list[int], [I, I], Delivery.LIST),
        ([(ONE, int), (ONE, list[int])], ONE, list[int], [V, I], Delivery.LIST),
        ([(ARRAY, int), (ARRAY, list[int])], ONE, list[int], [E, F], Delivery.LIST),
        ([(ONE, int), (ARRAY, int)], ONE, Sequence[int], [V, E], Delivery.LIST),
        ([(ONE, list[int]), (ARRAY, int)], ONE, list, None, None),
        ([(ONE, list[int]), (ONE, list[int])], ONE, list[list[int]], [V, V], Delivery.LIST),
        ([(ONE, int), (ONE, str)], ONE, list[int | str], [V, V], Delivery.LIST),
        ([(ONE, list[int]), (ONE, list[int])], ARRAY, int, [I, I], Delivery.EACH),
        ([(ONE, int), (ONE, list[int])], ARRAY, int, [V, I], Delivery.EACH),
        ([(ARRAY, int), (ARRAY, list[int])], ARRAY, int, [E, F], Delivery.EACH),
        ([(ONE, list[int]), (ARRAY, int)], ARRAY, float, [I, E], Delivery.EACH),
        ([(ONE, list[int]), (ONE, list[int])], ARRAY, list[int], [I, I], Delivery.LIST),
        ([(ONE, list[list[int]]), (ONE, list[list[int]])], ARRAY, list[int], [I, I], Delivery.EACH),
        ([(ARRAY, int), (ARRAY, int)], ARRAY, list[int], [E, E], Delivery.LIST),
        ([(ARRAY, list[int]), (ARRAY, list[int])], ARRAY, list[int], [E, E], Delivery.EACH),
        ([(ONE, list[int]), (ARRAY, list[int])], ARRAY, list[int], None, None),
        ([(ONE, int), (ONE, str)], ONE, list[int], None, None),
        ([(ONE, int), (ONE, int)], ONE, int, None, None),
        ([(ONE, list[int]), (ONE, NOTHING)], ONE, list[int], None, None),
    ],
)
def test_several_upstreams_are_put_one_behind_the_other(upstreams, downstream, annotation, takes, delivery):
    if takes is None:
        with pytest.raises(TypeError, match=r"ask 'down', parameter 'x'"):
            wire(upstreams, downstream, annotation)
        return
    found = wire(upstreams, downstream, annotation)
    assert found.delivery is delivery
    assert found.steps == tuple(Step(f"up{place}", take) for place, take in enumerate(takes))


def test_several_upstreams_are_broadcast_as_one_list():
    found = wire([(ONE, list[int]), (ARRAY, list[int])], ARRAY, list[int], broadcast=True)
    assert (found.delivery, found.steps) == (Delivery.LIST, (Step("up0", I), Step("up1", F)))
    assert found.mode == "concatenation, broadcast"


def test_one_name_in_steps_is_a_list_of_one():
    flow = Flow("f")
    add(flow, "a", returns=int)
    add(flow, "b", x=Annotated[list[int], Result(steps=["a"])])
    assert plan_tasks(flow.tasks.values())[1].results[0].steps == (Step("a", V),)


def test_a_plan_says_where_every_parameter_comes_from():
    flow = Flow("f")
    add(flow, "down", x=Annotated[int, Result(step="up")], n=int, out=RunDir, after=["first"])
    add(
        flow, "up", returns=int, jobs=Annotated[int, Param(cache=False)], depth=Annotated[int, Param(namespace="local")]
    )
    add(flow, "first")
    up, first, down = plan_tasks(flow.tasks.values(), code="abc")
    assert [plan.name for plan in (up, first, down)] == ["up", "first", "down"]
    assert up.parameters == (ParameterInput("jobs", "jobs", cache=False), ParameterInput("depth", "up_depth"))
    assert down.parameters == (ParameterInput("n", "n"),)
    assert down.run_dir_parameters == ("out",)
    assert down.after == ("first",)
    assert down.upstreams == ("first", "up")
    assert down.code == "abc"


def test_the_same_result_may_go_to_two_parameters():
    flow = Flow("f")
    add(flow, "up", returns=list[int])
    add(
        flow,
        "down",
        array=True,
        one=Annotated[int, Result(step="up")],
        every=Annotated[list[int], Result(step="up")],
    )
    assert [each.delivery for each in plan_tasks(flow.tasks.values())[1].results] == [Delivery.EACH, Delivery.WHOLE]


def test_an_array_that_takes_nothing_is_refused():
    flow = Flow("f")
    add(flow, "down", array=True, n=int)
    with pytest.raises(ValueError, match="Array task 'down' takes nothing from another task"):
        plan_tasks(flow.tasks.values())


def test_an_array_whose_elements_all_get_the_whole_is_refused():
    flow = Flow("f")
    add(flow, "up", returns=list[int])
    add(flow, "down", array=True, x=Annotated[list[int], Result(step="up")])
    with pytest.raises(ValueError, match="Array task 'down' gives every element the whole of 'x'"):
        plan_tasks(flow.tasks.values())


def test_an_unknown_step_is_refused_with_the_name_that_was_meant():
    flow = Flow("f")
    add(flow, "prepare", returns=int)
    add(flow, "down", x=Annotated[int, Result(step="prepair")])
    with pytest.raises(ValueError, match=r"Task 'down' refers to unknown task 'prepair'\. Did you mean 'prepare'\?"):
        plan_tasks(flow.tasks.values())


def test_an_unknown_name_in_after_is_refused():
    flow = Flow("f")
    add(flow, "down", after="prepair")
    with pytest.raises(ValueError, match="unknown task 'prepair'"):
        plan_tasks(flow.tasks.values())


def test_tasks_that_wait_for_each_other_are_refused():
    flow = Flow("f")
    add(flow, "a", returns=int, x=Annotated[int, Result(step="b")])
    add(flow, "b", returns=int, after=["a"])
    with pytest.raises(ValueError, match=r"b -> a -> b|a -> b -> a"):
        plan_tasks(flow.tasks.values())


def test_a_task_given_twice_is_refused():
    flow = Flow("f")
    add(flow, "a")
    with pytest.raises(ValueError, match="two tasks 'a'"):
        plan_tasks([flow.task("a"), flow.task("a")])
