"""What only the running process knows of a function: its closure, and all of it where no file has its source."""

from __future__ import annotations

import builtins
import inspect
import linecache
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, is_dataclass
from enum import Enum
from hashlib import sha256
from pathlib import Path
from textwrap import dedent
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

from . import codec, identity
from .errors import CodecError
from .flow import Flow
from .statements import only_changes, parse_module

#: A longer value is a part by its hash: nobody reads it.
_LONGEST_VALUE = 500

#: A function that names one of these may reach what cannot be followed in a running process.
_UNTRACEABLE = frozenset({"eval", "exec", "globals", "import_module", "__import__", "_getframe", "currentframe"})


def _began() -> float:
    """Return when this process began, in seconds since 1970; 0 where the system does not tell."""
    try:
        # The command in parentheses may hold anything, so count from its end; field 22 is the start.
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        booted = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime "))
    except (OSError, ValueError, IndexError, StopIteration):
        return 0.0
    return int(booted.split()[1]) + ticks / os.sysconf("SC_CLK_TCK")


#: A file that is older cannot have changed since this process loaded it.
PROCESS_BEGAN = _began()


class Unknown(Exception):
    """A function depends on something that no text can stand for."""


@dataclass
class Found:
    """What a function brings with it."""

    parts: dict[str, str] = field(default_factory=dict)
    functions: list[FunctionType] = field(default_factory=list)
    #: Names of modules that it may take anything from.
    modules: list[str] = field(default_factory=list)
    classes: list[type] = field(default_factory=list)

    def add(self, name: str, value: object) -> None:
        """Add one thing that the function uses; raises `Unknown` for what has no text."""
        inner = inspect.unwrap(value) if callable(value) and not isinstance(value, type) else value
        if isinstance(inner, FunctionType):
            self.parts[name] = f"{inner.__module__}.{inner.__qualname__}"
            self.functions.append(inner)
            if inner is not value and isinstance(value, FunctionType):
                self.functions.append(value)
        elif isinstance(value, ModuleType):
            self.modules.append(value.__name__)
            self.parts[name] = f"import {value.__name__}"
        elif isinstance(value, type):
            self.classes.append(value)
            self.parts[name] = f"{value.__module__}.{value.__qualname__}"
        elif isinstance(value, BuiltinFunctionType):
            self.parts[name] = repr(getattr(value, "__qualname__", name))
        elif not isinstance(value, Flow | logging.Logger):
            text = value_text(value)
            if text is None:
                raise Unknown(name)
            self.parts[name] = text


def value_text(value: object) -> str | None:
    """Return a text that is the same for equal values of the same types; None when there is none."""
    declared: Any = type(value) if is_dataclass(value) or isinstance(value, Enum) else Any
    try:
        text = identity.canonical(codec.encode(value, declared)).decode("utf-8", "surrogatepass")
    except (CodecError, RecursionError):
        return None
    if len(text) > _LONGEST_VALUE:
        return f"sha256 {sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"
    return text


def closure_parts(function: FunctionType, *, values: bool) -> Found:
    """Return what a function takes from the functions around it; without `values` only other functions."""
    found = Found()
    for name, value in _closure(function):
        inner = inspect.unwrap(value) if callable(value) else value
        if isinstance(inner, FunctionType) or (values and not _only_changes(function, name)):
            found.add(f"{function.__qualname__}: {name}", value)
    if values:
        for name, value in _defaults(function):
            found.add(f"{function.__qualname__}: {name}", value)
    return found


def live_parts(function: FunctionType) -> Found:
    """Return a function that no file holds, of a notebook or an interactive session, and what it uses."""
    found = Found()
    names = set(_names(function.__code__))
    if names & _UNTRACEABLE:
        raise Unknown(function.__qualname__)
    found.parts[f"{function.__module__}.{function.__qualname__}"] = _source(function)
    uses = {name: function.__globals__[name] for name in sorted(names) if name in function.__globals__}
    for name, value in {**uses, **dict(_closure(function)), **dict(_defaults(function))}.items():
        if name != "__builtins__" and not _only_changes(function, name):
            found.add(f"{function.__qualname__}: {name}", value)
    # What it imports itself is not among its globals; and what annotations name decides how values are decoded.
    found.modules += [name for name in sorted(names) if name not in uses and not hasattr(builtins, name)]
    for name, annotation in inspect.get_annotations(function).items():
        found.parts[f"{function.__qualname__}: {name} (type)"] = repr(annotation)
        found.classes += [each for each in _types_in(annotation) if each.__module__ != "builtins"]
    for owner in list(found.classes):
        _add_class(found, owner)
    return found


def matches_source(module: ModuleType, source: bytes, path: str) -> bool:
    """Return whether the functions of a loaded module are those of its source, which may have changed since."""
    try:
        codes = set(_codes(compile(source, path, "exec", dont_inherit=True)))
    except (SyntaxError, ValueError):
        return False
    pending: list[object] = list(vars(module).values())
    for each in pending:
        if isinstance(each, type) and each.__module__ == module.__name__:
            pending += vars(each).values()
        inner = inspect.unwrap(each) if callable(each) and not isinstance(each, type) else each
        if isinstance(inner, FunctionType) and inner.__code__.co_filename == path and inner.__code__ not in codes:
            return False
    return True


def _codes(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _codes(constant)


def _add_class(found: Found, owner: type) -> None:
    """Add the methods and values of a class of the main script; others are found by their files."""
    if owner.__module__ != "__main__":
        return
    found.classes += [each for each in owner.__mro__[1:-1] if each not in found.classes]
    for name, value in sorted(vars(owner).items()):
        inner = getattr(value, "__func__", None) or getattr(value, "fget", None) or value
        if isinstance(inner, FunctionType) and inner.__code__.co_filename != "<string>":
            found.add(f"{owner.__qualname__}.{name}", inner)
        elif not name.startswith("__"):
            text = value_text(value)
            if text is not None:
                found.parts[f"{owner.__qualname__}.{name}"] = text


def _closure(function: FunctionType) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # not set yet
            continue


def _defaults(function: FunctionType) -> Iterator[tuple[str, Any]]:
    positional = function.__code__.co_varnames[: function.__code__.co_argcount]
    defaults = function.__defaults__ or ()
    yield from zip(positional[len(positional) - len(defaults) :], defaults, strict=True)
    yield from (function.__kwdefaults__ or {}).items()


def _names(code: CodeType) -> Iterator[str]:
    """Yield every global name and attribute that the code and the functions inside it use."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _types_in(annotation: Any) -> Iterator[type]:
    if isinstance(annotation, type):
        yield annotation
    for each in getattr(annotation, "__args__", ()):
        yield from _types_in(each)


def _source(function: FunctionType) -> str:
    """Return the normalised source, or where there is none a hash of the compiled code."""
    linecache.checkcache(function.__code__.co_filename)
    try:
        (statement,) = parse_module("cell", dedent(inspect.getsource(function))).statements
        return statement.text
    except (OSError, TypeError, ValueError, SyntaxError):
        return f"sha256 {sha256(_code_text(function.__code__).encode('utf-8', 'surrogatepass')).hexdigest()}"


def _code_text(code: CodeType) -> str:
    constants = [_code_text(each) if isinstance(each, CodeType) else _constant_text(each) for each in code.co_consts]
    return repr((code.co_code.hex(), constants, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars))


def _constant_text(constant: object) -> str:
    # The order of a set of texts differs from process to process.
    inner = sorted(map(repr, constant)) if isinstance(constant, frozenset) else constant
    return f"{type(constant).__name__} {inner!r}"


def _only_changes(function: FunctionType, name: str) -> bool:
    """Return whether the function adds to what has this name and never reads it, as tests do that count calls."""
    try:
        return only_changes(dedent(inspect.getsource(function)), name)
    except (OSError, TypeError):
        return False
