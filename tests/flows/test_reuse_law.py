"""The law of the cache: whatever the workflow and whatever was changed, the results are those of a first run.

Random workflows of all kinds of stages, random changes between their runs, all in one manifest.
"""

# No postponed annotations here: the names of upstream tasks are variables of the functions that make the tasks.
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reflow import Param, Result, RunState, Workflow
from reflow.dispatch import open_run
from reflow.local_run import DirectExecutor, run_to_the_end
from reflow.stores.sqlite import SqliteStore

#: How many workflows are tried; `make stress` tries more.
EXAMPLES = int(os.environ.get("REFLOW_LAW_EXAMPLES", "5"))

K = Annotated[int, Param(namespace="local")]

#: What a task gives to others: a list, one value for each element, or one value.
GIVES = {"list": "list", "gather": "list", "map": "array", "chain": "array", "mixed": "array", "write": "one"}
NEEDS = {"list": (), "write": (), "gather": ("array",), "map": ("list",), "chain": ("array",), "mixed": ("list", "one")}


@dataclass
class Node:
    """One task: its kind and the tasks that it takes from."""

    name: str
    kind: str
    takes: tuple[str, ...]


@dataclass
class Case:
    """A workflow, and what is changed from run to run: values of parameters, files, tasks to force."""

    nodes: list[Node]
    steps: list[dict[str, Any]] = field(default_factory=list)


@st.composite
def cases(draw):
    nodes = [Node("t0", "list", ()), Node("t1", "write", ())]
    for number in range(2, draw(st.integers(4, 8))):
        kind = draw(st.sampled_from(sorted(GIVES)))
        offers = [[each.name for each in nodes if GIVES[each.kind] == need] for need in NEEDS[kind]]
        if all(offers):
            nodes.append(Node(f"t{number}", kind, tuple(draw(st.sampled_from(names)) for names in offers)))
    names = [each.name for each in nodes]
    writers = [each.name for each in nodes if each.kind == "write"]
    change = st.one_of(
        st.tuples(st.just("set"), st.sampled_from(names), st.integers(0, 2)),
        st.tuples(st.just("force"), st.sampled_from(names), st.just(0)),
        st.tuples(st.just("damage"), st.sampled_from(writers), st.just(0)),
        st.tuples(st.just("purge"), st.sampled_from(writers), st.just(0)),
    )
    return Case(nodes, draw(st.lists(st.lists(change, max_size=3), min_size=2, max_size=4)))


def workflow_of(nodes, folder):
    made = Workflow("law")
    for node in nodes:
        add(made, node.name, node.kind, node.takes, folder)
    return made


def add(workflow, name, kind, takes, folder):
    if kind == "list":

        @workflow.job(name)
        def numbers(k: K) -> list[int]:
            return [number * 10 for number in range(k, 3)]

    elif kind == "write":

        @workflow.job(name)
        def write(k: K) -> Path:
            path = folder / name
            path.write_text(str(k % 2))
            return path

    elif kind == "gather":

        @workflow.job(name)
        def gather(k: K, values: Annotated[list[int], Result(takes[0])]) -> list[int]:
            return [*values[k:], k]

    elif kind == "map":

        @workflow.array_job(name)
        def scale(k: K, item: Annotated[int, Result(takes[0])]) -> int:
            return item // (k + 1)

    elif kind == "chain":

        @workflow.array_job(name)
        def chain(k: K, item: Annotated[int, Result(takes[0])]) -> int:
            return min(item, 10) + k

    else:

        @workflow.array_job(name)
        def mixed(
            k: K, item: Annotated[int, Result(takes[0])], path: Annotated[Path, Result(takes[1], broadcast=True)]
        ) -> int:
            return item + k + 100 * int(path.read_text())


def expected(nodes, values):
    """What the tasks return, worked out without reflow."""
    found: dict[str, Any] = {}
    for node in nodes:
        found[node.name] = evaluate(node.kind, values[node.name], [found[name] for name in node.takes])
    return found


def evaluate(kind, k, taken):
    if kind == "list":
        return [number * 10 for number in range(k, 3)]
    if kind == "write":
        return k % 2
    if kind == "gather":
        return [*taken[0][k:], k]
    if kind == "map":
        return [item // (k + 1) for item in taken[0]]
    if kind == "chain":
        return [min(item, 10) + k for item in taken[0]]
    return [item + k + 100 * taken[1] for item in taken[0]]


def results(run, nodes):
    assert run.state is RunState.SUCCESS, run.status(as_dict=True, errors=True)
    return {
        node.name: int(run.results(node.name).read_text()) if node.kind == "write" else run.results(node.name)
        for node in nodes
    }


def make_again(run, workflow, purged):
    """Do what a retry does with damaged results, in this process."""
    damage = run._find_damage()
    assert {task for task, _ in damage} == purged
    assert run._store.remake(run.run_id, damage).count >= len(purged)
    executor = DirectExecutor()
    again = open_run(run._store, run.run_id, executor, workflow.tasks)
    run_to_the_end(again, executor, max_workers=1, stop_on_failure=True)


@settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(cases())
def test_results_with_the_cache_are_those_without(case):
    with tempfile.TemporaryDirectory() as name, SqliteStore(Path(name) / "manifest.db") as store:
        folder = Path(name)
        workflow = workflow_of(case.nodes, folder)
        values = {node.name: 0 for node in case.nodes}
        for step in [[], *case.steps]:
            forced = [task for what, task, _ in step if what == "force"]
            values |= {task: k for what, task, k in step if what == "set"}
            for what, task, _ in step:
                if what == "damage":
                    (folder / task).write_text("77")
            parameters = {f"{task}_k": k for task, k in values.items()}
            run = workflow.run_local(folder / "run", store=store, force_tasks=forced, **parameters)
            assert results(run, case.nodes) == expected(case.nodes, values)
            purged = {task for what, task, _ in step if what == "purge"}
            if purged:
                for task in purged:
                    (folder / task).unlink()
                make_again(run, workflow, purged)
                assert results(run, case.nodes) == expected(case.nodes, values)
        with SqliteStore(folder / "fresh.db") as fresh:
            first = workflow.run_local(folder / "fresh", store=fresh, **parameters)
            assert results(first, case.nodes) == expected(case.nodes, values)
