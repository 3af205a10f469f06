"""A workflow is found again in another process, however it was made."""

from __future__ import annotations

import json
import subprocess
import sys
from textwrap import dedent

import pytest

from reflow import Workflow
from reflow.code import CodeReference, find_reference, load_file, load_tasks, pickle_workflow
from reflow.errors import PipelineError

PIPELINE = """
    import sys
    from dataclasses import dataclass
    from reflow import Workflow

    wf = Workflow("p")

    @dataclass
    class Point:
        x: int

    @wf.job()
    def make() -> Point:
        return Point(1)

    if __name__ == "__main__":
        import json
        from reflow.code import find_reference
        reference = find_reference(wf, globals())
        print(json.dumps(reference.to_json()))
"""

CALL = """
    import json, sys
    from reflow.code import CodeReference, load_tasks
    tasks = load_tasks(CodeReference.from_json(json.loads(sys.argv[1])))
    print(tasks["make"].function())
"""


def python(*words, cwd=None):
    done = subprocess.run([sys.executable, *words], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dedent(text))
    return path


@pytest.mark.parametrize("name", ["pipeline.py", "statistics.py", "my-pipeline.py", "a 'b.py"])
def test_a_script_is_found_by_its_file_and_its_main_guard_is_respected(tmp_path, name):
    script = write(tmp_path / name, PIPELINE)
    reference = python(str(script))
    assert json.loads(reference)["kind"] == "file"
    assert python("-c", dedent(CALL), reference).endswith("Point(x=1)")


def test_a_module_of_a_package_is_imported_with_its_relative_imports(tmp_path):
    write(tmp_path / "lab" / "__init__.py", "")
    write(tmp_path / "lab" / "helpers.py", "one = 1")
    write(tmp_path / "lab" / "pipe.py", "    from .helpers import one\n" + PIPELINE)
    reference = python("-m", "lab.pipe", cwd=tmp_path)
    assert json.loads(reference)["location"] == "lab.pipe"
    assert python("-c", dedent(CALL), reference, cwd="/").endswith("Point(x=1)")


def test_a_workflow_of_a_function_travels_as_a_pickle(tmp_path):
    workflow = Workflow("inner")
    offset = 41

    @workflow.job()
    def make() -> int:
        return offset + 1

    assert find_reference(workflow, globals()) is None
    reference = pickle_workflow(workflow, globals(), tmp_path / "code")
    assert python("-c", dedent(CALL), json.dumps(reference.to_json()), cwd="/") == "42"


def test_what_cannot_be_pickled_is_said_in_one_sentence(tmp_path):
    workflow = Workflow("inner")
    handle = (tmp_path / "file").open("w")

    @workflow.job()
    def make() -> int:
        return handle.fileno()

    with handle, pytest.raises(PipelineError, match="put the workflow at the top level"):
        pickle_workflow(workflow, globals(), tmp_path / "code")


def test_a_variable_that_is_gone_is_named(tmp_path):
    script = write(tmp_path / "later_changed.py", "x = 1")
    with pytest.raises(PipelineError, match="has no variable 'wf' any more"):
        load_tasks(CodeReference("file", str(script), "wf", (str(tmp_path),)))


def test_a_file_that_is_gone_is_named(tmp_path):
    with pytest.raises(PipelineError, match="does not exist"):
        load_file(tmp_path / "gone.py")
