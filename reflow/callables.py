"""What a function takes, and of which kind it is, as `inspect` says it.

A plain function tells it all itself. Only for a wrapped one is `inspect` loaded, which brings the parser and the
tokenizer along: 5 ms, and start-up is on every element's bill.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any, TypeGuard

from .deferred import dataclass
from .params import MISSING

# Bits of `co_flags`, as the documentation of `inspect` numbers them.
_VARIABLE_POSITIONAL, _VARIABLE_KEYWORD = 0x04, 0x08
_GENERATOR, _COROUTINE, _ASYNC_GENERATOR = 0x20, 0x80, 0x200


@dataclass(frozen=True)
class Argument:
    """One parameter, as the function's definition has it."""

    name: str
    #: ``*`` and ``**`` for those that collect what is left, ``/`` for one that has no name to the caller, else ''.
    mark: str
    #: These two are MISSING where there is none.
    annotation: Any = MISSING
    default: Any = MISSING


def arguments_of(function: Callable[..., Any]) -> tuple[list[Argument], Any]:
    """Return the parameters in order, and the annotation of what is returned."""
    if is_plain(function):
        return list(_own_arguments(function)), function.__annotations__.get("return", MISSING)
    import inspect

    def known(value: Any) -> Any:
        return MISSING if value is inspect.Signature.empty else value

    signature = inspect.signature(function)
    marks = {"POSITIONAL_ONLY": "/", "VAR_POSITIONAL": "*", "VAR_KEYWORD": "**"}
    return [
        Argument(each.name, marks.get(each.kind.name, ""), known(each.annotation), known(each.default))
        for each in signature.parameters.values()
    ], known(signature.return_annotation)


def is_plain(function: object) -> TypeGuard[FunctionType]:
    """Whether it is a function made by ``def`` or ``lambda`` that says of itself what it takes."""
    return type(function) is FunctionType and not {"__wrapped__", "__signature__"} & function.__dict__.keys()


def unwrapped(function: Any) -> Any:
    """Return what the decorators around it have left of a function."""
    if is_plain(function) or not callable(function):
        return function
    import inspect

    return inspect.unwrap(function)


def is_generator(function: object) -> bool:
    """Whether a call of it makes a generator."""
    return bool(_flags(function) & _GENERATOR)


def is_async(function: object) -> bool:
    """Whether a call of it makes something to await, or to iterate over by ``async for``."""
    return bool(_flags(function) & (_COROUTINE | _ASYNC_GENERATOR))


def _flags(function: object) -> int:
    return function.__code__.co_flags if isinstance(function, FunctionType) else 0


def _own_arguments(function: FunctionType) -> Iterator[Argument]:
    code = function.__code__
    positional = code.co_argcount
    named = positional + code.co_kwonlyargcount
    names = code.co_varnames
    defaults = function.__defaults__ or ()
    given = {
        **dict(zip(names[positional - len(defaults) : positional], defaults, strict=True)),
        **(function.__kwdefaults__ or {}),
    }

    def argument(name: str, mark: str = "") -> Argument:
        return Argument(name, mark, function.__annotations__.get(name, MISSING), given.get(name, MISSING))

    yield from (argument(names[place], "/" if place < code.co_posonlyargcount else "") for place in range(positional))
    if code.co_flags & _VARIABLE_POSITIONAL:
        yield argument(names[named], "*")
    yield from (argument(name) for name in names[positional:named])
    if code.co_flags & _VARIABLE_KEYWORD:
        yield argument(names[named + bool(code.co_flags & _VARIABLE_POSITIONAL)], "**")
