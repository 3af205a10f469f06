from __future__ import annotations

from typing import Annotated

import pytest

from reflow.errors import UnknownTaskError
from reflow.flow import Flow
from reflow.params import Result
from reflow.spec import JobConfig
from reflow.wiring import plan_tasks


def prepare() -> list[int]:
    return [1, 2]


def square(item: Annotated[int, Result(step="prepare")]) -> int:
    return item * item


def total(parts: Annotated[list[int], Result(step="square")]) -> int:
    return sum(parts)


@pytest.fixture
def flow():
    flow = Flow("numbers")
    flow.job()(prepare)
    flow.array_job()(square)
    flow.job(after=["prepare"])(total)
    return flow


def config(**options) -> JobConfig:
    flow = Flow("f")
    flow.job("work", **options)(prepare)
    return flow.task("work").config


def test_the_decorator_returns_the_function_unchanged():
    assert Flow("f").job()(prepare) is prepare


def test_a_task_is_called_as_its_function_or_as_told(flow):
    flow.job("other name")(prepare)
    assert list(flow.tasks) == ["prepare", "square", "total", "other name"]
    assert flow.task("other name").function is prepare


def test_the_defaults_of_a_task():
    assert config() == JobConfig()


def test_array_job_is_job_with_array(flow):
    assert flow.task("square").config.array
    with pytest.raises(TypeError, match=r"leave out array="):
        flow.array_job("x", array=True)


def test_all_options_reach_the_configuration():
    options = {
        "array": True,
        "array_parallelism": 5,
        "cpus": 2,
        "time": "1-00:00:00",
        "mem": "500M",
        "version": "2",
        "cache": False,
        "allow_partial": True,
        "setup": ["module load gcc"],
        "environment": {"OMP_NUM_THREADS": "2"},
        "template": "mine.sh",
    }
    assert config(**options) == JobConfig(**{**options, "setup": ("module load gcc",)})


def test_options_of_the_scheduler_are_merged_under_their_long_names():
    found = config(submit_options={"partition": "gpu", "mail_type": "END"}, gpus_per_node=1, exclusive=True)
    assert found.submit_options == {"partition": "gpu", "mail-type": "END", "gpus-per-node": 1, "exclusive": True}


def test_an_option_given_twice_is_refused():
    with pytest.raises(TypeError, match="'gpus-per-node' is given twice"):
        config(submit_options={"gpus-per-node": 1}, gpus_per_node=2)


@pytest.mark.parametrize(
    "option", ["partition", "account", "qos", "gres", "gpus", "mincpus", "batch", "nodes", "queue", "time_min"]
)
def test_options_that_the_scheduler_knows_are_no_spelling_mistakes(option):
    assert option.replace("_", "-") in config(**{option: "1"}).submit_options


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("arry", "array"),
        ("memory", "mem"),
        ("cpu", "cpus"),
        ("cores", "cpus"),
        ("walltime", "time"),
        ("array_paralelism", "array_parallelism"),
        ("versions", "version"),
        ("env", "environment"),
        ("cached", "cache"),
    ],
)
def test_a_misspelt_keyword_is_not_passed_on_to_the_scheduler(written, meant):
    with pytest.raises(TypeError, match=rf"Task 'work': there is no keyword '{written}'\. Did you mean '{meant}'\?"):
        config(**{written: 1})


@pytest.mark.parametrize("option", ["array", "time", "mem", "cpus-per-task", "job_name", "output", "dependency"])
def test_what_has_a_keyword_or_is_decided_by_reflow_is_no_option(option):
    with pytest.raises(TypeError, match="leave out the option"):
        config(submit_options={option: "1"})


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"cpus": 0}, ValueError, "cpus=0 must be at least 1"),
        ({"cpus": None}, TypeError, "cpus=None"),
        ({"cpus": True}, TypeError, "cpus=True"),
        ({"cpus": "4"}, TypeError, "cpus='4'"),
        ({"time": 30}, TypeError, "time=30 must be a string"),
        ({"time": "1 hour"}, ValueError, "HH:MM:SS"),
        ({"time": "00:30:00:00"}, ValueError, "HH:MM:SS"),
        ({"time": "00:30:00\n"}, ValueError, "HH:MM:SS"),
        ({"mem": 4}, TypeError, "mem=4 must be a string"),
        ({"mem": "4 GB"}, ValueError, "4G"),
        ({"mem": "1.5G"}, ValueError, "whole number"),
        ({"array_parallelism": 3}, ValueError, "needs array=True"),
        ({"array": True, "array_parallelism": 0}, ValueError, "at least 1"),
        ({"array": 1}, TypeError, "True or False"),
        ({"version": 2}, TypeError, "write version='2'"),
        ({"cache": "no"}, TypeError, "True or False"),
        ({"verify": "yes"}, TypeError, "verify='yes' must be a function"),
        ({"after": prepare}, TypeError, "must name tasks"),
        ({"after": [prepare]}, TypeError, "must name tasks"),
        ({"setup": "module load gcc"}, TypeError, "list of shell lines"),
        ({"environment": {"A": 1}}, TypeError, "map names to strings"),
        ({"environment": {"A B": "1"}}, ValueError, "'A B'"),
        ({"template": 3}, TypeError, "file name"),
        ({"submit_options": "gpu"}, TypeError, "must be a dict"),
        ({"submit_options": {"gres": None}}, TypeError, "'gres' has the value None"),
        ({"submit_options": {"--gres": "gpu"}}, ValueError, "write the option '--gres' as 'gres'"),
    ],
)
def test_a_wrong_option_is_refused_when_the_decorator_runs(options, error, words):
    with pytest.raises(error, match=f"Task 'work': .*{words}"):
        config(**options)


@pytest.mark.parametrize("time", ["30", "30:00", "00:30:00", "100:00:00", "2-12", "2-12:30", "2-12:30:15"])
def test_every_way_in_which_slurm_writes_a_time_is_taken(time):
    assert config(time=time).time == time


@pytest.mark.parametrize("memory", ["4G", "500M", "1T", "1024", "4g", "0"])
def test_every_way_in_which_slurm_writes_memory_is_taken(memory):
    assert config(mem=memory).mem == memory


@pytest.mark.parametrize(("after", "names"), [("prepare", ("prepare",)), (["b", "a", "b"], ("b", "a")), (None, ())])
def test_after_is_one_name_or_several(after, names):
    flow = Flow("f")
    flow.job(after=after)(prepare)
    assert flow.task("prepare").after == names


def test_a_decorator_without_parentheses_says_so():
    with pytest.raises(TypeError, match=r"Write \.job\(\) with parentheses above the function 'prepare'"):
        Flow("f").job(prepare)


@pytest.mark.parametrize(("name", "error"), [("", ValueError), ("a\0b", ValueError), (3, TypeError)])
def test_a_name_that_cannot_be_one_is_refused(name, error):
    with pytest.raises(error, match="name must"):
        Flow("f").job(name)
    with pytest.raises(error, match="name must"):
        Flow(name)


def test_a_duplicate_name_is_refused(flow):
    with pytest.raises(ValueError, match="'numbers' already has a task 'prepare': give one of them another name"):
        flow.job()(prepare)


def test_a_refused_task_leaves_nothing_behind():
    flow = Flow("f")
    with pytest.raises(TypeError):
        flow.job()(lambda: 1)
    assert not flow.tasks


def test_an_unknown_task_comes_with_the_name_that_was_meant(flow):
    with pytest.raises(UnknownTaskError, match=r"'numbers' has no task 'squar'\. Did you mean 'square'\?"):
        flow.task("squar")


def test_an_included_flow_keeps_its_names_without_a_prefix(flow):
    outer = Flow("outer")
    outer.include(flow)
    assert list(outer.tasks) == ["prepare", "square", "total"]


def test_a_prefix_renames_tasks_and_what_they_refer_to(flow):
    outer = Flow("outer")
    outer.include(flow, prefix="one")
    outer.include(flow, prefix="two")
    plans = {plan.name: plan for plan in plan_tasks(outer.tasks.values())}
    assert list(plans) == ["one_prepare", "one_square", "one_total", "two_prepare", "two_square", "two_total"]
    assert plans["two_square"].upstreams == ("two_prepare",)
    assert plans["one_total"].upstreams == ("one_prepare", "one_square")
    assert plans["one_total"].after == ("one_prepare",)
    assert list(flow.tasks) == ["prepare", "square", "total"]


def test_an_included_flow_can_be_included_again(flow):
    middle, outer = Flow("middle"), Flow("outer")
    middle.include(flow, prefix="a")
    outer.include(middle, prefix="b")
    plans = {plan.name: plan for plan in plan_tasks(outer.tasks.values())}
    assert plans["b_a_total"].upstreams == ("b_a_prepare", "b_a_square")


def test_an_included_flow_may_refer_to_tasks_around_it():
    inner, outer = Flow("inner"), Flow("outer")
    outer.job()(prepare)
    inner.array_job()(square)
    outer.include(inner, prefix="x")
    assert plan_tasks(outer.tasks.values())[1].upstreams == ("prepare",)


def test_a_taken_name_includes_nothing(flow):
    outer = Flow("outer")
    outer.job("square")(prepare)
    with pytest.raises(ValueError, match="'outer' already has a task 'square': include 'numbers' with another prefix"):
        outer.include(flow)
    assert list(outer.tasks) == ["square"]


def test_only_flows_can_be_included(flow):
    with pytest.raises(TypeError, match=r"include\(\) takes a Flow"):
        flow.include(prepare)
