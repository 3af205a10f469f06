"""Move outputs to inputs: which values a task's instances receive, as JSON text, with the hashes that identify them.

Pure: the outputs come in, nothing is decoded and no user code is known.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from . import codec, identity
from .errors import ReflowError
from .spec import Delivery, ResultInput, Step, Take, TaskPlan

#: Tells two states of the file at a path apart; '' for no file, None where nothing can be told.
Fingerprint = Callable[[str], "str | None"]


class UnequalWidths(ReflowError):
    """The inputs that set the width of an array have different lengths."""


@dataclass(frozen=True, slots=True)
class Value:
    """One encoded value and the hash that stands for it in an identity."""

    text: str
    hash: str


#: Of each upstream task, the outputs of its successful instances by index; a singleton's index is 0.
Outputs = Mapping[str, Mapping[int, Value]]


def value_now(text: str, recorded_hash: str, fingerprint: Fingerprint) -> Value:
    """Return an output as it reaches a task now: the files that it names may have changed since it was made."""
    if recorded_hash and identity.may_hold_paths(text):
        return Value(text, identity.hash_value(text, fingerprint))
    return Value(text, recorded_hash)


def shared_values(plan: TaskPlan, outputs: Outputs, fingerprint: Fingerprint) -> dict[str, Value]:
    """Return, by parameter, the values that every instance of the task receives, as far as they are known."""
    shared = {}
    for result in plan.results:
        if result.delivery is Delivery.WHOLE:
            for value in outputs[result.steps[0].task].values():
                shared[result.parameter] = value
        elif result.delivery is Delivery.LIST:
            shared[result.parameter] = _as_list(result.steps, outputs, fingerprint)
    return shared


def element_values(plan: TaskPlan, outputs: Outputs, fingerprint: Fingerprint) -> dict[str, list[Value]]:
    """Return, by parameter, the values of which element i receives the i-th."""
    return {
        result.parameter: [value for step in result.steps for value in _items(step, outputs, fingerprint)]
        for result in plan.results
        if result.delivery is Delivery.EACH
    }


def array_width(plan: TaskPlan, elements: Mapping[str, Sequence[Value]], parents: Mapping[str, int]) -> int:
    """Return how many elements the array has; `parents` has the widths of the arrays that it follows.

    Raises `UnequalWidths` when the inputs disagree.
    """
    widths = {parameter: len(values) for parameter, values in elements.items()}
    for result in plan.results:
        if result.delivery is Delivery.CHAIN:
            widths[result.parameter] = parents[result.steps[0].task]
    if len(set(widths.values())) > 1:
        lengths = ", ".join(f"{_origin(plan, parameter)} has {width}" for parameter, width in widths.items())
        raise UnequalWidths(
            f"task '{plan.name}' takes one element of each of several lists, and they differ in length: {lengths}; "
            "make them equally long, or give one of them broadcast=True"
        )
    return next(iter(widths.values()))


def direct_input_hash(
    plan: TaskPlan, run_dir: str, fingerprint: Fingerprint, content_fingerprint: Fingerprint | None = None
) -> str:
    """Return the hash of the parameter values that the function receives, '' where one cannot be told.

    `content_fingerprint` is for parameters that ask for the content of their files. A function that knows the run
    directory may leave files there, so its results are another directory's no more.
    """
    hashes = parameter_hashes(plan, fingerprint, content_fingerprint)
    hashes.update({name: identity.hash_value(json.dumps(run_dir)) for name in plan.run_dir_parameters})
    return identity.input_hash(hashes)


def parameter_hashes(
    plan: TaskPlan, fingerprint: Fingerprint, content_fingerprint: Fingerprint | None = None
) -> dict[str, str]:
    """Return, by name, the hash of each parameter value that decides whether a result is used again."""
    uncached = {parameter.parameter for parameter in plan.parameters if not parameter.cache}
    by_content = {parameter.parameter for parameter in plan.parameters if parameter.content}
    return {
        name: identity.hash_value(
            text, content_fingerprint if name in by_content and content_fingerprint is not None else fingerprint
        )
        for name, text in plan.arguments.items()
        if name not in uncached
    }


def instance_identity(plan: TaskPlan, input_hash: str, upstream_hashes: Mapping[str, str]) -> str:
    """Return the identity of one instance, or '' when its results are never used again."""
    if not plan.config.cache or not plan.code:
        return ""
    return identity.identity(plan.name, plan.config.version, plan.code, input_hash, upstream_hashes)


def element_identities(
    plan: TaskPlan, input_hash: str, shared_hashes: Mapping[str, str], varying: Sequence[str]
) -> Callable[[Sequence[str]], str]:
    """Return a function from the hashes of an element's `varying` parameters to its `instance_identity`."""
    if not plan.config.cache or not plan.code:
        return lambda hashes: ""
    return identity.identities(plan.name, plan.config.version, plan.code, input_hash, shared_hashes, varying)


def _as_list(steps: Sequence[Step], outputs: Outputs, fingerprint: Fingerprint) -> Value:
    lists, hashes = [], []
    for step in steps:
        values = list(outputs[step.task].values())
        texts = [value.text for value in values]
        lists.append(codec.join_items(texts) if step.take in (Take.VALUE, Take.ELEMENTS) else codec.join_lists(texts))
        hashes += [str(step.take), *(value.hash for value in values)]
    text = lists[0] if len(lists) == 1 else codec.join_lists(lists)
    if not all(hashes):  # one unknown hash makes the whole unknown: a list of hashes would hide it
        return Value(text, "")
    # Of what names files a worker must be able to take the hash again from the text alone.
    by_text = identity.may_hold_paths(text)
    return Value(text, identity.hash_value(text, fingerprint) if by_text else identity.hash_value(json.dumps(hashes)))


def _items(step: Step, outputs: Outputs, fingerprint: Fingerprint) -> list[Value]:
    values = list(outputs[step.task].values())
    if step.take in (Take.VALUE, Take.ELEMENTS):
        return values
    texts = (text for value in values for text in codec.split_list(value.text))
    return [Value(text, identity.hash_value(text, fingerprint)) for text in texts]


def _origin(plan: TaskPlan, parameter: str) -> str:
    result: ResultInput = next(each for each in plan.results if each.parameter == parameter)
    return f"'{parameter}' (from {', '.join(step.task for step in result.steps)})"
