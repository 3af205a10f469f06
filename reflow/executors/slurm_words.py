"""What reflow says to Slurm: the directives of a script and the words of each command. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from ..errors import ConfigError
from ..indices import Indices
from .base import Job, JobResources

#: The value of a submit option; True is a flag without value, False leaves the option out.
OptionValue = str | int | float | bool

#: What every query prints, in this order; `slurm_answers` reads it.
SACCT_FIELDS = ("JobID", "State", "ExitCode", "NodeList", "Reason", "Submit")
SQUEUE_FIELDS = ("JobArrayID", "State", "exit_code", "NodeList", "Reason")

#: A named job that ended longer ago than this is not found any more.
FIND_WITHIN = "now-30days"

#: What reflow decides itself, and where a person says it instead.
_OWN_OPTIONS = {
    "array": "an array's slots are the task's elements",
    "chdir": "tasks run in the folder from which the run was submitted",
    "clusters": "write it into the commands, as in sbatch = 'sbatch --clusters=...', squeue alike",
    "dependency": "write after=[...] on the task",
    "error": "every element has a log in the run's folder",
    "export": "write it as the executor's 'export'",
    "export-file": "write the variables as the executor's 'environment'",
    "job-name": "jobs are found again by the names that reflow gives them",
    "kill-on-invalid-dep": "reflow needs jobs dropped whose parents failed",
    "open-mode": "logs are always appended to",
    "output": "every element has a log in the run's folder",
    "parsable": "reflow reads the job id itself",
    "signal": "write signal_before=SECONDS on the task",
    "test-only": "use --dry-run",
    "wait": "use Run.wait()",
    "wrap": "the job's command is reflow's worker",
}

_OTHER_SPELLINGS = {"queue": "partition"}
_MEMORY_OPTIONS = frozenset({"mem", "mem-per-cpu", "mem-per-gpu"})

_PLAIN_VALUE = re.compile(r"[\w.,:/@%+=^-]+", re.ASCII)
_LONG_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

# Linux takes at most 128 KiB in one word and, by default, 2 MiB in all. scancel itself gets slow with long lists.
_LONGEST_WORD = 8_000
_LONGEST_COMMAND = 80_000


def directives(job: Job, defaults: Mapping[str, OptionValue], export: str) -> list[str]:
    """Return what follows ``#SBATCH`` on each line of the job's script.

    `defaults` are submit options that the job's own win over. An array's specification is printed whole: keep it
    under some 4,000 characters. Raises `ConfigError` for an option that is wrong or not the user's to set.
    """
    if job.slots is not None and not job.slots:
        # sbatch takes an empty --array for a plain job.
        raise ValueError(f"job '{job.name}' is an array without slots")
    options: dict[str, OptionValue] = {"job-name": job.name}
    log = log_pattern(job)
    if _fits_one_line(log):
        options["output"] = log
    options["open-mode"] = "append"
    if job.slots is not None:
        options["array"] = str(job.slots) + (f"%{job.throttle}" if job.throttle else "")
    if job.after:
        options["dependency"] = ",".join(f"{each.kind}:{split_job_id(each.job_id)[0]}" for each in job.after)
        options["kill-on-invalid-dep"] = "yes"
    if job.begin_in:
        options["begin"] = f"now+{job.begin_in}"
    options["export"] = export
    options.update(_resource_options(job.resources, defaults))
    if job.signal_before is not None:
        options["signal"] = f"B:USR1@{job.signal_before}"
    if not options.get("requeue") and "no-requeue" not in options:
        # Slurm would start a lost slot again under the same attempt, perhaps beside a copy that a lost node still
        # runs (seen for 17 s in 22.05). A retry is a new attempt, elsewhere, and counted.
        options["no-requeue"] = True
    return list(_directive_lines(options))


def checked_options(options: Mapping[str, object], whose: str) -> dict[str, OptionValue]:
    """Return submit options by their long names; raises `ConfigError` naming `whose` option is wrong and why."""
    checked: dict[str, OptionValue] = {}
    for written, value in options.items():
        name = written.replace("_", "-")
        name = _OTHER_SPELLINGS.get(name, name)
        if not _LONG_NAME.fullmatch(name) or len(name) == 1:
            raise ConfigError(
                f"{whose} submit option '{written}' is not the long name of an sbatch option, such as 'partition'"
            )
        if name in _OWN_OPTIONS:
            raise ConfigError(f"{whose} submit option '{written}' cannot be set: {_OWN_OPTIONS[name]}")
        if not isinstance(value, str | int | float):
            raise ConfigError(f"{whose} submit option '{written}' is {value!r}: write text, a number, true or false")
        if isinstance(value, str) and not _fits_one_line(value):
            raise ConfigError(f"{whose} submit option '{written}' is {value!r}: it must be one line of text")
        checked[name] = value
    return checked


def export_value(export: str | Sequence[str]) -> str:
    """Return the value of ``--export``: ``ALL``, ``NONE``, or the names of variables; else raises `ConfigError`."""
    names = [export] if isinstance(export, str) else list(export)
    if names in (["ALL"], ["NONE"]):
        return names[0]
    wrong = [name for name in names if not _VARIABLE_NAME.fullmatch(name)]
    if wrong or isinstance(export, str) or not names:
        raise ConfigError(f"export is {export!r}: write 'ALL', 'NONE' or a list of names of environment variables")
    return ",".join(names)


def checked_environment(environment: Mapping[str, str], whose: str) -> dict[str, str]:
    """Return the variables unchanged; raises `ConfigError` for a name or value that no environment can hold."""
    for name, value in environment.items():
        if not _VARIABLE_NAME.fullmatch(name):
            raise ConfigError(f"{whose} environment has '{name}', which is not the name of an environment variable")
        if not isinstance(value, str) or "\0" in value:
            raise ConfigError(f"{whose} environment has {value!r} for '{name}': write text without NUL characters")
    return dict(environment)


def log_pattern(job: Job) -> str:
    """Return the job's log as sbatch's ``--output`` wants it.

    It is relative to the folder of the submit where possible, which needs no quoting of a strange folder. But Slurm
    expands ``%`` in that folder's path as well, and takes a backslash in it for an escape (both seen in 22.05: the
    job fails with JobLaunchFailure): then the path is absolute and escaped.
    """
    strange = any(character in str(job.run_dir) for character in "%\\") or "\\" in job.log
    path = str(job.run_dir.absolute() / job.log) if strange else job.log
    if "\\" in path:
        # One backslash anywhere switches all patterns off, so a "%" beside it needs nothing.
        return path.replace("\\", "\\\\")
    return path.replace("%", "%%")


def submit_words(script: Path, job: Job) -> list[str]:
    """Return the words after ``sbatch`` that submit the job's script, to be run in `job.run_dir`."""
    log = log_pattern(job)
    # A directive is one line; a word of the command line may hold anything.
    output = [] if _fits_one_line(log) else [f"--output={log}"]
    return ["--parsable", *output, str(script)]


def split_job_id(job_id: str) -> tuple[str, str | None]:
    """Return number and cluster of a job id: ``12`` or, on sites with several clusters, ``12;name``."""
    number, _, cluster = job_id.partition(";")
    return number, cluster or None


def by_cluster(job_ids: Iterable[str]) -> dict[str | None, list[str]]:
    """Return the numbers of these jobs, in order and once each, by the cluster to ask; None for the default one."""
    clusters: dict[str | None, dict[str, None]] = {}
    for job_id in job_ids:
        number, cluster = split_job_id(job_id)
        clusters.setdefault(cluster, {})[number] = None
    return {cluster: list(numbers) for cluster, numbers in clusters.items()}


def cancel_words(job_ids: Sequence[str], slots: Mapping[str, Indices] | None = None) -> Iterator[list[str]]:
    """Yield the words after ``scancel``, in as many calls as the length of a command line asks for."""
    chosen = {split_job_id(job_id): indices for job_id, indices in (slots or {}).items()}
    for cluster, numbers in by_cluster(job_ids).items():
        words = [word for number in numbers for word in _slot_words(number, chosen.get((number, cluster)))]
        for some in _up_to(_LONGEST_COMMAND, words):
            yield [*_cluster_words(cluster), *some]


def account_words(numbers: Sequence[str], cluster: str | None = None) -> Iterator[list[str]]:
    """Yield the words after ``sacct`` that ask for every try of every slot; mostly one call.

    Set ``SLURM_BITSTR_LEN=0`` for it and for squeue, else lists of slots are cut at 64 characters.
    """
    for chunk in _id_lists(numbers):
        fields = f"--format={','.join(SACCT_FIELDS)}"
        yield [*_cluster_words(cluster), *_ACCOUNT, "--duplicates", f"--jobs={chunk}", fields]


def usage_words(slots: Sequence[tuple[str, int | None]], cluster: str | None = None) -> Iterator[list[str]]:
    """Yield the words after ``sacct`` that ask for the memory that the steps of these slots used."""
    numbers = [split_job_id(job_id)[0] + ("" if slot is None else f"_{slot}") for job_id, slot in slots]
    for chunk in _id_lists(numbers):
        yield [*_cluster_words(cluster), "--noheader", "--parsable2", f"--jobs={chunk}", "--format=JobID,MaxRSS"]


def queue_words(numbers: Sequence[str], cluster: str | None = None) -> Iterator[list[str]]:
    """Yield the words after ``squeue`` that ask for all slots that it has not forgotten; mostly one call."""
    # A field with a suffix and no size is not cut; without a suffix it is, at 20 characters.
    fields = f"--Format={','.join(f'{field}:|' for field in SQUEUE_FIELDS)}"
    for chunk in _id_lists(numbers):
        yield [*_cluster_words(cluster), *_QUEUE, f"--jobs={chunk}", fields]


def find_in_queue_words(job_name: str) -> list[str]:
    """Return the words after ``squeue`` that ask for the jobs of that name, one line ``id|state`` each."""
    return [*_QUEUE, f"--name={job_name}", "--format=%F|%T"]


def find_in_account_words(job_name: str) -> list[str]:
    """Return the words after ``sacct`` that ask for the jobs of that name, one line ``id|state`` each."""
    # Without a start time sacct knows only what began since midnight.
    return [*_ACCOUNT, f"--name={job_name}", f"--starttime={FIND_WITHIN}", "--format=JobID,State"]


def limit_words() -> list[str]:
    """Return the words after ``scontrol`` that ask for the cluster's limits."""
    return ["show", "config"]


_ACCOUNT = ("--allocations", "--noheader", "--parsable2")
_QUEUE = ("--noheader", "--states=all")


def _resource_options(resources: JobResources, defaults: Mapping[str, OptionValue]) -> dict[str, OptionValue]:
    chosen = {**checked_options(defaults, "the executor's"), **checked_options(resources.options, "the task's")}
    asked: dict[str, OptionValue] = {"cpus-per-task": resources.cpus, "time": resources.time}
    if not any(name in chosen for name in _MEMORY_OPTIONS):  # sbatch refuses two of them
        asked["mem"] = resources.mem
    return {**checked_options(asked, "the task's"), **chosen}


def _directive_lines(options: Mapping[str, OptionValue]) -> Iterator[str]:
    for name, value in options.items():
        if value is False:
            continue
        yield f"--{name}" if value is True else f"--{name}={_quoted(str(value))}"


def _quoted(value: str) -> str:
    """Quote as sbatch reads directives: a backslash keeps the next character, also within double quotes."""
    if _PLAIN_VALUE.fullmatch(value):
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _fits_one_line(text: str) -> bool:
    return not any(character in text for character in "\n\r\0")


def _slot_words(number: str, slots: Indices | None) -> Iterator[str]:
    if slots is None:
        yield number
    elif slots:
        for ranges in _up_to(_LONGEST_WORD, str(slots).split(",")):
            yield f"{number}_[{','.join(ranges)}]"


def _id_lists(numbers: Sequence[str]) -> Iterator[str]:
    for some in _up_to(_LONGEST_COMMAND, numbers):
        yield ",".join(some)


def _up_to(length: int, pieces: Iterable[str]) -> Iterator[list[str]]:
    """Yield the pieces in lists that, joined by one character, are at most `length` long."""
    some: list[str] = []
    total = 0
    for piece in pieces:
        if some and total + len(piece) + 1 > length:
            yield some
            some, total = [], 0
        some.append(piece)
        total += len(piece) + 1
    if some:
        yield some


def _cluster_words(cluster: str | None) -> list[str]:
    return [] if cluster is None else [f"--clusters={cluster}"]
