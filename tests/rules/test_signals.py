"""SIGTERM interrupts the user's function and nothing else."""

from __future__ import annotations

import os
import signal

import pytest

from reflow import TaskInterrupted
from reflow.signals import Interruption


@pytest.fixture
def interruption():
    before = signal.getsignal(signal.SIGTERM)
    made = Interruption()
    made.install()
    yield made
    signal.signal(signal.SIGTERM, before)


def test_the_function_is_interrupted(interruption):
    with pytest.raises(TaskInterrupted, match="SIGTERM"), interruption.interruptible():
        os.kill(os.getpid(), signal.SIGTERM)


def test_a_publish_is_not_interrupted(interruption):
    os.kill(os.getpid(), signal.SIGTERM)
    assert interruption.received


def test_a_signal_that_came_before_interrupts_at_once(interruption):
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(TaskInterrupted), interruption.interruptible():
        pytest.fail("the body must not begin")


def test_a_second_signal_does_not_interrupt_the_clean_up(interruption):
    with interruption.interruptible():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except TaskInterrupted:
            os.kill(os.getpid(), signal.SIGTERM)
