"""What travels between tasks comes back as it was, or is refused with words that help."""

from __future__ import annotations

import collections
import datetime
import decimal
import json
import math
import os
import pathlib
import subprocess
import sys
import types
import typing
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import InitVar, dataclass, field, make_dataclass
from enum import Enum, Flag, IntEnum
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import (
    Annotated,
    Any,
    Final,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    Optional,
    TypedDict,
    TypeVar,
    Union,
)
from zoneinfo import ZoneInfo

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflow import codec
from reflow.errors import CodecError

Item = TypeVar("Item")
Metres = NewType("Metres", float)


class Colour(Enum):
    RED = "red"
    BLUE = (0, 0, 255)
    ODD = object()


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Mode(str, Enum):
    FAST = "fast"


class Access(Flag):
    READ = 1
    WRITE = 2


@dataclass(frozen=True)
class Point:
    x: float
    y: float = 0.0


@dataclass
class Station:
    name: str
    place: Point
    files: list[Path]
    colour: Colour | None = None
    parts: dict[str, Station] = field(default_factory=dict)
    length: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.length = len(self.name)
        self.name = self.name.strip()


@dataclass
class Box(Generic[Item]):
    content: Item
    more: list[Item]


@dataclass
class Secretive:
    seed: InitVar[int]
    value: int = 0


@dataclass
class Unresolvable:
    frame: DataFrame  # noqa: F821 (what a TYPE_CHECKING import leaves behind)


class Pair(NamedTuple):
    first: int
    second: Path


class Options(TypedDict, total=False):
    level: Level
    paths: list[Path]


class Text(str):
    """A text of a class of its own."""


class Opaque:
    """Has no JSON form."""


def there_and_back(value: Any, annotation: Any = Any) -> Any:
    return codec.loads(codec.dumps(value, annotation), annotation)


def same(one: Any, other: Any) -> bool:
    """Return whether both are equal and of the same types all the way down; NaN is NaN and 0.0 is not -0.0."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return repr(one) == repr(other)
    if isinstance(one, complex):
        return same(one.real, other.real) and same(one.imag, other.imag)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return same(list(one.items()), list(other.items()))
    if isinstance(one, decimal.Decimal):
        return one.as_tuple() == other.as_tuple()
    if isinstance(one, datetime.datetime):
        return one.replace(tzinfo=None) == other.replace(tzinfo=None) and (one.tzinfo, one.fold) == (
            other.tzinfo,
            other.fold,
        )
    return bool(one == other)


any_text = st.text(st.characters(exclude_categories=())) | st.sampled_from(
    ["~", "v", "\ud83d\ude00", "\udce9", "\\ud83d"]
)
any_path = any_text.filter(lambda text: "\0" not in text).map(Path)
zones = st.none() | st.sampled_from(
    [
        datetime.timezone.utc,
        datetime.timezone(datetime.timedelta(hours=-3, seconds=7, microseconds=5)),
        ZoneInfo("Europe/Berlin"),
    ]
)
any_leaf = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(2_000, 20_000).map(lambda bits: -(2**bits)),
    st.floats(),
    st.complex_numbers(),
    any_text,
    st.binary(),
    st.binary().map(bytearray),
    any_path,
    any_path.map(PurePosixPath),
    any_text.map(PureWindowsPath),
    st.datetimes(timezones=zones),
    st.dates(),
    st.times(timezones=st.none() | st.just(datetime.timezone.utc)),
    st.timedeltas(),
    st.uuids(),
    st.decimals(),
    st.builds(range, st.integers(), st.integers(), st.integers(min_value=1)),
)
# A signalling NaN has no hash, and other NaN are never found again.
hashable_leaf = any_leaf.filter(
    lambda value: (
        not isinstance(value, bytearray)
        and not (isinstance(value, decimal.Decimal) and value.is_nan())
        and value == value
    )
)
any_value = st.recursive(
    any_leaf,
    lambda inner: st.one_of(
        st.lists(inner),
        st.lists(inner).map(tuple),
        st.dictionaries(any_text, inner),
        st.dictionaries(hashable_leaf | st.tuples(hashable_leaf, hashable_leaf), inner),
        st.sets(hashable_leaf),
        st.frozensets(hashable_leaf | st.frozensets(hashable_leaf)),
    ),
    max_leaves=20,
)


@given(any_value)
def test_every_builtin_value_comes_back_as_it_was_without_a_declaration(value):
    text = codec.dumps(value)

    assert same(codec.loads(text), value)
    assert codec.dumps(codec.loads(text)) == text
    assert text.encode("utf-8")


@given(any_value)
def test_the_text_is_strict_json(value):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    json.loads(codec.dumps(value), parse_constant=refuse)


DECLARED = [
    (bool, st.booleans()),
    (int, st.integers()),
    (float, st.floats()),
    (complex, st.complex_numbers()),
    (str, any_text),
    (bytes, st.binary()),
    (bytearray, st.binary().map(bytearray)),
    (None, st.none()),
    (Path, any_path),
    (pathlib.PurePath, any_path | any_path.map(PurePosixPath)),
    (os.PathLike[str], any_path),
    (datetime.datetime, st.datetimes(timezones=zones)),
    (datetime.date, st.dates() | st.datetimes()),
    (datetime.timedelta, st.timedeltas()),
    (uuid.UUID, st.uuids()),
    (decimal.Decimal, st.decimals()),
    (range, st.builds(range, st.integers())),
    (Any, any_value),
    (object, any_value),
    (list, st.lists(any_value)),
    (dict, st.dictionaries(st.integers() | any_text, any_value)),
    (tuple, st.lists(any_value).map(tuple)),
    (list[int], st.lists(st.integers())),
    (typing.List[float], st.lists(st.floats())),  # noqa: UP006 (the old spelling is still written)
    (Sequence[Path], st.lists(any_path)),
    (Iterable[int], st.lists(st.integers())),
    (Collection[int], st.lists(st.integers()) | st.sets(st.integers())),
    (tuple[int, ...], st.lists(st.integers()).map(tuple)),
    (tuple[int, str, Path], st.tuples(st.integers(), any_text, any_path)),
    (tuple[()], st.just(())),
    (set[Path], st.sets(any_path)),
    (frozenset[tuple[int, str]], st.frozensets(st.tuples(st.integers(), any_text))),
    (AbstractSet[int], st.sets(st.integers()) | st.frozensets(st.integers())),
    (dict[str, list[Path]], st.dictionaries(any_text, st.lists(any_path))),
    (Mapping[int, float], st.dictionaries(st.integers(), st.floats())),
    (dict[Colour, int], st.dictionaries(st.sampled_from(Colour), st.integers())),
    (dict[tuple[int, int], Point], st.dictionaries(st.tuples(st.integers(), st.integers()), st.just(Point(1.0)))),
    (Optional[int], st.none() | st.integers()),  # noqa: UP045
    (Union[int, str, None], st.none() | st.integers() | any_text),  # noqa: UP007
    (bool | int | float | str, st.booleans() | st.integers() | st.floats() | any_text),
    (Path | str, any_path | any_text),
    (list[int] | tuple[int, ...] | set[int], st.lists(st.integers()) | st.lists(st.integers()).map(tuple)),
    (Literal["a", 1, True, None, Level.LOW], st.sampled_from(["a", 1, True, None, Level.LOW])),
    (Literal[1] | float, st.just(1) | st.floats()),
    (Literal[1] | int, st.integers()),
    (Annotated[list[int], "metadata"], st.lists(st.integers())),
    (Annotated[int, {"unhashable": []}], st.integers()),
    (Final[int], st.integers()),
    (Metres, st.floats()),
    (Colour, st.sampled_from(Colour)),
    (Level, st.sampled_from(Level)),
    (Mode, st.sampled_from(Mode)),
    (Mode | str, st.sampled_from(Mode) | any_text),
    (int | Level, st.integers() | st.sampled_from(Level)),
    (Access, st.sampled_from([Access.READ, Access.READ | Access.WRITE, Access(0)])),
    (Point, st.builds(Point, st.floats(allow_nan=False), st.floats(allow_nan=False))),
    (list[Point | Station | None], st.lists(st.none() | st.builds(Point, st.floats(allow_nan=False)))),
    (Box[int], st.builds(Box, st.integers(), st.lists(st.integers()))),
    (Box[Colour], st.builds(Box, st.sampled_from(Colour), st.lists(st.sampled_from(Colour)))),
    (Pair, st.builds(Pair, st.integers(), any_path)),
    (dict[str, Pair], st.dictionaries(any_text, st.builds(Pair, st.integers(), any_path))),
    (
        Options,
        st.fixed_dictionaries(
            {}, optional={"level": st.sampled_from(Level), "paths": st.lists(any_path), "more": any_leaf}
        ),
    ),
]


@pytest.mark.parametrize(("annotation", "values"), DECLARED, ids=[str(annotation) for annotation, _ in DECLARED])
def test_every_declared_value_comes_back_as_it_was(annotation, values):
    @given(values)
    def law(value):
        text = codec.dumps(value, annotation)
        assert same(codec.loads(text, annotation), value)
        assert same(codec.decode(codec.encode(value, annotation), annotation), value)

    codec.check(annotation)
    law()


def test_nested_dataclasses_come_back_with_every_field():
    inner = Station("  in ", Point(1, 2), [Path("a")], Colour.BLUE)
    outer = Station("out", Point(0.5), [], None, {"~": inner, "b": inner})

    returned = there_and_back([outer], list[Station])

    assert returned == [outer]
    assert returned[0].parts["~"].length == 5, "the stored value, not what the constructor makes of the stored name"


@pytest.mark.parametrize(
    ("value", "annotation", "expected"),
    [
        (3, float, 3.0),
        (True, int, 1),
        (numpy.int64(3), int, 3),
        (numpy.float32(0.5), float, 0.5),
        (numpy.int8(2), float, 2.0),
        (numpy.bool_(True), bool, True),
        (numpy.str_("a"), str, "a"),
        (numpy.array(2.5), float, 2.5),
        (numpy.str_("a"), Literal["a"], "a"),
        (numpy.int64(3), float | int, 3),
        (numpy.int64(3), int | float, 3),
        ([numpy.float64(1), 2], list[float], [1.0, 2.0]),
        ((1, 2), list[int], [1, 2]),
        ([1, 2], tuple[int, ...], (1, 2)),
        (Pair(1, Path("a")), tuple[int, Path], (1, Path("a"))),
        (frozenset({1}), set[int], {1}),
        (collections.OrderedDict(a=1), dict[str, int], {"a": 1}),
        (collections.Counter("aab"), dict[str, int], {"a": 2, "b": 1}),
        (collections.defaultdict(int, a=1), Mapping[str, int], {"a": 1}),
        (Text("a"), str, "a"),
        ((1, 2), Iterable[int], [1, 2]),
        (1, float | None, 1.0),
        ([1, 2], list[float] | list[int], [1, 2]),
        ([1, 2.5], list[float] | list[int], [1.0, 2.5]),
    ],
    ids=str,
)
def test_the_declared_type_wins_where_it_covers_the_value(value, annotation, expected):
    assert same(there_and_back(value, annotation), expected)


@pytest.mark.parametrize(
    ("given_as", "value", "wanted_as", "expected"),
    [
        (int, 3, float, 3.0),
        (list[int], [1], tuple[int, ...], (1,)),
        (tuple[int, ...], (1,), list[int], [1]),
        (Mode, Mode.FAST, str, "fast"),
        (Level, Level.HIGH, int, 2),
        (Pair, Pair(1, Path("a")), tuple[int, Path], (1, Path("a"))),
        (datetime.datetime, datetime.datetime(2024, 1, 2), datetime.date, datetime.datetime(2024, 1, 2)),
        (set[int], {1}, Collection[int], {1}),
        (Any, {"a": [1]}, dict[str, list[int]], {"a": [1]}),
    ],
    ids=str,
)
def test_a_receiver_may_declare_a_wider_type(given_as, value, wanted_as, expected):
    assert same(codec.loads(codec.dumps(value, given_as), wanted_as), expected)


@pytest.mark.parametrize(
    ("value", "annotation", "expected"),
    [
        (Point(1, 2), Point, {"x": 1.0, "y": 2.0}),
        ([Pair(1, Path("a"))], list[Pair], [(1, Path("a"))]),
        (Colour.BLUE, Colour, (0, 0, 255)),
        (Colour.RED, Colour, "red"),
        (Colour.ODD, Colour, "ODD"),
        (Access.READ | Access.WRITE, Access, 3),
    ],
    ids=str,
)
def test_a_reader_without_the_class_gets_plain_values(value, annotation, expected):
    assert same(codec.loads(codec.dumps(value, annotation)), expected)


@pytest.mark.parametrize(
    "value",
    [
        numpy.float64(0.1),
        numpy.float32("nan"),
        numpy.int64(2**62),
        numpy.uint8(3),
        numpy.bool_(True),
        numpy.complex64(1 + 2j),
        numpy.str_("ä"),
        numpy.bytes_(b"a"),
        numpy.datetime64("2024-01-02T03:04:05", "ns"),
        numpy.timedelta64(5, "D"),
    ],
    ids=repr,
)
def test_numpy_scalars_come_back_as_numpy_scalars(value):
    returned = there_and_back(value)

    assert type(returned) is type(value)
    assert returned.dtype == value.dtype
    assert returned.tobytes() == value.tobytes()
    assert there_and_back(value, numpy.generic).tobytes() == value.tobytes()


@pytest.mark.parametrize(
    "value",
    [
        numpy.arange(6.0).reshape(2, 3),
        numpy.arange(6).reshape(2, 3).T,
        numpy.arange(10)[::2],
        numpy.array(5),
        numpy.zeros((0, 3)),
        numpy.array([], dtype="U1"),
        numpy.array(["a", "bcd"]),
        numpy.array([1, 2], dtype=">i4"),
        numpy.array(["2024-01-02"], dtype="datetime64[D]"),
    ],
    ids=repr,
)
def test_small_arrays_come_back_as_arrays_that_can_be_changed(value):
    for returned in (there_and_back(value), there_and_back(value, numpy.ndarray), there_and_back([value])[0]):
        assert type(returned) is numpy.ndarray
        assert (returned.dtype, returned.shape) == (value.dtype, value.shape)
        numpy.testing.assert_array_equal(returned, value)
        returned[...] = value


def endless() -> list[Any]:
    loop: list[Any] = []
    loop.append({"again": loop})
    return loop


def test_a_type_alias_may_contain_itself():
    typing_extensions = pytest.importorskip("typing_extensions")
    tree = typing_extensions.TypeAliasType("tree", "list[tree] | int")
    listed = typing_extensions.TypeAliasType("listed", list[Colour])

    assert there_and_back([1, [2]], tree) == [1, [2]]
    assert there_and_back([Colour.RED], listed) == [Colour.RED]


REFUSED = [
    (3, list[int], "the value is int 3, but list[int] is declared: return what is declared, or change the annotation"),
    ([1, "x"], list[int], "[1] is str 'x', but int is declared: return what is declared, or change the annotation"),
    (None, int, "the value is None, but int is declared: return what is declared, or change the annotation"),
    (1, None, "the value is int 1, but None is declared: return what is declared, or change the annotation"),
    (1.0, int, "the value is float 1.0, but int is declared: return what is declared, or change the annotation"),
    (1, bool, "the value is int 1, but bool is declared: return what is declared, or change the annotation"),
    (
        "abc",
        Sequence[str],
        "the value is str 'abc', but Sequence[str] is declared: return what is declared, or change the",
    ),
    (2**60 + 1, float, "the value is an int that no float equals: declare int, or return float(...)"),
    (10**400, float, "the value is an int that no float equals: declare int, or return float(...)"),
    (
        [3, {"path": {"x": Opaque()}}],
        Any,
        '[1]["path"]["x"] is an Opaque, which has no JSON form: return builtin values ',
    ),
    ({2: Opaque()}, Any, "[2] is an Opaque, which has no JSON form"),
    ({(1, Opaque): 2}, Any, "key (1, <class '"),
    ({1: 2}, dict[str, int], "key 1 is int 1, but str is declared"),
    ({"a": {1: "b"}}, dict[str, dict[int, int]], "[\"a\"][1] is str 'b', but int is declared"),
    (
        types.MappingProxyType({}),
        Mapping[str, int],
        "the value is a mappingproxy, but Mapping[str, int] is declared: return d",
    ),
    ({1, 2}, list[int], "the value is a set, but list[int] is declared: return sorted(...)"),
    ([1], set[int], "the value is a list, but set[int] is declared: return set(...)"),
    ({"a": 1}.keys(), list[str], "the value is a dict_keys, but list[str] is declared: return list(...)"),
    ({"a": 1}.values(), Any, "the value is a dict_values, which has no JSON form: return list(...)"),
    ((each for each in ()), Any, "the value is a generator, which has no JSON form: return list(...)"),
    ((each for each in ()), Iterable[int], "the value is a generator, but Iterable[int] is declared: return list(...)"),
    (numpy.arange(3), list[int], "the value is a ndarray, but list[int] is declared: return .tolist()"),
    (
        collections.defaultdict(int),
        Any,
        "the value is a defaultdict, which would come back as a plain dict: return dict(",
    ),
    (
        Text("a"),
        Any,
        "the value is a Text, which would come back as a plain str: return str(...), or annotate it with str",
    ),
    ((1, 2, 3), tuple[int, int], "the value has 3 items, but tuple[int, int] is declared: return 2"),
    ("a", Path, "the value is str 'a', but Path is declared: return Path(...)"),
    (Path("a"), str, "the value is Path 'a', but str is declared: return what is declared, or change the annotation"),
    (datetime.date(2024, 1, 2), datetime.datetime, "the value is a date, but datetime is declared"),
    ("c", Literal["a", "b"], "the value is str 'c', but Literal['a', 'b'] is declared"),
    (True, Literal[1], "the value is bool True, but Literal[1] is declared"),
    ([], Literal[1], "the value is a list, but Literal[1] is declared"),
    (
        Colour.RED,
        Any,
        "the value is the enum member Colour.RED, which only a declared type can give back: annotate it with",
    ),
    (
        [Level.LOW],
        list,
        "[0] is the enum member Level.LOW, which only a declared type can give back: annotate it with Level",
    ),
    (
        Mode.FAST,
        str,
        "the value is the enum member Mode.FAST, but str is declared: return .value, or annotate it with Mode",
    ),
    (
        "red",
        Colour,
        "the value is str 'red', but Colour is declared: return a member of Colour, or change the annotation",
    ),
    (Colour.RED, Enum, "Enum cannot be declared, because its values have no JSON form"),
    ({"a": [Point(1)]}, dict, '["a"][0] is a Point, which only a declared type can give back: annotate it with Point'),
    (Pair(1, Path()), Any, "the value is a Pair, which only a declared type can give back: annotate it with Pair"),
    (3, Point, "the value is int 3, but Point is declared: return an instance of Point, or change the annotation"),
    (Point("x"), Point, ".x is str 'x', but float is declared: return what is declared, or change the annotation"),
    ([Station("a", Point(1), ["b"])], list[Station], "[0].files[0] is str 'b', but Path is declared: return Path(...)"),
    ("x", Point | None, "the value is str 'x', but Point | None is declared"),
    (["x"], list[int] | None, "[0] is str 'x', but int is declared"),
    (Secretive(1), Secretive, "Secretive cannot be declared: its constructor and its fields differ in seed"),
    (
        Unresolvable(1),
        Unresolvable,
        "Unresolvable cannot be declared, as the annotations of its fields cannot be resolved",
    ),
    (
        {"level": 1},
        Options,
        '["level"] is int 1, but Level is declared: return a member of Level, or change the annotation',
    ),
    (
        1,
        set[list[int]],
        "set[list[int]] cannot be declared: list[int] has no hash; use a tuple or a frozenset inside it",
    ),
    (
        Opaque(),
        Opaque,
        "Opaque cannot be declared, because its values have no JSON form: declare builtin types, dataclasses",
    ),
    (len, Callable[..., int], "Callable[..., int] cannot be declared, because its values have no JSON form"),
    (
        numpy.zeros(125_001),
        Any,
        "the value is an array of 1,000,008 bytes, over the limit of 1,000,000: write it to a file ",
    ),
    (numpy.array([None]), Any, "the value has the numpy type object, which has no JSON form: use numbers of 64 bits"),
    (numpy.longdouble(1), Any, "the value has the numpy type"),
    (numpy.longdouble(1), float, "the value is a"),
    (numpy.zeros(2, dtype="i4,f8"), Any, "the value has the numpy type [('f0', "),
    (numpy.ma.array([1]), Any, "the value is a MaskedArray, which has no JSON form"),
    (endless(), Any, "the value, a list, contains itself or is nested hundreds of levels deep"),
    (endless(), list[dict[str, Any]], "the value, a list, contains itself or is nested hundreds of levels deep"),
]


@pytest.mark.parametrize(("value", "annotation", "words"), REFUSED, ids=[words[:60] for _, _, words in REFUSED])
def test_a_value_is_refused_with_its_place_its_type_and_what_to_return(value, annotation, words):
    with pytest.raises(CodecError) as refusal:
        codec.dumps(value, annotation)

    assert str(refusal.value).startswith(words)


CONTRADICTIONS = [
    (
        '"x"',
        int,
        "the value was stored as str 'x', but int is declared: declare the same type where it is returned and",
    ),
    ("1.0", int, "the value was stored as float 1.0, but int is declared"),
    ("1", str, "the value was stored as int 1, but str is declared"),
    ("[1]", str, "the value was stored as list, but str is declared"),
    ('{"a":["b"]}', dict[str, list[int]], "[\"a\"][0] was stored as str 'b', but int is declared"),
    ('{"a":1}', dict[int, int], "key 'a' was stored as str 'a', but int is declared"),
    ('"x"', Path, "the value was stored as str 'x', but Path is declared"),
    (codec.dumps(Path("x")), str, "the value was stored as path, but str is declared"),
    (codec.dumps({1}), list[int], "the value was stored as set, but list[int] is declared"),
    (codec.dumps(Point(1), Point), Station, "the value was stored as dataclass Point, but Station is declared"),
    (codec.dumps(Point(1), Point), str, "the value was stored as dataclass Point, but str is declared"),
    ('{"x":1,"y":2}', Point, "the value was stored as dict, but Point is declared"),
    ("[1,2,3]", tuple[int, int], "the value was stored as list, but tuple[int, int] is declared"),
    ("null", Point | int, "the value was stored as None, but Point | int is declared"),
    ('"c"', Literal["a"], "the value was stored as str 'c', but Literal['a'] is declared"),
    ('{"~":"enum","v":["Colour","GREEN",1]}', Colour, "the value was stored as a member that Colour does not have any"),
    (
        '{"~":"dataclass","v":["Point",{"x":1}]}',
        Point,
        "the value was stored when Point had other fields than x, y: run the task that wrote it again (--force)",
    ),
    ('[{"~":"hologram","v":1}]', Any, "[0] has the unknown kind 'hologram': a newer reflow may have written it"),
    ('{"~":"tuple","w":1}', Any, "the value is no encoded value: the keys of a tagged one are '~' and 'v'"),
    ('{"~":"decimal","v":"x"}', Any, "the value is no encoded decimal"),
    ('{"~":"datetime","v":["2024-01-01T00:00:00","No/Where",0]}', Any, "the value is no encoded datetime"),
    ('{"~":"array","v":["O",[1],""]}', Any, "the value is no encoded array: unknown numpy type 'O'"),
    ('{"~":"array","v":["<f8",[3],""]}', Any, "the value is no encoded array: 0 bytes do not make the shape"),
    ("[1,", Any, "the text '[1,' is no encoded value: it was changed after it was written, or cut short"),
    ("[" * 100_000 + "]" * 100_000, Any, "the value, str '[["),
]


@pytest.mark.parametrize(("text", "annotation", "words"), CONTRADICTIONS, ids=[each[2][:60] for each in CONTRADICTIONS])
def test_a_text_that_contradicts_the_declaration_is_refused_with_its_place(text, annotation, words):
    with pytest.raises(CodecError) as refusal:
        codec.loads(text, annotation)

    assert str(refusal.value).startswith(words)


def test_two_classes_of_one_name_cannot_share_a_union():
    def another() -> type:
        @dataclass
        class Twin:
            value: int

        return Twin

    first, second = another(), another()

    with pytest.raises(
        CodecError, match=r"two of its types are called .*Twin, and only the name is stored; rename one"
    ):
        codec.check(first | second)
    with pytest.raises(CodecError, match=r"but .*Twin is declared: .*\(one is defined in .*, the other in"):
        codec.dumps(first(1), second)


def test_check_finds_what_cannot_travel_in_the_fields_of_a_dataclass():
    codec.check(list[Station])
    with pytest.raises(CodecError, match="Unresolvable cannot be declared"):
        codec.check(list[Unresolvable])
    with pytest.raises(CodecError, match="Opaque cannot be declared"):
        codec.check(dict[str, Opaque | None])


def test_an_annotation_that_was_refused_is_refused_again():
    for _ in range(2):
        with pytest.raises(CodecError, match="Opaque cannot be declared"):
            codec.dumps([1], list[Opaque])


def test_literals_that_python_calls_equal_are_told_apart():
    assert codec.dumps([1], list[Literal[1]]) == "[1]"
    assert codec.dumps([True], list[Literal[True]]) == "[true]"
    with pytest.raises(CodecError, match="is bool True, but Literal"):
        codec.dumps([True], list[Literal[1]])


def test_how_a_union_is_spelled_does_not_change_what_is_stored():
    for annotation in (Union[float, int], Union[int, float], list[int] | float | int):  # noqa: UP007
        assert codec.dumps(True, annotation) == "1"


def test_reading_never_imports_what_the_text_names(tmp_path, monkeypatch):
    (tmp_path / "trap.py").write_text("raise AssertionError('was imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    texts = [
        '{"~":"dataclass","v":["trap.Trap",{"x":1}]}',
        '{"~":"enum","v":["trap.Trap","A",1]}',
        '{"~":"trap.Trap","v":1}',
    ]

    for text in texts:
        for annotation in (Any, Point, Colour):
            try:
                codec.loads(text, annotation)
            except CodecError:
                continue
    assert "trap" not in sys.modules


def test_importing_the_codec_loads_nothing_heavy():
    heavy = ["numpy", "decimal", "uuid", "zoneinfo", "click", "jinja2", "rich", "asyncio", "sqlite3"]
    program = f"import sys, reflow.codec, reflow.identity; print([name for name in {heavy} if name in sys.modules])"
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert finished.stdout.strip() == "[]"


def test_a_float_of_any_kind_is_the_same_after_two_journeys():
    for value in (-0.0, 5e-324, math.inf, -math.inf, 1e308, 0.1):
        assert repr(there_and_back(there_and_back(value, float), float)) == repr(value)


@given(st.lists(any_value))
def test_a_list_is_split_into_the_texts_of_its_items_and_joined_again(items):
    texts = [codec.dumps(item) for item in items]

    assert codec.split_list(codec.dumps(items)) == texts
    assert codec.split_list(codec.dumps(tuple(items))) == texts
    assert codec.join_items(texts) == codec.dumps(items)
    assert codec.join_lists([codec.dumps(items), codec.dumps(tuple(items)), "[]"]) == codec.dumps(items * 2)


@pytest.mark.parametrize(
    "text", ["3", "null", '"[1]"', '{"a":[1]}', codec.dumps({1}), "[1,,2]", "[1", '["a" "b"]', "[,]"]
)
def test_only_a_list_is_split(text):
    with pytest.raises(CodecError):
        codec.split_list(text)


def test_only_lists_are_joined():
    with pytest.raises(CodecError, match="the value '3' is neither a list nor a tuple: return a list"):
        codec.join_lists(["[1]", "3"])


@given(st.lists(any_path))
def test_every_path_inside_a_value_is_found_in_order(paths):
    value = [{"~": each, "b": (each, "no path")} for each in paths]
    keys = dict.fromkeys(paths, "path")

    assert list(codec.paths_in(codec.encode(value))) == [str(each) for each in paths for _ in range(2)]
    assert list(codec.paths_in(codec.encode(keys))) == [str(each) for each in keys]


def test_a_dictionary_that_looks_like_a_path_is_none():
    assert list(codec.paths_in(codec.encode({"~": "path", "v": "secret"}))) == []


def test_a_union_that_holds_a_literal_still_takes_other_values_of_that_type():
    assert same(there_and_back(3, Literal[1] | float), 3.0)


def test_path_is_never_taken_for_a_text_with_the_same_words():
    assert codec.dumps(Path("a")) != codec.dumps("a")
    assert same(there_and_back({"a": Path("a"), "b": "a"}), {"a": Path("a"), "b": "a"})


@dataclass
class Tree:
    leaf: int
    branches: list[Tree]


class Grade(Enum):
    GOOD = "good"
    BEST = GOOD


def test_the_form_of_a_type_names_the_fields_and_members_of_every_class_inside():
    assert codec.form(int) == "int"
    assert codec.form(dict[str, list[Tree | Grade | None]]).splitlines() == [
        "dict[str, list[Tree | Grade | None]]",
        "dataclass Tree(leaf: int, branches: list[Tree])",
        'enum Grade(GOOD = {"~": "enum", "v": ["Grade", "GOOD", "good"]}, '
        'BEST = {"~": "enum", "v": ["Grade", "GOOD", "good"]})',
    ]


def test_the_form_of_a_type_changes_with_fields_their_types_and_their_order():
    def made(*fields):
        record = NamedTuple("Record", fields)
        return codec.form(list[record]), codec.form(make_dataclass("Data", fields))

    forms = [
        made(("x", int), ("y", int)),
        made(("x", int)),
        made(("y", int), ("x", int)),
        made(("x", int), ("y", float)),
        made(("x", int), ("y", int)),
    ]
    assert len(set(forms)) == 4
    assert forms[0] == forms[4]
    assert all(len({each[number] for each in forms}) == 4 for number in (0, 1))
