"""Say why an instance was computed, or from where its result was taken: `Run.explain` and ``reflow explain``.

An instance that ran is compared with the earlier success that is most like it, part by part of its identity.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from . import clock, codec, identity
from .forms import RESULT
from .inputs import Value
from .paths import RunFolder
from .reuse import Reuse
from .spec import Delivery, ResultInput, RunSettings, Take, TaskPlan
from .states import FINAL, TaskState
from .stores.records import CachedResult, TaskInstanceRecord
from .stores.sqlite import SqliteStore
from .wording import instance_name

#: How many earlier successes are compared, how long a shown value may be, and how many lines of a change of code.
MOST_COMPARED = 8
LONGEST_VALUE = 60
MOST_LINES = 40

#: Parts of an identity, the telling ones first: of two earlier results the one that differs in fewer is nearer.
PARTS = ("version", "code", "parameter", "file", "run directory", "upstream")


@dataclass(frozen=True)
class Difference:
    """One part of the identity that is not what it was."""

    #: One of `PARTS`.
    part: str
    #: Which: the parameter, the function, the file.
    name: str
    #: What it was and is, shortened for people; None where there was or is none.
    old: str | None
    new: str | None
    #: Lines of a unified diff, for code.
    diff: tuple[str, ...] = ()

    def lines(self) -> Iterator[str]:
        """Yield the difference as text."""
        before = "(none)" if self.old is None else self.old
        after = "(none)" if self.new is None else self.new
        yield f"{self.part} {self.name}".rstrip() + (f": {before} -> {after}" if (self.old or self.new) else " changed")
        for line in self.diff:
            yield f"    {line}"


@dataclass(frozen=True)
class Explanation:
    """Why one instance was computed, or whose result it took."""

    run_id: str
    task: str
    index: int | None
    #: ``hit``: the result was used again; ``miss``: it was or will be computed; ``open``: not known before it starts.
    outcome: str
    #: One sentence that says why.
    reason: str
    #: The earlier instance that it was taken from or compared with.
    against_run: str | None = None
    against_index: int | None = None
    differences: tuple[Difference, ...] = ()

    @property
    def name(self) -> str:
        """The instance as a person writes it."""
        return instance_name(self.task, self.index)

    def to_public_dict(self) -> dict[str, Any]:
        """Return a JSON-safe dict."""
        return {**asdict(self), "differences": [{**asdict(each), "diff": list(each.diff)} for each in self.differences]}

    def lines(self) -> list[str]:
        """Return the explanation as text lines."""
        words = {"hit": "used again", "miss": "computed", "open": "not known yet"}[self.outcome]
        lines = [f"{self.name} of {self.run_id}: {words}: {self.reason}"]
        if self.differences:
            lines.append(f"Since {instance_name(self.task, self.against_index)} of {self.against_run}:")
            lines += [f"  {line}" for each in self.differences for line in each.lines()]
        return lines


@dataclass(frozen=True)
class Case:
    """One instance, real or planned, as it is compared."""

    run_id: str
    settings: RunSettings
    plan: TaskPlan
    index: int | None
    #: By parameter, what reaches the instance: where each value came from, and the value.
    upstream: Mapping[str, Mapping[str, Value]]


def explain(store: SqliteStore, run_id: str, task: str, instance: TaskInstanceRecord, reuse: Reuse) -> Explanation:
    """Return why the instance was computed, or whose result it took."""
    index = instance.array_index

    def answer(
        outcome: str, reason: str, against: TaskInstanceRecord | None = None, found: tuple[Difference, ...] = ()
    ) -> Explanation:
        other_run, other_index = (against.run_id, against.array_index) if against is not None else (None, None)
        return Explanation(run_id, task, index, outcome, reason, other_run, other_index, found)

    if instance.cached_from is not None:
        source = store.looks.instance(instance.cached_from)
        if source is None:
            return answer("hit", "the run that it was taken from is no longer in the manifest")
        name = instance_name(task, source.array_index)
        return answer("hit", f"nothing that decides has changed since {name} of {source.run_id}", source)
    if any(each.state is TaskState.SUCCESS for each in store.list_attempts(instance.id)):
        return answer(
            "miss", "a retry made it again, because files of its result, or of one that it was made from, were damaged"
        )
    case = case_of(store, run_id, task, index)
    if not instance.identity and instance.state not in FINAL and never_reused(case, reuse) is None:
        return answer("open", "its parent element has no result yet; it looks for an earlier result when it starts")
    return answer("miss", *judge(store, case, instance.identity, instance.created_at, reuse))


def judge(
    store: SqliteStore, case: Case, own_identity: str, at: datetime, reuse: Reuse
) -> tuple[str, TaskInstanceRecord | None, tuple[Difference, ...]]:
    """Return why no earlier result was used for an instance, the nearest one there was then, and what differs."""
    task = case.plan.name
    why_never = never_reused(case, reuse)
    if why_never is not None:
        return why_never, None, ()
    earlier = store.looks.earlier_successes(task, case.index, own_identity, at, MOST_COMPARED)
    if not earlier:
        return f"there is no earlier success of task '{task}'", None, ()
    compared = [(compare(case, case_of(store, each.run_id, task, each.array_index)), each) for each in earlier]
    differences, nearest = min(compared, key=lambda pair: len(pair[0]))
    if not differences:
        return why_no_hit(case.plan, reuse, own_identity, nearest, store), nearest, ()
    parts = ", ".join(part for part in PARTS if any(each.part == part for each in differences))
    return f"changed: {parts}", nearest, tuple(differences)


def never_reused(case: Case, reuse: Reuse) -> str | None:
    """Return why nothing earlier can be used for the instance, whatever there is; or None."""
    plan, settings = case.plan, case.settings
    if plan.config.cache is False:
        return "its decorator says cache=False"
    if settings.force:
        return "the run was submitted with --force"
    if plan.name in settings.force_tasks:
        return "the run was submitted with --force-tasks for it"
    if not plan.code:
        return "its code cannot be read, so nobody can tell whether it changed"
    for parameter, text in plan.arguments.items():
        for path in codec.paths_in(json.loads(text)) if identity.may_hold_paths(text) else ():
            problem = reuse.fingerprints.problem(path)
            if problem is not None:
                return f"nothing can be told of parameter '{parameter}': {problem}"
    for parameter, values in case.upstream.items():
        for origin, value in values.items():
            if not value.hash:
                return f"nothing can be told of parameter '{parameter}': the output of {origin} has no hash"
    return None


def why_no_hit(plan: TaskPlan, reuse: Reuse, own_identity: str, nearest: TaskInstanceRecord, store: SqliteStore) -> str:
    """Return why an earlier success that differs in nothing was not used."""
    name = f"{instance_name(nearest.task_name, nearest.array_index)} of {nearest.run_id}"
    if nearest.identity == identity.CHANGED:
        return f"{name} cannot be used: an input file changed while it ran"
    if own_identity == identity.CHANGED:
        return (
            "an input file changed while it ran, so its own result will not be used again either; if that is where "
            "the task writes, mark the parameter Param(cache=False)"
        )
    if not nearest.identity:
        return f"{name} cannot be used: something that it was made from could not be told"
    found = store.lookup_cached(plan.name, [nearest.identity]).get(nearest.identity)
    why_not = reuse.why_not(plan, found) if found is not None else None
    if why_not is not None:
        gone = "".join(f"; gone: {path}" for path in _missing_files(found, reuse))
        return f"{name} cannot be used: {why_not}{gone}"
    if plan.has_verify:
        return f"verify= of task '{plan.name}' rejected {name}, or could not be asked"
    return f"nothing that is recorded differs from {name}: its files or its inputs' files had changed at that time"


def _missing_files(result: CachedResult | None, reuse: Reuse) -> Iterator[str]:
    output = reuse.earlier.cached_output(result) if result is not None else None
    for path in codec.paths_in(json.loads(output or "null")):
        if reuse.fingerprints(path) == "":
            yield path


def case_of(store: SqliteStore, run_id: str, task: str, index: int | None) -> Case:
    """Read from the manifest what made an instance what it is."""
    run, specification = store.get_run_record(run_id), store.get_task_spec_record(run_id, task)
    assert run is not None, "an instance has a run"
    assert specification is not None, "only tasks that submit recorded have an identity"
    plan = TaskPlan.from_json(specification.config)
    outputs = {
        step.task: {place: Value(text, digest) for place, text, digest in store.outputs(run_id, step.task)}
        for result in plan.results
        for step in result.steps
    }
    upstream = {each.parameter: origins(each, outputs, index) for each in plan.results}
    return Case(run_id, RunSettings.from_json(run.settings), plan, index, upstream)


def origins(result: ResultInput, outputs: Mapping[str, Mapping[int, Value]], index: int | None) -> dict[str, Value]:
    """Return, by the name of where it came from, each upstream value that reaches the instance."""
    found: dict[str, Value] = {}
    left = index or 0
    for step in result.steps:
        values = outputs[step.task]
        is_array = step.take in (Take.ELEMENTS, Take.FLAT)
        if result.delivery is Delivery.CHAIN:
            return {instance_name(step.task, left): values[left]} if left in values else {}
        if result.delivery is not Delivery.EACH:
            for place, value in values.items():
                found[instance_name(step.task, place if is_array else None)] = value
            continue
        for place, value in values.items():
            name = instance_name(step.task, place if is_array else None)
            if step.take.keeps_outputs_whole:
                items = [value]
            else:
                items = [Value(text, identity.hash_value(text)) for text in codec.split_list(value.text)]
            if left < len(items):
                return {name if len(items) == 1 else f"item {left} of {name}": items[left]}
            left -= len(items)
    return found


def compare(new: Case, old: Case) -> list[Difference]:
    """Return every part of the identity in which two instances of a task differ."""
    found = []
    if new.plan.config.version != old.plan.config.version:
        found.append(Difference("version", "", old.plan.config.version, new.plan.config.version))
    if new.plan.code != old.plan.code:
        found += _code_differences(new, old)
    found += _parameter_differences(new.plan, old.plan)
    if new.plan.run_dir_parameters and new.settings.run_dir != old.settings.run_dir:
        found.append(Difference("run directory", "", old.settings.run_dir, new.settings.run_dir))
    if new.settings.path_fingerprint != old.settings.path_fingerprint and (new.plan.files or old.plan.files):
        kinds = (old.settings.path_fingerprint, new.settings.path_fingerprint)
        found.append(Difference("file", "(how files count)", *kinds))
    for parameter in new.upstream.keys() | old.upstream.keys():
        difference = _upstream_difference(parameter, new.upstream.get(parameter, {}), old.upstream.get(parameter, {}))
        if difference is not None:
            found.append(difference)
    return found


def _parameter_differences(new: TaskPlan, old: TaskPlan) -> Iterator[Difference]:
    uncached = {each.parameter for each in new.parameters if not each.cache}
    for name in sorted((new.arguments.keys() | old.arguments.keys()) - uncached):
        before, after = old.arguments.get(name), new.arguments.get(name)
        if before is None or after is None or identity.hash_value(before) != identity.hash_value(after):
            yield Difference("parameter", f"'{name}'", _shown(before), _shown(after))
    for path in sorted(new.files.keys() & old.files.keys()):
        if new.files[path] != old.files[path]:
            yield Difference("file", path, _state_shown(old.files[path]), _state_shown(new.files[path]))


def _upstream_difference(parameter: str, new: Mapping[str, Value], old: Mapping[str, Value]) -> Difference | None:
    """Compare what reached two instances through one parameter: in order, wherever it came from."""
    pairs = list(zip(new.items(), old.items(), strict=False))
    changed = [pair for pair in pairs if pair[0][1].hash != pair[1][1].hash]
    if not changed and len(new) == len(old):
        return None
    if len(new) != len(old) and not changed:
        return Difference("upstream", f"'{parameter}'", f"{len(old)} values", f"{len(new)} values")
    (origin, value), (_, earlier) = changed[0]
    more = f", and {len(changed) - 1} more" if len(changed) > 1 else ""
    width = "" if len(new) == len(old) else f", {len(old)} -> {len(new)} values"
    return Difference("upstream", f"'{parameter}' from {origin}{more}{width}", *_told_apart(earlier.text, value.text))


def _told_apart(old: str, new: str) -> tuple[str | None, str | None]:
    """Return both values shown; of equal ones, that their files changed."""
    if old == new:
        return f"{_shown(old)}", "the same path, another state of the file"
    return _shown(old), _shown(new)


def _code_differences(new: Case, old: Case) -> Iterator[Difference]:
    before, after = (_parts(case) for case in (old, new))
    if before is None or after is None or before == after:
        yield Difference("code", "", None, None)
        return
    names = {RESULT} if new.plan.config.cache == old.plan.config.cache == "version" else before.keys() | after.keys()
    for name in sorted(names):
        if before.get(name) != after.get(name):
            diff = difflib.unified_diff(
                before.get(name, "").splitlines(),
                after.get(name, "").splitlines(),
                f"{name} ({old.run_id})",
                f"{name} ({new.run_id})",
                lineterm="",
                n=1,
            )
            lines = tuple(diff)
            cut = (
                (*lines[:MOST_LINES], f"... {len(lines) - MOST_LINES} more lines") if len(lines) > MOST_LINES else lines
            )
            yield Difference("code", name, None, None, cut)


def _parts(case: Case) -> Mapping[str, str] | None:
    """Read the sources that the fingerprint of the task's code was made of, or None where they are gone."""
    path: Path = RunFolder(case.settings.run_dir, case.run_id).code / "parts.json"
    try:
        parts = json.loads(path.read_text(encoding="utf-8"))[case.plan.name]
        return {str(name): str(source) for name, source in parts.items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def _state_shown(fingerprint: str) -> str:
    """Return for people what a file was like."""
    size, _, time = fingerprint.partition(" ")
    if size.isdecimal() and time.isdecimal():
        return f"{int(size):,} bytes of {clock.to_datetime(int(time) // 1_000):%Y-%m-%d %H:%M:%S.%f}"
    return fingerprint[: LONGEST_VALUE // 2] or "no file"


def _shown(text: str | None) -> str | None:
    """Return an encoded value as a person would write it, shortened."""
    if text is None:
        return None
    value: Any = codec.loads(text)
    shown = repr(value) if not isinstance(value, Path) else str(value)
    return shown if len(shown) <= LONGEST_VALUE else f"{shown[: LONGEST_VALUE - 3]}..."
