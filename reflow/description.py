"""What a workflow consists of, as `describe` tells it, and what a run was given, as `show` does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .annotations import describe_type
from .code import CodeReference
from .flow import TaskSpec
from .parameters import RunParameter
from .params import MISSING
from .paths import RunFolder
from .spec import JobConfig, RunSettings, TaskPlan
from .stores.records import RunRecord, TaskSpecRecord

#: Settings that are shown elsewhere, or that only reflow needs.
_INNER = frozenset({"code", "provenance", "local_process"})

#: What an option is when nobody sets it: not shown.
_UNSET: tuple[object, ...] = (None, False, "", (), [], {})


@dataclass(frozen=True)
class RunDescription:
    """One run as it was submitted."""

    run: RunRecord
    settings: RunSettings
    plans: tuple[TaskPlan, ...]

    def to_public_dict(self) -> dict[str, Any]:
        """Return a JSON-safe dict."""
        reference = CodeReference.from_json(self.settings.code)
        return {
            **self.run.to_public_dict(),
            "provenance": dict(self.settings.provenance),
            "code": {
                "kind": reference.kind,
                "location": reference.location,
                "copies": reference.copies or None,
                "folder": str(RunFolder(self.settings.run_dir, self.run.run_id).code),
            },
            "settings": {name: value for name, value in self.settings.to_json().items() if name not in _INNER},
            "tasks": {plan.name: _task_dict(plan) for plan in self.plans},
        }

    def lines(self) -> list[str]:
        """Return it as plain text lines, without what nobody has set."""
        public = self.to_public_dict()
        made = public["provenance"]
        lines = [f"{self.run.run_id}  {self.run.status}"]
        about = {
            "workflow": self.run.graph_name,
            "submitted": f"{self.run.created_at:%Y-%m-%d %H:%M:%S} UTC by {self.run.user_id}"
            + (f" on {made['host']}" if made.get("host") else ""),
            "command": made.get("command"),
            "versions": f"reflow {made['reflow']}, Python {made['python']}" if made.get("reflow") else None,
            "git commit": _commit_text(made),
            "pipeline": public["code"]["location"],
            "code": f"copied to {public['code']['folder']}" if public["code"]["copies"] else None,
        }
        settings = public["settings"]
        lines += _block(about)
        lines += ["parameters", *(_block(self.run.parameters, every=True) or ["  none"])]
        lines += ["settings", *_block(settings)]
        lines.append("tasks")
        width = max((len(plan.name) for plan in self.plans), default=0)
        for plan in self.plans:
            lines.append(f"  {plan.name:<{width}}  {_resources_text(public['tasks'][plan.name])}")
        return lines


def describe_run(run: RunRecord, settings: RunSettings, specs: Sequence[TaskSpecRecord]) -> RunDescription:
    """Return the description of a run from its records."""
    return RunDescription(run, settings, tuple(TaskPlan.from_json(each.config) for each in specs if each.config))


def _task_dict(plan: TaskPlan) -> dict[str, Any]:
    config = {name: _json(value) for name, value in plan.to_json()["config"].items()}
    return {**config, "dependencies": list(plan.upstreams), "code": plan.code or None}


def _resources_text(task: Mapping[str, Any]) -> str:
    texts = ["[array]"] if task["array"] else []
    texts += [f"{name}={task[name]}" for name in ("cpus", "time", "mem")]
    texts += [f"{name}={value}" for name, value in task["submit_options"].items()]
    # Of the rest what the decorator was told; environment and setup may be long, and are in the JSON.
    usual = asdict(JobConfig())
    quiet = ("array", "cpus", "time", "mem", "submit_options", "environment", "setup")
    texts += [
        f"{name}={_value_text(task[name])}" for name in usual if name not in quiet and task[name] != _json(usual[name])
    ]
    if task["dependencies"]:
        texts.append(f"<- {', '.join(task['dependencies'])}")
    return "  ".join(texts)


def _json(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _block(values: Mapping[str, Any], *, every: bool = False) -> list[str]:
    texts = {name: _value_text(value) for name, value in values.items() if every or value not in _UNSET}
    shown = {name: text for name, text in texts.items() if every or text}
    width = max((len(name) for name in shown), default=0)
    return [f"  {name:<{width}}  {text}" for name, text in shown.items()]


def _value_text(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{name}={inner}" for name, inner in value.items() if inner not in _UNSET)
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value)


def _commit_text(made: Mapping[str, Any]) -> str | None:
    if not made.get("git_commit"):
        return None
    return f"{made['git_commit']}{' with uncommitted changes' if made.get('git_dirty') else ''}"


def describe_tasks(plans: Sequence[TaskPlan], tasks: Mapping[str, TaskSpec]) -> list[dict[str, Any]]:
    """Return the tasks of a workflow as JSON-safe dicts, in topological order."""
    return [
        {
            "name": plan.name,
            "array": plan.config.array,
            "dependencies": list(plan.upstreams),
            "resources": {"cpus": plan.config.cpus, "time": plan.config.time, "mem": plan.config.mem},
            "submit_options": dict(plan.config.submit_options),
            "version": plan.config.version,
            "inputs": [
                {
                    "parameter": result.parameter,
                    "steps": [step.task for step in result.steps],
                    "mode": result.mode,
                }
                for result in plan.results
            ],
            "returns": describe_type(tasks[plan.name].signature.returns),
        }
        for plan in plans
    ]


def describe_parameters(parameters: Sequence[RunParameter]) -> list[dict[str, Any]]:
    """Return the parameters of a workflow's runs as JSON-safe dicts."""
    return [
        {
            "name": parameter.key,
            "flag": parameter.flag,
            "type": describe_type(parameter.annotation),
            "required": parameter.required,
            "default": None if parameter.default is MISSING else _shown(parameter.default),
            "help": parameter.help,
            "tasks": list(parameter.tasks),
        }
        for parameter in parameters
    ]


def _shown(value: object) -> Any:
    """Return a default as JSON-safe value, for people."""
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
