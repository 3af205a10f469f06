"""Executors by name, and the configuration's modes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from reflow import config
from reflow.errors import ConfigError
from reflow.executors import Choice, choose, create
from reflow.executors.slurm import SlurmExecutor


def test_slurm_is_made_from_its_settings():
    executor = create("slurm", {"submit_options": {"partition": "gpu"}})
    assert isinstance(executor, SlurmExecutor)
    assert executor.settings()["submit_options"] == {"partition": "gpu"}


@pytest.mark.parametrize("name", ["slurm", "local"])
def test_configuration_makes_an_executor_as_it_is_written(name):
    chosen = config.ExecutorConfig(
        setup=("module load x",), environment={"A": "1"}, template_dir="/t", export=("HOME",), sbatch="sbatch -v"
    )
    written = config.Config(executor=chosen).executor_settings(name)
    settings = create(name, written).settings()
    assert (settings["setup"], settings["environment"]) == (["module load x"], {"A": "1"})
    assert settings["template_dirs"] == ["/t"]
    assert {key: settings[key] for key in written} == written


@pytest.mark.parametrize("name", ["pbs", "lsf", "sge", "flux"])
def test_scheduler_to_come_is_refused_in_one_sentence(name):
    with pytest.raises(ConfigError, match=f"^the executor '{name}' is not available in this release: use 'slurm' or"):
        create(name)


@pytest.mark.parametrize(("name", "meant"), [("slrum", "slurm"), ("Local", "local"), ("sbatch", "slurm")])
def test_unknown_executor_is_refused_with_what_was_meant(name, meant):
    with pytest.raises(ConfigError, match=rf"there is no executor '{name}': .* Did you mean '{meant}'\?"):
        create(name)


def test_unknown_setting_is_refused():
    with pytest.raises(ConfigError, match="unexpected keyword argument 'partition'"):
        create("slurm", {"partition": "gpu"})


@pytest.mark.parametrize(
    ("mode", "choice"),
    [("sbatch", Choice("slurm")), ("local", Choice("local")), ("dry-run", Choice("slurm", dry_run=True))],
)
def test_mode_stands_for_one_executor(mode, choice):
    assert choose(mode) == choice


@pytest.mark.parametrize("mode", ["qsub-pbs", "bsub", "qsub-sge", "flux"])
def test_mode_of_a_scheduler_to_come_is_refused(mode):
    with pytest.raises(ConfigError, match="is not available in this release"):
        choose(mode)


def test_auto_is_slurm_where_sbatch_is_found_else_local(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert choose("auto") == Choice("local")
    (tmp_path / "sbatch").write_text("#!/bin/sh\n")
    (tmp_path / "sbatch").chmod(0o755)
    assert choose("auto") == Choice("slurm")
    assert choose("auto", sbatch="no-such-sbatch --clusters=big") == Choice("local")


def test_typo_in_the_mode_never_submits():
    with pytest.raises(ConfigError, match="Did you mean 'dry-run'"):
        choose("dryrun")


def test_configuration_and_executors_know_the_same_modes():
    with pytest.raises(ConfigError) as refusal:
        choose("nothing-like-it")
    assert f"write one of {', '.join(config.MODES)}." in str(refusal.value)


def test_naming_an_executor_does_not_import_jinja2():
    """It takes 80 ms, and commands that render nothing would pay it too."""
    code = "import sys, reflow.executors as e; e.create('slurm'); assert 'jinja2' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
