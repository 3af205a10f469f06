"""How long to leave between two looks at a run: short while it is young, ever longer as it ages. Pure.

Whatever happens often (a retry inside a running array, a question to the scheduler) happens at most so often, so
their number grows with the logarithm of a run's age: some 350 looks in the first day.
"""

from __future__ import annotations

#: Pauses between two questions to the scheduler, in seconds.
SHORTEST, LONGEST = 5.0, 600.0

#: A pause as a share of the run's age.
SHARE = 0.02

#: So many waves of one task are submitted without a pause.
FREE_WAVES = 20


def pause(age: float) -> float:
    """Return the seconds between two looks at a run of that age, in seconds."""
    return min(max(SHORTEST, SHARE * age), LONGEST)


def retry_is_due(waves: int, age: float, since_last: float) -> bool:
    """Return whether failures of a task may be submitted again now, although its other elements still run.

    `waves` is the number of waves that the task has had, `since_last` the seconds since the last. When not, whoever
    ends later asks again, and the end of the wave in any case.
    """
    return waves <= FREE_WAVES or since_last >= pause(age)
