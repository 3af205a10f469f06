"""Move outputs to inputs: which values a task's instances receive, as JSON text, with the hashes that identify them.

Pure: the outputs come in, nothing is decoded and no user code is known.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from typing import Protocol

from . import codec, identity
from .deferred import dataclass
from .errors import ReflowError
from .spec import Delivery, ResultInput, Step, TaskPlan

#: Tells two states of the file at a path apart; '' for no file, None where nothing can be told.
Fingerprint = Callable[[str], "str | None"]


class UnequalWidths(ReflowError):
    """The inputs that set the width of an array have different lengths."""


@dataclass(frozen=True)
class Value:
    """One encoded value and the hash that stands for it in an identity."""

    text: str
    hash: str


class Values(Protocol):
    """The outputs of one task's successful instances, in the order of their indices; a dictionary by index is one."""

    def values(self) -> Iterable[Value]:
        """Return them, anew at each call; perhaps read from the manifest on the way."""


#: The outputs of each upstream task.
Outputs = Mapping[str, Values]


class Items:
    """What the elements of an array receive of one parameter: their texts, and the hashes when they are asked for."""

    def __init__(self, fingerprint: Fingerprint) -> None:
        self._fingerprint = fingerprint
        self._texts: list[str] = []
        # None for what is a part of an output: a million hashes would take more memory than they take time.
        self._hashes: list[str | None] = []

    def __len__(self) -> int:
        return len(self._texts)

    def add_outputs(self, values: Iterable[Value]) -> None:
        """Add each of these outputs as one item."""
        for value in values:
            self._texts.append(value.text)
            self._hashes.append(value.hash)

    def add_parts(self, values: Iterable[Value]) -> None:
        """Add the items of each of these lists."""
        for value in values:
            self._texts += codec.split_list(value.text)
        self._hashes += [None] * (len(self._texts) - len(self._hashes))

    def texts(self, start: int, stop: int) -> list[str]:
        """Return the JSON texts of ``start <= i < stop``."""
        return self._texts[start:stop]

    def hashes(self, start: int, stop: int) -> list[str]:
        """Return the hashes of ``start <= i < stop``."""
        return [
            identity.hash_value(text, self._fingerprint) if known is None else known
            for text, known in zip(self._texts[start:stop], self._hashes[start:stop], strict=True)
        ]


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


def element_values(plan: TaskPlan, outputs: Outputs, fingerprint: Fingerprint) -> dict[str, Items]:
    """Return, by parameter, the items of which element i receives the i-th."""
    found = {}
    for result in plan.results:
        if result.delivery is Delivery.EACH:
            items = found[result.parameter] = Items(fingerprint)
            for step in result.steps:
                add = items.add_outputs if step.take.keeps_outputs_whole else items.add_parts
                add(outputs[step.task].values())
    return found


def array_width(plan: TaskPlan, elements: Mapping[str, Sized], parents: Mapping[str, int]) -> int:
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
    lists: list[str] = []
    is_known = True

    def hashes() -> Iterator[str]:
        """Yield what the value is made of, and put the texts into `lists` on the way."""
        nonlocal is_known
        for step in steps:
            yield str(step.take)
            texts = []
            for value in outputs[step.task].values():
                texts.append(value.text)
                is_known = is_known and value.hash != ""
                yield value.hash
            lists.append(codec.join_items(texts) if step.take.keeps_outputs_whole else codec.join_lists(texts))

    of_parts = identity.hash_texts(hashes())
    text = lists[0] if len(lists) == 1 else codec.join_lists(lists)
    if not is_known:  # one unknown hash makes the whole unknown: a list of hashes would hide it
        return Value(text, "")
    # Of what names files a worker must be able to take the hash again from the text alone.
    return Value(text, identity.hash_value(text, fingerprint) if identity.may_hold_paths(text) else of_parts)


def _origin(plan: TaskPlan, parameter: str) -> str:
    result: ResultInput = next(each for each in plan.results if each.parameter == parameter)
    return f"'{parameter}' (from {', '.join(step.task for step in result.steps)})"
