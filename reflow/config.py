"""The user's configuration: one file, the ``REFLOW_*`` variables over it, read and checked once.

What the command line and the decorators say wins over both; they do not pass through here.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from .config_example import EXAMPLE
from .errors import ConfigError, TrustError
from .paths import config_dir
from .suggest import did_you_mean
from .trust import require_trusted

MODES = ("sbatch", "qsub-pbs", "bsub", "qsub-sge", "flux", "local", "dry-run", "auto")
DISPATCH_MODES = ("worker", "job")
PATH_FINGERPRINTS = ("size+mtime", "content")

# One way to say it: what people write for a mode, and the mode.
_MODE_HINTS = {"slurm": "sbatch", "pbs": "qsub-pbs", "lsf": "bsub", "sge": "qsub-sge"}

OptionValue = str | int | float | bool


@dataclass(frozen=True)
class ExecutorConfig:
    """How jobs reach the scheduler."""

    #: One of `MODES`; ``auto`` takes Slurm where its commands are found, else local processes.
    mode: str = "auto"
    #: The Python that runs the workers; None for the one that submits.
    python: str | None = None
    #: At most this many slots of a run queued or running at the same time; None for no limit.
    max_submit_jobs: int | None = None
    sbatch: str = "sbatch"
    squeue: str = "squeue"
    sacct: str = "sacct"
    scancel: str = "scancel"
    scontrol: str = "scontrol"
    #: Shell lines before each command.
    setup: tuple[str, ...] = ()
    #: Variables of each job.
    environment: Mapping[str, str] = field(default_factory=dict)
    #: ``ALL``, ``NONE``, or the variables of the submitting process that jobs get.
    export: str | tuple[str, ...] = "ALL"
    #: Absolute folder of the user's own templates.
    template_dir: str | None = None
    #: Options of the submit command by their long names.
    submit_options: Mapping[str, OptionValue] = field(default_factory=dict)


@dataclass(frozen=True)
class DispatchConfig:
    """Who plans and submits what comes next, and what its job asks for."""

    #: ``worker``: the worker that ends a stage dispatches the next; ``job``: only sentinel jobs do.
    mode: str = "worker"
    cpus: int = 1
    time: str = "00:30:00"
    mem: str = "1G"
    partition: str | None = None
    account: str | None = None


@dataclass(frozen=True)
class DefaultsConfig:
    """What a command takes where it is told nothing."""

    run_dir: Path | None = None
    store_path: Path | None = None
    #: Whether files that decide what runs may be changed by the other members of their group.
    trust_group: bool = False
    #: How paths count when it is decided whether a result is used again; one of `PATH_FINGERPRINTS`.
    path_fingerprint: str = "size+mtime"


@dataclass(frozen=True)
class Config:
    """The whole configuration; ``Config()`` is what holds without a file and variables."""

    executor: ExecutorConfig = ExecutorConfig()
    dispatch: DispatchConfig = DispatchConfig()
    #: The section as it was written; values are text, numbers, true, false or lists of text.
    notifications: Mapping[str, Any] = field(default_factory=dict)
    defaults: DefaultsConfig = DefaultsConfig()

    @property
    def store_path(self) -> Path | None:
        """Path of the manifest that runs share, or None for the one in the user's cache folder."""
        return self.defaults.store_path

    @property
    def python(self) -> str:
        """The Python that runs the workers."""
        return self.executor.python or sys.executable

    def executor_settings(self, name: str) -> dict[str, Any]:
        """Return the JSON-safe settings with which `reflow.executors.create` makes the executor of that name."""
        chosen = self.executor
        settings: dict[str, Any] = {
            "setup": list(chosen.setup),
            "environment": dict(chosen.environment),
            "template_dirs": [] if chosen.template_dir is None else [chosen.template_dir],
        }
        if name == "slurm":
            settings["submit_options"] = dict(chosen.submit_options)
            settings["export"] = chosen.export if isinstance(chosen.export, str) else list(chosen.export)
            for command in ("sbatch", "squeue", "sacct", "scancel", "scontrol"):
                settings[command] = getattr(chosen, command)
        return settings

    def dispatch_resources(self) -> dict[str, Any]:
        """Return ``cpus time mem options`` of a sentinel job, JSON-safe."""
        chosen = self.dispatch
        named = {"partition": chosen.partition, "account": chosen.account}
        options = {name: value for name, value in named.items() if value is not None}
        return {"cpus": chosen.cpus, "time": chosen.time, "mem": chosen.mem, "options": options}


def config_path() -> Path:
    """Return the configuration file: what ``REFLOW_CONFIG`` names, else ``config.toml`` in the user's folder."""
    named = os.environ.get("REFLOW_CONFIG")
    return Path(named).expanduser() if named else config_dir() / "config.toml"


def load_config(path: Path | str | None = None) -> Config:
    """Return the configuration of the file at `path` (default: `config_path`) with the environment over it.

    Writes nothing. The default file may be missing; one that was asked for may not. Raises `ConfigError` naming
    the key or variable, the file, and what may stand there.
    """
    file = config_path() if path is None else Path(path).expanduser()
    must_exist = path is not None or bool(os.environ.get("REFLOW_CONFIG"))
    values = _read_file(file, must_exist)
    _read_environment(values, os.environ)
    config = Config(
        executor=ExecutorConfig(**values["executor"]),
        dispatch=DispatchConfig(**values["dispatch"]),
        notifications=values["notifications"],
        defaults=DefaultsConfig(**values["defaults"]),
    )
    _check_templates(config)
    return config


def require_trust(path: Path, what: str, config: Config | None = None) -> None:
    """Raise `TrustError` when others could have changed that file, unless the configuration says to trust its group.

    `what` names it: "the pipeline file". `config` is read from the user's file where it is needed and not given.
    """
    try:
        require_trusted(path, what)
    except TrustError:
        if not (config or load_config()).defaults.trust_group:
            raise
        require_trusted(path, what, trust_group=True)


def _check_templates(config: Config) -> None:
    """Raise `TrustError` when others could have changed one of the user's own templates."""
    if config.executor.template_dir is None:
        return
    for template in sorted(Path(config.executor.template_dir).glob("*.j2")):
        require_trusted(template, "a template of yours", trust_group=config.defaults.trust_group)


def ensure_config_exists() -> Path:
    """Return the configuration file, written as an example first when there is none."""
    path = config_path()
    return path if path.exists() else write_example_config()


def write_example_config() -> Path:
    """Write the configuration file with every key explained and none set, and return its path.

    Raises `ConfigError` when there is a file already, or none can be written.
    """
    path = config_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(EXAMPLE)
    except FileExistsError as error:
        raise ConfigError(f"'{path}' exists already: edit it, or move it away first") from error
    except OSError as error:
        raise ConfigError(f"'{path}' cannot be written: {error.strerror}") from error
    return path


def _read_file(file: Path, must_exist: bool) -> dict[str, dict[str, Any]]:
    """Return the checked values of the file by section."""
    values: dict[str, dict[str, Any]] = {section: {} for section in (*_KEYS, "notifications")}
    for section, table in _parse_file(file, must_exist).items():
        if section not in values:
            raise ConfigError(
                f"[{section}] in '{file}' is not known: write one of [{'], ['.join(values)}]."
                f"{did_you_mean(section, values)}"
            )
        if not isinstance(table, dict):
            raise ConfigError(f"{section} in '{file}' is {table!r}: write it as a section, [{section}]")
        for name, value in table.items():
            place = f"{section}.{name} in '{file}'"
            if section == "notifications":
                values[section][name] = _checked(_notification, value, place, file.parent)
                continue
            key = _KEYS[section].get(name)
            if key is None:
                known = _KEYS[section]
                raise ConfigError(f"{place} is not known: write one of {', '.join(known)}.{did_you_mean(name, known)}")
            values[section][name] = _checked(key.check, value, place, file.parent)
    return values


def _parse_file(file: Path, must_exist: bool) -> dict[str, Any]:
    # By name, because each Python version has only one of the two; and here, because it costs 20 ms.
    toml = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        text = file.read_text(encoding="utf-8")
        # It says what runs: the Python, shell lines, templates. Only the environment can say to trust it all the same.
        require_trusted(file, "the configuration file", trust_group=_trusts_group(os.environ))
        parsed: dict[str, Any] = toml.loads(text)
    except FileNotFoundError as error:
        if must_exist:
            raise ConfigError(f"there is no configuration file '{file}'") from error
        return {}
    except OSError as error:
        raise ConfigError(f"'{file}' cannot be read: {error.strerror}") from error
    except ValueError as error:  # wrong TOML, with its line, or not UTF-8
        raise ConfigError(f"'{file}' is not valid TOML: {error}") from error
    return parsed


def _read_environment(values: dict[str, dict[str, Any]], environ: Mapping[str, str]) -> None:
    """Put what the environment says over the values of the file; an empty variable says nothing."""
    for section, keys in _KEYS.items():
        for name, key in keys.items():
            text = environ.get(key.variable)
            if text:
                value = _from_variable(text, key)
                # Of a table, the variable sets the names it has and leaves the others.
                values[section][name] = {**values[section].get(name, {}), **value} if isinstance(value, dict) else value
    options = values["executor"].setdefault("submit_options", {})
    for variable, option in (("REFLOW_PARTITION", "partition"), ("REFLOW_ACCOUNT", "account")):
        if environ.get(variable):
            options[option] = environ[variable]
    for variable, text in environ.items():
        if variable.startswith("REFLOW_NOTIFICATIONS_") and text:
            values["notifications"][variable.removeprefix("REFLOW_NOTIFICATIONS_").lower()] = text


def _from_variable(text: str, key: _Key) -> Any:
    place = f"{key.variable} in the environment"
    try:
        value = key.parse(text)
    except ValueError as error:
        raise ConfigError(f"{place} is {text!r}: write {error}") from error
    return _checked(key.check, value, place, Path.cwd())


def _checked(check: _Check, value: Any, place: str, folder: Path) -> Any:
    try:
        return check(value, folder)
    except ValueError as error:
        raise ConfigError(f"{place} is {value!r}: write {error}") from error


# A check returns the value to keep, or raises ValueError saying what to write instead. It is given the folder
# from which a relative path counts.
_Check = Callable[[Any, Path], Any]


@dataclass(frozen=True)
class _Key:
    """One key of the file, and the variable that overrides it."""

    variable: str
    check: _Check
    #: Turns the variable's text into what the file would hold.
    parse: Callable[[str], Any] = str


def _text(example: str) -> _Check:
    def check(value: Any, folder: Path) -> str:
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f'text, such as "{example}"')
        return value

    return check


def _choice(*allowed: str) -> _Check:
    def check(value: Any, folder: Path) -> str:
        if not isinstance(value, str) or value not in allowed:
            meant = _MODE_HINTS.get(str(value).lower(), "")
            hint = f" Did you mean '{meant}'?" if meant in allowed else did_you_mean(str(value), allowed)
            raise ValueError(f"one of {', '.join(allowed)}.{hint}")
        return value

    return check


def _switch(value: Any, folder: Path) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def _parse_switch(text: str) -> Any:
    return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}.get(text.lower(), text)


def _trusts_group(environ: Mapping[str, str]) -> bool:
    return _parse_switch(environ.get("REFLOW_TRUST_GROUP", "")) is True


def _positive(value: Any, folder: Path) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError("a whole number from 1 on")
    return value


def _lines(value: Any, folder: Path) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(line, str) for line in value):
        raise ValueError('a list of shell lines, such as ["module load gcc"]')
    return tuple(value)


def _export(value: Any, folder: Path) -> str | tuple[str, ...]:
    if value in ("ALL", "NONE"):
        return str(value)
    if not isinstance(value, list) or not value or not all(isinstance(name, str) for name in value):
        raise ValueError("ALL, NONE or a list of names of environment variables")
    return tuple(value)


def _variables(value: Any, folder: Path) -> dict[str, str]:
    if not isinstance(value, dict) or not all(
        isinstance(each, str | int | float) and not isinstance(each, bool) for each in value.values()
    ):
        raise ValueError('a table of text, such as { OMP_NUM_THREADS = "4" }')
    return {name: str(each) for name, each in value.items()}


def _options(value: Any, folder: Path) -> dict[str, OptionValue]:
    if not isinstance(value, dict) or not all(isinstance(each, str | int | float) for each in value.values()):
        raise ValueError('a table of options, such as { partition = "gpu", exclusive = true }')
    if "queue" in value and "partition" in value:
        raise ValueError("partition or queue, which mean the same, not both")
    return {"partition" if name == "queue" else name: each for name, each in value.items()}


def _path(value: Any, folder: Path) -> Path:
    if not isinstance(value, str) or not value.strip():
        raise ValueError('a path, such as "~/reflow"')
    return folder.absolute() / Path(value).expanduser()


def _path_text(value: Any, folder: Path) -> str:
    return str(_path(value, folder))


def _path_from_here(value: Any, folder: Path) -> Path:
    """Keep a relative path relative to where a person stands when she submits."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError('a path, such as "runs"')
    return Path(value).expanduser()


def _notification(value: Any, folder: Path) -> Any:
    is_list_of_text = isinstance(value, list) and all(isinstance(each, str) for each in value)
    if not isinstance(value, str | int | float) and not is_list_of_text:
        raise ValueError("text, a number, true, false or a list of text")
    return value


def _parse_number(text: str) -> Any:
    try:
        return int(text)
    except ValueError:
        raise ValueError("a whole number from 1 on") from None


def _parse_export(text: str) -> Any:
    return text if text in ("ALL", "NONE") else text.split(",")


def _parse_variables(text: str) -> dict[str, str]:
    pairs = [word.partition("=") for word in _shell_words(text)]
    if not all(name and equals for name, equals, _ in pairs):
        raise ValueError("names and values, such as \"A=1 B='two words'\"")
    return {name: value for name, _, value in pairs}


def _parse_options(text: str) -> dict[str, OptionValue]:
    pairs = [word.partition("=") for word in _shell_words(text)]
    return {name: value if equals else True for name, equals, value in pairs}


def _shell_words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ValueError(f"words as in a shell ({error})") from error


_KEYS: dict[str, dict[str, _Key]] = {
    "executor": {
        "mode": _Key("REFLOW_MODE", _choice(*MODES)),
        "python": _Key("REFLOW_PYTHON", _text("/usr/bin/python3")),
        "max_submit_jobs": _Key("REFLOW_MAX_SUBMIT_JOBS", _positive, _parse_number),
        "sbatch": _Key("REFLOW_SBATCH", _text("sbatch")),
        "squeue": _Key("REFLOW_SQUEUE", _text("squeue")),
        "sacct": _Key("REFLOW_SACCT", _text("sacct")),
        "scancel": _Key("REFLOW_SCANCEL", _text("scancel")),
        "scontrol": _Key("REFLOW_SCONTROL", _text("scontrol")),
        "setup": _Key("REFLOW_SETUP", _lines, str.splitlines),
        "environment": _Key("REFLOW_ENVIRONMENT", _variables, _parse_variables),
        "export": _Key("REFLOW_EXPORT", _export, _parse_export),
        "template_dir": _Key("REFLOW_TEMPLATE_DIR", _path_text),
        "submit_options": _Key("REFLOW_SUBMIT_OPTIONS", _options, _parse_options),
    },
    "dispatch": {
        "mode": _Key("REFLOW_DISPATCH_MODE", _choice(*DISPATCH_MODES)),
        "cpus": _Key("REFLOW_DISPATCH_CPUS", _positive, _parse_number),
        "time": _Key("REFLOW_DISPATCH_TIME", _text("00:30:00")),
        "mem": _Key("REFLOW_DISPATCH_MEM", _text("1G")),
        "partition": _Key("REFLOW_DISPATCH_PARTITION", _text("compute")),
        "account": _Key("REFLOW_DISPATCH_ACCOUNT", _text("my-project")),
    },
    "defaults": {
        "run_dir": _Key("REFLOW_RUN_DIR", _path_from_here),
        "store_path": _Key("REFLOW_STORE_PATH", _path),
        "trust_group": _Key("REFLOW_TRUST_GROUP", _switch, _parse_switch),
        "path_fingerprint": _Key("REFLOW_PATH_FINGERPRINT", _choice(*PATH_FINGERPRINTS)),
    },
}
