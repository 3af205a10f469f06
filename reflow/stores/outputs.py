"""Outputs too big for a row of the manifest: files in ``<manifest>.outputs``, named by their content.

``<manifest>.outputs/<first two hex digits>/<SHA-256 of the text>``, JSON text in UTF-8. A file is written before the
report that names it is published, and is never changed; two elements with the same output share it. Whoever deletes one
must know that no row and no spooled report names it, and leave young files alone: their report is on its way.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from .. import log
from ..deferred import replace
from ..errors import ManifestError
from . import sharing
from .files import sync_folder
from .records import Report

#: Longest output that a row holds, in characters. Up to 16 KB a report takes the manifest's lock as long as a small one
#: does, at 64 KB half as long again, at 1 MB three times, at 10 MB 45 times as long (one pass, busy disk).
#: A file of its own costs the worker two more fsyncs, and every reader one more file to open.
LONGEST_INLINE = 64 * 1024


class OutputLost(ManifestError):
    """The file of an output is missing or damaged; names the file and what to do."""


class OutputFiles:
    """The outputs beside one manifest. Creates nothing before the first is put there."""

    def __init__(self, manifest: Path | str) -> None:
        self.path = Path(f"{manifest}.outputs")

    def path_of(self, content: str) -> Path:
        """Return where the output with this content hash lies."""
        return self.path / content[:2] / content

    def put(self, text: str) -> str:
        """Keep an output and return its content hash; it survives a power failure from then on. Raises `OSError`."""
        payload = text.encode("utf-8", "surrogatepass")
        content = _digest(payload)
        path = self.path_of(content)
        if not _is_there(path, len(payload)):
            self._write(path, payload)
        return content

    def set_aside(self, report: Report) -> Report:
        """Return the report with an output that is too big for a row moved to a file, if it has one.

        The file is there for good when this returns, so that a report that names it may be published.
        """
        if report.output is None or len(report.output) <= LONGEST_INLINE:
            return report
        output, content = self.place(report.output)
        return replace(report, output=output, output_file=content)

    def place(self, text: str) -> tuple[str | None, str]:
        """Return what a row holds of an output: ``(text, '')``, or ``(None, content hash)`` of what is a file now."""
        if len(text) <= LONGEST_INLINE:
            return text, ""
        try:
            return None, self.put(text)
        except OSError as error:
            raise ManifestError(
                f"cannot write an output to '{error.filename or self.path}': {error.strerror}; check the quota, the "
                "permissions and the mount of that folder"
            ) from error

    def resolve(self, output: str | None, content: str) -> str:
        """Return the JSON text of an output, of which a row holds the text or the content hash; `OutputLost`."""
        return self.text(content) if content else output or "null"

    def text(self, content: str) -> str:
        """Return an output, after a look at whether it is still the one that was put there; else `OutputLost`."""
        path = self.path_of(content)
        try:
            payload = path.read_bytes()
        except OSError as error:
            raise OutputLost(
                f"the output in the file '{path}' cannot be read ({error.strerror}): restore the file, or submit "
                "again, which computes it anew"
            ) from error
        if _digest(payload) != content:
            raise OutputLost(
                f"the output in the file '{path}' is damaged, its content has changed: restore the file, or move it "
                "away and submit again, which computes it anew"
            )
        return payload.decode("utf-8", "surrogatepass")

    def is_intact(self, content: str) -> bool:
        """Return whether `text` would return the output; a lost one is logged."""
        try:
            self.text(content)
        except OutputLost as error:
            log.warning("%s", error)
            return False
        return True

    def _write(self, path: Path, payload: bytes) -> None:
        folder = path.parent
        if not folder.is_dir():
            for made in (self.path, folder):
                sharing.make_folder(made)
                sync_folder(made.parent)
        temporary = folder / f".{path.name}.{os.getpid():x}.{os.urandom(6).hex()}"
        descriptor = sharing.open_file(temporary, os.O_WRONLY | os.O_EXCL)
        try:
            with open(descriptor, "wb") as file:
                file.write(payload)
                file.flush()
                os.fsync(descriptor)
            os.replace(temporary, path)  # over a damaged one too
        except OSError:
            with suppress(OSError):  # the first error is the one to tell
                os.unlink(temporary)
            raise
        sync_folder(folder)


def _is_there(path: Path, size: int) -> bool:
    """Return whether the file is there already, and make it young again, so that no clean-up takes it."""
    try:
        if path.stat().st_size != size or _digest(path.read_bytes()) != path.name:
            return False
        os.utime(path)
    except OSError:
        return False
    return True


def _digest(payload: bytes) -> str:
    from hashlib import sha256  # OpenSSL, the quicker one for what is long; most outputs are short

    return sha256(payload).hexdigest()
