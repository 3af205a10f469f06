"""The errors a person can make or meet. Each message is one sentence: who, what, what to do.

The command line prints the message of a `ReflowError` on stderr and exits 1, never with a traceback.
Wrong definitions raise the built-in `TypeError` and `ValueError` that API.md fixes.
"""

from __future__ import annotations

from enum import Enum

#: What code of the user's own raises when it is loaded or asked, as opposed to what ends a process. A class of her own
#: passes through: Python shows it as hers.
ORDINARY_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    NameError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


class ReflowError(Exception):
    """Base of all errors that reflow raises for a person to read."""


class ConfigError(ReflowError):
    """A configuration value is wrong; names the key, the file or variable, and the allowed values."""


class ManifestError(ReflowError):
    """The manifest cannot be opened, read, migrated or written; names the path and what to do."""


class ResultRemoved(ManifestError):
    """A result that the cache had found was removed or given up, by `clean` or `retry`, before it was taken over."""


class RetryRefused(ReflowError):
    """Damaged results cannot be made again within this run; names the tasks and what to do instead."""


class TrustError(ReflowError):
    """Others may change a file that decides what runs; names the file, who they are and what to do."""


class UnknownRunError(ReflowError, KeyError):
    """No run of that id is in the manifest."""

    __str__ = Exception.__str__  # KeyError would print the message in quotes


class UnknownTaskError(ReflowError, ValueError):
    """The run or workflow has no task of that name, or the task no such index."""


class CodecError(ReflowError, TypeError):
    """A value cannot be written as JSON or read back; names the place inside the value."""


class RenderError(ReflowError):
    """A template is missing or wrong; names the template and the folders that were searched."""


class PipelineError(ReflowError):
    """The pipeline file cannot be loaded or does not hold the workflow; names the file."""


class SchedulerError(ReflowError):
    """A scheduler command failed; holds the scheduler's own words."""


class SubmitRefused(SchedulerError):
    """The scheduler refused a job and always will (unknown partition, time over the limit)."""


class SubmitDeferred(SchedulerError):
    """The scheduler takes no more jobs now (limits, busy or unreachable); the same submit may work later."""


class SubmitTooLarge(SubmitDeferred):
    """The array has larger slots than the scheduler takes; the same elements in smaller arrays will do."""


class SubmitOverLimit(SubmitDeferred):
    """A limit on queued jobs is met: fewer elements may fit now, these when others have ended."""


class SubmitUnknown(SchedulerError):
    """The submit command failed in a way that leaves open whether the job was accepted: ask for its name first."""


class InterruptReason(str, Enum):
    """Why a running task is told to end."""

    #: The time limit of the job, or of one element of a pack, is near or over.
    TIMEOUT = "TIMEOUT"
    #: The scheduler wants the node for others.
    PREEMPTED = "PREEMPTED"
    #: A person cancelled it.
    CANCELLED = "CANCELLED"
    #: SIGTERM, and nothing that tells why.
    UNKNOWN = "UNKNOWN"

    __str__ = str.__str__


class TaskInterrupted(BaseException):
    """Raised inside the running task when it is told to end: time limit, cancel or preemption; `reason` says which.

    A `BaseException`, so that a task's own ``except Exception`` does not swallow it. Catch it to save work,
    then raise it again.
    """

    def __init__(self, message: str = "", reason: InterruptReason = InterruptReason.UNKNOWN) -> None:
        super().__init__(message)
        self.reason = reason
