"""SIGTERM interrupts the user's function and nothing else."""

from __future__ import annotations

import os
import signal

import pytest

from reflow import TaskInterrupted
from reflow.errors import InterruptReason
from reflow.signals import Interruption


@pytest.fixture
def interruption():
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGUSR1)
    made = Interruption()
    made.install()
    yield made
    signal.signal(signal.SIGTERM, before[0])
    signal.signal(signal.SIGUSR1, before[1])


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


def reason_of(interruption, number):
    with pytest.raises(TaskInterrupted) as raised, interruption.interruptible():
        os.kill(os.getpid(), number)
    return raised.value.reason


def test_the_warning_says_that_the_time_limit_is_near(interruption):
    assert reason_of(interruption, signal.SIGUSR1) is InterruptReason.TIMEOUT


@pytest.mark.parametrize(
    ("end", "reason"), [("1", "TIMEOUT"), ("99999999999", "UNKNOWN"), ("", "UNKNOWN"), ("soon", "UNKNOWN")]
)
def test_sigterm_after_the_end_of_the_job_is_its_time_limit(end, reason):
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGUSR1)
    made = Interruption({"SLURM_JOB_END_TIME": end})
    made.install()
    try:
        assert reason_of(made, signal.SIGTERM) == reason
    finally:
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGUSR1, before[1])


def test_an_element_that_takes_too_long_is_interrupted_and_the_next_one_is_not(interruption):
    with pytest.raises(TaskInterrupted, match="element_time") as raised:  # noqa: SIM117
        with interruption.interruptible(), interruption.limited(0.01):
            signal.pause()
    assert raised.value.reason is InterruptReason.TIMEOUT
    assert not interruption.received
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
