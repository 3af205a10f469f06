"""A small job queue on this machine, for `LocalExecutor` and for the fake Slurm of `reflow.testing`."""

from __future__ import annotations

from .history import LAUNCH_FAILURE, JobHistory, Outcome, Try, condition_values
from .planning import Standing
from .queue import CANCEL, RUNNER, LocalQueue
from .records import Condition, ConditionKind, QueuedJob, QueueSettings, Strike

__all__ = [
    "CANCEL",
    "LAUNCH_FAILURE",
    "RUNNER",
    "Condition",
    "ConditionKind",
    "JobHistory",
    "LocalQueue",
    "Outcome",
    "QueueSettings",
    "QueuedJob",
    "Standing",
    "Strike",
    "Try",
    "condition_values",
]
