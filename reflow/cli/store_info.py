"""``store info``: what the manifest is, as a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .opening import required_manifest, store_path_option
from .removing import format_bytes

if TYPE_CHECKING:
    from ..workflow import Workflow


def command(workflow: Workflow | None) -> click.Command:
    """Return the command."""

    @click.command("info", help="Show where the manifest is, how large, on what file system, and what it holds.")
    @click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
    @store_path_option
    def info(as_json: bool, store_path: Path | None) -> int:
        from ..stores.facts import facts_of

        facts = facts_of(required_manifest(workflow, store_path).absolute())
        click.echo(json.dumps(facts, indent=2) if as_json else "\n".join(_lines(facts)))
        return 0

    return info


def _lines(facts: Mapping[str, Any]) -> list[str]:
    runs = ", ".join(f"{count} {status}" for status, count in sorted(facts["runs"].items())) or "none"
    locks = facts["lock_problem"] or "hold between processes, and nothing in the mount's options speaks against them"
    reports = f"{facts['waiting_reports']} waiting, {facts['rejected_reports']} rejected"
    shown = {
        "manifest": facts["path"],
        "size": f"{format_bytes(facts['bytes'])}, of which {format_bytes(facts['free_bytes'])} free; "
        f"mode {facts['mode']}",
        "schema": f"version {facts['schema_version']}, journal mode {facts['journal_mode']}",
        "runs": runs,
        "rows": ", ".join(f"{count} {table}" for table, count in facts["rows"].items()),
        "big outputs": f"{facts['big_outputs']} ({format_bytes(facts['big_output_bytes'])})",
        "reports": reports,
        "file system": "unknown"
        if facts["file_system"] is None
        else f"{facts['file_system']} at {facts['mount_point']} ({','.join(facts['mount_options'])})",
        "locks": locks,
        "workers": "publish, and leave the manifest to one process at a time that has the lease"
        if facts["publish_only"]
        else "publish, and merge when the lock is free",
    }
    if facts["lease"] is not None:
        shown["lease"] = facts["lease"]
    return [f"{name:<12} {text}" for name, text in shown.items()]
