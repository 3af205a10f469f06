"""Sets of indices as ranges obey the laws of sets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflow.indices import Indices

members = st.sets(st.integers(0, 60))


@given(members, members)
def test_operations_are_those_of_sets(left, right):
    assert set(Indices(left) | Indices(right)) == left | right
    assert set(Indices(left) & Indices(right)) == left & right
    assert set(Indices(left) - Indices(right)) == left - right
    assert Indices(left) | Indices(right) == Indices(left | right)
    assert Indices(left) - Indices(right) == Indices(left - right)


@given(members)
def test_notation_reads_back(some):
    indices = Indices(some)
    assert Indices.parse(str(indices)) == indices
    assert list(indices) == sorted(some)
    assert len(indices) == len(some)
    assert all((index in indices) == (index in some) for index in range(62))


@given(members)
def test_rank_counts_the_smaller_members(some):
    indices = Indices(some)
    assert [indices.rank(index) for index in sorted(some)] == list(range(len(some)))


@given(members, st.integers(0, 70))
def test_first_takes_the_smallest(some, count):
    assert list(Indices(some).first(count)) == sorted(some)[:count]


def test_notation_is_that_of_sbatch():
    assert str(Indices([0, 1, 2, 3, 7, 9, 10])) == "0-3,7,9-10"
    assert str(Indices()) == ""


def test_a_million_indices_are_one_range():
    assert Indices.range(0, 1_000_000).ranges == ((0, 1_000_000),)


@pytest.mark.parametrize("text", ["a", "3-", "-3", "1-2-3", "1.5"])
def test_other_text_is_refused(text):
    with pytest.raises(ValueError, match="is not an index or a range"):
        Indices.parse(text)


def test_a_stranger_has_no_rank():
    with pytest.raises(KeyError):
        Indices([1, 2]).rank(3)


def test_negative_indices_are_refused():
    with pytest.raises(ValueError, match="cannot be negative"):
        Indices([-1])


@given(members, st.integers(1, 9))
def test_groups_of_neighbours(some, size):
    indices = Indices(some)
    assert set(indices.grouped(size)) == {index // size for index in some}
    assert set(indices.widened(size)) == {
        index for group in indices.grouped(size) for index in range(group * size, (group + 1) * size)
    }
