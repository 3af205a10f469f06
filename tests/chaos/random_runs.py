"""Random small workflows and random faults, both made from a seed: the same seed makes the same again.

A workflow is a pipeline file of its own and a model that tells what each element has to return. Faults strike an
element's first try, or a submit, or whatever runs when a moment comes.
"""

from __future__ import annotations

import os
import random
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent

from reflow.indices import Indices

from .scene import FakePlace, Scene

#: What may happen to something that runs.
_MOMENTS = ("kill", "kill", "NODE_FAIL", "PREEMPTED", "TIMEOUT", "scancel", "requeue")

#: Larger than this no value gets.
_MODULUS = 10_007

_HEAD = """
import ctypes, os, signal, sys, time
from typing import Annotated
from reflow import Result, RunDir, Workflow

wf = Workflow("random")


def note(folder, *words):
    job = os.environ.get("SLURM_ARRAY_JOB_ID") or os.environ.get("SLURM_JOB_ID", "0")
    restart = os.environ.get("SLURM_RESTART_COUNT", "0")
    trace = os.open(folder / "trace", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.write(trace, (" ".join(map(str, [*words, job, restart, os.getpid()])) + "\\n").encode())
    os.close(trace)


def begin(folder, task, index):
    note(folder, "begin", task, index)
    fault = folder / f"fault-{task}-{index}"
    try:
        what = fault.read_text()
        fault.unlink()
    except FileNotFoundError:
        what = ""
    if what == "raise":
        raise ValueError(f"{task} {index} is unlucky")
    if what == "exit":
        sys.exit(3)
    if what == "segfault":
        ctypes.string_at(0)
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "linger":
        time.sleep(1.5)


def mix(*values):
    total = 7
    for value in values:
        total = (31 * total + value) % 10007
    return total
"""


def mix(*values: int) -> int:
    """Return what the tasks' function of the same name returns."""
    total = 7
    for value in values:
        total = (31 * total + value) % _MODULUS
    return total


@dataclass
class Task:
    """One task of a random workflow, and what its elements return."""

    name: str
    number: int
    #: ``list``: a singleton that returns a list; ``one``: one that returns a number; ``array``: an array of numbers.
    kind: str
    #: Name and mode of the inputs.
    inputs: list[tuple[str, str]] = field(default_factory=list)
    retries: int = 0
    pack: int = 1
    #: What each element returns; of a singleton the only one.
    values: list = field(default_factory=list)

    def source(self) -> str:
        """Return the decorated function."""
        options = ['mem="100M"', 'time="5"']
        if self.retries:
            options.append(f"retries={self.retries}")
        if self.pack > 1:
            options.append(f"pack={self.pack}")
        decorator = "array_job" if self.kind == "array" else "job"
        parameters = []
        for place, (upstream, mode) in enumerate(self.inputs):
            kind = "list[int]" if mode == "gather" else "int"
            result = f"Result({upstream!r}, broadcast=True)" if mode == "whole" else f"Result({upstream!r})"
            parameters.append(f"a{place}: Annotated[{kind}, {result}]")
        values = [
            f"*a{place}" if mode in ("gather", "whole list") else f"a{place}"
            for place, (_, mode) in enumerate(self.inputs)
        ]
        mixed = f"mix({', '.join([str(self.number), *values])})"
        returned = f"[mix({self.number}, n) for n in range({len(self.values[0])})]" if self.kind == "list" else mixed
        # An element knows its index by the slot that it got: all these arrays are narrow.
        index = "place" if self.kind == "array" else "0"
        returns = "list[int]" if self.kind == "list" else "int"
        lines = [
            f"@wf.{decorator}({', '.join(options)})",
            f"def {self.name}({', '.join([*parameters, 'run_dir: RunDir'])}) -> {returns}:",
            f"    value = {returned}",
            *([f"    place = {self.values!r}.index(value)"] if self.kind == "array" else []),
            f'    begin(run_dir, "{self.name}", {index})',
            f'    note(run_dir, "end", "{self.name}", {index})',
            "    return value",
        ]
        return "\n".join(lines)


@dataclass
class Plan:
    """A workflow and what is done to it."""

    seed: int
    tasks: list[Task]
    #: What single elements do at their first try.
    faults: dict[tuple[str, int], str]
    #: How often sbatch misbehaves, and how; from the second submit on.
    sbatch: tuple[str, int] | None
    #: The step of a dispatch at which its process is killed.
    kill_step: int | None
    #: What happens at moments, in seconds after the submit: ``kill``, ``NODE_FAIL``, ``PREEMPTED``, ``scancel``, ...
    moments: list[tuple[float, str]]

    def describe(self) -> str:
        """Return the plan in a line."""
        shape = " ".join(
            f"{task.name}:{task.kind}{len(task.values)}"
            + (f"({','.join(f'{mode} {name}' for name, mode in task.inputs)})" if task.inputs else "")
            for task in self.tasks
        )
        faults = " ".join(f"{task}[{index}]={what}" for (task, index), what in self.faults.items())
        return f"{shape} | {faults} | sbatch {self.sbatch} | kill step {self.kill_step} | {self.moments}"


def make_plan(seed: int) -> Plan:
    """Return the plan of a seed."""
    chance = random.Random(seed)
    tasks: list[Task] = []
    for number in range(chance.randint(2, 5)):
        tasks.append(_make_task(chance, tasks, number))
    elements = [
        (task.name, index) for task in tasks for index in range(len(task.values) if task.kind == "array" else 1)
    ]
    faults = {}
    for element in chance.sample(elements, k=min(len(elements), chance.choice([0, 0, 1, 1, 2]))):
        faults[element] = chance.choice(["raise", "exit", "segfault", "kill", "kill", "linger"])
    sbatch = (
        (chance.choice(["error", "lost", "lost", "late", "hang"]), chance.randint(1, 2))
        if chance.random() < 0.3
        else None
    )
    kill_step = chance.randint(1, 140) if chance.random() < 0.3 else None
    moments = [
        (
            chance.uniform(0.2, 5.0),
            chance.choice(["kill", "kill", "NODE_FAIL", "PREEMPTED", "TIMEOUT", "scancel", "requeue"]),
        )
        for _ in range(chance.choice([0, 0, 1, 1, 2]))
    ]
    return Plan(seed, tasks, faults, sbatch, kill_step, sorted(moments))


def _make_task(chance: random.Random, tasks: list[Task], number: int) -> Task:
    name = f"t{number}"
    lists = [task for task in tasks if task.kind == "list"]
    arrays = [task for task in tasks if task.kind == "array"]
    ones = [task for task in tasks if task.kind == "one"]
    kinds = ["list"] if not tasks else []
    kinds += ["fan-out"] * 3 if lists else ["list"]
    kinds += ["chain", "chain", "gather"] if arrays else []
    kinds += ["one"] if ones else []
    kind = chance.choice(kinds)
    retries = chance.choice([0, 0, 1])
    if kind == "list":
        width = chance.choice([0, 1, 2, 3, 4])
        return Task(name, number, "list", values=[[mix(number, each) for each in range(width)]], retries=retries)
    if kind in ("fan-out", "chain"):
        upstream = chance.choice(lists if kind == "fan-out" else arrays)
        items = upstream.values[0] if kind == "fan-out" else upstream.values
        inputs, rows = [(upstream.name, kind)], [[item] for item in items]
        if ones and chance.random() < 0.4:
            shared = chance.choice(ones)
            inputs.append((shared.name, "whole"))
            rows = [[*row, *shared.values] for row in rows]
        values = [mix(number, *row) for row in rows]
        return Task(name, number, "array", inputs, retries, chance.choice([1, 1, 1, 2]), values)
    if kind == "gather":
        upstream = chance.choice(arrays)
        return Task(name, number, "one", [(upstream.name, "gather")], retries, values=[mix(number, *upstream.values)])
    upstream = chance.choice(ones)
    return Task(name, number, "one", [(upstream.name, "direct")], retries, values=[mix(number, *upstream.values)])


def write_pipeline(plan: Plan, folder: Path) -> Path:
    """Write the pipeline file and return its path."""
    file = folder / f"random_{plan.seed}.py"
    file.write_text("\n\n\n".join([dedent(_HEAD).strip(), *(task.source() for task in plan.tasks)]) + "\n")
    return file


def strike_at_moments(plan: Plan, scene: Scene) -> list[str]:
    """Do what the plan has for its moments; return what was really struck."""
    began = time.monotonic()
    chance = random.Random(plan.seed + 1)
    struck = []
    for moment, what in plan.moments:
        time.sleep(max(0.0, began + moment - time.monotonic()))
        struck += _strike(chance, scene, what)
    return struck


def _strike(chance: random.Random, scene: Scene, what: str) -> list[str]:
    assert isinstance(scene.place, FakePlace)
    slurm = scene.place.slurm
    if what == "kill":
        living = [line for line in scene.trace("begin") if os.path.exists(f"/proc/{line[-1]}")]
        if not living:
            return []
        line = chance.choice(living)
        try:
            os.kill(int(line[-1]), signal.SIGKILL)
        except ProcessLookupError:
            return []
        return [f"killed {line[0]}[{line[1]}]"]
    running = [
        (history.job.id, history.name, slot)
        for history in slurm.queue.histories(slurm.queue.open_ids())
        for slot in history.running
        if not history.name.endswith("-sentinel")
    ]
    if not running:
        return []
    job, name, slot = chance.choice(running)
    target = f"{job}_{slot}" if slurm.queue.history(job).job.slots is not None else str(job)
    if what == "scancel":
        slurm.run("scancel", target)
    elif what == "requeue":  # as an administrator does it, who may
        slurm.queue.requeue(job, Indices.range(slot, slot + 1))
    else:
        slurm.strike(what, str(job), str(slot), requeue=chance.random() < 0.5 and what != "TIMEOUT")
    return [f"{what} {name}_{slot}"]
