"""Is the manifest sound? Each question gives findings: what is wrong, and how it can be mended.

Nothing here changes anything, but for the functions that a finding brings as its repair.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..errors import ManifestError
from . import counting, locking, removal, sharing
from .connection import Database
from .files import age_of, names_in
from .merging import Merger
from .spool import Spool
from .upkeep import YOUNG_SECONDS, Upkeep, output_files

#: Reports that wait longer than this while nobody merges are stranded, in seconds. A worker merges right after it
#: has published.
STRANDED_SECONDS = 60.0

#: Temporary files older than this were left by a process that died, in seconds.
STALE_SECONDS = 3_600.0

#: A manifest is packed when it has more free pages than this share of all, and more free bytes than this.
FREE_SHARE = 0.25
FREE_BYTES = 16_000_000

# Rows of each table whose parent is gone. In this order, so that those of a parent that goes itself go too.
_ORPHANS = {
    "tasks": "run NOT IN (SELECT id FROM runs)",
    "waves": "task NOT IN (SELECT id FROM tasks)",
    "instances": "task NOT IN (SELECT id FROM tasks)",
    "dependencies": "task NOT IN (SELECT id FROM tasks)",
    "counts": "task NOT IN (SELECT id FROM tasks)",
    "attempts": "instance NOT IN (SELECT id FROM instances)",
    "remarks": "instance NOT IN (SELECT id FROM instances)",
}


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong."""

    #: What it is; a sentence.
    problem: str
    #: What the repair does, as a clause: "merge them". Without a repair, what a person can do.
    remedy: str
    repair: Callable[[], object] | None = None


class Health:
    """The state of the manifest at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._database = Database(path, readonly=False)
        self._spool = Spool(path)
        self._merger = Merger(self._database, self._spool)
        self._upkeep = Upkeep(path)

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()
        self._upkeep.close()

    def findings(self) -> Iterator[Finding]:
        """Yield what is wrong, the gravest first. A damaged manifest is not looked at any further."""
        yield from self._lock_findings()
        yield from self._permission_findings()
        try:
            damage = self._database.read(_damage)
        except ManifestError as error:
            yield Finding(f"{error}.", "put a backup in its place")
            return
        if damage:
            yield Finding(
                f"the manifest is damaged: {'; '.join(damage)}.",
                f"put a backup in its place, or copy it and `sqlite3 COPY .recover` what it holds; keep '{self.path}'",
            )
            return
        yield from self._row_findings()
        yield from self._report_findings()
        yield from self._file_findings()
        yield from self._space_findings()

    def _lock_findings(self) -> Iterator[Finding]:
        report = locking.self_test(self.path.parent)
        if report.problem and not self._database.publish_only:
            yield Finding(
                f"locks in '{report.folder}' cannot be relied on: {report.problem}.",
                f"move it elsewhere, or end all runs and `mkdir {self.path}.lease`: workers then only publish",
            )

    def _permission_findings(self) -> Iterator[Finding]:
        folder = self.path.parent
        mode, folder_mode = self.path.stat().st_mode, folder.stat().st_mode
        is_sticky = folder_mode & stat.S_ISVTX
        if mode & stat.S_IWOTH or (folder_mode & stat.S_IWOTH and not is_sticky):
            yield Finding("everybody may write the manifest or its folder.", f"`chmod o-w '{self.path}' '{folder}'`")
        if mode & stat.S_IWGRP and is_sticky:
            yield Finding(
                f"'{folder}' has the sticky bit, so that nobody can mend a write that another user died in.",
                f"`chmod -t '{folder}'`",
            )
        if mode & stat.S_IWGRP and not sharing.is_shared(folder):
            yield Finding(
                "the group may write the manifest, but not all that lies beside it.",
                f"`chmod g+ws '{folder}'` to share it, or `chmod g-w '{self.path}'`",
            )

    def _row_findings(self) -> Iterator[Finding]:
        mode = self._database.read(_journal_mode)
        if mode != "delete":
            yield Finding(
                f"the manifest is in journal mode {mode}, which network file systems do not support.",
                "set the mode DELETE",
                self._reset_journal_mode,
            )
        orphans = {table: count for table, count in self._database.read(_count_orphans).items() if count}
        if orphans:
            found = ", ".join(f"{count} of {table}" for table, count in orphans.items())
            yield Finding(
                f"rows belong to nothing: {found}.",
                "delete them",
                partial(self._database.write, _delete_orphans),
            )
        elif dangling := self._database.read(_dangling):
            found = ", ".join(f"{count} of {table} to {parent}" for (table, parent), count in sorted(dangling.items()))
            yield Finding(f"rows refer to what is not there: {found}.", "keep a backup, and report it")
        wrong = self._database.read(counting.wrong)
        if wrong:
            yield Finding(
                f"{len(wrong)} counts of instances are wrong, so that `status` shows wrong numbers.",
                "count again",
                partial(self._database.write, counting.repair),
            )
        half = [run.run_id for run in self._upkeep.removable_runs() if run.is_half_removed]
        if half:
            yield Finding(
                f"the removal of {', '.join(half)} was cut off.",
                f"end it with `reflow runs --yes --rm {' '.join(half)}`",
            )

    def _report_findings(self) -> Iterator[Finding]:
        stranded = [name for name in self._spool.waiting() if age_of(self._spool.path / name) > STRANDED_SECONDS]
        if stranded and not self._is_being_merged():
            yield Finding(
                f"{_count(len(stranded), 'report')} in '{self._spool.path}' wait, and nobody merges them.",
                "merge them",
                partial(self._merger.merge, wait=True),
            )
        rejected = self._spool.rejected()
        removed = [name for name in rejected if self._is_of_removed(name)]
        if removed:
            yield Finding(
                f"{_count(len(removed), 'report')} came from workers that outlived their removed runs.",
                "delete them",
                partial(self._spool.delete_rejected, removed),
            )
        if len(removed) < len(rejected):
            yield Finding(
                f"{_count(len(rejected) - len(removed), 'report')} could not be understood and lie in "
                f"'{self._spool.path / 'rejected'}'.",
                "look at them, and delete them when nothing is missing in your runs",
            )

    def _file_findings(self) -> Iterator[Finding]:
        stale = list(self._stale_files())
        if stale:
            yield Finding(
                f"{_count(len(stale), 'temporary file')} of processes that died lie beside the manifest.",
                "delete them",
                partial(_delete_all, stale),
            )
        unnamed = self._upkeep.unnamed_outputs()
        if unnamed:
            yield Finding(
                f"{_count(len(unnamed), 'big output')} in '{self.path}.outputs' belong to no instance.",
                "delete them",
                partial(_each, self._upkeep.delete_output, unnamed),
            )
        missing = self._database.read(removal.named_outputs) - {path.name for path in output_files(self.path)}
        if missing:
            yield Finding(
                f"{_count(len(missing), 'big output')} that instances name are not in '{self.path}.outputs'.",
                "put the files back from a backup, or run those tasks again with `submit --force-tasks`",
            )

    def _space_findings(self) -> Iterator[Finding]:
        free, total = self._database.read(_free_bytes)
        if free < FREE_BYTES or free < FREE_SHARE * total:
            return
        problem = f"{free / 1e6:.0f} MB of the manifest's {total / 1e6:.0f} MB are free space."
        if self._database.publish_only:
            # A lease cannot be checked inside VACUUM, which commits by itself, however long it took.
            yield Finding(problem, "nothing: later runs fill it, and under a lease the file cannot be packed")
            return
        room = os.statvfs(self.path.parent)
        if room.f_bavail * room.f_frsize < 2 * total:
            yield Finding(
                problem, f"free {2 * total / 1e6:.0f} MB on that disk, which packing the file takes meanwhile"
            )
            return
        yield Finding(problem, "give it back to the disk (others wait meanwhile)", self._pack)

    def _is_being_merged(self) -> bool:
        with self._database.holding(wait=False) as held:
            return not held

    def _is_of_removed(self, name: str) -> bool:
        reports = self._spool.read_rejected(name)
        return bool(reports) and self._database.read(_were_removed, sorted({each.instance for each in reports}))

    def _stale_files(self) -> Iterator[Path]:
        places = [self._spool.path, *{path.parent for path in output_files(self.path)}]
        candidates = [place / name for place in places for name in names_in(place) if name.startswith(".")]
        candidates += [
            self.path.parent / name for name in names_in(self.path.parent) if name.startswith(".reflow-lock-test-")
        ]
        for path in candidates:
            if age_of(path) > (STALE_SECONDS if path.parent == self._spool.path else YOUNG_SECONDS):
                yield path

    def _reset_journal_mode(self) -> None:
        self._outside_transactions("PRAGMA journal_mode = DELETE")

    def _pack(self) -> None:
        self._outside_transactions("VACUUM")

    def _outside_transactions(self, statement: str) -> None:
        self._database.close()
        try:
            with self._database.holding(), closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
                connection.execute("PRAGMA temp_store = FILE")  # a whole manifest is too much for memory
                connection.execute(statement)
        except sqlite3.Error as error:
            raise ManifestError(f"`{statement}` on the manifest '{self.path}' failed: {error}; try again") from error


def _damage(connection: sqlite3.Connection) -> list[str]:
    found = [str(text) for (text,) in connection.execute("PRAGMA integrity_check(5)")]
    return [] if found == ["ok"] else found


def _journal_mode(connection: sqlite3.Connection) -> str:
    return str(connection.execute("PRAGMA journal_mode").fetchone()[0])


def _count_orphans(connection: sqlite3.Connection) -> dict[str, int]:
    return {
        table: connection.execute(f"SELECT count(*) FROM {table} WHERE {condition}").fetchone()[0]
        for table, condition in _ORPHANS.items()
    }


def _delete_orphans(connection: sqlite3.Connection) -> None:
    for table, condition in _ORPHANS.items():
        connection.execute(f"DELETE FROM {table} WHERE {condition}")


def _dangling(connection: sqlite3.Connection) -> dict[tuple[str, str], int]:
    """Count references to rows that are not there. A result may outlive the instance that it was taken from."""
    outlives = {
        row[0] for row in connection.execute("PRAGMA foreign_key_list(instances)").fetchall() if row[3] == "cached_from"
    }
    found: dict[tuple[str, str], int] = {}
    for table, _, parent, reference in connection.execute("PRAGMA foreign_key_check"):
        if not (table == "instances" and reference in outlives):
            found[table, parent] = found.get((table, parent), 0) + 1
    return found


def _were_removed(connection: sqlite3.Connection, instances: list[int]) -> bool:
    """Return whether these were instances once: numbers are never given twice."""
    newest = connection.execute("SELECT ifnull(max(id), 0) FROM instances").fetchone()[0]
    return all(
        0 < instance <= newest
        and connection.execute("SELECT 1 FROM instances WHERE id = ?", (instance,)).fetchone() is None
        for instance in instances
    )


def _free_bytes(connection: sqlite3.Connection) -> tuple[int, int]:
    """Return the bytes of free pages and of all pages."""
    size, free, pages = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_size", "freelist_count", "page_count")
    )
    return size * free, size * pages


def _delete_all(paths: list[Path]) -> None:
    for path in paths:
        with suppress(FileNotFoundError):
            path.unlink()


def _each(action: Callable[[Path], object], paths: list[Path]) -> None:
    for path in paths:
        action(path)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
