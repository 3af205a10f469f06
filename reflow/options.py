"""Check what the decorator of a task was told, so that a mistake shows on the login node."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from .amounts import parse_memory, parse_time_limit
from .retry_options import RetryOn, check_ceiling, check_factor, check_retries, check_retry_on
from .spec import JobConfig
from .suggest import did_you_mean

_TIME = re.compile(r"(\d+-\d+(:\d+){0,2}|\d+(:\d+){0,2})", re.ASCII)
_MEMORY = re.compile(r"\d+[KMGT]?", re.ASCII | re.IGNORECASE)
# Slurm takes no more seconds than this.
_LONGEST_WARNING = 65_535
_ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)

_OWN = (
    *("name", "array", "array_parallelism", "cpus", "time", "mem", "after", "submit_options", "version", "cache"),
    *("verify", "allow_partial", "setup", "environment", "template"),
    *("retries", "retry_on", "mem_factor", "mem_max", "time_factor", "time_max"),
    *("pack", "element_time", "signal_before", "resume"),
)
# Other words for the same things, too unlike ours for a spelling check.
_SYNONYMS = {
    **dict.fromkeys(("memory", "ram"), "mem"),
    **dict.fromkeys(("walltime", "timeout", "time_limit", "timelimit"), "time"),
    **dict.fromkeys(("cores", "ncpus", "num_cpus", "n_cpus", "threads"), "cpus"),
    **dict.fromkeys(("depends_on", "dependencies", "needs"), "after"),
    **dict.fromkeys(("env",), "environment"),
    **dict.fromkeys(("retry", "max_retries", "attempts", "tries"), "retries"),
}
# Options that would say what a keyword of ours says, or what reflow decides: two places would contradict each other.
_DECIDED_ELSEWHERE = {
    "array": "array=True and array_parallelism=N say it",
    "cpus-per-task": "cpus=N says it",
    "time": 'time="HH:MM:SS" says it',
    "mem": 'mem="4G" says it',
    "dependency": "reflow sets it from what the task takes and from after=[...]",
    "job-name": "reflow finds its jobs by names of its own",
    "output": "reflow keeps a log of every element",
    "error": "reflow keeps a log of every element",
    "parsable": "reflow sets it",
    "wrap": "reflow writes the script",
    "kill-on-invalid-dep": "reflow sets it",
    "signal": "signal_before=SECONDS says it",
}
# The long options of sbatch, which are never taken for a misspelt keyword of ours.
_SBATCH_OPTIONS = frozenset(
    """
    account acctg-freq array batch bb bbf begin chdir cluster-constraint clusters comment constraint container
    container-id contiguous core-spec cores-per-socket cpu-freq cpus-per-gpu cpus-per-task deadline delay-boot
    dependency distribution error exclude exclusive export export-file extra extra-node-info get-user-env gid gpu-bind
    gpu-freq gpus gpus-per-node gpus-per-socket gpus-per-task gres gres-flags hint hold ignore-pbs input job-name
    kill-on-invalid-dep licenses mail-type mail-user mcs-label mem mem-bind mem-per-cpu mem-per-gpu mincpus network
    nice no-kill no-requeue nodefile nodelist nodes ntasks ntasks-per-core ntasks-per-gpu ntasks-per-node
    ntasks-per-socket open-mode output overcommit oversubscribe parsable partition power prefer priority profile
    propagate qos quiet reboot requeue reservation resv-ports segment signal sockets-per-node spread-job
    stepmgr switches test-only thread-spec threads-per-core time time-min tmp tres-bind tres-per-task uid use-min-nodes
    verbose wait wait-all-nodes wckey wrap
    """.split()  # noqa: SIM905 (110 quoted words would fill three times the lines)
)


def check_task_name(name: object) -> str:
    """Return the name of a task, flow or prefix; anything but a non-empty string without NUL is refused."""
    if not isinstance(name, str):
        raise TypeError(f"A name must be a string, not {name!r}.")
    if not name or "\0" in name:
        raise ValueError(f"A name must have at least one character, and no NUL: {name!r}.")
    return name


def check_after(task: str, after: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return the names of the tasks to wait for, each once, in order."""
    names = (after,) if isinstance(after, str) else after or ()
    if callable(names) or not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"Task '{task}': after={after!r} must name tasks, as in after=[\"prepare\"].")
    return tuple(dict.fromkeys(names))


def check_verify(task: str, verify: Callable[..., Any] | None) -> Callable[..., Any] | None:
    """Return the function that looks at a result before it is used again."""
    if verify is not None and not callable(verify):
        raise TypeError(f"Task '{task}': verify={verify!r} must be a function that takes the result.")
    return verify


def job_config(
    task: str,
    *,
    array: bool,
    array_parallelism: int | None,
    pack: int,
    element_time: str | None,
    signal_before: int | None,
    resume: bool,
    cpus: int,
    time: str,
    mem: str,
    submit_options: Mapping[str, Any] | None,
    version: str,
    cache: bool | Literal["version"],
    allow_partial: bool,
    setup: Sequence[str],
    environment: Mapping[str, str] | None,
    template: str | None,
    retries: int,
    retry_on: RetryOn,
    mem_factor: float,
    mem_max: str | None,
    time_factor: float,
    time_max: str | None,
    scheduler_options: Mapping[str, Any],
) -> JobConfig:
    """Return what the decorator was told, checked; `TypeError` and `ValueError` name the task and the keyword."""

    def require(holds: bool, kind: type[Exception], sentence: str) -> None:
        if not holds:
            raise kind(f"Task '{task}': {sentence}")

    for keyword, switch in (("array", array), ("allow_partial", allow_partial), ("resume", resume)):
        require(isinstance(switch, bool), TypeError, f"{keyword}={switch!r} must be True or False.")
    require(
        isinstance(cache, bool) or cache == "version",
        TypeError,
        f'cache={cache!r} must be True or False, or "version": whatever the code, as long as version= is the same.',
    )
    for keyword, count in (("cpus", cpus), ("array_parallelism", array_parallelism), ("pack", pack)):
        if count is not None or keyword != "array_parallelism":
            require(_is_int(count), TypeError, f"{keyword}={count!r} must be a whole number.")
            require(bool(count and count > 0), ValueError, f"{keyword}={count!r} must be at least 1.")
    require(array or array_parallelism is None, ValueError, "array_parallelism needs array=True: add it.")
    require(array or pack == 1, ValueError, "pack needs array=True: add it.")
    require(
        element_time is None or pack > 1,
        ValueError,
        f"element_time={element_time!r} limits one element of a pack: add pack=N, or write it as time=.",
    )
    require(
        element_time is None or (isinstance(element_time, str) and _TIME.fullmatch(element_time) is not None),
        ValueError,
        f'element_time={element_time!r} is not a time limit: write "MM:SS", such as "01:30", or "HH:MM:SS".',
    )
    require(isinstance(time, str), TypeError, f'time={time!r} must be a string, such as "00:30:00".')
    require(
        _TIME.fullmatch(time) is not None,
        ValueError,
        f'time={time!r} is not a time limit: write "HH:MM:SS", such as "00:30:00", or "D-HH:MM:SS".',
    )
    if signal_before is not None:
        require(_is_int(signal_before), TypeError, f"signal_before={signal_before!r} must be a number of seconds.")
        limit = parse_time_limit(time)
        require(
            0 < signal_before <= _LONGEST_WARNING and (limit is None or signal_before < limit),
            ValueError,
            f"signal_before={signal_before!r} must be seconds before the end of time={time!r}, at least 1.",
        )
    require(isinstance(mem, str), TypeError, f'mem={mem!r} must be a string, such as "4G".')
    require(
        _MEMORY.fullmatch(mem) is not None,
        ValueError,
        f'mem={mem!r} is not an amount of memory: write a whole number with K, M, G or T, such as "4G" or "500M".',
    )
    require(isinstance(version, str), TypeError, f"version={version!r} must be a string: write version='{version}'.")
    setup_is_lines = isinstance(setup, Sequence) and not isinstance(setup, str)
    require(
        setup_is_lines and all(isinstance(line, str) and "\0" not in line for line in setup),
        TypeError,
        f'setup={setup!r} must be a list of shell lines, such as ["module load gcc"].',
    )
    variables = environment if environment is not None else {}
    require(
        isinstance(variables, Mapping) and all(isinstance(text, str) for pair in variables.items() for text in pair),
        TypeError,
        f'environment={environment!r} must map names to strings, such as {{"OMP_NUM_THREADS": "4"}}.',
    )
    for variable, value in variables.items():
        require(
            _ENVIRONMENT_NAME.fullmatch(variable) is not None and "\0" not in value,
            ValueError,
            f"environment has {variable!r}, which cannot be an environment variable: use letters, digits and '_'.",
        )
    require(
        template is None or (isinstance(template, str) and bool(template)),
        TypeError,
        f"template={template!r} must be the file name of a template.",
    )
    return JobConfig(
        array=array,
        array_parallelism=array_parallelism,
        pack=pack,
        element_time=element_time,
        signal_before=signal_before,
        resume=resume,
        cpus=cpus,
        time=time,
        mem=mem,
        submit_options=_scheduler_options(task, submit_options, scheduler_options),
        version=version,
        cache=cache,
        allow_partial=allow_partial,
        setup=tuple(setup),
        environment=dict(variables),
        template=template,
        retries=check_retries(task, retries),
        retry_on=check_retry_on(task, retry_on, retries),
        mem_factor=check_factor(task, "mem_factor", mem_factor),
        mem_max=check_ceiling(task, "mem", mem, mem_max, parse_memory),
        time_factor=check_factor(task, "time_factor", time_factor),
        time_max=check_ceiling(task, "time", time, time_max, parse_time_limit),
    )


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _scheduler_options(
    task: str, submit_options: Mapping[str, Any] | None, keywords: Mapping[str, Any]
) -> dict[str, str | int | float | bool]:
    """Return all further options by their long name: ``gpus_per_node=1`` becomes ``gpus-per-node``."""
    if submit_options is not None and not isinstance(submit_options, Mapping):
        raise TypeError(
            f'Task \'{task}\': submit_options={submit_options!r} must be a dict, such as {{"qos": "long"}}.'
        )
    for keyword in keywords:
        _check_spelling(task, keyword)
    merged: dict[str, str | int | float | bool] = {}
    for written, value in (*(submit_options or {}).items(), *keywords.items()):
        if not isinstance(written, str) or not written or not written.isprintable() or " " in written:
            raise TypeError(f"Task '{task}': {written!r} cannot be an option of the scheduler: write its long name.")
        if written.startswith("-"):
            raise ValueError(f"Task '{task}': write the option {written!r} as '{written.lstrip('-')}', without dashes.")
        option = written.replace("_", "-")
        if option in _DECIDED_ELSEWHERE:
            raise TypeError(f"Task '{task}': leave out the option '{option}': {_DECIDED_ELSEWHERE[option]}.")
        if option in merged:
            raise TypeError(f"Task '{task}': the option '{option}' is given twice: keep one of both.")
        if not isinstance(value, str | int | float) or "\0" in str(value):
            raise TypeError(
                f"Task '{task}': the option '{option}' has the value {value!r}: write a string, a number, or True for "
                "an option without value."
            )
        merged[option] = value
    return merged


def _check_spelling(task: str, keyword: str) -> None:
    if keyword.replace("_", "-") in _SBATCH_OPTIONS:
        return
    synonym = _SYNONYMS.get(keyword)
    hint = f" Did you mean '{synonym}'?" if synonym else did_you_mean(keyword, _OWN)
    if hint:
        raise TypeError(
            f"Task '{task}': there is no keyword '{keyword}'.{hint} An option of the scheduler by that name goes in "
            f"submit_options={{'{keyword}': ...}}."
        )
