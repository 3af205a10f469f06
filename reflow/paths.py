"""Where things are: the user's folders, and the layout of a run's folder.

::

    <run_dir>/reflow/<run_id>/
        scripts/<wave>-<task>.sh        what was submitted
        waves/<wave>.wave               what the workers of one wave read (see `reflow.waves`)
        checkpoints/<thousand>/<id>/    what an instance has saved until it succeeds, by its id in the manifest
        packs/<wave>/<slot>             which element of a pack began last (see `reflow.packs`)
        logs/<task>/<thousand>/<index>.<attempt>.log
        logs/<task>/wave-<wave>.log     the scheduler's own words, and what failed before Python began
        code/                           copies of the user's files, parts of the fingerprints, pickles
        dispatch.lock
        alarm                           id of a job that tries again what the scheduler deferred
        deferred                        when those who watch try it again (see `reflow.deferring`)
        asked.json, asked.lock          when the scheduler was asked, and who may (see `reflow.asking`)
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

#: Elements per log folder: a folder of 1,000 entries stays quick to list on every file system.
LOGS_PER_FOLDER = 1_000

# A file name may have 255 bytes; the rest is for wave numbers and endings.
_LONGEST_NAME = 120


def config_dir() -> Path:
    """Return the user's configuration folder, ``~/.config/reflow`` on Linux; it may not exist."""
    from platformdirs import user_config_path  # here, because a worker never needs it and it costs 25 ms

    return user_config_path("reflow")


def cache_dir() -> Path:
    """Return the user's cache folder, ``~/.cache/reflow`` on Linux; it may not exist."""
    from platformdirs import user_cache_path

    return user_cache_path("reflow")


def safe_name(name: str) -> str:
    """Return `name` as one file name of letters, digits, ``.``, ``_``, ``-`` and ``=``; different names differ."""
    # "%" means something to Slurm's --output; "." and ".." are folders, and a leading dot hides the file.
    safe = quote(name, safe="").replace("~", "%7E").replace("%", "=")
    if safe.startswith("."):
        safe = "=2E" + safe[1:]
    if len(safe) > _LONGEST_NAME:
        from .digests import sha256

        safe = f"{safe[: _LONGEST_NAME - 17]}={sha256(name.encode()).hexdigest()[:16]}"
    return safe


class RunFolder:
    """The files of one run inside its run directory."""

    #: All that is reflow's own in it: folders, which are made with it, and files that come and go. What stands here is
    #: deleted with the run, and nothing else.
    FOLDERS = ("scripts", "waves", "packs", "logs", "code", "checkpoints")
    FILES = ("dispatch.lock", "asked.json", "asked.new", "asked.lock", "alarm", "deferred", "patience.lock")

    def __init__(self, run_dir: Path | str, run_id: str) -> None:
        self.run_dir = Path(run_dir)
        self.run_id = run_id
        self.path = self.run_dir / "reflow" / safe_name(run_id)

    @property
    def dispatch_lock(self) -> Path:
        """The file that one dispatcher at a time locks."""
        return self.path / "dispatch.lock"

    @property
    def questions(self) -> Path:
        """What the last question to the scheduler left open."""
        return self.path / "asked.json"

    @property
    def question_lock(self) -> Path:
        """The file that who asks the scheduler locks."""
        return self.path / "asked.lock"

    @property
    def patience_lock(self) -> Path:
        """The file that the one sentinel locks which waits until the scheduler takes jobs again."""
        return self.path / "patience.lock"

    @property
    def alarm(self) -> Path:
        """The id of the job that looks after the run when nothing else of it is in the queue."""
        return self.path / "alarm"

    @property
    def deferred(self) -> Path:
        """When those who watch try again what the scheduler has not taken."""
        return self.path / "deferred"

    @property
    def code(self) -> Path:
        """The folder of the run's own code."""
        return self.path / "code"

    def script(self, wave: int, task: str) -> Path:
        """The script of one wave."""
        return self.path / "scripts" / f"{wave:04d}-{safe_name(task)}.sh"

    def sentinel_script(self, wave: int) -> Path:
        """The script of the sentinel behind one wave."""
        return self.path / "scripts" / f"{wave:04d}-sentinel.sh"

    def wave(self, wave: int) -> Path:
        """The wave file of one wave."""
        return self.path / "waves" / f"{wave:04d}.wave"

    def checkpoint(self, instance: int) -> Path:
        """The folder in which an instance saves its work."""
        return self.path / "checkpoints" / str(instance // LOGS_PER_FOLDER) / str(instance)

    def begun(self, wave: int, slot: int) -> Path:
        """The file in which the worker of a pack says which element it begins."""
        return self.path / "packs" / f"{wave:04d}" / str(slot)

    def wave_log(self, wave: int, task: str) -> Path:
        """The log that all jobs of one wave share: the scheduler's words, and failures before Python began."""
        return self.path / "logs" / safe_name(task) / f"wave-{wave:04d}.log"

    def sentinel_log(self, wave: int) -> Path:
        """The log of the sentinel behind one wave."""
        return self.path / "logs" / f"sentinel-{wave:04d}.log"

    def element_log(self, task: str, index: int | None, attempt: int) -> Path:
        """The stdout and stderr of one attempt of one instance; a singleton counts as index 0."""
        number = index or 0
        folder = self.path / "logs" / safe_name(task) / f"{number // LOGS_PER_FOLDER:03d}"
        return folder / f"{number}.{attempt}.log"
