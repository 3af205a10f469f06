"""A deferred dataclass is a dataclass for whoever uses it, whatever is asked of it first."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import subprocess
import sys
import threading

import pytest

from reflow.deferred import asdict, dataclass, field, replace
from reflow.spec import JobConfig
from reflow.stores.records import Report
from reflow.waves import SlotRecord


@dataclass(frozen=True)
class Point:
    """Its fields are called as the parameters of the decorator's own functions are."""

    kind: int
    cls: int = 2
    tags: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Above(Point):
    height: int = 0


@dataclass()
class Open:
    number: int


@dataclass(frozen=True)
class Nothing:
    pass


def fresh() -> type:
    """Return a class of which nobody has asked anything yet."""

    @dataclass(frozen=True)
    class Fresh:
        kind: int
        name: str = "a"

    return Fresh


def test_instances_are_compared_shown_hashed_and_frozen_as_those_of_a_dataclass():
    kind = fresh()
    assert kind(1) == kind(kind=1, name="a")
    assert kind(1) != kind(2)
    assert kind(1) != fresh()(1)
    assert hash(kind(1)) == hash(kind(1))
    assert repr(kind(1)).endswith("Fresh(kind=1, name='a')")
    with pytest.raises(dataclasses.FrozenInstanceError):
        kind(1).kind = 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        del kind(1).kind


@pytest.mark.parametrize(
    ("arguments", "keywords", "words"),
    [
        ((), {}, "missing 1 required"),
        ((1, "a", 2), {}, "takes from 2 to 3 positional arguments but 4 were given"),
        ((1,), {"nmae": "b"}, "unexpected keyword argument 'nmae'"),
    ],
)
def test_wrong_arguments_are_refused_at_the_first_call_too(arguments, keywords, words):
    with pytest.raises(TypeError, match=words):
        fresh()(*arguments, **keywords)


def test_one_that_is_not_frozen_can_be_changed_and_has_no_hash():
    changed = Open(1)
    changed.number = 2
    assert changed == Open(2)
    with pytest.raises(TypeError, match="unhashable"):
        hash(changed)


def test_one_without_fields_is_one_value():
    assert Nothing() == Nothing()
    assert hash(Nothing()) == hash(Nothing())
    assert repr(Nothing()) == "Nothing()"


def test_what_a_class_defines_itself_stays():
    @dataclass(frozen=True, init=False)
    class Own:
        number: int

        def __init__(self, text: str) -> None:
            object.__setattr__(self, "number", int(text))

        def __repr__(self) -> str:
            return "its own"

    assert Own("3").number == 3
    assert repr(Own("3")) == "its own"
    assert Own("3") == Own("03")


@pytest.mark.parametrize("kind", [Report, JobConfig, SlotRecord, Above, Nothing])
def test_library_and_user_find_the_same_fields(kind):
    twin = dataclasses.make_dataclass(
        "Twin", [(each.name, each.type, _field_like(each)) for each in dataclasses.fields(kind)], frozen=True
    )
    assert dataclasses.is_dataclass(kind)
    assert [each.name for each in dataclasses.fields(kind)] == list(kind.__match_args__)
    required = {each.name: 1 for each in dataclasses.fields(kind) if _is_required(each)}
    assert asdict(kind(**required)) == dataclasses.asdict(twin(**required))


def _is_required(each: dataclasses.Field) -> bool:
    return each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING


def _field_like(each: dataclasses.Field) -> dataclasses.Field:
    if each.default_factory is not dataclasses.MISSING:
        return dataclasses.field(default_factory=each.default_factory)
    return dataclasses.field(default=each.default) if each.default is not dataclasses.MISSING else dataclasses.field()


def test_the_fields_are_known_before_there_is_an_instance():
    assert [(each.name, each.type) for each in dataclasses.fields(fresh())] == [("kind", "int"), ("name", "str")]


def test_a_default_that_is_made_is_made_for_each_instance():
    first, second = Point(1), Point(1)
    first.tags.append("a")
    assert second.tags == []
    assert not hasattr(Point, "tags")


def test_fields_are_inherited_from_a_class_that_nobody_has_asked():
    assert Above(1, height=3) == Above(1, 2, [], 3)
    assert asdict(dataclasses.replace(Above(1), cls=5)) == {"kind": 1, "cls": 5, "tags": [], "height": 0}


def test_fields_are_inherited_from_a_class_that_somebody_has_asked():
    base = fresh()
    assert dataclasses.fields(base)

    @dataclass(frozen=True)
    class Further(base):
        more: int = 3

    assert (Further(1), Further(1).more) == (Further(1, "a", 3), 3)

    @dataclasses.dataclass(frozen=True)
    class ByTheLibrary(base):
        more: int = 3

    assert ByTheLibrary(1, more=4).name == "a"


def test_a_copy_may_differ_in_some_fields_and_has_no_others():
    assert replace(Above(1), cls=5) == Above(1, 5)
    with pytest.raises(TypeError, match="unexpected keyword argument 'clss'"):
        replace(Above(1), clss=5)


def test_a_plain_subclass_passes_its_arguments_on():
    class Named(fresh()):
        def __init__(self, name):
            super().__init__(7, name)

    assert (Named("b").kind, Named("b").name) == (7, "b")


def test_an_instance_can_be_pickled_and_copied():
    assert pickle.loads(pickle.dumps(Above(1))) == Above(1)
    assert copy.deepcopy(Above(1, tags=["a"])) == Above(1, tags=["a"])


def test_threads_that_make_the_first_instance_at_once_all_get_one():
    for _ in range(200):
        kind, made, start = fresh(), [], threading.Barrier(4)

        def make(kind=kind, made=made, start=start):
            start.wait()
            made.append(kind(1, name="b"))

        threads = [threading.Thread(target=make) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert made == 4 * [kind(1, "b")]


def test_a_worker_makes_its_records_without_the_library():
    program = "import sys, reflow.waves as w; w.SlotRecord(1, 2, 1); print('dataclasses' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
