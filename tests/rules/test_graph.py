import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflow.graph import topological_order


def test_every_task_comes_after_what_it_depends_on():
    assert topological_order({"sum": ["split", "load"], "split": ["load"], "load": []}) == ["load", "split", "sum"]


def test_tasks_that_do_not_depend_on_each_other_stay_in_the_order_of_definition():
    assert topological_order({"c": [], "a": [], "d": ["a"], "b": []}) == ["c", "a", "d", "b"]


def test_a_dependency_named_twice_counts_once():
    assert topological_order({"b": ["a", "a"], "a": []}) == ["a", "b"]


@given(st.dictionaries(st.integers(0, 30), st.lists(st.integers(0, 30))))
def test_any_graph_without_cycles_is_ordered(edges):
    tasks = {f"t{n}": [f"t{m}" for m in edges.get(n, []) if m < n] for n in range(30, -1, -1)}
    order = topological_order(tasks)
    place = {name: number for number, name in enumerate(order)}
    assert sorted(order) == sorted(tasks)
    assert all(place[dependency] < place[name] for name, needed in tasks.items() for dependency in needed)


def test_a_cycle_is_named_in_the_direction_of_the_data():
    with pytest.raises(ValueError, match="a -> b -> a "):
        topological_order({"start": [], "a": ["b", "start"], "b": ["a"], "end": ["b"]})


def test_a_long_cycle_is_found_behind_tasks_that_only_wait_for_it():
    tasks = {"late": ["x"], "x": ["z"], "y": ["x"], "z": ["y"]}
    with pytest.raises(ValueError, match=r"y -> z -> x -> y|x -> y -> z -> x|z -> x -> y -> z"):
        topological_order(tasks)


def test_a_task_that_takes_from_itself_is_a_cycle():
    with pytest.raises(ValueError, match="a -> a"):
        topological_order({"a": ["a"]})


def test_an_unknown_name_comes_with_the_name_that_was_meant():
    with pytest.raises(ValueError, match=r"Task 'b' refers to unknown task 'prepair'\. Did you mean 'prepare'\?"):
        topological_order({"prepare": [], "b": ["prepair"]})


def test_an_unknown_name_like_no_other_comes_with_all_names():
    with pytest.raises(ValueError, match=r"unknown task 'zzz'\. The tasks are: prepare, b\."):
        topological_order({"prepare": [], "b": ["zzz"]})
