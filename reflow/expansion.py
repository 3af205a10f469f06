"""The rows of a task once its width is known: what each instance receives of its own, and its identity.

Pure: the outputs come in, nothing is decoded and no user code is known.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from . import inputs
from .inputs import Fingerprint, Items, Outputs, Value
from .spec import Delivery, TaskPlan
from .stores.records import NewInstance

# Elements that are made at a time.
_BATCH = 10_000

#: Of the elements ``start <= i < stop`` of an array, the output hashes by index of those that have one.
ParentHashes = Callable[[int, int], Mapping[int, str]]


@dataclass(frozen=True)
class NewInstances:
    """The instances of a task in index order, made anew whenever they are iterated over."""

    width: int
    _make: Callable[[], Iterator[NewInstance]]

    def __iter__(self) -> Iterator[NewInstance]:
        return self._make()


def instances_of(
    plan: TaskPlan,
    shared: Mapping[str, Value],
    input_hash: str,
    outputs: Outputs,
    parents: Mapping[str, ParentHashes],
    widths: Mapping[str, int | None],
    fingerprint: Fingerprint,
) -> NewInstances:
    """Return the task's instances, a singleton as one; the cache has not been asked.

    `parents` has, by task, the output hashes of the arrays that this one follows; `widths` the width of each task by
    name. Raises `UnequalWidths` for inputs that differ in length.
    """
    shared_hashes = {parameter: value.hash for parameter, value in shared.items()}
    if not plan.config.array:
        # A value that is not known yet is its worker's to look up.
        is_known = all(result.parameter in shared for result in plan.results)
        own = inputs.instance_identity(plan, input_hash, shared_hashes) if is_known else ""
        return NewInstances(1, lambda: iter([NewInstance(None, None, own, input_hash)]))
    elements = inputs.element_values(plan, outputs, fingerprint)
    width = inputs.array_width(plan, elements, {name: width or 0 for name, width in widths.items()})
    return NewInstances(width, lambda: _elements(plan, input_hash, shared_hashes, elements, parents, width))


def _elements(
    plan: TaskPlan,
    input_hash: str,
    shared_hashes: Mapping[str, str],
    elements: Mapping[str, Items],
    parents: Mapping[str, ParentHashes],
    width: int,
) -> Iterator[NewInstance]:
    """Yield the rows of an array, with the identity '' where a parent element has no result: its worker will know."""
    chained = [(each.parameter, each.steps[0].task) for each in plan.results if each.delivery is Delivery.CHAIN]
    varying = [*elements, *(parameter for parameter, _ in chained)]
    identity_of = inputs.element_identities(plan, input_hash, shared_hashes, varying)
    for start in range(0, width, _BATCH):
        stop = min(start + _BATCH, width)
        hashes = [items.hashes(start, stop) for items in elements.values()]
        for _, task in chained:
            of_parent = parents[task](start, stop)
            hashes.append([of_parent.get(index, "") for index in range(start, stop)])
        own = zip(*hashes, strict=True)
        for index, text, of_element in zip(range(start, stop), _texts(elements, start, stop), own, strict=True):
            yield NewInstance(index, text, identity_of(of_element), input_hash)


def _texts(elements: Mapping[str, Items], start: int, stop: int) -> Iterator[str | None]:
    """Yield the texts of each element's own inputs, joined to one object without being decoded; None for no inputs."""
    if not elements:
        yield from [None] * (stop - start)
        return
    form = ",".join(json.dumps(parameter).replace("%", "%%") + ":%s" for parameter in elements)
    for texts in zip(*(items.texts(start, stop) for items in elements.values()), strict=True):
        yield f"{{{form % texts}}}"
