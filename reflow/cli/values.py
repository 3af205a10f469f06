"""Read the text of an option as the type that a task declares, and show a type and a default in the help."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import asdict, fields, is_dataclass
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum, EnumMeta
from pathlib import Path, PurePath, PurePosixPath
from types import GenericAlias, NoneType
from typing import Any, Literal, TypeGuard, get_args, get_type_hints
from uuid import UUID

from .. import codec
from ..annotations import describe_type, generic_class, is_unknown, item_type, members, plain_type
from ..errors import CodecError


class WrongText(Exception):
    """The text does not say a value of the type; the message is what to write instead."""


def alternatives(annotation: Any) -> list[Any]:
    """Return the types that a text can say: the members of a union but None, classes behind new names."""
    return [known for known in map(_known_type, members(annotation)) if known is not NoneType]


def _known_type(annotation: Any) -> Any:
    annotation = plain_type(annotation)
    return _known_type(annotation.__supertype__) if hasattr(annotation, "__supertype__") else annotation


def is_switch(annotation: Any) -> bool:
    """Return whether the option is on or off, and takes no text."""
    return alternatives(annotation) == [bool]


def repeated_item(annotation: Any) -> Any:
    """Return the type of one item where the option is given once per item, else None."""
    wanted = alternatives(annotation)
    if len(wanted) != 1 or is_unknown(wanted[0]):
        return None
    return item_type(wanted[0])


def choices(annotation: Any) -> Mapping[str, Any] | None:
    """Return the values of a `Literal` or `Enum` by the text that says them, else None.

    An enum whose values are all texts is shown by them, any other by the names of its members.
    """
    if generic_class(annotation) is Literal:
        return {str(value): value for value in get_args(plain_type(annotation))}
    if _is_class(annotation) and issubclass(annotation, Enum):
        by_value = all(isinstance(member.value, str) for member in annotation)
        return {member.value if by_value else member.name: member for member in annotation}
    return None


def read_text(text: str, annotation: Any) -> Any:
    """Return the value that the text says; `WrongText` if it says none of this type."""
    wanted = alternatives(annotation)
    # A str takes any text: the others first.
    for each in sorted(wanted, key=lambda each: each is str or is_unknown(each)):
        try:
            return _read_as(text, each)
        except WrongText:
            if len(wanted) == 1:
                raise
    raise WrongText(f"{text!r} is not {describe_type(annotation)}.")


def metavar(annotation: Any) -> str:
    """Return how the help names what to write."""
    wanted = alternatives(annotation)
    texts = []
    for each in wanted:
        named = choices(each)
        if named is not None:
            texts.append(f"[{'|'.join(named)}]")
        elif is_unknown(each) or each is str or each is object:
            texts.append("TEXT")
        elif each in _READERS or _is_simple_subclass(each):
            texts.append(each.__name__.upper())
        else:
            texts.append("JSON")
    return "|".join(dict.fromkeys(texts))


def shown(value: Any) -> str:
    """Return a default as the help shows it, as a person would write it."""
    if isinstance(value, Enum):
        return next((text for text, member in (choices(type(value)) or {}).items() if member is value), value.name)
    if isinstance(value, list | tuple):
        return ", ".join(shown(item) for item in value) or "none"
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, dict):
        return json.dumps(value, default=str, ensure_ascii=False)
    return str(value) if value != "" else "''"


def _moment(text: str) -> datetime:
    # Python 3.10 does not know the Z.
    return datetime.fromisoformat(f"{text[:-1]}+00:00" if text.endswith(("Z", "z")) else text)


def _truth(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError
    return text.lower() == "true"


_READERS: dict[Any, Callable[[str], Any]] = {
    bool: _truth,
    int: int,
    float: float,
    complex: complex,
    str: str,
    Path: Path,
    PurePath: PurePath,
    PurePosixPath: PurePosixPath,
    datetime: _moment,
    date: date.fromisoformat,
    time: time.fromisoformat,
    Decimal: Decimal,
    UUID: UUID,
}

_EXAMPLES: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number, such as 3",
    float: "a number, such as 0.5",
    datetime: "a date and time, such as 2026-11-01T08:30",
    date: "a date, such as 2026-11-01",
    time: "a time, such as 08:30",
}


def _is_simple_subclass(wanted: Any) -> bool:
    return _is_class(wanted) and issubclass(wanted, str | int | float | PurePath) and wanted not in _READERS


def _is_class(annotation: Any) -> TypeGuard[type]:
    # In Python 3.10, `dict[str, int]` passes for a type and then fails in issubclass.
    return isinstance(annotation, type) and not isinstance(annotation, GenericAlias)


def _read_as(text: str, wanted: Any) -> Any:
    if is_unknown(wanted) or wanted is object:
        return text
    named = choices(wanted)
    if named is not None:
        return _choose(text, wanted, named)
    reader = wanted if _is_simple_subclass(wanted) else _READERS.get(wanted)
    if reader is None:
        return _read_json(text, wanted)
    try:
        return reader(text)
    except (ValueError, ArithmeticError):
        raise WrongText(f"{text!r} is not {_EXAMPLES.get(wanted) or describe_type(wanted)}.") from None


def _choose(text: str, wanted: Any, named: Mapping[str, Any]) -> Any:
    if text in named:
        return named[text]
    if isinstance(wanted, EnumMeta) and text in wanted.__members__:
        return wanted.__members__[text]
    raise WrongText(f"{text!r} is not one of {', '.join(named)}.")


def _read_json(text: str, wanted: Any) -> Any:
    try:
        plain = json.loads(text)
    except (ValueError, RecursionError):
        raise WrongText(f"{text!r} is not JSON, as {describe_type(wanted)} needs: {_example(wanted)}.") from None
    try:
        return codec.loads(text, wanted)
    except CodecError as stored_wrong:
        try:
            return _build(plain, wanted)
        except WrongText as error:
            raise WrongText(f"{text!r} is not {describe_type(wanted)}: {error}") from stored_wrong


def _build(value: Any, annotation: Any) -> Any:
    """Return a value of plain JSON as a person writes it: an object for a dataclass, a list for a set."""
    for wanted in members(annotation):
        if plain_type(wanted) is NoneType and value is None:
            return None
    wanted = alternatives(annotation)
    for each in wanted:
        try:
            return _build_as(value, each)
        except WrongText:
            if len(wanted) == 1:
                raise
    raise WrongText(f"{json.dumps(value)} is not {describe_type(annotation)}.")


def _build_as(value: Any, wanted: Any) -> Any:
    origin, arguments = generic_class(wanted), get_args(wanted)
    if is_unknown(wanted) or wanted is object:
        return value
    if is_dataclass(wanted) and isinstance(wanted, type) and isinstance(value, dict):
        return _build_dataclass(value, wanted)
    if item_type(wanted) is not None and isinstance(value, list):
        items = [_build(item, item_type(wanted)) for item in value]
        return tuple(items) if origin is tuple else items
    if origin in (set, frozenset) and isinstance(value, list):
        return origin(_build(item, arguments[0] if arguments else Any) for item in value)
    if origin is tuple and isinstance(value, list) and len(value) == len(arguments):
        return tuple(_build(*pair) for pair in zip(value, arguments, strict=True))
    if origin is dict and isinstance(value, dict):
        key_type, item = arguments if arguments else (str, Any)
        return {read_text(key, key_type): _build(each, item) for key, each in value.items()}
    if isinstance(value, str):
        named = choices(wanted)
        if named is not None or (wanted in _READERS and wanted not in (int, float, bool, complex)):
            return _read_as(value, wanted)
    try:
        return codec.decode(value, wanted)
    except CodecError:
        raise WrongText(f"{json.dumps(value)} is not {describe_type(wanted)}.") from None


def _build_dataclass(value: Mapping[str, Any], wanted: type) -> Any:
    hints = get_type_hints(wanted)
    known = {field.name: field for field in fields(wanted) if field.init}
    unknown = [name for name in value if name not in known]
    if unknown:
        raise WrongText(f"{wanted.__name__} has no field '{unknown[0]}', only {', '.join(known)}.")
    missing = [
        name
        for name, field in known.items()
        if name not in value and field.default is NO_DEFAULT and field.default_factory is NO_DEFAULT
    ]
    if missing:
        raise WrongText(f"{wanted.__name__} needs {', '.join(missing)} too.")
    return wanted(**{name: _build(item, hints.get(name, Any)) for name, item in value.items()})


def _example(wanted: Any) -> str:
    if is_dataclass(wanted) and isinstance(wanted, type):
        inside = ", ".join(f'"{field.name}": ...' for field in fields(wanted) if field.init)
        return f"write {{{inside}}}"
    return 'write {"key": "value"}' if generic_class(wanted) is dict else "write a list, such as [1, 2]"
