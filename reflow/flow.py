"""Tasks and the flows that group them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, TypeVar

from .deferred import dataclass, replace
from .errors import UnknownTaskError
from .options import check_after, check_task_name, check_verify, job_config
from .retry_options import RetryOn
from .signature import Signature, read_signature
from .spec import JobConfig
from .suggest import did_you_mean

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class TaskSpec:
    """One decorated function with all that its decorator was told."""

    name: str
    function: Callable[..., Any]
    config: JobConfig
    signature: Signature
    #: Tasks that must be complete first and give no data.
    after: tuple[str, ...] = ()
    #: Looks at a result from the cache before it is used again; a false answer recomputes.
    verify: Callable[..., Any] | None = None

    def renamed(self, name: str, renames: Mapping[str, str]) -> TaskSpec:
        """Return the task under another name, for a flow whose tasks have the names that `renames` gives."""
        return replace(
            self,
            name=name,
            signature=self.signature.renamed(name, renames),
            after=tuple(dict.fromkeys(renames.get(each, each) for each in self.after)),
        )


class Flow:
    """A reusable group of tasks."""

    def __init__(self, name: str) -> None:
        self.name = check_task_name(name)
        self._tasks: dict[str, TaskSpec] = {}

    @property
    def tasks(self) -> Mapping[str, TaskSpec]:
        """The tasks by name, in the order of definition."""
        return MappingProxyType(self._tasks)

    def task(self, name: str) -> TaskSpec:
        """Return one task; an unknown name raises `UnknownTaskError`."""
        if name not in self._tasks:
            hint = did_you_mean(name, self._tasks) or f" The tasks are: {', '.join(self._tasks) or 'none'}."
            raise UnknownTaskError(f"'{self.name}' has no task '{name}'.{hint}")
        return self._tasks[name]

    def job(
        self,
        name: str | None = None,
        *,
        array: bool = False,
        array_parallelism: int | None = None,
        pack: int = 1,
        element_time: str | None = None,
        signal_before: int | None = None,
        resume: bool = False,
        cpus: int = 1,
        time: str = "00:30:00",
        mem: str = "4G",
        after: str | Sequence[str] | None = None,
        submit_options: Mapping[str, Any] | None = None,
        version: str = "1",
        cache: bool | Literal["version"] = True,
        verify: Callable[..., Any] | None = None,
        allow_partial: bool = False,
        setup: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        template: str | None = None,
        retries: int = 0,
        retry_on: RetryOn = None,
        mem_factor: float = 2.0,
        mem_max: str | None = None,
        time_factor: float = 2.0,
        time_max: str | None = None,
        **scheduler_options: Any,
    ) -> Callable[[Function], Function]:
        """Make the decorated function a task, and return it unchanged.

        The task is called `name`, or as the function is. An `array` task runs once for every item of what it takes
        from other tasks, at most `array_parallelism` at the same time. `cpus`, `time` and `mem` are what one element
        gets, as Slurm writes them. With ``pack=100``, a hundred elements share one slot of the array, one after the
        other in one process, for elements that take less time than a job takes to start: then `time` is the wall time
        of all hundred, `array_parallelism` counts slots, and `element_time` limits one element.
        With `signal_before`, the function is interrupted by `TaskInterrupted` that many seconds before `time` is over
        (Slurm: up to a minute earlier still). With `resume` and a parameter of type `Checkpoint`, what is interrupted
        so, or preempted, goes on by itself in another job, as long as it has saved something new.

        `after` names tasks that must be complete first. `version` is part of what decides whether a result is used
        again; ``cache="version"`` looks at `version` and never at the code, `cache=False` never uses one again, and
        `verify` is given a result and may reject it. With `allow_partial` the task runs on what succeeded of the
        arrays it takes from. `setup` are shell lines before the task, `environment` its variables, `template` a script
        template of your own.

        An element that ends abnormally (out of memory, over its time, killed, lost) is tried again `retries` times;
        one that raised only if `retry_on` says so: ``retry_on=[OSError, "OUT_OF_MEMORY"]``, which then names all that
        is tried again. After running out of memory it asks for `mem_factor` times as much, up to `mem_max`; after
        running out of time for `time_factor` times as much, up to `time_max`. What a failing node or a preemption has
        lost is tried again in any case.

        All other options of the scheduler go in `submit_options`, or as keywords with underscores: ``gpus_per_node=1``.
        """
        bare: object = name
        if callable(bare):
            raise TypeError(f"Write .job() with parentheses above the function '{getattr(bare, '__name__', bare)}'.")
        given_name: str | None = None if name is None else check_task_name(name)

        def decorate(function: Function) -> Function:
            task = given_name if given_name is not None else _name_of(function)
            config = job_config(
                task,
                array=array,
                array_parallelism=array_parallelism,
                pack=pack,
                element_time=element_time,
                signal_before=signal_before,
                resume=resume,
                cpus=cpus,
                time=time,
                mem=mem,
                submit_options=submit_options,
                version=version,
                cache=cache,
                allow_partial=allow_partial,
                setup=setup,
                environment=environment,
                template=template,
                retries=retries,
                retry_on=retry_on,
                mem_factor=mem_factor,
                mem_max=mem_max,
                time_factor=time_factor,
                time_max=time_max,
                scheduler_options=scheduler_options,
            )
            signature = read_signature(function, task)
            self._add(TaskSpec(task, function, config, signature, check_after(task, after), check_verify(task, verify)))
            return function

        return decorate

    def array_job(self, name: str | None = None, **options: Any) -> Callable[[Function], Function]:
        """Make the decorated function an array task: `job` with ``array=True`` and the same options."""
        if "array" in options:
            raise TypeError("array_job() is job(array=True): leave out array=.")
        return self.job(name, array=True, **options)

    def include(self, flow: Flow, prefix: str | None = None) -> None:
        """Add the tasks that `flow` has now, called ``<prefix>_<name>``, wired to each other as they are there.

        A name that is taken raises `ValueError`, and nothing is added. Names of tasks that `flow` does not have are
        left as they are: they are tasks of this one.
        """
        if not isinstance(flow, Flow):
            raise TypeError(f"include() takes a Flow, not {flow!r}.")
        if prefix is not None:
            check_task_name(prefix)
        renames = {name: name if prefix is None else f"{prefix}_{name}" for name in flow.tasks}
        taken = [name for name in renames.values() if name in self._tasks]
        if taken:
            raise ValueError(
                f"'{self.name}' already has a task '{taken[0]}': include '{flow.name}' with another prefix=."
            )
        self._tasks.update({renames[name]: task.renamed(renames[name], renames) for name, task in flow.tasks.items()})

    def _add(self, task: TaskSpec) -> None:
        if task.name in self._tasks:
            raise ValueError(
                f"'{self.name}' already has a task '{task.name}': give one of them another name, job(\"...\")."
            )
        self._tasks[task.name] = task


def _name_of(function: object) -> str:
    name = getattr(function, "__name__", None)
    return name if isinstance(name, str) else type(function).__name__
