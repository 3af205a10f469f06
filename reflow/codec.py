"""Turn values into JSON text and back, as the task's annotations say. Reading never imports or runs what a text names.

What travels: None, bool, int, float (NaN and infinities too), complex, str, bytes, bytearray, list, tuple, dict with
any keys, set, frozenset, range, Path and PurePath, datetime, date, time, timedelta, UUID, Decimal, numpy scalars and
arrays of up to 1 MB (`arrays.LARGEST_ARRAY`); and, where the annotation names them, dataclasses, enums and NamedTuples:
a text holds no code, so only the annotation can give a class back. A dataclass is made by its constructor, then each
field gets its stored value; attributes that are no fields do not travel.

The declared type wins where it covers the value: an int for a float, a tuple for a list (and the other way round), an
OrderedDict for a dict, a numpy scalar for a number, a str subclass for a str. Without a declaration subclasses of
builtins are refused, because they would come back as something else.

Read without an annotation (`Any`), a dataclass is a dict of its fields, a NamedTuple a tuple and an enum member its
value, or its name if the value has no JSON form.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from . import tags
from .declarations import codec_of
from .declared import Codec
from .errors import CodecError
from .tags import TAG, Misfit

_Converted = TypeVar("_Converted")

_writer = json.JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":"))
_scan = json.JSONDecoder().raw_decode

_LIST_START, _LIST_END = "[", "]"
_TUPLE_START, _TUPLE_END = '{"~":"tuple","v":[', "]}"


def encode(value: Any, annotation: Any = Any) -> Any:
    """Return the JSON-safe form of `value`; `CodecError` if it has none or is not what the annotation says."""
    return _guarded(codec_of(annotation).encode, value)


def decode(encoded: Any, annotation: Any = Any) -> Any:
    """Return the value that `encode` was given; `CodecError` if it is not what the annotation says."""
    return _guarded(codec_of(annotation).decode, encoded)


def dumps(value: Any, annotation: Any = Any) -> str:
    """Return the encoded value as compact JSON text, which is always valid UTF-8."""
    encoded = _guarded(codec_of(annotation).encode, value)
    return _guarded(_writer.encode, encoded)


def loads(text: str, annotation: Any = Any) -> Any:
    """Return the value of an encoded JSON text."""
    return _guarded(codec_of(annotation).decode, _parse(text))


def check(annotation: Any) -> None:
    """Raise `CodecError` if no value of this type could travel, fields of dataclasses included."""
    _all_in(annotation)


def form(annotation: Any) -> str:
    """Return what values of this type look like: its name, and a line for each class in it with its fields or members.

    What was written under one form is read under an equal one. Raises `CodecError` as `check` does.
    """
    codecs = _all_in(annotation)
    return "\n".join([codecs[0].name, *sorted({*filter(None, (codec.form() for codec in codecs))})])


def _all_in(annotation: Any) -> list[Codec]:
    """Return the codec of a type and those of all that is inside."""
    pending = [codec_of(annotation)]
    found: dict[Codec, None] = {}
    while pending:
        codec = pending.pop()
        if codec not in found:
            found[codec] = None
            pending += codec.parts()
    return list(found)


def split_list(text: str) -> list[str]:
    """Return the JSON texts of the items of an encoded list or tuple; `CodecError` for anything else."""
    start, stop = _list_bounds(text)
    inner = text[start:stop]
    texts: list[str] = []
    if not inner:
        return texts
    if not any(mark in inner for mark in '"[{ \t\r\n'):
        _parse(f"[{inner}]")
        return inner.split(",")
    try:
        while True:
            _, end = _scan(text, start)
            texts.append(text[start:end])
            if end == stop:
                return texts
            if text[end] != ",":
                raise CodecError(_not_json(text))
            start = end + 1
    except (ValueError, IndexError):
        raise CodecError(_not_json(text)) from None


def join_lists(texts: Iterable[str]) -> str:
    """Return one list text of the items of all the encoded lists and tuples, in order."""
    inners = []
    for text in texts:
        start, stop = _list_bounds(text)
        if stop > start:
            inners.append(text[start:stop])
    return f"[{','.join(inners)}]"


def join_items(texts: Iterable[str]) -> str:
    """Return the text of the list whose items have these texts."""
    return f"[{','.join(texts)}]"


def paths_in(encoded: Any) -> Iterator[str]:
    """Yield every path inside an encoded value, as text, in order."""
    pending = [encoded]
    while pending:
        inner = pending.pop()
        if type(inner) is list:
            pending.extend(reversed(inner))
        elif type(inner) is dict:
            if inner.get(TAG) in tags.PATH_KINDS:
                yield _guarded(tags.read_path, tags.untag(inner)[1])
            else:
                pending.extend(reversed(inner.values()))


def _guarded(convert: Callable[[Any], _Converted], value: Any) -> _Converted:
    try:
        return convert(value)
    except Misfit as misfit:
        raise CodecError(misfit.message) from None
    except RecursionError:
        raise CodecError(
            f"the value, {tags.describe(value)}, contains itself or is nested hundreds of levels deep: "
            "return a flat list or dict that refers to others by number or name"
        ) from None


def _parse(text: str) -> Any:
    try:
        return _guarded(json.loads, text)
    except ValueError:
        raise CodecError(_not_json(text)) from None


def _not_json(text: str) -> str:
    return f"the text {text[:40]!r} is no encoded value: it was changed after it was written, or cut short"


def _list_bounds(text: str) -> tuple[int, int]:
    """Return where the items of an encoded list or tuple begin and end."""
    if text.startswith(_LIST_START) and text.endswith(_LIST_END):
        return 1, len(text) - 1
    if text.startswith(_TUPLE_START) and text.endswith(_TUPLE_END):
        return len(_TUPLE_START), len(text) - len(_TUPLE_END)
    raise CodecError(f"the value {text[:40]!r} is neither a list nor a tuple: return a list")
