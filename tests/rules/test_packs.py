"""Whose failure the death of a pack's process is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from reflow.packs import BegunFile, last_begun, struck_down
from reflow.states import TaskState
from reflow.stores.records import InFlight


def silent(*instances):
    return [InFlight(each, 1, TaskState.SUBMITTED, "7", 0, packed_in=3) for each in instances]


def test_the_element_that_began_last_was_killed_and_its_neighbours_were_not():
    assert struck_down(silent(4, 5, 6), 5) == tuple(silent(5))


def test_a_process_that_dies_between_two_elements_is_nobodys_failure():
    assert struck_down(silent(5, 6), 4) == ()


def test_where_none_began_all_fail():
    assert struck_down(silent(4, 5), None) == tuple(silent(4, 5))


@given(st.integers(1, 30), st.data())
def test_packs_that_die_at_every_turn_come_to_an_end(width, data):
    """Each job of the pack dies somewhere: before the first element, in one, or after it has been published."""
    left, jobs = list(range(1, width + 1)), 0
    while left:
        jobs += 1
        place = data.draw(st.integers(-1, len(left) - 1))
        published = data.draw(st.integers(0, place + 1)) if place >= 0 else 0
        begun = left[place] if place >= 0 else None
        quiet = silent(*left[published:])
        failed = {each.instance for each in struck_down(quiet, begun)}
        left = [each.instance for each in quiet if each.instance not in failed]
    assert jobs <= width


def test_the_file_tells_what_began_last(tmp_path):
    path = tmp_path / "packs" / "1" / "0"
    assert last_begun(path) is None
    begun = BegunFile(path)
    assert last_begun(path) is None
    for instance in (12_345_678, 9):
        begun.write(instance)
        assert last_begun(path) == instance
    begun.close()
