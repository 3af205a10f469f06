"""Turn signals into `TaskInterrupted`, but only while the user's function runs.

Slurm sends SIGTERM at the time limit, on cancel and on preemption, and SIGKILL some seconds later; and before the time
limit the warning that ``signal_before=`` asks for, SIGUSR1. Raised in the middle of a publish, the exception would lose
the very report that it is about.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType

from .errors import InterruptReason, TaskInterrupted

_WORDS = {
    InterruptReason.TIMEOUT: "the time limit of the job is near",
    InterruptReason.UNKNOWN: "the scheduler sent SIGTERM: cancel, preemption or time limit",
}


class Interruption:
    """Whether and why this process was told to end, and whether the user's function may be interrupted now."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self.received = False
        self._reason = InterruptReason.UNKNOWN
        self._interruptible = False
        self._installed = False
        end = environment.get("SLURM_JOB_END_TIME", "")
        self._end = float(end) if end.isdecimal() else None

    def install(self) -> None:
        """Take over SIGTERM and SIGUSR1. Only the main thread may call this."""
        signal.signal(signal.SIGTERM, self._end_comes)
        signal.signal(signal.SIGUSR1, self._end_is_near)
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
        before = signal.signal(signal.SIGALRM, self._element_takes_too_long)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    def _end_comes(self, _number: int, _frame: FrameType | None) -> None:
        # Slurm ends a job up to 30 s after its limit and never before. What comes earlier has another reason, which
        # only the scheduler's account tells; and 22.05 does not tell a job when it will end.
        is_late = self._end is not None and time.time() >= self._end
        self._receive(InterruptReason.TIMEOUT if is_late else InterruptReason.UNKNOWN)

    def _end_is_near(self, _number: int, _frame: FrameType | None) -> None:
        self._receive(InterruptReason.TIMEOUT)

    def _element_takes_too_long(self, _number: int, _frame: FrameType | None) -> None:
        if self._interruptible:
            self._interruptible = False
            raise TaskInterrupted("the element took longer than its element_time", InterruptReason.TIMEOUT)

    def _receive(self, reason: InterruptReason) -> None:
        if not self.received:
            self.received, self._reason = True, reason
        if self._interruptible:
            self._raise()

    def _raise(self) -> None:
        self._interruptible = False  # a second signal must not interrupt the clean-up after the first
        raise TaskInterrupted(_WORDS[self._reason], self._reason)
