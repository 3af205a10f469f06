"""Scripts as Slurm gets them, whole, beside the golden ones; and run by a real bash.

After a wanted change: ``REFLOW_WRITE_GOLDEN=1 pytest tests/adapters/test_slurm_scripts.py``, and read the difference.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from reflow.errors import ConfigError, RenderError
from reflow.executors.base import After, Dependency, Job, JobResources
from reflow.executors.slurm import SlurmExecutor
from reflow.executors.slurm_words import submit_words
from reflow.indices import Indices

GOLDEN = Path(__file__).parent / "golden"

STRANGE = ["a 0", 'a"=0"', "a'; echo foo", "a\n0", "100%j", "back\\slash", "$HOME", "`id`", "-rf", "é漢", "#x", "tab\t"]

PLAIN = Job(
    name="ada-20261124-5f3a.prepare.1",
    command=("/opt/python/bin/python", "-m", "reflow.worker", "run", "/scratch/ada/first/reflow/r/waves/0001.wave"),
    resources=JobResources(),
    run_dir=Path("/scratch/ada/first"),
    log="reflow/r/logs/prepare/wave-0001.log",
    working_dir=Path("/home/ada/project"),
    title="task prepare, wave 1 of run ada-20261124-5f3a",
)

ARRAY = replace(
    PLAIN,
    name="ada-20261124-5f3a.fit.2",
    resources=JobResources(
        cpus=8,
        time="1-00:00:00",
        mem="64G",
        options={"partition": "gpu", "gres": "gpu:1", "exclusive": True, "requeue": False, "comment": 'say "hi" #1'},
    ),
    log="reflow/r/logs/fit/wave-0002.log",
    slots=Indices([0, 1, 2, 3, 7]),
    throttle=2,
    after=(Dependency(After.CORRESPONDING, "17"), Dependency(After.ANY, "18;big")),
    setup=("module load cuda", "source venv/bin/activate"),
    environment={"OMP_NUM_THREADS": "8", "TITLE": "it's 5 $"},
    title="task fit, wave 2 of run ada-20261124-5f3a",
)

STRANGE_JOB = replace(
    PLAIN,
    command=("/opt/my python/bin/python", "-m", "reflow.worker", "run", '/scratch/100%/it\'s "here"\\\n/0001.wave'),
    run_dir=Path('/scratch/100%/it\'s "here"\\'),
    log="reflow/r/logs/=2A=2F/wave-0001.log",
    working_dir=Path("/home/-ada\n$(id)"),
    environment={"LINES": "first\nsecond"},
    title="task a\nrm -rf /, wave 1",
)

SITE = SlurmExecutor(
    submit_options={"account": "physics", "partition": "compute"},
    setup=["module purge"],
    environment={"OMP_NUM_THREADS": "1"},
    export=["HOME", "PATH"],
)


@pytest.mark.parametrize(
    ("name", "executor", "job"),
    [
        ("plain.sh", SlurmExecutor(), PLAIN),
        ("array.sh", SITE, ARRAY),
        ("strange.sh", SlurmExecutor(), STRANGE_JOB),
    ],
)
def test_script_is_as_golden(name, executor, job):
    script = executor.render(job)
    if os.environ.get("REFLOW_WRITE_GOLDEN"):
        (GOLDEN / name).write_text(script, encoding="utf-8")
    assert script == (GOLDEN / name).read_text(encoding="utf-8")


def directives(job: Job, executor: SlurmExecutor | None = None) -> list[str]:
    lines = (executor or SlurmExecutor()).render(job).splitlines()
    return [line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH ")]


def test_every_directive_stands_before_the_first_command():
    """sbatch stops reading directives there."""
    lines = SITE.render(ARRAY).splitlines()
    first_command = next(number for number, line in enumerate(lines) if line and not line.startswith("#"))
    assert all(not line.startswith("#SBATCH") for line in lines[first_command:])


@pytest.mark.parametrize("option", ["mem-per-cpu", "mem_per_gpu"])
def test_memory_is_asked_for_once(option):
    job = replace(PLAIN, resources=JobResources(options={option: "2G"}))
    assert [line for line in directives(job) if line.startswith("--mem")] == [f"--{option.replace('_', '-')}=2G"]


def test_task_wins_over_the_executor_in_either_spelling():
    job = replace(PLAIN, resources=JobResources(options={"queue": "gpu"}))
    assert [line for line in directives(job, SITE) if "partition" in line] == ["--partition=gpu"]


def test_job_without_dependency_is_never_killed_for_one():
    assert not any(line.startswith(("--dependency", "--kill-on")) for line in directives(PLAIN))


def test_array_without_slots_is_never_rendered():
    """sbatch takes an empty --array for a plain job."""
    with pytest.raises(ValueError, match="without slots"):
        SlurmExecutor().render(replace(PLAIN, slots=Indices()))


@pytest.mark.parametrize(
    ("run_dir", "log", "expected"),
    [
        ("/scratch/a b", "logs/w.log", "logs/w.log"),
        ("/scratch/a", "logs/w%j.log", "logs/w%%j.log"),
        # Slurm expands the folder's name too.
        ("/scratch/100%", "logs/w.log", "/scratch/100%%/logs/w.log"),
        # A backslash anywhere in the path switches the patterns off.
        ("/scratch/a\\b%j", "logs/w.log", '"/scratch/a\\\\\\\\b%j/logs/w.log"'),
    ],
)
def test_log_is_written_where_reflow_reads_it(run_dir, log, expected):
    """Each was tried with Slurm 22.05; see tests/cluster/test_slurm_executor.py."""
    job = replace(PLAIN, run_dir=Path(run_dir), log=log)
    assert f"--output={expected}" in directives(job)


def test_log_that_no_directive_can_hold_goes_on_the_command_line():
    job = replace(PLAIN, run_dir=Path("/scratch/a\nb%"))
    assert not any(line.startswith("--output") for line in directives(job))
    assert submit_words(Path("/s.sh"), job) == ["--parsable", f"--output=/scratch/a\nb%%/{PLAIN.log}", "/s.sh"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output": "x.log"}, "the task's submit option 'output' cannot be set: every element has a log"),
        ({"job_name": "x"}, "'job_name' cannot be set"),
        ({"dependency": "afterok:1"}, r"write after=\[...\] on the task"),
        ({"clusters": "big"}, "sbatch --clusters="),
        ({"p": "gpu"}, "'p' is not the long name of an sbatch option"),
        ({"--partition": "gpu"}, "'--partition' is not the long name"),
        ({"comment": "a\nb"}, "it must be one line of text"),
        ({"comment": None}, "write text, a number, true or false"),
    ],
)
def test_option_that_cannot_be_written_is_refused_in_one_sentence(options, message):
    with pytest.raises(ConfigError, match=message):
        SlurmExecutor().render(replace(PLAIN, resources=JobResources(options=options)))


@pytest.mark.parametrize("field", ["time", "mem"])
def test_resource_with_a_line_break_cannot_smuggle_a_directive(field):
    resources = replace(JobResources(), **{field: "1\n#SBATCH --uid=0"})
    with pytest.raises(ConfigError, match="one line"):
        SlurmExecutor().render(replace(PLAIN, resources=resources))


@pytest.mark.parametrize("name", ["A B", "1A", "A=B", "A;id", "", "A\n"])
def test_variable_that_no_shell_can_hold_is_refused(name):
    with pytest.raises(ConfigError, match="not the name of an environment variable"):
        SlurmExecutor().render(replace(PLAIN, environment={name: "1"}))


@pytest.mark.parametrize(
    "settings",
    [
        {"export": "HOME"},
        {"export": []},
        {"export": ["A B"]},
        {"setup": "module load x"},
        {"sbatch": ""},
        {"sbatch": "sbatch 'x"},
        {"submit_options": {"array": "0-3"}},
        {"environment": {"A B": "1"}},
    ],
)
def test_setting_that_can_never_work_is_refused_at_once(settings):
    with pytest.raises(ConfigError):
        SlurmExecutor(**settings)


def test_settings_make_an_equal_executor():
    settings = json.loads(json.dumps(SITE.settings()))
    again = SlurmExecutor(**settings)
    assert again.settings() == SITE.settings()
    assert again.render(ARRAY) == SITE.render(ARRAY)


def test_users_template_is_taken_before_reflows_own(tmp_path):
    (tmp_path / "slurm.sh.j2").write_text("#!/bin/bash\n# ${#a[@]}\nexec {{ command }} 0\n")
    executor = SlurmExecutor(template_dirs=[str(tmp_path)])
    assert executor.render(replace(PLAIN, command=("echo", "a b"))) == "#!/bin/bash\n# ${#a[@]}\nexec echo 'a b' 0\n"


def test_missing_template_of_a_task_is_named():
    with pytest.raises(RenderError, match=r"gpu\.sh\.j2"):
        SlurmExecutor().render(replace(PLAIN, template="gpu.sh.j2"))


def run_script(job: Job, slot: int | None = None) -> subprocess.CompletedProcess[str]:
    """Run the job's script as Slurm does: a copy, by bash, with the slot in the environment."""
    environment = {"PATH": os.environ["PATH"]}
    if slot is not None:
        environment["SLURM_ARRAY_TASK_ID"] = str(slot)
    script = job.run_dir / "script.sh"
    script.write_text(SlurmExecutor().render(job), encoding="utf-8")
    return subprocess.run(
        ["bash", script], cwd=job.run_dir, env=environment, capture_output=True, text=True, timeout=30, check=False
    )


@pytest.fixture
def job(tmp_path):
    """A job that prints what reaches it."""
    tell = "import json, os, sys; print(json.dumps([os.getcwd(), sys.argv[1:], dict(os.environ)]))"
    return replace(PLAIN, command=(sys.executable, "-c", tell), run_dir=tmp_path, working_dir=tmp_path)


@pytest.mark.parametrize("strange", STRANGE)
def test_strange_words_reach_the_worker_as_they_are(job, tmp_path, strange):
    folder = tmp_path / strange
    folder.mkdir()
    job = replace(
        job, command=(*job.command, strange), run_dir=folder, working_dir=folder, environment={"VALUE": strange}
    )
    folder_seen, words, environment = json.loads(run_script(job, slot=3).stdout)
    assert (folder_seen, words, environment["VALUE"]) == (str(folder), [strange, "3"], strange)


def test_plain_job_is_slot_zero(job):
    assert json.loads(run_script(job).stdout)[1] == ["0"]


def test_worker_takes_the_place_of_the_shell(job):
    """A shell that stayed would keep the scheduler's signals to itself."""
    job = replace(job, command=("sh", "-c", "echo $$"), setup=("echo $$",))
    first, second = run_script(job).stdout.split()
    assert first == second


def test_declared_variables_win_over_what_setup_sets(job):
    job = replace(job, setup=("export THREADS=1 OTHER=2",), environment={"THREADS": "8"})
    environment = json.loads(run_script(job).stdout)[2]
    assert (environment["THREADS"], environment["OTHER"]) == ("8", "2")


def test_setup_runs_in_the_working_folder(job, tmp_path):
    (tmp_path / "env.sh").write_text("export FROM_FILE=1\n")
    job = replace(job, setup=("source ./env.sh",))
    assert json.loads(run_script(job).stdout)[2]["FROM_FILE"] == "1"


@pytest.mark.parametrize(
    ("setup", "code"),
    [
        (("false", "echo not reached"), 1),
        (("(exit 7)",), 7),
        (("source ./missing.sh",), 1),
        (("no-such-command",), 127),
        (("failing() { return 5; }", "failing"), 5),
    ],
)
def test_failing_setup_line_ends_the_job_and_says_so(job, setup, code):
    done = run_script(replace(job, setup=setup))
    assert (done.returncode, done.stdout) == (code, "")
    assert f"the job ends before its task begins: exit code {code} of:" in done.stderr


@pytest.mark.parametrize(
    "setup",
    [
        ("if true; then", "  export A=1", "fi"),
        ("[ -f ./missing.sh ] && source ./missing.sh",),
        ("false || true",),
        ("source ./careless.sh",),
        ("careful() { false; true; }", "careful"),
        ("set -u",),
    ],
)
def test_setup_that_only_looks_failing_does_not_end_the_job(job, tmp_path, setup):
    """``set -e`` would end it in careless.sh: shell start-up files and conda's hooks are full of such lines."""
    (tmp_path / "careless.sh").write_text("false\ngrep -q x /dev/null\ntrue\n")
    assert run_script(replace(job, setup=setup)).returncode == 0


def test_missing_working_folder_ends_the_job_and_says_so(job):
    done = run_script(replace(job, working_dir=Path("/no/such/folder")))
    assert done.returncode == 1
    assert "exit code 1 of: cd -- /no/such/folder" in done.stderr


@pytest.mark.parametrize(
    ("options", "printed"),
    [
        ({}, ["--no-requeue"]),
        ({"requeue": True}, ["--requeue"]),
        ({"requeue": False}, ["--no-requeue"]),
        ({"no_requeue": False}, []),
    ],
)
def test_a_lost_slot_is_not_started_again_behind_our_back_unless_the_task_says_so(options, printed):
    job = replace(PLAIN, resources=replace(PLAIN.resources, options=options))
    lines = [line.split()[1] for line in SlurmExecutor().render(job).splitlines() if "requeue" in line]
    assert lines == printed
