"""`SqliteStore`: the manifest in one SQLite file, shared by all processes of all runs that use it."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TypeVar

from .. import codec, log, paths
from ..indices import Indices
from ..plan import RunSnapshot
from ..remaking import Remake
from ..states import RunState, TaskState
from . import cache, expansions, instance_table, merging, remakes, run_table, snapshots, task_table, wave_table
from .connection import P, Query
from .records import (
    TASKS_OWN,
    AttemptRecord,
    CachedResult,
    InFlight,
    NewInstance,
    Report,
    Resources,
    ResultToCheck,
    RunRecord,
    SlotRow,
    TaskInstanceRecord,
    TaskSpecRecord,
    TaskSummary,
    WaveRecord,
    WaveState,
)
from .rows import pack_index, to_instance
from .sqlite_rows import SqliteRows

T = TypeVar("T")

# Rows of a wave that are read at a time.
_PAGE = 10_000

# Instances that one turn marks as submitted: 0.3 s.
_TURN_ROWS = 200_000


class StoreConfig(Protocol):
    """What `SqliteStore.default_path` wants to know of a configuration."""

    @property
    def store_path(self) -> Path | None:
        """Where the manifest is, None for the user's cache folder."""


class SqliteStore(SqliteRows):
    """The manifest at `path`. Opens it at the first use; several threads may share one store.

    With `readonly` it never writes and never creates, and is correct while others write. `publish_only` chooses, when
    the manifest is created, that workers only publish and one process at a time merges under a lease: what reflow
    chooses by itself where locks between hosts cannot be relied on.
    """

    @classmethod
    def for_run_dir(cls, run_dir: Path | str, readonly: bool = False) -> SqliteStore:
        """Return the store whose manifest lies in a run directory."""
        return cls(Path(run_dir) / "manifest.db", readonly)

    @classmethod
    def default_path(cls, config: StoreConfig | None = None) -> Path:
        """Return ``REFLOW_STORE_PATH``, else the path of the configuration, else the user's cache folder's."""
        chosen = os.environ.get("REFLOW_STORE_PATH") or (config.store_path if config is not None else None)
        return Path(chosen).expanduser() if chosen else paths.cache_dir() / "manifest.db"

    @classmethod
    def default(cls, config: StoreConfig | None = None, readonly: bool = False) -> SqliteStore:
        """Return the store at `default_path`."""
        return cls(cls.default_path(config), readonly)

    def __enter__(self) -> SqliteStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Records, for the engine and the command line.

    def create_run(self, run: RunRecord, specs: Sequence[TaskSpecRecord]) -> None:
        self._write(task_table.create_run, run, codec.dumps(dict(run.parameters)), specs)

    def update_run_settings(self, run_id: str, settings: Mapping[str, Any]) -> None:
        self._write(run_table.set_settings, run_id, settings)

    def get_run_record(self, run_id: str) -> RunRecord | None:
        return self._read(run_table.find, run_id)

    def list_run_records(
        self,
        graph_name: str | None = None,
        user_id: str | None = None,
        *,
        limit: int | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        status: RunState | None = None,
    ) -> list[RunRecord]:
        return self._read(run_table.find_all, graph_name, user_id, limit=limit, since=since, until=until, status=status)

    def get_task_spec_record(self, run_id: str, task_name: str) -> TaskSpecRecord | None:
        found = self._read(task_table.find_specs, run_id, task_name)
        return found[0] if found else None

    def list_task_spec_records(self, run_id: str) -> list[TaskSpecRecord]:
        return self._read(task_table.find_specs, run_id)

    def get_task_instance_record(
        self, run_id: str, task_name: str, array_index: int | None
    ) -> TaskInstanceRecord | None:
        row = self._read(instance_table.find, run_id, task_name, array_index)
        return to_instance(row, self.output_files) if row else None

    def list_task_instance_records(
        self,
        run_id: str,
        task_name: str | None = None,
        states: Collection[TaskState] | None = None,
        *,
        limit: int | None = None,
    ) -> list[TaskInstanceRecord]:
        found = self._read(instance_table.find_all, run_id, task_name, states, limit=limit)
        return [to_instance(row, self.output_files) for row in found]

    def list_attempts(self, instance: int) -> list[AttemptRecord]:
        """Return the attempts that a retry or a release has put behind an instance, oldest first."""
        return self._read(instance_table.attempts, instance)

    def list_remarks(self, instance: int) -> list[Report]:
        """Return the final reports that came after their attempt had ended otherwise, in the order of their times."""
        return self._read(merging.remarks, instance)

    def summarize(self, run_id: str) -> list[TaskSummary]:
        return self._read(task_table.summarize, run_id)

    # Reports.

    def publish(self, reports: Sequence[Report], *, sync: bool = True) -> None:
        self.spool.publish(reports, sync=sync)

    def merge(self, *, wait: bool = False) -> bool:
        return self._merger.merge(wait=wait)

    def apply(self, reports: Sequence[Report]) -> int:
        merged = self._write(merging.apply, [self.output_files.set_aside(report) for report in reports])
        for instance in sorted(merged.unknown):
            log.warning("a report names instance %d, which is not in the manifest '%s'", instance, self.path)
        return merged.changed

    def published_output(self, instance: int) -> tuple[str, str] | None:
        return self._results.published(instance)

    # Dispatch.

    def request_dispatch(self, run_id: str) -> None:
        self._write(run_table.set_dispatch_requested, run_id, True)

    def dispatch_requested(self, run_id: str) -> bool:
        return self._read(run_table.dispatch_requested, run_id)

    def list_dispatch_requests(self) -> list[str]:
        return self._read(run_table.list_dispatch_requests)

    def take_dispatch_request(self, run_id: str) -> None:
        self._write(run_table.take_dispatch_request, run_id)

    def hold_back(self, run_id: str, refill_at: int) -> None:
        self._write(task_table.hold_back, run_id, refill_at)

    def snapshot(self, run_id: str) -> RunSnapshot:
        return self._read(snapshots.snapshot, run_id)

    def expand(self, run_id: str, task_name: str, instances: Iterable[NewInstance], width: int) -> None:
        token = expansions.new_token()
        # Between the turns, because the iterable may hash, and hashing has no place in a turn.
        for piece in expansions.pieces(task_name, instances, width):
            added = expansions.Added.NOT_YET
            while added is expansions.Added.NOT_YET:
                added = self._write(expansions.add, run_id, task_name, token, piece)
            if added is expansions.Added.NEEDLESS:
                return

    def fail_task(self, run_id: str, task_name: str, error_text: str) -> None:
        self._write(task_table.fail, run_id, task_name, error_text)

    def reserve(
        self,
        run_id: str,
        task_name: str,
        indices: Indices,
        *,
        slots: Indices | None,
        offset: int | None,
        after_waves: Collection[int] = (),
        pack: int = 1,
        resources: Resources = TASKS_OWN,
    ) -> WaveRecord | None:
        return self._write(wave_table.reserve, run_id, task_name, indices, slots, offset, after_waves, pack, resources)

    def list_waves(self, run_id: str, states: Collection[WaveState] | None = None) -> list[WaveRecord]:
        return self._read(wave_table.find_all, run_id, states)

    def wave_rows(self, wave_id: int) -> Iterator[SlotRow]:
        # In pages, so that neither a million rows nor a read transaction is held while the caller works.
        page = self._read(wave_table.rows, wave_id, pack_index(None) - 1, _PAGE)
        while page:
            yield from page
            page = self._read(wave_table.rows, wave_id, pack_index(page[-1].index), _PAGE)

    def wave_is_known_to_run(self, wave_id: int) -> bool:
        return self._read(wave_table.is_known_to_run, wave_id)

    def record_submission(self, wave_id: int, job_id: str) -> bool:
        reached: int | None = pack_index(None) - 1
        while reached is not None:
            reached, wanted = self._write(wave_table.record_submission, wave_id, job_id, reached, _TURN_ROWS)
        return wanted

    def record_sentinel(self, wave_id: int, job_id: str) -> None:
        self._write(wave_table.record_sentinel, wave_id, job_id)

    def refuse_wave(self, wave_id: int, error_text: str) -> None:
        self._write(wave_table.refuse, wave_id, error_text)

    def withdraw_wave(self, wave_id: int) -> None:
        self._write(wave_table.withdraw, wave_id)

    def release(self, run_id: str, task_name: str, indices: Indices) -> int:
        return self._merge_and(instance_table.release, run_id, task_name, indices)

    def list_in_flight(self, run_id: str) -> list[InFlight]:
        return self._read(wave_table.list_in_flight, run_id)

    def instance_ids(self, run_id: str, task_name: str) -> list[int]:
        return self._read(instance_table.ids, run_id, task_name)

    def outputs(self, run_id: str, task_name: str) -> list[tuple[int, str, str]]:
        return list(self.iterate_outputs(run_id, task_name))

    def iterate_outputs(self, run_id: str, task_name: str) -> Iterator[tuple[int, str, str]]:
        return ((max(index, 0), text, digest) for index, text, digest in self._results.outputs(run_id, task_name))

    def output_hashes(self, run_id: str, task_name: str, start: int, stop: int) -> list[tuple[int, str]]:
        return self._read(instance_table.output_hashes, run_id, task_name, Indices.range(start, stop))

    def results_to_check(self, run_id: str, task_name: str, mark: str | None) -> Iterator[ResultToCheck]:
        return self._results.to_check(run_id, task_name, mark)

    def cached_output(self, result: CachedResult) -> str | None:
        return self._results.cached(result)

    def lookup_cached(self, task_name: str, identities: Collection[str]) -> dict[str, CachedResult]:
        return self._read(cache.lookup, task_name, identities)

    def finish_run(self, run_id: str, status: RunState) -> bool:
        return self._write(run_table.finish, run_id, status)

    def cancel(self, run_id: str, task_name: str | None = None) -> int:
        return self._merge_and(instance_table.cancel, run_id, task_name)

    def try_again(self, run_id: str, task_name: str, indices: Indices) -> int:
        return self._write(instance_table.try_again, run_id, task_name, indices)

    def retry(self, run_id: str, task_name: str | None = None, indices: Indices | None = None) -> int:
        return self._merge_and(instance_table.retry, run_id, task_name, indices)

    def remake(self, run_id: str, damaged: Mapping[tuple[str, int], Indices]) -> Remake:
        planned = self._merge_and(remakes.plan, run_id, damaged)
        for turn in remakes.turns(planned):
            self._write(remakes.give_up, run_id, turn)
        return planned

    def _merge_and(self, change: Query[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a change that overrules workers, after what they have published: a published result is never lost."""
        self._merger.merge(wait=True)  # most of it in turns that others can get in between
        with self._database.holding():
            self._merger.merge_held()
            return self._database.transaction(change, *args, **kwargs)
