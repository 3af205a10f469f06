"""One run with the parts that dispatch works on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .executors.base import Executor
from .flow import TaskSpec
from .inputs import Value
from .paths import RunFolder
from .reuse import Reuse
from .spec import RunSettings
from .stores.base import EngineStore


@dataclass(frozen=True)
class CommonInputs:
    """What all instances of one task receive."""

    #: By parameter, what comes from whole upstream tasks.
    shared: Mapping[str, Value]
    #: Hash of the direct inputs.
    input_hash: str


@dataclass(frozen=True)
class ActiveRun:
    """One run with the parts that dispatch works on."""

    run_id: str
    settings: RunSettings
    store: EngineStore
    executor: Executor
    #: Path of the manifest, for the workers.
    manifest: Path
    #: What all instances of the task that this pass expanded last have in common: its waves need it once more, and
    #: the million outputs behind a gather are read once.
    common: dict[str, CommonInputs] = field(default_factory=dict, compare=False, repr=False)
    #: The user's tasks, where this process has loaded them: her own process at `submit`.
    tasks: Mapping[str, TaskSpec] = field(default_factory=dict)

    @property
    def folder(self) -> RunFolder:
        """The run's files."""
        return RunFolder(self.settings.run_dir, self.run_id)

    @property
    def reuse(self) -> Reuse:
        """What the run may take from earlier runs."""
        return Reuse.of_run(self.settings, str(self.manifest), self.store, self.tasks)
