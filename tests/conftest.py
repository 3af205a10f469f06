"""Makes reflow's own fixtures known where the package is only a checkout and its entry point is not installed."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Load the plugin unless its entry point, named reflow, has done so."""
    if not config.pluginmanager.has_plugin("reflow"):
        config.pluginmanager.import_plugin("reflow.testing.plugin")
