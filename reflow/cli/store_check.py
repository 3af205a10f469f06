"""``store check``: is the manifest sound, and if not, what can be done?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .opening import required_manifest, store_path_option, writable_manifest

if TYPE_CHECKING:
    from ..workflow import Workflow

_HELP = """Check the manifest and what lies beside it: damage, counts, reports that nobody merges, leftovers, locks.

Prints a line for each finding and exits 1 when there is one that was not repaired, else 0.
"""


def command(workflow: Workflow | None) -> click.Command:
    """Return the command."""

    @click.command("check", help=_HELP)
    @click.option("--repair", is_flag=True, help="Mend what can be mended without a decision of yours.")
    @store_path_option
    def check(repair: bool, store_path: Path | None) -> int:
        from ..stores.health import Health
        from ..upkeep_checks import findings_beside

        manifest = writable_manifest(required_manifest(workflow, store_path))
        health = Health(manifest)
        left = repaired = 0
        try:
            for finding in (*health.findings(), *findings_beside(manifest)):
                if finding.repair is None:
                    click.echo(f"{finding.problem} You can: {finding.remedy}.")
                    left += 1
                elif repair:
                    finding.repair()
                    click.echo(f"{finding.problem} Done: {finding.remedy}.")
                    repaired += 1
                else:
                    click.echo(f"{finding.problem} --repair would: {finding.remedy}.")
                    left += 1
        finally:
            health.close()
        if not left and not repaired:
            click.echo(f"The manifest '{manifest}' is in order")
        return 1 if left else 0

    return check
