"""The rows of a task once its width is known: what each instance receives of its own, and its identity.

Pure: the outputs come in, nothing is decoded and no user code is known.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from . import inputs
from .inputs import Fingerprint, Outputs, Value
from .spec import Delivery, TaskPlan
from .stores.records import NewInstance


def instances_of(
    plan: TaskPlan,
    shared: Mapping[str, Value],
    input_hash: str,
    outputs: Outputs,
    parents: Mapping[str, Mapping[int, str]],
    widths: Mapping[str, int | None],
    fingerprint: Fingerprint,
) -> list[NewInstance]:
    """Return the task's instances in index order, a singleton as one; the cache has not been asked.

    `parents` has, by task and index, the output hashes of the arrays that this one follows; `widths` the width of each
    task by name. Raises `UnequalWidths` for inputs that differ in length.
    """
    shared_hashes = {parameter: value.hash for parameter, value in shared.items()}
    if not plan.config.array:
        # A value that is not known yet is its worker's to look up.
        is_known = all(result.parameter in shared for result in plan.results)
        own = inputs.instance_identity(plan, input_hash, shared_hashes) if is_known else ""
        return [NewInstance(None, None, own, input_hash)]
    elements = inputs.element_values(plan, outputs, fingerprint)
    width = inputs.array_width(plan, elements, {name: width or 0 for name, width in widths.items()})
    return list(_elements(plan, input_hash, shared_hashes, elements, parents, width))


def _elements(
    plan: TaskPlan,
    input_hash: str,
    shared_hashes: Mapping[str, str],
    elements: Mapping[str, list[Value]],
    parents: Mapping[str, Mapping[int, str]],
    width: int,
) -> Iterator[NewInstance]:
    """Yield the rows of an array, with the identity '' where a parent element has no result: its worker will know."""
    chained = [(each.parameter, each.steps[0].task) for each in plan.results if each.delivery is Delivery.CHAIN]
    parent_hashes = [parents[task] for _, task in chained]
    values = list(elements.values())
    varying = [*elements, *(parameter for parameter, _ in chained)]
    identity_of = inputs.element_identities(plan, input_hash, shared_hashes, varying)
    # The texts of the element's own inputs are joined to one object without being decoded.
    names = [f"{',' if number else '{'}{json.dumps(parameter)}:" for number, parameter in enumerate(elements)]
    for index in range(width):
        own = [each[index] for each in values]
        hashes = [value.hash for value in own]
        hashes += [of_parent.get(index, "") for of_parent in parent_hashes]
        text = "".join(f"{name}{value.text}" for name, value in zip(names, own, strict=True))
        yield NewInstance(index, f"{text}}}" if own else None, identity_of(hashes), input_hash)
