"""A `dataclass` whose methods are compiled when they are first needed: start-up is on every element's bill.

For a frozen dataclass, Python compiles six methods from text, which takes 0.3 to 1 ms. A worker loads sixty with the
modules that it needs and makes instances of twenty: the others cost 14 of the 85 ms of CPU of a whole worker.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dataclasses import dataclass
else:
    import dataclasses
    import threading

    # One for all classes: to finish one may finish those that it inherits from.
    _guard = threading.RLock()

    class _Unfinished:
        """Stands where a dataclass keeps its fields, which `fields`, `replace` and subclasses ask for."""

        def __init__(self, finish):  # noqa: ANN001, ANN204
            self.finish = finish

        def __get__(self, instance, owner):  # noqa: ANN001, ANN204
            return self.finish().__dataclass_fields__

    def dataclass(**options):  # noqa: ANN003, ANN201
        """Decorate as `dataclasses.dataclass` does."""
        if options.get("slots"):
            return dataclasses.dataclass(**options)  # that makes another class, which nobody would know later

        def defer(cls):  # noqa: ANN001, ANN202
            def finish():  # noqa: ANN202
                with _guard:
                    if cls.__dict__["__dataclass_fields__"] is unfinished:
                        dataclasses.dataclass(**options)(cls)
                return cls

            # Before an instance exists there is nothing that the missing methods could be asked of. Not in place of
            # `__init__`: that would have to go first, and another thread could come in between.
            def __new__(kind, /, *_arguments, **_keywords):  # noqa: ANN001, ANN002, ANN003, ANN202
                finish()
                return object.__new__(kind)

            unfinished = _Unfinished(finish)
            cls.__dataclass_fields__ = unfinished
            cls.__new__ = __new__
            return cls

        return defer


__all__ = ["dataclass"]
