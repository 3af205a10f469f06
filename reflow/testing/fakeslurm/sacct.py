"""The fake ``sacct``."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ...amounts import format_duration
from ...executors.base import JobStatus
from ...indices import Indices
from . import requests
from .listing import Row, find_job, moment, rows, user_name
from .options import WrongOption, read_options
from .site import Site

_WITH_VALUE = {
    "jobs": "j", "format": "o", "name": "", "starttime": "S", "endtime": "E", "state": "s", "user": "u",
    "uid": "", "accounts": "A", "partition": "r", "clusters": "M", "cluster": "", "delimiter": "", "units": "",
}  # fmt: skip
_ALONE = {
    "allocations": "X", "noheader": "n", "parsable2": "P", "parsable": "p", "duplicates": "D", "allusers": "a",
    "array": "", "brief": "b", "long": "l", "noconvert": "", "version": "V", "truncate": "T", "allclusters": "L",
}  # fmt: skip

_DEFAULT_FORMAT = "JobID,JobName,Partition,Account,AllocCPUS,State,ExitCode"


@dataclass(frozen=True)
class _Line:
    """One line: a start of a job, or its batch step."""

    row: Row
    is_step: bool
    #: The row's status, as far as the account has heard of it.
    status: JobStatus

    @property
    def is_over(self) -> bool:
        return self.status.is_over


def _state(line: _Line) -> str:
    if line.is_step and line.status is JobStatus.TIMEOUT:
        return JobStatus.CANCELLED
    if line.row.is_requeued and line.status is JobStatus.CANCELLED:
        return "REQUEUED"
    if line.status is JobStatus.CANCELLED and not line.row.is_dropped and not line.is_step:
        return f"CANCELLED by {os.getuid()}"
    return str(line.status)


def _exit_code(line: _Line) -> str:
    if not line.is_over:
        return "0:0"
    is_ended_by_slurm = line.status in (JobStatus.CANCELLED, JobStatus.TIMEOUT)
    return "0:15" if line.is_step and is_ended_by_slurm else line.row.exit_code


def _reason(line: _Line) -> str:
    """What the job waited for before it started: sacct keeps that as its reason for ever."""
    if line.row.attempt is None and not line.row.is_dropped:
        return line.row.reason
    return "Dependency" if line.row.history.job.conditions else "None"


def _node(line: _Line) -> str:
    return "None assigned" if line.row.attempt is None else line.row.attempt.node


def _elapsed(line: _Line) -> str:
    return format_duration(line.row.seconds)


#: Each field by its name in small letters: name, width, value.
_FIELDS: dict[str, tuple[str, int, Callable[[_Line], str]]] = {
    name.lower(): (name, width, value)
    for name, width, value in [
        ("JobID", -12, lambda line: f"{line.row.id}.batch" if line.is_step else line.row.id),
        ("JobIDRaw", -12, lambda line: f"{line.row.raw_id}.batch" if line.is_step else str(line.row.raw_id)),
        ("JobName", 10, lambda line: "batch" if line.is_step else line.row.history.name),
        ("State", 10, _state),
        ("ExitCode", 8, _exit_code),
        ("DerivedExitCode", 15, lambda line: "" if line.is_step else "0:0"),
        ("NodeList", 15, _node),
        ("Reason", 22, lambda line: "" if line.is_step else _reason(line)),
        ("Submit", 19, lambda line: moment(line.row.history.job.submitted, "Unknown")),
        ("Start", 19, lambda line: moment(line.row.attempt.began if line.row.attempt else None, "Unknown")),
        ("End", 19, lambda line: moment(line.row.ended if line.is_over else None, "Unknown")),
        ("Elapsed", 10, _elapsed),
        ("ElapsedRaw", 10, lambda line: str(line.row.seconds)),
        ("Restarts", 8, lambda line: str(line.row.attempt.restart if line.row.attempt else 0)),
        ("Partition", 10, lambda line: "" if line.is_step else line.row.history.job.details["partition"]),
        ("Account", 10, lambda line: line.row.history.job.details["account"]),
        ("Comment", 14, lambda line: line.row.history.job.details["comment"]),
        ("User", 9, lambda line: "" if line.is_step else user_name()),
        ("UID", 6, lambda line: "" if line.is_step else str(os.getuid())),
        ("QOS", 10, lambda line: "" if line.is_step else "normal"),
        ("AllocCPUS", 10, lambda line: str(line.row.history.job.cpus if line.row.attempt else 0)),
        ("NCPUS", 10, lambda line: str(line.row.history.job.cpus if line.row.attempt else 0)),
        ("ReqCPUS", 8, lambda line: str(line.row.history.job.cpus)),
        ("ReqMem", 10, lambda line: "" if line.is_step else line.row.history.job.details["mem"]),
        ("MaxRSS", 10, lambda line: "1000K" if line.is_step and line.is_over else ""),
        ("NNodes", 8, lambda line: "1"),
        ("Timelimit", 10, lambda line: "" if line.is_step else line.row.time_limit),
        ("WorkDir", 20, lambda line: "" if line.is_step else line.row.history.job.folder),
    ]
}


def main(site: Site, words: list[str]) -> int:
    """Print the account; return the exit code."""
    if not site.settings.accounting:
        print("Slurm accounting storage is disabled", file=sys.stderr)
        return 1
    try:
        options, _ = read_options(words, _WITH_VALUE, _ALONE, permute=True)
        columns = [_column(part) for part in options.get("format", _DEFAULT_FORMAT).split(",") if part]
    except WrongOption as error:
        print(f"sacct: {error}", file=sys.stderr)
        return 1
    except LookupError as error:
        print(f'sacct: error: Invalid field requested: "{error.args[0]}"', file=sys.stderr)
        return 1
    delimiter = options.get("delimiter", "|")
    is_parsable = "parsable2" in options or "parsable" in options
    end = delimiter if "parsable" in options else ""
    printed: list[list[str]] = []
    if "noheader" not in options:
        printed.append([name for name, _, _ in columns])
        if not is_parsable:
            printed.append(["-" * abs(width) for _, width, _ in columns])
    try:
        printed += [[value(line) for _, _, value in columns] for line in _lines(site, options)]
    except ValueError as error:
        print(f"sacct: error: Invalid job id: {error}", file=sys.stderr)
        return 1
    for texts in printed:
        if is_parsable:
            sys.stdout.write(f"{delimiter.join(texts)}{end}\n")
        else:
            fitted = (_fit(text, width) for text, (_, width, _) in zip(texts, columns, strict=True))
            sys.stdout.write(f"{' '.join(fitted)} \n")
    return 0


def _column(part: str) -> tuple[str, int, Callable[[_Line], str]]:
    name, percent, width = part.partition("%")
    if name.lower() not in _FIELDS or (percent and not re.fullmatch(r"-?\d+", width)):
        raise LookupError(name)
    heading, default, value = _FIELDS[name.lower()]
    return heading, int(width) if percent else default, value


def _fit(text: str, width: int) -> str:
    size = abs(width)
    text = text if len(text) <= size else f"{text[: size - 1]}+"
    return text.ljust(size) if width < 0 else text.rjust(size)


def _lines(site: Site, options: dict[str, str]) -> Iterator[_Line]:
    names = options["name"].split(",") if "name" in options else None
    states = options["state"].upper().split(",") if "state" in options else None
    heard = (time.time() - site.settings.account_lag) * 1e6
    for job_id, slots in _wanted(site, options):
        history = site.queue.history(job_id)
        if history is None or (names is not None and history.name not in names):
            continue
        if history.job.submitted > heard:
            continue
        for row in rows(site, history, expand=slots is not None):
            if row.is_requeued and "duplicates" not in options:
                continue
            if slots is not None and not row.slots & slots:
                continue
            is_known = row.ended is None or row.ended <= heard
            status = row.status if is_known else (JobStatus.RUNNING if row.attempt else JobStatus.PENDING)
            if states is not None and status not in states:
                continue
            yield _Line(row, False, status)
            if "allocations" not in options and row.attempt is not None:
                yield _Line(row, True, status)


def _wanted(site: Site, options: dict[str, str]) -> Iterator[tuple[int, Indices | None]]:
    if "jobs" not in options:
        yield from ((job_id, None) for job_id in site.queue.ids())
        return
    for written in requests.split_job_ids(options["jobs"]):
        number, slots = requests.parse_job_id(written.partition(".")[0])
        found = find_job(site, number)
        if found is not None:
            yield found[0].job.id, slots if found[1] is None else found[1]
