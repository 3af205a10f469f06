"""Turn SIGTERM into `TaskInterrupted`, but only while the user's function runs.

Slurm sends SIGTERM at the time limit, on cancel and on preemption, and SIGKILL some seconds later. Raised in the
middle of a publish, the exception would lose the very report that it is about.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from .errors import TaskInterrupted


class Interruption:
    """Whether this process was told to end, and whether the user's function may be interrupted now."""

    def __init__(self) -> None:
        self.received = False
        self._interruptible = False

    def install(self) -> None:
        """Take over SIGTERM. Only the main thread may call this."""
        signal.signal(signal.SIGTERM, self._receive)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Let the signal interrupt the body; one that came before interrupts it at once."""
        self._interruptible = True
        try:
            if self.received:
                self._raise()
            yield
        finally:
            self._interruptible = False

    def _receive(self, _number: int, _frame: FrameType | None) -> None:
        self.received = True
        if self._interruptible:
            self._raise()

    def _raise(self) -> None:
        self._interruptible = False  # a second signal must not interrupt the clean-up after the first
        raise TaskInterrupted("the scheduler sent SIGTERM: time limit, cancel or preemption")
