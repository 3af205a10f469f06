"""A deferred dataclass is a dataclass for whoever uses it, whatever is asked of it first."""

from __future__ import annotations

import dataclasses
import pickle
import threading

import pytest

from reflow.deferred import dataclass


@dataclass(frozen=True)
class Point:
    """Its fields are called as the parameters of the decorator's own functions are."""

    kind: int
    cls: int = 2
    tags: list[str] = dataclasses.field(default_factory=list)


@dataclass(frozen=True)
class Above(Point):
    height: int = 0


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
    assert hash(kind(1)) == hash(kind(1))
    assert repr(kind(1)).endswith("Fresh(kind=1, name='a')")
    with pytest.raises(dataclasses.FrozenInstanceError):
        kind(1).kind = 2
    with pytest.raises(TypeError, match="missing 1 required"):
        kind()


def test_the_fields_are_known_before_there_is_an_instance():
    assert [each.name for each in dataclasses.fields(fresh())] == ["kind", "name"]
    assert dataclasses.is_dataclass(fresh())


def test_fields_are_inherited_from_a_class_that_nobody_has_asked():
    assert Above(1, height=3) == Above(1, 2, [], 3)
    assert dataclasses.asdict(dataclasses.replace(Above(1), cls=5)) == {"kind": 1, "cls": 5, "tags": [], "height": 0}


def test_a_plain_subclass_passes_its_arguments_on():
    class Named(fresh()):
        def __init__(self, name):
            super().__init__(7, name)

    assert (Named("b").kind, Named("b").name) == (7, "b")


def test_an_unpickled_instance_is_whole_though_nobody_called_the_class():
    kind = fresh()
    rebuild, arguments, state = kind(1).__reduce_ex__(2)[:3]
    other = fresh()
    loaded = rebuild(other, *arguments[1:])
    loaded.__dict__.update(state)
    assert loaded == other(1)
    assert pickle.loads(pickle.dumps(Above(1))) == Above(1)


def test_a_class_with_slots_is_finished_at_once():
    @dataclass(frozen=True, slots=True)
    class Slotted:
        kind: int

    assert not hasattr(Slotted(1), "__dict__")


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
