"""A command on a terminal of its own, or in front of a pipe, while it runs."""

from __future__ import annotations

import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time

_SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """Runs ``python WORDS`` with a terminal of so many rows and columns."""

    def __init__(self, *words: object, rows: int = 30, columns: int = 100) -> None:
        self.raw = ""
        pid, self._reader = os.forkpty()
        if pid == 0:
            fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
            # COLUMNS and LINES would hide the size of the terminal. The libraries of this process set them behind
            # Python's back, so the environment is given whole.
            kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
            os.execve(sys.executable, [sys.executable, *map(str, words)], {**kept, "TERM": "xterm"})
        self._pid = pid

    @property
    def text(self) -> str:
        """All that was written, without colours and movements of the cursor."""
        return _SEQUENCE.sub("", self.raw).replace("\r\n", "\n").replace("\r", "\n")

    def wait_for(self, words: str, seconds: float = 60.0) -> None:
        """Read until the words have been written."""
        deadline = time.monotonic() + seconds
        while words not in self.text:
            assert time.monotonic() < deadline, f"{words!r} was not written: {self.text}"
            assert self._read(1.0), f"it ended without {words!r}: {self.text}"

    def type(self, keys: str) -> None:
        """Press keys; ``\\x03`` is Ctrl-C."""
        os.write(self._reader, keys.encode())

    def end(self) -> int:
        """Read to the end and return the exit code."""
        while self._read(60.0):
            pass
        os.close(self._reader)
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])

    def _read(self, seconds: float) -> bool:
        ready, _, _ = select.select([self._reader], [], [], seconds)
        if not ready:
            return True
        try:
            part = os.read(self._reader, 65_536)
        except OSError:  # Linux says so when the other side has closed
            return False
        self.raw += part.decode(errors="replace")
        return bool(part)


class Piped:
    """Runs ``python WORDS`` with its output in a pipe, as it comes."""

    def __init__(self, *words: object) -> None:
        self._process = subprocess.Popen(
            [sys.executable, *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.out = ""

    def wait_for(self, words: str) -> None:
        """Read lines until the words are in one."""
        while words not in self.out:
            line = self._process.stdout.readline()
            assert line, f"it ended without {words!r}: {self.out}"
            self.out += line

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self._process.send_signal(signal.SIGINT)

    def end(self) -> tuple[int, str]:
        """Read to the end and return exit code and stderr."""
        out, err = self._process.communicate(timeout=60)
        self.out += out
        return self._process.returncode, err
