"""Decide what a run takes from earlier runs: the rules of the cache, which is never wrong; in doubt, recompute."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from . import identity
from .elements import path_fingerprint
from .spec import RunSettings, TaskPlan
from .stores.base import EngineStore
from .stores.records import CachedResult, NewInstance


@dataclass(frozen=True)
class Reuse:
    """What one run may take from earlier runs."""

    store: EngineStore
    settings: RunSettings

    def may_use(self, plan: TaskPlan) -> bool:
        """Return whether earlier results of the task may be used at all."""
        return not (self.settings.force or plan.name in self.settings.force_tasks)

    def settle(self, plan: TaskPlan, instances: Sequence[NewInstance]) -> Iterator[NewInstance]:
        """Yield the instances, those with a usable earlier result pointing to it; asks the manifest once for all."""
        identities = {instance.identity for instance in instances if instance.identity}
        if not identities or not self.may_use(plan):
            yield from instances
            return
        found = self.store.lookup_cached(plan.name, identities)
        for instance in instances:
            hit = found.get(instance.identity)
            usable = hit is not None and self.is_usable(hit)
            yield replace(instance, cached_from=hit.instance) if hit is not None and usable else instance

    def is_usable(self, result: CachedResult) -> bool:
        """Return whether the files that the output names are still as they were when it was made."""
        output = self.store.cached_output(result)
        if output is None or '"path"' not in output:
            return output is not None
        return identity.hash_value(output, path_fingerprint) == result.output_hash
