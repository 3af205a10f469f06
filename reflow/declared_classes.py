"""Codecs of the user's own classes and choices: enums, dataclasses, NamedTuples, TypedDicts and `Literal`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from enum import Enum, Flag
from typing import Any

from . import tags
from .declared import Codec, shape
from .tags import Misfit, tag, untag


def _listed(fields: Mapping[str, Codec]) -> str:
    return ", ".join(f"{name}: {codec.name}" for name, codec in fields.items())


class TypedDictOf(Codec):
    """A dict whose items have codecs by key; a key that the TypedDict does not know is as undeclared."""

    hashable = False

    def __init__(self, name: str, find_fields: Callable[[], Mapping[str, Codec]], unknown: Codec) -> None:
        super().__init__(name, rank=7)
        self._find_fields = find_fields
        self._unknown = unknown
        self._found: Mapping[str, Codec] | None = None
        self.types, self.shapes = frozenset({dict}), frozenset({"dict"})

    @property
    def fields(self) -> Mapping[str, Codec]:
        """The codec of each known key's item."""
        if self._found is None:
            self._found = self._find_fields()
        return self._found

    def parts(self) -> tuple[Codec, ...]:
        return tuple(self.fields.values())

    def form(self) -> str:
        return f"TypedDict {self.name}({_listed(self.fields)})"

    def encode(self, value: Any) -> Any:
        if not isinstance(value, dict):
            raise self.misfit(value)
        return tags.write_mapping(self._each("encode", value), tags.write, lambda encoded: encoded)

    def decode(self, encoded: Any) -> Any:
        if untag(encoded)[0] != "dict":
            raise self.contradiction(encoded)
        return self._each("decode", tags.read_mapping(encoded, tags.read, lambda encoded: encoded))

    def _each(self, way: str, mapping: Mapping[Any, Any]) -> dict[Any, Any]:
        converted = {}
        for key, item in mapping.items():
            try:
                converted[key] = getattr(self.fields.get(key, self._unknown), way)(item)
            except Misfit as misfit:
                misfit.within(tags.item_place(key))
                raise
        return converted


class Choice(Codec):
    """One of the values of a `Literal`, of exactly its type."""

    partial = True

    def __init__(self, name: str, members: Iterable[tuple[Any, Codec]]) -> None:
        super().__init__(name, rank=1)
        self._encoded: dict[tuple[type, Any], Any] = {}
        self._members: dict[str, Any] = {}
        for member, codec in members:
            encoded = codec.encode(member)
            self._encoded[type(member), member] = encoded
            self._members[tags.sort_key(encoded)] = member
            self.types |= codec.types
            self.shapes |= codec.shapes

    def encode(self, value: Any) -> Any:
        # numpy's texts and numbers mean the plain ones, as everywhere.
        plain = value.item() if type(value).__module__ == "numpy" and getattr(value, "shape", None) == () else value
        try:
            return self._encoded[type(plain), plain]
        except (KeyError, TypeError):
            raise self.misfit(value) from None

    def decode(self, encoded: Any) -> Any:
        try:
            return self._members[tags.sort_key(encoded)]
        except KeyError:
            raise self.contradiction(encoded) from None


class EnumOf(Codec):
    """An enum, by the name of the member, flags by value. The value goes along for readers without the class."""

    def __init__(self, enum: type[Enum]) -> None:
        super().__init__(enum.__qualname__, rank=6)
        self._enum = enum
        self._by_value = issubclass(enum, Flag)
        self.types, self.shapes = frozenset({enum}), frozenset({f"enum {enum.__qualname__}"})

    def form(self) -> str:
        members = (f"{name} = {json.dumps(self.encode(member))}" for name, member in self._enum.__members__.items())
        return f"enum {self.name}({', '.join(members)})"

    def encode(self, value: Any) -> Any:
        if type(value) is not self._enum:
            raise self.misfit(value, f"return a member of {self.name}, or change the annotation")
        try:
            plain = tags.write(value.value)
        except Misfit:
            plain = value.name  # a function or another class: readers without the class get the name
        return tag("enum", [self.name, None if self._by_value else value.name, plain])

    def decode(self, encoded: Any) -> Any:
        if shape(encoded) not in self.shapes:
            raise self.contradiction(encoded)
        try:
            _, member, plain = untag(encoded)[1]
            return self._enum(plain) if self._by_value else self._enum[member]
        except (KeyError, ValueError, TypeError):
            raise Misfit(f"was stored as a member that {self.name} does not have any more: {encoded!r}") from None


class Record(Codec):
    """A dataclass or NamedTuple: its fields, each with its own codec. Found late, so that a class may contain itself.

    `build` makes the instance from the values by field name.
    """

    def __init__(
        self,
        cls: type,
        name: str,
        fields: Callable[[], Mapping[str, Codec]],
        build: Callable[[Mapping[str, Any]], Any],
    ) -> None:
        super().__init__(name, rank=6)
        self._class = cls
        self._find_fields = fields
        self._build = build
        self._found: Mapping[str, Codec] | None = None
        self._kind = "namedtuple" if issubclass(cls, tuple) else "dataclass"
        self.types, self.shapes = frozenset({cls}), frozenset({f"{self._kind} {cls.__qualname__}"})

    @property
    def fields(self) -> Mapping[str, Codec]:
        """The codec of each field, in order."""
        if self._found is None:
            self._found = self._find_fields()
        return self._found

    def parts(self) -> tuple[Codec, ...]:
        return tuple(self.fields.values())

    def form(self) -> str:
        return f"{self._kind} {self.name}({_listed(self.fields)})"

    def encode(self, value: Any) -> Any:
        if type(value) is not self._class:
            raise self.misfit(
                value, f"return an instance of {self.name}, or change the annotation{self._namesake(value)}"
            )
        encoded = {}
        for name, codec in self.fields.items():
            try:
                encoded[name] = codec.encode(getattr(value, name))
            except Misfit as misfit:
                misfit.within(f".{name}")
                raise
            except AttributeError:
                raise Misfit(f"has no value in the field {name}: set it before returning") from None
        payload = list(encoded.values()) if self._kind == "namedtuple" else encoded
        return tag(self._kind, [self._class.__qualname__, payload])

    def decode(self, encoded: Any) -> Any:
        if shape(encoded) not in self.shapes:
            raise self.contradiction(encoded)
        payload = untag(encoded)[1][-1]
        stored = dict(zip(self.fields, payload, strict=False)) if type(payload) is list else payload
        if type(stored) is not dict or len(payload) != len(self.fields) or stored.keys() != self.fields.keys():
            raise Misfit(
                f"was stored when {self.name} had other fields than {', '.join(self.fields)}: "
                "run the task that wrote it again (--force)"
            )
        values = {}
        for name, codec in self.fields.items():
            try:
                values[name] = codec.decode(stored[name])
            except Misfit as misfit:
                misfit.within(f".{name}")
                raise
        return self._build(values)

    def _namesake(self, value: Any) -> str:
        kind = type(value)
        if kind.__qualname__ != self._class.__qualname__:
            return ""
        return f" (one is defined in {kind.__module__}, the other in {self._class.__module__})"
