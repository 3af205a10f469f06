from __future__ import annotations

from datetime import datetime
from enum import Enum
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated, Any, Literal, NewType, Protocol, TypedDict

import pytest

from reflow.flow import Flow
from reflow.parameters import KEYWORDS, bind_parameters, run_parameters, task_arguments
from reflow.params import MISSING, Param, Result, RunDir
from reflow.wiring import plan_tasks

LOCAL = Param(namespace="local")


def function_of(parameters):
    """Return a function with these parameters: an annotation each, or an annotation and a default."""

    def function(**arguments):
        return arguments

    pairs = {
        name: value if isinstance(value, tuple) else (value, Parameter.empty) for name, value in parameters.items()
    }
    function.__signature__ = Signature(
        [
            Parameter(name, Parameter.KEYWORD_ONLY, annotation=kind, default=default)
            for name, (kind, default) in pairs.items()
        ],
        return_annotation=int,
    )
    return function


def tasks_of(**tasks):
    flow = Flow("f")
    for name, parameters in tasks.items():
        flow.job(name)(function_of(parameters))
    return list(flow.tasks.values())


def keys(tasks, **options):
    return [each.key for each in run_parameters(tasks, **options)]


def flags(tasks, **options):
    return [each.flag for each in run_parameters(tasks, **options)]


def test_a_parameter_shows_what_its_mark_says():
    (found,) = run_parameters(tasks_of(a={"first_day": (Annotated[int, Param(help="Day", short="d")], 3)}))
    assert (found.key, found.annotation, found.required, found.default) == ("first_day", int, False, 3)
    assert (found.help, found.short, found.namespace, found.tasks, found.flag) == (
        "Day",
        "-d",
        "global",
        ("a",),
        "--first-day",
    )


def test_results_and_the_run_directory_are_no_parameters():
    assert keys(tasks_of(a={}, b={"x": Annotated[int, Result(step="a")], "out": RunDir, "n": int})) == ["n"]


def test_tasks_share_a_global_parameter():
    (found,) = run_parameters(tasks_of(a={"n": int}, b={"n": Annotated[int, Param(help="Number", short="n")]}))
    assert (found.tasks, found.help, found.short) == (("a", "b"), "Number", "-n")


def test_two_types_of_one_parameter_are_refused_with_both_tasks():
    with pytest.raises(TypeError, match="'n' is int in task 'a' but str in task 'b'"):
        run_parameters(tasks_of(a={"n": int}, b={"n": str}))


def test_two_short_options_of_one_parameter_are_refused():
    with pytest.raises(ValueError, match="short option -n in task 'a' but -m in task 'b'"):
        run_parameters(tasks_of(a={"n": Annotated[int, Param(short="n")]}, b={"n": Annotated[int, Param(short="m")]}))


def test_the_default_of_one_task_is_never_applied_to_another():
    tasks = tasks_of(a={"n": (int, 1)}, b={"n": (int, 2)})
    (found,) = run_parameters(tasks)
    assert not found.required
    assert found.default is MISSING
    bound = bind_parameters(tasks, {})
    assert [task_arguments(task, bound) for task in tasks] == [{"n": 1}, {"n": 2}]


def test_a_parameter_is_required_when_one_task_has_no_default():
    tasks = tasks_of(a={"n": (int, 1)}, b={"n": int})
    with pytest.raises(TypeError, match="Missing parameters: --n "):
        bind_parameters(tasks, {})
    bound = bind_parameters(tasks, {"n": 5})
    assert [task_arguments(task, bound) for task in tasks] == [{"n": 5}, {"n": 5}]


def test_equal_defaults_are_the_default_of_the_run():
    (found,) = run_parameters(tasks_of(a={"n": (int, 1)}, b={"n": (int, 1)}))
    assert found.default == 1


def test_defaults_that_only_compare_equal_are_different():
    (found,) = run_parameters(tasks_of(a={"n": (float, 1)}, b={"n": (float, 1.0)}))
    assert found.default is MISSING


def test_a_local_parameter_belongs_to_its_task():
    tasks = tasks_of(a={"n": (Annotated[int, LOCAL], 1)}, b={"n": (Annotated[str, LOCAL], "x")}, c={"n": float})
    assert keys(tasks) == ["a_n", "b_n", "n"]
    assert flags(tasks) == ["--a-n", "--b-n", "--n"]
    bound = bind_parameters(tasks, {"a_n": 2, "n": 1.5})
    assert [task_arguments(task, bound) for task in tasks] == [{"n": 2}, {"n": "x"}, {"n": 1.5}]


def test_two_parameters_of_one_key_are_refused():
    with pytest.raises(ValueError, match=r"'prep_n' of task 'b' and parameter 'n' of task 'prep'.*called 'prep_n'"):
        run_parameters(tasks_of(prep={"n": Annotated[int, LOCAL]}, b={"prep_n": int}))
    with pytest.raises(ValueError, match="called 'a_b_c'"):
        run_parameters(tasks_of(a_b={"c": Annotated[int, LOCAL]}, a={"b_c": Annotated[int, LOCAL]}))


@pytest.mark.parametrize("name", sorted(KEYWORDS - {"run_dir"}))
def test_a_name_that_submit_has_itself_belongs_to_its_task(name):
    tasks = tasks_of(work={name: int})
    assert keys(tasks) == [f"work_{name}"]
    bound = bind_parameters(tasks, {f"work_{name}": 3})
    assert task_arguments(tasks[0], bound) == {name: 3}
    (plan,) = plan_tasks(tasks)
    assert (plan.parameters[0].parameter, plan.parameters[0].key) == (name, f"work_{name}")


def test_a_run_dir_of_the_users_own_belongs_to_its_task():
    assert keys(tasks_of(work={"run_dir": Annotated[str, Param()]})) == ["work_run_dir"]


@pytest.mark.parametrize(
    "name",
    [
        *("status", "since", "until", "task", "errors", "yes", "index", "run_id", "store_path", "last", "name", "self"),
        *("cls", "array", "dry_run", "help", "version", "key", "value", "tasks", "given", "bound", "function", "type"),
    ],
)
def test_every_other_name_is_the_users(name):
    tasks = tasks_of(work={name: int})
    assert keys(tasks) == [name]
    assert task_arguments(tasks[0], bind_parameters(tasks, {name: 1})) == {name: 1}


def test_a_flag_that_the_command_line_has_gets_the_tasks_name():
    tasks = tasks_of(work={"dry_run": bool, "n": int})
    assert flags(tasks, taken_flags={"--dry-run"}) == ["--work-dry-run", "--n"]
    assert keys(tasks, taken_flags={"--dry-run"}) == ["dry_run", "n"]


def test_a_switch_whose_opposite_is_taken_gets_the_tasks_name():
    assert flags(tasks_of(work={"color": bool}), taken_flags={"--no-color"}) == ["--work-color"]


def test_a_flag_is_never_shared():
    with pytest.raises(ValueError, match="'x' and 'x_' would both have the option --x"):
        run_parameters(tasks_of(work={"x": int, "x_": int}))
    with pytest.raises(ValueError, match="'x' and 'no_x' would both have the option --no-x"):
        run_parameters(tasks_of(work={"x": bool, "no_x": int}))
    with pytest.raises(ValueError, match="would both have the option -n"):
        run_parameters(tasks_of(work={"a": Annotated[int, Param(short="n")], "b": Annotated[int, Param(short="n")]}))


def test_a_short_option_that_the_command_line_has_is_refused():
    with pytest.raises(ValueError, match="cannot have the option -h"):
        run_parameters(tasks_of(work={"height": Annotated[int, Param(short="h")]}), taken_flags={"-h"})


def test_a_flag_is_made_of_letters_digits_and_dashes():
    assert flags(tasks_of(**{"my task/1": {"n": Annotated[int, LOCAL], "_x": int}})) == ["--my-task-1-n", "--x"]


def test_all_missing_parameters_are_named_at_once():
    with pytest.raises(TypeError, match=r"--first-day \(int\), --name \(str\).*first_day=\.\.\., name=\.\.\."):
        bind_parameters(tasks_of(a={"first_day": int, "name": str, "n": (int, 1)}), {})


def test_an_unknown_parameter_is_named_with_the_one_that_was_meant():
    tasks = tasks_of(a={"first_day": (int, 1)})
    with pytest.raises(TypeError, match=r"no parameter 'frist_day' \(--frist-day\)\. Did you mean 'first_day'\? Its"):
        bind_parameters(tasks, {"frist_day": 2})


def test_only_given_values_are_bound():
    assert bind_parameters(tasks_of(a={"n": (int, 1), "m": (int, 2)}), {"m": 3}) == {"m": 3}


class Color(Enum):
    RED = "red"


class Settings(TypedDict):
    depth: int


class Named(Protocol):
    name: str


UserId = NewType("UserId", int)
NOON = datetime(2024, 1, 1, 12)


@pytest.mark.parametrize(
    ("annotation", "value", "bound"),
    [
        (int, 3, 3),
        (float, 3, 3.0),
        (float, 2.5, 2.5),
        (str, "x", "x"),
        (bool, True, True),
        (Path, "a/b", Path("a/b")),
        (Path, Path("a"), Path("a")),
        (Path | None, "a", Path("a")),
        (Path | None, None, None),
        (Path | str, "a", "a"),
        (float | int, 3, 3),
        (list[Path], ["a", Path("b")], [Path("a"), Path("b")]),
        (list[float], (1, 2), [1.0, 2.0]),
        (tuple[int, ...], [1, 2], (1, 2)),
        (dict[str, int], {"a": 1}, {"a": 1}),
        (Literal["a", 1], "a", "a"),
        (Color, Color.RED, Color.RED),
        (datetime, NOON, NOON),
        (UserId, 3, 3),
        (Settings, {"depth": 1}, {"depth": 1}),
        (Named, NOON, NOON),
        (Any, NOON, NOON),
        (object, 3, 3),
    ],
)
def test_a_value_of_the_right_type_is_bound_as_that_type(annotation, value, bound):
    found = bind_parameters(tasks_of(a={"x": annotation}), {"x": value})["x"]
    assert found == bound
    assert type(found) is type(bound)


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (int, "3"),
        (int, 3.0),
        (int, None),
        (float, "2.5"),
        (str, 3),
        (bool, 1),
        (Path, 3),
        (list[int], 3),
        (list[int], [1, "2"]),
        (list[str], "abc"),
        (int | None, "3"),
        (Literal["a", "b"], "c"),
        (Literal[1], True),
        (Color, "red"),
        (datetime, "2024-01-01"),
        (dict[str, int], [1]),
        (Settings, 3),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_with_its_name(annotation, value):
    with pytest.raises(TypeError, match=r"Parameter 'x' \(--x\) takes .*, not "):
        bind_parameters(tasks_of(a={"x": annotation}), {"x": value})


def test_numbers_of_numpy_are_numbers():
    numpy = pytest.importorskip("numpy")
    bound = bind_parameters(tasks_of(a={"n": int, "x": float}), {"n": numpy.int64(3), "x": numpy.float32(0.5)})
    assert bound == {"n": 3, "x": 0.5}
    assert [type(value) for value in bound.values()] == [int, float]


def test_none_may_be_given_where_it_is_the_default():
    assert bind_parameters(tasks_of(a={"n": (int, None)}), {"n": None}) == {"n": None}
