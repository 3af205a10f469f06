"""What users write about jobs: arrays, dependencies, node lists, job ids. Text in, records out. Pure."""

from __future__ import annotations

import re

from ...executors.localqueue import Condition, ConditionKind
from ...indices import Indices

_ARRAY_PART = re.compile(r"(\d+)(?:-(\d+)(?::(\d+))?)?")
_DEPENDENCY = re.compile(r"(after|afterany|afterok|afternotok|aftercorr)((?::\d+(?:_\d+)?(?:\+\d+)?)+)")
_JOB_ID = re.compile(r"(\d+)(?:_(?:(\d+)|\[([\d,\-:]+)(?:%\d+)?\]|\*))?")
_NODES = re.compile(r"([\w.-]+?)(?:\[([\d,-]+)\])?(?:,|$)")


def parse_array(text: str) -> tuple[Indices, int | None]:
    """Read ``0-15:4,20%3`` as slots and throttle; raises `ValueError`."""
    written, percent, throttle = text.partition("%")
    if percent and (not throttle.isdecimal() or int(throttle) < 1):
        raise ValueError(f"'{throttle}' is no number of slots")
    return _parse_indices(written), int(throttle) if percent else None


def _parse_indices(written: str) -> Indices:
    found = Indices()
    # The brackets in which squeue shows them are taken too.
    for part in written.strip("[]").split(","):
        match = _ARRAY_PART.fullmatch(part.strip())
        if match is None:
            raise ValueError(f"'{part}' is no index or range")
        first, last, step = int(match[1]), int(match[2] or match[1]), int(match[3] or 1)
        if last < first or step < 1:
            raise ValueError(f"'{part}' is an empty range")
        found = found | (Indices.range(first, last + 1) if step == 1 else Indices(range(first, last + 1, step)))
    return found


def parse_dependency(text: str) -> tuple[tuple[Condition, ...], bool]:
    """Read ``--dependency``; return the conditions and whether one of them is enough (``?``). Raises `ValueError`."""
    any_condition = "?" in text
    if any_condition and "," in text:
        raise ValueError("both ',' and '?'")
    conditions: list[Condition] = []
    for part in re.split(r"[?,]", text):
        if part == "singleton":
            conditions.append(Condition(ConditionKind.SINGLETON))
            continue
        match = _DEPENDENCY.fullmatch(part)
        if match is None:
            raise ValueError(f"'{part}' is no dependency")
        for written in match[2][1:].split(":"):
            number, _, slot = written.partition("+")[0].partition("_")
            conditions.append(Condition(ConditionKind(match[1]), int(number), int(slot) if slot else None))
    return tuple(conditions), any_condition


def parse_job_id(text: str) -> tuple[int, Indices | None]:
    """Read ``12``, ``12_3``, ``12_[3-5,7]`` or ``12_*`` as number and slots, None for all; else raises `ValueError`."""
    match = _JOB_ID.fullmatch(text.strip())
    if match is None:
        raise ValueError(text)
    if match[2] is not None:
        return int(match[1]), Indices([int(match[2])])
    return int(match[1]), None if match[3] is None else _parse_indices(match[3])


def split_job_ids(text: str) -> list[str]:
    """Split a list of job ids at the commas outside brackets."""
    return [part for part in re.split(r",(?![^\[]*\])", text) if part]


def parse_nodes(text: str) -> list[str]:
    """Read ``n1,m[2-4]`` as names."""
    names: list[str] = []
    for match in _NODES.finditer(text):
        if match[2] is None:
            names.append(match[1])
        else:
            names += [f"{match[1]}{index}" for index in _parse_indices(match[2])]
    return names
