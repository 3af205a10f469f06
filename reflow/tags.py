"""The JSON-safe form of builtin values, without a declaration to guide it, and back.

JSON's own scalars, lists and dicts with text keys stand as they are. All others are ``{"~": kind, "v": payload}``;
a dict that itself has the key ``"~"`` is written as pairs, so no key is taken from the user. A float keeps the sign of
its zero; a datetime keeps its offset or zone key and its fold, but not the name of a fixed offset.
"""

from __future__ import annotations

import json
import math
import sys
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time, timedelta, timezone
from enum import Enum
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from reprlib import Repr
from typing import Any

#: The key that marks a tagged value.
TAG = "~"
_PAYLOAD = "v"

#: Kinds that name a file, whose payload is the path as text.
PATH_KINDS = frozenset({"path", "purepath"})

#: Kinds that only a declared class can give back. Undeclared they read as a dict, a tuple and the member's value.
CLASS_KINDS = frozenset({"dataclass", "namedtuple", "enum"})

#: Kinds of types that are not imported before a value has one: they cost 2 ms each.
LATE_KINDS: Mapping[str, str] = {"uuid.UUID": "uuid", "decimal.Decimal": "decimal"}

# Python may refuse to write or read decimal digits beyond a limit that a user can lower to 640; in bits.
_LONGEST_PLAIN_INT = 2_048

_SHORT = Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 40

_Convert = Callable[[Any], Any]


class Misfit(Exception):
    """A value does not fit; carries the place inside the value, innermost segment first."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._segments: list[str] = []

    def within(self, segment: str) -> None:
        """Note that the place so far is inside `segment` of a larger value."""
        self._segments.append(segment)

    @property
    def message(self) -> str:
        """The sentence with its place: ``[3].path["x"] is ...``."""
        place = "".join(reversed(self._segments)).strip()
        return f"{place or 'the value'} {self.args[0]}"


def tag(kind: str, payload: Any) -> dict[str, Any]:
    """Return the tagged form."""
    return {TAG: kind, _PAYLOAD: payload}


def untag(encoded: Any) -> tuple[str, Any]:
    """Return kind and payload of an encoded value; the kind of an untagged one is its Python type's name."""
    kind = type(encoded)
    if kind is dict and TAG in encoded:
        if len(encoded) != 2 or _PAYLOAD not in encoded or type(encoded[TAG]) is not str:
            raise Misfit(f"is no encoded value: the keys of a tagged one are '{TAG}' and '{_PAYLOAD}'")
        return encoded[TAG], encoded[_PAYLOAD]
    return kind.__name__, encoded


def sort_key(encoded: Any) -> str:
    """Return a text by which encoded values of any mixture of types can be sorted."""
    return json.dumps(encoded, sort_keys=True)


def short(value: Any) -> str:
    """Return the value as code, shortened."""
    try:
        return _SHORT.repr(value)
    except ValueError:  # an int of more digits than Python will write
        return "..."


def describe(value: Any) -> str:
    """Return type and, of a scalar, the value, for an error message."""
    kind = type(value)
    if value is None:
        return "None"
    if kind in (bool, int, float, complex, str, bytes):
        return f"{kind.__name__} {short(value)}"
    if isinstance(value, PurePath):
        return f"Path {short(str(value))}"
    if isinstance(value, Enum):
        return f"the enum member {kind.__qualname__}.{value.name}"
    name = kind.__qualname__
    return f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"


def convert_items(convert: _Convert, items: Iterable[Any]) -> list[Any]:
    """Convert each item; a `Misfit` learns the number of its item."""
    converted: list[Any] = []
    append = converted.append
    try:
        for item in items:
            append(convert(item))
    except Misfit as misfit:
        misfit.within(f"[{len(converted)}]")
        raise
    return converted


def write_mapping(mapping: Mapping[Any, Any], write_key: _Convert, write_item: _Convert) -> dict[str, Any]:
    """Return a plain object where all keys are text, else a tagged list of pairs, in the mapping's order."""
    pairs = []
    plain = True
    for key, item in mapping.items():
        try:
            encoded_key = write_key(key)
        except Misfit as misfit:
            misfit.within(f" key {short(key)}")
            raise
        try:
            pairs.append((encoded_key, write_item(item)))
        except Misfit as misfit:
            misfit.within(item_place(key))
            raise
        plain = plain and type(encoded_key) is str and encoded_key != TAG
    return dict(pairs) if plain else tag("dict", [[key, item] for key, item in pairs])


def read_mapping(encoded: Mapping[str, Any], read_key: _Convert, read_item: _Convert) -> dict[Any, Any]:
    """Return the dict that `write_mapping` wrote; `encoded` is a plain object or has the tag ``dict``."""
    pairs = encoded[_PAYLOAD] if TAG in encoded else encoded.items()
    mapping = {}
    for key, item in pairs:
        try:
            decoded_key = read_key(key)
        except Misfit as misfit:
            misfit.within(f" key {short(key)}")
            raise
        try:
            mapping[decoded_key] = read_item(item)
        except Misfit as misfit:
            misfit.within(item_place(decoded_key))
            raise
    return mapping


def item_place(key: Any) -> str:
    """Return the place of a dict's item: ``["x"]`` or ``[3]``."""
    return f"[{json.dumps(key, ensure_ascii=False)}]" if type(key) is str else f"[{short(key)}]"


def write(value: Any) -> Any:
    """Return the JSON-safe form of a builtin value; raises `Misfit` for what only a declared class can give back."""
    writer = _WRITERS.get(type(value))
    return writer(value) if writer is not None else _rare_writer(value)(value)


def read(encoded: Any) -> Any:
    """Return the value of an encoded form; raises `Misfit` for what `write` did not write."""
    kind = type(encoded)
    if kind is list:
        return convert_items(read, encoded)
    if kind is not dict:
        return encoded
    if TAG not in encoded:
        return read_mapping(encoded, read, read)
    name, payload = untag(encoded)
    reader = _READERS.get(name)
    if reader is None:
        raise Misfit(f"has the unknown kind '{name}': a newer reflow may have written it")
    try:
        return reader(payload)
    # What the readers raise on a payload that no writer wrote; Decimal's errors are arithmetic.
    except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError) as error:
        raise Misfit(f"is no encoded {name}: {error}") from error


def write_str(value: str) -> Any:
    """Return text as it is; text with lone surrogates (undecodable file names) escaped, as UTF-8 cannot hold it."""
    if value.isascii():
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        return tag("str", value.encode("unicode_escape").decode("ascii"))
    return value


def write_int(value: int) -> Any:
    """Return an int as it is, a huge one as hexadecimal digits."""
    return value if value.bit_length() <= _LONGEST_PLAIN_INT else tag("int", hex(value))


def write_float(value: float) -> Any:
    """Return a finite float as it is; NaN and infinities, which JSON does not have, by name."""
    return value if math.isfinite(value) else tag("float", repr(value))


def write_set(items: Iterable[Any], kind: str, write_item: _Convert) -> dict[str, Any]:
    """Return the tagged items in an order that does not depend on hashes."""
    encoded = []
    for item in items:
        try:
            encoded.append(write_item(item))
        except Misfit as misfit:
            misfit.within(f" item {short(item)}")
            raise
    return tag(kind, sorted(encoded, key=sort_key))


def leaf_types(declared: type) -> dict[type, str]:
    """Return the types of values without parts that are `declared` or a subclass of it, each with its kind."""
    return {each: kind for each, kind in _LEAVES.items() if issubclass(each, declared)}


def write_leaf(kind: str, value: Any) -> Any:
    """Return the tagged text of a path, UUID or Decimal."""
    return tag(kind, write_str(str(value)))


def read_path(payload: Any) -> str:
    """Return the text of a path's payload."""
    text = read(payload)
    if type(text) is not str:
        raise Misfit("is no encoded path")
    return text


def _write_moment(kind: str, value: datetime | time) -> Any:
    zone = value.tzinfo
    key = None
    if zone is not None and type(zone) is not timezone:
        # zoneinfo.ZoneInfo, not imported for it: a zone's key is all that its offset and name depend on.
        if type(zone).__module__ != "zoneinfo" or getattr(zone, "key", None) is None:
            raise Misfit(
                f"has a {type(zone).__qualname__} as time zone: use datetime.timezone or zoneinfo.ZoneInfo(key)"
            )
        key = str(zone)
        value = value.replace(tzinfo=None)
    text = value.isoformat()
    return tag(kind, text if key is None and not value.fold else [text, key, value.fold])


def _read_moment(kind: type[datetime] | type[time], payload: Any) -> datetime | time:
    text, key, fold = (payload, None, 0) if type(payload) is str else payload
    moment = kind.fromisoformat(text)
    if key is not None:
        from zoneinfo import ZoneInfo  # here, because few values have one and it costs 3 ms

        moment = moment.replace(tzinfo=ZoneInfo(key))
    return moment.replace(fold=fold)


def _read_uuid(text: str) -> Any:
    from uuid import UUID

    return UUID(text)


def _read_decimal(text: str) -> Any:
    from decimal import Decimal

    return Decimal(text)


def _read_scalar(payload: Any) -> Any:
    from .arrays import read_scalar

    return read_scalar(payload)


def _read_array(payload: Any) -> Any:
    from .arrays import read_array

    return read_array(payload)


def _rare_writer(value: Any) -> _Convert:
    """Return the writer of a type that may not be imported; raises `Misfit`, saying what to return instead."""
    kind = type(value)
    late = LATE_KINDS.get(f"{kind.__module__}.{kind.__qualname__}")
    if late is not None:
        return lambda value: write_leaf(late, value)
    numpy = sys.modules.get("numpy")
    if numpy is not None and (kind is numpy.ndarray or issubclass(kind, numpy.generic)):
        from .arrays import write_array, write_scalar  # here, because it needs numpy

        return write_array if kind is numpy.ndarray else write_scalar
    raise Misfit(_without_form(value))


def _without_form(value: Any) -> str:
    kind = type(value)
    name = kind.__qualname__
    if (
        isinstance(value, Enum)
        or hasattr(kind, "__dataclass_fields__")
        or (issubclass(kind, tuple) and hasattr(kind, "_fields"))
    ):
        return f"is {describe(value)}, which only a declared type can give back: annotate it with {name}"
    for builtin in (str, int, float, list, dict, tuple, set, frozenset):
        if issubclass(kind, builtin):
            return (
                f"is {describe(value)}, which would come back as a plain {builtin.__name__}: "
                f"return {builtin.__name__}(...), or annotate it with {builtin.__name__}"
            )
    if hasattr(kind, "__next__") or name in ("dict_keys", "dict_values", "dict_items", "deque"):
        return f"is {describe(value)}, which has no JSON form: return list(...)"
    return (
        f"is {describe(value)}, which has no JSON form: return builtin values or a dataclass, "
        "or write it to a file and return its Path"
    )


def _encode_base64(value: bytes | bytearray) -> str:
    return b2a_base64(value, newline=False).decode("ascii")


def _same(value: Any) -> Any:
    return value


_WRITERS: dict[type, _Convert] = {
    type(None): _same,
    bool: _same,
    int: write_int,
    float: write_float,
    str: write_str,
    list: lambda value: convert_items(write, value),
    dict: lambda value: write_mapping(value, write, write),
    tuple: lambda value: tag("tuple", convert_items(write, value)),
    set: lambda value: write_set(value, "set", write),
    frozenset: lambda value: write_set(value, "frozenset", write),
    type(Path()): lambda value: write_leaf("path", value),
    PurePosixPath: lambda value: write_leaf("purepath", value),
    PureWindowsPath: lambda value: write_leaf("windowspath", value),
    datetime: lambda value: _write_moment("datetime", value),
    date: lambda value: tag("date", value.isoformat()),
    time: lambda value: _write_moment("time", value),
    timedelta: lambda value: tag("timedelta", [value.days, value.seconds, value.microseconds]),
    bytes: lambda value: tag("bytes", _encode_base64(value)),
    bytearray: lambda value: tag("bytearray", _encode_base64(value)),
    complex: lambda value: tag("complex", [write_float(value.real), write_float(value.imag)]),
    range: lambda value: tag("range", [value.start, value.stop, value.step]),
}

_LEAVES: dict[type, str] = {
    bool: "bool",
    int: "int",
    float: "float",
    complex: "complex",
    str: "str",
    bytes: "bytes",
    bytearray: "bytearray",
    range: "range",
    type(Path()): "path",
    PurePosixPath: "purepath",
    PureWindowsPath: "windowspath",
    datetime: "datetime",
    date: "date",
    time: "time",
    timedelta: "timedelta",
}

_READERS: dict[str, _Convert] = {
    "int": lambda payload: int(payload, 16),
    "float": float,
    "str": lambda payload: payload.encode("ascii").decode("unicode_escape"),
    "tuple": lambda payload: tuple(convert_items(read, payload)),
    "set": lambda payload: set(convert_items(read, payload)),
    "frozenset": lambda payload: frozenset(convert_items(read, payload)),
    "dict": lambda payload: read_mapping(tag("dict", payload), read, read),
    "path": lambda payload: Path(read_path(payload)),
    "purepath": lambda payload: PurePosixPath(read_path(payload)),
    "windowspath": lambda payload: PureWindowsPath(read_path(payload)),
    "datetime": lambda payload: _read_moment(datetime, payload),
    "date": date.fromisoformat,
    "time": lambda payload: _read_moment(time, payload),
    "timedelta": lambda payload: timedelta(*payload),
    "uuid": _read_uuid,
    "decimal": _read_decimal,
    "bytes": a2b_base64,
    "bytearray": lambda payload: bytearray(a2b_base64(payload)),
    "complex": lambda payload: complex(*(read(part) for part in payload)),
    "range": lambda payload: range(*payload),
    "scalar": _read_scalar,
    "array": _read_array,
    "dataclass": lambda payload: read_mapping(payload[1], read, read),
    "namedtuple": lambda payload: tuple(convert_items(read, payload[1])),
    "enum": lambda payload: read(payload[2]),
}
