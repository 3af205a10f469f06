"""The order in which tasks can run."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from heapq import heapify, heappop, heappush

from .suggest import did_you_mean


def topological_order(tasks: Mapping[str, Collection[str]]) -> list[str]:
    """Return the names so that each comes after all it depends on; among equals the order of definition stays.

    `tasks` gives the dependencies of each task. Raises `ValueError` for a name that is no task, and for a cycle.
    """
    for name, dependencies in tasks.items():
        for dependency in dependencies:
            if dependency not in tasks:
                hint = did_you_mean(dependency, tasks) or f" The tasks are: {', '.join(tasks)}."
                raise ValueError(f"Task '{name}' refers to unknown task '{dependency}'.{hint}")

    names = list(tasks)
    place = {name: number for number, name in enumerate(names)}
    missing = {name: len(set(dependencies)) for name, dependencies in tasks.items()}
    followers: dict[str, list[str]] = {name: [] for name in tasks}
    for name, dependencies in tasks.items():
        for dependency in set(dependencies):
            followers[dependency].append(name)

    ready = [place[name] for name, count in missing.items() if count == 0]
    heapify(ready)
    order: list[str] = []
    while ready:
        name = names[heappop(ready)]
        order.append(name)
        for follower in followers[name]:
            missing[follower] -= 1
            if missing[follower] == 0:
                heappush(ready, place[follower])
    if len(order) < len(names):
        cycle = _find_cycle({name: tasks[name] for name, count in missing.items() if count})
        raise ValueError(
            f"The tasks {' -> '.join(cycle)} wait for each other in a cycle: remove one of these dependencies."
        )
    return order


def _find_cycle(stuck: Mapping[str, Collection[str]]) -> list[str]:
    """Return a cycle in the direction of the data, its first name repeated at the end.

    Every stuck task has a stuck dependency, so walking against the data must come back to a task already seen.
    """
    path = [next(iter(stuck))]
    while True:
        behind = next(dependency for dependency in stuck[path[-1]] if dependency in stuck)
        if behind in path:
            return [behind, *reversed(path[path.index(behind) :])]
        path.append(behind)
