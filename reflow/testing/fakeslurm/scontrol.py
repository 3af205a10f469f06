"""The fake ``scontrol``: show (config, job, node, hostnames), update, hold, release, requeue and ping."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from ...amounts import format_duration, parse_time_limit
from ...executors.base import JobStatus
from ...executors.localqueue import JobHistory, Strike, condition_values
from ...indices import Indices
from . import requests
from .listing import Row, find_job, is_forgotten, moment, recent_ids, rows, user_name
from .options import WrongOption, read_options
from .site import Site, write_settings

_ALONE = {"oneliner": "o", "details": "d", "all": "a", "quiet": "Q", "verbose": "v", "hide": "", "version": "V"}

#: A target of a command: a job and the slots of it that are meant, None for all.
_Target = tuple[JobHistory, "Indices | None"]


class Refused(Exception):
    """The message is what stands on stderr."""


def main(site: Site, words: list[str]) -> int:
    """Do what the words say; return the exit code."""
    try:
        options, rest = read_options(words, {"clusters": "M", "uid": "u"}, _ALONE, permute=True)
        command, *arguments = rest or [""]
        for name, act in _COMMANDS.items():
            # Commands may be shortened: "sho" is show.
            if command and name.startswith(command.lower()):
                act(site, arguments, options)
                return 0
        raise Refused(f"invalid keyword: {command}")
    except (WrongOption, Refused) as error:
        print(error, file=sys.stderr)
        return 1


def _show(site: Site, words: list[str], options: dict[str, str]) -> None:
    entity, *names = words or [""]
    entity = entity.lower()
    if "config".startswith(entity) and entity:
        print("\n".join(_config(site)))
    elif entity in ("job", "jobs"):
        targets = (
            _targets(site, names, "slurm_load_jobs error: Invalid job id specified")
            if names
            else [(each, None) for each in site.queue.histories(recent_ids(site))]
        )
        separator = " " if "oneliner" in options else "\n   "
        end = "" if "oneliner" in options else "\n"
        for history, slots in targets:
            for row in rows(site, history, expand=slots is not None):
                if not row.is_requeued and (slots is None or row.slots & slots):
                    print(separator.join(_describe(row)) + end)
    elif entity in ("node", "nodes"):
        for name, cpus in site.settings.nodes.items():
            if not names or name in requests.parse_nodes(",".join(names)):
                state = "DOWN" if name in site.settings.down else "IDLE"
                print(f"NodeName={name} CPUTot={cpus} State={state}")
    elif entity in ("hostnames", "hostname"):
        print("\n".join(requests.parse_nodes(",".join(names))))
    else:
        raise Refused(f"invalid entity:{entity} for keyword:show ")


def _config(site: Site) -> Iterator[str]:
    settings = site.settings
    storage = "accounting_storage/slurmdbd" if settings.accounting else "accounting_storage/none"
    yield f"Configuration data as of {time.strftime('%Y-%m-%dT%H:%M:%S')}"
    for name, value in {
        "AccountingStorageType": storage,
        "ClusterName": settings.cluster_name,
        "JobRequeue": 1,
        "KillWait": f"{settings.kill_wait:g} sec",
        "MaxArraySize": settings.max_array_size,
        "MaxJobCount": 10000,
        "MinJobAge": f"{settings.min_job_age:g} sec",
        "SLURM_VERSION": "22.05.8",
    }.items():
        yield f"{name:<23} = {value}"


def _describe(row: Row) -> Iterator[str]:
    job = row.history.job
    identity = f"JobId={row.raw_id}"
    if job.slots is not None:
        identity += f" ArrayJobId={job.id} ArrayTaskId={row.slots}"
    yield f"{identity} JobName={row.history.name}"
    yield f"UserId={user_name()}({os.getuid()}) Account={job.details['account']} QOS=normal"
    yield f"JobState={row.status} Reason={row.reason} Dependency={job.details['dependency'] or '(null)'}"
    restarts = row.attempt.restart if row.attempt else 0
    code, signal_number = row.wait_status >> 8, row.wait_status & 0x7F
    yield f"Requeue={int(job.requeue)} Restarts={restarts} BatchFlag=1 ExitCode={code}:{signal_number}"
    yield f"RunTime={format_duration(row.seconds)} TimeLimit={row.time_limit}"
    began = moment(row.attempt.began if row.attempt else None, "Unknown")
    yield f"SubmitTime={moment(job.submitted, 'Unknown')} StartTime={began} EndTime={moment(row.ended, 'Unknown')}"
    yield f"Partition={job.details['partition']} NodeList={row.attempt.node if row.attempt else ''}"
    yield f"NumNodes=1 NumCPUs={job.cpus} CPUs/Task={job.cpus}"
    yield f"WorkDir={job.folder}"
    yield f"StdOut={job.output}"


def _update(site: Site, words: list[str], options: dict[str, str]) -> None:
    values = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise Refused(f"Invalid input: {word}")
        values[name.lower()] = value
    if "nodename" in values:
        _update_nodes(site, requests.parse_nodes(values["nodename"]), values.get("state", "").upper())
        return
    if "jobid" not in values:
        raise Refused("No valid entity in update command")
    for history, slots in _targets(site, [values.pop("jobid")]):
        for name, value in values.items():
            _update_job(site, history, slots, name, value)


def _update_job(site: Site, history: JobHistory, slots: Indices | None, name: str, value: str) -> None:
    job_id = history.job.id
    try:
        if name == "timelimit":
            site.queue.change(job_id, time_limit=parse_time_limit(value))
        elif name == "arraytaskthrottle":
            site.queue.change(job_id, throttle=int(value) or None)
        elif name in ("jobname", "name"):
            site.queue.change(job_id, name=value)
        elif name == "dependency":
            conditions, any_condition = requests.parse_dependency(value) if value else ((), False)
            site.queue.change(job_id, conditions=condition_values(conditions), any_condition=any_condition)
        elif name == "endtime" and value == "now":
            running = Indices(history.running) if slots is None else slots & Indices(history.running)
            site.queue.cancel(job_id, running, Strike(JobStatus.TIMEOUT, "TimeLimit", gentle=True))
        elif name != "comment":
            raise Refused(f"Update of this parameter is not supported: {name}={value}")
    except ValueError as error:
        raise Refused(f"slurm_update error: {error}") from error


def _update_nodes(site: Site, names: list[str], state: str) -> None:
    """A node that goes down takes its jobs with it; they start again elsewhere if they asked for that."""
    if state not in ("DOWN", "RESUME", "IDLE", "DRAIN") or not set(names) <= set(site.settings.nodes):
        raise Refused("slurm_update error: Invalid node name or state specified")
    is_leaving = state in ("DOWN", "DRAIN")
    down = (set(site.settings.down) | set(names)) if is_leaving else (set(site.settings.down) - set(names))
    write_settings(site.folder, replace(site.settings, down=tuple(sorted(down))))
    changed = Site(site.folder)
    changed.queue.apply_settings()
    if state != "DOWN":
        return
    for history in changed.queue.histories(changed.queue.open_ids()):
        lost = Indices(slot for slot, attempt in history.running.items() if attempt.node in names)
        if lost:
            end = Strike(JobStatus.NODE_FAIL, "NodeDown", requeue=history.job.requeue)
            changed.queue.cancel(history.job.id, lost, end)


def _requeue(site: Site, words: list[str], options: dict[str, str]) -> None:
    for history, slots in _targets(site, words):
        if not (history.has_started and history.job.requeue):
            raise Refused(f"Requested operation is presently disabled for job {history.job.id}")
        site.queue.requeue(history.job.id, slots)


def _hold(site: Site, words: list[str], options: dict[str, str]) -> None:
    for history, slots in _targets(site, words):
        site.queue.hold(history.job.id, slots)


def _release(site: Site, words: list[str], options: dict[str, str]) -> None:
    for history, slots in _targets(site, words):
        site.queue.hold(history.job.id, slots, held=False)


def _ping(site: Site, words: list[str], options: dict[str, str]) -> None:
    print(f"Slurmctld(primary) at {os.uname().nodename} is UP")


_COMMANDS: dict[str, Callable[[Site, list[str], dict[str, str]], None]] = {
    "show": _show,
    "update": _update,
    "requeue": _requeue,
    "hold": _hold,
    "uhold": _hold,
    "release": _release,
    "ping": _ping,
}


def _targets(site: Site, words: list[str], unknown: str = "Invalid job id specified for job {}") -> list[_Target]:
    found = []
    for text in (part for word in words for part in requests.split_job_ids(word)):
        try:
            number, slots = requests.parse_job_id(text)
        except ValueError as error:
            raise Refused(f"Invalid job id specified: {text}") from error
        known = find_job(site, number)
        if known is None or is_forgotten(site, known[0]):
            raise Refused(unknown.format(text))
        found.append((known[0], slots if known[1] is None else known[1]))
    return found
