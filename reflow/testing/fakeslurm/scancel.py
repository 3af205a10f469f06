"""The fake ``scancel``."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator

from ...executors.base import JobStatus
from ...executors.localqueue import JobHistory
from ...indices import Indices
from . import requests
from .listing import find_job, is_forgotten, recent_ids, user_name
from .options import WrongOption, read_options
from .site import Site

_WITH_VALUE = {
    "name": "n", "jobname": "", "state": "t", "user": "u", "signal": "s", "partition": "p", "account": "A",
    "clusters": "M", "nodelist": "w", "qos": "q", "reservation": "R", "wckey": "",
}  # fmt: skip
_ALONE = {
    "batch": "b", "full": "f", "quiet": "Q", "verbose": "v", "interactive": "i", "me": "", "hurry": "H",
    "version": "V", "ctld": "", "cron": "c",
}  # fmt: skip

_FILTERS = ("name", "jobname", "state", "user", "me", "partition", "account")


def main(site: Site, words: list[str]) -> int:
    """Cancel or signal what the words name; return the exit code."""
    try:
        options, written = read_options(words, _WITH_VALUE, _ALONE, permute=True)
        number = _signal_number(options["signal"]) if "signal" in options else None
    except LookupError as error:
        print(error.args[0], file=sys.stderr)
        return 1
    except WrongOption as error:
        print(f'scancel: {error}\nTry "scancel --help" for more information', file=sys.stderr)
        return 1
    if not written and not any(name in options for name in _FILTERS):
        print("scancel: error: No job identification provided", file=sys.stderr)
        return 1
    targets: list[tuple[JobHistory, Indices | None]] = []
    for text in (part for word in written for part in requests.split_job_ids(word)):
        try:
            targets.append(_target(site, text))
        except ValueError:
            print(f"scancel: error: Invalid job id {text}", file=sys.stderr)
            return 1
        except LookupError:
            # Slurm 22.05 says nothing about jobs that it does not know.
            continue
    if not written:
        targets = [(history, None) for history in site.queue.histories(recent_ids(site))]
    for history, slots in targets:
        if not _is_chosen(history, options):
            continue
        chosen = _in_state(history, slots, options.get("state"))
        if number is None or number == signal.SIGKILL:
            site.queue.cancel(history.job.id, chosen)
        else:
            site.queue.tell(history.job.id, number, chosen)
    return 0


def _target(site: Site, text: str) -> tuple[JobHistory, Indices | None]:
    number, slots = requests.parse_job_id(text)
    found = find_job(site, number)
    if found is None or is_forgotten(site, found[0]) or (slots is not None and not slots & found[0].slots):
        raise LookupError
    return found[0], slots if found[1] is None else found[1]


def _is_chosen(history: JobHistory, options: dict[str, str]) -> bool:
    names = options.get("name", options.get("jobname"))
    users = options.get("user")
    return (
        (names is None or history.name in names.split(","))
        and (users is None or bool({user_name(), str(os.getuid())} & set(users.split(","))))
        and ("partition" not in options or history.job.details["partition"] == options["partition"])
        and ("account" not in options or history.job.details["account"] == options["account"])
    )


def _in_state(history: JobHistory, slots: Indices | None, state: str | None) -> Indices | None:
    """Narrow slots (None for all) to those in that state; only PENDING and RUNNING can be cancelled."""
    if state is None:
        return slots
    status = {"PD": JobStatus.PENDING, "R": JobStatus.RUNNING}.get(state.upper())
    chosen = Indices(_matching(history, slots, status or state.upper()))
    return None if chosen == history.slots else chosen


def _matching(history: JobHistory, slots: Indices | None, wanted: str) -> Iterator[int]:
    for slot in history.slots if slots is None else slots & history.slots:
        if history.status(slot) == wanted:
            yield slot


def _signal_number(text: str) -> int:
    if text.isdecimal():
        return int(text)
    name = f"SIG{text.upper().removeprefix('SIG')}"
    if name not in signal.Signals.__members__:
        raise LookupError(f"Unknown job signal: {text}")
    return signal.Signals[name].value
