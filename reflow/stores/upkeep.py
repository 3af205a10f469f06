"""What keeps a manifest in order and its size in bounds: removing runs, and the big outputs that nobody names."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from . import removal
from .connection import Database
from .files import age_of, names_in
from .merging import Merger
from .removal import RemovableRun
from .spool import Spool

#: Instances that one turn deletes: 0.1 s on a local disk, so that workers that want to merge hardly notice.
ROWS_PER_TURN = 10_000

#: A big output younger than this may belong to a report that is still being published, in seconds.
YOUNG_SECONDS = 86_400.0


class Upkeep:
    """The manifest at `path` in the hands of somebody who tidies it up. Close it when done, or use it in ``with``."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path).expanduser().absolute()
        self._database = Database(self.path, readonly=False)
        self._spool = Spool(self.path)
        self._merger = Merger(self._database, self._spool)

    def __enter__(self) -> Upkeep:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    def merge(self) -> None:
        """Merge what workers have reported, unless somebody else does."""
        self._merger.merge(wait=False)

    def removable_runs(
        self,
        *,
        run_ids: Collection[str] | None = None,
        user_id: str | None = None,
        graph_name: str | None = None,
        before: datetime | None = None,
    ) -> list[RemovableRun]:
        """Return the runs that meet every condition, those of cut off removals among them, oldest first.

        `before` leaves out the runs that are not over, or have changed since.
        """
        return self._database.read(removal.find, run_ids=run_ids, user_id=user_id, graph_name=graph_name, before=before)

    def keep_results(self, run_id: str) -> None:
        """Mark the run as one whose files are gone; a RUNNING run is a `ReflowError`."""
        self._database.write(removal.keep_results, run_id)

    def begin_removal(self, run_id: str) -> None:
        """Merge what its workers reported, and hide the run from all but removals; a RUNNING run is a `ReflowError`."""
        with self._database.holding():
            self._merger.merge_held()
            self._database.transaction(removal.begin, run_id)

    def remove_instances(self, run_id: str) -> Iterator[int]:
        """Delete the instances of a run whose removal has begun; yields after each turn how many it deleted."""
        while True:
            deleted = self._database.write(removal.delete_instances, run_id, ROWS_PER_TURN)
            if not deleted:
                return
            yield deleted

    def finish_removal(self, run_id: str) -> None:
        """Delete the rest of a run whose instances and files are gone."""
        self._database.write(removal.finish, run_id)

    def unnamed_outputs(self, *, young_seconds: float = YOUNG_SECONDS) -> list[Path]:
        """Return the files of big outputs that no row and no published report names, without young ones."""
        files = [path for path in output_files(self.path) if age_of(path) > young_seconds]
        if not files:
            return []
        # The spool first: what is merged between the two looks is named by its row then.
        named = {
            report.output_file
            for name in self._spool.names()
            for published in [self._spool.read(name)]
            for report in (published.reports if published else ())
        }
        named |= self._database.read(removal.named_outputs)
        return [path for path in files if path.name not in named]

    def delete_output(self, path: Path, *, young_seconds: float = YOUNG_SECONDS) -> None:
        """Delete the file of a big output, unless somebody has begun to use it."""
        # A worker with the same output touches the file instead of writing it again. It may do so just now: out of
        # the way first, then look, and put it back.
        aside = path.with_name(f".{path.name}.unnamed")
        with suppress(FileNotFoundError):
            os.rename(path, aside)
            if age_of(aside) > young_seconds:
                os.unlink(aside)
            else:
                os.rename(aside, path)


def output_files(manifest: Path) -> Iterator[Path]:
    """Yield the files of big outputs beside a manifest: ``<manifest>.outputs/<2 hex>/<64 hex>``."""
    folder = Path(f"{manifest}.outputs")
    for name in names_in(folder):
        for file in names_in(folder / name):
            if len(file) == 64 and file.startswith(name):
                yield folder / name / file
