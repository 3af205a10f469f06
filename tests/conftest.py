"""Makes reflow's own fixtures known where the package is only a checkout and its entry point is not installed."""

from __future__ import annotations

import signal

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Load the plugin unless its entry point, named reflow, has done so."""
    # A shell that puts the tests into the background lets them ignore Ctrl-C, and so would all that they start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if not config.pluginmanager.has_plugin("reflow"):
        config.pluginmanager.import_plugin("reflow.testing.plugin")
