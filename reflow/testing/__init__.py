"""Slurms to test pipelines with: a fake one that needs nothing, and a private real one."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .cluster import PrivateSlurm
    from .fakeslurm.control import FakeSlurm

__all__ = ["FakeSlurm", "PrivateSlurm"]


def __getattr__(name: str) -> object:
    """Import what is asked for, and only then: every command of the fake imports this package."""
    if name == "FakeSlurm":
        from .fakeslurm.control import FakeSlurm

        return FakeSlurm
    if name == "PrivateSlurm":
        from .cluster import PrivateSlurm

        return PrivateSlurm
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
