"""Find the manifest and the run that a command is about."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..errors import ManifestError, ReflowError, UnknownRunError

if TYPE_CHECKING:
    from ..config import Config
    from ..failures import Commands
    from ..run import Run
    from ..stores.sqlite import SqliteStore
    from ..workflow import Workflow

_Command = TypeVar("_Command", bound=Callable[..., Any])


def store_path_option(command: _Command) -> _Command:
    """Add ``--store-path``."""
    return click.option(
        "--store-path",
        type=click.Path(path_type=Path, readable=False),  # what cannot be read has a sentence of its own
        metavar="FILE",
        help="The manifest, where it is not the configured one.",
    )(command)


def configuration(workflow: Workflow | None) -> Config:
    """Return the configuration of the workflow, or the user's own."""
    from ..config import load_config

    return load_config() if workflow is None else workflow.config


def open_store(workflow: Workflow | None, store_path: Path | None) -> SqliteStore | None:
    """Return the manifest, or None where there is none yet; read-only where this user may not write."""
    from ..stores.sqlite import SqliteStore

    path = find_manifest(workflow, store_path)
    return None if path is None else SqliteStore(path, readonly=not _is_writable(path))


def find_manifest(workflow: Workflow | None, store_path: Path | None) -> Path | None:
    """Return the path of the manifest, or None where there is none yet."""
    from ..stores.sqlite import SqliteStore

    path = store_path or Path(SqliteStore.default_path(configuration(workflow)))
    return path if path.exists() else None


def required_manifest(workflow: Workflow | None, store_path: Path | None) -> Path:
    """Return the path of the manifest; `ManifestError` where there is none."""
    from ..stores.sqlite import SqliteStore

    path = find_manifest(workflow, store_path)
    if path is None:
        path = store_path or SqliteStore.default_path(configuration(workflow))
        raise ManifestError(f"there is no manifest '{path}' yet: the first submit makes it; --store-path names another")
    return path


def writable_manifest(path: Path) -> Path:
    """Return the path; `ManifestError` when this user may only read that manifest."""
    if _is_writable(path):
        return path
    raise ManifestError(
        f"you may only read the manifest '{path}': ask {_owner_of(path)}, whose file it is, to do this, or for the "
        "right to write the file and its folder"
    )


def _is_writable(path: Path) -> bool:
    # Writing also takes files beside the manifest: the journal, the lock, the spool.
    return os.access(path, os.W_OK) and os.access(path.absolute().parent, os.W_OK)


def _owner_of(path: Path) -> str:
    try:
        return path.owner()
    except KeyError:
        return f"user {path.stat().st_uid}"


def open_run(workflow: Workflow | None, run_id: str, store_path: Path | None, *, to_change: bool = False) -> Run:
    """Return the run of that id; `UnknownRunError` if the manifest has none.

    With `to_change`, a manifest that this user may only read is a `ManifestError`.
    """
    from ..run import Run

    store = open_store(workflow, store_path)
    if store is not None and to_change:
        writable_manifest(store.path)
    if store is None:
        from ..stores.sqlite import SqliteStore

        path = store_path or SqliteStore.default_path(configuration(workflow))
        raise UnknownRunError(f"no run '{run_id}': there is no manifest {path}; name the right one with --store-path")
    return Run(run_id, store)


def commands_for(run_id: str, store_path: Path | None) -> Commands:
    """Return how this command line is called, for commands that find the same run in the same manifest."""
    from ..failures import Commands

    program = click.get_current_context().find_root().info_name or "reflow"
    return Commands(run_id, program, ("--store-path", str(store_path)) if store_path else ())


@contextmanager
def definitions_checked() -> Iterator[None]:
    """Make wrong definitions and parameters, which raise `TypeError` and `ValueError`, errors of usage."""
    try:
        yield
    except ReflowError:
        raise
    except (TypeError, ValueError) as error:
        raise click.UsageError(str(error)) from error


def count_instances(count: int) -> str:
    """Return ``1 instance`` or ``5 instances``."""
    return f"{count} instance" if count == 1 else f"{count} instances"
