"""A run works on the code as it was when it was submitted, wherever that stands."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from textwrap import dedent

import pytest

from reflow import LocalExecutor, RunState
from reflow.code import load_file
from reflow.local_run import DirectExecutor

PIPELINE = """
    from dataclasses import dataclass
    from pathlib import Path
    from reflow import Workflow
    import lab.tools

    wf = Workflow("waiting")

    @dataclass
    class Answer:
        value: int
        text: str
        module: str

    @wf.job()
    def ask() -> Answer:
        from lab.lazy import late
        text = (Path(__file__).parent / "data.txt").read_text()
        return Answer(lab.tools.value() + late(), text, Answer.__module__)

    @wf.job()
    def fail() -> int:
        raise ValueError("as submitted")  # as it was
"""


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dedent(text))
    return path


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A pipeline with a package beside it, as a new process sees it."""
    known = set(sys.modules)
    folder = tmp_path / "project"
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    write(folder / "lab" / "__init__.py", "")
    write(folder / "lab" / "tools.py", "from .numbers import ONE\ndef value():\n    return ONE\n")
    write(folder / "lab" / "numbers.py", "ONE = 1\n")
    write(folder / "lab" / "lazy.py", "def late():\n    return 10\n")
    write(folder / "data.txt", "data")
    write(folder / "pipeline.py", PIPELINE)
    importlib.invalidate_caches()
    yield folder
    for name in set(sys.modules) - known:
        del sys.modules[name]


def change_everything(project):
    write(project / "lab" / "numbers.py", "ONE = 2\n")
    write(project / "lab" / "lazy.py", "def late():\n    return 20\n")
    text = (project / "pipeline.py").read_text()
    write(project / "pipeline.py", text.replace("as submitted", "edited").replace("Answer(lab", "Answer(1000 + lab"))


def run_waiting(executor):
    """Run what the executor kept, as a job would: in a process of its own."""
    for wave in executor.waves:
        words = [sys.executable, "-m", "reflow.worker", "run", wave.path, "0"]
        subprocess.run(words, capture_output=True, check=False, cwd="/")


def submitted(project, tmp_path, store):
    executor = DirectExecutor()
    run = load_file(project / "pipeline.py").wf.submit(tmp_path / "run", store=store, executor=executor)
    return run, executor


def test_an_edit_while_a_run_waits_does_not_change_it(tmp_path, store, project):
    run, executor = submitted(project, tmp_path, store)
    change_everything(project)
    run_waiting(executor)
    answer = run.results("ask")
    assert (answer.value, answer.text, answer.module) == (11, "data", "pipeline")


def test_a_traceback_names_the_original_file_and_shows_the_lines_that_ran(tmp_path, store, project):
    run, executor = submitted(project, tmp_path, store)
    write(project / "pipeline.py", "# all gone\n" * 30)
    run_waiting(executor)
    store.merge()
    error = store.get_task_instance_record(run.run_id, "fail", None).error_text
    assert f'File "{project / "pipeline.py"}", line 23, in fail' in error
    assert 'raise ValueError("as submitted")  # as it was' in error


def test_a_run_whose_files_are_deleted_still_runs(tmp_path, store, project):
    run, executor = submitted(project, tmp_path, store)
    for path in project.rglob("*.py"):
        path.unlink()
    run_waiting(executor)
    assert run.results("ask").value == 11


def test_what_was_not_copied_is_found_where_it_is(tmp_path, store, project):
    text = (project / "pipeline.py").read_text()
    computed = 'import importlib; late = importlib.import_module("lab." + "unseen").late'
    write(project / "pipeline.py", text.replace("from lab.lazy import late", computed))
    run, executor = submitted(project, tmp_path, store)
    write(project / "lab" / "unseen.py", "def late():\n    return 5\n")
    run_waiting(executor)
    assert run.results("ask").value == 6


def test_a_retry_runs_the_code_that_was_submitted(tmp_path, store, project):
    run = load_file(project / "pipeline.py").wf.run_local(tmp_path / "run", store=store, on_error="continue")
    assert run.state is RunState.FAILED
    change_everything(project)
    settings = dict(store.get_run_record(run.run_id).settings)
    settings["executor_settings"] = LocalExecutor(folder=str(tmp_path / "queue"), cpus=1).settings()
    store.update_run_settings(run.run_id, settings)
    assert run.retry() == 1
    assert run.wait(60) is RunState.FAILED
    record = store.get_task_instance_record(run.run_id, "fail", None)
    assert record.attempt == 2
    assert "as submitted" in record.error_text


def test_several_worker_processes_of_a_local_run_use_the_copy(tmp_path, store, project):
    pipeline = load_file(project / "pipeline.py")
    write(project / "pipeline.py", (project / "pipeline.py").read_text() + "\n# the same\n")
    run = pipeline.wf.run_local(tmp_path / "run", store=store, max_workers=2, on_error="continue")
    reference = store.get_run_record(run.run_id).settings["code"]
    assert json.loads((tmp_path / "run" / "reflow" / run.run_id / "code" / "files.json").read_text()).keys() == {
        "pipeline",
        "lab",
        "lab.tools",
        "lab.numbers",
        "lab.lazy",
    }
    assert reference["copies"].endswith("code")
    assert run.results("ask").value == 11


def test_a_script_that_runs_its_workflow_itself_works_on_its_live_functions(tmp_path):
    script = write(
        tmp_path / "alone.py",
        """
        import sys
        from reflow import Workflow
        wf = Workflow("alone")
        FACTOR = 1

        @wf.job()
        def task() -> int:
            return FACTOR

        if __name__ == "__main__":
            FACTOR = 7
            print(wf.run_local(sys.argv[1], store=sys.argv[1] + ".db").results("task"))
        """,
    )
    shown = subprocess.run([sys.executable, script, tmp_path / "run"], capture_output=True, text=True, check=False)
    assert shown.stdout.split() == ["7"], shown.stderr


def test_a_pipeline_of_a_package_runs_from_its_copy(tmp_path, store, project):
    text = PIPELINE.replace("import lab.tools", "from . import tools").replace("lab.tools.", "tools.")
    write(project / "lab" / "pipe.py", text.replace("from lab.lazy", "from .lazy"))
    write(project / "lab" / "data.txt", "beside")
    importlib.invalidate_caches()
    executor = DirectExecutor()
    workflow = importlib.import_module("lab.pipe").wf
    run = workflow.submit(tmp_path / "run", store=store, executor=executor)
    change_everything(project)
    write(project / "lab" / "pipe.py", "")
    run_waiting(executor)
    answer = run.results("ask")
    assert (answer.value, answer.text, answer.module) == (11, "beside", "lab.pipe")
