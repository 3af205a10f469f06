"""The logs of instances: where each attempt wrote, what is left of those that never began, and following a live one."""

from __future__ import annotations

import codecs
import errno
import re
import shlex
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .attention import Attention
from .errors import UnknownTaskError
from .paths import RunFolder
from .retrying import INFRASTRUCTURE
from .spec import TaskPlan
from .states import FINAL, WAITING, RunState, TaskState
from .stores.records import AttemptRecord, TaskInstanceRecord
from .stores.sqlite import SqliteStore
from .wording import instance_name, shortened

#: How often a log that is followed is looked at, in seconds.
LOOK_SECONDS = 0.5

#: How long a log may go on growing after its instance has ended, in seconds: output that was buffered is written when
#: the worker exits, and file servers show it later.
LAST_WORDS_SECONDS = 1.5

#: How long the next attempt of an element that may be tried again by itself may let people wait.
NEXT_ATTEMPT_SECONDS = 20.0

#: Most lines that are shown of a log which many elements share.
SHARED_LINES = 40

_BLOCK = 1 << 16


@dataclass(frozen=True)
class Log:
    """One file with what an attempt printed, or with what its job's shell and the scheduler had to say."""

    path: Path
    #: Whether the attempt's worker wrote it, and nobody else.
    own: bool
    #: The element as the scheduler names it, ``53_4``, in a log to which other elements wrote too.
    job: str | None = None

    def text(self) -> str:
        """Return what is in the file; of one that elements share the lines that name this one, else the last ones."""
        text = self.path.read_text(errors="replace")
        if self.job is None:
            return text
        lines = text.splitlines()
        named = [line for line in lines if re.search(rf"\b{re.escape(self.job)}\b", line)]
        return "".join(f"{line}\n" for line in named or lines[-SHARED_LINES:])


class InstanceLogs:
    """The logs of one instance of a run."""

    def __init__(self, store: SqliteStore, folder: RunFolder, task: str, index: int | None) -> None:
        self._store = store
        self._folder = folder
        self._task = task
        self._index = index

    @property
    def name(self) -> str:
        """The instance as a person writes it."""
        return instance_name(self._task, self._index)

    def may_exist(self) -> bool:
        """Return whether the task has its instances by now."""
        tasks = self._store.summarize(self._folder.run_id)
        return any(task.task_name == self._task and task.width is not None for task in tasks)

    def retries(self) -> int:
        """Return how often the task is tried again without a person."""
        spec = self._store.get_task_spec_record(self._folder.run_id, self._task)
        return TaskPlan.from_json(spec.config).config.retries if spec and "config" in spec.config else 0

    def instance(self) -> TaskInstanceRecord:
        """Return the instance as it stands; `UnknownTaskError` tells what there is instead."""
        run_id = self._folder.run_id
        found = self._store.get_task_instance_record(run_id, self._task, self._index)
        if found is not None:
            return found
        (task,) = [each for each in self._store.summarize(run_id) if each.task_name == self._task]
        if not task.width:
            raise UnknownTaskError(
                f"task '{self._task}' of run '{run_id}' has not started: `reflow status {run_id}` tells why"
            )
        if self._index is None:
            failed = f"; failed: {shortened(task.failed)}" if task.failed else ""
            raise UnknownTaskError(
                f"task '{self._task}' is an array: name an element, {self._task}[0] to "
                f"{self._task}[{task.width - 1}]{failed}"
            )
        elements = f"'{self._task}' has {task.width} elements" if task.is_array else f"'{self._task}' is no array"
        raise UnknownTaskError(f"run '{run_id}' has no instance {self.name}: {elements}")

    def own(self, attempt: int) -> Path:
        """Return the file that the attempt's worker writes, or would have written."""
        return self._folder.element_log(self._task, self._index, attempt)

    def find(self, attempt: int | None = None) -> list[Log]:
        """Return the logs of an attempt, the newest unless one is named; what its wave left when it never began.

        `UnknownTaskError` names the attempts that there are.
        """
        instance = self.instance()
        job = instance.job_id
        if attempt is not None and attempt != instance.attempt:
            job = self._earlier(instance, attempt).job_id
        own = self.own(attempt or instance.attempt)
        return [Log(own, own=True)] if own.exists() else self._of_wave(job)

    def why_none(self, attempt: int | None = None) -> str:
        """Return why there is no log, and where it would be."""
        instance = self.instance()
        if instance.cached_from is not None:
            source = self._store.looks.instance(instance.cached_from)
            if source is not None:
                name = shlex.quote(instance_name(source.task_name, source.array_index))
                return (
                    f"{self.name} printed nothing, because its result was taken from an earlier run: "
                    f"`reflow logs {source.run_id} {name}` shows what that printed"
                )
        if instance.state in WAITING or instance.state is TaskState.SUBMITTED:
            return f"{self.name} has not begun, it is {instance.state}: its log will be {self.own(instance.attempt)}"
        return f"{self.name} left no log in {self.own(attempt or instance.attempt).parent}"

    def _earlier(self, instance: TaskInstanceRecord, attempt: int) -> AttemptRecord:
        earlier = self._store.list_attempts(instance.id)
        for each in earlier:
            if each.attempt == attempt:
                return each
        known = [f"{each.attempt} ({each.failure or each.state})" for each in earlier]
        known.append(f"{instance.attempt} ({instance.failure or instance.state})")
        raise UnknownTaskError(f"{self.name} has no attempt {attempt}: its attempts are {', '.join(known)}")

    def _of_wave(self, job_id: str | None) -> list[Log]:
        """Return what the element's wave and its sentinel left."""
        waves = [wave for wave in self._store.list_waves(self._folder.run_id) if wave.task_name == self._task]
        logs = []
        for wave in waves:
            if job_id is None or wave.job_id != job_id:
                continue
            slot = None
            if self._index is not None:
                slot = f"{job_id.partition(';')[0]}_{'?' if wave.offset is None else self._index - wave.offset}"
            logs.append(Log(self._folder.wave_log(wave.id, self._task), own=False, job=slot))
            logs.append(Log(self._folder.sentinel_log(wave.id), own=False))
        return [log for log in logs if log.path.exists() and log.path.stat().st_size]


def follow(
    logs: InstanceLogs, attention: Attention, attempt: int | None = None, *, tell: Callable[[str], None]
) -> Iterator[str]:
    """Yield what an instance prints, as it prints it, until it has ended; its next attempt too unless one is named.

    The file may come later than the question. `tell` gets a line whenever another attempt begins and at the end. The
    run is attended meanwhile, so that the end of an element whose worker died is seen.
    """
    told_waiting = False
    while not logs.may_exist() and attention.look() is RunState.RUNNING:
        if not told_waiting:
            tell(f"{logs.name} is not there yet: its task has not started")
            told_waiting = True
        time.sleep(LOOK_SECONDS)
    number = attempt or logs.instance().attempt
    if attempt is not None:
        logs.find(attempt)  # an attempt that is not there
    tail = _Tail(logs.own(number))
    quiet_since: float | None = None
    while True:
        state = attention.look()
        instance = logs.instance()
        grew = False
        for text in tail.read():
            grew = True
            yield text
        if attempt is None and instance.attempt != number:
            tell(f"{logs.name} begins attempt {instance.attempt}; attempt {number} is over")
            number, quiet_since = instance.attempt, None
            tail = _Tail(logs.own(number))
            continue
        over = instance.attempt > number or instance.state in FINAL or state is not RunState.RUNNING
        if not over or grew:
            quiet_since = None
        elif quiet_since is None:
            quiet_since = time.monotonic()
        elif time.monotonic() - quiet_since >= _patience(logs, instance, number, state, attempt):
            rest = tail.finish()
            if rest:
                yield rest
            if not tail.began:
                yield from (log.text() for log in logs.find(number))
            tell(f"{logs.name} attempt {number}: {_ending(logs, instance, number)}")
            return
        if not told_waiting and not tail.began and not over:
            tell(f"{logs.name} is {instance.state}; its log will be {logs.own(number)}")
            told_waiting = True
        time.sleep(LOOK_SECONDS)


def _patience(
    logs: InstanceLogs, instance: TaskInstanceRecord, number: int, run: RunState, attempt: int | None
) -> float:
    """Return for how long, in seconds, a log may be quiet after the end of its attempt before it counts as over."""
    is_last_word = attempt is not None or instance.attempt > number or instance.state is not TaskState.FAILED
    if is_last_word or run is not RunState.RUNNING:
        return LAST_WORDS_SECONDS
    may_go_on = instance.failure in INFRASTRUCTURE or instance.attempt <= logs.retries()
    return NEXT_ATTEMPT_SECONDS if may_go_on else LAST_WORDS_SECONDS


def _ending(logs: InstanceLogs, instance: TaskInstanceRecord, number: int) -> str:
    if instance.attempt == number:
        return str(instance.failure or instance.state)
    return "over"


class _Tail:
    """Reads what is added to a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self.began = False

    def read(self) -> Iterator[str]:
        """Yield what came since the last call; nothing while there is no file yet."""
        # Opened anew each time: on NFS that asks the server for the file's size, and a descriptor that is kept open
        # may show an old one for up to a minute.
        try:
            with open(self._path, "rb") as file:
                self.began = True
                file.seek(self._offset)
                while added := file.read(_BLOCK):
                    self._offset += len(added)
                    yield self._decoder.decode(added)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ESTALE):
                raise

    def finish(self) -> str:
        """Return what is left of a character that was cut off."""
        return self._decoder.decode(b"", final=True)
