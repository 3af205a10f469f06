"""``submit``: a run from the command line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from reflow import Run
from reflow.parameters import TAKEN_FLAGS
from reflow.stores.sqlite import SqliteStore

from .conftest import is_one_line


def run_of(project, out):
    return Run(re.fullmatch(r"Created run (\S+) in (\S+)\n", out)[1], SqliteStore(project.manifest))


def test_it_says_which_run_it_created_and_where(project):
    outcome = project.process("pipeline.py", "submit", "--run-dir", "run", "-n", 3, "--executor", "local")
    assert (outcome.code, outcome.err) == (0, "")
    run = run_of(project, outcome.out)
    assert outcome.out.endswith(f"in {project.run_dir}\n")
    assert run.wait(timeout=100).value == "SUCCESS"
    assert run.results("total") == 5


def test_the_command_reflow_takes_the_file_first(project):
    outcome = project.process(
        "-m", "reflow", "submit", "pipeline.py", "--run-dir", "run", "--n=2", "--executor", "local"
    )
    assert (outcome.code, outcome.err) == (0, "")
    run = run_of(project, outcome.out)
    assert run.wait(timeout=100).value == "SUCCESS"
    assert run.results("square") == [0, 1]


def test_all_missing_options_are_named_in_one_line(project):
    outcome = project.pipeline("submit")
    assert outcome.code == 2
    assert is_one_line(outcome.err)
    assert "--run-dir, --n" in outcome.err
    assert not project.manifest.exists()


def test_the_run_directory_may_be_configured(project, monkeypatch):
    monkeypatch.setenv("REFLOW_RUN_DIR", "elsewhere")
    outcome = project.pipeline("submit", "--n", 1, "--executor", "local")
    assert outcome.out.endswith(f"in {project.folder / 'elsewhere'}\n")
    run_of(project, outcome.out).cancel()


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--n", "many"], "'many' is not a whole number"),
        (["--n", "1", "--nn", "2"], "--nn"),
        (["--n", "1", "--force-tasks", "totl"], "Did you mean 'total'?"),
    ],
)
def test_wrong_words_are_one_line_and_exit_code_2(project, words, named):
    outcome = project.pipeline("submit", "--run-dir", "run", "--executor", "local", *words)
    assert outcome.code == 2
    assert is_one_line(outcome.err)
    assert named in outcome.err
    assert not project.manifest.exists()


def test_an_unknown_executor_is_one_line_and_exit_code_1(project):
    outcome = project.pipeline("submit", "--run-dir", "run", "--n", 1, "--executor", "slurn")
    assert outcome.code == 1
    assert is_one_line(outcome.err)
    assert "Did you mean 'slurm'?" in outcome.err


def test_dry_run_shows_scripts_and_writes_nothing(project):
    before = {path for path in project.folder.rglob("*") if "__pycache__" not in path.parts}
    outcome = project.pipeline("submit", "--run-dir", "run", "--n", 1, "--dry-run", "--executor", "slurm")
    assert (outcome.code, outcome.err) == (0, "")
    assert "#SBATCH --cpus-per-task=1" in outcome.out
    assert outcome.out.endswith("# Later, when the tasks before them are done: square, total\n")
    assert {path for path in project.folder.rglob("*") if "__pycache__" not in path.parts} == before


def test_dry_run_is_what_the_dry_run_mode_allows(project, monkeypatch):
    monkeypatch.setenv("REFLOW_MODE", "dry-run")
    words = ("submit", "--run-dir", "run", "--n", 1)
    assert project.pipeline(*words).code == 1
    assert "#SBATCH" in project.pipeline(*words, "--dry-run").out


def test_help_shows_what_the_tasks_take(project):
    outcome = project.reflow("submit", project.file, "--help")
    assert outcome.code == 0
    assert re.search(r"-n, --n INT +How many items +\[required\]", outcome.out)
    assert re.search(r"--unlucky INT +\[default: -1\]", outcome.out)


def test_a_wrong_definition_is_one_line_and_stops_no_other_command(project):
    project.write(
        """
        from reflow import Workflow

        wf = Workflow("demo")

        @wf.job()
        def one(n: int) -> int: ...

        @wf.job()
        def two(n: str) -> int: ...
        """
    )
    outcome = project.pipeline("submit", "--run-dir", "run", "--n", 1)
    assert outcome.code == 2
    assert is_one_line(outcome.err)
    assert "'n'" in outcome.err
    assert project.pipeline("runs").out == "No runs found\n"


def test_a_parameter_of_any_name_can_be_given(project):
    names = ["status", "since", "task", "errors", "yes", "index", "name", "self", "json", "all", "words", "param"]
    names += [flag.removeprefix("--").replace("-", "_") for flag in TAKEN_FLAGS if flag != "--run-dir"]
    takes = ", ".join(f"{name}: str" for name in names)
    shows = ", ".join(names)
    project.write(
        f"""
        from reflow import Workflow

        wf = Workflow("names")

        @wf.job()
        def show({takes}) -> list[str]:
            return [{shows}]
        """
    )
    flags = ["--" + name.replace("_", "-") for name in names]
    own = [f"--show-{flag.removeprefix('--')}" if flag in TAKEN_FLAGS else flag for flag in flags]
    words = [word for flag, name in zip(own, names, strict=True) for word in (flag, f"-{name}")]
    outcome = project.process(
        "-m", "reflow", "submit", "pipeline.py", "--run-dir", "run", "--executor", "local", *words
    )
    assert (outcome.code, outcome.err) == (0, "")
    run = run_of(project, outcome.out)
    run.wait(timeout=100)
    assert run.results("show") == [f"-{name}" for name in names]


def test_every_option_of_submit_is_kept_from_parameters(project):
    shown = project.pipeline("submit", "--help").out
    own = set(re.findall(r"^ +(?:-\w, )?(--[\w-]+)", shown, re.MULTILINE)) - {"--n", "--unlucky"}
    assert own | {"--workflow"} == TAKEN_FLAGS


def test_the_manifest_can_be_named(project, tmp_path):
    other = Path(tmp_path, "other.db")
    outcome = project.pipeline("submit", "--run-dir", "run", "--n", 1, "--store-path", other, "--executor", "local")
    assert outcome.code == 0
    assert not project.manifest.exists()
    run_id = outcome.out.split()[2]
    assert project.reflow("cancel", run_id, "--store-path", other).code == 0
    assert project.reflow("status", run_id, "--store-path", other).out.startswith(run_id)
    assert project.reflow("status", run_id).code == 1


def test_a_job_that_the_scheduler_refuses_for_good_is_told_at_once(project, monkeypatch):
    refusing = project.write(
        "#!/bin/sh\necho 'sbatch: error: invalid partition specified: gpuu' >&2\nexit 1\n", "sbatch"
    )
    refusing.chmod(0o755)
    monkeypatch.setenv("REFLOW_SBATCH", str(refusing))
    outcome = project.pipeline("submit", "--run-dir", "run", "--n", 1, "--executor", "slurm")
    assert outcome.code == 1
    assert outcome.out.startswith("Created run ")
    assert "invalid partition specified: gpuu" in outcome.err
    assert "Traceback" not in outcome.err


def test_dry_run_says_of_each_task_how_many_results_would_be_used_again_and_shows_no_script_of_those(project, done):
    words = ("submit", "--run-dir", project.run_dir, "--dry-run", "--executor", "slurm")
    lines = project.pipeline(*words, "--n", 3).out.splitlines()
    assert lines[:3] == [
        "# prepare: 1 of 1 used again",
        "# square: 3 of 3 used again",
        "# total: 1 of 1 used again",
    ]
    assert "#SBATCH" not in "".join(lines)
    changed = project.pipeline(*words, "--n", 4).out
    assert "# prepare: 0 of 1 used again, 1 computed (changed: parameter 'n': 3 -> 4)" in changed
    assert "#SBATCH" in changed
