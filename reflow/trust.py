"""May others change what is about to be run? Files that decide what runs must be the user's own, or root's.

Others are those who may write the file, or its folder and so put another file in its place. A group of which the user
is the only member, as many systems give each user, is not others. Data needs none of this: reading it runs nothing.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from .errors import TrustError


def require_trusted(path: Path | str, what: str, *, trust_group: bool = False) -> None:
    """Raise `TrustError` when others could have changed the file at `path`; `what` names it: "the pipeline file".

    With `trust_group`, the owner and the members of the file's group are trusted, if the user is a member too. A file
    that is missing is judged by its folder.
    """
    folder = os.path.dirname(os.path.abspath(path))
    if _is_closed(folder):
        return  # nobody else gets as far as the file: one question, which is all that a worker asks
    for place in (os.fspath(path), folder):
        try:
            found = os.stat(place)
        except FileNotFoundError:
            continue
        problem, remedy = _problem_of(found, trust_group=trust_group)
        if problem:
            where = what if place == os.fspath(path) else f"the folder of {what}"
            raise TrustError(
                f"{where} {problem}, who could have code of theirs run as you: {remedy.format(place)}, or trust the "
                "file's group, with trust_group = true in [defaults] of your configuration or REFLOW_TRUST_GROUP=true"
            )


def _is_closed(folder: str) -> bool:
    try:
        found = os.stat(folder)
    except OSError:
        return False
    return found.st_uid == os.geteuid() and not found.st_mode & 0o077


def _problem_of(found: os.stat_result, *, trust_group: bool) -> tuple[str, str]:
    """Return who could have changed it, as a clause, and what to do about it; '' when nobody could."""
    is_sticky = stat.S_ISDIR(found.st_mode) and bool(found.st_mode & stat.S_ISVTX)  # then only owners replace files
    if found.st_mode & stat.S_IWOTH and not is_sticky:
        return "may be written by everybody", "`chmod o-w '{}'`"
    if trust_group and found.st_gid in (os.getegid(), *os.getgroups()):
        return "", ""
    # Root in a container works on mounted folders that are another user's, and has been asked to.
    if found.st_uid not in (0, os.geteuid()) and os.geteuid() != 0:
        return f"belongs to {_user_name(found.st_uid)}", "use a copy of your own of '{}'"
    if found.st_mode & stat.S_IWGRP and not is_sticky and not _is_private_group(found.st_gid):
        return f"may be written by the group {_group_name(found.st_gid)}", "`chmod g-w '{}'`"
    return "", ""


def _is_private_group(group: int) -> bool:
    """Return whether the user is the only member of the group."""
    if group == 0:
        return True  # root's
    import grp
    import pwd

    try:
        user = pwd.getpwuid(os.geteuid())
        record = grp.getgrgid(group)
    except KeyError:
        return group == os.getegid() == os.geteuid()
    return user.pw_gid == group and record.gr_name == user.pw_name and set(record.gr_mem) <= {user.pw_name}


def _user_name(user: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"user {user}"


def _group_name(group: int) -> str:
    import grp

    try:
        return grp.getgrgid(group).gr_name
    except KeyError:
        return str(group)
