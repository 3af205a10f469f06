"""What a worker knows of its element's identity: dispatch may not have known the parents' results, and files change."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from . import identity, inputs, log
from .errors import ReflowError
from .fingerprints import Fingerprints
from .inputs import Value
from .reuse import EarlierResults, Reuse, fingerprints_of
from .stores.records import CachedResult
from .waves import SlotRecord, WaveHeader

if TYPE_CHECKING:
    from .flow import TaskSpec


class OwnIdentity:
    """The identity of one element that is about to run. `parents` are the results that it had to look for itself."""

    def __init__(
        self,
        header: WaveHeader,
        record: SlotRecord,
        parents: Mapping[str, Value],
        source: EarlierResults,
        task: TaskSpec,
    ) -> None:
        self._header = header
        self._record = record
        self._parents = parents
        self._source = source
        self._task = task
        #: '' where what the manifest has is the last word; else as the files are when the element starts.
        self.identity = record.identity
        if parents or task.verify is not None or self._names_files():
            self.identity = self._now()

    def fingerprints(self) -> Fingerprints:
        """Return fingerprints that know no file yet."""
        header = self._header
        return fingerprints_of(header.path_fingerprint, header.working_dir, header.run_dir, header.manifest)

    def earlier_result(self) -> CachedResult | None:
        """Look once more, where dispatch could not: parents had no result yet or another one, or `verify=` is asked."""
        is_new = bool(self._parents or self._record.identity)
        if not self.identity or not (is_new or self._task.verify is not None):
            return None
        try:
            return self._reuse().find(self._header.plan, self.identity)
        except (ReflowError, OSError) as error:
            log.warning("earlier results cannot be looked up (%s): running", error)
            return None

    def after_the_run(self) -> str:
        """Return the identity to keep the result under: none that is ever found, if a file changed meanwhile."""
        if not self.identity or not self._names_files() or self._now() == self.identity:
            return self.identity
        log.warning("an input file changed while this element ran: its result will not be used again")
        return identity.CHANGED

    def _reuse(self) -> Reuse:
        header = self._header
        return Reuse(
            self._source,
            self.fingerprints(),
            force=not header.reuse,
            verify=header.verify,
            tasks={header.plan.name: self._task},
        )

    def _names_files(self) -> bool:
        header = self._header
        texts = [*header.plan.arguments.values(), *header.shared.values(), json.dumps(dict(self._record.inputs))]
        texts += [each.text for each in self._parents.values()]
        return any(map(identity.may_hold_paths, texts))

    def _now(self) -> str:
        """Return the identity with all files as they are now."""
        header, reuse = self._header, self._reuse()
        values = {name: Value(text, header.shared_hashes[name]) for name, text in header.shared.items()}
        values.update(self._parents)
        hashes = {
            name: inputs.value_now(each.text, each.hash, reuse.fingerprints).hash for name, each in values.items()
        }
        for name, encoded in self._record.inputs.items():
            hashes[name] = identity.hash_value(json.dumps(encoded), reuse.fingerprints)
        return inputs.instance_identity(header.plan, reuse.input_hash(header.plan, header.run_dir), hashes)
