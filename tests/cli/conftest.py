"""A home of its own for every test, and a project in it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

import pytest

from reflow import Workflow
from reflow.cli import main, run_workflow
from reflow.cli.pipeline import load_workflow

PIPELINE = """
    import sys
    from typing import Annotated

    from reflow import Param, Result, Workflow

    wf = Workflow("demo")


    @wf.job()
    def prepare(n: Annotated[int, Param(help="How many items", short="-n")]) -> list[int]:
        print("preparing", n)
        return list(range(n))


    @wf.array_job()
    def square(item: Annotated[int, Result(step="prepare")], unlucky: int = -1) -> int:
        if item == unlucky:
            raise ValueError(f"{item} is unlucky")
        return item * item


    @wf.job()
    def total(squares: Annotated[list[int], Result(step="square")]) -> int:
        return sum(squares)


    if __name__ == "__main__":
        sys.exit(wf.cli())
"""


@dataclass(frozen=True)
class Outcome:
    """What one command gave."""

    code: int
    out: str
    err: str


class Project:
    """A folder with a pipeline file, and its command line."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.file = folder / "pipeline.py"
        self.run_dir = folder / "run"
        self.manifest = folder / "manifest.db"
        self._capsys = capsys

    def write(self, source: str, name: str = "pipeline.py") -> Path:
        """Write a file of the project and return its path."""
        file = self.folder / name
        file.write_text(dedent(source))
        return file

    @property
    def workflow(self) -> Workflow:
        """The workflow in the pipeline file."""
        return load_workflow(self.file)

    def reflow(self, *words: object) -> Outcome:
        """Run ``reflow WORDS`` in this process."""
        self._capsys.readouterr()
        code = main([str(word) for word in words])
        return Outcome(code, *self._capsys.readouterr())

    def pipeline(self, *words: object) -> Outcome:
        """Run ``python pipeline.py WORDS`` in this process."""
        workflow = self.workflow
        self._capsys.readouterr()
        code = run_workflow(workflow, [str(word) for word in words])
        return Outcome(code, *self._capsys.readouterr())

    def process(self, *words: object, stdin: str = "") -> Outcome:
        """Run Python with these words, in a process of its own."""
        done = subprocess.run(
            [sys.executable, *map(str, words)],
            cwd=self.folder,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return Outcome(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def project(tmp_path, monkeypatch, capsys):
    for name, folder in {"HOME": "home", "XDG_CACHE_HOME": "cache", "XDG_CONFIG_HOME": "config"}.items():
        monkeypatch.setenv(name, str(tmp_path / folder))
    for name in list(os.environ):
        if name.startswith("REFLOW_"):
            monkeypatch.delenv(name)
    made = Project(tmp_path, capsys)
    monkeypatch.setenv("REFLOW_STORE_PATH", str(made.manifest))
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    made.write(PIPELINE)
    return made


@pytest.fixture
def done(project):
    """A run that went well."""
    return project.workflow.run_local(project.run_dir, n=3)


@pytest.fixture
def failed(project):
    """A run in which square[1] failed."""
    return project.workflow.run_local(project.run_dir, on_error="continue", n=3, unlucky=1)


def is_one_line(text: str) -> bool:
    """Return whether there is exactly one line, and no traceback."""
    return len(text.splitlines()) == 1 and "Traceback" not in text
