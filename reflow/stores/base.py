"""The interfaces of the manifest: `Store`, row by row for callers, and `EngineStore`, in bulk for the engine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from ..indices import Indices
from ..plan import RunSnapshot
from ..remaking import Remake
from ..states import RunState, TaskState
from .records import (
    TASKS_OWN,
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
)


class Store(ABC):
    """The manifest, row by row. A move that the table of states forbids changes nothing, raises nothing and is logged.

    ``indices=[]`` means none; ``indices=None`` means all.
    """

    @abstractmethod
    def init(self) -> None:
        """Create or migrate the manifest. May be called again at any time, by many processes at once."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the file; idempotent. The store reopens by itself when it is used again."""

    @abstractmethod
    def insert_run(self, run_id: str, graph_name: str, user_id: str, parameters: Mapping[str, Any]) -> None:
        """Record a new run, status RUNNING. A known `run_id` raises `ValueError`."""

    @abstractmethod
    def get_run(self, run_id: str) -> dict[str, Any] | None:
        """Return the run as a dict (``run_id graph_name user_id created_at status parameters``) or None."""

    @abstractmethod
    def get_run_parameters(self, run_id: str) -> dict[str, Any]:
        """Return the run's parameters; unknown run: `KeyError`."""

    @abstractmethod
    def update_run_status(self, run_id: str, status: RunState) -> None:
        """Set the status of the run."""

    @abstractmethod
    def list_runs(
        self,
        graph_name: str | None = None,
        user_id: str | None = None,
        *,
        limit: int | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        status: RunState | None = None,
    ) -> list[dict[str, Any]]:
        """Return runs as dicts, newest first."""

    @abstractmethod
    def insert_task_spec(
        self,
        run_id: str,
        task_name: str,
        is_array: bool,
        config_json: str | Mapping[str, Any],
        dependencies: Sequence[str],
    ) -> None:
        """Persist one task specification and its dependencies; the same key again replaces it."""

    @abstractmethod
    def list_task_dependencies(self, run_id: str, task_name: str) -> list[str]:
        """Return the names of the tasks it depends on, sorted."""

    @abstractmethod
    def insert_task_instance(
        self,
        run_id: str,
        task_name: str,
        array_index: int | None,
        state: TaskState,
        input_payload: Any,
        identity: str = "",
        input_hash: str = "",
    ) -> int:
        """Record one instance and return its database id; `array_index` None for a singleton."""

    @abstractmethod
    def get_task_instance(self, run_id: str, task_name: str, array_index: int | None) -> dict[str, Any] | None:
        """Return one instance as a dict, or None."""

    @abstractmethod
    def list_task_instances(
        self, run_id: str, task_name: str | None = None, states: Collection[TaskState] | None = None
    ) -> list[dict[str, Any]]:
        """Return instances as dicts, ordered by task and index."""

    @abstractmethod
    def count_task_instances(self, run_id: str, task_name: str) -> int:
        """Return how many instances the task has; 0 for an unknown one."""

    @abstractmethod
    def get_singleton_output(self, run_id: str, task_name: str) -> Any:
        """Return the output of the successful singleton, else None."""

    @abstractmethod
    def get_array_outputs(self, run_id: str, task_name: str) -> list[Any]:
        """Return the outputs of the successful elements, in index order."""

    @abstractmethod
    def get_output_hash(self, run_id: str, task_name: str, array_index: int | None = None) -> str:
        """Return the output hash of the successful instance, else ''."""

    @abstractmethod
    def get_all_output_hashes(self, run_id: str, task_name: str) -> list[str]:
        """Return the output hashes of all successful instances, in index order."""

    @abstractmethod
    def dependency_is_satisfied(self, run_id: str, task_name: str) -> bool:
        """Return whether it has instances and all succeeded, or is an array known to be empty."""

    @abstractmethod
    def update_task_submitted(
        self, run_id: str, task_name: str, job_id: str, *, indices: Iterable[int] | None = None
    ) -> None:
        """Make PENDING and RETRYING instances of the task SUBMITTED with that job id."""

    @abstractmethod
    def update_task_running(self, instance_id: int) -> None:
        """Record that a worker runs it."""

    @abstractmethod
    def update_task_success(self, instance_id: int, output: Any, output_hash: str = "") -> None:
        """Record its output."""

    @abstractmethod
    def update_task_failed(self, instance_id: int, error_text: str) -> None:
        """Record its failure."""

    @abstractmethod
    def update_task_cancelled(self, instance_id: int) -> None:
        """Record that it was cancelled."""

    @abstractmethod
    def mark_for_retry(self, instance_id: int) -> None:
        """Make a FAILED or CANCELLED instance RETRYING: job id, output and error cleared, attempt counted up."""

    @abstractmethod
    def find_cached(self, task_name: str, identity: str) -> dict[str, Any] | None:
        """Return the most recent successful instance with that identity over all runs, or None; '' finds none."""

    @abstractmethod
    def task_state_summary(self, run_id: str) -> dict[str, dict[str, int]]:
        """Return ``{task: {state: count}}``, states that do not occur left out."""

    @abstractmethod
    def fail_pending_tasks(
        self, run_id: str, task_name: str, error_text: str, indices: Iterable[int] | None = None
    ) -> int:
        """Make PENDING, RETRYING and SUBMITTED instances FAILED with that text, never RUNNING ones; return how many."""


class EngineStore(Store):
    """The manifest as the engine uses it: each write is one turn, however many rows it touches.

    Values pass as encoded JSON text and are never decoded here.
    """

    @abstractmethod
    def create_run(self, run: RunRecord, specs: Sequence[TaskSpecRecord]) -> None:
        """Record a run with all its tasks in one turn, and request its first dispatch."""

    @abstractmethod
    def update_run_settings(self, run_id: str, settings: Mapping[str, Any]) -> None:
        """Replace what later dispatches of the run work with."""

    @abstractmethod
    def get_run_record(self, run_id: str) -> RunRecord | None:
        """Return one run, or None."""

    @abstractmethod
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
        """Return runs, newest first."""

    @abstractmethod
    def get_task_spec_record(self, run_id: str, task_name: str) -> TaskSpecRecord | None:
        """Return one task specification, or None."""

    @abstractmethod
    def list_task_spec_records(self, run_id: str) -> list[TaskSpecRecord]:
        """Return all task specifications in the order in which they were recorded."""

    @abstractmethod
    def get_task_instance_record(
        self, run_id: str, task_name: str, array_index: int | None
    ) -> TaskInstanceRecord | None:
        """Return one instance, or None."""

    @abstractmethod
    def list_task_instance_records(
        self,
        run_id: str,
        task_name: str | None = None,
        states: Collection[TaskState] | None = None,
        *,
        limit: int | None = None,
    ) -> list[TaskInstanceRecord]:
        """Return instances ordered by task and index."""

    @abstractmethod
    def summarize(self, run_id: str) -> list[TaskSummary]:
        """Return what `status` shows, tasks in the order of the run; does not scan the instances that went well."""

    # -- reports ---------------------------------------------------------------------------------------------

    @abstractmethod
    def publish(self, reports: Sequence[Report], *, sync: bool = True) -> None:
        """Put reports into the spool as one entry; returns once they will survive the death of this process.

        With `sync` final ones survive that of the node too.
        """

    @abstractmethod
    def merge(self, *, wait: bool = False) -> bool:
        """Merge the spool if the lock is free (or wait for it); return whether the spool was seen empty.

        Publish first, then merge: the holder looks once more after it has released, so that no report is
        stranded while any process lives. A merge that ends the last in-flight instance of a task, or that records
        a failure in a task which other arrays follow, requests a dispatch of that run.
        """

    @abstractmethod
    def apply(self, reports: Sequence[Report]) -> int:
        """Merge these reports directly, in one turn, by the same rule; return how many changed something."""

    @abstractmethod
    def published_output(self, instance: int) -> tuple[str, str] | None:
        """Return ``(output, output hash)`` of a successful instance, merged or still in the spool, else None."""

    # -- dispatch --------------------------------------------------------------------------------------------

    @abstractmethod
    def request_dispatch(self, run_id: str) -> None:
        """Note that the run has to be looked at."""

    @abstractmethod
    def dispatch_requested(self, run_id: str) -> bool:
        """Return whether someone noted so since the last `take_dispatch_request`."""

    @abstractmethod
    def list_dispatch_requests(self) -> list[str]:
        """Return the ids of all RUNNING runs that have to be looked at: a merge may settle others' reports too."""

    @abstractmethod
    def take_dispatch_request(self, run_id: str) -> None:
        """Clear the note. The dispatcher calls it before it takes its snapshot, and looks again after it is done."""

    @abstractmethod
    def hold_back(self, run_id: str, refill_at: int) -> None:
        """Note that more is to be submitted once no more than so many instances are in flight.

        A merge that gets there requests a dispatch; `take_dispatch_request` clears the note.
        """

    @abstractmethod
    def snapshot(self, run_id: str) -> RunSnapshot:
        """Return the run for `plan.next_steps`; `UnknownRunError` if there is none."""

    @abstractmethod
    def expand(self, run_id: str, task_name: str, instances: Iterable[NewInstance], width: int) -> None:
        """Create all instances of a task and record its width; a second expansion changes nothing.

        A wide array takes several turns. Until the last one the task counts as not expanded, also when its process
        dies meanwhile: the next expansion begins from nothing. `ValueError` if there are not `width` instances.
        Rows with `cached_from` are created as SUCCESS with that instance's output and hash; `ResultRemoved`, and the
        task stays not expanded, when that one has no such success of the same identity any more.
        """

    @abstractmethod
    def fail_task(self, run_id: str, task_name: str, error_text: str) -> None:
        """Record that the task as a whole cannot go on. A retry clears it."""

    @abstractmethod
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
        """Record the intent to submit these waiting instances as one wave, in one turn.

        Slot and index match as `WaveRecord.offset` says; the waves `after_waves` are followed slot by slot. Only
        instances that are PENDING or RETRYING and belong to no wave are taken; if not all of them are, nothing is
        recorded and None is returned: someone else was faster. None too when the run is not RUNNING. The job name is
        unique over all manifests.
        """

    @abstractmethod
    def list_waves(self, run_id: str, states: Collection[Any] | None = None) -> list[WaveRecord]:
        """Return the run's waves, oldest first."""

    @abstractmethod
    def wave_rows(self, wave_id: int) -> Iterator[SlotRow]:
        """Yield the instances of a wave in slot order."""

    @abstractmethod
    def wave_is_known_to_run(self, wave_id: int) -> bool:
        """Return whether any instance of the wave is beyond SUBMITTED, which proves that the scheduler has it."""

    @abstractmethod
    def record_submission(self, wave_id: int, job_id: str) -> bool:
        """Record the job id and make the wave's waiting instances SUBMITTED; False for a run that was cancelled.

        A wide wave takes several turns, and is an intent with a job id until the last.
        """

    @abstractmethod
    def record_sentinel(self, wave_id: int, job_id: str) -> None:
        """Record the id of the wave's sentinel job."""

    @abstractmethod
    def refuse_wave(self, wave_id: int, error_text: str) -> None:
        """Record that the scheduler refused the wave for good: its waiting instances become FAILED (class REFUSED)."""

    @abstractmethod
    def withdraw_wave(self, wave_id: int) -> None:
        """Give up the intent of a wave that the scheduler has surely not got: its instances belong to no wave again."""

    @abstractmethod
    def release(self, run_id: str, task_name: str, indices: Indices) -> int:
        """Put in-flight instances that the scheduler dropped back to waiting, at the next attempt; return how many."""

    @abstractmethod
    def list_in_flight(self, run_id: str) -> list[InFlight]:
        """Return every SUBMITTED or RUNNING instance whose wave has a job id."""

    @abstractmethod
    def instance_ids(self, run_id: str, task_name: str) -> list[int]:
        """Return the database ids of the task's instances in index order."""

    @abstractmethod
    def outputs(self, run_id: str, task_name: str) -> list[tuple[int, str, str]]:
        """Return ``(index, output JSON text, output hash)`` of the successes in index order; 0 for a singleton."""

    @abstractmethod
    def iterate_outputs(self, run_id: str, task_name: str) -> Iterator[tuple[int, str, str]]:
        """Yield what `outputs` returns, read some thousands at a time."""

    @abstractmethod
    def output_hashes(self, run_id: str, task_name: str, start: int, stop: int) -> list[tuple[int, str]]:
        """Return ``(index, output hash)`` of the successes ``start <= index < stop`` in index order."""

    @abstractmethod
    def results_to_check(self, run_id: str, task_name: str, mark: str | None) -> Iterator[ResultToCheck]:
        """Yield the successes whose output's text has the mark in it, or is a file, in index order; None: all."""

    @abstractmethod
    def cached_output(self, result: CachedResult) -> str | None:
        """Return the output JSON text of a cached result; None when its file is missing or damaged: recompute."""

    @abstractmethod
    def lookup_cached(self, task_name: str, identities: Collection[str]) -> dict[str, CachedResult]:
        """Return the newest successful instance per identity over all runs, in one query for the whole array."""

    @abstractmethod
    def finish_run(self, run_id: str, status: RunState) -> bool:
        """Move a RUNNING run to a final status; False when it was not RUNNING any more."""

    @abstractmethod
    def cancel(self, run_id: str, task_name: str | None = None) -> int:
        """Make all that is not final CANCELLED, and the run too if no task is named, in one turn; return how many."""

    @abstractmethod
    def try_again(self, run_id: str, task_name: str, indices: Indices) -> int:
        """Make these FAILED instances RETRYING at their next attempt, without a person; return how many.

        Nothing happens in a run that is not RUNNING. Unlike with `retry`, the attempt counts against the budgets.
        """

    @abstractmethod
    def retry(self, run_id: str, task_name: str | None = None, indices: Indices | None = None) -> int:
        """Make FAILED and CANCELLED instances RETRYING at their next attempt and the run RUNNING, in one turn.

        Their last attempt is kept in the history, and no earlier one counts against the task's `retries` any more.
        Clears the errors of tasks that failed as a whole. Requests a dispatch. Returns how many instances (and tasks
        that failed as a whole) were marked.
        """

    @abstractmethod
    def remake(self, run_id: str, damaged: Mapping[tuple[str, int], Indices]) -> Remake:
        """Make damaged successes, by task and attempt, and what was made from them RETRYING; return them.

        Their results are given up, the run becomes RUNNING, and a dispatch is requested. The caller holds the run's
        dispatch lock: a dispatcher that has seen them succeed would go on with a part. Many take several turns, and
        what was made from others goes before those. What has begun another attempt is left out. Raises `RetryRefused`,
        and changes nothing, where they cannot be made again within the run.
        """
