"""One reusable flow, included once for each of two stations, and a gather over both.

Each station has its own latitude, the number of days is shared:

python examples/preprocess.py submit --run-dir runs --north-measure-latitude 65 --south-measure-latitude 30 --days 20
"""

from __future__ import annotations

import math
import random
import sys
from dataclasses import dataclass
from typing import Annotated

from reflow import Flow, Param, Result, Workflow

#: What a broken sensor says, in degrees Celsius.
BROKEN = -99.0


@dataclass(frozen=True)
class Day:
    """The hourly temperatures of one day at one station, in degrees Celsius."""

    latitude: float
    temperatures: list[float]


cleaning = Flow("cleaning")


@cleaning.job(time="00:05:00", mem="200M")
def measure(
    latitude: Annotated[float, Param(help="Where the station is, in degrees", namespace="local")],
    days: Annotated[int, Param(help="Number of days")] = 10,
) -> list[Day]:
    """Make the readings of a station, about one in ten from a broken sensor."""
    numbers = random.Random(latitude)
    return [
        Day(latitude, [BROKEN if numbers.random() < 0.1 else expected(latitude, hour) for hour in range(24)])
        for _ in range(days)
    ]


@cleaning.array_job(time="00:05:00", mem="200M")
def clean(day: Annotated[Day, Result(step="measure")]) -> Day:
    """Drop the readings of the broken sensor."""
    return Day(day.latitude, [each for each in day.temperatures if each != BROKEN])


wf = Workflow("preprocess")
wf.include(cleaning, prefix="north")
wf.include(cleaning, prefix="south")


@wf.job(time="00:05:00", mem="200M")
def compare(days: Annotated[list[Day], Result(steps=["north_clean", "south_clean"])]) -> dict[float, float]:
    """Return the mean of the highest temperature of each day, by latitude."""
    highest: dict[float, list[float]] = {}
    for day in days:
        highest.setdefault(day.latitude, []).append(max(day.temperatures))
    return {latitude: sum(each) / len(each) for latitude, each in highest.items()}


def expected(latitude: float, hour: int) -> float:
    """Return the temperature of a day without clouds: warmest at 15 h, colder towards the poles."""
    return 30.0 * math.cos(math.radians(latitude)) + 6.0 * math.cos(math.tau * (hour - 15) / 24)


if __name__ == "__main__":
    sys.exit(wf.cli())
