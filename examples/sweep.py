"""Sweep a parameter of the logistic map, x -> r x (1 - x): an array, a second array that follows it element by
element, and a report as a table and a plot.

python examples/sweep.py submit --run-dir runs --rates 500
"""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from reflow import Param, Result, RunDir, Workflow

wf = Workflow("sweep")


@dataclass(frozen=True)
class Orbit:
    """Where the map goes at one rate, once it has settled."""

    rate: float
    points: tuple[float, ...]


@dataclass(frozen=True)
class Behaviour:
    """What kind of orbit it is."""

    rate: float
    #: After how many steps it repeats; 0 when it does not within the points that were kept.
    period: int
    #: Mean growth of a small difference per step; above 0 the map is chaotic.
    lyapunov: float


@wf.job(time="00:05:00", mem="200M")
def choose_rates(
    rates: Annotated[int, Param(help="Number of rates, at least 2")] = 61,
    lowest: Annotated[float, Param(help="Lowest rate")] = 2.8,
    highest: Annotated[float, Param(help="Highest rate, at most 4")] = 4.0,
) -> list[float]:
    """Return evenly spaced rates."""
    return [lowest + (highest - lowest) * place / (rates - 1) for place in range(rates)]


@wf.array_job(time="00:05:00", mem="200M")
def simulate(
    rate: Annotated[float, Result(step="choose_rates")],
    settle: Annotated[int, Param(help="Steps to leave out at the start")] = 2_000,
    keep: Annotated[int, Param(help="Steps to keep")] = 500,
) -> Orbit:
    """Iterate the map at one rate."""
    x = 0.3
    points = []
    for step in range(settle + keep):
        x = rate * x * (1 - x)
        if step >= settle:
            points.append(x)
    return Orbit(rate, tuple(points))


@wf.array_job(time="00:05:00", mem="200M")
def analyse(orbit: Annotated[Orbit, Result(step="simulate")]) -> Behaviour:
    """Find the period and the Lyapunov exponent of one orbit."""
    growth = [math.log(max(abs(orbit.rate * (1 - 2 * x)), 1e-300)) for x in orbit.points]
    return Behaviour(orbit.rate, find_period(orbit.points), sum(growth) / len(growth))


@wf.job(time="00:05:00", mem="200M")
def report(
    behaviours: Annotated[list[Behaviour], Result(step="analyse")],
    orbits: Annotated[list[Orbit], Result(step="simulate")],
    run_dir: RunDir,
) -> list[Path]:
    """Write sweep.csv and sweep.svg and return both paths."""
    table, plot = run_dir / "sweep.csv", run_dir / "sweep.svg"
    with table.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("rate", "period", "lyapunov"))
        rows.writerows((each.rate, each.period, each.lyapunov) for each in behaviours)
    plot.write_text(draw(orbits))
    return [table, plot]


def find_period(points: Sequence[float], longest: int = 64) -> int:
    """Return after how many steps the points repeat to nine digits, 0 when they do not."""
    for period in range(1, min(longest, len(points) // 2) + 1):
        if all(abs(x - y) < 1e-9 for x, y in zip(points, points[period:], strict=False)):
            return period
    return 0


def draw(orbits: Sequence[Orbit], width: int = 900, height: int = 500, dots: int = 100) -> str:
    """Return the points of all orbits as an SVG picture: the rate to the right, x upwards."""
    lowest = min(orbit.rate for orbit in orbits)
    span = max(orbit.rate for orbit in orbits) - lowest
    marks = []
    for orbit in orbits:
        across = 20 + (width - 40) * (orbit.rate - lowest) / span
        heights = {round(height - 20 - (height - 40) * x, 1) for x in orbit.points[:dots]}
        marks += [f'<circle cx="{across:.1f}" cy="{each}" r="0.8"/>' for each in sorted(heights)]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">'
    return "\n".join([head, f'<rect width="{width}" height="{height}" fill="white"/>', *marks, "</svg>\n"])


if __name__ == "__main__":
    sys.exit(wf.cli())
