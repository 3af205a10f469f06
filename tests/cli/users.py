"""Commands run as other users, for tests that root runs: permissions do not stop root."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from .conftest import Outcome

# What a command needs is loaded first: another user may not be able to read the folders of this environment. The
# names of users without an account are their numbers.
_PROGRAM = """
import grp, os, pkgutil, pwd, sys
from importlib import import_module
import reflow, reflow.cli, encodings.idna, asyncio, sqlite3, tomllib, rich.table, jinja2, filelock, cloudpickle
for module in pkgutil.walk_packages(reflow.__path__, "reflow."):
    if not module.name.startswith(("reflow.testing", "reflow.__main__")):
        import_module(module.name)
user, group, umask = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3], 8)
os.umask(umask)
os.setgroups([group])
os.setgid(user)
os.setuid(user)
exec(sys.argv[4])
"""

_COMMAND = "import reflow.cli; sys.exit(reflow.cli.main(sys.argv[5:]))"


@dataclass(frozen=True)
class User:
    """Somebody with a number, whose own group has the same number, and who is in one more group."""

    number: int
    group: int
    home: Path
    umask: str = "022"

    def python(self, program: str, *words: object) -> Outcome:
        """Run a program whose words are ``sys.argv[5:]``."""
        environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "REFLOW_"))},
            "HOME": str(self.home),
        }
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM, str(self.number), str(self.group), self.umask, program, *map(str, words)],
            cwd=self.home,
            env=environ,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    def reflow(self, *words: object) -> Outcome:
        """Run ``reflow WORDS``."""
        return self.python(_COMMAND, *words)


@contextmanager
def reachable_folder() -> Iterator[Path]:
    """Make a folder that every user can reach: pytest's own are closed again whenever another session starts."""
    folder = Path(tempfile.mkdtemp(prefix="reflow-users-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def make_user(folder: Path, number: int, group: int, umask: str = "022") -> User:
    """Return a user with a home of her own; skips where this process may not become another user."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    home = folder / f"home-{number}"
    home.mkdir()
    os.chown(home, number, number)
    home.chmod(0o700)
    return User(number, group, home, umask)
