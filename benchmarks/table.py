"""A table of measurements, as text."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """What one benchmark found: a name and a value for each quantity."""

    title: str
    rows: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        names = max(len(name) for name, _ in self.rows)
        values = max(len(value) for _, value in self.rows)
        lines = [f"  {name:<{names}}  {value:>{values}}" for name, value in self.rows]
        return "\n".join([self.title, *lines, ""])
