"""Decide what a run takes from earlier runs: the rules of the cache, which is never wrong; in doubt, recompute.

Dispatch asks for all instances of a task at once. A worker asks once more where dispatch could not know: its parent
element had no result yet, or the user's own function has to look at the result first.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

from . import codec, identity, inputs, log
from .deferred import dataclass, field
from .errors import ORDINARY_ERRORS, CodecError
from .fingerprints import Fingerprints
from .spec import RunSettings, TaskPlan
from .stores.records import CachedResult, NewInstance

if TYPE_CHECKING:
    from .flow import TaskSpec  # a worker knows the user's tasks only after it has loaded her file

#: Of how many files a plan keeps what they were like at submit.
MOST_FILES = 1_000

#: How many identities the manifest is asked for at once: a million would take 500 MB.
LOOKED_UP_TOGETHER = 100_000


class EarlierResults(Protocol):
    """Where earlier results are found; a store is one."""

    def lookup_cached(self, task_name: str, identities: Collection[str]) -> Mapping[str, CachedResult]:
        """Return the newest successful instance per identity."""

    def cached_output(self, result: CachedResult) -> str | None:
        """Return the JSON text of its output, None where it cannot be had any more."""


@dataclass(frozen=True)
class Reuse:
    """What one run may take from earlier runs."""

    earlier: EarlierResults
    fingerprints: Fingerprints
    #: Whether nothing may be used again, or nothing of these tasks.
    force: bool = False
    force_tasks: tuple[str, ...] = ()
    #: Whether every file of a result must be there and not empty.
    verify: bool = False
    #: The user's tasks, where this process has loaded them, for their own looks at results.
    tasks: Mapping[str, TaskSpec] = field(default_factory=dict)

    @classmethod
    def of_run(
        cls, settings: RunSettings, manifest: str, earlier: EarlierResults, tasks: Mapping[str, TaskSpec]
    ) -> Reuse:
        """Return what a run of these settings may take."""
        prints = fingerprints_of(settings.path_fingerprint, settings.working_dir, settings.run_dir, manifest)
        return cls(earlier, prints, settings.force, settings.force_tasks, settings.verify, tasks)

    def may_use(self, plan: TaskPlan) -> bool:
        """Return whether earlier results of the task may be used at all."""
        return plan.config.cache is not False and not self.force and plan.name not in self.force_tasks

    def input_hash(self, plan: TaskPlan, run_dir: str) -> str:
        """Return the hash of the task's direct inputs, with their files as they are now."""
        return inputs.direct_input_hash(plan, run_dir, self.fingerprints, self.fingerprints.of_content)

    def settle(self, plan: TaskPlan, instances: Iterable[NewInstance]) -> Iterator[NewInstance]:
        """Yield the instances, those with a usable earlier result pointing to it.

        Asks the manifest once for each `LOOKED_UP_TOGETHER`, whose results are in memory at a time. Where the user's
        own function must look at results and is not at hand, the workers will.
        """
        waiting = iter(instances)
        while batch := list(islice(waiting, LOOKED_UP_TOGETHER)):
            hits = {each: hit.instance for each, hit in self.usable(plan, batch).items()}
            for each in batch:
                source = hits.get(each.identity)
                if source is None:
                    yield each
                else:
                    yield NewInstance(each.index, each.input, each.identity, each.input_hash, source)

    def usable(self, plan: TaskPlan, instances: Sequence[NewInstance]) -> dict[str, CachedResult]:
        """Return, by identity, the earlier results that will do for these instances."""
        # In the order of the elements, which is that of their earlier results too: neighbours are found together.
        wanted = dict.fromkeys(instance.identity for instance in instances if instance.identity)
        if not wanted or not self.may_use(plan) or (plan.has_verify and plan.name not in self.tasks):
            return {}
        found = self.earlier.lookup_cached(plan.name, wanted)
        return {each: hit for each, hit in found.items() if self.is_usable(plan, hit)}

    def find(self, plan: TaskPlan, instance_identity: str) -> CachedResult | None:
        """Return a usable earlier result for one instance, or None."""
        if not instance_identity or not self.may_use(plan):
            return None
        hit = self.earlier.lookup_cached(plan.name, [instance_identity]).get(instance_identity)
        return hit if hit is not None and self.is_usable(plan, hit) else None

    def is_usable(self, plan: TaskPlan, result: CachedResult) -> bool:
        """Return whether an earlier result of the task will do; `why_not` says why it will not."""
        return self.why_not(plan, result) is None

    def why_not(self, plan: TaskPlan, result: CachedResult) -> str | None:
        """Return why an earlier result of the same identity cannot be used, or None."""
        output = self.earlier.cached_output(result)
        if output is None:
            return "its output is gone"
        return self._files_gone(output, result.output_hash) or self._rejected(plan, output)

    def is_spoilt(self, plan: TaskPlan, output: str | None, recorded_hash: str) -> bool:
        """Return whether a person's retry should make a result of the run itself again.

        That is so when it is gone (None), when files that it names are gone or changed, and when `verify=` rejects it.
        Of files that could not be told when it was made (a huge folder), only that they are gone.
        """
        if output is None:
            return True
        if identity.may_hold_paths(output):
            if not recorded_hash and any(self.fingerprints(path) == "" for path in codec.paths_in(json.loads(output))):
                return True
            if recorded_hash and self.is_damaged(output, recorded_hash):
                return True
        return self._rejected(plan, output) is not None

    def is_damaged(self, output: str, recorded_hash: str) -> bool:
        """Return whether a result names files that are not as they were when it was made, or cannot be told."""
        if not identity.may_hold_paths(output):
            return False
        now = identity.hash_value(output, self.fingerprints)
        return not now or now != recorded_hash

    def _files_gone(self, output: str, recorded_hash: str) -> str | None:
        """Files must be as they were when the result was made, and this user must be able to read them."""
        if not identity.may_hold_paths(output):
            return None
        if self.is_damaged(output, recorded_hash):
            return "files that it names are gone or changed"
        paths = list(codec.paths_in(json.loads(output)))
        if not all(map(self.fingerprints.is_readable, paths)):
            return "files that it names cannot be read by this user"
        if self.verify and not all(map(self.fingerprints.is_full, paths)):
            return "files that it names are missing or empty (--verify)"
        return None

    def _rejected(self, plan: TaskPlan, output: str) -> str | None:
        task = self.tasks.get(plan.name)
        if task is None or task.verify is None:
            return None
        try:
            value: Any = codec.loads(output, task.signature.returns)
            return None if task.verify(value) else f"verify= of task '{plan.name}' rejected it"
        except (CodecError, *ORDINARY_ERRORS) as error:
            log.warning("verify= of task '%s' raised %r about an earlier result: it is not used", plan.name, error)
            return f"verify= of task '{plan.name}' raised {error!r}"


def fingerprints_of(kind: str, working_dir: str, run_dir: str, manifest: str) -> Fingerprints:
    """Return the fingerprints of a run, which see nothing of what reflow itself writes."""
    return Fingerprints(kind, working_dir, own=(f"{run_dir}/reflow", manifest))


def files_of(plan: TaskPlan, fingerprints: Fingerprints) -> dict[str, str]:
    """Return what the files that the task's arguments name are like now, by path; of the first `MOST_FILES`."""
    found: dict[str, str] = {}
    by_content = {each.parameter for each in plan.parameters if each.content}
    for parameter, text in plan.arguments.items():
        if identity.may_hold_paths(text):
            tell = fingerprints.of_content if parameter in by_content else fingerprints
            paths = codec.paths_in(json.loads(text))
            found.update({path: tell(path) or "" for path in islice(paths, MOST_FILES - len(found))})
    return found
