"""The fake ``sbatch``."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from ...amounts import parse_time_limit
from ...errors import ReflowError
from ...executors.base import JobStatus
from ...executors.localqueue import ConditionKind, JobHistory, QueuedJob
from . import requests
from .listing import is_forgotten
from .options import WrongOption, read_options, script_options
from .site import Site

#: What a job has of the submitter's environment when ``--export`` names only some of it; a login gives the rest.
_LOGIN_VARIABLES = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG")

_NOT_A_SCRIPT = """This does not look like a batch script.  The first
sbatch: error: line must start with #! followed by the path to an interpreter.
sbatch: error: For instance: #!/bin/sh"""


class Refused(ReflowError):
    """The message is what stands on stderr after ``sbatch: error:``."""

    def __init__(self, words: str, code: int = 1) -> None:
        super().__init__(words)
        self.code = code


def main(site: Site, words: list[str]) -> int:
    """Submit a job as the words say; return the exit code."""
    try:
        return _submit(site, words)
    except WrongOption as error:
        print(f'sbatch: {error}\nTry "sbatch --help" for more information', file=sys.stderr)
        return 255
    except Refused as error:
        print(f"sbatch: error: {error}", file=sys.stderr)
        return error.code


def _submit(site: Site, words: list[str]) -> int:
    options, rest = read_options(words)
    if "version" in options:
        print("slurm 22.05.8")
        return 0
    script, arguments, default_name = _script(options, rest)
    options = script_options(script.decode(errors="replace")) | options
    job = _job(site, options, arguments, default_name)
    _check_limits(site, job)
    if "test-only" in options:
        print(
            f"sbatch: Job {site.queue.last_id() + 1} to start at {time.strftime('%Y-%m-%dT%H:%M:%S')}", file=sys.stderr
        )
        return 0
    job_id = site.queue.submit(job, script, _environment(site, options, job))
    if "parsable" in options:
        print(job_id)
    elif "quiet" not in options:
        print(f"Submitted batch job {job_id}")
    sys.stdout.flush()
    return _wait(site, job_id) if "wait" in options else 0


def _script(options: Mapping[str, str], rest: list[str]) -> tuple[bytes, tuple[str, ...], str]:
    """Return the script's text, the words after it, and the name of a job that gives itself none."""
    if "wrap" in options:
        if rest:
            raise Refused("Script arguments not permitted with --wrap option")
        return f"#!/bin/sh\n# This script was created by sbatch --wrap.\n\n{options['wrap']}\n".encode(), (), "wrap"
    if not rest or rest[0] == "-":
        content, name = sys.stdin.buffer.read(), "sbatch"
    else:
        name = Path(rest[0]).name
        try:
            content = Path(rest[0]).read_bytes()
        except OSError as error:
            raise Refused(f"Unable to open file {rest[0]}") from error
    if not content.startswith(b"#!"):
        raise Refused(_NOT_A_SCRIPT)
    if b"\r\n" in content:
        raise Refused(
            "Batch script contains DOS line breaks (\\r\\n)\nsbatch: error: instead of expected UNIX line breaks (\\n)."
        )
    return content, tuple(rest[1:]), name


def _job(site: Site, options: Mapping[str, str], arguments: tuple[str, ...], default_name: str) -> QueuedJob:
    folder = Path(os.getcwd(), options.get("chdir", ""))
    slots, throttle = None, None
    # sbatch takes an empty array for a plain job.
    if options.get("array"):
        try:
            slots, throttle = requests.parse_array(options["array"])
        except ValueError as error:
            raise _refusal("Invalid job array specification") from error
    try:
        conditions, any_condition = (
            requests.parse_dependency(options["dependency"]) if options.get("dependency") else ((), False)
        )
    except ValueError as error:
        raise _refusal("Job dependency problem") from error
    try:
        time_limit = parse_time_limit(options["time"]) if "time" in options else None
    except ValueError as error:
        raise Refused("Invalid --time specification", 255) from error
    known = tuple(each for each in conditions if each.job_id is None or not _has_forgotten(site, each.job_id))
    pattern = "slurm-%j.out" if slots is None else "slurm-%A_%a.out"
    unwanted = set(requests.parse_nodes(options.get("exclude", "")))
    if options.get("nodelist"):
        unwanted |= set(site.settings.nodes) - set(requests.parse_nodes(options["nodelist"]))
    return QueuedJob(
        id=0,
        name=options.get("job-name", default_name),
        folder=str(folder),
        # Slurm replaces patterns in the folder's own path, too.
        output=os.path.join(folder, options.get("output") or pattern),
        errors=os.path.join(folder, options["error"]) if options.get("error") else None,
        append=options.get("open-mode", "t").startswith("a"),
        slots=slots,
        arguments=arguments,
        throttle=throttle,
        conditions=known,
        # Of several alternatives one that is forgotten, and so holds, is enough.
        any_condition=any_condition and len(known) == len(conditions),
        kill_on_invalid_dependency=options.get("kill-on-invalid-dep", "no") == "yes",
        time_limit=time_limit,
        warn_before=_warning(options.get("signal", "")),
        cpus=_number(options, "cpus-per-task") * _number(options, "ntasks"),
        requeue="no-requeue" not in options,
        held="hold" in options,
        excluded_nodes=tuple(sorted(unwanted)),
        details={
            "partition": options.get("partition", site.settings.default_partition),
            "account": options.get("account", "test"),
            "comment": options.get("comment", ""),
            "mem": options.get("mem", "0"),
            "dependency": options.get("dependency", ""),
        },
    )


def _warning(option: str) -> int | None:
    """Return the seconds of ``B:USR1@SECONDS``; every other signal is left out."""
    words, _, seconds = option.partition("@")
    return int(seconds) if words.upper() in ("B:USR1", "B:SIGUSR1", "B:10") and seconds.isdecimal() else None


def _number(options: Mapping[str, str], name: str) -> int:
    value = options.get(name, "1")
    if not value.isdecimal():
        raise Refused(f'Invalid numeric value "{value}" for --{name}.')
    return int(value)


def _has_forgotten(site: Site, job_id: int) -> bool:
    history = site.queue.history(job_id)
    return history is None or is_forgotten(site, history)


def _check_limits(site: Site, job: QueuedJob) -> None:
    settings = site.settings
    partitions = settings.partitions
    if partitions is not None and job.details["partition"] not in partitions:
        raise Refused(
            f"invalid partition specified: {job.details['partition']}\n"
            "sbatch: error: Batch job submission failed: Invalid partition name specified"
        )
    if job.slots is not None and job.slots.ranges[-1][1] > settings.max_array_size:
        raise _refusal("Invalid job array specification")
    if any(
        condition.kind is ConditionKind.CORRESPONDING and condition.slot is not None for condition in job.conditions
    ):
        raise _refusal("Job dependency problem")
    if settings.max_submit_jobs is not None:
        queued = sum(_open_slots(history) for history in site.queue.histories(site.queue.open_ids()))
        if queued + len(job.all_slots) > settings.max_submit_jobs:
            raise Refused(
                "AssocMaxSubmitJobLimit\n"
                "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy "
                "(job submit limit, user's size and/or time limits)"
            )


def _open_slots(history: JobHistory) -> int:
    return len(history.waiting) + len(history.running)


def _refusal(words: str) -> Refused:
    return Refused(f"Batch job submission failed: {words}")


def _environment(site: Site, options: Mapping[str, str], job: QueuedJob) -> dict[str, str]:
    """Return the environment that the job gets besides what Slurm tells it about itself."""
    environment = dict(os.environ)
    words = [word for word in options.get("export", "ALL").split(",") if word]
    if "ALL" not in words:
        names = {*_LOGIN_VARIABLES, *words, *(name for name in os.environ if name.startswith("SLURM_"))}
        environment = {name: value for name, value in environment.items() if name in names}
    for word in words:
        name, equals, value = word.partition("=")
        if equals:
            environment[name] = value
    return environment | {
        "SLURM_CLUSTER_NAME": site.settings.cluster_name,
        "SLURM_JOB_PARTITION": job.details["partition"],
        "SLURM_JOB_ACCOUNT": job.details["account"],
        "SLURM_SUBMIT_HOST": os.uname().nodename,
    }


def _wait(site: Site, job_id: int) -> int:
    while (history := site.queue.history(job_id)) is not None and not history.is_over:
        time.sleep(0.05)
    if history is None:
        return 1
    outcomes = [history.last_outcome(slot) for slot in history.slots]
    codes = [outcome.exit_code for outcome in outcomes if outcome is not None]
    is_good = all(history.status(slot) is JobStatus.COMPLETED for slot in history.slots)
    return 0 if is_good else max([*codes, 1])
