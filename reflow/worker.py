"""What runs on the compute nodes: ``python -m reflow.worker COMMAND ...``.

``run WAVE SLOT``
    run one slot of a wave and exit 0 when it succeeded, 1 when it did not
``sentinel MANIFEST RUN_ID WAVE SLOT``
    settle what the workers of a wave could not report, and dispatch what comes next
``serve``
    run the slots that a local run names on stdin, line by line

Start-up is on every element's bill: nothing here imports click, jinja2, rich, platformdirs, filelock or an executor
before it is known to be needed.
"""

from __future__ import annotations

import gc

if __name__ == "__main__":
    gc.disable()  # nothing of what is imported here is ever garbage, and to look for it takes 7 ms of a worker's 45

import faulthandler
import io
import os
import sys
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from . import log
from .asking import WORKERS_WAIT_SECONDS, is_due
from .elements import ElementRunner, Publisher
from .errors import ReflowError
from .indices import Indices
from .packs import BegunFile
from .paths import RunFolder
from .signals import Interruption
from .states import TaskState
from .stores.locking import is_taken
from .stores.spool import Spool
from .trust import require_trusted
from .waves import SlotRecord, WaveFile, WaveHeader

if TYPE_CHECKING:
    from .stores.records import CachedResult
    from .stores.sqlite import SqliteStore

#: How often a sentinel begins when something kills it.
SENTINEL_LIVES = 3

#: Exit code of a worker whose element did not succeed. Not 0, so that what follows it does not start.
FAILED = 1


class ManifestSource:
    """Finds results in the manifest; opened at the first question, because most workers have none."""

    def __init__(self, manifest: str) -> None:
        self._manifest = manifest
        self._opened: SqliteStore | None = None

    def published_output(self, instance: int) -> tuple[str, str] | None:
        """Return ``(output, output hash)`` of a successful instance, else None."""
        return self._store.published_output(instance)

    def lookup_cached(self, task_name: str, identities: Collection[str]) -> Mapping[str, CachedResult]:
        """Return the newest successful instance per identity; none where workers leave the manifest alone."""
        return {} if self._store.publish_only else self._store.lookup_cached(task_name, identities)

    def cached_output(self, result: CachedResult) -> str | None:
        """Return the JSON text of its output, None where it cannot be had any more."""
        return self._store.cached_output(result)

    def close(self) -> None:
        """Let go of the manifest."""
        if self._opened is not None:
            self._opened.close()

    @property
    def _store(self) -> SqliteStore:
        if self._opened is None:
            from .stores.sqlite import SqliteStore

            self._opened = SqliteStore(self._manifest)
        return self._opened


def run_slot(wave_path: str, slot: int) -> int:
    """Run one slot as a job of its own and return the exit code."""
    interruption = Interruption()
    interruption.install()
    require_trusted(wave_path, "the wave file")  # it says which code to run
    wave = WaveFile(wave_path)
    header = wave.header
    records = wave.elements(slot)
    source = ManifestSource(header.manifest)
    is_pack = len(records) > 1
    # The one result of a process is safe in a moment: see `after_report`. Saved work is deleted before that.
    sync = is_pack or bool(header.plan.checkpoint_parameters)
    publisher = Publisher(partial(Spool(header.manifest).publish, sync=sync), batched=is_pack)
    runner = ElementRunner(wave, publisher, source, interruption, own_logs=True, restart=_restart_count())
    if is_pack:
        begun = BegunFile(RunFolder(header.run_dir, header.run_id).begun(header.wave, slot))
        succeeded = run_pack(runner, records, publisher, source, interruption, begun)
    else:
        succeeded = runner.run(records[0]).state is TaskState.SUCCESS
    source.close()
    # The results are safe by now; what follows may fail or be killed, and then the sentinel does it.
    after_report(header.manifest, may_dispatch=header.dispatch)
    if header.dispatch:
        look_after_others(header)
    return 0 if succeeded else FAILED


def run_pack(
    runner: ElementRunner,
    records: Sequence[SlotRecord],
    publisher: Publisher,
    source: ManifestSource,
    interruption: Interruption,
    begun: BegunFile,
) -> bool:
    """Run the elements of one slot one after the other; return whether all have succeeded.

    One that fails does not keep the others from running. Those that have not begun when the process is told to end
    are left to reconcile, which knows why.
    """
    has_results = _restart_count() > 0  # the scheduler starts the job again: what it has finished stays finished
    succeeded = True
    try:
        for record in records:
            if interruption.received:
                return False
            if has_results and source.published_output(record.instance) is not None:
                continue
            begun.write(record.instance)
            succeeded = runner.run(record).state is TaskState.SUCCESS and succeeded
    finally:
        publisher.close()
        begun.close()
    return succeeded


def after_report(manifest: str, *, may_dispatch: bool) -> None:
    """Merge the spool if nobody else does, and dispatch the runs for which that ended a stage.

    After that this process's results survive a power failure: what is committed does; and a commit of whoever merges
    now is quicker than a sync of our own, which would have to wait for it.
    """
    try:
        if is_taken(f"{manifest}.lock"):
            return  # who has it looks into the spool after it let go; to open the manifest for that costs 10 ms
        from .stores.sqlite import SqliteStore

        with SqliteStore(manifest) as store:
            if store.publish_only:
                # A worker killed while it owns the lease would keep everybody else waiting: see stores/lease.py.
                store.spool.sync()
                return
            store.merge()
            if may_dispatch and store.list_dispatch_requests():
                from .dispatch import dispatch_requested

                dispatch_requested(store)
    except (ReflowError, OSError) as error:
        # Never an exit code: the element succeeded, and what follows it in a chain must not be dropped.
        log.warning("%s; the sentinel job will do it", error)
        Spool(manifest).sync()


def look_after_others(header: WaveHeader) -> None:
    """Settle elements of the run whose workers died, if nobody has asked the scheduler for a while."""
    if not is_due(RunFolder(header.run_dir, header.run_id), WORKERS_WAIT_SECONDS):
        return
    from .dispatch import look_after
    from .stores.sqlite import SqliteStore

    try:
        with SqliteStore(header.manifest) as store:
            look_after(store, header.run_id)
    except (ReflowError, OSError) as error:
        log.warning("%s; the sentinel job will do it", error)


def serve() -> int:
    """Run slots for a local run: each line on stdin is ``<slots> <stop on failure: 0 or 1> <wave file>``.

    Answers each with ``<number of slots done> <number of failures>`` once their reports are published.
    """
    interruption = Interruption()
    interruption.install()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # a library that prints while it is imported must not be taken for an answer
    waves: dict[str, WaveFile] = {}
    for line in sys.stdin:
        slots, stop, path = line.rstrip("\n").split(" ", 2)
        if path not in waves:
            waves = {path: WaveFile(path.encode().decode("unicode_escape"))}
        done, failures = run_slots(waves[path], Indices.parse(slots), interruption, stop_on_failure=stop == "1")
        answers.write(f"{done} {failures}\n")
        answers.flush()
        if interruption.received:
            return FAILED
    return 0


def run_slots(
    wave: WaveFile, slots: Indices, interruption: Interruption, *, stop_on_failure: bool, own_logs: bool = True
) -> tuple[int, int]:
    """Run several slots in this process; return how many were run and how many of them failed."""
    publisher = Publisher(Spool(wave.header.manifest).publish, batched=True)
    source = ManifestSource(wave.header.manifest)
    runner = ElementRunner(wave, publisher, source, interruption, own_logs=own_logs)
    done = failures = 0
    try:
        for _, record in wave.records(slots):
            failures += runner.run(record).state is not TaskState.SUCCESS
            done += 1
            if interruption.received or (failures and stop_on_failure):
                break
    finally:
        publisher.close()
        source.close()
    return done, failures


def sentinel(manifest: str, run_id: str, wave_id: int) -> int:
    """Settle a wave whose jobs have ended and dispatch what comes next."""
    code = _in_child()
    if code is not None:
        return code
    from .dispatch import watch_over
    from .stores.sqlite import SqliteStore

    with SqliteStore(manifest) as store:
        watch_over(store, run_id, wave_id)
    return 0


def _in_child() -> int | None:
    """Go on in a child process and return None there; in the parent return how the child ended.

    A child that a signal ends is replaced: behind a sentinel whose wave has died stands nobody, and what killed the
    workers (a full node, a person who tidies up) may strike the sentinel as well.
    """
    for _ in range(SENTINEL_LIVES):
        child = os.fork()
        if child == 0:
            return None
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code >= 0:
            return code
        log.warning("the sentinel was ended by signal %d and begins again", -code)
    return FAILED


def main(words: Sequence[str]) -> int:
    """Run one command and return the exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # what an element printed must outlive a SIGKILL
    faulthandler.enable()  # a segmentation fault in a library then leaves the Python lines in the element's log
    log.as_worker(os.environ.get("REFLOW_LOG_LEVEL", "WARNING"))
    try:
        match list(words):
            case ["run", wave, slot]:
                return run_slot(wave, int(slot))
            case ["sentinel", manifest, run_id, wave, _]:
                return sentinel(manifest, run_id, int(wave))
            case ["serve"]:
                return serve()
            case _:
                print(__doc__, file=sys.stderr)
                return 2
    except ReflowError as error:
        print(f"reflow: {error}", file=sys.stderr)
        return FAILED


def _restart_count() -> int:
    count = os.environ.get("SLURM_RESTART_COUNT", "0")
    return int(count) if count.isdecimal() else 0


if __name__ == "__main__":
    gc.freeze()
    gc.enable()
    sys.exit(main(sys.argv[1:]))
