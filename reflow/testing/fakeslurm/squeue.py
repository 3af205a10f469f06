"""The fake ``squeue``."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator

from ...amounts import format_duration
from ...executors.base import JobStatus
from ...indices import Indices
from . import requests
from .listing import Row, find_job, is_old, moment, recent_ids, rows, user_name
from .options import WrongOption, read_options
from .site import Site

_WITH_VALUE = {
    "jobs": "j", "states": "t", "name": "n", "user": "u", "format": "o", "Format": "O", "partition": "p",
    "account": "A", "sort": "S", "clusters": "M", "qos": "q", "nodelist": "w", "steps": "s", "iterate": "i",
}  # fmt: skip
_ALONE = {"noheader": "h", "array": "r", "me": "", "long": "l", "verbose": "v", "version": "V", "all": "a"}

_DEFAULT_FORMAT = "%.18i %.9P %.8j %.8u %.2t %.10M %.6D %R"

_COMPACT = {
    "PENDING": "PD", "RUNNING": "R", "COMPLETED": "CD", "FAILED": "F", "CANCELLED": "CA", "TIMEOUT": "TO",
    "OUT_OF_MEMORY": "OOM", "NODE_FAIL": "NF", "PREEMPTED": "PR",
}  # fmt: skip


def _node(row: Row) -> str:
    return "" if row.attempt is None or row.status is JobStatus.PENDING else row.attempt.node


def _time_used(row: Row) -> str:
    """Print how long it has run with as many digits as it takes, ``0:07``."""
    text = format_duration(row.seconds)
    return text.removeprefix("00:").removeprefix("0") if row.seconds < 3600 else text.removeprefix("0")


#: Each field: name in ``--Format``, letter in ``--format`` (or ''), heading, value.
_FIELDS: list[tuple[str, str, str, Callable[[Row], str]]] = [
    ("jobarrayid", "i", "JOBID", lambda row: row.id),
    ("jobid", "A", "JOBID", lambda row: str(row.raw_id)),
    ("arrayjobid", "F", "ARRAY_JOB_ID", lambda row: str(row.history.job.id)),
    ("arraytaskid", "K", "ARRAY_TASK_ID", lambda row: "N/A" if row.history.job.slots is None else str(row.slots)),
    ("name", "j", "NAME", lambda row: row.history.name),
    ("state", "T", "STATE", lambda row: row.status),
    ("statecompact", "t", "ST", lambda row: _COMPACT[row.status]),
    ("exit_code", "", "EXIT_CODE", lambda row: str(row.wait_status)),
    ("nodelist", "N", "NODELIST", _node),
    ("reason", "r", "REASON", lambda row: row.reason),
    ("reasonlist", "R", "NODELIST(REASON)", lambda row: _node(row) or f"({row.reason})"),
    ("username", "u", "USER", lambda row: user_name()),
    ("userid", "U", "USER", lambda row: str(os.getuid())),
    ("partition", "P", "PARTITION", lambda row: row.history.job.details["partition"]),
    ("account", "a", "ACCOUNT", lambda row: row.history.job.details["account"]),
    ("comment", "k", "COMMENT", lambda row: row.history.job.details["comment"]),
    ("qos", "q", "QOS", lambda row: "normal"),
    ("timeused", "M", "TIME", _time_used),
    ("timelimit", "l", "TIME_LIMIT", lambda row: row.time_limit),
    ("submittime", "V", "SUBMIT_TIME", lambda row: moment(row.history.job.submitted, "N/A")),
    ("starttime", "S", "START_TIME", lambda row: moment(row.attempt.began if row.attempt else None, "N/A")),
    ("endtime", "e", "END_TIME", lambda row: moment(row.ended, "N/A")),
    ("workdir", "Z", "WORK_DIR", lambda row: row.history.job.folder),
    ("numcpus", "C", "CPUS", lambda row: str(row.history.job.cpus)),
    ("numnodes", "D", "NODES", lambda row: "1"),
    ("dependency", "E", "DEPENDENCY", lambda row: row.history.job.details["dependency"] or "(null)"),
    ("restartcnt", "", "RESTART_COUNT", lambda row: str(row.attempt.restart if row.attempt else 0)),
    ("minmemory", "m", "MIN_MEMORY", lambda row: row.history.job.details["mem"]),
    ("prioritylong", "Q", "PRIORITY", lambda row: "1"),
]
_BY_NAME = {name: (heading, value) for name, _, heading, value in _FIELDS}
_BY_LETTER = {letter: (heading, value) for _, letter, heading, value in _FIELDS if letter}


def main(site: Site, words: list[str]) -> int:
    """Print the queue; return the exit code."""
    try:
        options, _ = read_options(words, _WITH_VALUE, _ALONE, permute=True)
        columns = list(_long_columns(options["Format"]) if "Format" in options else _columns(options))
    except WrongOption as error:
        print(f'squeue: {error}\nTry "squeue --help" for more information', file=sys.stderr)
        return 1
    lines = []
    if "noheader" not in options:
        lines.append("".join(_fit(text, place) for place in columns for text in [place[1]]))
    try:
        for row in _chosen(site, options):
            lines.append("".join(_fit(place[2](row) if place[2] else place[1], place) for place in columns))
    except LookupError:
        print("slurm_load_jobs error: Invalid job id specified", file=sys.stderr)
        return 1
    except ValueError as error:
        print(f"squeue: error: Invalid job id: {error}", file=sys.stderr)
        return 1
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 0


#: One column: how it is cut and padded (signed width, 0 for none), its heading or literal text, its value.
_Column = tuple[int, str, "Callable[[Row], str] | None"]


def _columns(options: dict[str, str]) -> Iterator[_Column]:
    """Read ``--format``: literal text, and ``%`` with width and letter."""
    for literal, percent, dot, width, letter in re.findall(
        r"([^%]+)|(%)(\.?)(\d*)(\w)", options.get("format", _DEFAULT_FORMAT)
    ):
        if not percent:
            yield 0, literal, None
        elif letter not in _BY_LETTER:
            raise WrongOption(f"error: Invalid job format specification: {letter}")
        else:
            heading, value = _BY_LETTER[letter]
            size = int(width or 0)
            yield (-size if dot else size), heading, value


def _long_columns(text: str) -> Iterator[_Column]:
    """Read ``--Format``: ``name[:[.][size][suffix]]``; without anything behind the name it is cut at 20."""
    for part in text.split(","):
        name, colon, rest = part.partition(":")
        match = re.fullmatch(r"(\.?)(\d*)(.*)", rest, re.DOTALL)
        if name.lower() not in _BY_NAME or match is None:
            raise WrongOption(f"error: Invalid job format specification: {part}")
        heading, value = _BY_NAME[name.lower()]
        size = int(match[2] or (0 if match[3] else 20))
        yield (-size if match[1] else size), heading, value
        if colon and match[3]:
            yield 0, match[3], None


def _fit(text: str, column: _Column) -> str:
    size = abs(column[0])
    if size == 0:
        return text
    return text[:size].rjust(size) if column[0] < 0 else text[:size].ljust(size)


def _chosen(site: Site, options: dict[str, str]) -> Iterator[Row]:
    states = options.get("states", "PENDING,RUNNING").upper().split(",")
    names = options["name"].split(",") if "name" in options else None
    if "user" in options and not {user_name(), str(os.getuid())} & set(options["user"].split(",")):
        return
    wanted: list[tuple[int, Indices | None]] = [(job_id, None) for job_id in recent_ids(site)]
    if "jobs" in options:
        wanted = list(_wanted(site, options["jobs"]))
        if not wanted:
            raise LookupError
    for job_id, slots in wanted:
        history = site.queue.history(job_id)
        if history is None or (names is not None and history.name not in names):
            continue
        partitions = options.get("partition")
        if partitions is not None and history.job.details["partition"] not in partitions.split(","):
            continue
        for row in rows(site, history, expand="array" in options or slots is not None):
            if row.is_requeued or (slots is not None and not row.slots & slots):
                continue
            if row.ended is not None and is_old(site, row.ended):
                continue
            if "ALL" in states or row.status in states or _COMPACT[row.status] in states:
                yield row


def _wanted(site: Site, text: str) -> Iterator[tuple[int, Indices | None]]:
    """Yield the jobs asked for that squeue knows."""
    for written in requests.split_job_ids(text):
        number, slots = requests.parse_job_id(written)
        found = find_job(site, number)
        if found is not None and (found[0].ended_at is None or not is_old(site, found[0].ended_at)):
            yield found[0].job.id, slots if found[1] is None else found[1]
