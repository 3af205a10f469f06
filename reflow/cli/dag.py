"""``dag``: the tasks and what each waits for, as text or as a picture's source."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click

from ..spec import TaskPlan
from ..wiring import plan_tasks
from .opening import definitions_checked
from .pipeline import PipelineCommand

if TYPE_CHECKING:
    from ..workflow import Workflow

_HELP = "Show the tasks and what each waits for."


def command(workflow: Workflow | None) -> click.Command:
    """Return the command of a workflow, or the one that takes a pipeline file first."""
    return PipelineCommand("dag", _dag, _HELP) if workflow is None else _dag(workflow)


def _dag(workflow: Workflow) -> click.Command:
    @click.command("dag", help=_HELP)
    @click.option(
        "--format",
        "picture",
        type=click.Choice(list(FORMATS)),
        default="text",
        show_default=True,
        help="What to print.",
    )
    def dag(picture: str) -> int:
        with definitions_checked():
            workflow.validate()
            plans = plan_tasks(list(workflow.tasks.values()))
        click.echo("\n".join(FORMATS[picture](plans)))
        return 0

    return dag


def text_lines(plans: Sequence[TaskPlan]) -> list[str]:
    """Return a line per task: ``name [array]  <- dep1, dep2``."""
    lines = []
    for plan in plans:
        name = f"{plan.name} [array]" if plan.config.array else plan.name
        lines.append(f"{name}  <- {', '.join(plan.upstreams)}" if plan.upstreams else name)
    return lines


def mermaid_lines(plans: Sequence[TaskPlan]) -> list[str]:
    """Return a Mermaid flowchart; arrays have double walls."""
    identifiers = _mermaid_identifiers([plan.name for plan in plans])
    lines = ["flowchart TD"]
    for plan in plans:
        identifier = identifiers[plan.name]
        label = plan.name if identifier == plan.name else f'"{_mermaid_text(plan.name)}"'
        lines.append(f"    {identifier}[[{label}]]" if plan.config.array else f"    {identifier}[{label}]")
    lines += [f"    {identifiers[above]} --> {identifiers[plan.name]}" for plan in plans for above in plan.upstreams]
    return lines


def dot_lines(plans: Sequence[TaskPlan]) -> list[str]:
    """Return a Graphviz graph; arrays have double outlines."""
    lines = ["digraph {"]
    for plan in plans:
        lines.append(f"    {_dot_text(plan.name)}{' [peripheries=2]' if plan.config.array else ''};")
    lines += [f"    {_dot_text(above)} -> {_dot_text(plan.name)};" for plan in plans for above in plan.upstreams]
    return [*lines, "}"]


FORMATS: dict[str, Callable[[Sequence[TaskPlan]], list[str]]] = {
    "text": text_lines,
    "mermaid": mermaid_lines,
    "dot": dot_lines,
}

# Words that Mermaid reads as its own where a node may stand.
_MERMAID_WORDS = re.compile(
    "call|class|classdef|click|default|direction|end|flowchart|graph|href|interpolate|linkstyle|style|subgraph",
    re.IGNORECASE,
)


def _mermaid_identifiers(names: Sequence[str]) -> dict[str, str]:
    """Return the names that Mermaid takes as they are, and an identifier of its own for each other one."""
    taken = set(names)
    identifiers = {}
    for number, name in enumerate(names, start=1):
        identifier = name
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) or _MERMAID_WORDS.fullmatch(name):
            identifier = f"task{number}"
            while identifier in taken:
                identifier += "_"
            taken.add(identifier)
        identifiers[name] = identifier
    return identifiers


def _mermaid_text(text: str) -> str:
    return re.sub(r"[^\w .,:/()+=-]", lambda found: f"#{ord(found[0])};", text)


def _dot_text(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
