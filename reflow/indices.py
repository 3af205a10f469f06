"""Sets of element indices as ranges: the width of an array costs nothing, only its gaps do."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator


class Indices:
    """An immutable set of non-negative integers, kept as sorted, disjoint, non-touching ranges.

    ``str()`` gives the notation of ``sbatch --array`` (``0-3,7``) and `parse` reads it back. All set
    operations cost the number of ranges, not of members.
    """

    __slots__ = ("_count", "_ranges", "_ranks", "_starts")

    def __init__(self, members: Iterable[int] = ()) -> None:
        self._set_ranges(_join((index, index + 1) for index in sorted(members)))

    @classmethod
    def range(cls, start: int, stop: int) -> Indices:
        """Return the indices ``start <= i < stop``."""
        return cls._of(((start, stop),) if stop > start else ())

    @classmethod
    def from_ranges(cls, pairs: Iterable[tuple[int, int]]) -> Indices:
        """Return the union of ranges given as ``(start, stop)`` pairs, stop excluded, in any order."""
        return cls._of(_join(sorted(pairs)))

    @classmethod
    def parse(cls, text: str) -> Indices:
        """Read ``0-3,7``; raises `ValueError` on anything else. Empty text is the empty set."""
        pairs = []
        for part in filter(None, (piece.strip() for piece in text.split(","))):
            first, dash, last = part.partition("-")
            if not first.isdecimal() or (dash and not last.isdecimal()):
                raise ValueError(f"'{part}' is not an index or a range of indices such as 0-3")
            pairs.append((int(first), int(last or first) + 1))
        return cls._of(_join(sorted(pairs)))

    @classmethod
    def _of(cls, ranges: Iterable[tuple[int, int]]) -> Indices:
        indices = cls.__new__(cls)
        indices._set_ranges(tuple(ranges))
        return indices

    def _set_ranges(self, ranges: tuple[tuple[int, int], ...]) -> None:
        if ranges and ranges[0][0] < 0:
            raise ValueError(f"an index cannot be negative: {ranges[0][0]}")
        self._ranges = ranges
        self._starts = [start for start, _ in ranges]
        self._ranks = []
        count = 0
        for start, stop in ranges:
            self._ranks.append(count)
            count += stop - start
        self._count = count

    @property
    def ranges(self) -> tuple[tuple[int, int], ...]:
        """The ranges as ``(start, stop)`` pairs, stop excluded, ascending."""
        return self._ranges

    def rank(self, index: int) -> int:
        """Return how many members are smaller than `index`, which must be a member (`KeyError`)."""
        place = bisect_right(self._starts, index) - 1
        if place < 0 or index >= self._ranges[place][1]:
            raise KeyError(index)
        return self._ranks[place] + index - self._starts[place]

    def shift(self, offset: int) -> Indices:
        """Return every member plus `offset`."""
        return Indices._of((start + offset, stop + offset) for start, stop in self._ranges)

    def grouped(self, size: int) -> Indices:
        """Return which groups of `size` neighbouring indices have members: 0 for ``0 <= i < size``, and so on."""
        if size == 1:
            return self
        return Indices._of(_join((start // size, (stop - 1) // size + 1) for start, stop in self._ranges))

    def widened(self, size: int) -> Indices:
        """Return all indices of those groups."""
        return Indices._of((start * size, stop * size) for start, stop in self.grouped(size)._ranges)

    def first(self, count: int) -> Indices:
        """Return the `count` smallest members."""
        taken = []
        for start, stop in self._ranges:
            if count <= 0:
                break
            taken.append((start, min(stop, start + count)))
            count -= stop - start
        return Indices._of(taken)

    def __or__(self, other: Indices) -> Indices:
        return Indices._of(_join(sorted(self._ranges + other._ranges)))

    def __and__(self, other: Indices) -> Indices:
        shared, mine, theirs = [], 0, 0
        while mine < len(self._ranges) and theirs < len(other._ranges):
            start = max(self._ranges[mine][0], other._ranges[theirs][0])
            stop = min(self._ranges[mine][1], other._ranges[theirs][1])
            if start < stop:
                shared.append((start, stop))
            if self._ranges[mine][1] < other._ranges[theirs][1]:
                mine += 1
            else:
                theirs += 1
        return Indices._of(shared)

    def __sub__(self, other: Indices) -> Indices:
        kept, place = [], 0
        for start, stop in self._ranges:
            while place < len(other._ranges) and other._ranges[place][1] <= start:
                place += 1
            rest, hole = start, place
            while rest < stop and hole < len(other._ranges) and other._ranges[hole][0] < stop:
                if rest < other._ranges[hole][0]:
                    kept.append((rest, other._ranges[hole][0]))
                rest = max(rest, other._ranges[hole][1])
                hole += 1
            if rest < stop:
                kept.append((rest, stop))
        return Indices._of(kept)

    def __contains__(self, index: object) -> bool:
        if not isinstance(index, int):
            return False
        place = bisect_right(self._starts, index) - 1
        return place >= 0 and index < self._ranges[place][1]

    def __iter__(self) -> Iterator[int]:
        for start, stop in self._ranges:
            yield from range(start, stop)

    def __len__(self) -> int:
        return self._count

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Indices) and self._ranges == other._ranges

    def __hash__(self) -> int:
        return hash(self._ranges)

    def __str__(self) -> str:
        return ",".join(f"{start}" if stop - start == 1 else f"{start}-{stop - 1}" for start, stop in self._ranges)

    def __repr__(self) -> str:
        return f"Indices.parse({str(self)!r})"


def _join(pairs: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Join sorted ranges that touch or overlap."""
    joined: list[tuple[int, int]] = []
    for start, stop in pairs:
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], stop))
        elif start < stop:
            joined.append((start, stop))
    return tuple(joined)
