"""Codecs of builtin types: each checks a value against its declaration, encodes it, and gives back the declared type.

Where a value is of a kind that the declaration covers but not exactly of it (an int for a float, a tuple for a list,
a numpy number, a subclass of a builtin), the declared type wins. What would change the value is a `Misfit`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from typing import Any

from . import tags
from .tags import Misfit, convert_items, describe, tag, untag


class Codec(ABC):
    """Encodes and decodes the values of one declared type; both raise `Misfit`."""

    #: Whether its values can be keys and items of sets.
    hashable = True
    #: Whether it takes only some of the values of `types`.
    partial = False

    def __init__(self, name: str, rank: int, parts: Sequence[Codec] = ()) -> None:
        #: The declaration as the user would write it.
        self.name = name
        #: In a union, members are tried in this order: it may not depend on how the union was spelled.
        self.order: tuple[Any, ...] = (rank, tuple(part.order for part in parts), name)
        self._parts = tuple(parts)
        #: Types whose values it takes as they are; empty for any.
        self.types: frozenset[type] = frozenset()
        #: What `shape` says of its encoded values; empty for any.
        self.shapes: frozenset[str] = frozenset()

    @abstractmethod
    def encode(self, value: Any) -> Any:
        """Return the JSON-safe form of `value`."""

    @abstractmethod
    def decode(self, encoded: Any) -> Any:
        """Return the value of what `encode` (of this or a narrower declaration) returned."""

    def parts(self) -> tuple[Codec, ...]:
        """Return the codecs of what is inside: items, keys, fields, members of a union."""
        return self._parts

    def form(self) -> str | None:
        """Return what the values of a class look like, which its name does not tell; None where the name tells all."""
        return None

    def misfit(self, value: Any, advice: str | None = None) -> Misfit:
        """Return the refusal to encode `value`, with what to return instead."""
        advice = advice or "return what is declared, or change the annotation"
        return Misfit(f"is {describe(value)}, but {self.name} is declared: {advice}")

    def contradiction(self, encoded: Any) -> Misfit:
        """Return the refusal to decode `encoded`."""
        return Misfit(
            f"was stored as {stored_type(encoded)}, but {self.name} is declared: "
            "declare the same type where it is returned and where it is received"
        )


def shape(encoded: Any) -> str:
    """Return the kind of an encoded value, with the class name where it has one: ``int``, ``path``, ``enum Color``."""
    kind, payload = untag(encoded)
    if kind in tags.CLASS_KINDS and type(payload) is list and payload:
        return f"{kind} {payload[0]}"
    return kind


def stored_type(encoded: Any) -> str:
    """Return the type of an encoded value for an error message, with the value of a scalar."""
    found = shape(encoded)
    return describe(encoded) if encoded is None or type(encoded) in (bool, int, float, str) else found


def _items(encoded: Any, kinds: Sequence[str]) -> list[Any] | None:
    """Return the encoded items of a list, tuple or set of one of the kinds, else None."""
    kind, payload = untag(encoded)
    if kind == "namedtuple" and type(payload) is list and payload:
        payload = payload[-1]
    return payload if kind in kinds and type(payload) is list else None


class Untyped(Codec):
    """No declaration: builtin values only; classes come back as dicts, tuples and plain values."""

    def __init__(self) -> None:
        super().__init__("Any", rank=9)

    def encode(self, value: Any) -> Any:
        return tags.write(value)

    def decode(self, encoded: Any) -> Any:
        return tags.read(encoded)


class Nothing(Codec):
    """None."""

    def __init__(self) -> None:
        super().__init__("None", rank=0)
        self.types, self.shapes = frozenset({type(None)}), frozenset({"NoneType"})

    def encode(self, value: Any) -> None:
        if value is not None:
            raise self.misfit(value)

    def decode(self, encoded: Any) -> None:
        if encoded is not None:
            raise self.contradiction(encoded)


class Scalar(Codec):
    """A bool, int, float, complex, str or bytes; takes subclasses (not enums) and numpy's scalars as the plain type."""

    #: Of each type, its rank, the wider sense in which a value fits, and numpy's kinds (`dtype.kind`) that fit.
    _FITTING: Mapping[type, tuple[int, tuple[type, ...], str]] = {
        bool: (1, (bool,), "b"),
        int: (2, (int,), "biu"),
        float: (3, (float, int), "biuf"),
        complex: (4, (complex, float, int), "biufc"),
        str: (5, (str,), "U"),
        bytes: (5, (bytes,), "S"),
    }
    # A subclass may override what int(x) and str(x) call.
    _PLAIN: Mapping[type, Callable[[Any], Any]] = {int: int.__int__, float: float.__float__, str: str.__str__}

    def __init__(self, builtin: type) -> None:
        rank, self._fitting, self._numpy_kinds = self._FITTING[builtin]
        super().__init__(builtin.__name__, rank)
        self._builtin = builtin
        self._untagged = builtin in (bool, int, float, str)
        self.types, self.shapes = frozenset({builtin}), frozenset({builtin.__name__})

    def encode(self, value: Any) -> Any:
        return tags.write(value if type(value) is self._builtin else self._convert(value, self._refusal))

    def decode(self, encoded: Any) -> Any:
        if type(encoded) is self._builtin and self._untagged:
            return encoded
        # A stored enum member reads as its value: where text is wanted, a str enum is welcome.
        return self._convert(tags.read(encoded), lambda _: self.contradiction(encoded))

    def _refusal(self, value: Any) -> Misfit:
        advice = f"return .value, or annotate it with {type(value).__qualname__}" if isinstance(value, Enum) else None
        return self.misfit(value, advice)

    def _convert(self, value: Any, refusal: Callable[[Any], Misfit]) -> Any:
        if type(value).__module__ == "numpy" and getattr(value, "shape", None) == ():
            # The known kinds only: item() of a long double is a long double again.
            value = value.item() if value.dtype.kind in self._numpy_kinds and value.dtype.char not in "gG" else value
        if type(value) is self._builtin:
            return value
        if isinstance(value, Enum) or not isinstance(value, self._fitting):
            raise refusal(value)
        if isinstance(value, self._builtin):
            return self._PLAIN.get(self._builtin, self._builtin)(value)
        try:
            converted = self._builtin(value)
        except OverflowError:
            converted = None
        if converted != value and value == value:
            raise Misfit(f"is an int that no {self.name} equals: declare int, or return {self.name}(...)")
        return converted


class Leaf(Codec):
    """A value without parts, exactly of one of the types: the known ones that are subclasses of the declared one."""

    def __init__(self, name: str, types: Iterable[type], kinds: Iterable[str]) -> None:
        super().__init__(name, rank=6)
        self.types, self.shapes = frozenset(types), frozenset(kinds)

    def encode(self, value: Any) -> Any:
        if type(value) not in self.types:
            raise self.misfit(value, "return Path(...)" if type(value) is str and "path" in self.shapes else None)
        return tags.write(value)

    def decode(self, encoded: Any) -> Any:
        if untag(encoded)[0] not in self.shapes:
            raise self.contradiction(encoded)
        value = tags.read(encoded)
        if type(value) not in self.types:
            raise self.contradiction(encoded)
        return value


class ListOf(Codec):
    """A list; takes tuples as lists. Sets are refused: their order would be made up."""

    hashable = False

    def __init__(self, name: str, item: Codec) -> None:
        super().__init__(name, rank=7, parts=[item])
        self._item = item
        self.types, self.shapes = frozenset({list}), frozenset({"list"})

    def encode(self, value: Any) -> Any:
        if not isinstance(value, (list, tuple)):
            raise self.misfit(value, _list_advice(value))
        return convert_items(self._item.encode, value)

    def decode(self, encoded: Any) -> Any:
        items = _items(encoded, ("list", "tuple"))
        if items is None:
            raise self.contradiction(encoded)
        return convert_items(self._item.decode, items)


def _list_advice(value: Any) -> str | None:
    if isinstance(value, (set, frozenset)):
        return "return sorted(...)"
    if type(value).__module__ == "numpy":
        return "return .tolist()"
    if hasattr(value, "__iter__") and not isinstance(value, (str, bytes, dict)):
        return "return list(...)"
    return None


class TupleOf(Codec):
    """A tuple: of any length with one codec, or of the codecs' number. Takes lists as tuples."""

    def __init__(self, name: str, items: Sequence[Codec], *, any_length: bool) -> None:
        super().__init__(name, rank=7, parts=items)
        self.hashable = all(item.hashable for item in items)
        self._items = items
        self._any_length = any_length
        self.types, self.shapes = frozenset({tuple}), frozenset({"tuple"})

    def encode(self, value: Any) -> Any:
        if not isinstance(value, (list, tuple)):
            raise self.misfit(value)
        if not self._any_length and len(value) != len(self._items):
            raise Misfit(f"has {len(value)} items, but {self.name} is declared: return {len(self._items)}")
        return tag("tuple", self._each("encode", value))

    def decode(self, encoded: Any) -> Any:
        items = _items(encoded, ("tuple", "list", "namedtuple"))
        if items is None or (not self._any_length and len(items) != len(self._items)):
            raise self.contradiction(encoded)
        return tuple(self._each("decode", items))

    def _each(self, way: str, items: Sequence[Any]) -> list[Any]:
        if self._any_length:
            return convert_items(getattr(self._items[0], way), items)
        return convert_each([getattr(codec, way) for codec in self._items], items)


def convert_each(conversions: Iterable[Callable[[Any], Any]], items: Iterable[Any]) -> list[Any]:
    """Convert each item in its own way; a `Misfit` learns the number of its item."""
    converted = zip(conversions, items, strict=True)
    return convert_items(lambda pair: pair[0](pair[1]), converted)


class SetOf(Codec):
    """A set or frozenset, as declared, or either where `builtin` is None."""

    def __init__(self, name: str, item: Codec, builtin: type[set[Any]] | type[frozenset[Any]] | None) -> None:
        super().__init__(name, rank=7, parts=[item])
        self.hashable = builtin is not set
        self._item = item
        self._builtin = builtin
        self.types = frozenset({builtin} if builtin else {set, frozenset})
        self.shapes = frozenset(each.__name__ for each in self.types)

    def encode(self, value: Any) -> Any:
        if not isinstance(value, (set, frozenset)):
            raise self.misfit(value, "return set(...)" if isinstance(value, (list, tuple)) else None)
        kind = self._builtin or (frozenset if isinstance(value, frozenset) else set)
        return tags.write_set(value, kind.__name__, self._item.encode)

    def decode(self, encoded: Any) -> Any:
        items = _items(encoded, ("set", "frozenset"))
        if items is None:
            raise self.contradiction(encoded)
        builtin = self._builtin or (set if untag(encoded)[0] == "set" else frozenset)
        return builtin(convert_items(self._item.decode, items))


class DictOf(Codec):
    """A dict; takes its subclasses (OrderedDict, Counter, defaultdict) as dicts."""

    hashable = False

    def __init__(self, name: str, key: Codec, item: Codec) -> None:
        super().__init__(name, rank=7, parts=[key, item])
        self._key = key
        self._item = item
        self.types, self.shapes = frozenset({dict}), frozenset({"dict"})

    def encode(self, value: Any) -> Any:
        if not isinstance(value, dict):
            raise self.misfit(value, "return dict(...)" if isinstance(value, Mapping) else None)
        return tags.write_mapping(value, self._key.encode, self._item.encode)

    def decode(self, encoded: Any) -> Any:
        if untag(encoded)[0] != "dict":
            raise self.contradiction(encoded)
        return tags.read_mapping(encoded, self._key.decode, self._item.decode)


class Either(Codec):
    """A union. A member that takes the value exactly as it is comes first, then those that would convert it."""

    def __init__(self, name: str, members: Iterable[Codec]) -> None:
        self._members = sorted(members, key=lambda codec: codec.order)
        super().__init__(name, rank=8, parts=self._members)
        self.hashable = all(member.hashable for member in self._members)
        if all(member.types for member in self._members):
            self.types = frozenset().union(*(member.types for member in self._members))
            self.shapes = frozenset().union(*(member.shapes for member in self._members))

    def encode(self, value: Any) -> Any:
        kind = type(value)
        exact = [member for member in self._members if kind in member.types]
        advice = _list_advice(value) if list in self.types else None
        return self._first("encode", exact, value, lambda value: self.misfit(value, advice))

    def decode(self, encoded: Any) -> Any:
        found = shape(encoded)
        exact = [member for member in self._members if found in member.shapes]
        return self._first("decode", exact, encoded, self.contradiction)

    def _first(self, way: str, exact: list[Codec], value: Any, refusal: Callable[[Any], Misfit]) -> Any:
        if all(member.partial for member in exact):
            exact = exact + [member for member in self._members if member not in exact]
        if len(exact) == 1:
            return getattr(exact[0], way)(value)
        for member in exact:
            try:
                return getattr(member, way)(value)
            except Misfit:
                continue
        raise refusal(value)
