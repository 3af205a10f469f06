"""Infer from the types how data goes from task to task, and check that it fits.

Each way in which an upstream's output could reach a parameter is a *reading*: what is taken, how it is delivered, and
the type that the function would then receive. The readings whose type fits the annotation are possible. One is the
wiring; of several, the one whose type is exactly the annotation, in the order of the rows in API.md; several and none
exact is a `TypeError` that says what to write. A function that does not say what it returns returns ``Any``, which
fits everything: it is wired where one reading is possible.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import NoneType
from typing import Any

from .annotations import describe_type, fits, is_unknown, item_type, list_of, plain_type, same_type, wants_list
from .deferred import dataclass
from .flow import TaskSpec
from .graph import topological_order
from .parameters import parameter_key
from .params import Param, Result
from .signature import Parameter, ParameterKind
from .spec import Delivery, ParameterInput, ResultInput, Step, Take, TaskPlan


def plan_tasks(tasks: Iterable[TaskSpec], code: str = "") -> tuple[TaskPlan, ...]:
    """Return what dispatch must know of each task, in topological order. `code` is the fingerprint of the workflow.

    Raises `ValueError` for unknown and duplicate names, cycles and arrays without a width, `TypeError` for types that
    do not fit or leave the wiring open.
    """
    by_name: dict[str, TaskSpec] = {}
    for task in tasks:
        if task.name in by_name:
            raise ValueError(f"There are two tasks '{task.name}': give one of them another name.")
        by_name[task.name] = task
    order = topological_order({name: _dependencies(task) for name, task in by_name.items()})
    return tuple(_plan(by_name[name], by_name, code) for name in order)


@dataclass(frozen=True)
class _Reading:
    take: Take
    delivery: Delivery
    mode: str
    #: What the function receives.
    annotation: Any


@dataclass(frozen=True)
class _Place:
    """One parameter of one task that takes from one other task."""

    task: TaskSpec
    parameter: Parameter
    result: Result
    upstream: TaskSpec

    @property
    def wanted(self) -> Any:
        return self.parameter.annotation

    @property
    def returns(self) -> Any:
        return self.upstream.signature.returns

    def mark(self, annotation: Any, result: Result | None = None) -> str:
        """Return the parameter as it would be written with this type."""
        return f"`{self.parameter.name}: Annotated[{describe_type(annotation)}, {result or self.result!r}]`"

    def __str__(self) -> str:
        return f"{_title(self.task)}, parameter '{self.parameter.name}' ({describe_type(self.wanted)})"


def _dependencies(task: TaskSpec) -> list[str]:
    """Return the tasks that it waits for, in the order in which it names them."""
    taken = [name for each in task.signature.parameters.values() if each.result for name in each.result.names]
    return list(dict.fromkeys((*taken, *task.after)))


def _plan(task: TaskSpec, tasks: Mapping[str, TaskSpec], code: str) -> TaskPlan:
    parameters = task.signature.parameters.values()
    results = tuple(_result_input(task, each, each.result, tasks) for each in parameters if each.result is not None)
    if task.config.array:
        _check_width(task, results)
    checkpoints = tuple(each.name for each in parameters if each.kind is ParameterKind.CHECKPOINT)
    if task.config.resume and not checkpoints:
        raise ValueError(
            f"Task '{task.name}' has resume=True and nothing to go on from: give it a parameter such as "
            "`saved: Checkpoint`, and save its work with it."
        )
    return TaskPlan(
        name=task.name,
        config=task.config,
        parameters=tuple(
            _parameter_input(task.name, each) for each in parameters if each.kind is ParameterKind.PARAMETER
        ),
        results=results,
        run_dir_parameters=tuple(each.name for each in parameters if each.kind is ParameterKind.RUN_DIR),
        checkpoint_parameters=checkpoints,
        after=task.after,
        has_verify=task.verify is not None,
        code=code,
    )


def _parameter_input(task: str, parameter: Parameter) -> ParameterInput:
    mark = parameter.param or Param()
    return ParameterInput(parameter.name, parameter_key(task, parameter), mark.cache, mark.content)


def _check_width(task: TaskSpec, results: Sequence[ResultInput]) -> None:
    if not results:
        raise ValueError(
            f"Array task '{task.name}' takes nothing from another task, so nothing says how wide it is: give one "
            'parameter a result, as in `item: Annotated[int, Result(step="prepare")]`.'
        )
    if not any(result.delivery in (Delivery.EACH, Delivery.CHAIN) for result in results):
        names = ", ".join(f"'{result.parameter}'" for result in results)
        raise ValueError(
            f"Array task '{task.name}' gives every element the whole of {names}, so nothing says how wide it is: take "
            "one of them item by item (the type of one item, without broadcast=True), or leave out array=True."
        )


def _result_input(task: TaskSpec, parameter: Parameter, result: Result, tasks: Mapping[str, TaskSpec]) -> ResultInput:
    places = [_Place(task, parameter, result, tasks[name]) for name in result.names]
    if result.steps is None:
        (place,) = places
        reading = _choose(place, _readings(place))
        return ResultInput(parameter.name, (Step(place.upstream.name, reading.take),), reading.delivery, reading.mode)
    delivery = _joint_delivery(places)
    readings = [_choose(place, _contributions(place, delivery)) for place in places]
    steps = tuple(Step(place.upstream.name, each.take) for place, each in zip(places, readings, strict=True))
    return ResultInput(parameter.name, steps, delivery, readings[0].mode)


def _readings(place: _Place) -> list[_Reading]:
    """Return how the output of one upstream can reach the parameter, in the order of the rows in API.md."""
    returns, item = place.returns, item_type(place.returns)
    array, broadcast = place.task.config.array, place.result.broadcast
    by_element = array and not broadcast
    readings = []
    if not place.upstream.config.array:
        if not by_element:
            return [_Reading(Take.VALUE, Delivery.WHOLE, "broadcast" if array else "direct", returns)]
        if item is not None:
            readings.append(_Reading(Take.ITEMS, Delivery.EACH, "fan-out", item))
            if wants_list(place.wanted):
                readings.append(_Reading(Take.VALUE, Delivery.WHOLE, "broadcast", returns))
        return readings
    if by_element:
        readings.append(_Reading(Take.ELEMENTS, Delivery.CHAIN, "chain", returns))
        if item is not None:
            readings.append(_Reading(Take.FLAT, Delivery.EACH, "gather, flatten, fan out again", item))
        if wants_list(place.wanted):
            readings.append(_Reading(Take.ELEMENTS, Delivery.LIST, "gather", list_of(returns)))
        return readings
    readings.append(_Reading(Take.ELEMENTS, Delivery.LIST, "broadcast" if array else "gather", list_of(returns)))
    if item is not None:
        mode = "broadcast" if array else "gather, flattened"
        readings.append(_Reading(Take.FLAT, Delivery.LIST, mode, list_of(item)))
    return readings


def _contributions(place: _Place, delivery: Delivery) -> list[_Reading]:
    """Return what one of several upstreams can contribute: its value as one item, or the items of its list."""
    returns, item, is_array = place.returns, item_type(place.returns), place.upstream.config.array
    whole, parts = (Take.ELEMENTS, Take.FLAT) if is_array else (Take.VALUE, Take.ITEMS)
    if delivery is Delivery.EACH:
        mode = "concatenation, fan-out"
    else:
        mode = "concatenation, broadcast" if place.task.config.array else "concatenation"
    readings = []
    for take, one in ((whole, returns), (parts, item)):
        if one is not None:
            readings.append(_Reading(take, delivery, mode, one if delivery is Delivery.EACH else list_of(one)))
    return readings


def _joint_delivery(places: Sequence[_Place]) -> Delivery:
    """Return whether the concatenation of several upstreams goes whole to the task, or item by item to an array.

    When a list is wanted, both may be possible. Then, as with one upstream, lists of singletons are given whole and
    those of arrays one by one.
    """
    first = places[0]
    if not first.task.config.array or first.result.broadcast:
        return Delivery.LIST
    if not wants_list(first.wanted):
        return Delivery.EACH
    possible = [
        delivery
        for delivery in (Delivery.LIST, Delivery.EACH)
        if all(any(fits(each.annotation, first.wanted) for each in _contributions(place, delivery)) for place in places)
    ]
    arrays = [place.upstream.config.array for place in places]
    if len(possible) == 2 and any(arrays):
        if all(arrays):
            return Delivery.EACH
        whole = Result(steps=first.result.names, broadcast=True)
        raise TypeError(
            f"{first} could get the whole list in every element, or one item of it in each: write "
            f"{first.mark(first.wanted, whole)} for the whole list, or gather the arrays in a task of their own."
        )
    return possible[0] if possible else Delivery.LIST


def _choose(place: _Place, readings: Sequence[_Reading]) -> _Reading:
    fitting = [reading for reading in readings if fits(reading.annotation, place.wanted)]
    exact = [reading for reading in fitting if same_type(reading.annotation, place.wanted)]
    if exact or len(fitting) == 1:
        return (exact or fitting)[0]
    raise TypeError(_ambiguity(place, fitting) if fitting else _misfit(place, readings))


def _ambiguity(place: _Place, fitting: Sequence[_Reading]) -> str:
    upstream = place.upstream.name
    if is_unknown(place.returns):
        return (
            f"{place} takes the result of task '{upstream}', which does not say whether it returns a list: write "
            f"`-> list[TYPE]` or `-> TYPE` behind the parameters of '{upstream}'."
        )
    choices = " or ".join(f"{place.mark(each.annotation)} ({_meaning(each)})" for each in fitting)
    return (
        f"{place} can mean more than one thing, because task '{upstream}' returns {describe_type(place.returns)}: "
        f"write {choices}, or write in full what '{upstream}' returns."
    )


def _misfit(place: _Place, readings: Sequence[_Reading]) -> str:
    upstream, returns = place.upstream.name, describe_type(place.returns)
    origin = f"{_title(place.upstream, lower=True)} returns {returns}"
    if plain_type(place.returns) is NoneType:
        return f"{place} takes a result, but {origin}: return something, or only wait, after=['{upstream}']."
    choices = [f"{place.mark(each.annotation)} ({_meaning(each)})" for each in readings]
    one_step_to_array = place.task.config.array and place.result.steps is None and not place.result.broadcast
    if one_step_to_array and not place.upstream.config.array and fits(place.returns, place.wanted):
        whole = Result(step=upstream, broadcast=True)
        choices.append(f"{place.mark(place.wanted, whole)} (every element gets the whole)")
    if readings:
        choices.append(f"change what '{upstream}' returns")
    else:
        choices.append(f"return list[{describe_type(place.wanted)}] from '{upstream}' (one item for each element)")
    return f"{place} does not fit: {origin}. Write {' or '.join(choices)}."


def _meaning(reading: _Reading) -> str:
    """Return in words what the function receives."""
    if reading.delivery is Delivery.WHOLE:
        return "the whole output"
    if reading.delivery is Delivery.CHAIN:
        return "each element the output of its element"
    if reading.delivery is Delivery.EACH:
        return {
            Take.VALUE: "its output as one item",
            Take.ITEMS: "one item for each element",
            Take.ELEMENTS: "one output for each element",
            Take.FLAT: "one item of all the lists for each element",
        }[reading.take]
    return {
        Take.VALUE: "its output as one item",
        Take.ITEMS: "the items of its list",
        Take.ELEMENTS: "the outputs of all elements",
        Take.FLAT: "the items of all elements' lists",
    }[reading.take]


def _title(task: TaskSpec, *, lower: bool = False) -> str:
    title = f"array task '{task.name}'" if task.config.array else f"task '{task.name}'"
    return title if lower else title[0].upper() + title[1:]
