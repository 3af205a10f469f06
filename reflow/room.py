"""How much of what could be submitted the queue has room for. Pure.

A cap on queued elements divides a wide array into waves. The next one goes when a quarter of the cap has become free,
not with each element that ends: else a million elements were a million submits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from .plan import PlanStep, RunSnapshot, Submit


def in_queue(snapshot: RunSnapshot) -> int:
    """Return how many elements of the run are queued or running, or are about to be."""
    return sum(len(wave.indices) for task in snapshot.tasks for wave in task.waves)


def refill_at(queued: int) -> int:
    """Return down to how many elements in flight the queue has to go before more are submitted; always fewer."""
    return queued - max(1, queued // 4)


def fit(steps: Sequence[PlanStep], snapshot: RunSnapshot, cap: int | None) -> tuple[tuple[PlanStep, ...], bool]:
    """Return the steps that a cap on queued elements leaves room for, and whether it held something back."""
    wanted = sum(len(step.indices) for step in steps if isinstance(step, Submit))
    queued = in_queue(snapshot)
    if cap is None or queued + wanted <= cap:
        return tuple(steps), False
    room = cap - queued if queued <= refill_at(cap) else 0
    fitting: list[PlanStep] = []
    for step in steps:
        if isinstance(step, Submit):
            some = step.indices.first(max(room, 0))
            room -= len(some)
            if some:
                fitting.append(replace(step, indices=some))
        else:
            fitting.append(step)
    return tuple(fitting), True
