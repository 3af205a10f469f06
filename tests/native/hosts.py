"""Hosts of a cluster on this machine: each its own name, network, process numbers and mounts, and a shared folder."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .building import CannotBuild, shared_folder

_PATIENCE = 20.0


class Host:
    """One host that has mounted `source` at `mountpoint`. Needs root; `CannotBuild` says what else is missing.

    `locks`, `delay` and `cache` are those of ``shared_folder.c``.
    """

    def __init__(
        self, name: str, source: Path, mountpoint: Path, *, locks: str = "host", delay: int = 0, cache: float = 1
    ) -> None:
        if os.getuid() != 0:
            raise CannotBuild("only root can make namespaces with mounts of their own")
        self.name = name
        namespaces = ["--uts", "--net", "--pid", "--mount", "--fork", "--kill-child", "--mount-proc"]
        mount = [str(shared_folder()), str(source), str(mountpoint), locks, str(delay), str(cache)]
        mountpoint.mkdir(exist_ok=True)
        # The file system is the first process there: when it ends, the kernel ends all others, and the mount is gone.
        self._outside = subprocess.Popen(
            ["unshare", *namespaces, "sh", "-c", 'hostname "$0" && exec "$@"', name, *mount],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._first = self._wait_for_mount(mountpoint)

    def __enter__(self) -> Host:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End every process of the host."""
        self._outside.kill()
        self._outside.communicate()

    def start(self, *command: object, **environment: str) -> subprocess.Popen[str]:
        """Start a command there, with pipes for its input and output."""
        return subprocess.Popen(
            ["nsenter", f"--target={self._first}", "--mount", "--uts", "--net", "--pid", *map(str, command)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )

    def python(self, program: str, *arguments: object) -> subprocess.Popen[str]:
        """Start a program in Python there."""
        return self.start(sys.executable, "-c", program, *arguments)

    def answer(self, program: str, *arguments: object) -> str:
        """Run a program in Python there to its end, and return what it printed."""
        process = self.python(program, *arguments)
        output, error = process.communicate(timeout=120)
        if process.returncode != 0 or error:
            raise AssertionError(f"on host {self.name}: {error}")
        return output.rstrip("\n")

    def _wait_for_mount(self, mountpoint: Path) -> int:
        until = time.monotonic() + _PATIENCE
        while time.monotonic() < until and self._outside.poll() is None:
            for child in children_of(self._outside.pid):
                try:
                    mounts = Path(f"/proc/{child}/mountinfo").read_text(encoding="utf-8")
                except OSError:
                    continue
                if f" {mountpoint} " in mounts:
                    return child
            time.sleep(0.01)
        self._outside.kill()
        raise CannotBuild(f"a host cannot be made here: {self._outside.communicate()[0].strip()}")


@contextmanager
def mounted(source: Path, mountpoint: Path, *, locks: str, delay: int, cache: float) -> Iterator[None]:
    """Mount `source` at `mountpoint` for every process of this machine. Needs root; `CannotBuild` as for `Host`."""
    if os.getuid() != 0:
        raise CannotBuild("only root can mount")
    mountpoint.mkdir(exist_ok=True)
    command = [str(shared_folder()), str(source), str(mountpoint), locks, str(delay), str(cache)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        until = time.monotonic() + _PATIENCE
        while not mountpoint.is_mount():
            if server.poll() is not None or time.monotonic() > until:
                server.kill()
                raise CannotBuild(f"the folder cannot be mounted here: {server.communicate()[0].strip()}")
            time.sleep(0.01)
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(mountpoint)], check=False, capture_output=True)
        server.kill()
        server.communicate()


def children_of(process: int) -> list[int]:
    """Return the processes that a process has started."""
    try:
        return [int(word) for word in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    except OSError:
        return []
