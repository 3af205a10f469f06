"""The parameters of a run: what the tasks ask for together, and the values they get."""

from __future__ import annotations

import operator
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args

from . import codec
from .annotations import describe_type, generic_class, is_unknown, item_type, members, plain_type, same_type
from .deferred import dataclass, replace
from .errors import CodecError
from .flow import TaskSpec
from .params import MISSING, Missing, Param
from .signature import Parameter, ParameterKind
from .suggest import did_you_mean

#: Keywords of `submit` and `run_local`. A parameter of such a name belongs to its task alone: ``<task>_<name>``.
KEYWORDS = frozenset({"run_dir", "store", "executor", "force", "force_tasks", "verify", "max_workers", "on_error"})

#: The options of ``submit`` itself. A parameter whose flag is among them gets ``--<task>-<name>``.
TAKEN_FLAGS = frozenset(
    {"--run-dir", "--store-path", "--executor", "--force", "--force-tasks", "--verify", "--dry-run"}
    | {"--workflow", "--help"}
)


@dataclass(frozen=True)
class RunParameter:
    """One value that a run is given, and the tasks that receive it."""

    #: The keyword of `submit` and `run_local`.
    key: str
    annotation: Any
    #: Whether any of the tasks has no default.
    required: bool
    #: The default, if all its tasks have the same; each task falls back on its own.
    default: Any | Missing
    help: str
    #: One-letter option with its dash, or None.
    short: str | None
    namespace: Literal["global", "local"]
    tasks: tuple[str, ...]
    #: The option of the command line: ``--first-day``.
    flag: str


def parameter_key(task: str, parameter: Parameter) -> str:
    """Return the name under which the run's parameters hold the value for this parameter of this task."""
    own = parameter.name in KEYWORDS or (parameter.param is not None and parameter.param.namespace == "local")
    return f"{task}_{parameter.name}" if own else parameter.name


def run_parameters(tasks: Iterable[TaskSpec], taken_flags: Collection[str] = TAKEN_FLAGS) -> list[RunParameter]:
    """Return what the run must be given, in the order in which the tasks name it.

    A global parameter of several tasks is one parameter, and must have one type (`TypeError`). Two different
    parameters of the same key or flag raise `ValueError`. A parameter whose flag is among `taken_flags`, the options
    of the command line itself, gets the flag ``--<task>-<name>``.
    """
    merged: dict[str, RunParameter] = {}
    origins: dict[str, tuple[str, str]] = {}
    for task in tasks:
        for parameter in _direct_parameters(task):
            new = _run_parameter(task.name, parameter, taken_flags)
            known = merged.get(new.key)
            if known is None:
                merged[new.key] = new
                origins[new.key] = (task.name, parameter.name)
            elif origins[new.key][1] != parameter.name:
                raise ValueError(
                    f"Parameter '{parameter.name}' of task '{task.name}' and parameter '{origins[new.key][1]}' of task "
                    f"'{origins[new.key][0]}' would both be called '{new.key}' in the run: rename one of them."
                )
            else:
                merged[new.key] = _merge(known, new)
    found = list(merged.values())
    _check_flags(found, taken_flags)
    return found


def bind_parameters(
    tasks: Iterable[TaskSpec], given: Mapping[str, Any], taken_flags: Collection[str] = TAKEN_FLAGS
) -> dict[str, Any]:
    """Return the given values by key, checked against their types; defaults stay with the tasks.

    Raises `TypeError` for parameters that are missing, unknown or of the wrong type.
    """
    known = {parameter.key: parameter for parameter in run_parameters(tasks, taken_flags)}
    takes = ", ".join(f"{each.key} ({each.flag})" for each in known.values()) or "none"
    unknown = [key for key in given if key not in known]
    if unknown:
        named = ", ".join(f"'{key}' ({_flag(key)})" for key in unknown)
        hint = did_you_mean(unknown[0], known)
        raise TypeError(f"The workflow has no parameter {named}.{hint} Its parameters: {takes}.")
    missing = [each for each in known.values() if each.required and each.key not in given]
    if missing:
        flags = ", ".join(f"{each.flag} ({describe_type(each.annotation)})" for each in missing)
        raise TypeError(
            f"Missing parameters: {flags}; give each on the command line, or in Python as "
            f"{', '.join(f'{each.key}=...' for each in missing)}."
        )
    bound: dict[str, Any] = {}
    for key, value in given.items():
        if value is None and known[key].default is None:
            bound[key] = None
            continue
        try:
            bound[key] = accept_value(value, known[key].annotation)
        except _Unfit:
            wanted = describe_type(known[key].annotation)
            raise TypeError(
                f"Parameter '{key}' ({known[key].flag}) takes {wanted}, not {value!r} ({type(value).__name__})."
            ) from None
    return bound


def task_arguments(task: TaskSpec, bound: Mapping[str, Any]) -> dict[str, Any]:
    """Return the value of every direct parameter of the task by name: what was given, else the task's own default."""
    arguments = {}
    for parameter in _direct_parameters(task):
        value = bound.get(parameter_key(task.name, parameter), parameter.default)
        if value is MISSING:
            raise TypeError(f"Task '{task.name}' has no value for its parameter '{parameter.name}': give one.")
        arguments[parameter.name] = value
    return arguments


class _Unfit(Exception):
    """The value does not fit the type."""


def accept_value(value: Any, annotation: Any) -> Any:
    """Return the value as the type wants it: ``Path`` of a text, ``float`` of an int, lists item by item."""
    annotation = plain_type(annotation)
    alternatives = members(annotation)
    if len(alternatives) > 1:
        return _accept_any(value, alternatives)
    if is_unknown(annotation) or annotation is object:
        return value
    if hasattr(annotation, "__supertype__"):
        return accept_value(value, annotation.__supertype__)
    origin = generic_class(annotation)
    if origin is Literal:
        return _required(value, any(value == each and type(value) is type(each) for each in get_args(annotation)))
    if item_type(annotation) is not None:
        items = [
            accept_value(item, item_type(annotation)) for item in _required(value, isinstance(value, list | tuple))
        ]
        return tuple(items) if origin is tuple else items
    if not isinstance(origin, type) or isinstance(value, _class_of(origin)):
        return value
    if origin is Path:
        return Path(_required(value, isinstance(value, str)))
    if origin is int:
        return operator.index(_required(value, hasattr(value, "__index__")))
    if origin is float:
        return float(_required(value, hasattr(value, "__float__") and not isinstance(value, str)))
    raise _Unfit


def _accept_any(value: Any, alternatives: tuple[Any, ...]) -> Any:
    # The type it has already, before any that it could be made into: a str stays a str for `Path | str`.
    for alternative in sorted(alternatives, key=lambda each: type(value) is not generic_class(each)):
        try:
            return accept_value(value, alternative)
        except _Unfit:
            continue
    raise _Unfit


def _class_of(origin: type) -> type:
    """Return what `isinstance` may be asked: a typed dictionary is a dict, and a protocol says nothing."""
    if hasattr(origin, "__total__") and issubclass(origin, dict):
        return dict
    return object if getattr(origin, "_is_protocol", False) else origin


def _required(value: Any, fits: bool) -> Any:
    if not fits:
        raise _Unfit
    return value


def _direct_parameters(task: TaskSpec) -> list[Parameter]:
    return [each for each in task.signature.parameters.values() if each.kind is ParameterKind.PARAMETER]


def _run_parameter(task: str, parameter: Parameter, taken_flags: Collection[str]) -> RunParameter:
    key, mark = parameter_key(task, parameter), parameter.param or Param()
    flag = _flag(key)
    if any(each in taken_flags for each in _all_flags(flag, parameter.annotation)):
        flag = _flag(f"{task}_{parameter.name}")
    return RunParameter(
        key=key,
        annotation=parameter.annotation,
        required=parameter.default is MISSING,
        default=parameter.default,
        help=mark.help,
        short=mark.short,
        namespace=mark.namespace,
        tasks=(task,),
        flag=flag,
    )


def _merge(known: RunParameter, new: RunParameter) -> RunParameter:
    if not same_type(known.annotation, new.annotation):
        raise TypeError(
            f"Parameter '{known.key}' is {describe_type(known.annotation)} in task '{known.tasks[0]}' but "
            f"{describe_type(new.annotation)} in task '{new.tasks[0]}': give both the same type, or write "
            'Param(namespace="local") for one that is its own.'
        )
    if known.short and new.short and known.short != new.short:
        raise ValueError(
            f"Parameter '{known.key}' has the short option {known.short} in task '{known.tasks[0]}' but {new.short} in "
            f"task '{new.tasks[0]}': keep one of both."
        )
    # By their text, because the comparison of arrays is an array.
    same_default = type(known.default) is type(new.default) and repr(known.default) == repr(new.default)
    return replace(
        known,
        required=known.required or new.required,
        default=known.default if same_default else MISSING,
        help=known.help or new.help,
        short=known.short or new.short,
        tasks=known.tasks + new.tasks,
    )


def _flag(key: str) -> str:
    return "--" + (re.sub(r"[\W_]+", "-", key).strip("-") or key)


def _all_flags(flag: str, annotation: Any) -> tuple[str, ...]:
    """Return the flag, and its opposite if it is a switch."""
    is_switch = {each for each in members(annotation) if each is not NoneType} == {bool}
    return (flag, f"--no-{flag.removeprefix('--')}") if is_switch else (flag,)


def _check_flags(parameters: Iterable[RunParameter], taken_flags: Collection[str]) -> None:
    owners: dict[str, str] = {}
    for parameter in parameters:
        short = (parameter.short,) if parameter.short else ()
        for flag in (*_all_flags(parameter.flag, parameter.annotation), *short):
            if flag in taken_flags:
                raise ValueError(
                    f"Parameter '{parameter.key}' of task '{parameter.tasks[0]}' cannot have the option {flag}, which "
                    "the command line has itself: choose another."
                )
            if flag in owners:
                raise ValueError(
                    f"The parameters '{owners[flag]}' and '{parameter.key}' would both have the option {flag}: rename "
                    'one, or write Param(namespace="local").'
                )
            owners[flag] = parameter.key


def encoded_arguments(task: TaskSpec, bound: Mapping[str, Any]) -> dict[str, str]:
    """Return the JSON text of every value that the task's function receives, by parameter."""
    encoded = {}
    for name, value in task_arguments(task, bound).items():
        try:
            encoded[name] = codec.dumps(value, task.signature.parameters[name].annotation)
        except CodecError as error:
            raise TypeError(f"parameter '{name}' of task '{task.name}': {error}") from None
    return encoded
