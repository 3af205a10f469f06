"""reflow: Python pipelines as Slurm job arrays. See README.md for the first array."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .config import Config, config_path, ensure_config_exists, load_config, write_example_config
    from .errors import ReflowError, TaskInterrupted
    from .executors.base import Executor, JobResources
    from .executors.local import LocalExecutor
    from .executors.slurm import SlurmExecutor
    from .flow import Flow, TaskSpec
    from .params import Checkpoint, Param, Result, RunDir
    from .run import Run
    from .spec import JobConfig
    from .states import RunState, TaskState
    from .workflow import Workflow

__version__ = "0.1.0"

# Loaded on first use: a worker imports `Workflow` and `Result` with every pipeline, and must not pay for the rest.
_HOMES = {
    "Config": "config",
    "config_path": "config",
    "ensure_config_exists": "config",
    "load_config": "config",
    "write_example_config": "config",
    "ReflowError": "errors",
    "TaskInterrupted": "errors",
    "Executor": "executors.base",
    "JobResources": "executors.base",
    "LocalExecutor": "executors.local",
    "SlurmExecutor": "executors.slurm",
    "Flow": "flow",
    "TaskSpec": "flow",
    "Checkpoint": "params",
    "Param": "params",
    "Result": "params",
    "RunDir": "params",
    "Run": "run",
    "JobConfig": "spec",
    "RunState": "states",
    "TaskState": "states",
    "Workflow": "workflow",
}

__all__ = [
    "Checkpoint",
    "Config",
    "Executor",
    "Flow",
    "JobConfig",
    "JobResources",
    "LocalExecutor",
    "Param",
    "ReflowError",
    "Result",
    "Run",
    "RunDir",
    "RunState",
    "SlurmExecutor",
    "TaskInterrupted",
    "TaskSpec",
    "TaskState",
    "Workflow",
    "config_path",
    "ensure_config_exists",
    "load_config",
    "write_example_config",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'reflow' has no attribute '{name}'")
    value = getattr(import_module(f".{home}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
