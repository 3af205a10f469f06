from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import cloudpickle
import pytest

from reflow.params import MISSING, Param, Result, RunDir
from reflow.signature import Parameter, ParameterKind, read_signature

if TYPE_CHECKING:
    from decimal import Decimal


def read(function):
    return read_signature(function, "work")


def one(function) -> Parameter:
    (parameter,) = read(function).parameters.values()
    return parameter


def test_a_plain_parameter_takes_its_value_from_the_run():
    def work(count: int = 3) -> list[int]: ...

    parameter = one(work)
    assert (parameter.name, parameter.annotation, parameter.kind, parameter.default) == (
        "count",
        int,
        ParameterKind.PARAMETER,
        3,
    )
    assert read(work).returns == list[int]


def test_no_default_is_not_the_default_none():
    def work(a: int, b: int | None = None): ...

    parameters = read(work).parameters
    assert parameters["a"].default is MISSING
    assert parameters["b"].default is None


def test_a_param_mark_is_kept_and_the_type_stands_without_it():
    def work(count: Annotated[int, Param(help="How many", short="n", cache=False)]): ...

    parameter = one(work)
    assert parameter.annotation is int
    assert parameter.param == Param(help="How many", short="-n", cache=False)


def test_a_result_mark_makes_a_parameter_that_other_tasks_fill():
    def work(parts: Annotated[list[int], Result(steps=["a", "b"], broadcast=True)]): ...

    parameter = one(work)
    assert parameter.kind is ParameterKind.RESULT
    assert parameter.result.names == ("a", "b")
    assert parameter.result.broadcast


def with_type(out: RunDir): ...
def with_name(run_dir: Path): ...
def with_bare_name(run_dir): ...
def with_mark(out: Annotated[Path, RunDir]): ...
def with_more(out: Annotated[RunDir, "where files go"]): ...


@pytest.mark.parametrize("function", [with_type, with_name, with_bare_name, with_mark, with_more])
def test_the_run_directory_is_asked_for_by_type_mark_or_name(function):
    parameter = one(function)
    assert parameter.kind is ParameterKind.RUN_DIR
    assert parameter.annotation is Path


def test_a_parameter_called_run_dir_with_a_mark_is_the_users_own():
    def work(run_dir: Annotated[str, Param(help="Folder of the telescope's run")]): ...

    assert one(work).kind is ParameterKind.PARAMETER


def test_a_run_dir_that_cannot_be_a_path_is_refused():
    def work(run_dir: str): ...

    with pytest.raises(TypeError, match=r"'work', parameter 'run_dir'.*cannot be str: write `run_dir: RunDir`"):
        read(work)


def test_a_missing_return_annotation_is_any():
    def work(): ...

    assert read(work).returns is Any


def test_a_parameter_without_a_type_is_refused_with_what_to_write():
    def work(count): ...

    with pytest.raises(TypeError, match=r"Task 'work', parameter 'count' has no type: write its type.*`count: int`"):
        read(work)


def test_a_parameter_without_a_type_is_told_the_type_of_its_default():
    def work(ratio=0.5): ...

    with pytest.raises(TypeError, match=r"write `ratio: float`\."):
        read(work)


def test_a_local_class_is_found_by_its_name():
    @dataclass
    class Item:
        value: int

    def work(item: Annotated[Item, Result(step="a")]) -> list[Item]: ...

    assert one(work).annotation is Item
    assert read(work).returns == list[Item]


def test_a_local_class_of_a_function_further_out_is_found():
    class Item: ...

    def inner():
        def work(item: Item): ...

        return one(work)

    assert inner().annotation is Item


class Shadowed: ...


def test_a_local_class_goes_before_one_of_the_module():
    outer = Shadowed

    def inside():
        class Shadowed: ...

        def work(item: Shadowed): ...

        return one(work).annotation, Shadowed

    found, local = inside()
    assert found is local is not outer


def early(item: Annotated[Later, Result(step="a")]) -> list[Later]: ...


EARLY = read_signature(early, "early")


class Later: ...


def test_a_class_further_down_in_the_file_is_found_when_it_is_needed():
    assert EARLY.parameters["item"].annotation is Later
    assert EARLY.returns == list[Later]


def test_a_local_class_that_comes_after_the_task_is_found_when_it_is_needed():
    def work(item: Afterwards): ...

    signature = read(work)

    class Afterwards: ...

    assert signature.parameters["item"].annotation is Afterwards


def make_with_local_class():
    class Item: ...

    def work(item: Annotated[Item, Result(step="a")]) -> Item: ...

    return read(work), Item


def test_types_stay_known_after_the_function_around_them_has_returned():
    signature, item = make_with_local_class()
    assert signature.renamed("x_work", {"a": "x_a"}).parameters["item"].annotation is item
    assert signature.returns is item


def test_a_signature_survives_pickling_with_its_local_types():
    signature, item = make_with_local_class()
    copy = cloudpickle.loads(cloudpickle.dumps((signature, item)))
    assert copy[0].parameters["item"].annotation is copy[1]
    assert copy[0].parameters["item"].default is MISSING


def test_a_name_that_is_never_defined_is_refused_when_it_is_needed():
    def work(price: Decimal): ...

    signature = read(work)
    with pytest.raises(TypeError, match=r"Task 'work', parameter 'price': .*'Decimal'.*not defined.*TYPE_CHECKING"):
        _ = signature.parameters


def test_a_function_may_name_itself_before_it_is_complete():
    class Item: ...

    def work(item: Item) -> list[Item]:
        return work(item)

    assert one(work).annotation is Item


def test_a_recursive_task_can_be_read_while_it_is_being_decorated():
    def decorate(function):
        return read(function)

    class Item: ...

    @decorate
    def work(item: Item) -> list[Item]:
        return work(item)

    assert work.parameters["item"].annotation is Item


def test_a_wrapped_function_is_read_as_the_one_inside():
    def logged(function):
        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            return function(*args, **kwargs)

        return wrapper

    class Item: ...

    @logged
    def work(item: Item): ...

    assert one(work).annotation is Item


def test_renamed_tasks_are_found_under_their_new_names():
    def work(x: Annotated[int, Result(step="a")], y: Annotated[list[int], Result(steps=["a", "outside"])]): ...

    twice = read(work).renamed("one_work", {"a": "one_a"}).renamed("two_one_work", {"one_a": "two_one_a"})
    assert twice.parameters["x"].result == Result(step="two_one_a")
    assert twice.parameters["y"].result == Result(steps=["two_one_a", "outside"])


def early_renamed(item: Annotated[MuchLater, Result(step="a")]): ...


RENAMED = (
    read_signature(early_renamed, "early")
    .renamed("one_early", {"a": "one_a"})
    .renamed("two_one_early", {"one_a": "two_one_a"})
)


class MuchLater: ...


def test_renames_reach_marks_that_could_not_be_read_before():
    assert RENAMED.parameters["item"].result == Result(step="two_one_a")


def variadic(*items: int): ...
def keywords(**options: int): ...
def positional(count: int, /): ...


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (variadic, r"parameter 'items': a task cannot take `\*items`"),
        (keywords, "parameter 'options'"),
        (positional, "remove the `/`"),
    ],
)
def test_parameters_that_have_no_name_of_their_own_are_refused(function, words):
    with pytest.raises(TypeError, match=words):
        read(function)


async def coroutine(): ...
def generator():
    yield 1


class Pipeline:
    def method(self, count: int): ...


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (coroutine, "cannot be an async function"),
        (generator, "return a list"),
        (lambda: 1, "cannot be a lambda"),
        (len, "cannot be a built-in function"),
        (Pipeline, "cannot be a class"),
        (Pipeline().method, "cannot be a method"),
        (Pipeline.method, "move the function out of the class 'Pipeline'"),
        (staticmethod(with_type), "cannot be a method"),
        (functools.partial(with_name, 1), "an object of type partial"),
        (3, "an object of type int"),
    ],
)
def test_what_is_no_plain_function_is_refused(function, words):
    with pytest.raises(TypeError, match=f"Task 'work'.*{words}"):
        read(function)


def both_marks(x: Annotated[int, Param(), Result(step="a")]): ...
def two_results(x: Annotated[int, Result(step="a"), Result(step="b")]): ...
def inner_mark(x: list[Annotated[int, Result(step="a")]]): ...
def optional_mark(x: Annotated[int, Result(step="a")] | None): ...
def optional_run_dir(out: RunDir | None): ...
def class_mark(x: Annotated[int, Result]): ...
def mark_without_type(x: Param(help="x")): ...
def mark_as_default(x: int = Param(help="x")): ...
def wrong_mark(x: Annotated[int, Result()]): ...
def unknown_extra(x: Annotated[int, Param(hlep="x")]): ...
def number(x: 3): ...
def marked_return() -> Annotated[int, Param()]: ...
def bad_attribute(x: Path.Nothing): ...


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (both_marks, "parameter 'x'.*a value comes from one place"),
        (two_results, r"keep one of Result\(step='a'\), Result\(step='b'\)"),
        (inner_mark, "outermost"),
        (optional_mark, "outermost"),
        (optional_run_dir, "parameter 'out'.*outermost"),
        (class_mark, r"Result stands there without parentheses; write Result\(step=\"...\"\)"),
        (mark_without_type, "parameter 'x'.*(is no type|must evaluate to types)"),
        (mark_as_default, r"stands as the default; write `x: Annotated\[int, Param\(help='x'"),
        (wrong_mark, "parameter 'x'.*exactly one of both"),
        (unknown_extra, "no option 'hlep'; it takes help, short, namespace, cache, content. Did you mean 'help'"),
        (number, "parameter 'x'"),
        (marked_return, "what it returns.*mark parameters"),
        (bad_attribute, "parameter 'x'.*Path.Nothing"),
    ],
)
def test_a_wrong_mark_is_refused_with_the_task_and_the_parameter(function, words):
    with pytest.raises(TypeError, match=f"Task 'work', .*{words}"):
        read(function)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"step": "a", "steps": ["b"]}, TypeError, "exactly one"),
        ({"steps": "ab"}, TypeError, 'write step="..."'),
        ({"steps": []}, ValueError, "name at least one"),
        ({"step": with_name}, TypeError, "the function 'with_name' itself"),
        ({"steps": ["a", 3]}, TypeError, "not 3"),
        ({"step": "a", "broadcast": "yes"}, TypeError, "True or False"),
    ],
)
def test_a_result_that_names_no_task_is_refused(arguments, error, words):
    with pytest.raises(error, match=words):
        Result(**arguments)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"short": "nn"}, ValueError, "one letter"),
        ({"short": "-"}, ValueError, "one letter"),
        ({"namespace": "task"}, ValueError, "'global' or 'local'"),
        ({"cache": 0}, TypeError, "True or False"),
        ({"help": None}, TypeError, "takes a string"),
    ],
)
def test_a_param_that_cannot_be_an_option_is_refused(arguments, error, words):
    with pytest.raises(error, match=words):
        Param(**arguments)
