"""A stand-in for each test, the token of its account, and no pauses."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from studio import remote
from studio.replicate import follow, submit, weights
from studio.replicate.api import Api
from studio.replicate.config import Config, resolve
from tests.fakes.replicate_server import TOKEN, ReplicateServer


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ReplicateServer]:
    with ReplicateServer() as made:
        monkeypatch.setenv("REPLICATE_BASE_URL", made.url)
        monkeypatch.setenv("REPLICATE_API_TOKEN", TOKEN)
        monkeypatch.delenv("SD35L_DEFAULT_DESTINATION", raising=False)
        monkeypatch.setenv("SD35L_CONFIG_DIR", str(tmp_path / "sd35l"))
        yield made
        assert not made.breaches, made.breaches


@pytest.fixture
def at_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty working folder, and no pauses anywhere."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(time, "sleep", lambda _s: None)
    for pausing in (
        Api.__init__,
        follow.follow,
        weights.fetch,
        remote.download,
    ):  # bound when they were defined
        monkeypatch.setitem(pausing.__kwdefaults__, "wait", lambda _s: None)
    monkeypatch.setattr(submit, "SEARCH_PAUSES", (0.0, 0.0))


@pytest.fixture
def api(server: ReplicateServer) -> Iterator[Api]:
    with Api(TOKEN, wait=lambda _s: None) as made:
        yield made


def config(**flags: Any) -> Config:
    """A configuration in which nothing is wrong, with changes."""
    told = {
        "dataset_url": "https://example.com/d.zip",
        "destination": "mushroomfleet/boats",
        "trigger_word": "mxqstyle",
    }
    made, found = resolve({**told, **flags}, {}, {})
    assert not found, found
    return made
