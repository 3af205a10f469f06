"""Whose is a run's folder? With the part of `reflow store check` that finds folders of runs that are unknown."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from .errors import ManifestError, ReflowError
from .paths import safe_name
from .stores.health import Finding
from .stores.upkeep import Upkeep
from .waves import WaveFile


def findings_beside(manifest: Path) -> Iterator[Finding]:
    """Yield a finding for each folder of a run that says it is this manifest's, and is not.

    Looks only in run directories that the manifest's runs have, and only at folders of this user's. There is no repair:
    a manifest that was put back from a backup does not know the newest runs either.
    """
    try:
        with Upkeep(manifest) as upkeep:
            run_dirs = {run.run_dir for run in upkeep.removable_runs() if run.run_dir is not None}
            folders = [Path(run_dir) / "reflow" / name for run_dir in run_dirs for name in _names(run_dir)]
            # After the folders were listed: a run has its row before its first wave file.
            known = {safe_name(run.run_id) for run in upkeep.removable_runs()}
    except ManifestError:
        return  # damaged, and said so already
    for folder in sorted(folders):
        if folder.name not in known and _is_ours(folder, manifest):
            yield Finding(
                f"the folder '{folder}' is of a run that the manifest does not have.",
                "delete it, unless the manifest was put back from a backup",
            )


def _is_ours(folder: Path, manifest: Path) -> bool:
    """Return whether the folder is this user's, and a wave file in it names this manifest."""
    if folder.is_symlink() or not folder.is_dir() or folder.stat().st_uid != os.getuid():
        return False
    return manifest_of(folder) == manifest.absolute()


def manifest_of(folder: Path) -> Path | None:
    """Return the manifest that the workers of a run's folder report to; None where no wave file tells."""
    try:
        names = sorted(os.listdir(folder / "waves"))
    except OSError:  # missing, or another user's
        return None
    for name in names:
        with suppress(ReflowError, ValueError, TypeError, KeyError):
            opened = WaveFile(folder / "waves" / name)
            opened.close()
            return Path(opened.header.manifest)
    return None


def _names(run_dir: str) -> list[str]:
    try:
        return os.listdir(Path(run_dir) / "reflow")
    except OSError:
        return []
