"""What tells two states of a file or folder apart, for the identity of a value that holds its path.

A file counts with size and time of change, or with its content where that is asked for. A folder counts with
everything inside, because its own time of change does not tell of a file that was written over. What cannot be told
honestly (unreadable, a device, a folder of more than `MOST_ENTRIES`) has no fingerprint: then nothing is used again.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable

from .digests import sha256

#: Files and folders that a folder may hold, at any depth, and still be looked through each time.
MOST_ENTRIES = 10_000

#: How a path counts: the allowed values of ``[defaults] path_fingerprint``.
METADATA = "size+mtime"
CONTENT = "content"
KINDS = (METADATA, CONTENT)

_CHUNK = 1 << 20


class Untellable(Exception):
    """Nothing honest can be said of a path; carries why."""


class Fingerprints:
    """Takes fingerprints of paths as one run sees them; what it has read once it does not read again.

    Relative paths count from `working_dir`, where the tasks run, and not from where this process was started.
    `own` are paths that reflow itself writes while tasks run, left out of every folder, with whatever their names are
    the beginning of.
    """

    def __init__(self, kind: str, working_dir: str, own: Iterable[str] = ()) -> None:
        self._kind = kind
        self._working_dir = working_dir
        self._own = tuple(own)
        self._contents: dict[tuple[int, int, int, int], str] = {}

    def __call__(self, path: str) -> str | None:
        """Return the fingerprint by the run's own kind, '' where there is nothing, None where nothing can be told."""
        return self._tell(path, by_content=self._kind == CONTENT)

    def of_content(self, path: str) -> str | None:
        """Return the fingerprint by content, whatever the run's own kind is."""
        return self._tell(path, by_content=True)

    def problem(self, path: str) -> str | None:
        """Return why nothing can be told of a path, or None."""
        try:
            self._look(os.path.join(self._working_dir, path), self._kind == CONTENT, [MOST_ENTRIES])
        except Untellable as why:
            return str(why)
        return None

    def is_full(self, path: str) -> bool:
        """Return whether there is something: a file that is not empty, or a folder."""
        try:
            found = os.stat(os.path.join(self._working_dir, path))
        except (OSError, ValueError):
            return False
        return stat.S_ISDIR(found.st_mode) or found.st_size > 0

    def is_readable(self, path: str) -> bool:
        """Return whether this user may read what is there; nothing there is nothing to read."""
        place = os.path.join(self._working_dir, path)
        try:
            return not os.path.exists(place) or os.access(place, os.R_OK)
        except ValueError:  # a NUL in the name
            return False

    def _tell(self, path: str, *, by_content: bool) -> str | None:
        try:
            return self._look(os.path.join(self._working_dir, path), by_content, [MOST_ENTRIES])
        except Untellable:
            return None

    def _look(self, path: str, by_content: bool, left: list[int]) -> str:
        try:
            found = os.stat(path)
            if stat.S_ISDIR(found.st_mode):
                return self._folder(path, by_content, left)
            # A link that names another file is another input, though both be of one size and time.
            link = f" -> {os.readlink(path)}" if os.path.islink(path) and not by_content else ""
            if not stat.S_ISREG(found.st_mode):
                raise Untellable(f"{path} is neither a file nor a folder")
            if by_content:
                return self._content(path, found)
            return f"{found.st_size} {found.st_mtime_ns}{link}"
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                return ""
            raise Untellable(f"{path} cannot be looked at ({error.strerror})") from None
        except ValueError:  # a NUL in the name: there can be no such file
            return ""

    def _folder(self, path: str, by_content: bool, left: list[int]) -> str:
        with os.scandir(path) as entries:
            names = sorted(entry.name for entry in entries)
        digest = sha256()
        for name in names:
            inner = os.path.join(path, name)
            if inner.startswith(self._own):
                continue
            left[0] -= 1
            if left[0] < 0:  # a link that leads back up ends here too
                raise Untellable(f"{path} is in a folder of more than {MOST_ENTRIES:,} files")
            digest.update(f"{name}\0{self._look(inner, by_content, left)}\0".encode(errors="surrogatepass"))
        return f"folder {digest.hexdigest()}"

    def _content(self, path: str, found: os.stat_result) -> str:
        key = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
        if key not in self._contents:
            import hashlib  # OpenSSL is the quicker one for what is long

            digest = hashlib.sha256()
            with open(path, "rb") as file:
                while chunk := file.read(_CHUNK):
                    digest.update(chunk)
            self._contents[key] = f"sha256 {digest.hexdigest()}"
        return self._contents[key]
