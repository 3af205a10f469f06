"""What a task is: its resources and the sources of its inputs, as records that the manifest can hold.

`TaskPlan` is all that dispatch knows of a task. Dispatch never loads the user's code: it moves encoded values.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

from .deferred import asdict, dataclass, field, replace


@dataclass(frozen=True)
class JobConfig:
    """What the decorator was told about one task."""

    array: bool = False
    #: At most this many elements at the same time (``%N``); None for no limit.
    array_parallelism: int | None = None
    #: How many elements share one slot of the array, one after the other in one process.
    pack: int = 1
    #: Longest time of one element of a pack, as `time` is written; None for no limit but the job's.
    element_time: str | None = None
    #: Seconds before the end of `time` at which the function is interrupted (`TaskInterrupted`); None for no warning.
    signal_before: int | None = None
    #: An element that runs into its time limit or is preempted goes on by itself from what it has saved.
    resume: bool = False
    cpus: int = 1
    #: Wall time as Slurm writes it: ``MM``, ``MM:SS``, ``HH:MM:SS``, ``D-HH``, ``D-HH:MM`` or ``D-HH:MM:SS``.
    time: str = "00:30:00"
    #: Memory per node as Slurm writes it: ``4G``, ``500M``.
    mem: str = "4G"
    #: Any further option of the scheduler: ``{"partition": "gpu", "gres": "gpu:1", "exclusive": True}``.
    submit_options: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    version: str = "1"
    #: Whether results are used again; ``"version"``: whatever the code, as long as `version` is the same.
    cache: bool | str = True
    #: A gather runs on what succeeded although some elements failed.
    allow_partial: bool = False
    #: Shell lines before the worker starts (``module load ...``).
    setup: tuple[str, ...] = ()
    #: Environment variables of the task's workers.
    environment: Mapping[str, str] = field(default_factory=dict)
    #: File name of a template to use instead of the executor's own; looked up in the template folders.
    template: str | None = None
    #: How often an element that failed is tried again without a person. Lost nodes have a budget of their own.
    retries: int = 0
    #: Classes of failures and names of exceptions after which it is; None for those of `retrying.ABNORMAL`.
    retry_on: tuple[str, ...] | None = None
    #: By how much an attempt after OUT_OF_MEMORY asks for more memory, and at most how much it asks for.
    mem_factor: float = 2.0
    mem_max: str | None = None
    #: The same for wall time after TIMEOUT.
    time_factor: float = 2.0
    time_max: str | None = None


class Take(str, Enum):
    """What one upstream contributes to an input."""

    #: The singleton's whole output, as one value.
    VALUE = "value"
    #: The items of the singleton's list.
    ITEMS = "items"
    #: One value per element of the array.
    ELEMENTS = "elements"
    #: The items of all the elements' lists, in order.
    FLAT = "flat"

    __str__ = str.__str__

    @property
    def keeps_outputs_whole(self) -> bool:
        """Whether each output counts as one item; else it is a list, and its items count."""
        return self in (Take.VALUE, Take.ELEMENTS)


class Delivery(str, Enum):
    """How an input reaches the instances of the task."""

    #: The one value, to the singleton or to every element. One step, taken as VALUE.
    WHOLE = "whole"
    #: The concatenation of what the steps contribute, as one list, to the singleton or every element.
    LIST = "list"
    #: Item i of that concatenation to element i; its length is the width of the array.
    EACH = "each"
    #: Element i of the one upstream array to element i, as soon as it is done.
    CHAIN = "chain"

    __str__ = str.__str__


@dataclass(frozen=True)
class Step:
    """One upstream of an input."""

    task: str
    take: Take


@dataclass(frozen=True)
class ResultInput:
    """A parameter that gets the outputs of other tasks."""

    parameter: str
    steps: tuple[Step, ...]
    delivery: Delivery
    #: Name of the wiring mode in API.md's table, for people: direct, fan-out, gather, ...
    mode: str


@dataclass(frozen=True)
class ParameterInput:
    """A parameter that gets its value from the run's parameters."""

    parameter: str
    #: The name under which the run's parameters hold the value: the parameter's own, or ``<task>_<parameter>``.
    key: str
    #: ``Param(cache=False)`` keeps the value out of the identity.
    cache: bool = True
    #: ``Param(content=True)``: the files that the value names count with their content.
    content: bool = False


@dataclass(frozen=True)
class TaskPlan:
    """One task of a run: everything that dispatch and the worker's start need, and no code."""

    name: str
    config: JobConfig
    parameters: tuple[ParameterInput, ...] = ()
    results: tuple[ResultInput, ...] = ()
    #: Parameters that receive the run directory.
    run_dir_parameters: tuple[str, ...] = ()
    #: Parameters that receive the element's `Checkpoint`.
    checkpoint_parameters: tuple[str, ...] = ()
    #: Tasks that must be complete first and give no data.
    after: tuple[str, ...] = ()
    #: Whether a function of the user's own looks at a result before it is used again.
    has_verify: bool = False
    #: Fingerprint of the code; '' when it cannot be known, which switches the cache off.
    code: str = ""
    #: JSON text of every parameter value that the function receives, defaults included, by parameter name.
    arguments: Mapping[str, str] = field(default_factory=dict)
    #: Of the files that the arguments name, what they were like at submit, by path: for `explain`. Not all of many.
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def upstreams(self) -> tuple[str, ...]:
        """Every task that this one waits for, sorted."""
        return tuple(sorted({step.task for result in self.results for step in result.steps} | set(self.after)))

    @property
    def chain_parents(self) -> tuple[str, ...]:
        """The arrays that this one follows element by element, sorted; of a singleton, those whose value it takes."""
        following = {Delivery.CHAIN} if self.config.array else {Delivery.WHOLE}
        return tuple(sorted({result.steps[0].task for result in self.results if result.delivery in following}))

    def to_json(self) -> dict[str, Any]:
        """Return the plan as JSON-safe values."""
        return asdict(self)

    @classmethod
    def from_json(cls, plan: Mapping[str, Any]) -> TaskPlan:
        """Read what `to_json` wrote."""
        config = dict(plan["config"])
        config["setup"] = tuple(config["setup"])
        if config.get("retry_on") is not None:
            config["retry_on"] = tuple(config["retry_on"])
        return cls(
            name=plan["name"],
            config=JobConfig(**config),
            parameters=tuple(ParameterInput(**each) for each in plan["parameters"]),
            results=tuple(
                ResultInput(
                    parameter=each["parameter"],
                    steps=tuple(Step(step["task"], Take(step["take"])) for step in each["steps"]),
                    delivery=Delivery(each["delivery"]),
                    mode=each["mode"],
                )
                for each in plan["results"]
            ),
            run_dir_parameters=tuple(plan["run_dir_parameters"]),
            checkpoint_parameters=tuple(plan.get("checkpoint_parameters", ())),
            after=tuple(plan["after"]),
            has_verify=plan.get("has_verify", False),
            code=plan["code"],
            arguments=dict(plan["arguments"]),
            files=dict(plan.get("files", {})),
        )


@dataclass(frozen=True)
class RunSettings:
    """What every later dispatch of a run needs and no one computes twice. Kept with the run in the manifest."""

    run_dir: str
    #: Folder in which the tasks run: where the run was submitted.
    working_dir: str
    #: The Python that runs the workers.
    python: str
    executor: str
    executor_settings: Mapping[str, Any]
    #: ``worker``: the worker that ends a stage dispatches the next; ``job``: the sentinel job does.
    dispatch: str
    #: ``cpus time mem options`` of the sentinel job.
    dispatch_resources: Mapping[str, Any]
    #: What `reflow.code.CodeReference` made.
    code: Mapping[str, Any]
    #: Recompute everything, or these tasks, although the cache knows results.
    force: bool = False
    force_tasks: tuple[str, ...] = ()
    #: ``host`` and ``pid`` of the process that runs a local run's elements itself, else None.
    local_process: Mapping[str, Any] | None = None
    #: What `reflow.provenance.Provenance` recorded; empty in runs of earlier versions.
    provenance: Mapping[str, Any] = field(default_factory=dict)
    #: At most this many elements of the run queued or running at the same time; None for no limit.
    max_submit_jobs: int | None = None
    #: Use an earlier result only if every file that it names is there and not empty.
    verify: bool = False
    #: How paths count in identities; one of `reflow.fingerprints.KINDS`.
    path_fingerprint: str = "size+mtime"

    def to_json(self) -> dict[str, Any]:
        """Return the settings as JSON-safe values."""
        return asdict(self)

    def without_local_process(self) -> RunSettings:
        """Return the settings for a run that goes on at its scheduler."""
        return replace(self, local_process=None)

    @classmethod
    def from_json(cls, settings: Mapping[str, Any]) -> RunSettings:
        """Read what `to_json` wrote."""
        return cls(**{**settings, "force_tasks": tuple(settings["force_tasks"])})
