"""The library on the command line: what it prints for programs, and what it leaves on disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from studio.cli.main import main
from studio.library.register import register
from studio.lora.file import metadata_of
from studio.workspace import Workspace
from tests.fakes.hub_server import serving
from tests.pages import worlds

Run = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two registered checkpoints of one evaluated run."""
    root = tmp_path_factory.mktemp("cli-library")
    workspace = Workspace(root)
    project = worlds.project(workspace, worlds.pictures(root / "in"))
    run = worlds.run(project)
    grid = worlds.grid(project, run)
    labels = [x.label for x in grid.spec.lora_files]
    register(project, grid, run, labels[0], 0.5, name="Early")
    register(project, grid, run, labels[-1], 0.9, name="Late")
    return root


@pytest.fixture
def run(home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("STUDIO_HOME", str(home))

    def call(*words: str, code: int = 0) -> dict[str, Any]:
        got = main([*words, "--json"])
        told = capsys.readouterr().out
        assert got == code, told
        return dict(json.loads(told))

    return call


def test_side_by_side(run: Run) -> None:
    told = run("library", "compare", "early", "late", "--differences")
    rows = {r["label"]: r["values"] for r in told["rows"]}
    assert rows["At weight"] == ["0.5", "0.9"] and "Trigger word" not in rows
    assert all(len(v) == 2 for v in told["pictures"].values()) and told["pictures"]


def test_the_weight_is_changed_shown_and_taken_back(run: Run) -> None:
    told = run("library", "weight", "early", "0.65")
    assert told["changed"] and told["entry"]["weight"] == 0.65
    told = run("library", "weight", "early")
    assert not told["changed"] and [w["weight"] for w in told["entry"]["weights_before"]] == [0.5]
    assert run("library", "weight", "early", "--undo")["entry"]["weight"] == 0.5
    run("library", "weight", "early", "--undo", code=2)
    run("library", "weight", "early", "0", code=2)


def test_a_grid_is_planned_without_drawing(run: Run) -> None:
    told = run("library", "evaluate", "early", "--plan", "--weights", "0.5")
    assert told["to_render"] == 0 and told["cells"] > 0 and told["project"] == "blueprint"


def test_copied_looked_at_first_and_taken_back(run: Run, tmp_path: Path) -> None:
    (tmp_path / "ComfyUI/models/loras").mkdir(parents=True)
    assert run("library", "places", str(tmp_path / "ComfyUI"))["places"][0]["name"] == "ComfyUI"
    dry = run("library", "copy", "late", "comfyui", "--dry-run")
    assert [f["action"] for f in dry["files"]] == ["copy"] * 3
    assert list((tmp_path / "ComfyUI/models/loras").iterdir()) == []
    put = run("library", "copy", "late", "ComfyUI")
    assert len(put["written"]) == 3 and Path(put["file"]).is_file()
    back = run("library", "take-back", "late", "ComfyUI")
    assert len(back["removed"]) == 3 and list((tmp_path / "ComfyUI/models/loras").iterdir()) == []
    assert run("library", "places", "--forget", "ComfyUI")["places"] == []
    run("library", "copy", "late", "ComfyUI", code=3)


def test_brought_in_and_cleaned(run: Run, home: Path, tmp_path: Path) -> None:
    source = next((home / "projects/blueprint/runs").glob("*/checkpoints/blueprint.safetensors"))
    entry = run("library", "add", str(source), "--kind", "object", "--weight", "0.6", "--trigger", "plan", "--name", "Found", "--base-model", "pocket")["entry"]  # fmt: skip
    assert (entry["slug"], entry["brought_from"], entry["weight"]) == ("found", "blueprint.safetensors", 0.6)
    told = run(
        "lora",
        "metadata",
        entry["file"],
        "--leave-out",
        "dates",
        "--out",
        str(tmp_path / "clean.safetensors"),
    )
    assert {c["key"] for c in told["changes"]} == {"modelspec.date"}
    assert "modelspec.date" not in metadata_of(tmp_path / "clean.safetensors")
    run("library", "remove", "found", "--yes")


def test_published_only_after_a_yes(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.hub)
        monkeypatch.setenv("HF_TOKEN", "hf_right-token-of-ann")
        for words in (["--dry-run"], []):
            told = run("library", "publish", "early", "ann/early", *words)
            assert told["applied"] is False and told["private"] is True and "# Early" in told["card"]
        assert hub.requests == []
        monkeypatch.delenv("HF_TOKEN")
        monkeypatch.setenv("HOME", str(Path(hub.hub).name))
        run("library", "publish", "early", "ann/early", "--yes", code=2)
        assert hub.requests == []
