"""This machine: a job queue of one's own, with the arrays, dependencies and time limits that Slurm has."""

from __future__ import annotations

import os
import shlex
import signal
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from .. import paths, rendering
from ..amounts import parse_time_limit
from ..errors import ConfigError, SchedulerError, SubmitRefused
from ..indices import Indices
from .base import After, Executor, Job, JobStatus, SlotKey, SlotStatus
from .commands import clean_environment
from .localqueue import LAUNCH_FAILURE, Condition, ConditionKind, JobHistory, LocalQueue, QueuedJob, QueueSettings
from .slurm_words import checked_environment

#: Templates are looked up in the executor's `template_dirs` under this name, unless the job names another.
TEMPLATE = "local.sh.j2"

#: Exit codes of a shell whose child was killed by one of the signals that end programs.
_PASSED_ON = frozenset(
    128 + number
    for number in (
        signal.SIGABRT,
        signal.SIGBUS,
        signal.SIGFPE,
        signal.SIGILL,
        signal.SIGKILL,
        signal.SIGSEGV,
        signal.SIGTERM,
    )
)

_CONDITIONS = {
    After.ANY: ConditionKind.ENDED,
    After.OK: ConditionKind.SUCCEEDED,
    After.CORRESPONDING: ConditionKind.CORRESPONDING,
}


class LocalExecutor(Executor):
    """Runs jobs as processes of this machine, which go on when the submitting process has ended.

    All runs of a user on a machine share one queue, so that together they take no more than `cpus` CPUs. Job ids
    name the machine: another one that shares the home folder cannot see its processes and says so.
    """

    name = "local"

    def __init__(
        self,
        *,
        folder: str | None = None,
        cpus: int | None = None,
        setup: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        template_dirs: Sequence[str] = (),
    ) -> None:
        """Keep what all jobs have in common; what a job says itself wins.

        :param folder: where the queue is; by default in the user's cache folder. Each machine has its own inside.
        :param cpus: CPUs that all jobs together may take; by default those that this process may use
        :param setup: shell lines before each command; a failing one ends the job
        :param environment: variables of each job
        :param template_dirs: folders searched for ``local.sh.j2`` before reflow's own

        Raises `ConfigError` for a setting that can never work.
        """
        if cpus is not None and cpus < 1:
            raise ConfigError(f"cpus is {cpus}: a queue without CPUs runs nothing, write 1 or more")
        if isinstance(setup, str):
            raise ConfigError(f"setup is {setup!r}: write a list of shell lines")
        self._given_folder = folder
        self._given_cpus = cpus
        self._setup = tuple(setup)
        self._environment = checked_environment(environment or {}, "the executor's")
        self._template_dirs = [str(each) for each in template_dirs]
        self._machine = socket.gethostname()
        home = paths.cache_dir() / "local" if folder is None else Path(folder).expanduser().absolute()
        nodes = {self._machine: cpus or len(os.sched_getaffinity(0))}
        self._queue = LocalQueue(home / self._machine, QueueSettings(nodes))

    @property
    def queue(self) -> LocalQueue:
        """The queue that this executor submits to."""
        return self._queue

    def settings(self) -> dict[str, object]:
        """Return the JSON-safe keyword arguments that make an equal executor."""
        return {
            "folder": self._given_folder,
            "cpus": self._given_cpus,
            "setup": list(self._setup),
            "environment": dict(self._environment),
            "template_dirs": list(self._template_dirs),
        }

    def render(self, job: Job) -> str:
        """Return the job's script.

        Raises `ConfigError` for variables that cannot be written, `RenderError` for a template.
        """
        environment = {**self._environment, **checked_environment(job.environment, "the task's")}
        return rendering.render(
            job.template or TEMPLATE,
            [Path(folder) for folder in self._template_dirs],
            comments=[_one_line(job.title or job.name), f"submitted from {_one_line(str(job.run_dir))}"],
            working_dir=shlex.quote(str(job.working_dir)),
            setup=(*self._setup, *job.setup),
            exports=[f"{name}={shlex.quote(value)}" for name, value in environment.items()],
            command=shlex.join(job.command),
        )

    def submit(self, script: Path, job: Job) -> str:
        """Queue the script and return the job id, ``12@machine``. Memory is not limited on this machine."""
        if job.slots is not None and not job.slots:
            raise ValueError(f"job '{job.name}' is an array without slots")
        try:
            time_limit = parse_time_limit(job.resources.time)
        except ValueError as error:
            raise SubmitRefused(f"job '{job.name}' cannot run: {error}") from error
        queued = QueuedJob(
            id=0,
            name=job.name,
            folder=str(job.run_dir.absolute()),
            output=_literal(job.log),
            slots=job.slots,
            throttle=job.throttle,
            conditions=tuple(Condition(_CONDITIONS[each.kind], self._number(each.job_id)) for each in job.after),
            time_limit=time_limit,
            warn_before=job.signal_before,
            cpus=job.resources.cpus,
        )
        return f"{self._queue.submit(queued, script.read_bytes(), clean_environment(os.environ))}@{self._machine}"

    def find(self, job_name: str) -> str | None:
        """Return the newest job of that name; jobs are remembered for two weeks after their end."""
        self._queue.keep_running()
        found = self._queue.find(job_name)
        return f"{found[-1]}@{self._machine}" if found else None

    def cancel(self, job_ids: Sequence[str], slots: Mapping[str, Indices] | None = None) -> None:
        """Cancel these jobs, or only those slots of them; the processes get SIGTERM, and SIGKILL after 5 s."""
        chosen = slots or {}
        for job_id in job_ids:
            self._queue.cancel(self._number(job_id), chosen.get(job_id))

    def query(self, job_ids: Sequence[str]) -> Mapping[SlotKey, SlotStatus]:
        """Return what became of every slot of these jobs, and see to it that what is queued goes on."""
        self._queue.keep_running()
        found: dict[SlotKey, SlotStatus] = {}
        for job_id in job_ids:
            history = self._queue.history(self._number(job_id))
            if history is not None:
                is_array = history.job.slots is not None
                for slot in history.slots:
                    found[job_id, slot if is_array else None] = _slot_status(history, slot)
        return found

    def _number(self, job_id: str) -> int:
        number, _, machine = job_id.partition("@")
        if not number.isdecimal() or machine != self._machine:
            raise SchedulerError(
                f"job '{job_id}' is not in the queue of this machine, '{self._machine}': use reflow on the machine "
                "that the run was submitted on"
            )
        return int(number)


def _slot_status(history: JobHistory, slot: int) -> SlotStatus:
    status = history.status(slot)
    tries = history.tries.get(slot)
    node = tries[-1].node if tries else None
    if status is JobStatus.DEPENDENCY:
        return SlotStatus(status, node=node, reason="Dependency")
    outcome = history.last_outcome(slot) if status.is_over else None
    if outcome is None:
        return SlotStatus(status, node=node)
    exit_code, killed_by = None, None
    if status in (JobStatus.COMPLETED, JobStatus.FAILED) and outcome.signal != LAUNCH_FAILURE:
        killed_by = outcome.signal or None
        exit_code = None if killed_by else outcome.exit_code
        if exit_code in _PASSED_ON:
            # A shell that passes on what its child died of.
            killed_by = exit_code - 128
    return SlotStatus(status, exit_code, killed_by, node, outcome.reason or None)


def _literal(log: str) -> str:
    """Return a path in which the queue replaces no pattern."""
    if "\\" in log:
        # One backslash anywhere switches all patterns off, so a "%" beside it needs nothing.
        return log.replace("\\", "\\\\")
    return log.replace("%", "%%")


def _one_line(text: str) -> str:
    """Return text for a comment: a line break in it would make the rest a command."""
    return "".join(character if character.isprintable() else "?" for character in text)
