"""What the options of a mount say about locks between hosts. Linux shows them in ``/proc/self/mountinfo``."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ..deferred import dataclass

_MOUNTINFO = Path("/proc/self/mountinfo")

#: A file of this name in a folder is a person's word that its locks reach every host, where the mount leaves it open.
TRUST = ".reflow-locks-are-global"


@dataclass(frozen=True)
class Mount:
    """One line of ``mountinfo``."""

    point: str
    kind: str
    #: Options of the mount and of its file system together.
    options: frozenset[str]


def mount_of(folder: Path) -> Mount | None:
    """Return the mount that `folder` lies on; None where there is no ``mountinfo``, so that nothing is known."""
    try:
        text = _MOUNTINFO.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None
    return find_mount(text, os.path.realpath(folder))


def problem_of(folder: Path) -> str:
    """Return why locks in `folder` do not hold between hosts, as a clause; '' when nothing speaks against it."""
    mount = mount_of(folder)
    return judge(mount, is_trusted(folder)) if mount is not None else ""


def is_trusted(folder: Path) -> bool:
    """Return whether a person has said that locks in `folder` reach every host."""
    return (folder / TRUST).exists()


def find_mount(mountinfo: str, path: str) -> Mount | None:
    """Return the mount that `path`, absolute and without symlinks, lies on."""
    found = None
    for line in mountinfo.splitlines():
        mount = _parse(line)
        if mount is None:
            continue
        folder = mount.point.rstrip("/") + "/"
        # A later line with the same mount point lies on top of the earlier one.
        if f"{path}/".startswith(folder) and (found is None or len(mount.point) >= len(found.point)):
            found = mount
    return found


def judge(mount: Mount, trusted: bool = False) -> str:
    """Return why locks on this mount do not hold between hosts, as a clause; '' when nothing speaks against it.

    `trusted` is a person's word for file systems that may have them or not; options that say no are believed more.
    """
    where = f"'{mount.point}' is mounted"
    if mount.kind in ("nfs", "nfs4"):
        if "nolock" in mount.options:
            return f"{where} with 'nolock', so that every host has its own locks"
        local = next((option for option in sorted(mount.options) if option.startswith("local_lock=")), "")
        if local not in ("", "local_lock=none"):
            return f"{where} with '{local}', so that every host has its own locks"
    if mount.kind == "lustre":
        if "localflock" in mount.options:
            return f"{where} with 'localflock', so that every host has its own locks"
        if "flock" not in mount.options:
            return f"{where} without 'flock', so that Lustre refuses locks"
    if mount.kind in ("cifs", "smb3") and "nobrl" in mount.options:
        return f"{where} with 'nobrl', so that every host has its own locks"
    if mount.kind == "afs":
        # Only whole-file locks reach its server, and SQLite locks ranges of bytes.
        return f"{where} as AFS, which keeps locks of ranges on each host"
    if trusted:
        return ""
    hint = f"(if you know that its locks reach all hosts, make a file '{TRUST}' in the manifest's folder)"
    if mount.kind == "beegfs":
        # Its client's tuneUseGlobalFileLocks is off unless the site has set it, and the mount does not show it.
        return f"{where} as BeeGFS, whose locks are each host's own unless the site has made them global {hint}"
    if mount.kind.startswith("fuse.") and mount.kind not in _FUSE_WITH_LOCKS:
        # Where such a file system leaves locks out, the kernel plays them on each host, and they look right from there.
        return f"{where} through FUSE ('{mount.kind}'), which may keep locks on each host {hint}"
    return ""


# FUSE file systems that take locks to their server, or that lie on a disk of one host (containers).
_FUSE_WITH_LOCKS = frozenset({"fuse.ceph", "fuse.ceph-fuse", "fuse.glusterfs", "fuse.juicefs", "fuse.fuse-overlayfs"})


def caution(mount: Mount) -> str:
    """Return what this mount does that costs time but breaks no lock, as a clause; '' for nothing."""
    if mount.kind in ("nfs", "nfs4") and "nocto" in mount.options:
        # Measured: without 'nocto' a fresh listing was never stale, with it for up to half a minute.
        return f"'{mount.point}' is mounted with 'nocto', so that reports of other hosts may be seen half a minute late"
    return ""


def telling_options(mount: Mount) -> tuple[str, ...]:
    """Return the options of a mount that have to do with locks and caches, sorted."""
    return tuple(sorted(option for option in mount.options if option.partition("=")[0] in _TELLING))


_TELLING = frozenset(
    {"ro", "rw", "vers", "lock", "nolock", "local_lock", "flock", "localflock", "nobrl", "cto", "nocto", "ac", "noac"}
    | {"actimeo", "acdirmin", "acdirmax", "lookupcache", "sync", "soft", "hard", "cache"}
)


def _parse(line: str) -> Mount | None:
    # "36 35 98:0 /root /point rw,noatime master:1 - nfs4 server:/export rw,vers=4.1,local_lock=none"
    mount, dash, system = line.partition(" - ")
    left, right = mount.split(" "), system.split(" ")
    if not dash or len(left) < 6 or len(right) < 3:
        return None
    options = frozenset(left[5].split(",")) | frozenset(right[2].split(","))
    return Mount(_unescape(left[4]), right[0], options)


def _unescape(text: str) -> str:
    """Undo the octal escapes of blank, tab, newline and backslash."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), text)
