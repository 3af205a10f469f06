"""Reading results, wherever they are: in a row, in a file beside the manifest, or still in the spool."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from .. import log
from ..states import FINAL, TaskState
from . import cache, instance_table, remakes
from .connection import Database
from .outputs import OutputFiles, OutputLost
from .records import CachedResult, ResultToCheck, TaskInstanceRecord
from .rows import pack_index, to_instance
from .spool import Spool

_Row = TypeVar("_Row", bound=tuple[Any, ...])

# Outputs that are read at a time.
_PAGE = 10_000


class Results:
    """The results of one manifest. Files are read when the read of the manifest is over; `OutputLost` if one is bad."""

    def __init__(self, database: Database, spool: Spool, files: OutputFiles) -> None:
        self._database = database
        self._spool = spool
        self._files = files

    def output_of(self, run_id: str, task_name: str, array_index: int | None) -> str | None:
        """Return the output JSON text of one successful instance, else None."""
        found = self._database.read(instance_table.output_of, run_id, task_name, array_index)
        return self._text(found) if found else None

    def hash_of(self, run_id: str, task_name: str, array_index: int | None) -> str:
        """Return the output hash of one successful instance, else ''."""
        found = self._database.read(instance_table.output_of, run_id, task_name, array_index)
        return found[1] if found else ""

    def outputs(self, run_id: str, task_name: str) -> Iterator[tuple[int, str, str]]:
        """Yield ``(stored index, output JSON text, output hash)`` of the successes in index order."""
        for index, output in self._pages(instance_table.outputs, run_id, task_name):
            yield index, self._text(output), output[1]

    def to_check(self, run_id: str, task_name: str, mark: str | None) -> Iterator[ResultToCheck]:
        """Yield the successes whose output has the mark in it, or is a file, in index order; None: all."""
        for index, attempt, output in self._pages(remakes.page, run_id, task_name, mark):
            yield ResultToCheck(max(index, 0), attempt, self._intact(output), output[1])

    def published(self, instance: int) -> tuple[str, str] | None:
        """Return ``(output, output hash)`` of a successful instance, merged or still in the spool, else None."""
        # The manifest again at the end, because another process may merge the report between the first two looks.
        for look_in_spool in (True, False):
            progress = self._database.read(instance_table.progress_of, instance)
            if progress is None:
                return None
            state, attempt, output = progress
            if state is TaskState.SUCCESS:
                return self._text(output), output[1]
            if state in FINAL:
                return None
            report = self._spool.success_of(instance, attempt) if look_in_spool else None
            if report is not None:
                return self._files.resolve(report.output, report.output_file), report.output_hash
        return None

    def cached(self, result: CachedResult) -> str | None:
        """Return the output JSON text of a cached result; None when its file is bad."""
        if not result.output_file:
            return result.output
        try:
            return self._files.text(result.output_file)
        except OutputLost as error:
            log.warning("%s; an earlier result is not used again", error)
            return None

    def newest_cached(self, task_name: str, identity: str) -> TaskInstanceRecord | None:
        """Return the newest successful instance with that identity whose output is whole, or None."""
        for row in self._database.read(cache.find, task_name, identity):
            try:
                return to_instance(row, self._files)
            except OutputLost as error:
                log.warning("%s; an earlier result is not used again", error)
        return None

    def _pages(self, query: Callable[..., list[_Row]], *words: object) -> Iterator[_Row]:
        """Yield the rows of a query that takes the stored index to go on after and a limit; each begins with its own.

        In pages, so that neither a million outputs nor a read of the manifest is held while the caller works.
        """
        last = pack_index(None) - 1
        while page := self._database.read(query, *words, last, _PAGE):
            yield from page
            last = page[-1][0]

    def _intact(self, output: instance_table.StoredOutput) -> str | None:
        try:
            return self._text(output)
        except OutputLost as error:
            log.warning("%s", error)
            return None

    def _text(self, output: instance_table.StoredOutput) -> str:
        return self._files.resolve(output[0], output[2])
