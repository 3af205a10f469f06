"""Failure cards: what failed, grouped by how it failed, and all that tells why. Pure.

Three hundred elements that fail alike are one card, with their indices and the first of them as the example.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from . import clock
from .amounts import parse_memory
from .indices import Indices
from .spec import JobConfig
from .stores.records import AttemptRecord, FailedInstance, TaskInstanceRecord
from .wording import Line, Tone, duration_text, instance_name, moment_text, shortened

#: How many of the last lines of a log or an error a card shows.
LAST_LINES = 6

# What differs between failures that are alike: words with a digit in them, and quoted values.
_VARIABLE = re.compile(r"(?<!\w)'[^']*'(?!\w)|(?<!\w)\"[^\"]*\"(?!\w)|[\w.]*\d[\w.]*")
_FRAME = re.compile(r'  File "(?P<file>.*)", line (?P<line>\d+)')
_INDENTED = (" ", "\t")


@dataclass(frozen=True)
class FailureGroup:
    """Instances of one task that failed alike: by class, exit code, signal, place and words."""

    task_name: str
    is_array: bool
    indices: Indices
    #: The first of them by index.
    first: FailedInstance
    #: How many failed on each node, the most frequent first.
    nodes: Mapping[str, int]
    #: When the last of them ended, microseconds; None when nobody knows.
    newest_at: int | None


@dataclass(frozen=True)
class Commands:
    """How the person who looks calls reflow, so that what a card tells her to type finds the same run."""

    run_id: str
    program: str = "reflow"
    #: ``--store-path FILE`` where she had to say it.
    options: tuple[str, ...] = ()

    def logs(self, task: str, index: int | None) -> str:
        """Return the command that shows the log of an instance."""
        return self._command("logs", self.run_id, instance_name(task, index))

    def retry(self, task: str) -> str:
        """Return the command that submits the failed instances of a task again."""
        return self._command("retry", self.run_id, "--task", task)

    def status(self, *words: str) -> str:
        """Return the command that shows the run."""
        return self._command("status", self.run_id, *words)

    def watch(self) -> str:
        """Return the command that watches the run."""
        return self._command("watch", self.run_id)

    def _command(self, *words: str) -> str:
        return f"{self.program} {shlex.join([*words, *self.options])}"


@dataclass(frozen=True)
class FailureCard:
    """A group with all that is known of its example."""

    group: FailureGroup
    example: TaskInstanceRecord
    #: The attempts before the newest one, oldest first.
    earlier: tuple[AttemptRecord, ...] = ()
    #: What the task asked for; None when nothing was asked of a scheduler.
    asked: JobConfig | None = None
    #: How often it is tried without a person, 1 for once.
    tries: int = 1
    #: The end of the example's log, without its traceback; empty when there is none.
    log_lines: tuple[str, ...] = ()
    #: Path of that log.
    log: str | None = None
    commands: Commands = field(default_factory=lambda: Commands("RUN_ID"))

    @property
    def name(self) -> str:
        """The example's name."""
        return instance_name(self.example.task_name, self.example.array_index)

    def lines(self, *, errors: bool = False) -> Iterator[Line]:
        """Yield the card; `errors` shows the example's whole error text."""
        one = len(self.group.indices) == 1
        headline = f"{self.name}: {failure_words(self.example, self.tries)}"
        if one:
            yield Line(f"  {headline}{self._ended()}", Tone.BAD)
        else:
            count, which = len(self.group.indices), shortened(self.group.indices)
            yield Line(f"  {self.group.task_name}: {count} elements failed alike [{which}]", Tone.BAD)
            yield Line(f"    first   {headline}{self._ended()}")
        if not one and len(self.group.nodes) > 1:
            yield Line(f"    nodes   {_nodes_text(self.group.nodes)}")
        if self.asked is not None:
            yield Line(f"    asked   {_asked_text(self.asked, self.example)}", Tone.QUIET)
            used = _used_text(self.example, self.asked)
            if used:
                yield Line(f"    used    {used}", Tone.QUIET)
        for attempt in self.earlier:
            yield Line(f"    before  attempt {attempt.attempt}: {attempt_words(attempt)}", Tone.QUIET)
        for line in self.error_lines() if not errors else (self.example.error_text or "").splitlines():
            yield Line(f"    | {line}")
        if self.log_lines:
            yield Line("    log ends", Tone.QUIET)
            yield from (Line(f"    | {line}") for line in self.log_lines)
        yield Line(f"    log     {self.commands.logs(self.example.task_name, self.example.array_index)}", Tone.QUIET)
        yield Line(f"    retry   {self.commands.retry(self.group.task_name)}", Tone.QUIET)

    def error_lines(self) -> list[str]:
        """Return the end of the error: from the last place in a traceback on, or the scheduler's words."""
        return last_place(self.example.error_text or "")

    def _ended(self) -> str:
        ended = self.example.finished_at
        return "" if ended is None else f", at {moment_text(clock.from_datetime(ended))}"

    def to_public_dict(self) -> dict[str, Any]:
        """Return the card as JSON-safe values."""
        example = self.example.to_public_dict()
        shown = ("array_index", "attempt", "job_id", "node", "started_at", "finished_at")
        return {
            "task_name": self.group.task_name,
            "indices": str(self.group.indices) if self.group.is_array else None,
            "count": len(self.group.indices),
            "failure": None if self.example.failure is None else str(self.example.failure),
            "exit_code": self.example.exit_code,
            "signal": self.example.signal,
            "nodes": dict(self.group.nodes),
            "example": {name: example[name] for name in shown},
            "tries": self.tries,
            "asked": None if self.asked is None else _asked(self.asked, self.example),
            "used": _used(self.example),
            "earlier": [_attempt_dict(attempt) for attempt in self.earlier],
            "error_lines": self.error_lines(),
            "log_lines": list(self.log_lines),
            "log": self.log,
            "commands": {
                "logs": self.commands.logs(self.example.task_name, self.example.array_index),
                "retry": self.commands.retry(self.group.task_name),
            },
        }


def group_alike(failures: Iterable[FailedInstance]) -> list[FailureGroup]:
    """Return the failures in groups: tasks in the order given, in each the largest group first."""
    members: dict[tuple[object, ...], list[FailedInstance]] = {}
    for each in failures:
        members.setdefault(_kind(each), []).append(each)
    places: dict[str, int] = {}
    for found in members.values():
        places.setdefault(found[0].task_name, len(places))
    groups = [_group(found) for found in members.values()]
    return sorted(groups, key=lambda group: (places[group.task_name], -len(group.indices), group.indices.ranges))


def newest_failures(groups: Iterable[FailureGroup]) -> list[FailureGroup]:
    """Return the groups, the one whose last member ended last first."""
    return sorted(groups, key=lambda group: -(group.newest_at or 0))


def headline(group: FailureGroup) -> Line:
    """Return one line about a group, as short as `watch` needs it."""
    one = len(group.indices) == 1
    which = "" if not group.is_array else f"[{shortened(group.indices, 24)}]"
    count = "" if one else f" {len(group.indices)} alike"
    when = "" if group.newest_at is None else f" at {moment_text(group.newest_at)}"
    words = last_message(group.first.error)
    return Line(
        f"{group.task_name}{which}:{count} {group.first.failure or 'FAILED'}{when}" + (f": {words}" if words else ""),
        Tone.BAD,
    )


def failure_words(failure: TaskInstanceRecord, tries: int = 1) -> str:
    """Return why, where, in which attempt and after how long an instance failed."""
    how = _how(failure.failure, failure.exit_code, failure.signal)
    if failure.node:
        how.append(f"on {failure.node}")
    if failure.attempt > 1 or tries > 1:
        how.append(f"attempt {failure.attempt}" + (f" of {tries}" if tries >= failure.attempt else ""))
    took = _took(failure)
    return ", ".join([*how, f"after {took}"] if took else how)


def attempt_words(attempt: AttemptRecord) -> str:
    """Return how an earlier attempt ended."""
    how = _how(attempt.failure or str(attempt.state), attempt.exit_code, attempt.signal)
    if attempt.node:
        how.append(f"on {attempt.node}")
    took = _took(attempt)
    if took:
        how.append(f"after {took}")
    if attempt.asked_mem:
        how.append(f"with mem {attempt.asked_mem}")
    if attempt.asked_time:
        how.append(f"with time {attempt.asked_time}")
    return ", ".join(how)


def last_message(error: str) -> str:
    """Return the line of an error text that says what was wrong: ``ValueError: 3 is unlucky``."""
    lines = last_place(error)
    told = [line for line in lines if line and not line.startswith(_INDENTED)]
    return told[0] if told else (lines[-1].strip() if lines else "")


def last_place(error: str) -> list[str]:
    """Return a traceback from its last place on, at most `LAST_LINES`; of other texts the last lines."""
    place = _last_frame(error)
    text = error[place.start() :] if place else error
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[:LAST_LINES] if place else lines[-LAST_LINES:]


def _last_frame(error: str) -> re.Match[str] | None:
    # Searched from the end: this is done for each of 20,000 failures.
    start = error.rfind('\n  File "') + 1
    return _FRAME.match(error, start)


def _kind(failure: FailedInstance) -> tuple[object, ...]:
    found = _last_frame(failure.error)
    place = found.groups() if found else ()
    words = _VARIABLE.sub("#", last_message(failure.error))
    return failure.task_name, failure.failure, failure.exit_code, failure.signal, place, words


def _group(members: list[FailedInstance]) -> FailureGroup:
    first = min(members, key=lambda each: each.array_index or 0)
    nodes = Counter(each.node for each in members if each.node)
    return FailureGroup(
        task_name=first.task_name,
        is_array=first.array_index is not None,
        indices=Indices(each.array_index or 0 for each in members),
        first=first,
        nodes=dict(sorted(nodes.items(), key=lambda item: (-item[1], item[0]))),
        newest_at=max((each.finished_at for each in members if each.finished_at is not None), default=None),
    )


def _how(failure: str | None, exit_code: int | None, signal: int | None) -> list[str]:
    how = [str(failure or "FAILED")]
    if signal:
        how.append(f"signal {signal}")
    if exit_code and not (signal and exit_code == 128 + signal):
        how.append(f"exit code {exit_code}")
    return how


def _took(ended: TaskInstanceRecord | AttemptRecord) -> str:
    if ended.started_at is None or ended.finished_at is None:
        return ""
    return duration_text(clock.from_datetime(ended.started_at), clock.from_datetime(ended.finished_at))


def _nodes_text(nodes: Mapping[str, int], most: int = 6) -> str:
    shown = [f"{node} ({count})" for node, count in list(nodes.items())[:most]]
    return ", ".join(shown) + (f" and {len(nodes) - most} more" if len(nodes) > most else "")


def _asked(config: JobConfig, instance: TaskInstanceRecord) -> dict[str, Any]:
    # A later attempt may have asked for more than the decorator says.
    mem, time = instance.asked_mem or config.mem, instance.asked_time or config.time
    return {"mem": mem, "time": time, "cpus": config.cpus, **dict(config.submit_options)}


def _asked_text(config: JobConfig, instance: TaskInstanceRecord) -> str:
    asked = _asked(config, instance)
    cpus = "1 CPU" if config.cpus == 1 else f"{config.cpus} CPUs"
    options = [f"{name} {value}" for name, value in config.submit_options.items()]
    return ", ".join([f"mem {asked['mem']}", f"time {asked['time']}", cpus, *options])


def _used(instance: TaskInstanceRecord) -> dict[str, Any]:
    took = None
    if instance.started_at is not None and instance.finished_at is not None:
        took = (instance.finished_at - instance.started_at).total_seconds()
    return {"seconds": took, "mem_kib": instance.max_rss}


def _used_text(instance: TaskInstanceRecord, config: JobConfig) -> str:
    used = []
    if instance.max_rss:
        # Sampled every 30 s or so: what ran out of memory in a moment shows less than it asked for.
        share = _share(instance.max_rss, _asked(config, instance)["mem"])
        used.append(f"mem {_memory_text(instance.max_rss)} ({share}sampled)")
    took = _took(instance)
    if took:
        used.append(f"time {took}")
    return ", ".join(used)


def _memory_text(kib: int) -> str:
    """Return KiB as a person reads them: ``3.9G``, ``512M``."""
    size, unit = float(kib), "K"
    for larger in ("M", "G", "T"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:.0f}{unit}" if size >= 100 or size == int(size) else f"{size:.1f}{unit}"


def _share(used: int, asked: str) -> str:
    try:
        limit = parse_memory(asked)
    except ValueError:  # (what a site's own template makes of it is its own business)
        return ""
    return f"{100 * used // limit} %, " if limit else ""


def _attempt_dict(attempt: AttemptRecord) -> dict[str, Any]:
    return {
        "attempt": attempt.attempt,
        "state": attempt.state.value,
        "failure": None if attempt.failure is None else str(attempt.failure),
        "exit_code": attempt.exit_code,
        "signal": attempt.signal,
        "node": attempt.node,
        "job_id": attempt.job_id,
        "started_at": None if attempt.started_at is None else attempt.started_at.isoformat(),
        "finished_at": None if attempt.finished_at is None else attempt.finished_at.isoformat(),
        "asked_mem": attempt.asked_mem,
        "asked_time": attempt.asked_time,
        "mem_kib": attempt.max_rss,
        "error_text": attempt.error_text,
    }
