"""A workspace of its own, the command line called in this process, and engines that take no time."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from studio.cli.main import main
from studio.workspace import shipped

FAKES = Path(__file__).parent / "fakes"


@dataclass(frozen=True)
class Answer:
    """What a command answered."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        return dict(json.loads(self.out))


Cli = Callable[..., Answer]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty workspace."""
    folder = tmp_path / "home"
    monkeypatch.setenv("STUDIO_HOME", str(folder))
    monkeypatch.setenv("COLUMNS", "100")
    return folder


@pytest.fixture
def cli(home: Path, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Call the command line; its exit code and what it printed."""

    def call(*argv: object) -> Answer:
        capsys.readouterr()
        code = main([str(a) for a in argv])
        printed = capsys.readouterr()
        return Answer(code, printed.out, printed.err)

    return call


@pytest.fixture
def project(cli: Cli, home: Path) -> Path:
    """The folder of a fresh style project 'ink'."""
    assert cli("new", "Ink", "--kind", "style", "--trigger", "inkstyle01").code == 0
    return home / "projects" / "ink"


def fake_engines(patch: pytest.MonkeyPatch, seconds_a_step: float = 0.002) -> None:
    """Put a trainer and a renderer in place that take no time, as real jobs; and skip importing torch in gate 3."""

    def train(_self: object, plan: Any) -> list[str]:
        return [sys.executable, str(FAKES / "train.py"), str(plan.run_folder), str(seconds_a_step)]

    def render(_self: object, folder: Path) -> list[str]:
        return [sys.executable, str(FAKES / "render.py"), str(folder)]

    patch.setattr("studio.training.diffusers.DiffusersBackend.command", train)
    patch.setattr("studio.evaluation.diffusers.DiffusersRenderer.command", render)
    patch.setattr(
        "studio.environment.probe", lambda _modules: {"failed": {}, "torch": "2.13.0", "cuda": False}
    )


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fast engines, for one test."""
    fake_engines(monkeypatch)


@pytest.fixture(scope="session")
def _trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A workspace with the project 'ink': sample pictures, all gates passed, one finished run, one grid. Made once."""
    home = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        fake_engines(patch)
        for line in (
            ["new", "Ink", "--kind", "style", "--trigger", "bluprnt"],
            ["import", str(shipped("data", "sample"))],
            ["config", "reset", "--preset", "pocket-quick", "--yes"],
            ["train"],
            ["evaluate"],
        ):
            assert main([*line, "--home", str(home)]) == 0, line
    yield home


@pytest.fixture
def trained(_trained: Path, home: Path, engines: None) -> Path:
    """A copy of the trained workspace, which the test may change; the project's folder."""
    shutil.copytree(_trained, home)
    return home / "projects" / "ink"
