"""The manifest: `Store`, what every store can do, and `SqliteStore`, the one there is.

Loaded at first use: workers import `reflow.stores.spool`, and need neither SQLite nor what this package exports.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .base import Store
    from .sqlite import SqliteStore

__all__ = ["SqliteStore", "Store"]


def __getattr__(name: str) -> Any:
    if name == "Store":
        from .base import Store

        return Store
    if name == "SqliteStore":
        from .sqlite import SqliteStore

        return SqliteStore
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
