"""Compile the small C programs of this folder, and say why not where that is impossible."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent

# One folder for the whole process, gone with it.
_folder = tempfile.TemporaryDirectory(prefix="reflow-native-")


class CannotBuild(Exception):
    """What is missing to compile it."""


@cache
def library(name: str) -> Path:
    """Return the library for LD_PRELOAD made of ``<name>.c``."""
    return _compile(name, f"{name}.so", "-shared", "-fPIC", "-ldl")


@cache
def shared_folder() -> Path:
    """Return the program that mounts a folder like a network file system's, see ``shared_folder.c``."""
    if not Path("/dev/fuse").exists():
        raise CannotBuild("this machine has no /dev/fuse")
    try:
        flags = subprocess.run(
            ["pkg-config", "--cflags", "--libs", "fuse3"], capture_output=True, text=True, check=True
        ).stdout.split()
    except (OSError, subprocess.CalledProcessError) as error:
        raise CannotBuild("pkg-config and libfuse3-dev are not installed") from error
    return _compile("shared_folder", "shared_folder", *flags)


def _compile(name: str, target: str, *flags: str) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise CannotBuild("there is no C compiler")
    made = Path(_folder.name) / target
    answer = subprocess.run(
        [compiler, "-O1", "-o", str(made), str(HERE / f"{name}.c"), *flags], capture_output=True, text=True, check=False
    )
    if answer.returncode != 0:
        raise CannotBuild(f"the compiler refuses {name}.c: {answer.stderr.strip().splitlines()[0]}")
    return made
