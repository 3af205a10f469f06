"""The schedulers that reflow can hand jobs to, by name. Importing this imports none of them."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from inspect import signature
from shutil import which
from typing import Any

from ..deferred import dataclass
from ..errors import ConfigError
from ..suggest import did_you_mean
from .base import Executor

#: Module and class of each executor.
_EXECUTORS = {
    "slurm": ("slurm", "SlurmExecutor"),
    "local": ("local", "LocalExecutor"),
}

#: Schedulers that have a name, a mode and no executor yet.
_PLANNED = ("pbs", "lsf", "sge", "flux")

#: The executor behind each mode of the configuration; None where it is looked for.
_MODES = {
    "sbatch": "slurm",
    "qsub-pbs": "pbs",
    "bsub": "lsf",
    "qsub-sge": "sge",
    "flux": "flux",
    "local": "local",
    "dry-run": None,
    "auto": None,
}


@dataclass(frozen=True)
class Choice:
    """The executor that a mode stands for."""

    name: str
    #: Whether scripts are only shown and nothing may be submitted.
    dry_run: bool = False


def choose(mode: str, sbatch: str = "sbatch") -> Choice:
    """Return what a configured mode stands for; `sbatch` is the command whose presence tells a Slurm cluster.

    ``auto`` is Slurm where `sbatch` is on PATH, else local; ``dry-run`` shows what Slurm would get. Raises
    `ConfigError` for a mode that is not known or not available yet.
    """
    if mode not in _MODES:
        raise ConfigError(f"mode '{mode}' is not known: write one of {', '.join(_MODES)}.{did_you_mean(mode, _MODES)}")
    if mode == "dry-run":
        return Choice("slurm", dry_run=True)
    name = _MODES[mode]
    if name is None:
        program = (sbatch.split() or [""])[0]
        name = "slurm" if which(program) else "local"
    _check_name(name)
    return Choice(name)


def create(name: str, settings: Mapping[str, Any] | None = None) -> Executor:
    """Return the executor of that name with these settings, as `Executor.settings` gives them.

    Raises `ConfigError` for a name or setting that is not known or not available yet.
    """
    _check_name(name)
    module, class_name = _EXECUTORS[name]
    executor_class: type[Executor] = getattr(import_module(f".{module}", __name__), class_name)
    try:
        signature(executor_class).bind(**(settings or {}))
    except TypeError as error:
        raise ConfigError(f"the executor '{name}' cannot be made from its settings: {error}") from error
    return executor_class(**(settings or {}))


def _check_name(name: str) -> None:
    if name in _PLANNED:
        raise ConfigError(f"the executor '{name}' is not available in this release: use 'slurm' or 'local'")
    if name not in _EXECUTORS:
        mode = _MODES.get(name)
        hint = f" Did you mean '{mode}'?" if mode in _EXECUTORS else did_you_mean(name, _EXECUTORS)
        raise ConfigError(f"there is no executor '{name}': use one of {', '.join(_EXECUTORS)}.{hint}")
