"""The configuration: one file, the environment over it, and errors that say what to write."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from reflow.config import (
    Config,
    DefaultsConfig,
    DispatchConfig,
    ExecutorConfig,
    config_path,
    ensure_config_exists,
    load_config,
    write_example_config,
)
from reflow.errors import ConfigError


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A home of its own, without a file and without variables."""
    for name in [name for name in os.environ if name.startswith("REFLOW_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / ".config"))
    return tmp_path


@pytest.fixture
def write(home):
    """Write the configuration file and return its path."""

    def write(text: str) -> Path:
        path = config_path()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write


FULL = """
[executor]
mode = "sbatch"
python = "/opt/python"
max_submit_jobs = 500
sbatch = "sbatch --clusters=big"
setup = ["module load gcc"]
environment = { OMP_NUM_THREADS = 4, NAME = "é" }
export = ["HOME", "PATH"]
template_dir = "templates"

[executor.submit_options]
queue = "gpu"
exclusive = true

[dispatch]
mode = "job"
cpus = 2
time = "01:00:00"
mem = "2G"
partition = "short"
account = "physics"

[notifications]
mail = "ada@example.org"
on = ["FAILED"]

[defaults]
run_dir = "runs"
store_path = "~/manifest.db"
"""


def test_without_a_file_and_variables_the_defaults_hold(home):
    assert load_config() == Config()
    assert list(home.iterdir()) == []  # loading writes nothing


def test_whole_file_is_read(write, home):
    folder = write(FULL).parent
    assert load_config() == Config(
        executor=ExecutorConfig(
            mode="sbatch",
            python="/opt/python",
            max_submit_jobs=500,
            sbatch="sbatch --clusters=big",
            setup=("module load gcc",),
            environment={"OMP_NUM_THREADS": "4", "NAME": "é"},
            export=("HOME", "PATH"),
            template_dir=str(folder / "templates"),
            submit_options={"partition": "gpu", "exclusive": True},
        ),
        dispatch=DispatchConfig("job", 2, "01:00:00", "2G", "short", "physics"),
        notifications={"mail": "ada@example.org", "on": ["FAILED"]},
        defaults=DefaultsConfig(run_dir=Path("runs"), store_path=home / "manifest.db"),
    )


VARIABLES = {
    "REFLOW_MODE": ("local", lambda config: config.executor.mode, "local"),
    "REFLOW_PYTHON": ("/p", lambda config: config.python, "/p"),
    "REFLOW_MAX_SUBMIT_JOBS": ("7", lambda config: config.executor.max_submit_jobs, 7),
    "REFLOW_SBATCH": ("sb", lambda config: config.executor.sbatch, "sb"),
    "REFLOW_SQUEUE": ("sq", lambda config: config.executor.squeue, "sq"),
    "REFLOW_SACCT": ("sa", lambda config: config.executor.sacct, "sa"),
    "REFLOW_SCANCEL": ("sc", lambda config: config.executor.scancel, "sc"),
    "REFLOW_SCONTROL": ("so", lambda config: config.executor.scontrol, "so"),
    "REFLOW_SETUP": ("a b\nc", lambda config: config.executor.setup, ("a b", "c")),
    "REFLOW_EXPORT": ("USER,LANG", lambda config: config.executor.export, ("USER", "LANG")),
    "REFLOW_TEMPLATE_DIR": ("/t", lambda config: config.executor.template_dir, "/t"),
    "REFLOW_PARTITION": (
        "p",
        lambda config: config.executor.submit_options,
        {"partition": "p", "exclusive": True},
    ),
    "REFLOW_ACCOUNT": (
        "a",
        lambda config: config.executor.submit_options,
        {"partition": "gpu", "exclusive": True, "account": "a"},
    ),
    "REFLOW_SUBMIT_OPTIONS": (
        "queue=x qos='very high' hold",
        lambda config: config.executor.submit_options,
        {"partition": "x", "exclusive": True, "qos": "very high", "hold": True},
    ),
    "REFLOW_ENVIRONMENT": (
        "A='two words' NAME=b",
        lambda config: config.executor.environment,
        {"OMP_NUM_THREADS": "4", "NAME": "b", "A": "two words"},
    ),
    "REFLOW_DISPATCH_MODE": ("worker", lambda config: config.dispatch.mode, "worker"),
    "REFLOW_DISPATCH_CPUS": ("3", lambda config: config.dispatch.cpus, 3),
    "REFLOW_DISPATCH_TIME": ("5", lambda config: config.dispatch.time, "5"),
    "REFLOW_DISPATCH_MEM": ("5G", lambda config: config.dispatch.mem, "5G"),
    "REFLOW_DISPATCH_PARTITION": ("d", lambda config: config.dispatch.partition, "d"),
    "REFLOW_DISPATCH_ACCOUNT": ("d", lambda config: config.dispatch.account, "d"),
    "REFLOW_NOTIFICATIONS_MAIL": ("x@y", lambda config: config.notifications["mail"], "x@y"),
    "REFLOW_RUN_DIR": ("r", lambda config: config.defaults.run_dir, Path("r")),
    "REFLOW_STORE_PATH": ("/s.db", lambda config: config.store_path, Path("/s.db")),
}


@pytest.mark.parametrize("variable", VARIABLES)
def test_variable_wins_over_the_file(variable, write, monkeypatch):
    text, look, expected = VARIABLES[variable]
    write(FULL)
    assert look(load_config()) != expected
    monkeypatch.setenv(variable, text)
    assert look(load_config()) == expected


def test_empty_variable_says_nothing(write, monkeypatch):
    write(FULL)
    expected = load_config()
    for variable in VARIABLES:
        monkeypatch.setenv(variable, "")
    assert load_config() == expected


WRONG_FILES = {
    "unknown section": ("[executer]\n", "[executer] in '{file}' is not known: write one of [executor], [dispatch], "),
    "meant section": ("[executer]\n", "Did you mean 'executor'?"),
    "section as value": ("dispatch = 3\n", "dispatch in '{file}' is 3: write it as a section, [dispatch]"),
    "key outside": ('mode = "local"\n', "[mode] in '{file}' is not known"),
    "unknown key": ("[executor]\nmodes = 1\n", "executor.modes in '{file}' is not known: write one of mode, python,"),
    "meant key": ("[executor]\nmodes = 1\n", "Did you mean 'mode'?"),
    "mode": (
        '[executor]\nmode = "sbacth"\n',
        "executor.mode in '{file}' is 'sbacth': write one of sbatch, qsub-pbs, bsub, qsub-sge, flux, local, dry-run, "
        "auto. Did you mean 'sbatch'?",
    ),
    "second spelling": ('[executor]\nmode = "slurm"\n', "Did you mean 'sbatch'?"),
    "mode of dispatch": ('[dispatch]\nmode = "jobs"\n', "write one of worker, job. Did you mean 'job'?"),
    "number": ("[executor]\nmax_submit_jobs = 0\n", "is 0: write a whole number from 1 on"),
    "true for a number": ("[dispatch]\ncpus = true\n", "dispatch.cpus in '{file}' is True: write a whole number"),
    "number for a time": ("[dispatch]\ntime = 30\n", 'is 30: write text, such as "00:30:00"'),
    "text for lines": ('[executor]\nsetup = "module load x"\n', "write a list of shell lines, such as"),
    "export": ('[executor]\nexport = "HOME"\n', "write ALL, NONE or a list of names of environment variables"),
    "variables": ("[executor.environment]\nA = true\n", "executor.environment in '{file}' is {{'A': True}}: write a"),
    "options": ("[executor.submit_options]\nx = [1]\n", "write a table of options, such as"),
    "both spellings": ('[executor.submit_options]\nqueue = "a"\npartition = "b"\n', "which mean the same, not both"),
    "path": ("[defaults]\nstore_path = 1\n", "defaults.store_path in '{file}' is 1: write a path"),
    "notification": ("[notifications]\nx = { y = 1 }\n", "notifications.x in '{file}' is"),
    "no TOML": ("[executor]\nmode = \n", "'{file}' is not valid TOML: "),
    "line": ("[executor]\nmode = \n", "line 2"),
}


@pytest.mark.parametrize("case", WRONG_FILES)
def test_wrong_file_is_refused_with_key_file_and_what_to_write(case, write):
    text, message = WRONG_FILES[case]
    file = write(text)
    with pytest.raises(ConfigError) as refusal:
        load_config()
    assert message.format(file=file) in str(refusal.value)
    assert "\n" not in str(refusal.value)


WRONG_VARIABLES = {
    "REFLOW_MODE": ("sbacth", "REFLOW_MODE in the environment is 'sbacth': write one of sbatch, "),
    "REFLOW_MAX_SUBMIT_JOBS": ("many", "is 'many': write a whole number from 1 on"),
    "REFLOW_DISPATCH_CPUS": ("-1", "REFLOW_DISPATCH_CPUS in the environment is -1: write a whole number"),
    "REFLOW_ENVIRONMENT": ("A", "write names and values, such as"),
    "REFLOW_SUBMIT_OPTIONS": ("a='b", "write words as in a shell"),
    "REFLOW_CONFIG": ("/no/such/file.toml", "there is no configuration file '/no/such/file.toml'"),
}


@pytest.mark.parametrize("variable", WRONG_VARIABLES)
def test_wrong_variable_is_refused_by_name(variable, monkeypatch):
    text, message = WRONG_VARIABLES[variable]
    monkeypatch.setenv(variable, text)
    with pytest.raises(ConfigError) as refusal:
        load_config()
    assert message in str(refusal.value)


def test_file_that_is_not_text_is_refused(write):
    path = write("")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="is not valid TOML"):
        load_config()


def test_folder_in_place_of_the_file_is_refused(home):
    with pytest.raises(ConfigError, match=f"'{home}' cannot be read: Is a directory"):
        load_config(home)


def test_file_that_was_asked_for_must_be_there(home):
    with pytest.raises(ConfigError, match="there is no configuration file"):
        load_config(home / "gone.toml")


def test_reflow_config_points_at_another_file(home, monkeypatch):
    (home / "other.toml").write_text('[executor]\nmode = "local"\n')
    monkeypatch.setenv("REFLOW_CONFIG", "~/other.toml")
    assert config_path() == home / "other.toml"
    assert load_config().executor.mode == "local"


def test_example_sets_nothing(home):
    path = write_example_config()
    assert path == config_path()
    assert load_config() == Config()


def test_example_shows_every_key_with_a_value_that_may_stand_there(home):
    text = write_example_config().read_text()
    uncommented = home / "uncommented.toml"
    uncommented.write_text(re.sub(r"^#(?! )", "", text, flags=re.MULTILINE))
    config = load_config(uncommented)
    assert config.executor.submit_options == {"partition": "compute", "account": "my-project"}
    assert config.dispatch.account == "my-project"
    assert config.store_path == home / "reflow" / "manifest.db"
    for variable in VARIABLES:
        if not variable.startswith("REFLOW_NOTIFICATIONS"):
            assert variable in text


def test_users_file_is_never_overwritten(write):
    path = write("[executor]\n")
    with pytest.raises(ConfigError, match="exists already"):
        write_example_config()
    assert ensure_config_exists() == path
    assert path.read_text() == "[executor]\n"


def test_missing_file_is_made_once(home):
    path = ensure_config_exists()
    assert path.is_file()
    assert ensure_config_exists() == path


def test_settings_for_the_manifest_are_json(write):
    write(FULL)
    config = load_config()
    settings = config.executor_settings("slurm")
    assert json.loads(json.dumps(settings)) == settings
    assert config.dispatch_resources() == {
        "cpus": 2,
        "time": "01:00:00",
        "mem": "2G",
        "options": {"partition": "short", "account": "physics"},
    }
    assert json.loads(json.dumps(config.dispatch_resources())) == config.dispatch_resources()
