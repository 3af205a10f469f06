"""What an element has saved of its work, in a folder of its own, until it succeeds."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from . import codec
from .params import Checkpoint
from .retrying import RESUMABLE
from .stores.records import Failure

_STATE = "state.json"


class SavedWork(Checkpoint):
    """The checkpoint of one attempt of one element.

    Beside the value stands the attempt that changed it last, and whether the element goes on by itself: reconcile asks
    for both when the worker was killed, and knows nothing of the task.
    """

    def __init__(self, path: Path, attempt: int, *, resume: bool) -> None:
        self._path = path
        self._attempt = attempt
        self._resume = resume
        self._known = _read(path)

    def load(self, default: Any = None) -> Any:
        """Return what was saved last, by whichever attempt."""
        return default if self._known is None else codec.loads(self._known["value"])

    def save(self, value: Any) -> None:
        """Keep a value in place of the last one; it outlives the process and the node from then on."""
        text = codec.dumps(value)
        changed_in = self._attempt if self._known is None or self._known["value"] != text else self._known["changed_in"]
        state = {"value": text, "changed_in": changed_in, "resume": self._resume}
        self._path.mkdir(parents=True, exist_ok=True)
        temporary = self._path / f".{_STATE}.{os.getpid()}"
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(state, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._path / _STATE)
        self._known = state

    @property
    def folder(self) -> Path:
        """A folder for larger files, empty at first."""
        folder = self._path / "files"
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def goes_on(path: Path, attempt: int, failure: Failure | None) -> bool:
    """Return whether an attempt that ended so is continued by the next one without using up a retry.

    It must have saved something new: else the next one would come no further, and the one after it neither.
    """
    if failure not in RESUMABLE:
        return False
    known = _read(path)
    return known is not None and bool(known["resume"]) and known["changed_in"] == attempt


def remove(path: Path) -> None:
    """Delete what an element has saved: it has succeeded."""
    if path.exists():
        import shutil  # most elements save nothing

        shutil.rmtree(path, ignore_errors=True)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads((path / _STATE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return found
