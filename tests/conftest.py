"""What every test shares: a workspace of its own, so that none touches the user's."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from studio.jobs.processes import wait_for_children
from studio.workspace import Workspace

# As in jobs (studio.jobs.supervise): several processes share the cores, so threads wait asleep. Read when torch loads.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Tests that run side by side have a core each.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"

# What runs the tests may ignore SIGCHLD, and then no exit code that a test asks for would be true.
wait_for_children()

# The same for Ctrl-C, which a shell takes away from what it starts in the background: programs under test inherit that.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first: run side by side, the many quick ones then fill what is left of the time."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`STUDIO_HOME` points into a fresh temporary folder in every test, and the hubs are out of reach."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("STUDIO_HOME", str(home))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return home


@pytest.fixture
def workspace(_own_home: Path) -> Workspace:
    """The workspace of this test."""
    return Workspace(_own_home)
