"""The spool: reports that are published and not yet merged, in the folder ``<manifest>.spool``.

A worker that cannot open the manifest, or must not, needs nothing but this module. One publish makes one directory
entry, atomically. Small payloads are the target of a symlink: one call, and two round trips on NFS where a file takes
seven. Larger ones, or where symlinks are short (XFS: 1,023 bytes) or missing, are files with a temporary name first.

The name of an entry says what is in it, ``<first>-<last>-<attempt>-<rank>-<unique>.reports``: the smallest and largest
instance, and the largest attempt and rank.
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from .. import log
from ..deferred import dataclass
from ..errors import ManifestError
from ..states import FINAL, RANK, TaskState
from . import sharing
from .files import sync_folder
from .outputs import OutputFiles
from .records import Failure, Report

_ENDING = ".reports"
_REJECTED = "rejected"

# Linux allows 4,095 bytes; some file systems fewer, and then refuse.
_LONGEST_LINK = 4_000

# A temporary file older than this was left by a process that died while it wrote.
_STALE_SECONDS = 3_600

_REPORTABLE = FINAL | {TaskState.RUNNING, TaskState.PENDING}

# SQLite's integers have 64 bits.
_LARGEST = 2**63 - 1


@dataclass(frozen=True)
class Published:
    """One entry of the spool and what it holds."""

    name: str
    reports: tuple[Report, ...]
    #: Bytes of its payload.
    size: int


class Spool:
    """The spool beside one manifest. Creates nothing before the first publish."""

    def __init__(self, manifest: Path | str) -> None:
        self.path = Path(f"{manifest}.spool")
        self._outputs = OutputFiles(manifest)
        self._published = 0

    def publish(self, reports: Sequence[Report], *, sync: bool = True) -> None:
        """Put the reports into the spool as one entry; they survive the death of this process from then on.

        With `sync` final ones survive that of the node too: a local disk, and the client of some cluster file systems,
        keep a new name in memory for a while. Raises `ManifestError` when the folder cannot be written.
        """
        if not reports:
            return
        reports = [self._outputs.set_aside(report) for report in reports]
        payload = encode(reports)
        try:
            self._put(self._new_name(reports), payload)
        except OSError as error:
            raise ManifestError(
                f"cannot publish to the spool '{self.path}': {error.strerror}; check the quota, the permissions and "
                "the mount of that folder"
            ) from error
        if sync and any(report.state in FINAL for report in reports):
            self.sync()

    def sync(self) -> None:
        """Let all that is in the spool survive a power failure."""
        sync_folder(self.path)

    def is_empty(self) -> bool:
        """Look afresh and return whether nothing waits to be merged."""
        return next(self._names(), None) is None

    def waiting(self) -> list[str]:
        """Look afresh and return the names of all entries that wait to be merged; changes nothing."""
        return sorted(self._names())

    def names(self) -> list[str]:
        """Look afresh and return the names of all entries that wait to be merged, in the order of their instances.

        Deletes temporary files that a process left behind when it died.
        """
        names = []
        for entry in self._entries():
            if _is_published(entry.name):
                names.append(entry.name)
            elif entry.name.startswith("."):
                _delete_if_stale(entry)
        return sorted(names, key=_first_instance)

    def read(self, name: str) -> Published | None:
        """Read one entry; None when it cannot be read now (gone meanwhile, or the file system stumbles).

        An entry that makes no sense is set aside, and None returned.
        """
        try:
            payload = self._payload(name)
            reports = decode(payload)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno != errno.ESTALE:  # how NFS says that another host has deleted it
                log.warning("cannot read the report '%s' now: %s", self.path / name, error.strerror)
            return None
        except ValueError as error:
            self.reject(name, str(error))
            return None
        return Published(name, reports, len(payload))

    def remove(self, names: Sequence[str]) -> None:
        """Delete entries whose reports are committed."""
        for name in names:
            with suppress(FileNotFoundError):
                os.unlink(self.path / name)

    def reject(self, name: str, reason: str) -> None:
        """Set an entry aside into the folder ``rejected``, for a person to look at, and log why."""
        folder = self.path / _REJECTED
        sharing.make_folder(folder)
        with suppress(FileNotFoundError):
            os.rename(self.path / name, folder / name)
            log.warning("set aside the report '%s': %s", folder / name, reason)

    def rejected(self) -> list[str]:
        """Return the names of the entries that were set aside."""
        try:
            return sorted(os.listdir(self.path / _REJECTED))
        except FileNotFoundError:
            return []

    def read_rejected(self, name: str) -> tuple[Report, ...]:
        """Read an entry that was set aside; nothing when it makes no sense."""
        try:
            return decode(self._payload(f"{_REJECTED}/{name}"))
        except (OSError, ValueError):
            return ()

    def delete_rejected(self, names: Sequence[str]) -> None:
        """Delete entries that were set aside."""
        self.remove([f"{_REJECTED}/{name}" for name in names])

    def success_of(self, instance: int, attempt: int) -> Report | None:
        """Return a SUCCESS report of the instance that waits to be merged, of that attempt or a later one."""
        for name in self._names():
            if not _may_hold_success(name, instance):
                continue
            published = self.read(name)
            for report in published.reports if published else ():
                if report.instance == instance and report.attempt >= attempt and report.state is TaskState.SUCCESS:
                    return report
        return None

    def _names(self) -> Iterator[str]:
        return (entry.name for entry in self._entries() if _is_published(entry.name))

    def _entries(self) -> Iterator[os.DirEntry[str]]:
        # Listed afresh by path each time: a kept directory descriptor was up to 30 s old on NFS.
        try:
            with os.scandir(self.path) as entries:
                yield from entries
        except FileNotFoundError:
            return

    def _new_name(self, reports: Sequence[Report]) -> str:
        self._published += 1
        instances = [report.instance for report in reports]
        attempt = max(report.attempt for report in reports)
        rank = max(RANK[report.state] for report in reports)
        unique = f"{os.getpid():x}.{self._published:x}.{os.urandom(6).hex()}"
        return f"{min(instances)}-{max(instances)}-{attempt}-{rank}-{unique}{_ENDING}"

    def _put(self, name: str, payload: bytes) -> None:
        try:
            self._put_entry(name, payload)
        except FileNotFoundError:
            # No folder yet; or a temporary file that is gone: taken for a dead process's, or renamed by a request of
            # which a client of NFS missed the answer. Then the report comes twice, which does no harm.
            sharing.make_folder(self.path)
            self._put_entry(name, payload)
            sync_folder(self.path.parent)  # a power failure must not take the folder with all that is in it

    def _put_entry(self, name: str, payload: bytes) -> None:
        if len(payload) < _LONGEST_LINK and self._put_link(name, payload):
            return
        temporary = self.path / f".{name}"
        descriptor = sharing.open_file(temporary, os.O_WRONLY | os.O_EXCL)
        try:
            with open(descriptor, "wb") as file:
                file.write(payload)
                file.flush()
                os.fsync(descriptor)
            os.rename(temporary, self.path / name)
        except OSError:
            with suppress(OSError):  # the first error is the one to tell
                os.unlink(temporary)
            raise

    def _put_link(self, name: str, payload: bytes) -> bool:
        try:
            os.symlink(payload, os.fsencode(self.path / name))
        except FileNotFoundError:
            raise
        except FileExistsError:
            # A client of NFS that missed the server's answer asks again, and finds what it made itself: nobody else
            # makes this name. It may even be merged by now, so there is nothing to compare.
            return True
        except OSError as error:
            if error.errno in (errno.ENAMETOOLONG, errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
                return False
            raise
        return True

    def _payload(self, name: str) -> bytes:
        path = os.fsencode(self.path / name)
        try:
            return os.readlink(path)
        except OSError as error:
            if error.errno != errno.EINVAL:  # not a symlink
                raise
        with open(path, "rb") as file:
            return file.read()


def _is_published(name: str) -> bool:
    return name.endswith(_ENDING) and not name.startswith(".")


def _first_instance(name: str) -> int:
    first = name.partition("-")[0]
    return int(first) if first.isdecimal() else 0


def _delete_if_stale(entry: os.DirEntry[str]) -> None:
    # Its owner may finish it, or another process delete it, at the same time.
    with suppress(FileNotFoundError):
        if time.time() - entry.stat(follow_symlinks=False).st_mtime > _STALE_SECONDS:
            os.unlink(entry.path)


def encode(reports: Sequence[Report]) -> bytes:
    """Write reports as JSON in ASCII, fields at their defaults left out."""
    return json.dumps([_to_json(report) for report in reports], separators=(",", ":")).encode("ascii")


def decode(payload: bytes) -> tuple[Report, ...]:
    """Read what `encode` wrote; `ValueError` when it makes no sense. Unknown fields are a newer reflow's: ignored."""
    try:
        records = json.loads(payload)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(records, list):
        raise ValueError("it is not a list of reports")
    return tuple(_from_json(record) for record in records)


_NAMES = Report.__match_args__
_DEFAULTS = {name: getattr(Report, name) for name in _NAMES if hasattr(Report, name)}

_NUMBERS = frozenset(
    {"instance", "attempt", "at", "pid", "restart", "exit_code", "signal", "started_at", "cached_from", "max_rss"}
)
_TEXTS = frozenset({"node", "output", "output_hash", "identity", "error", "output_file", "exception"})


def _to_json(report: Report) -> dict[str, Any]:
    values = {name: getattr(report, name) for name in _NAMES}
    return {name: value for name, value in values.items() if name not in _DEFAULTS or value != _DEFAULTS[name]}


def _from_json(record: Any) -> Report:
    if not isinstance(record, dict):
        raise ValueError("a report is not an object")
    values = {name: value for name, value in record.items() if name in _NAMES}
    for name, value in values.items():
        _validate(name, value)
    state = TaskState(values.get("state"))
    if state not in _REPORTABLE:
        raise ValueError(f"a worker cannot report {state}")
    values["state"] = state
    if values.get("failure") is not None:
        values["failure"] = Failure(values["failure"])
    try:
        report = Report(**values)
    except TypeError as error:
        raise ValueError(str(error)) from error
    if report.attempt < 1:
        raise ValueError(f"attempts count from 1, not {report.attempt}")
    return report


def _validate(name: str, value: Any) -> None:
    if value is None and name in _DEFAULTS and _DEFAULTS[name] is None:
        return
    if name in _NUMBERS and (type(value) is not int or abs(value) > _LARGEST):
        raise ValueError(f"'{name}' is {value!r} instead of an integer")
    if name in _TEXTS and not isinstance(value, str):
        raise ValueError(f"'{name}' is {value!r} instead of text")


def _may_hold_success(name: str, instance: int) -> bool:
    parts = name.split("-", 4)
    if len(parts) != 5 or not all(part.isdecimal() for part in parts[:4]):
        return True  # not a name that we make: look inside
    first, last, _, rank = (int(part) for part in parts[:4])
    return first <= instance <= last and rank == RANK[TaskState.SUCCESS]
