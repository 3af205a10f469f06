"""Turn signals into `TaskInterrupted`, but only while the user's function runs.

Slurm sends SIGTERM at the time limit, on cancel and on preemption, and SIGKILL some seconds later. Raised in the
middle of a publish, the exception would lose the very report that it is about.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from .errors import InterruptReason, TaskInterrupted


class Interruption:
    """Whether this process was told to end, and whether the user's function may be interrupted now."""

    def __init__(self) -> None:
        self.received = False
        self._interruptible = False
        self._installed = False

    def install(self) -> None:
        """Take over SIGTERM. Only the main thread may call this."""
        signal.signal(signal.SIGTERM, self._receive)
        self._installed = True

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

    @contextmanager
    def limited(self, seconds: float | None) -> Iterator[None]:
        """Interrupt the body after so many seconds; never with None, or where no signals were taken over."""
        if seconds is None or not self._installed:
            yield
            return
        before = signal.signal(signal.SIGALRM, self._ring)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    def _receive(self, _number: int, _frame: FrameType | None) -> None:
        self.received = True
        if self._interruptible:
            self._raise()

    def _ring(self, _number: int, _frame: FrameType | None) -> None:
        if self._interruptible:
            self._interruptible = False
            raise TaskInterrupted("the element took longer than its element_time", InterruptReason.TIMEOUT)

    def _raise(self) -> None:
        self._interruptible = False  # a second signal must not interrupt the clean-up after the first
        raise TaskInterrupted("the scheduler sent SIGTERM: time limit, cancel or preemption")
