"""`SqliteRows`: the row-by-row half of `SqliteStore`, for callers who keep the record themselves."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from .. import clock, codec, log
from ..errors import UnknownRunError
from ..indices import Indices
from ..states import RunState, TaskState
from . import counting, instance_table, merging, run_table, task_table, wave_table
from .base import EngineStore
from .connection import Database, P, Query
from .looks import Looks
from .merging import Merger
from .outputs import OutputFiles
from .records import TaskInstanceRecord, TaskSpecRecord
from .results import Results
from .rows import pack_index, storable
from .spool import Spool

T = TypeVar("T")


class SqliteRows(EngineStore):
    """An open manifest and its row-by-row methods; each write is a turn of its own. `SqliteStore` adds the rest."""

    def __init__(self, path: Path | str, readonly: bool = False, *, publish_only: bool = False) -> None:
        self.path = Path(path).expanduser().absolute()
        self.spool = Spool(self.path)
        self.output_files = OutputFiles(self.path)
        self._database = Database(self.path, readonly=readonly, publish_only=publish_only)
        self._merger = Merger(self._database, self.spool)
        self._results = Results(self._database, self.spool, self.output_files)
        #: What a person is shown of single instances.
        self.looks = Looks(self._database)
        #: Whether the counts that a summary shows are those of the rows.
        self.counts = counting.Counts(self._database)

    @property
    def readonly(self) -> bool:
        """Whether this store never writes."""
        return self._database.readonly

    @property
    def publish_only(self) -> bool:
        """Whether workers must publish and leave the manifest alone."""
        return self._database.publish_only

    def init(self) -> None:
        self._database.create()

    def close(self) -> None:
        self._database.close()

    def insert_run(self, run_id: str, graph_name: str, user_id: str, parameters: Mapping[str, Any]) -> None:
        self._write(
            run_table.insert,
            run_id,
            graph_name,
            user_id,
            created_at=clock.now(),
            status=RunState.RUNNING,
            parameters=codec.dumps(dict(parameters)),
            settings={},
        )

    def get_run(self, run_id: str) -> dict[str, Any] | None:
        record = self.get_run_record(run_id)
        return record.to_public_dict() if record else None

    def get_run_parameters(self, run_id: str) -> dict[str, Any]:
        record = self.get_run_record(run_id)
        if record is None:
            raise UnknownRunError(
                f"no run '{run_id}' is in the manifest '{self.path}'; `reflow runs` lists those that are"
            )
        return dict(record.parameters)

    def update_run_status(self, run_id: str, status: RunState) -> None:
        self._write(run_table.set_status, run_id, status)

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
        records = self.list_run_records(graph_name, user_id, limit=limit, since=since, until=until, status=status)
        return [record.to_public_dict() for record in records]

    def insert_task_spec(
        self,
        run_id: str,
        task_name: str,
        is_array: bool,
        config_json: str | Mapping[str, Any],
        dependencies: Sequence[str],
    ) -> None:
        config = json.loads(config_json) if isinstance(config_json, str) else config_json
        if not isinstance(config, Mapping):
            raise ValueError(f"the configuration of task '{task_name}' is {config!r}; give a JSON object")
        self._write(task_table.put_spec, TaskSpecRecord(run_id, task_name, is_array, config, tuple(dependencies)))

    def list_task_dependencies(self, run_id: str, task_name: str) -> list[str]:
        return self._read(task_table.list_dependencies, run_id, task_name)

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
        text = None if input_payload is None else storable(codec.dumps(input_payload))
        return self._write(instance_table.insert, run_id, task_name, array_index, state, text, identity, input_hash)

    def get_task_instance(self, run_id: str, task_name: str, array_index: int | None) -> dict[str, Any] | None:
        record = self.get_task_instance_record(run_id, task_name, array_index)
        return _instance_dict(record) if record else None

    def list_task_instances(
        self, run_id: str, task_name: str | None = None, states: Collection[TaskState] | None = None
    ) -> list[dict[str, Any]]:
        return [_instance_dict(record) for record in self.list_task_instance_records(run_id, task_name, states)]

    def count_task_instances(self, run_id: str, task_name: str) -> int:
        return self._read(task_table.count_of, run_id, task_name)

    def get_singleton_output(self, run_id: str, task_name: str) -> Any:
        text = self._results.output_of(run_id, task_name, None)
        return None if text is None else codec.loads(text)

    def get_array_outputs(self, run_id: str, task_name: str) -> list[Any]:
        found = self._results.outputs(run_id, task_name)
        return [codec.loads(text) for index, text, _ in found if index != pack_index(None)]

    def get_output_hash(self, run_id: str, task_name: str, array_index: int | None = None) -> str:
        return self._results.hash_of(run_id, task_name, array_index)

    def get_all_output_hashes(self, run_id: str, task_name: str) -> list[str]:
        found = self._read(instance_table.output_hashes, run_id, task_name, None)
        return [output_hash for _, output_hash in found]

    def dependency_is_satisfied(self, run_id: str, task_name: str) -> bool:
        return self._read(task_table.is_satisfied, run_id, task_name)

    def update_task_submitted(
        self, run_id: str, task_name: str, job_id: str, *, indices: Iterable[int] | None = None
    ) -> None:
        chosen = None if indices is None else Indices(indices)
        self._write(wave_table.submit_by_hand, run_id, task_name, job_id, chosen)

    def update_task_running(self, instance_id: int) -> None:
        self._move(instance_id, TaskState.RUNNING)

    def update_task_success(self, instance_id: int, output: Any, output_hash: str = "") -> None:
        text, file = self.output_files.place(codec.dumps(output))
        self._move(instance_id, TaskState.SUCCESS, output=text, output_file=file, output_hash=output_hash)

    def update_task_failed(self, instance_id: int, error_text: str) -> None:
        self._move(instance_id, TaskState.FAILED, error=error_text)

    def update_task_cancelled(self, instance_id: int) -> None:
        self._move(instance_id, TaskState.CANCELLED)

    def mark_for_retry(self, instance_id: int) -> None:
        if not self._write(instance_table.retry_one, instance_id):
            _log_refused(instance_id, TaskState.RETRYING)

    def find_cached(self, task_name: str, identity: str) -> dict[str, Any] | None:
        record = self.find_cached_record(task_name, identity)
        return _instance_dict(record) if record else None

    def find_cached_record(self, task_name: str, identity: str) -> TaskInstanceRecord | None:
        """Return the most recent successful instance with that identity over all runs, or None; '' finds none."""
        return self._results.newest_cached(task_name, identity)

    def task_state_summary(self, run_id: str) -> dict[str, dict[str, int]]:
        return self._read(task_table.state_summary, run_id)

    def fail_pending_tasks(
        self, run_id: str, task_name: str, error_text: str, indices: Iterable[int] | None = None
    ) -> int:
        chosen = None if indices is None else Indices(indices)
        return self._write(instance_table.fail_pending, run_id, task_name, error_text, chosen)

    def _read(self, query: Query[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return self._database.read(query, *args, **kwargs)

    def _write(self, change: Query[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return self._database.write(change, *args, **kwargs)

    def _move(self, instance: int, state: TaskState, **values: Any) -> None:
        if not self._write(merging.move, instance, state, values):
            _log_refused(instance, state)


def _instance_dict(record: TaskInstanceRecord) -> dict[str, Any]:
    return {**record.to_public_dict(), "state": record.state}


def _log_refused(instance: int, state: TaskState) -> None:
    log.info("instance %d did not become %s: the table of moves forbids it, or it is unknown", instance, state)
