"""A plain function tells of itself what `inspect` would tell of it, and a wrapped one is asked by way of `inspect`."""

from __future__ import annotations

import functools
import inspect

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflow.callables import Argument, arguments_of, is_async, is_generator, is_plain, unwrapped
from reflow.params import MISSING

MARKS = {
    inspect.Parameter.POSITIONAL_ONLY: "/",
    inspect.Parameter.POSITIONAL_OR_KEYWORD: "",
    inspect.Parameter.KEYWORD_ONLY: "",
    inspect.Parameter.VAR_POSITIONAL: "*",
    inspect.Parameter.VAR_KEYWORD: "**",
}


def as_inspected(function) -> tuple[list[Argument], object]:
    """What `inspect` says, in our words."""
    signature = inspect.signature(function)

    def known(value):
        return MISSING if value is inspect.Signature.empty else value

    return [
        Argument(each.name, MARKS[each.kind], known(each.annotation), known(each.default))
        for each in signature.parameters.values()
    ], known(signature.return_annotation)


@st.composite
def definitions(draw) -> str:
    """The text of a function that takes some of everything that Python knows."""
    names = iter("abcdefghijklmnopqrstuvwxyz")
    positional = draw(st.integers(0, 3)), draw(st.integers(0, 3))
    defaults_from = draw(st.integers(0, sum(positional)))
    parts = []
    for place in range(sum(positional)):
        annotation = draw(st.sampled_from(["", ": int", ": 'str'"]))
        default = f" = {place}" if place >= defaults_from else ""
        parts.append(f"{next(names)}{annotation}{default}")
        if place == positional[0] - 1:
            parts.append("/")
    keywords = draw(st.integers(0, 2))
    if draw(st.booleans()):
        parts.append(f"*{next(names)}{draw(st.sampled_from(['', ': int']))}")
    elif keywords:
        parts.append("*")
    parts += [f"{next(names)}{draw(st.sampled_from(['', ': int', ' = None']))}" for _ in range(keywords)]
    if draw(st.booleans()):
        parts.append(f"**{next(names)}")
    return f"def function({', '.join(parts)}){draw(st.sampled_from(['', ' -> float']))}:\n local = other = 1"


@given(definitions())
def test_what_a_plain_function_takes_is_what_inspect_says(text):
    scope: dict[str, object] = {}
    exec(text, scope)
    function = scope["function"]
    assert is_plain(function)
    assert arguments_of(function) == as_inspected(function)


def test_of_a_wrapped_function_the_inner_one_counts():
    def inner(number: int, /, *, name: str = "a") -> float: ...

    @functools.wraps(inner)
    def outer(*arguments, **keywords): ...

    cached = functools.lru_cache(inner)
    for wrapped in (outer, cached):
        assert not is_plain(wrapped)
        assert unwrapped(wrapped) is inner
        assert arguments_of(wrapped) == as_inspected(inner)


def test_a_signature_that_somebody_has_set_counts():
    def function(*arguments): ...

    function.__signature__ = inspect.signature(lambda number: number)
    assert [each.name for each in arguments_of(function)[0]] == ["number"]


def plain(): ...


def generator():
    yield 1


async def coroutine(): ...


async def asynchronous_generator():
    yield 1


@pytest.mark.parametrize(
    ("function", "yields", "awaits"),
    [
        (plain, False, False),
        (generator, True, False),
        (coroutine, False, True),
        (asynchronous_generator, False, True),
        (len, False, False),
        (3, False, False),
    ],
)
def test_generators_and_coroutines_are_told_apart(function, yields, awaits):
    assert (is_generator(function), is_async(function)) == (yields, awaits)
