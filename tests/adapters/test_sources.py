"""The fingerprint of a task's code is taken from the files it reaches, and from memory where no file tells."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from textwrap import dedent

import pytest

from reflow import Workflow
from reflow.code import load_file
from reflow.sources import read_code

PIPELINE = """
    import os
    from reflow import Workflow
    from helpers import scale

    wf = Workflow("p")
    LIMIT = float(os.environ.get("LIMIT", "1"))
    WIDTH = 3
    CALLS = []

    @wf.job(mem="4G")
    def task(n: int) -> float:
        CALLS.append(n)
        return scale(n) * WIDTH

    @wf.job()
    def limited(n: int) -> float:
        return n + LIMIT

    if __name__ == "__main__":
        import json
        from reflow.sources import read_code
        code = read_code({name: task.function for name, task in wf.tasks.items()}, globals())
        print(json.dumps([code.fingerprint(name) for name in wf.tasks]))
"""


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dedent(text))
    return path


@pytest.fixture
def fresh(monkeypatch):
    """Loads files as a new process would."""
    known = set(sys.modules)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def load(path):
        for name in set(sys.modules) - known:
            del sys.modules[name]
        importlib.invalidate_caches()
        if str(path.parent) not in sys.path:
            sys.path.insert(0, str(path.parent))
        return load_file(path)

    yield load
    for name in set(sys.modules) - known:
        del sys.modules[name]


def fingerprints(module, **options):
    functions = {name: task.function for name, task in module.wf.tasks.items()}
    code = read_code(functions, vars(module), **options)
    return {name: code.fingerprint(name) for name in functions}


def of_workflow(workflow, module_globals=None, **options):
    functions = {name: task.function for name, task in workflow.tasks.items()}
    code = read_code(functions, globals() if module_globals is None else module_globals, **options)
    return {name: code.fingerprint(name) for name in functions}


def test_each_task_has_its_own_fingerprint(tmp_path, fresh):
    script = write(tmp_path / "pipeline.py", PIPELINE)
    write(tmp_path / "helpers.py", "def scale(n):\n    return n\n")
    first = fingerprints(fresh(script))
    write(tmp_path / "helpers.py", "def scale(n):  # faster\n    return 2 * n\n")
    second = fingerprints(fresh(script))
    assert first["limited"] == second["limited"] != ""
    assert first["task"] != second["task"]
    assert len(first["task"]) == 64


def test_a_script_has_the_same_fingerprints_however_it_is_started(tmp_path, fresh):
    script = write(tmp_path / "pipeline.py", PIPELINE)
    write(tmp_path / "helpers.py", "def scale(n):\n    return n\n")
    for words in ([str(script)], ["-m", "pipeline"]):
        shown = subprocess.run([sys.executable, *words], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert json.loads(shown.stdout) == list(fingerprints(fresh(script)).values())


def test_a_constant_from_the_environment_counts_with_its_value(tmp_path, fresh, monkeypatch):
    script = write(tmp_path / "pipeline.py", PIPELINE)
    write(tmp_path / "helpers.py", "def scale(n):\n    return n\n")
    first = fingerprints(fresh(script))
    monkeypatch.setenv("LIMIT", "2.5")
    second = fingerprints(fresh(script))
    assert first["limited"] != second["limited"]
    assert first["task"] == second["task"]


def test_a_constant_that_was_changed_in_memory_counts_where_the_tasks_run_in_this_process(tmp_path, fresh):
    script = write(tmp_path / "pipeline.py", PIPELINE)
    write(tmp_path / "helpers.py", "def scale(n):\n    return n\n")
    module = fresh(script)
    here, elsewhere = fingerprints(module, in_process=True), fingerprints(module)
    assert here == elsewhere
    module.CALLS.append(1)  # the task only adds to it
    assert fingerprints(module, in_process=True) == here
    module.WIDTH = 4
    assert fingerprints(module, in_process=True)["task"] != here["task"]
    assert fingerprints(module) == elsewhere, "workers load the file anew"


def test_a_file_that_was_edited_after_it_was_loaded_is_no_fingerprint_of_what_runs_here(tmp_path, fresh):
    script = write(tmp_path / "pipeline.py", PIPELINE)
    write(tmp_path / "helpers.py", "def scale(n):\n    return n\n")
    module = fresh(script)
    assert fingerprints(module, in_process=True)["task"]
    write(tmp_path / "helpers.py", "def scale(n):\n    return 2 * n\n")
    here = fingerprints(module, in_process=True)
    assert here["task"] == ""
    assert fingerprints(module)["task"], "workers load the file anew"
    assert fingerprints(fresh(script), in_process=True)["task"]


def test_a_relative_import_inside_a_function_is_followed(tmp_path, fresh):
    write(tmp_path / "lab" / "__init__.py", "")
    source = """
        from reflow import Workflow
        wf = Workflow("w")

        @wf.job()
        def task() -> int:
            from .tools import VALUE
            return VALUE
    """
    write(tmp_path / "lab" / "pipe.py", source)

    def with_value(value):
        write(tmp_path / "lab" / "tools.py", f"VALUE = {value}\n")
        fresh(write(tmp_path / "start.py", "import lab.pipe\nwf = lab.pipe.wf\n"))
        return fingerprints(sys.modules["lab.pipe"])

    assert with_value(1) == with_value(1)
    assert with_value(1) != with_value(2)


def test_a_task_of_an_imported_flow_has_one_fingerprint_for_every_workflow(tmp_path, fresh):
    write(
        tmp_path / "flows.py",
        """
        from reflow import Flow
        flow = Flow("f")
        @flow.job(mem="1G")
        def task() -> int:
            return 1
        """,
    )
    include = "from reflow import Workflow\nfrom flows import flow\nwf = Workflow('{0}')\nwf.include(flow)\n# {0}\n"
    first = fingerprints(fresh(write(tmp_path / "first.py", include.format("a"))))
    second = fingerprints(fresh(write(tmp_path / "second.py", include.format("b"))))
    assert first == second
    assert first["task"]


def test_the_decorators_of_a_flow_that_is_imported_are_left_out_too(tmp_path, fresh):
    write(tmp_path / "flows.py", "from reflow import Workflow\nwf = Workflow('w')\n")

    def with_memory(memory):
        text = f"from flows import wf\n@wf.job(mem='{memory}')\ndef task() -> int:\n    return 1\n"
        return fingerprints(fresh(write(tmp_path / "pipeline.py", text)))

    assert with_memory("1G") == with_memory("2G")


def test_a_compiled_extension_of_the_users_own_counts_with_its_bytes(tmp_path, fresh):
    text = """
        from reflow import Workflow
        wf = Workflow("w")
        @wf.job()
        def task() -> int:
            import fast
            return fast.go()
    """
    script = write(tmp_path / "pipeline.py", text)

    def with_bytes(content):
        (tmp_path / f"fast{EXTENSION_SUFFIXES[0]}").write_bytes(content)
        return fingerprints(fresh(script))

    assert with_bytes(b"one") == with_bytes(b"one")
    assert with_bytes(b"one") != with_bytes(b"two")


def test_installed_packages_do_not_count(tmp_path, fresh):
    place = tmp_path / "lib" / "site-packages"
    script = write(tmp_path / "pipeline.py", PIPELINE)

    def with_installed(text):
        write(place / "helpers.py", text)
        sys.path.insert(0, str(place))
        return fingerprints(fresh(script))

    assert with_installed("def scale(n):\n    return n\n") == with_installed("def scale(n):\n    return -n\n")


def made_with(offset, calls=None, unknown=None):
    workflow = Workflow("inner")

    def inner(x):
        return x + offset

    @workflow.job()
    def task(n: int) -> int:
        if calls is not None:
            calls.append(n)
        return inner(n)

    @workflow.job()
    def strange(n: int) -> int:
        return unknown.go(n)

    @workflow.job()
    def counting(n: int) -> int:
        calls.append(n)
        return n

    return workflow


def test_what_a_function_takes_from_the_functions_around_it_counts():
    assert of_workflow(made_with(1))["task"] == of_workflow(made_with(1))["task"] != ""
    assert of_workflow(made_with(1))["task"] != of_workflow(made_with(2))["task"]
    assert of_workflow(made_with(1))["task"] != of_workflow(made_with(1.0))["task"]


def test_a_closure_that_no_text_can_stand_for_is_never_used_again():
    assert of_workflow(made_with(1, unknown=object()))["strange"] == ""


def test_a_list_that_a_task_only_adds_to_does_not_count():
    calls = []
    before = of_workflow(made_with(1, calls))["counting"]
    calls.append(7)
    assert of_workflow(made_with(1, calls))["counting"] == before != ""


def in_a_notebook(source):
    """Return the fingerprint of a task that was typed in, as no file has it."""
    namespace = {"__name__": "__main__"}
    exec(compile(dedent(source), "<cell 1>", "exec"), namespace)
    return of_workflow(namespace["wf"], namespace)["task"]


CELL = """
from reflow import Workflow
wf = Workflow("n")
FACTOR = 2
class Point:
    unit = 1
    def go(self):
        return 1
def helper(x):
    return x * FACTOR
def unused():
    return 0
@wf.job(mem="1G")
def task(n: int) -> int:
    # works
    return helper(n) + Point().go() in {"a", "b"}
"""


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("# works", "# works well", True),
        ("return 0", "return 1", True),
        ('mem="1G"', 'mem="2G"', True),
        ("FACTOR = 2", "FACTOR = 3", False),
        ("x * FACTOR", "x + FACTOR", False),
        ("        return 1", "        return 2", False),
        ("unit = 1", "unit = 2", False),
        ("helper(n) +", "helper(n) -", False),
        ("n: int", "n: float", False),
    ],
)
def test_a_task_of_a_notebook_is_followed_in_memory(old, new, same):
    assert old in CELL
    assert (in_a_notebook(CELL) == in_a_notebook(CELL.replace(old, new))) is same
    assert in_a_notebook(CELL) != ""


def test_a_task_of_a_notebook_that_computes_names_is_never_used_again():
    assert in_a_notebook(CELL.replace("helper(n)", "eval('n')")) == ""


def test_the_parts_are_named_and_show_their_source(tmp_path, fresh):
    script = write(tmp_path / "pipeline.py", PIPELINE)
    write(tmp_path / "helpers.py", "def scale(n):\n    '''Scales.'''\n    return n\n")
    module = fresh(script)
    parts = read_code({"task": module.task}, vars(module)).to_json()["task"]
    assert parts["helpers.scale"] == "def scale(n):\n    return n"
    assert parts["pipeline.WIDTH"] == "WIDTH = 3"
    assert parts["pipeline.task"].startswith("def task(n: int) -> float:")
