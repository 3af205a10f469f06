"""Find the codec of an annotation: what can be declared, and how it is written."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import (
    Collection,
    Container,
    Iterable,
    Mapping,
    MutableMapping,
    MutableSequence,
    MutableSet,
    Reversible,
    Sequence,
    Set,
)
from enum import Enum
from threading import RLock
from types import UnionType
from typing import Any, ForwardRef, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from . import declared, declared_classes, tags
from .annotations import describe_type, plain_type
from .declared import Codec
from .errors import CodecError
from .tags import Misfit

_SILENT = (Any, object)
_SCALARS = (bool, int, float, complex, str, bytes)
_LISTS = (list, Sequence, MutableSequence)
_COLLECTIONS = (Collection, Iterable, Container, Reversible)
_DICTS = (dict, Mapping, MutableMapping)
_SETS: Mapping[Any, type[set[Any]] | type[frozenset[Any]] | None] = {
    set: set,
    MutableSet: set,
    frozenset: frozenset,
    Set: None,
}
# By name: typing has them only from some Python version on, typing_extensions has its own.
_QUALIFIERS = ("Required", "NotRequired", "ReadOnly", "Final", "ClassVar")

_UNTYPED = declared.Untyped()
_codecs: dict[Any, Codec] = {}
_unfinished: set[Any] = set()
_making = RLock()


def codec_of(annotation: Any) -> Codec:
    """Return the codec of a declared type; raises `CodecError` if its values cannot travel.

    What says nothing (Any, object, a name that is not resolved, a free type variable) is untyped.
    """
    try:
        found = _codecs.get(annotation)
    except TypeError:  # Annotated[int, {}] has no hash
        return _make(plain_type(annotation))
    if found is not None:
        return found
    with _making:
        if annotation in _unfinished:  # a type alias that contains itself; there, it is untyped
            return _UNTYPED
        _unfinished.add(annotation)
        try:
            made = _make(plain_type(annotation))
        finally:
            _unfinished.remove(annotation)
        _codecs[annotation] = made
    return made


def _make(annotation: Any) -> Codec:
    if any(annotation is each for each in _SILENT) or isinstance(annotation, (str, ForwardRef)):
        return _UNTYPED
    if annotation is type(None):
        return declared.Nothing()
    if isinstance(annotation, TypeVar):
        return codec_of(annotation.__bound__) if annotation.__bound__ is not None else _UNTYPED
    if hasattr(annotation, "__supertype__"):
        return codec_of(annotation.__supertype__)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return _literal(annotation, arguments)
    if origin in (Union, UnionType):
        return _union(describe_type(annotation), [codec_of(argument) for argument in arguments])
    if str(origin).rpartition(".")[2] in _QUALIFIERS:
        return codec_of(arguments[0])
    return _container(annotation, origin or annotation, arguments) or _class(
        annotation, origin or annotation, arguments
    )


def _container(annotation: Any, base: Any, arguments: tuple[Any, ...]) -> Codec | None:
    name = describe_type(annotation)
    if base is tuple:
        return _tuple(annotation, name, arguments)
    if base in _LISTS:
        return declared.ListOf(name, _argument(arguments, 0))
    if base in _COLLECTIONS:
        item = _argument(arguments, 0)
        return declared.Either(name, [declared.ListOf(name, item), declared.SetOf(name, item, None)])
    if base in _DICTS:
        key = _hashable(_argument(arguments, 0), name)
        return declared.DictOf(name, key, _argument(arguments, 1))
    if base in _SETS:
        return declared.SetOf(name, _hashable(_argument(arguments, 0), name), _SETS[base])
    return None


def _tuple(annotation: Any, name: str, arguments: tuple[Any, ...]) -> Codec:
    if not arguments and annotation != tuple[()]:
        return declared.TupleOf(name, [_UNTYPED], any_length=True)
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return declared.TupleOf(name, [codec_of(arguments[0])], any_length=True)
    # Python 3.10 writes tuple[()] with one empty argument.
    return declared.TupleOf(name, [codec_of(each) for each in arguments if each != ()], any_length=False)


def _argument(arguments: tuple[Any, ...], number: int) -> Codec:
    return codec_of(arguments[number]) if arguments else _UNTYPED


def _hashable(codec: Codec, name: str) -> Codec:
    if not codec.hashable:
        raise CodecError(f"{name} cannot be declared: {codec.name} has no hash; use a tuple or a frozenset inside it")
    return codec


def _literal(annotation: Any, members: tuple[Any, ...]) -> Codec:
    return declared_classes.Choice(describe_type(annotation), [(member, codec_of(type(member))) for member in members])


def _union(name: str, members: list[Codec]) -> Codec:
    namesakes = [
        shape
        for shape, count in Counter(shape for member in members for shape in member.shapes).items()
        if count > 1 and shape.partition(" ")[0] in tags.CLASS_KINDS
    ]
    if namesakes:
        raise CodecError(
            f"{name} cannot be declared: two of its types are called {namesakes[0].partition(' ')[2]}, "
            "and only the name is stored; rename one"
        )
    return declared.Either(name, members)


def _class(annotation: Any, base: Any, arguments: tuple[Any, ...]) -> Codec:
    name = describe_type(annotation)
    if base in _SCALARS:
        return declared.Scalar(base)
    if isinstance(base, type):
        if issubclass(base, dict) and hasattr(base, "__total__"):
            return declared_classes.TypedDictOf(name, lambda: _fields(base, list(_hints(base)), arguments), _UNTYPED)
        if issubclass(base, Enum) and len(base.__members__):
            return declared_classes.EnumOf(base)
        if hasattr(base, "__dataclass_fields__"):
            return _dataclass(base, name, arguments)
        if issubclass(base, tuple) and hasattr(base, "_fields"):
            return _named_tuple(base, name, arguments)
        leaf = _leaf(base, name)
        if leaf is not None:
            return leaf
    raise CodecError(
        f"{name} cannot be declared, because its values have no JSON form: "
        "declare builtin types, dataclasses or enums, or write the value to a file and declare Path"
    )


def _leaf(base: type, name: str) -> Codec | None:
    numpy = sys.modules.get("numpy")
    if numpy is not None and base is numpy.ndarray:
        return declared.Leaf(name, [base], ["array"])
    if numpy is not None and issubclass(base, numpy.generic):
        from .arrays import scalar_types  # here, because it needs numpy

        return declared.Leaf(name, scalar_types(base), ["scalar"])
    late = tags.LATE_KINDS.get(f"{base.__module__}.{base.__qualname__}")
    if late is not None:
        return declared.Leaf(name, [base], [late])
    try:
        types = tags.leaf_types(base)
    except TypeError:  # a protocol that cannot be asked
        return None
    return declared.Leaf(name, types, types.values()) if types else None


def _named_tuple(cls: Any, name: str, arguments: tuple[Any, ...]) -> Codec:
    return declared_classes.Record(
        cls, name, lambda: _fields(cls, cls._fields, arguments), lambda values: cls._make(values.values())
    )


def _dataclass(cls: type[Any], name: str, arguments: tuple[Any, ...]) -> Codec:
    from dataclasses import fields  # here, because a worker whose user has none need not load it

    names = [field.name for field in fields(cls)]
    given = [field.name for field in fields(cls) if field.init]

    def find_fields() -> Mapping[str, Codec]:
        _require_constructor(cls, given)
        return _fields(cls, names, arguments)

    def build(values: Mapping[str, Any]) -> Any:
        try:
            instance = cls(**{field: values[field] for field in given})
        except TypeError as error:
            raise Misfit(f"could not be made by {name}(...) again: {error}") from error
        # __post_init__ may have changed fields a second time, and some may not be set by the constructor.
        for field, value in values.items():
            object.__setattr__(instance, field, value)
        return instance

    return declared_classes.Record(cls, name, find_fields, build)


def _require_constructor(cls: type[Any], given: list[str]) -> None:
    """Refuse a class whose constructor its fields cannot call (InitVar, an ``__init__`` of its own)."""
    from inspect import signature  # here, as `fields` above

    parameters = signature(cls).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return
    names = {parameter.name for parameter in parameters}
    wanted = {each.name for each in parameters if each.default is each.empty and each.kind is not each.VAR_POSITIONAL}
    odd = sorted((wanted - set(given)) | (set(given) - names))
    if odd:
        raise CodecError(
            f"{cls.__qualname__} cannot be declared: its constructor and its fields differ in {', '.join(odd)}, "
            "so its fields alone cannot make it again; declare a dataclass without InitVar and __init__"
        )


def _fields(cls: type, names: Iterable[str], arguments: tuple[Any, ...]) -> Mapping[str, Codec]:
    hints = _hints(cls)
    variables = dict(zip(getattr(cls, "__parameters__", ()), arguments, strict=False))
    return {name: codec_of(_substituted(hints.get(name, Any), variables)) for name in names}


def _hints(cls: type) -> Mapping[str, Any]:
    try:
        return get_type_hints(cls)
    except (NameError, AttributeError, TypeError, SyntaxError) as error:
        raise CodecError(
            f"{cls.__qualname__} cannot be declared, as the annotations of its fields cannot be resolved: {error}; "
            "import what they name at the top level of the module, not under TYPE_CHECKING or in a function"
        ) from error


def _substituted(hint: Any, variables: Mapping[Any, Any]) -> Any:
    """Return the hint with the type variables of a generic class replaced."""
    if isinstance(hint, TypeVar):
        return variables.get(hint, hint)
    inner = getattr(hint, "__parameters__", ()) if variables else ()
    return hint[tuple(variables.get(each, each) for each in inner)] if inner and get_origin(hint) else hint
