"""The files of a local queue: jobs, their event logs, and the locks that order what happens.

::

    lock                 held (flock) for every change
    runner.lock          held by the runner while it lives; names its process
    wakeup               FIFO on which commands wake the runner
    settings.json        `QueueSettings`
    last_id              the newest id given out
    names                one JSON array ``[id, name]`` a line
    live/<id>            an empty file for every job that is not over
    jobs/<id>/           job.json, environment.json, script, events

A job's folder appears by a rename and its event log is only ever appended to, so readers need no lock.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .history import Event, JobHistory
from .records import QueuedJob, QueueSettings


class QueueFolder:
    """Reads and writes the files of one queue. Methods that change something say that they want the lock held."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._jobs = path / "jobs"
        self._live = path / "live"
        self._wakeup = path / "wakeup"
        self.runner_log = path / "runner.log"

    def exists(self) -> bool:
        """Whether the queue was ever created, and not removed since."""
        return self._wakeup.exists()

    def create(self) -> None:
        """Make the folders and files; may be called again by many processes at once."""
        # The environments of jobs hold people's secrets.
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._jobs.mkdir(exist_ok=True)
        self._live.mkdir(exist_ok=True)
        if not self._wakeup.exists():
            try:
                os.mkfifo(self._wakeup, 0o600)
            except FileExistsError:
                # Another process was faster.
                return

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the queue's lock; waits for it."""
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def hold_runner_lock(self, process: str) -> int | None:
        """Take the lock that proves a runner's life and return its descriptor; None when another holds it.

        Wants the lock held, as does everybody who probes it: a probe takes it for a moment.
        """
        descriptor = os.open(self.path / "runner.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, process.encode(), 0)
        return descriptor

    def has_runner(self) -> bool:
        """Whether a runner is alive. Wants the lock held."""
        descriptor = os.open(self.path / "runner.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def runner_process(self) -> str:
        """Return what the newest runner wrote about its process, '' when there never was one."""
        return _read_text(self.path / "runner.lock")

    def open_wakeup(self) -> int:
        """Open the FIFO for the runner. For writing too: without any writer it would be at its end."""
        return os.open(self._wakeup, os.O_RDWR | os.O_NONBLOCK)

    def wake_runner(self) -> None:
        """Tell the runner, if there is one, to look for news."""
        try:
            descriptor = os.open(self._wakeup, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            # Nobody reads: there is no runner, and the next one begins by looking.
            return
        try:
            os.write(descriptor, b".")
        except BlockingIOError:
            # It is full of what the runner has not read yet: it will look anyway.
            return
        finally:
            os.close(descriptor)

    def read_settings(self) -> QueueSettings | None:
        """Return the settings, None before the first submit."""
        text = _read_text(self.path / "settings.json")
        return QueueSettings(**json.loads(text)) if text else None

    def write_settings(self, settings: QueueSettings) -> None:
        """Replace the settings. Wants the lock held."""
        _replace(self.path / "settings.json", json.dumps(asdict(settings)))

    def new_ids(self, count: int) -> range:
        """Give out `count` ids, above all earlier ones. Wants the lock held."""
        first = self.last_id() + 1
        _replace(self.path / "last_id", str(first + count - 1))
        return range(first, first + count)

    def last_id(self) -> int:
        """Return the newest id that was given out, 0 when there is none."""
        return int(_read_text(self.path / "last_id") or 0)

    def add(self, job: QueuedJob, script: bytes, environment: Mapping[str, str]) -> None:
        """Write a new job. Wants the lock held."""
        place = Path(tempfile.mkdtemp(prefix="new-", dir=self.path))
        (place / "job.json").write_text(json.dumps(job.to_json()))
        (place / "environment.json").write_text(json.dumps(dict(environment)))
        (place / "script").write_bytes(script)
        (place / "events").touch()
        (self._live / str(job.id)).touch()
        with open(self.path / "names", "a", encoding="utf-8") as names:
            names.write(json.dumps([job.id, job.name]) + "\n")
        place.rename(self._jobs / str(job.id))

    def script(self, job_id: int) -> Path:
        """The queue's own copy of the script: what the submitter does to hers afterwards changes nothing."""
        return self._jobs / str(job_id) / "script"

    def environment(self, job_id: int) -> dict[str, str]:
        """Return the environment the job was submitted with."""
        return dict(json.loads(_read_text(self._jobs / str(job_id) / "environment.json")))

    def find(self, name: str) -> list[int]:
        """Return the ids of the jobs submitted under that name, oldest first, forgotten ones not."""
        wanted = json.dumps(name)
        lines = _read_text(self.path / "names").splitlines()
        ids = [json.loads(line)[0] for line in lines if line.endswith(f", {wanted}]")]
        return [job_id for job_id in ids if (self._jobs / str(job_id)).exists()]

    def live_ids(self) -> list[int]:
        """Return the ids of the jobs that are not over, oldest first."""
        return _ids_in(self._live)

    def all_ids(self) -> list[int]:
        """Return the ids of all jobs that are not forgotten, oldest first."""
        return _ids_in(self._jobs)

    def retire(self, job_id: int) -> None:
        """Mark a job as over. Wants the lock held."""
        (self._live / str(job_id)).unlink(missing_ok=True)

    def revive(self, job_id: int) -> None:
        """Mark a job as open again. Wants the lock held."""
        (self._live / str(job_id)).touch()

    def changed_at(self, job_id: int) -> float:
        """Return when something last happened to a job, in seconds since 1970; 0 when it is forgotten."""
        try:
            return (self._jobs / str(job_id) / "events").stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def forget(self, job_ids: Sequence[int]) -> None:
        """Remove every trace of these jobs, which must be over. Wants the lock held."""
        gone = set(job_ids)
        for job_id in gone:
            shutil.rmtree(self._jobs / str(job_id), ignore_errors=True)
        lines = _read_text(self.path / "names").splitlines(keepends=True)
        _replace(self.path / "names", "".join(line for line in lines if json.loads(line)[0] not in gone))

    def open(self, job_id: int) -> JobFile | None:
        """Return the job as a file that can be followed, None when it is not known."""
        text = _read_text(self._jobs / str(job_id) / "job.json")
        if not text:
            return None
        return JobFile(JobHistory(QueuedJob.from_json(json.loads(text))), self._jobs / str(job_id) / "events")


class JobFile:
    """One job's history and how far its event log has been read."""

    def __init__(self, history: JobHistory, path: Path) -> None:
        self.history = history
        self._path = path
        self._offset = 0

    def refresh(self) -> bool:
        """Take in the events written since the last call; return whether there were any."""
        try:
            with open(self._path, "rb") as log:
                log.seek(self._offset)
                text = log.read()
        except FileNotFoundError:
            return False
        # A line that is still being written has no end yet.
        complete = text[: text.rfind(b"\n") + 1]
        self._offset += len(complete)
        events = _parse(complete)
        self.history.apply(events)
        return bool(events)

    def append(self, events: Sequence[Event]) -> None:
        """Write events, and take them in together with those that others wrote before. Wants the lock held."""
        lines = "".join(f"{json.dumps(event, separators=(',', ':'))}\n" for event in events)
        descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND)
        try:
            size = os.fstat(descriptor).st_size
            # A writer killed inside a write leaves half a line; close it off, so that only that line is lost.
            torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            _write_all(descriptor, (f"\n{lines}" if torn else lines).encode())
        finally:
            os.close(descriptor)
        self.refresh()


def _parse(text: bytes) -> list[Event]:
    try:
        # One call for all lines is four times quicker than one for each.
        return list(json.loads(b"[" + b",".join(text.splitlines()) + b"]"))
    except ValueError:
        return [event for line in text.splitlines() if (event := _parse_line(line)) is not None]


def _parse_line(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        # Half a line of a writer that was killed; its reader never saw it either.
        return None


def _write_all(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content) :]


def _ids_in(folder: Path) -> list[int]:
    try:
        return sorted(int(name) for name in os.listdir(folder))
    except FileNotFoundError:
        return []


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def _replace(path: Path, text: str) -> None:
    new = path.with_name(path.name + ".new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)
