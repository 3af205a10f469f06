"""Remove runs: their rows, and the files in their folders. First what it would be, then the doing of it.

The order makes a removal that is cut off harmless: the run is hidden first, then its instances go, then its files, and
last its own row, which says where the files are. The next removal finds what is hidden and goes on with it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from . import run_files
from .errors import ReflowError, UnknownRunError
from .paths import RunFolder
from .run_files import Usage
from .states import RunState
from .stores.locking import hold
from .stores.removal import RemovableRun
from .stores.upkeep import Upkeep
from .upkeep_checks import manifest_of

#: How long a removal waits for a dispatcher that has not noticed yet that its run is over, in seconds.
LOCK_SECONDS = 30.0


@dataclass(frozen=True)
class Removal:
    """What is to be done with one run, and how much that is."""

    run: RemovableRun
    #: Whether its rows stay, because the cache could use a result of it.
    keeps_rows: bool
    usage: Usage

    @property
    def instances(self) -> int:
        """Number of instances that go."""
        return 0 if self.keeps_rows else self.run.instances


def plan_named(upkeep: Upkeep, run_ids: Collection[str]) -> list[Removal]:
    """Return what removing these runs would be; an unknown or RUNNING one, or one of others' files, is an error."""
    found = upkeep.removable_runs(run_ids=run_ids)
    known = {run.run_id for run in found}
    for run_id in run_ids:
        if run_id not in known:
            raise UnknownRunError(f"no run '{run_id}' in {upkeep.path}: `reflow runs` lists the runs")
    for run in found:
        if run.status is RunState.RUNNING:
            raise ReflowError(f"run '{run.run_id}' is RUNNING: `reflow cancel {run.run_id}` first, then remove it")
    return [_planned(upkeep.path, run, keep_cache=False) for run in found]


def plan_old(
    upkeep: Upkeep, before: datetime, *, user_id: str, graph_name: str | None, keep_cache: bool
) -> list[Removal]:
    """Return what removing the user's runs would be that are over and have not changed since `before`."""
    upkeep.merge()
    runs = upkeep.removable_runs(user_id=user_id, graph_name=graph_name, before=before)
    planned = [_planned(upkeep.path, run, keep_cache=keep_cache) for run in runs]
    return [each for each in planned if not (each.keeps_rows and each.usage.files == 0)]


def remove(upkeep: Upkeep, removals: Sequence[Removal], told: Callable[[str], None]) -> None:
    """Do it, run by run. `told` gets a sentence for what stays behind."""
    for each in removals:
        folder = _folder(each.run)
        if folder is not None and run_files.exist(folder):
            run_files.check_removable(folder)
            with hold(folder.dispatch_lock, timeout=LOCK_SECONDS) as held:
                if not held:
                    raise ReflowError(
                        f"run '{each.run.run_id}' is being dispatched and was not removed: try again in a minute"
                    )
                _remove(upkeep, each, folder, told)
        else:
            _remove(upkeep, each, folder, told)
    if any(not each.keeps_rows for each in removals):
        for path in upkeep.unnamed_outputs():
            upkeep.delete_output(path)


def _remove(upkeep: Upkeep, each: Removal, folder: RunFolder | None, told: Callable[[str], None]) -> None:
    run_id = each.run.run_id
    if each.keeps_rows:
        upkeep.keep_results(run_id)
    else:
        upkeep.begin_removal(run_id)
        for _ in upkeep.remove_instances(run_id):
            pass
    left = run_files.remove(folder) if folder is not None else []
    if left and folder is not None:
        told(f"'{folder.path}' stays, because it has files that are not reflow's: {', '.join(left)}")
    if not each.keeps_rows:
        upkeep.finish_removal(run_id)


def _planned(manifest: Path, run: RemovableRun, *, keep_cache: bool) -> Removal:
    folder = _folder(run)
    if folder is not None and _is_of_another_manifest(folder, manifest):
        run, folder = replace(run, run_dir=None), None
    usage = run_files.measure(folder) if folder is not None else Usage()
    return Removal(run, keep_cache and run.has_results and not run.is_half_removed, usage)


def _is_of_another_manifest(folder: RunFolder, manifest: Path) -> bool:
    """Return whether this manifest is a copy of the one whose run it is: that one needs the files."""
    original = manifest_of(folder.path)
    return original is not None and original.exists() and not original.samefile(manifest)


def _folder(run: RemovableRun) -> RunFolder | None:
    return None if run.run_dir is None else RunFolder(Path(run.run_dir), run.run_id)
