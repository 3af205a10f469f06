from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, List, Literal, NewType, Optional, Protocol, TypedDict, TypeVar  # noqa: UP035

import pytest

from reflow.annotations import describe_type, fits, item_type, same_type
from reflow.params import Param, RunDir


class Animal: ...


class Dog(Animal): ...


@dataclass
class Item:
    value: int


class Settings(TypedDict):
    depth: int


class Named(Protocol):
    name: str


class IntList(list[int]): ...


UserId = NewType("UserId", int)
T = TypeVar("T")


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (int, int),
        (bool, int),
        (int, float),
        (float, complex),
        (int, object),
        (None, None),
        (int, Optional[int]),  # noqa: UP045 (both spellings are people's)
        (int | str, str | int | None),
        (List[int], list[int]),  # noqa: UP006
        (list[int], Iterable[int]),
        (list[int], list[float]),
        (list[Dog], Sequence[Animal]),
        (tuple[int, ...], list[int]),
        (tuple[int, int], tuple[int, ...]),
        (tuple[int, str], tuple[int, str]),
        (tuple, tuple[int, str]),
        (tuple[int, str], Sequence[int | str]),
        (set[int], Collection),
        (dict[str, int], Mapping[str, float]),
        (dict, dict[str, int]),
        (dict[str, int], dict),
        (Annotated[int, "metres"], int),
        (int, Annotated[float, "metres"]),
        (Literal["a"], str),
        (Literal["a"], Literal["a", "b"]),
        (UserId, int),
        (UserId, UserId),
        (Settings, Settings),
        (Settings, dict),
        (Item, Named),
        (IntList, list[int]),
        (T, int),
        (int, T),
        (Any, Dog),
        (Dog, Any),
        (type(Path()), Path),
    ],
)
def test_a_type_fits(given, wanted):
    assert fits(given, wanted)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (int, str),
        (float, int),
        (str, int),
        (str, Path),
        (None, int),
        (Optional[int], int),  # noqa: UP045
        (int | str, int),
        (list[int], list[str]),
        (list[int], int),
        (list[int], dict[str, int]),
        (list[int], tuple[int, int]),
        (list[int], set[int]),
        (set[int], list[int]),
        (tuple[int, str], list[int]),
        (tuple[int, str], tuple[int, int]),
        (tuple[int, str], tuple[int, str, str]),
        (tuple[int, ...], tuple[int, int]),
        (dict[str, int], dict[str, str]),
        (dict, Settings),
        (str, Sequence[str]),
        (str, list[str]),
        (bytes, Sequence[int]),
        (str, Literal["a"]),
        (Literal["a"], Literal["b"]),
        (Literal[1], Literal[True]),
        (int, UserId),
        (Animal, Dog),
        (object, int),
    ],
)
def test_a_type_does_not_fit(given, wanted):
    assert not fits(given, wanted)


@pytest.mark.parametrize(
    ("annotation", "item"),
    [
        (list[int], int),
        (list, Any),
        (Sequence[Path], Path),
        (tuple[int, ...], int),
        (tuple, Any),
        (Any, Any),
        (list[int] | list[str], int | str),
        (Annotated[list[int], "x"], int),
        (tuple[int, str], None),
        (tuple[()], None),
        (set[int], None),
        (dict[str, int], None),
        (str, None),
        (list[int] | None, None),
    ],
)
def test_what_the_items_of_a_list_are(annotation, item):
    assert item_type(annotation) == item


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (int, "int"),
        (list[int], "list[int]"),
        (Path, "Path"),
        (int | None, "int | None"),
        (Optional[int], "int | None"),  # noqa: UP045
        (None | int, "int | None"),
        (None, "None"),
        (Any, "Any"),
        (dict[str, list[Path]], "dict[str, list[Path]]"),
        (tuple[int, ...], "tuple[int, ...]"),
        (tuple[()], "tuple[()]"),
        (List[int], "list[int]"),  # noqa: UP006
        (List, "list"),  # noqa: UP006
        (Sequence[int], "Sequence[int]"),
        (Literal["a", 1], "Literal['a', 1]"),
        (Annotated[int, Param()], "int"),
        (Item, "Item"),
        (UserId, "UserId"),
        (RunDir, "Path"),
        (T, "T"),
    ],
)
def test_a_type_is_described_as_a_person_writes_it(annotation, text):
    assert describe_type(annotation) == text


def test_two_ways_to_write_a_type_are_the_same():
    assert same_type(List[int], list[int])  # noqa: UP006
    assert same_type(list, list[Any])
    assert same_type(int | None, Optional[int])  # noqa: UP045
    assert not same_type(list[int], list[str])
    assert not same_type(list[int], Sequence[int])
    assert not same_type(Literal[1], Literal[True])
