"""Read, compare and describe types as annotations write them."""

from __future__ import annotations

import types
from collections.abc import (
    Collection,
    Container,
    Iterable,
    MutableSequence,
    Reversible,
    Sequence,
)
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

# What a list may be called. Values travel as JSON arrays and are decoded as the receiver's annotation says,
# so these stand for each other. A str is a Sequence to Python, but never to a person who writes Sequence[str].
_LIST_TYPES = (list, Sequence, MutableSequence, Collection, Iterable, Reversible, Container)
_TEXT_TYPES = (str, bytes, bytearray)
_PROMOTIONS: dict[Any, tuple[type, ...]] = {float: (int,), complex: (int, float)}


def plain_type(annotation: Any) -> Any:
    """Return the type itself, without ``Annotated``, type aliases looked through, None as ``NoneType``."""
    while True:
        origin = get_origin(annotation)
        if origin is Annotated:
            annotation = annotation.__origin__
        elif _is_alias(annotation):
            annotation = annotation.__value__
        elif _is_alias(origin):
            annotation = origin.__value__[get_args(annotation)]
        else:
            return type(None) if annotation is None else annotation


def generic_class(annotation: Any) -> Any:
    """Return ``list`` of ``list[int]``, and the type itself when it has no arguments."""
    annotation = plain_type(annotation)
    return get_origin(annotation) or annotation


def is_unknown(annotation: Any) -> bool:
    """Return whether the type says nothing: ``Any`` or a type variable."""
    annotation = plain_type(annotation)
    return annotation is Any or isinstance(annotation, TypeVar)


def members(annotation: Any) -> tuple[Any, ...]:
    """Return the members of a union, or the type alone."""
    annotation = plain_type(annotation)
    return get_args(annotation) if _is_union(annotation) else (annotation,)


def item_type(annotation: Any) -> Any:
    """Return what the items of a list are: ``int`` of ``list[int]``, ``Any`` of ``Any``; None if it is no list.

    Lists are ``list``, ``tuple[T, ...]``, ``Sequence`` and the like; a set has no order and a ``tuple[int, str]`` is
    a record.
    """
    annotation = plain_type(annotation)
    if is_unknown(annotation):
        return Any
    if _is_union(annotation):
        items = [item_type(member) for member in get_args(annotation)]
        return None if None in items else Union[tuple(items)]  # noqa: UP007 (made at run time)
    origin, arguments = generic_class(annotation), get_args(annotation)
    if origin is tuple:
        if not arguments and annotation == tuple[()]:
            return None
        if not arguments:
            return Any
        return arguments[0] if len(arguments) == 2 and arguments[1] is Ellipsis else None
    if origin in _LIST_TYPES or (isinstance(origin, type) and issubclass(origin, list)):
        return arguments[0] if arguments else Any
    return None


def list_of(item: Any) -> Any:
    """Return ``list[item]``."""
    return types.GenericAlias(list, (item,))


def wants_list(annotation: Any) -> bool:
    """Return whether the type, or a member of the union, is explicitly a list; ``Any`` is not."""
    return any(not is_unknown(member) and item_type(member) is not None for member in members(annotation))


def fits(given: Any, wanted: Any) -> bool:
    """Return whether a value of type `given` may go where `wanted` is written.

    As a type checker would say, but for values that are handed over and not shared: lists fit by their items,
    ``int`` fits ``float``. ``Any`` fits and takes everything, and so does what cannot be judged.
    """
    given, wanted = plain_type(given), plain_type(wanted)
    if given is wanted or is_unknown(given) or is_unknown(wanted) or wanted is object:
        return True
    if _is_union(given):
        return all(fits(member, wanted) for member in get_args(given))
    if _is_union(wanted):
        return any(fits(given, member) for member in get_args(wanted))
    if get_origin(given) is Literal:
        return all(_literal_fits(value, wanted) for value in get_args(given))
    if get_origin(wanted) is Literal or hasattr(wanted, "__supertype__"):
        return False
    if hasattr(given, "__supertype__"):
        return fits(given.__supertype__, wanted)
    return _classes_fit(given, wanted)


def same_type(one: Any, other: Any) -> bool:
    """Return whether two annotations say the same: ``List[int]`` and ``list[int]``, ``list`` and ``list[Any]`` do."""
    return bool(_key(one) == _key(other))


def describe_type(annotation: Any) -> str:
    """Return the type as a person would write it: ``list[int]``, ``Path``, ``int | None``."""
    annotation = plain_type(annotation)
    if annotation is type(None):
        return "None"
    if annotation is Ellipsis:
        return "..."
    if isinstance(annotation, list | tuple):
        return f"[{', '.join(describe_type(each) for each in annotation)}]"
    if isinstance(annotation, str):
        return annotation
    if _is_union(annotation):
        texts = [describe_type(member) for member in get_args(annotation)]
        return " | ".join(sorted(texts, key=lambda text: text == "None"))
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return f"Literal[{', '.join(map(repr, arguments))}]"
    base = generic_class(annotation)
    name: str = getattr(base, "__name__", None) or str(base).removeprefix("typing.")
    if annotation == tuple[()]:
        return "tuple[()]"
    return f"{name}[{', '.join(describe_type(each) for each in arguments)}]" if arguments else name


def _is_union(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, types.UnionType)


def _is_alias(annotation: Any) -> bool:
    # By name, because typing has TypeAliasType from Python 3.12 on and typing_extensions has one of its own.
    return type(annotation).__name__ == "TypeAliasType"


def _literal_fits(value: Any, wanted: Any) -> bool:
    if get_origin(wanted) is Literal:
        return any(value == each and type(value) is type(each) for each in get_args(wanted))
    return fits(type(value), wanted)


def _classes_fit(given: Any, wanted: Any) -> bool:
    given_class, wanted_class = generic_class(given), generic_class(wanted)
    if not isinstance(given_class, type) or not isinstance(wanted_class, type):
        return True  # a special form that only a type checker understands
    if issubclass(given_class, _PROMOTIONS.get(wanted_class, ())):
        return True
    if issubclass(given_class, _TEXT_TYPES):
        return wanted_class not in _LIST_TYPES and _is_subclass(given_class, wanted_class)
    if item_type(given) is not None and item_type(wanted) is not None:
        return fits(item_type(given), item_type(wanted))
    if given_class is tuple:
        return _record_fits(given, wanted)
    if not _is_subclass(given_class, wanted_class):
        return False
    if given_class is not wanted_class and given_class.__module__ not in ("builtins", "collections", "collections.abc"):
        return True  # a class may hand its type arguments on to its bases in any order
    # strict=False: a dict[str, int] is an Iterable[str], and a bare class has no arguments at all.
    return all(fits(*pair) for pair in zip(get_args(given), get_args(wanted), strict=False))


def _record_fits(given: Any, wanted: Any) -> bool:
    """Judge a ``tuple[int, str]``, or any tuple for which the record is wanted."""
    parts = get_args(given)
    wanted_class = generic_class(wanted)
    if wanted_class is tuple:
        if item_type(wanted) is not None:
            return all(fits(part, item_type(wanted)) for part in parts)
        wanted_parts = get_args(wanted)
        if item_type(given) is not None:
            return not parts  # a bare tuple may be that record; a tuple[int, ...] has no known length
        return len(parts) == len(wanted_parts) and all(map(fits, parts, wanted_parts))
    if not _is_subclass(tuple, wanted_class):
        return False
    return item_type(wanted) is None or all(fits(part, item_type(wanted)) for part in parts)


def _is_subclass(given: type, wanted: type) -> bool:
    try:
        return issubclass(given, wanted)
    except TypeError:
        # Neither protocols nor typed dictionaries can be asked. The members of a protocol are not ours to compare.
        return bool(getattr(wanted, "_is_protocol", False))


def _key(annotation: Any) -> Any:
    """Return a value that is equal for annotations that say the same."""
    annotation = plain_type(annotation)
    if isinstance(annotation, list | tuple):
        return tuple(_key(each) for each in annotation)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if _is_union(annotation):
        return (Union, frozenset(_key(member) for member in arguments))
    if origin is Literal:
        return (Literal, frozenset((type(value), value) for value in arguments))
    if not arguments and annotation != tuple[()] and not is_unknown(annotation) and item_type(annotation) is not None:
        arguments = (Any, Ellipsis) if (origin or annotation) is tuple else (Any,)
    return (origin or annotation, tuple(_key(argument) for argument in arguments))
