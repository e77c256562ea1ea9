"""Registering, the library page, and taking out again; on real safetensors files, no model needed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from studio import files
from studio.errors import InputError, NotFoundError
from studio.evaluation.grid import Grid, plan_grid
from studio.evaluation.store import CellStore
from studio.library.register import (
    get_entry,
    list_library,
    propose_good_for,
    register,
    restore,
    unregister,
)
from studio.lora.file import copy_with_metadata, metadata_of
from studio.models import tensor_header
from studio.project import Intent, Project, create_project
from studio.training.base import steps_trained
from studio.workspace import Workspace

TOLD = {
    "ss_network_dim": "8",
    "ss_network_alpha": "8.0",
    "ss_num_epochs": "10",
    "ss_steps": "200",
    "ss_learning_rate": "0.0012",
    "ss_optimizer": "adamw",
    "ss_training_finished_at": "1795264000.5",
    "modelspec.title": "old title",
}


@pytest.fixture
def lora(tmp_path: Path) -> Path:
    path = tmp_path / "blue-000004.safetensors"
    tensors = {
        "lora_unet_x.lora_down.weight": np.arange(24, dtype=np.float16).reshape(8, 3),
        "lora_unet_x.lora_up.weight": np.ones((5, 8), dtype=np.float16),
        "lora_unet_x.alpha": np.array(8, dtype=np.float16),
    }
    save_file(tensors, str(path), metadata=TOLD)
    return path


@pytest.fixture
def project(workspace: Workspace) -> Project:
    intent = Intent(kind="style", name="Blue print", trigger="bluprnt", description="technical drawings.")
    return create_project(workspace, intent)


@pytest.fixture
def grid(project: Project, lora: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Grid:
    """A finished grid with measurements that make 0.7 best."""
    files.write_yaml(
        project.workspace.models_dir / "models.yaml",
        {
            "models": [
                {
                    "id": "tiny",
                    "title": "Tiny",
                    "family": "pocket",
                    "format": "diffusers",
                    "path": str(tmp_path / "tiny"),
                    "resolution": 64,
                }
            ]
        },
    )
    files.write_json(tmp_path / "tiny" / "model_index.json", {})
    project.save_intent(project.intent.model_copy(update={"base_model": "tiny"}))
    spec = plan_grid(project, lora_files=[lora], prompts=["bluprnt, dog", "bluprnt, car", "bluprnt, cat"])
    folder = project.grids_dir / spec.id
    files.write_text(folder / "grid.json", spec.model_dump_json())
    found = Grid(folder)
    store = CellStore(project)
    for cell in found.cells():
        store.put(cell.hash, Image.new("RGB", (64, 64), (int(cell.weight * 200), 0, 0)), {})
    rows = zip(spec.weights, (0, 0.2, 0.55, 0.8, 0.95, 1.0), (1, 0.95, 0.85, 0.7, 0.4, 0.3), strict=True)
    weights: list[dict[str, Any]] = [
        {
            "checkpoint": lora.stem, "weight": w, "pixels": n, "effect": n, "nearness": n, "kept": k, "fault": 0.0,
            "damage": 1 - k, "leak": None,
        }
        for w, n, k in rows
    ]  # fmt: skip
    reference = {"training_pictures": 9, "separable": True, "prompts": 3, "seeds": 1}
    files.write_json(folder / "metrics.json", {"kind": "style", "reference": reference, "weights": weights})
    return found


def test_a_grid_s_verdict_goes_into_the_library(project: Project, grid: Grid, lora: Path) -> None:
    ws = project.workspace
    verdict = grid.verdict
    assert verdict is not None and verdict.weight is not None
    entry = register(project, grid, good_for="maps\nand plans", notes="clean lines")
    assert entry.weight == verdict.weight
    assert (entry.weight_low, entry.weight_high) == (verdict.low, verdict.high)
    assert (entry.trigger, entry.kind, entry.base_model) == ("bluprnt", "style", "tiny")
    assert (
        entry.params["rank"] == 8 and entry.params["epochs"] == 10 and entry.params["learning_rate"] == 0.0012
    )
    assert entry.trained.startswith("2026-11-21")
    assert entry.verdict == verdict.headline
    assert entry.grid == grid.id
    assert f"COMPLETE ({entry.slug})" in (project.records_dir / "status.md").read_text()

    copy = entry.file(ws)
    assert copy.name == "blue-print.safetensors"
    assert files.sha256_file(copy) == entry.sha256
    ours, theirs = load_file(str(copy)), load_file(str(lora))
    assert ours.keys() == theirs.keys() and all(np.array_equal(ours[k], theirs[k]) for k in ours)
    told = metadata_of(copy)
    assert told["ss_steps"] == "200", "what training wrote stays"
    assert told["modelspec.title"] == "Blue print"
    assert told["modelspec.trigger_phrase"] == "bluprnt"
    assert told["lora_studio.recommended_weight"] == f"{entry.weight:g}"

    sidecar = json.loads(copy.with_suffix(".json").read_text())
    assert sidecar["activation text"] == "bluprnt"
    assert sidecar["preferred weight"] == entry.weight
    preview = entry.preview(ws)
    assert preview is not None and preview.name == "blue-print.preview.png"
    with Image.open(preview) as picture:
        nearest = min((c for c in grid.spec.weights), key=lambda w: abs(w - entry.weight))
        assert nearest, "no picture without the LoRA"
        assert picture.convert("RGB").getpixel((0, 0)) == (int(nearest * 200), 0, 0), "the cell nearest to it"

    page = (ws.root / "studio.md").read_text()
    for line in (
        "### LoRA: Blue print",
        f"- **File**: `{copy}`",
        "- **Type**: style",
        "- **Trigger word**: `bluprnt`",
        f"- **Recommended weight**: {entry.weight:g} (",
        "- **Base model**: Tiny (`tiny`)",
        "- **Good for**: maps and plans",
        "- **Training date**: 2026-11-21",
        "- **Training params**: 10 epochs, rank 8",
    ):
        assert line in page
    assert project.history()[-1]["what"] == "registered"
    assert list_library(ws) == [get_entry(ws, "blue-print")] == [entry]
    assert not [p for p in ws.library_dir.iterdir() if p.name.startswith(".")]


def test_a_file_from_elsewhere(project: Project, lora: Path) -> None:
    entry = register(project, checkpoint=lora, weight=0.8, name="Found / one")
    assert (entry.slug, entry.weight_words, entry.grid) == ("found-one", "0.8", None)
    assert entry.preview(project.workspace) is None
    assert "not said" in (project.workspace.root / "studio.md").read_text()


def test_a_taken_name(project: Project, lora: Path) -> None:
    ws = project.workspace
    first = register(project, checkpoint=lora, weight=0.8)
    with pytest.raises(InputError, match="already holds"):
        register(project, checkpoint=lora, weight=0.6)
    second = register(project, checkpoint=lora, weight=0.6, on_clash="version")
    assert (second.slug, second.title) == ("blue-print-v2", "Blue print v2")
    replaced = register(project, checkpoint=lora, weight=0.5, on_clash="replace")
    assert replaced.slug == first.slug
    assert get_entry(ws, "blue-print").weight == 0.5
    assert {e.slug for e in list_library(ws)} == {"blue-print", "blue-print-v2"}
    assert len(list(ws.trash_dir.glob("*/blue-print"))) == 1


def test_out_and_back(project: Project, lora: Path) -> None:
    ws = project.workspace
    entry = register(project, checkpoint=lora, weight=0.8)
    trashed = unregister(ws, entry.slug)
    assert list_library(ws) == []
    assert "None registered yet" in (ws.root / "studio.md").read_text()
    assert restore(ws, trashed) == entry
    assert entry.file(ws).is_file()
    assert "### LoRA: Blue print" in (ws.root / "studio.md").read_text()
    with pytest.raises(NotFoundError, match="not in the trash"):
        restore(ws, trashed)
    trashed = unregister(ws, "Blue print")
    register(project, checkpoint=lora, weight=0.8)
    with pytest.raises(InputError, match="cannot be put back"):
        restore(ws, trashed)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"weight": 0}, "cannot be recommended"),
        ({"weight": 5.0}, "cannot be recommended"),
        ({"weight": None}, "no recommended weight"),
        ({"checkpoint": Path("nowhere.safetensors")}, "not there any more"),
        ({"checkpoint": None}, "nothing to register"),
    ],
)
def test_what_cannot_be_registered(project: Project, lora: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises((InputError, NotFoundError), match=said):
        register(project, **{"checkpoint": lora, "weight": 0.8, **changes})
    assert list_library(project.workspace) == []


def test_a_damaged_lora_leaves_no_trace(project: Project, lora: Path) -> None:
    lora.write_bytes(lora.read_bytes()[:-4])
    with pytest.raises(InputError, match="not whole"):
        register(project, checkpoint=lora, weight=0.8)
    assert list(project.workspace.library_dir.glob("*")) == []


def test_damaged_entries_do_not_hide_the_others(project: Project, lora: Path) -> None:
    ws = project.workspace
    register(project, checkpoint=lora, weight=0.8)
    files.write_text(ws.library_dir / "other" / "entry.json", "{half")
    files.write_json(ws.library_dir / "third" / "entry.json", {"slug": "third"})
    assert [e.slug for e in list_library(ws)] == ["blue-print"]
    for slug in ("other", "third"):
        with pytest.raises(InputError, match="cannot be read"):
            get_entry(ws, slug)
    with pytest.raises(NotFoundError, match="blue-print"):
        get_entry(ws, "fourth")


def test_an_unknown_checkpoint_of_a_grid(project: Project, grid: Grid) -> None:
    with pytest.raises(NotFoundError, match="blue-000004"):
        register(project, grid, checkpoint="epoch 9")


def test_a_text_for_good_for(project: Project, grid: Grid) -> None:
    assert propose_good_for(project, None) == "technical drawings"
    assert propose_good_for(project, grid).startswith("technical drawings; best between 0.")


def test_metadata_is_added_without_touching_tensors(lora: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.safetensors"
    copy_with_metadata(lora, target, {"a": "ü", "modelspec.title": "new"})
    with safe_open(str(target), "numpy") as f:
        assert f.metadata() == {**TOLD, "a": "ü", "modelspec.title": "new"}
    before, after = lora.read_bytes(), target.read_bytes()
    size = sum(
        v["data_offsets"][1] - v["data_offsets"][0]
        for k, v in tensor_header(lora).items()
        if k != "__metadata__"
    )
    assert before[-size:] == after[-size:]
    assert (len(after) - size) % 8 == 0
    with pytest.raises(InputError, match="onto itself"):
        copy_with_metadata(target, target, {})


def test_the_steps_of_a_resumed_run_are_those_of_the_whole_training() -> None:
    told = {
        "ss_epoch": "5",
        "ss_steps": "30",
        "ss_num_batches_per_epoch": "47",
        "ss_gradient_accumulation_steps": "2",
    }
    assert steps_trained(told | {"ss_sd_scripts_commit_hash": "48d368fa"}) == 102
    assert steps_trained(told) == 30, "only sd-scripts counts anew"
    assert steps_trained({"ss_steps": "many", "ss_epoch": "None"}) == 0
