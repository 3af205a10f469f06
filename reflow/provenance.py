"""Where a run comes from: who submitted what, from where, with which versions."""

from __future__ import annotations

import os
import platform
import shlex
import socket
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from . import __version__
from .dispatch import current_user
from .errors import SchedulerError
from .executors import commands

#: How long git may take, in seconds: a large repository on a slow file system must not hold up a submit.
GIT_SECONDS = 5.0


@dataclass(frozen=True)
class Provenance:
    """What is recorded of a run besides its code and its parameters."""

    reflow: str
    python: str
    host: str
    user: str
    #: The command line of the submitting process.
    command: str
    #: The commit of the repository that holds the pipeline; None where there is none, or git is missing or too slow.
    git_commit: str | None
    #: Whether tracked files of it were changed.
    git_dirty: bool | None

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON-safe values."""
        return asdict(self)


def record_provenance(folder: Path) -> Provenance:
    """Return the provenance of a run that this process submits now; `folder` is the pipeline's."""
    commit, dirty = _git_state(folder)
    return Provenance(
        reflow=__version__,
        python=platform.python_version(),
        host=socket.gethostname(),
        user=current_user(),
        command=shlex.join(sys.orig_argv),
        git_commit=commit,
        git_dirty=dirty,
    )


def _git_state(folder: Path) -> tuple[str | None, bool | None]:
    words = ["git", "-C", str(folder), "status", "--porcelain=v2", "--branch", "--untracked-files=no"]
    try:
        # Without the variable git would write to the index of a repository that may not be the user's.
        done = commands.run(words, timeout=GIT_SECONDS, env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"})
    except SchedulerError:  # no git, or too slow
        return None, None
    lines = done.stdout.splitlines()
    commits = [line.removeprefix("# branch.oid ") for line in lines if line.startswith("# branch.oid ")]
    if done.code != 0 or not commits or commits[0] == "(initial)":
        return None, None
    return commits[0], any(not line.startswith("#") for line in lines)
