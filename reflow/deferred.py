"""`dataclass`, `field` and `replace` at a small part of their cost: start-up is on every element's bill.

To import `dataclasses` brings `inspect` along, and of each class it compiles six methods from text: together 17 of the
70 ms of CPU of a whole worker. Here only ``__init__`` is text, compiled when there is a first instance. To whoever asks
(`dataclasses.fields`, `asdict`, `is_dataclass`) the classes are dataclasses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dataclasses import asdict, dataclass, field, replace
else:
    from collections.abc import Callable, Mapping
    from operator import attrgetter
    from typing import Any

    _REQUIRED = object()

    class _Factory:
        """Makes the default of a field, for each instance anew."""

        def __init__(self, make: Callable[[], Any]) -> None:
            self.make = make

    class _Fields:
        """Stands where a dataclass keeps its fields, and finds them out when somebody asks."""

        def __init__(self, cls: type, defaults: Mapping[str, Any], *, frozen: bool) -> None:
            self.defaults = defaults
            self._cls = cls
            self._frozen = frozen
            self._found: Mapping[str, Any] | None = None

        def __get__(self, instance: object, owner: type) -> Mapping[str, Any]:
            if self._found is None:
                twin = self._twin()
                self._cls.__dataclass_params__ = twin.__dataclass_params__
                self._found = twin.__dataclass_fields__
            return self._found

        def _twin(self) -> type:
            import dataclasses

            kinds = {name: kind for each in reversed(self._cls.__mro__) for name, kind in _annotations(each).items()}
            body: dict[str, Any] = {"__annotations__": {name: kinds[name] for name in self.defaults}}
            for name, default in self.defaults.items():
                if isinstance(default, _Factory):
                    body[name] = dataclasses.field(default_factory=default.make)
                elif default is not _REQUIRED:
                    body[name] = default
            return dataclasses.dataclass(frozen=self._frozen)(type(self._cls.__name__, (), body))

    def field(*, default_factory: Callable[[], Any]) -> _Factory:
        """Give a field a default, as `dataclasses.field` does."""
        return _Factory(default_factory)

    def replace(record: Any, /, **changes: Any) -> Any:
        """Return a copy with other values in some fields, as `dataclasses.replace` does."""
        return type(record)(**{**record.__dict__, **changes})

    def asdict(record: Any) -> dict[str, Any]:
        """Return what `dataclasses.asdict` returns."""
        import dataclasses

        return dataclasses.asdict(record)

    def dataclass(*, frozen: bool = False, init: bool = True) -> Callable[[type], type]:
        """Decorate as `dataclasses.dataclass` does."""

        def decorate(cls: type) -> type:
            defaults = _inherited(cls)
            for name in _annotations(cls):
                defaults[name] = cls.__dict__.get(name, _REQUIRED)
                if isinstance(defaults[name], _Factory):
                    delattr(cls, name)
            methods = _methods(tuple(defaults), frozen)
            if init:
                methods["__init__"] = _first_init(cls, defaults)
            for name, method in methods.items():
                if name not in cls.__dict__:
                    setattr(cls, name, method)
            cls.__match_args__ = tuple(defaults)
            cls.__dataclass_fields__ = _Fields(cls, defaults, frozen=frozen)
            return cls

        return decorate

    def _annotations(cls: type) -> Mapping[str, Any]:
        return getattr(cls, "__annotations__", {})  # of the class alone, from Python 3.10 on

    def _inherited(cls: type) -> dict[str, Any]:
        found = (each.__dict__.get("__dataclass_fields__") for each in cls.__mro__[1:])
        return next((dict(fields.defaults) for fields in found if fields is not None), {})

    def _methods(names: tuple[str, ...], frozen: bool) -> dict[str, Any]:
        values_of = attrgetter(*names) if names else lambda _: ()

        def equal(self: Any, other: Any) -> Any:
            return values_of(self) == values_of(other) if other.__class__ is self.__class__ else NotImplemented

        def digest(self: Any) -> int:
            return hash(values_of(self))

        def show(self: Any) -> str:
            return f"{type(self).__qualname__}({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"

        methods = {"__hash__": digest, "__setattr__": _refuse, "__delattr__": _refuse} if frozen else {"__hash__": None}
        return {"__eq__": equal, "__repr__": show, **methods}

    def _refuse(self: object, name: str, *_: object) -> None:
        from dataclasses import FrozenInstanceError

        raise FrozenInstanceError(f"the field '{name}' of a {type(self).__name__} cannot be changed")

    def _first_init(cls: type, defaults: Mapping[str, Any]) -> Callable[..., None]:
        """Return an ``__init__`` that puts the real one in its place; of several threads each gets a whole one."""

        def first(self: object, /, *arguments: Any, **keywords: Any) -> None:
            cls.__init__ = _init(cls, defaults)
            cls.__init__(self, *arguments, **keywords)

        return first

    def _init(cls: type, defaults: Mapping[str, Any]) -> Callable[..., None]:
        scope = {"_set": object.__setattr__, "_required": _REQUIRED}
        parameters, lines = [], []
        for name, default in defaults.items():
            value = name
            if isinstance(default, _Factory):
                scope[f"_make_{name}"] = default.make
                value = f"_make_{name}() if {name} is _required else {name}"
                parameters.append(f"{name}=_required")
            elif default is _REQUIRED:
                parameters.append(name)
            else:
                scope[f"_default_{name}"] = default
                parameters.append(f"{name}=_default_{name}")
            lines.append(f" _set(self,{name!r},{value})")
        exec("\n".join([f"def __init__(self,{','.join(parameters)}):", *lines, " pass"]), scope)
        made = scope["__init__"]
        made.__qualname__ = f"{cls.__qualname__}.__init__"
        return made


__all__ = ["asdict", "dataclass", "field", "replace"]
