"""Read a task's function once: what each parameter is, where its value comes from, and what is returned."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from enum import Enum
from types import BuiltinFunctionType, CodeType, FrameType, FunctionType, MethodType, ModuleType
from typing import Annotated, Any, NoReturn, get_args, get_origin, get_type_hints

from .annotations import describe_type, fits, plain_type
from .callables import Argument, arguments_of, is_async, is_generator, unwrapped
from .deferred import dataclass, replace
from .params import MISSING, Checkpoint, Missing, Param, Result, RunDir, RunDirMark


class ParameterKind(str, Enum):
    """Where the value of a parameter comes from."""

    #: From the run's parameters.
    PARAMETER = "parameter"
    #: From the outputs of other tasks.
    RESULT = "result"
    #: The run directory.
    RUN_DIR = "run_dir"
    #: What the element has saved so far.
    CHECKPOINT = "checkpoint"

    __str__ = str.__str__


@dataclass(frozen=True)
class Parameter:
    """One parameter of a task's function."""

    name: str
    #: The type, without ``Annotated``.
    annotation: Any
    kind: ParameterKind
    default: Any | Missing = MISSING
    #: The mark of a PARAMETER, if it has one.
    param: Param | None = None
    #: The mark of a RESULT.
    result: Result | None = None


class Signature:
    """What a task's function takes and returns.

    Annotations that name something not defined yet are read when they are first needed; what cannot be read then
    raises `TypeError`.
    """

    def __init__(self, function: Callable[..., Any], task: str, renames: Mapping[str, str] | None = None) -> None:
        self._function = function
        self._task = task
        self._renames = dict(renames or {})
        self._read: tuple[dict[str, Parameter], Any] | None = None

    @property
    def parameters(self) -> Mapping[str, Parameter]:
        """The parameters by name, in the order of the function."""
        return self._resolved()[0]

    @property
    def returns(self) -> Any:
        """The type of what the function returns; ``Any`` when it does not say."""
        return self._resolved()[1]

    def renamed(self, task: str, renames: Mapping[str, str]) -> Signature:
        """Return the signature for a task that has another name, as have the tasks that its results come from."""
        earlier = {old: renames.get(new, new) for old, new in self._renames.items()}
        renamed = Signature(self._function, task, {**renames, **earlier})
        if self._read is not None:  # kept, because local classes can only be found while their function runs
            parameters, returns = self._read
            renamed._read = {name: _renamed(each, renames) for name, each in parameters.items()}, returns
        return renamed

    def _resolved(self) -> tuple[dict[str, Parameter], Any]:
        if self._read is None:
            try:
                self._read = _read(self._function, self._task, self._renames)
            except _NotDefinedYet as error:
                raise TypeError(
                    f"{error.place}: the annotation names '{error.name}', which is not defined; define or import it "
                    "at the top of the file (an import under TYPE_CHECKING is not seen when the pipeline runs)."
                ) from None
        return self._read


def read_signature(function: Callable[..., Any], task_name: str) -> Signature:
    """Read the function of a task; what is wrong with it raises `TypeError`, with the parameter and what to write."""
    _check_function(function, task_name)
    signature = Signature(function, task_name)
    with suppress(_NotDefinedYet):  # perhaps a class that stands further down in the file: read again when needed
        signature._read = _read(function, task_name, {})
    return signature


def _renamed(parameter: Parameter, renames: Mapping[str, str]) -> Parameter:
    return replace(parameter, result=parameter.result.renamed(renames)) if parameter.result else parameter


class _NotDefinedYet(Exception):
    def __init__(self, place: str, name: str) -> None:
        super().__init__(place)
        self.place = place
        self.name = name


def _check_function(function: object, task: str) -> None:
    def refuse(what: str) -> NoReturn:
        raise TypeError(f"Task '{task}' cannot be {what}: write a plain function with `def`.")

    if isinstance(function, type):
        refuse("a class")
    if isinstance(function, staticmethod | classmethod | MethodType):
        refuse("a method")
    if not isinstance(unwrapped(function), FunctionType):
        is_built_in = isinstance(function, BuiltinFunctionType)
        refuse("a built-in function" if is_built_in else f"an object of type {type(function).__name__}")
    if getattr(function, "__name__", "") == "<lambda>":
        refuse("a lambda")
    if is_async(function):
        refuse("an async function")
    if is_generator(function):
        raise TypeError(f"Task '{task}' yields, so it would return a generator: collect the items and return a list.")


def _read(function: Callable[..., Any], task: str, renames: Mapping[str, str]) -> tuple[dict[str, Parameter], Any]:
    evaluate = _Evaluator(function)
    parameters = {}
    arguments, returns = arguments_of(function)
    for declared in arguments:
        place = f"Task '{task}', parameter '{declared.name}'"
        _check_declaration(declared, function, place)
        annotation = declared.annotation
        if annotation is not MISSING:
            annotation = evaluate(annotation, place)
        parameters[declared.name] = _parameter(declared.name, annotation, declared.default, place, renames)
    if returns is MISSING:
        return parameters, Any
    place = f"Task '{task}', what it returns"
    returns = evaluate(returns, place)
    if any(_marks(returns)):
        raise TypeError(f"{place}: Param, Result and RunDir mark parameters; remove it from the return annotation.")
    return parameters, plain_type(returns)


def _check_declaration(declared: Argument, function: Callable[..., Any], place: str) -> None:
    if declared.mark in ("*", "**"):
        raise TypeError(
            f"{place}: a task cannot take `{declared.mark}{declared.name}`, because nothing says what would be in it; "
            "write every parameter with its own name."
        )
    if declared.mark == "/":
        raise TypeError(f"{place}: a task's parameters are given by name; remove the `/` from its signature.")
    if declared.annotation is not MISSING or declared.name == "run_dir":
        return
    owner, _, _ = function.__qualname__.rpartition(".")
    if declared.name == "self" and owner and not owner.endswith("<locals>"):
        raise TypeError(f"{place}: a method cannot be a task; move the function out of the class '{owner}'.")
    known = declared.default is not MISSING and declared.default is not None
    kind = type(declared.default).__name__ if known else "int"
    what = f"`{declared.name}: {kind}`"
    raise TypeError(f"{place} has no type: write {what if known else f'its type, such as {what}'}.")


def _parameter(name: str, annotation: Any, default: Any, place: str, renames: Mapping[str, str]) -> Parameter:
    if isinstance(default, Param | Result | RunDirMark):
        raise TypeError(
            f"{place}: {_mark_name(default)} stands as the default; write "
            f"`{name}: Annotated[{describe_type(annotation)}, {_mark_name(default)}]`."
        )
    mark = _mark(annotation, place)
    if plain_type(annotation) is Checkpoint:
        if mark is not None:
            raise TypeError(f"{place} receives what the element has saved: write `{name}: Checkpoint`.")
        return Parameter(name, Checkpoint, ParameterKind.CHECKPOINT, default)
    if isinstance(mark, Result):
        kind = ParameterKind.RESULT
        return Parameter(name, plain_type(annotation), kind, default, result=mark.renamed(renames))
    if isinstance(mark, RunDirMark) or (mark is None and name == "run_dir"):
        wanted = RunDir if annotation is MISSING else annotation
        if not fits(RunDir, wanted):
            raise TypeError(
                f"{place} receives the run directory as a pathlib.Path and cannot be {describe_type(wanted)}: write "
                f"`{name}: RunDir`."
            )
        return Parameter(name, plain_type(wanted), ParameterKind.RUN_DIR, default)
    return Parameter(name, plain_type(annotation), ParameterKind.PARAMETER, default, param=mark)


def _mark(annotation: Any, place: str) -> Param | Result | RunDirMark | None:
    """Return the one mark in the outermost ``Annotated``; more than one, or one further inside, is refused."""
    outer = list(_outer_marks(annotation))
    for mark in outer:
        if isinstance(mark, type):
            call = 'Result(step="...")' if mark is Result else "Param()"
            raise TypeError(f"{place}: {mark.__name__} stands there without parentheses; write {call}.")
    everywhere = list(_marks(annotation))
    if len(everywhere) > len(outer):
        raise TypeError(
            f"{place}: Param, Result and RunDir hold for the whole parameter; write `Annotated[TYPE, ...]` outermost, "
            "not inside another type."
        )
    if len(outer) > 1 and not all(isinstance(mark, RunDirMark) for mark in outer):
        raise TypeError(
            f"{place}: a value comes from one place; keep one of {', '.join(_mark_name(mark) for mark in outer)}."
        )
    return outer[0] if outer else None


def _mark_name(mark: object) -> str:
    return "RunDir" if isinstance(mark, RunDirMark) else repr(mark)


def _outer_marks(annotation: Any) -> Iterator[Any]:
    if get_origin(annotation) is not Annotated:
        return
    for metadata in annotation.__metadata__:
        if isinstance(metadata, Param | Result | RunDirMark) or metadata is Param or metadata is Result:
            yield metadata
        elif get_origin(metadata) is Annotated:  # Annotated[Path, RunDir]
            yield from _outer_marks(metadata)


def _marks(annotation: Any) -> Iterator[Any]:
    """Yield the marks anywhere in the annotation."""
    yield from _outer_marks(annotation)
    inner = (annotation.__origin__,) if get_origin(annotation) is Annotated else get_args(annotation)
    for part in inner:
        yield from _marks(part)


class _Evaluator:
    """Turns annotations into types, with the names that the function sees."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function: FunctionType = unwrapped(function)
        self._names: dict[str, Any] | None = None

    def __call__(self, annotation: Any, place: str) -> Any:
        """Return the type that the annotation means; raises `_NotDefinedYet` for an unknown name, else `TypeError`."""

        def holder() -> None:
            """Carries the one annotation: typing resolves only those of functions, classes and modules."""

        holder.__annotations__ = {"annotation": annotation}
        if self._names is None:
            self._names = _visible_names(self._function)
        try:
            hints = get_type_hints(
                holder, globalns=self._function.__globals__, localns=self._names, include_extras=True
            )
        except NameError as error:
            raise _NotDefinedYet(place, error.name or str(error)) from None
        except (TypeError, ValueError, SyntaxError, AttributeError) as error:
            shown = f" `{annotation}`" if isinstance(annotation, str) else ""
            raise TypeError(f"{place}: the annotation{shown} is wrong: {error}") from error
        return _checked(hints["annotation"], place)


def _checked(annotation: Any, place: str) -> Any:
    values = (int, float, bytes, dict, set, list, tuple, ModuleType, Param, Result, RunDirMark)
    if isinstance(annotation, values):
        wrong = repr(annotation)
        raise TypeError(f"{place}: the annotation {wrong} is no type; write a type, or `Annotated[TYPE, {wrong}]`.")
    return annotation


def _visible_names(function: FunctionType) -> dict[str, Any]:
    """Return what the function's annotations may name besides its module: type parameters, closure, and the
    variables of the functions around it while those still run.

    A class defined in the test function that also defines the task is in no closure when the body does not use it.
    """
    names: dict[str, Any] = {each.__name__: each for each in getattr(function, "__type_params__", ())}
    if "." not in function.__qualname__:
        return names
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with suppress(ValueError):  # an empty cell: the variable, perhaps this function, is not set yet
            names[name] = cell.cell_contents
    inside: list[CodeType] = [function.__code__]
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        # A function's code is among the constants of the code that defines it: no other frame can be around it.
        if any(constant is code for constant in frame.f_code.co_consts for code in inside):
            inside.append(frame.f_code)
            names = {**frame.f_locals, **names}
        frame = frame.f_back
    return names
