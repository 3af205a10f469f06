"""What a task's author writes inside ``Annotated[...]``: `Param`, `Result` and `RunDir`; and `Checkpoint`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from .deferred import dataclass
from .suggest import did_you_mean


class Missing(Enum):
    """The type of `MISSING`."""

    MISSING = "missing"

    def __repr__(self) -> str:
        return "MISSING"


#: Stands for "no default", because None is a default like any other.
MISSING = Missing.MISSING

_EXTRAS = ("cache", "content")


@dataclass(frozen=True, init=False)
class Param:
    """A parameter whose value comes from the run: ``Annotated[int, Param(help="How many")]``.

    A parameter without any mark is one too. With `namespace` ``"global"`` all tasks that have a parameter of this
    name share one value; with ``"local"`` the task has its own, called ``<task>_<name>``.
    """

    help: str
    #: One-letter option of the command line, with its dash: ``-n``.
    short: str | None
    namespace: Literal["global", "local"]
    #: Whether another value means another result. False for what only changes how the work is done, and for places
    #: that the task writes to.
    cache: bool
    #: Whether the files that the value names count with their content, and not with size and time of change.
    content: bool

    def __init__(
        self,
        help: str = "",
        short: str | None = None,
        namespace: Literal["global", "local"] = "global",
        **extra: Any,
    ) -> None:
        for name in extra:
            if name not in _EXTRAS:
                known = ", ".join(("help", "short", "namespace", *_EXTRAS))
                hint = did_you_mean(name, ("help", "short", "namespace", *_EXTRAS))
                raise TypeError(f"Param has no option '{name}'; it takes {known}.{hint}")
        cache, content = extra.get("cache", True), extra.get("content", False)
        if not isinstance(help, str):
            raise TypeError(f"Param(help=...) takes a string, not {help!r}.")
        if namespace not in ("global", "local"):
            raise ValueError(f"Param(namespace={namespace!r}) is not known: write 'global' or 'local'.")
        for name, switch in (("cache", cache), ("content", content)):
            if not isinstance(switch, bool):
                raise TypeError(f"Param({name}=...) takes True or False, not {switch!r}.")
        object.__setattr__(self, "help", help)
        object.__setattr__(self, "short", _short_option(short))
        object.__setattr__(self, "namespace", namespace)
        object.__setattr__(self, "cache", cache)
        object.__setattr__(self, "content", content)


@dataclass(frozen=True, init=False)
class Result:
    """A parameter that gets the output of other tasks: ``Annotated[list[int], Result(step="prepare")]``.

    `step` names one task, `steps` several whose outputs are put one behind the other; exactly one of both is given.
    `broadcast` gives the whole value to every element of an array.
    """

    step: str | None
    steps: tuple[str, ...] | None
    broadcast: bool

    def __init__(self, step: str | None = None, steps: Sequence[str] | None = None, broadcast: bool = False) -> None:
        if (step is None) == (steps is None):
            raise TypeError('Result takes either step="task" or steps=["task", "other"], exactly one of both.')
        if steps is not None:
            if isinstance(steps, str) or not isinstance(steps, Sequence):
                raise TypeError(f'Result(steps={steps!r}) takes a list of task names; for one task write step="...".')
            if not steps:
                raise ValueError("Result(steps=[]) names no task: name at least one.")
            steps = tuple(steps)
        for name in steps or (step,):
            if not isinstance(name, str) or not name:
                raise TypeError(f"Result takes names of tasks as strings, not {describe_value(name)}.")
        if not isinstance(broadcast, bool):
            raise TypeError(f"Result(broadcast=...) takes True or False, not {broadcast!r}.")
        object.__setattr__(self, "step", step)
        object.__setattr__(self, "steps", steps)
        object.__setattr__(self, "broadcast", broadcast)

    @property
    def names(self) -> tuple[str, ...]:
        """The tasks whose outputs are taken, in order."""
        return self.steps if self.steps is not None else (self.step or "",)

    def renamed(self, renames: Mapping[str, str]) -> Result:
        """Return the same mark for tasks that have other names; names that `renames` lacks stay."""
        if self.steps is not None:
            return Result(steps=[renames.get(name, name) for name in self.steps], broadcast=self.broadcast)
        return Result(step=renames.get(self.names[0], self.names[0]), broadcast=self.broadcast)

    def __repr__(self) -> str:
        which = f"steps={list(self.steps)!r}" if self.steps is not None else f"step={self.step!r}"
        return f"Result({which}, broadcast=True)" if self.broadcast else f"Result({which})"


@dataclass(frozen=True)
class RunDirMark:
    """What makes an annotation `RunDir`."""


#: The type of a parameter that receives the run directory as a `pathlib.Path`. To a type checker it is ``Path``.
RunDir: TypeAlias = Annotated[Path, RunDirMark()]


class Checkpoint(ABC):
    """The type of a parameter with which an element saves its work: the next attempt finds it, until one succeeds.

    A task with ``resume=True`` that is preempted or runs into its time limit goes on by itself, as long as each attempt
    has saved something new.
    """

    @abstractmethod
    def load(self, default: Any = None) -> Any:
        """Return the value that was saved last, by this attempt or an earlier one; `default` when there is none."""

    @abstractmethod
    def save(self, value: Any) -> None:
        """Keep a value in place of the last one, at once and safely. It must be one that a task could return."""

    @property
    @abstractmethod
    def folder(self) -> Path:
        """A folder of the element's own for larger files, kept and deleted with the value."""


def describe_value(value: object) -> str:
    """Return how a message names a value that should have been a task's name."""
    name = getattr(value, "__name__", None)
    return f"the function '{name}' itself" if callable(value) and name else repr(value)


def _short_option(short: str | None) -> str | None:
    if short is None:
        return None
    letter = short.removeprefix("-") if isinstance(short, str) else ""
    if len(letter) != 1 or not letter.isascii() or not letter.isalpha():
        raise ValueError(f"Param(short={short!r}) takes one letter, such as '-n'.")
    return f"-{letter}"
