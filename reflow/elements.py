"""Run the elements of one wave and publish what became of them: the one way, whoever the caller is.

A Slurm job runs one slot in a process of its own, which is one element or a pack of them; a local run takes many slots
in one process. Both end here.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, Protocol

from . import checkpoints, clock, codec, identity, log
from .amounts import parse_time_limit
from .code import CodeReference, load_tasks
from .deferred import replace
from .errors import CodecError, InterruptReason, ManifestError, ReflowError, TaskInterrupted
from .inputs import Value
from .own_identity import OwnIdentity
from .params import Checkpoint
from .paths import RunFolder
from .signals import Interruption
from .states import TaskState
from .stores.records import CachedResult, Failure, Report
from .waves import SlotRecord, WaveFile

#: How long results may stay in memory before they are published, when one process runs many elements, in seconds.
FLUSH_SECONDS = 0.25

#: How long a result waits in memory for a disk that is full, or on which the quota is used up: until somebody has seen
#: to it, or the time limit comes. How long for any other refusal, and how long it pauses between two tries at most.
FULL_DISK_SECONDS = 86_400.0
REFUSED_SECONDS = 300.0
LONGEST_PAUSE = 10.0

#: The last part of a traceback that the manifest keeps, in characters; the log has all of it.
LONGEST_ERROR = 8_000


_INTERRUPTIONS = {
    InterruptReason.TIMEOUT: Failure.TIMEOUT,
    InterruptReason.PREEMPTED: Failure.PREEMPTED,
    InterruptReason.CANCELLED: Failure.CANCELLED,
    InterruptReason.UNKNOWN: Failure.INTERRUPTED,
}


class InputMissing(ReflowError):
    """The parent element has no result: this element cannot run yet and goes back to waiting."""


class ResultSource(Protocol):
    """Where an element finds its parent's result, merged in the manifest or still in the spool, and earlier ones."""

    def published_output(self, instance: int) -> tuple[str, str] | None:
        """Return ``(output, output hash)`` of a successful instance, else None."""

    def lookup_cached(self, task_name: str, identities: Collection[str]) -> Mapping[str, CachedResult]:
        """Return the newest successful instance per identity; none where workers leave the manifest alone."""

    def cached_output(self, result: CachedResult) -> str | None:
        """Return the JSON text of its output, None where it cannot be had any more."""


class Publisher:
    """Publishes reports: each at once, or batched when one process runs many elements."""

    def __init__(self, publish: Callable[[Sequence[Report]], None], *, batched: bool) -> None:
        self._publish = publish
        self._batched = batched
        self._pending: list[Report] = []
        self._guard = threading.Lock()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, report: Report) -> None:
        """Publish the report now, or within `FLUSH_SECONDS` when batched."""
        with self._guard:
            self._pending.append(report)
            if self._batched and self._thread is None:
                # An element may run for hours: what its neighbours finished before it must not wait in memory.
                self._thread = threading.Thread(target=self._flush_regularly, daemon=True)
                self._thread.start()
        if not self._batched:
            self.flush()

    def flush(self) -> None:
        """Publish what is pending; returns once it is safe."""
        with self._guard:
            if self._pending:
                publish_stubbornly(self._publish, _without_superseded(self._pending))
                self._pending = []

    def close(self) -> None:
        """Publish the rest."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join()
        self.flush()

    def _flush_regularly(self) -> None:
        while not self._closed.wait(FLUSH_SECONDS):
            self.flush()


def _without_superseded(reports: Sequence[Report]) -> list[Report]:
    """Leave out each RUNNING whose element ended within the same batch: the final report knows when it began."""
    ended = {report.instance for report in reports if report.state is not TaskState.RUNNING}
    return [report for report in reports if report.state is not TaskState.RUNNING or report.instance not in ended]


def publish_stubbornly(publish: Callable[[Sequence[Report]], None], reports: Sequence[Report]) -> None:
    """Publish, trying again while the file system refuses: a result is worth the wait.

    Raises `ManifestError` when it refused for as long as `patience_with` that error allows. Reports that only say
    that elements run are dropped at the first refusal: how they end tells when they began, and they are not held up.
    """
    started = time.monotonic()
    pause = 0.1
    while True:
        try:
            publish(reports)
            return
        except ManifestError as error:
            if all(report.state is TaskState.RUNNING for report in reports):
                log.warning("%s; the report that the element runs is left out", error)
                return
            if time.monotonic() + pause - started > patience_with(error):
                raise
            log.warning("%s; trying again in %.1f s", error, pause)
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)


def patience_with(error: ManifestError) -> float:
    """Return for how many seconds a refused report is worth trying again."""
    refusal = error.__cause__
    is_full = isinstance(refusal, OSError) and refusal.errno in (errno.ENOSPC, errno.EDQUOT)
    return FULL_DISK_SECONDS if is_full else REFUSED_SECONDS


class ElementRunner:
    """Runs slots of one wave in this process."""

    def __init__(
        self,
        wave: WaveFile,
        publisher: Publisher,
        source: ResultSource,
        interruption: Interruption,
        *,
        own_logs: bool,
        restart: int = 0,
    ) -> None:
        self._wave = wave
        self._publisher = publisher
        self._source = source
        self._interruption = interruption
        self._folder = RunFolder(wave.header.run_dir, wave.header.run_id)
        self._own_logs = own_logs
        self._restart = restart
        self._node = os.environ.get("SLURMD_NODENAME") or os.uname().nodename
        limit = wave.header.plan.config.element_time
        self._longest = None if limit is None else parse_time_limit(limit)
        self._task: Any = None
        self._shared: dict[str, Any] | None = None

    def run(self, record: SlotRecord) -> Report:
        """Run one element, publish RUNNING and how it ended, and return the last report.

        That is RUNNING still when the scheduler ended it and only the scheduler knows why: it may start it again.
        """
        started = Report(
            instance=record.instance,
            attempt=record.attempt,
            state=TaskState.RUNNING,
            at=clock.now(),
            node=self._node,
            pid=os.getpid(),
            restart=self._restart,
        )
        with self._log_of(record):
            self._publisher.add(started)
            ended = self._attempt(record, replace(started, started_at=started.at))
            if ended.state is not TaskState.RUNNING:
                self._publisher.add(ended)
            if ended.state is TaskState.SUCCESS and self._wave.header.plan.checkpoint_parameters:
                self._publisher.flush()  # the work is needed until the result is safe
                checkpoints.remove(self._folder.checkpoint(record.instance))
        return ended

    def _attempt(self, record: SlotRecord, started: Report) -> Report:
        """Load, call, encode; whatever goes wrong becomes the report of a failure."""
        try:
            with self._interruption.interruptible():
                arguments, parents = self._arguments(record)
                own = OwnIdentity(self._wave.header, record, parents, self._source, self._task)
                earlier = own.earlier_result()
                if earlier is not None:
                    return self._taken_over(started, own.identity, earlier)
                with self._interruption.limited(self._longest):
                    returned = self._task.function(**arguments)
            text = codec.dumps(returned, self._task.signature.returns)
            return replace(
                started,
                state=TaskState.SUCCESS,
                at=clock.now(),
                output=text,
                output_hash=identity.hash_value(text, own.fingerprints()),
                identity=own.after_the_run(),
            )
        except InputMissing as error:
            log.warning("%s", error)
            return replace(started, state=TaskState.PENDING, attempt=record.attempt + 1, at=clock.now())
        except TaskInterrupted as error:
            failed = self._failed(started, _INTERRUPTIONS[error.reason], error)
            if error.reason is InterruptReason.UNKNOWN and self._interruption.received:
                return replace(started, state=TaskState.RUNNING)
            return or_going_on(failed, self._folder)
        except CodecError as error:
            return self._failed(started, Failure.WORKER, error, words=f"task '{self._name}': {error}")
        except ReflowError as error:
            return self._failed(started, Failure.WORKER, error, words=str(error))
        except SystemExit as error:
            return self._failed(started, Failure.EXIT, error)
        except Exception as error:  # noqa: BLE001 (the user's function may raise anything)
            return self._failed(started, Failure.EXCEPTION, error)

    @property
    def _name(self) -> str:
        return self._wave.header.plan.name

    def _arguments(self, record: SlotRecord) -> tuple[dict[str, Any], dict[str, Value]]:
        """Return what the function is called with, and the results of the parent elements as they are stored."""
        if self._shared is None:
            self._task = self._load_task()
            self._shared = self._shared_arguments()
        arguments, parents = dict(self._shared), {}
        for parameter, encoded in record.inputs.items():
            arguments[parameter] = self._decode(parameter, encoded)
        for parameter, parent in record.parents.items():
            found = self._source.published_output(parent)
            if found is None:
                raise InputMissing(
                    f"task '{self._name}'[{record.index}]: its parent element has no result yet; back to waiting"
                )
            parents[parameter] = Value(*found)
            arguments[parameter] = self._decode(parameter, json.loads(parents[parameter].text))
        for parameter in self._wave.header.plan.checkpoint_parameters:
            arguments[parameter] = self._saved_work(record)
        return arguments, parents

    def _saved_work(self, record: SlotRecord) -> Checkpoint:
        path = self._folder.checkpoint(record.instance)
        return checkpoints.SavedWork(path, record.attempt, resume=self._wave.header.plan.config.resume)

    def _shared_arguments(self) -> dict[str, Any]:
        header = self._wave.header
        texts = {**header.plan.arguments, **header.shared}
        shared = {parameter: self._decode(parameter, json.loads(text)) for parameter, text in texts.items()}
        shared.update({parameter: Path(header.run_dir) for parameter in header.plan.run_dir_parameters})
        return shared

    def _load_task(self) -> Any:
        # A process of its own works on the run's copy; the caller's process on its live functions.
        tasks = load_tasks(CodeReference.from_json(self._wave.header.code), from_copies=self._own_logs)
        if self._name not in tasks:
            raise ReflowError(
                f"the workflow has no task '{self._name}' any more: the pipeline was changed after the run was "
                "submitted; restore it, or submit a new run"
            )
        return tasks[self._name]

    def _decode(self, parameter: str, encoded: Any) -> Any:
        try:
            return codec.decode(encoded, self._task.signature.parameters[parameter].annotation)
        except CodecError as error:
            raise CodecError(f"parameter '{parameter}': {error}") from None

    def _taken_over(self, started: Report, own_identity: str, earlier: CachedResult) -> Report:
        print(f"reflow: the result of run {earlier.run_id} is used again", file=sys.stderr, flush=True)
        return replace(
            started,
            state=TaskState.SUCCESS,
            at=clock.now(),
            output=self._source.cached_output(earlier),
            output_hash=earlier.output_hash,
            identity=own_identity,
            cached_from=earlier.instance,
        )

    def _failed(self, started: Report, failure: Failure, error: BaseException, words: str | None = None) -> Report:
        text = words if words is not None else _traceback_of(error)
        print(text.rstrip("\n"), file=sys.stderr, flush=True)
        return replace(
            started,
            state=TaskState.FAILED,
            at=clock.now(),
            error=text[-LONGEST_ERROR:].rstrip("\n"),
            failure=failure,
            exit_code=_exit_code(error) if isinstance(error, SystemExit) else None,
            exception=_class_names(error) if failure is Failure.EXCEPTION else "",
        )

    @contextmanager
    def _log_of(self, record: SlotRecord) -> Iterator[None]:
        path = self._folder.element_log(self._name, record.index, record.attempt)
        with redirected(path) if self._own_logs else nullcontext():
            yield


def or_going_on(failed: Report, folder: RunFolder) -> Report:
    """Return the report of a failure, or that the element goes on from what it has saved, at its next attempt."""
    if not checkpoints.goes_on(folder.checkpoint(failed.instance), failed.attempt, failed.failure):
        return failed
    return replace(failed, state=TaskState.PENDING, attempt=failed.attempt + 1)


@contextmanager
def redirected(path: Path) -> Iterator[None]:
    """Send stdout and stderr, of this process and its children, to the end of the file for the body's duration.

    Where the file cannot be made (a full disk) they stay as they are: a log is not worth a result.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    except OSError as error:
        log.warning("the log '%s' cannot be written (%s); what the element prints stays here", path, error.strerror)
        yield
        return
    _flush()
    kept = [os.dup(1), os.dup(2)]
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)
    try:
        yield
    finally:
        _flush()
        for number, copy in zip((1, 2), kept, strict=True):
            os.dup2(copy, number)
            os.close(copy)


def _flush() -> None:
    with suppress(OSError):  # what a full disk does not take is lost, and the element succeeded all the same
        sys.stdout.flush()
        sys.stderr.flush()


def _class_names(error: BaseException) -> str:
    """Return the names of the exception's class and of those it inherits from, by which `retry_on` finds it."""
    return " ".join(
        each.__qualname__ if each.__module__ == "builtins" else f"{each.__module__}.{each.__qualname__}"
        for each in type(error).__mro__
        if each is not object
    )


def _exit_code(error: SystemExit) -> int:
    if error.code is None:
        return 0
    return error.code if isinstance(error.code, int) else 1


def _traceback_of(error: BaseException) -> str:
    import traceback  # most elements succeed

    return "".join(traceback.format_exception(_from_users_code(error)))


def _from_users_code(error: BaseException) -> BaseException:
    """Drop this module's frames from the top of the traceback: the user looks for her own lines."""
    frame = error.__traceback__
    while frame is not None and frame.tb_frame.f_code.co_filename == __file__ and frame.tb_next is not None:
        frame = frame.tb_next
    return error.with_traceback(frame)
