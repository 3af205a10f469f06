"""Check what the decorator of a task was told about trying again."""

from __future__ import annotations

import builtins
import math
import re
from collections.abc import Callable, Sequence
from typing import TypeAlias

from .retrying import RETRYABLE
from .suggest import did_you_mean

#: Exception classes, names of exceptions, and classes of failures.
RetryOn: TypeAlias = "type[BaseException] | str | Sequence[type[BaseException] | str] | None"

_DOTTED_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_EXCEPTIONS = frozenset(
    name for name, each in vars(builtins).items() if isinstance(each, type) and issubclass(each, BaseException)
)
_CLASSES = tuple(sorted(each.value for each in RETRYABLE))


def check_retries(task: str, retries: int) -> int:
    """Return how often a failed element is tried again."""
    if not isinstance(retries, int) or isinstance(retries, bool):
        raise TypeError(f"Task '{task}': retries={retries!r} must be a whole number.")
    if retries < 0:
        raise ValueError(f"Task '{task}': retries={retries!r} must be 0 or more.")
    return retries


def check_retry_on(task: str, retry_on: RetryOn, retries: int) -> tuple[str, ...] | None:
    """Return the names of the failures and exceptions after which an element is tried again."""
    if retry_on is None:
        return None
    given = [retry_on] if isinstance(retry_on, type | str) else retry_on
    if not isinstance(given, Sequence):
        raise TypeError(
            f"Task '{task}': retry_on={retry_on!r} must be a list of exceptions and of names such as "
            '[OSError, "OUT_OF_MEMORY"].'
        )
    if not given:
        raise ValueError(f"Task '{task}': retry_on=[] retries nothing: leave it out, or name what is tried again.")
    if not retries:
        raise ValueError(f"Task '{task}': retry_on needs retries=N: add how often an element is tried again.")
    return tuple(dict.fromkeys(_cause(task, each) for each in given))


def check_factor(task: str, keyword: str, factor: float) -> float:
    """Return by how much the next attempt asks for more."""
    if not isinstance(factor, int | float) or isinstance(factor, bool):
        raise TypeError(f"Task '{task}': {keyword}={factor!r} must be a number, such as 2.")
    if not 1 <= factor <= 100 or math.isnan(factor):
        raise ValueError(f"Task '{task}': {keyword}={factor!r} must lie between 1 (the same again) and 100.")
    return float(factor)


def check_ceiling(
    task: str, keyword: str, asked: str, most: str | None, parse: Callable[[str], int | None]
) -> str | None:
    """Return the most that an attempt asks for, which is no less than what the first asks for."""
    if most is None:
        return None
    if not isinstance(most, str):
        raise TypeError(f"Task '{task}': {keyword}_max={most!r} must be a string, as {keyword}={asked!r} is.")
    try:
        ceiling = parse(most)
    except ValueError as error:
        raise ValueError(f"Task '{task}': {keyword}_max: {error}.") from None
    first = parse(asked)
    if ceiling is None:
        raise ValueError(f"Task '{task}': {keyword}_max={most!r} is no limit: leave it out.")
    if first is None or first > ceiling:
        raise ValueError(
            f"Task '{task}': {keyword}_max={most!r} is less than {keyword}={asked!r}, which the first attempt asks for."
        )
    return most


def _cause(task: str, given: object) -> str:
    if isinstance(given, type) and issubclass(given, BaseException):
        # Without its module: a pipeline file is `__main__` where it is run, and has another name for its workers.
        return given.__qualname__
    if not isinstance(given, str):
        raise TypeError(
            f"Task '{task}': retry_on has {given!r}: name exceptions, such as OSError, or classes of failures, such as "
            '"OUT_OF_MEMORY".'
        )
    if given in _CLASSES or given in _EXCEPTIONS:
        return given
    meant = did_you_mean(given, (*_CLASSES, *_EXCEPTIONS))
    if not _DOTTED_NAME.fullmatch(given) or given.upper() == given:
        raise ValueError(
            f"Task '{task}': retry_on has {given!r}, which is no class of failures: write one of "
            f"{', '.join(_CLASSES)}, or the name of an exception.{meant}"
        )
    return given
