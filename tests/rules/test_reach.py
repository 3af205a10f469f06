"""Editing code changes the fingerprint of the tasks that reach it, and of no others."""

from __future__ import annotations

import ast
from textwrap import dedent

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reflow.reach import Reach, Root
from reflow.statements import parse_module

PIPELINE = '''
import math
import numpy as np
from dataclasses import dataclass, field
from typing import Annotated
import helpers
import lab.tools as tools
from lab import formats
from helpers import double as twice, LIMIT
from reflow import Param, Result, Workflow

wf = Workflow("p")
SCALE = 2.0
OTHER = 3.0
TABLE = {"a": helpers.first, "b": helpers.second}
CONFIG = {"depth": 1}
CONFIG["width"] = 2
np.random.seed(7)


@dataclass
class Point:
    x: int
    y: int = 0

    def norm(self) -> float:
        return math.hypot(self.x, self.y)


class Base:
    registry = {}

    def __init_subclass__(cls):
        Base.registry[cls.__name__] = cls


class Child(Base):
    weight = 1


def checked(function):
    return function


def local_value(values):
    """Adds up."""
    OTHER = sum(values)  # a name of its own
    return OTHER


def by_default(x, power=SCALE):
    return x**power


@checked
def decorated(x):
    return x


@wf.job(cpus=2, mem="4G")
def task(n: Annotated[int, Param(help="how many")], p: Point) -> int:
    """Does it."""
    # with a comment
    inner = lambda value: value * SCALE
    return [inner(twice(k)) for k in range(n)]


@wf.array_job(time="01:00:00")
def other(x: Annotated[int, Result(step="task")]) -> int:
    return x + OTHER


@wf.job()
def dispatching(key: str) -> int:
    return TABLE[key]()


@wf.job()
def configured() -> int:
    return CONFIG["depth"] + tools.size() + formats.WIDTH


@wf.job()
def registered(name: str) -> int:
    return Base.registry[name].weight


@wf.job()
def lazy() -> int:
    from lab.inside import late
    import helpers as h
    return late() + h.third()


@wf.job()
def sampled() -> float:
    return np.random.random() + by_default(2) + decorated(1) + local_value([1])


@wf.job()
def named(name: str) -> int:
    return getattr(helpers, name)()


@wf.job()
def evaluated(text: str) -> int:
    return eval(text)


if __name__ == "__main__":
    wf.cli()
'''

HELPERS = """
LIMIT = 5
FACTOR = 1


def double(x):
    return scaled(x) * 2


def scaled(x):
    return x * FACTOR


def first():
    return 1


def second():
    return 2


def third():
    return 3


def unrelated():
    return 0
"""

FILES = {
    "pipeline": PIPELINE,
    "helpers": HELPERS,
    "lab": "",
    "lab.tools": "from .formats import WIDTH\nfrom . import deep\ndef size():\n    return WIDTH * deep.DEPTH\n"
    "def no(): pass\n",
    "lab.formats": "WIDTH = 80\nHEIGHT = 25\n",
    "lab.deep": "DEPTH = 1\n",
    "lab.inside": "from .deep import *\ndef late():\n    return DEPTH\n",
}
TASKS = ("task", "other", "dispatching", "configured", "registered", "lazy", "sampled", "named", "evaluated")


def all_parts(files, tasks, pipeline="pipeline"):
    """Return the parts of tasks, found as their decorators would see them: by the line where each begins."""

    def modules(docstrings):
        return {
            name: parse_module(
                name,
                dedent(text),
                is_package=any(other.startswith(f"{name}.") for other in files),
                docstrings=docstrings,
            )
            for name, text in files.items()
        }

    def reach(found):
        return Reach(found.get, lambda: list(found.values()))

    lines = {
        node.name: node.lineno
        for node in ast.walk(ast.parse(dedent(files[pipeline])))
        if isinstance(node, ast.FunctionDef)
    }
    plain, parts = reach(modules(False)), {}
    for task in tasks:
        reached = plain.of([Root(pipeline, lines[task])])
        if reached.docstrings:
            reached = reach(modules(True)).of([Root(pipeline, lines[task])])
        parts[task] = dict(reached.parts)
    return parts


def parts_of(files, task):
    return all_parts(files, [task])[task]


def changed_by(old, new, module="pipeline", files=FILES, tasks=TASKS):
    """Return the tasks whose parts an edit changes."""
    assert old in files[module]
    edited = {**files, module: files[module].replace(old, new)}
    before, after = all_parts(files, tasks), all_parts(edited, tasks)
    return {task for task in tasks if before[task] != after[task]}


# `evaluated` reaches all of its module, and what that imports.
EDITS = [
    ("a comment", "# with a comment", "# with another one", "pipeline", ""),
    ("formatting", "x + OTHER", "(x  +  OTHER)", "pipeline", ""),
    ("a docstring", '"""Does it."""', '"""Does it well."""', "pipeline", ""),
    ("a docstring of a helper", '"""Adds up."""', '"""Sums."""', "pipeline", ""),
    ("resources", 'cpus=2, mem="4G"', 'cpus=8, mem="9G", qos="long"', "pipeline", ""),
    ("the help of a parameter", 'help="how many"', 'help="number"', "pipeline", ""),
    ("the wiring", 'Result(step="task")', 'Result(steps=["task"])', "pipeline", ""),
    ("the command line", "wf.cli()", "print('hello'); wf.cli()", "pipeline", ""),
    ("the task itself", "x + OTHER", "x - OTHER", "pipeline", "other evaluated"),
    ("a type that decodes an input", "p: Point", "p: int", "pipeline", "task evaluated"),
    ("a constant", "SCALE = 2.0", "SCALE = 2.5", "pipeline", "task sampled evaluated"),
    ("the type of a constant", "OTHER = 3.0", "OTHER = 3", "pipeline", "other evaluated"),
    ("a helper", "scaled(x) * 2", "scaled(x) * 3", "helpers", "task named evaluated"),
    ("a helper's helper", "x * FACTOR", "x / FACTOR", "helpers", "task named evaluated"),
    ("a helper's constant", "FACTOR = 1", "FACTOR = 9", "helpers", "task named evaluated"),
    ("a name that is imported and not used", "LIMIT = 5", "LIMIT = 6", "helpers", "named evaluated"),
    ("a function that nobody uses", "return 0", "return 9", "helpers", "named evaluated"),
    ("a function in a table", "return 2", "return 22", "helpers", "dispatching named evaluated"),
    ("the table", '"a": helpers.first', '"a": helpers.second', "pipeline", "dispatching evaluated"),
    ("a method", "math.hypot(self.x, self.y)", "self.x", "pipeline", "task evaluated"),
    ("a field's default", "y: int = 0", "y: int = 1", "pipeline", "task evaluated"),
    ("a constant that another statement changes", '"width"] = 2', '"width"] = 3', "pipeline", "configured evaluated"),
    ("a module below a package", "WIDTH * deep.DEPTH", "WIDTH", "lab.tools", "configured evaluated"),
    ("what a relative import gives", "WIDTH = 80", "WIDTH = 90", "lab.formats", "configured evaluated"),
    ("its neighbour", "HEIGHT = 25", "HEIGHT = 26", "lab.formats", "evaluated"),
    ("a relative module", "DEPTH = 1", "DEPTH = 2", "lab.deep", "configured lazy evaluated"),
    ("a function beside the one used", "def no(): pass", "def no(): return 1", "lab.tools", "evaluated"),
    ("a subclass that registers itself", "weight = 1", "weight = 2", "pipeline", "registered evaluated"),
    ("an import inside a function", "return DEPTH", "return -DEPTH", "lab.inside", "lazy evaluated"),
    ("an alias inside a function", "return 3", "return 33", "helpers", "lazy named evaluated"),
    ("a seed", "seed(7)", "seed(8)", "pipeline", "sampled evaluated"),
    ("a decorator", "    return function", "    return print(1) or function", "pipeline", "sampled evaluated"),
    ("a default argument", "power=SCALE", "power=OTHER", "pipeline", "sampled evaluated"),
    ("a local name like a constant's", "OTHER = sum(values)", "OTHER = max(values)", "pipeline", "sampled evaluated"),
    ("an import under the same name", "import double as", "import third as", "pipeline", "task evaluated"),
    ("a package that is taken under the same name", "numpy as np", "torch as np", "pipeline", "sampled evaluated"),
]


@pytest.mark.parametrize(("old", "new", "module", "wanted"), [edit[1:] for edit in EDITS], ids=[e[0] for e in EDITS])
def test_an_edit_changes_the_tasks_that_reach_it_and_no_others(old, new, module, wanted):
    assert changed_by(old, new, module) == set(wanted.split())


def before_and_after(old, new, module="pipeline", **files):
    """Return whether an edit changes the one task of small modules."""
    files = {name.replace("__", "."): dedent(text) for name, text in files.items()}
    return bool(changed_by(old, new, module, files, ["task"]))


REACHED = [
    ("nested functions", "1", "2", "pipeline", {"pipeline": "def task():\n def a():\n  return 1\n return a()"}),
    (
        "a global that another function sets when its module is loaded",
        "X = 2",
        "X = 3",
        "pipeline",
        {"pipeline": "X = 1\ndef start():\n global X\n X = 2\nstart()\ndef task():\n return X"},
    ),
    (
        "a constant of another module that a third one sets",
        "= 2",
        "= 3",
        "setup",
        {
            "pipeline": "import setup\nimport c\ndef task():\n return c.X",
            "setup": "import c\ndef start():\n c.X = 2\nstart()",
            "c": "X = 1",
        },
    ),
    (
        "a plugin that registers itself",
        "return 1",
        "return 2",
        "plugins",
        {
            "pipeline": "import plugins\nfrom core import KNOWN\ndef task():\n return [f() for f in KNOWN.values()]",
            "core": "KNOWN = {}\ndef register(f):\n KNOWN[f.__name__] = f\n return f",
            "plugins": "from core import register\n@register\ndef one():\n return 1",
        },
    ),
    (
        "an attribute of a function",
        "'K'",
        "'C'",
        "pipeline",
        {"pipeline": "def f(): pass\nf.unit = 'K'\ndef task():\n return f.unit"},
    ),
    (
        "a star import",
        "X = 1",
        "X = 2",
        "c",
        {"pipeline": "from c import *\ndef task():\n return X", "c": "from d import *\nX = 1", "d": "Y = 1"},
    ),
    (
        "a star behind a star",
        "Y = 1",
        "Y = 2",
        "d",
        {"pipeline": "from c import *\ndef task():\n return Y", "c": "from d import *\nX = 1", "d": "Y = 1"},
    ),
    (
        "a module that is imported by a computed name",
        "1",
        "2",
        "far",
        {
            "pipeline": "import importlib\ndef task(n):\n return importlib.import_module('f' + n).x",
            "far": "x = 1",
        },
    ),
    (
        "a module that is imported by its name as text",
        "1",
        "2",
        "far",
        {
            "pipeline": "from importlib import import_module\ndef task():\n return import_module('far').x",
            "far": "x = 1",
        },
    ),
    (
        "a class that a pickle may bring",
        "return 1",
        "return 2",
        "model",
        {
            "pipeline": "def task(f):\n import pickle\n return pickle.load(f).go()",
            "model": "class M:\n def go(self):\n  return 1",
        },
    ),
    (
        "the caller's names that a query takes",
        "X = 1",
        "X = 2",
        "pipeline",
        {"pipeline": "X = 1\ndef task(frame):\n return frame.query('a > @X')"},
    ),
    ("globals()", "X = 1", "X = 2", "pipeline", {"pipeline": "X = 1\ndef task(n):\n return globals()[n]"}),
    (
        "one of two definitions that depend on the machine",
        "return 1",
        "return 2",
        "pipeline",
        {
            "pipeline": "import sys\nif sys.argv:\n def f():\n  return 1\nelse:\n def f():\n  return 3\n"
            "def task():\n return f()"
        },
    ),
    (
        "an import that may fail",
        "X = 1",
        "X = 2",
        "c",
        {"pipeline": "try:\n from c import X\nexcept ImportError:\n X = 0\ndef task():\n return X", "c": "X = 1"},
    ),
    (
        "a base class in another module",
        "return 1",
        "return 2",
        "c",
        {
            "pipeline": "import c\nclass A(c.B): pass\ndef task():\n return A().go()",
            "c": "class B:\n def go(self):\n  return 1",
        },
    ),
    (
        "a class in an annotation that is text",
        "a: int",
        "a: float",
        "pipeline",
        {"pipeline": "class P:\n a: int\ndef task(p: 'list[P]'):\n return p"},
    ),
    (
        "a name of the class's own that means the module's at first",
        "x = 1",
        "x = 2",
        "pipeline",
        {"pipeline": "x = 1\nclass A:\n x = x\ndef task():\n return A.x"},
    ),
    (
        "the iterable of a comprehension over its own name",
        "x = [1]",
        "x = [2]",
        "pipeline",
        {"pipeline": "x = [1]\ndef task():\n return [x for x in x]"},
    ),
    (
        "a comprehension's name elsewhere in the function",
        "x = 1",
        "x = 2",
        "pipeline",
        {"pipeline": "x = 1\ndef task():\n return [x for x in range(3)], x"},
    ),
    (
        "a docstring that is read",
        "Usage",
        "Use",
        "pipeline",
        {"pipeline": "def task():\n '''Usage'''\n return task.__doc__"},
    ),
    (
        "a package's own module",
        "X = 1",
        "X = 2",
        "lab",
        {"pipeline": "import lab.tools\ndef task():\n return lab.X", "lab": "X = 1", "lab__tools": ""},
    ),
    (
        "a module that is handed around",
        "X = 1",
        "X = 2",
        "c",
        {"pipeline": "import c\ndef read(m):\n return m.X\ndef task():\n return read(c)", "c": "X = 1"},
    ),
    (
        "what a module gives for names that it lacks",
        "return 1",
        "return 2",
        "c",
        {"pipeline": "import c\ndef task():\n return c.anything", "c": "def __getattr__(name):\n return 1"},
    ),
    (
        "an assignment in a condition",
        "n := 1",
        "n := 2",
        "pipeline",
        {"pipeline": "if (n := 1): pass\ndef task():\n return n"},
    ),
    (
        "a decorated function that another registers with",
        "return 1",
        "return 2",
        "pipeline",
        {
            "pipeline": "from functools import singledispatch\n@singledispatch\ndef f(x): pass\n"
            "@f.register\ndef _(x: int):\n return 1\ndef task():\n return f(3)"
        },
    ),
    (
        "a future that changes what annotations are",
        "annotations",
        "generator_stop",
        "pipeline",
        {"pipeline": "from __future__ import annotations\ndef task(x: int):\n return x"},
    ),
]


@pytest.mark.parametrize(("old", "new", "module", "files"), [case[1:] for case in REACHED], ids=[c[0] for c in REACHED])
def test_what_is_reached_by_roundabout_ways_counts(old, new, module, files):
    assert before_and_after(old, new, module, **files)


NOT_REACHED = [
    (
        "another task of the same decorator",
        "return 2",
        "return 3",
        {
            "pipeline": "import logging\nlog = logging.getLogger()\ndef timed(f):\n log.info('')\n return f\n"
            "@wf.job()\n@timed\ndef task():\n return 1\n@wf.job()\n@timed\ndef other():\n return 2\nwf = Workflow('x')"
        },
    ),
    (
        "a flow that the workflow includes",
        "prefix='a'",
        "prefix='b'",
        {"pipeline": "wf = Workflow('x')\n@wf.job()\ndef task():\n return 1\nwf.include(flow, prefix='a')"},
    ),
    (
        "a constant that is made with the same class",
        "P(1)",
        "P(2)",
        {"pipeline": "class P:\n def __init__(self, x):\n  self.x = x\nORIGIN = P(1)\ndef task(p: P):\n return p.x"},
    ),
    (
        "an upstream task that the wiring names",
        "return 1",
        "return 2",
        {
            "pipeline": "from typing import Annotated\nfrom reflow import Result, Workflow\nwf = Workflow('x')\n"
            "@wf.job()\ndef first():\n return 1\n@wf.job()\n"
            "def task(x: \"Annotated[int, Result('first')]\"):\n return x"
        },
    ),
]


@pytest.mark.parametrize(("old", "new", "files"), [case[1:] for case in NOT_REACHED], ids=[c[0] for c in NOT_REACHED])
def test_what_cannot_change_the_result_does_not_count(old, new, files):
    assert not before_and_after(old, new, **files)


def test_a_function_that_moves_to_another_module_still_has_a_fingerprint():
    here = {"pipeline": "def f():\n return 1\ndef task():\n return f()"}
    there = {"pipeline": "from c import f\ndef task():\n return f()", "c": "def f():\n return 1"}
    assert parts_of(here, "task").keys() == {"pipeline.task", "pipeline.f"}
    assert parts_of(there, "task").keys() == {"pipeline.task", "pipeline.f", "c.f"}


def test_modules_that_import_each_other_come_to_an_end():
    files = {
        "pipeline": "from a import *\nimport a\ndef task():\n return x(a)",
        "a": "from b import *\nimport b",
        "b": "from a import *\ndef x(m):\n return m.b",
    }
    assert "b.x" in parts_of(files, "task")


# The law: whatever an edit does to the result shows in the parts. Small modules are made at random from statements
# that define, alias, mutate, register and import; the task is executed before and after.

NAMES = ("f", "g", "h", "A", "B", "T")
WHERE = ("pipeline", "one", "two")


def expressions(module):
    name = st.sampled_from(NAMES)
    others = [other for other in WHERE[1:] if other != module]
    atoms = [
        st.integers(0, 9).map(str),
        name.map(lambda n: f"value({n})"),
        st.sampled_from([f"{other}." for other in others]).flatmap(
            lambda o: name.map(lambda n: f"value(getattr({o[:-1]}, '{n}', 0))")
        ),
        st.sampled_from(others).flatmap(lambda o: name.map(lambda n: f"value({o}.{n} if hasattr({o}, '{n}') else 0)")),
        name.map(lambda n: f"sum(value({n}) for {n} in [{n}, 1])"),
    ]
    return st.one_of(atoms)


def statements(module):
    name = st.sampled_from(NAMES)
    expression = expressions(module)
    pair = st.tuples(name, expression)
    other = st.sampled_from([each for each in WHERE[1:] if each != module])
    kinds = [
        pair.map(lambda p: f"def {p[0]}():\n    return {p[1]}"),
        st.tuples(name, expression, name).map(lambda p: f"def {p[0]}(x={p[1]}):\n    {p[2]} = x\n    return {p[2]}"),
        pair.map(lambda p: f"{p[0]} = {p[1]}"),
        pair.map(lambda p: f"{p[0]} = [{p[1]}]"),
        pair.map(lambda p: f"{p[0]} = lambda: {p[1]}"),
        st.tuples(name, name).map(lambda p: f"{p[0]} = {p[1]}"),
        pair.map(lambda p: f"class {p[0]}:\n    total = {p[1]}\n    def go(self):\n        return {p[1]}"),
        st.tuples(name, expression).map(lambda p: f"add({p[0]}, {p[1]})"),
        st.tuples(other, name, st.integers(0, 9)).map(lambda p: f"{p[0]}.{p[1]} = {p[2]}"),
        st.tuples(name, name, st.integers(0, 9)).map(
            lambda p: f"def {p[0]}():\n    global {p[1]}\n    {p[1]} = {p[2]}\n    return 0\n{p[0]}()"
        ),
        st.tuples(name, expression).map(lambda p: f"if value(T):\n    {p[0]} = {p[1]}"),
        st.tuples(other, name, name).map(
            lambda p: f"try:\n    from {p[0]} import {p[1]} as {p[2]}\nexcept ImportError:\n    {p[2]} = 0"
        ),
        other.map(lambda o: f"from {o} import *"),
        pair.map(lambda p: f"@noted\ndef {p[0]}():\n    return {p[1]}"),
    ]
    return st.one_of(kinds)


CORE = """
NOTED = []
depth = [0]


def noted(f):
    NOTED.append(f)
    return f


def value(x):
    depth[0] += 1
    try:
        if depth[0] > 20:
            return 0
        if isinstance(x, type):
            return value(x().go()) + value(x.total) if hasattr(x, "go") else 0
        if isinstance(x, list):
            return sum(value(each) for each in x)
        if callable(x):
            return value(x())
        return x if isinstance(x, (int, float)) else 0
    finally:
        depth[0] -= 1


def add(x, y):
    if isinstance(x, list):
        x.append(y)
"""


def executed(files):
    """Return what the task of these modules gives, in modules of their own."""
    from types import ModuleType

    loaded: dict[str, ModuleType] = {}

    def load(name, *_):
        if name not in files:
            raise ImportError(name)
        if name not in loaded:
            module = loaded[name] = ModuleType(name)
            module.__dict__["__builtins__"] = {**vars(__import__("builtins")), "__import__": load}
            exec(compile(files[name], name, "exec"), module.__dict__)
        return loaded[name]

    return load("pipeline").task()


@st.composite
def edited_modules(draw):
    heads = {
        module: "from core import value, add, noted, NOTED\n"
        + "".join(f"import {other}\n" for other in WHERE[1:] if other != module)
        + "".join(f"{name} = {number}\n" for number, name in enumerate(NAMES, start=11))
        for module in WHERE
    }
    bodies = {module: draw(st.lists(statements(module), min_size=1, max_size=6)) for module in WHERE}
    result = " + ".join(draw(st.lists(expressions("pipeline"), min_size=1, max_size=4)))
    tail = "def task():\n    return " + draw(st.sampled_from([result, f"{result} + value(NOTED)"])) + "\n"
    changed = draw(st.sampled_from([module for module in WHERE if bodies[module]] or ["pipeline"]))
    after = {module: list(body) for module, body in bodies.items()}
    if bodies[changed]:
        place = draw(st.integers(0, len(bodies[changed]) - 1))
        how = draw(st.sampled_from(["replace", "remove", "add"]))
        if how == "remove":
            del after[changed][place]
        elif how == "add":
            after[changed].insert(place, draw(statements(changed)))
        else:
            after[changed][place] = draw(statements(changed))

    def files(of):
        texts = {module: heads[module] + "\n".join(of[module]) + "\n" for module in WHERE}
        texts["pipeline"] += tail
        return {**texts, "core": CORE}

    return files(bodies), files(after)


@settings(max_examples=300, deadline=None)
@given(edited_modules())
def test_an_edit_that_changes_the_result_changes_the_fingerprint(pair):
    before, after = pair
    results = []
    for files in pair:
        try:
            results.append(repr(executed(files)))
        except Exception as error:  # noqa: BLE001 (a module that fails to load is a result too)
            results.append(type(error).__name__)
    if results[0] != results[1]:
        assert parts_of(before, "task") != parts_of(after, "task"), results
