"""Slurm: scripts go to ``sbatch``, questions to ``squeue`` and ``sacct``, cancels to ``scancel``.

Words are built in `slurm_words`, answers read in `slurm_answers`, both pure; what is here runs the commands.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..errors import ConfigError, SchedulerError, SubmitTooLarge, SubmitUnknown
from ..indices import Indices
from ..rendering import render as print_template
from . import slurm_answers as answers
from . import slurm_words as words
from .base import Executor, Job, Limits, SlotKey, SlotStatus
from .commands import CommandTimedOut, Completed, clean_environment, find_program, run
from .slurm_words import OptionValue

#: Templates are looked up in the executor's `template_dirs` under this name, unless the job names another.
TEMPLATE = "slurm.sh.j2"

#: Asked once per process and cluster: a dispatch pass would else wait for scontrol at every wave.
_limits: dict[tuple[str, ...], Limits] = {}


def forget_limits() -> None:
    """Ask every cluster anew: where another one answers now, as in tests."""
    _limits.clear()


class SlurmExecutor(Executor):
    """Submits to Slurm 20.02 or newer through its own commands."""

    name = "slurm"

    def __init__(
        self,
        *,
        submit_options: Mapping[str, OptionValue] | None = None,
        setup: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        export: str | Sequence[str] = "ALL",
        template_dirs: Sequence[str] = (),
        sbatch: str = "sbatch",
        squeue: str = "squeue",
        sacct: str = "sacct",
        scancel: str = "scancel",
        scontrol: str = "scontrol",
        submit_timeout: float = 180.0,
        command_timeout: float = 60.0,
    ) -> None:
        """Keep what all jobs have in common; what a job says itself wins.

        :param submit_options: options of sbatch by their long names, ``{"partition": "gpu", "exclusive": True}``
        :param setup: shell lines before each command; a failing one ends the job
        :param environment: variables of each job
        :param export: which variables of the submitting process a job gets: ``"ALL"``, ``"NONE"`` or a list of names
        :param template_dirs: folders searched for ``slurm.sh.j2`` before reflow's own
        :param sbatch: the command, with arguments if it needs some (``"sbatch --clusters=big"``); the others alike
        :param submit_timeout: seconds; a full controller keeps sbatch waiting for 120 s before it says so
        :param command_timeout: seconds for all other commands; a controller that is down takes up to 20 s to be missed

        Raises `ConfigError` for a setting that can never work.
        """
        self._submit_options = words.checked_options(submit_options or {}, "the executor's")
        self._setup = _lines(setup)
        self._environment = words.checked_environment(environment or {}, "the executor's")
        self._export = export if isinstance(export, str) else list(export)
        self._export_value = words.export_value(export)
        self._template_dirs = [str(folder) for folder in template_dirs]
        self._commands = {
            name: _command_words(name, command)
            for name, command in {
                "sbatch": sbatch,
                "squeue": squeue,
                "sacct": sacct,
                "scancel": scancel,
                "scontrol": scontrol,
            }.items()
        }
        self._submit_timeout = submit_timeout
        self._command_timeout = command_timeout
        self._keeps_account = True

    def settings(self) -> dict[str, object]:
        """Return the JSON-safe keyword arguments that make an equal executor."""
        return {
            "submit_options": dict(self._submit_options),
            "setup": list(self._setup),
            "environment": dict(self._environment),
            "export": self._export,
            "template_dirs": list(self._template_dirs),
            **{name: shlex.join(command) for name, command in self._commands.items()},
            "submit_timeout": self._submit_timeout,
            "command_timeout": self._command_timeout,
        }

    def render(self, job: Job) -> str:
        """Return the job's script.

        Raises `ConfigError` for submit options or variables that cannot be written, `RenderError` for a template.
        """
        environment = {**self._environment, **words.checked_environment(job.environment, "the task's")}
        return print_template(
            job.template or TEMPLATE,
            [Path(folder) for folder in self._template_dirs],
            comments=[_one_line(job.title or job.name), f"submitted from {_one_line(str(job.run_dir))}"],
            directives=words.directives(job, self._submit_options, self._export_value),
            working_dir=shlex.quote(str(job.working_dir)),
            setup=(*self._setup, *_lines(job.setup)),
            exports=[f"{name}={shlex.quote(value)}" for name, value in environment.items()],
            command=shlex.join(job.command),
        )

    def check(self) -> None:
        """Look for the submit command, as every submit would; asks the controller nothing."""
        find_program(self._commands["sbatch"][0])

    def submit(self, script: Path, job: Job) -> str:
        """Submit the script from the run directory and return the job id, ``12`` or ``12;cluster``."""
        command = [*self._commands["sbatch"], *words.submit_words(script.absolute(), job)]
        try:
            said = run(command, cwd=job.run_dir, env=clean_environment(os.environ), timeout=self._submit_timeout)
        except CommandTimedOut as error:
            raise SubmitUnknown(f"it is not known whether Slurm has accepted the job: {error}") from error
        if said.code != 0:
            refusal = answers.classify_refusal(said.stderr, said.code)
            if isinstance(refusal, SubmitTooLarge):
                _limits.pop(self._cluster(), None)  # it is another limit than the one that we know
            raise refusal
        job_id = answers.parse_job_id(said.stdout)
        if job_id is None:
            raise SubmitUnknown(f"sbatch ended well without printing a job id: {said.words}")
        return job_id

    def find(self, job_name: str) -> str | None:
        """Return the newest job of that name, a living one if any is.

        Where no account is kept, jobs that ended more than ``MinJobAge`` (mostly 300 s) ago are not found.
        """
        queue = self._ask("squeue", words.find_in_queue_words(job_name))
        found = answers.parse_found(queue)
        if found is None:
            account = self._ask_account(words.find_in_account_words(job_name))
            found = None if account is None else answers.parse_found(account)
        return found

    def cancel(self, job_ids: Sequence[str], slots: Mapping[str, Indices] | None = None) -> None:
        """Cancel these jobs, or only those slots of them."""
        for some in words.cancel_words(job_ids, slots):
            said = self._run("scancel", some)
            if said.code != 0 and not answers.is_over_already(said.stderr):
                raise self._error("scancel", said)

    def query(self, job_ids: Sequence[str]) -> Mapping[SlotKey, SlotStatus]:
        """Return what became of every slot: one ``sacct`` and one ``squeue`` for all jobs of a cluster."""
        found: dict[SlotKey, SlotStatus] = {}
        # What bears no number of Slurm's was never its job: nobody knows of it, and that is the answer.
        own = [job_id for job_id in job_ids if words.split_job_id(job_id)[0].isdecimal()]
        for cluster, numbers in words.by_cluster(own).items():
            account: list[answers.Row] = []
            for some in words.account_words(numbers, cluster):
                account += answers.parse_account(self._ask_account(some) or "")
            # The queue is asked last, because it is believed before the account.
            queue: list[answers.Row] = []
            for some in words.queue_words(numbers, cluster):
                queue += answers.parse_queue(self._ask("squeue", some))
            found.update(answers.merge(queue, account, cluster))
        return found

    def used_memory(self, slots: Sequence[SlotKey]) -> Mapping[SlotKey, int]:
        """Return what ``sacct`` has measured of these slots' steps."""
        used: dict[SlotKey, int] = {}
        for cluster in words.by_cluster(job_id for job_id, _ in slots):
            wanted = [slot for slot in slots if words.split_job_id(slot[0])[1] == cluster]
            try:
                for some in words.usage_words(wanted, cluster):
                    used.update(answers.parse_usage(self._ask_account(some) or "", cluster))
            except SchedulerError:
                continue
        return {slot: used[slot] for slot in slots if slot in used}

    def limits(self) -> Limits:
        """Return the cluster's ``MaxArraySize``, or Slurm's default while the cluster cannot be asked."""
        cluster = self._cluster()
        if cluster not in _limits:
            try:
                _limits[cluster] = answers.parse_config_limits(self._ask("scontrol", words.limit_words()))
            except SchedulerError:
                return Limits(answers.DEFAULT_MAX_ARRAY_SIZE)
        return _limits[cluster]

    def _cluster(self) -> tuple[str, ...]:
        return (*self._commands["scontrol"], os.environ.get("SLURM_CONF", ""))

    def _run(self, command: str, arguments: Sequence[str]) -> Completed:
        # Lists of slots are cut at 64 characters unless this says otherwise.
        environment = {**clean_environment(os.environ), "SLURM_BITSTR_LEN": "0"}
        return run([*self._commands[command], *arguments], env=environment, timeout=self._command_timeout)

    def _ask(self, command: str, arguments: Sequence[str]) -> str:
        """Return what the command printed; a job that it has forgotten is no error."""
        said = self._run(command, arguments)
        if said.code != 0 and answers.FORGOTTEN_JOB not in said.stderr:
            raise self._error(command, said)
        return said.stdout

    def _ask_account(self, arguments: Sequence[str]) -> str | None:
        """Return what sacct printed, or None where no account is kept."""
        if not self._keeps_account:
            return None
        said = self._run("sacct", arguments)
        if answers.NO_ACCOUNTING in said.stderr:
            self._keeps_account = False
            return None
        if said.code != 0:
            raise self._error("sacct", said)
        return said.stdout

    def _error(self, command: str, said: Completed) -> SchedulerError:
        return SchedulerError(f"{command} failed: {said.words}")


def _command_words(name: str, command: str) -> list[str]:
    try:
        found = shlex.split(command)
    except ValueError as error:
        raise ConfigError(f"{name} is {command!r}, which is no command line: {error}") from error
    if not found:
        raise ConfigError(f"{name} is empty: write a command, such as '{name}'")
    return found


def _lines(setup: Sequence[str]) -> tuple[str, ...]:
    if isinstance(setup, str):
        raise ConfigError(f"setup is {setup!r}: write a list of shell lines")
    return tuple(setup)


def _one_line(text: str) -> str:
    """Return text for a comment: a line break in it would make the rest a command."""
    return "".join(character if character.isprintable() else "?" for character in text)
