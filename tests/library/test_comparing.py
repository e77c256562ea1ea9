"""Entries side by side, measured again, and brought in from elsewhere."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from studio import files
from studio.errors import InputError, NotFoundError
from studio.library.bring_in import bring_in, keep_upload, propose
from studio.library.compare import MOST, compare
from studio.library.entry import LibraryEntry, get_entry, list_library
from studio.library.evaluations import evaluation, pictures, prepare_grid
from studio.library.register import register
from studio.lora.file import metadata_of
from studio.project import Project, open_project
from studio.workspace import Workspace
from tests.pages import worlds

STEM = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two checkpoints of one run, both on one measured grid, registered; each test gets a copy."""
    root = tmp_path_factory.mktemp("compared")
    project = worlds.project(Workspace(root / "home"), worlds.pictures(root / "in"))
    run = worlds.run(project)
    grid = worlds.grid(project, run)
    labels = [x.label for x in grid.spec.lora_files]
    register(project, grid, run, labels[0], 0.5, name="Early")
    register(project, grid, run, labels[-1], 0.9, name="Late", leave_out=["dates"])
    return root / "home"


@pytest.fixture
def pair(workspace: Workspace, made: Path) -> list[LibraryEntry]:
    shutil.copytree(made, workspace.root, dirs_exist_ok=True)
    return [get_entry(workspace, "early"), get_entry(workspace, "late")]


@pytest.fixture
def project(workspace: Workspace, pair: list[LibraryEntry]) -> Project:
    return open_project(workspace, pair[0].project)


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A LoRA of another trainer for SD1.5."""
    path = tmp_path / "Ink_Wash-v3.safetensors"
    told = {"ss_base_model_version": "sd_v1", "ss_tag_frequency": '{"5_ink": {"inkwsh": 9, "tree": 2}}', "ss_num_epochs": "8",
            "ss_sd_model_name": "/home/ann/sd15.safetensors", "ss_training_finished_at": "1795264000"}  # fmt: skip
    tensors = {
        f"{STEM}.lora_down.weight": np.ones((4, 768), np.float16),
        f"{STEM}.lora_up.weight": np.ones((320, 4), np.float16),
        f"{STEM}.alpha": np.array(2, np.float16),
    }
    save_file(tensors, str(path), metadata=told)
    return path


def test_two_entries_side_by_side(workspace: Workspace, pair: list[LibraryEntry]) -> None:
    found = compare(workspace, pair)
    rows = {r.label: r for r in found.rows}
    assert rows["Weight"].values == ("0.5", "0.9 (0.6 to 0.9)") and rows["Weight"].differs
    assert rows["Trigger word"].values == ("bluprnt", "bluprnt") and not rows["Trigger word"].differs
    assert rows["At weight"].values == ("0.5", "0.9")
    assert rows["Nearness to your pictures"].differs and rows["Rank"].values == ("1", "1")
    assert len(found.shared) == 8 and all(len(p) == 2 for p in found.shared.values()), (
        "the same prompts, a picture of each"
    )
    assert found.cautions == ()
    with pytest.raises(InputError, match="itself"):
        compare(workspace, [pair[0], pair[0]])
    for count in (0, 1, MOST + 1):
        with pytest.raises(InputError, match=f"{count} LoRAs"):
            compare(workspace, (pair * 3)[:count])


def test_measurements_belong_to_the_file_and_not_to_its_name(
    workspace: Workspace, pair: list[LibraryEntry]
) -> None:
    found = evaluation(workspace, pair[0])
    assert found is not None and found.weight == 0.5 and len(pictures(found)) == 8
    assert found.label == pair[0].checkpoint
    other = pair[1].file(workspace).read_bytes()
    files.write_bytes(pair[0].file(workspace), other)
    swapped = evaluation(workspace, pair[0])
    assert swapped is not None and swapped.label == pair[1].checkpoint
    pair[0].file(workspace).unlink()
    assert evaluation(workspace, pair[0]) is None


def test_a_grid_is_prepared_with_the_base_model(workspace: Workspace, pair: list[LibraryEntry]) -> None:
    ready = prepare_grid(workspace, pair[0])
    assert ready.project.slug == pair[0].project and ready.spec.base_model == pair[0].base_model
    assert pair[0].weight in ready.spec.weights and 0.0 in ready.spec.weights
    assert [x.path for x in ready.spec.lora_files] == [pair[0].file(workspace).resolve()]
    assert ready.cost.cells == ready.cost.there, (
        "its pictures are there from the grid that it was registered with"
    )
    assert not (ready.project.grids_dir / ready.spec.id).exists(), "nothing starts by itself"


def test_another_base_model_gets_a_project_of_its_own(
    workspace: Workspace, pair: list[LibraryEntry], project: Project
) -> None:
    project.save_intent(project.intent.model_copy(update={"base_model": "sd15"}))
    ready = prepare_grid(workspace, pair[0])
    assert ready.project.slug != project.slug and ready.spec.base_model == "pocket"
    assert get_entry(workspace, "early").project == ready.project.slug
    assert prepare_grid(workspace, get_entry(workspace, "early")).project.slug == ready.project.slug, (
        "once, not each time"
    )


def test_a_foreign_file_is_brought_in(workspace: Workspace, foreign: Path, tmp_path: Path) -> None:
    before = foreign.read_bytes()
    told = propose(workspace, foreign)
    assert told.trigger == "inkwsh" and told.title == "Ink Wash-v3" and told.models[0].id == "sd15"
    picture = tmp_path / "shown.jpg"
    Image.new("RGB", (2400, 900), "teal").save(picture)
    entry = bring_in(
        workspace,
        foreign,
        kind="style",
        weight=0.8,
        trigger="inkwsh",
        preview=picture,
        leave_out=["paths", "folders"],
    )
    assert (entry.slug, entry.family, entry.base_model, entry.trained[:10]) == (
        "ink-wash-v3",
        "sd15",
        "sd15",
        "2026-11-21",
    )
    assert entry.params["rank"] == 4 and entry.params["alpha"] == 2 and entry.params["epochs"] == "8"
    assert entry.brought_from == "Ink_Wash-v3.safetensors" and foreign.read_bytes() == before
    shown = entry.preview(workspace)
    assert shown is not None
    with Image.open(shown) as opened:
        assert opened.size == (1600, 600)
    kept = metadata_of(entry.file(workspace))
    assert kept["ss_sd_model_name"] == "sd15.safetensors" and "5_ink" not in kept["ss_tag_frequency"]
    assert kept["ss_output_name"] == "ink-wash-v3" and kept["modelspec.trigger_phrase"] == "inkwsh"
    with pytest.raises(InputError, match="already holds"):
        bring_in(workspace, foreign, kind="style", weight=0.8)
    assert bring_in(workspace, foreign, kind="style", weight=0.8, on_clash="version").slug == "ink-wash-v3-v2"
    with pytest.raises(InputError, match="no trigger word"):
        prepare_grid(workspace, get_entry(workspace, "ink-wash-v3-v2"))
    with pytest.raises(InputError, match="not on this computer"):
        prepare_grid(workspace, entry)


def test_what_cannot_be_brought_in(workspace: Workspace, foreign: Path, tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("hello", encoding="utf-8")
    pickle = tmp_path / "old.pt"
    pickle.write_bytes(b"\x80\x04K\x01.")
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(foreign.read_bytes()[:-9])
    disguised = tmp_path / "evil.safetensors"
    disguised.write_bytes(b"\x80\x04K\x01." * 50)
    checkpoint = tmp_path / "model.safetensors"
    save_file({"model.weight": np.ones(3, np.float32)}, str(checkpoint))
    for path in (pickle, cut, disguised, checkpoint, text):
        with pytest.raises(InputError):
            bring_in(workspace, path, kind="style", weight=0.8)
        with pytest.raises(InputError):
            keep_upload(workspace, path.name, path.read_bytes())
    with pytest.raises(NotFoundError):
        bring_in(workspace, tmp_path / "gone.safetensors", kind="style", weight=0.8)
    with pytest.raises(NotFoundError, match="nope"):
        bring_in(workspace, foreign, kind="style", weight=0.8, base_model="nope")
    with pytest.raises(InputError) as several:
        bring_in(workspace, foreign, kind="style", weight=0, base_model="sdxl", preview=text)
    assert {f.code for f in several.value.findings} == {"lora-weight", "lora-base_model", "lora-preview"}
    assert list_library(workspace) == [] and not list((workspace.root / "loras").glob("*"))


def test_an_upload_is_kept_once(workspace: Workspace, foreign: Path) -> None:
    first = keep_upload(workspace, "../../Ink Wash.safetensors", foreign.read_bytes())
    assert first == workspace.root / "loras" / "ink-wash.safetensors"
    assert keep_upload(workspace, "Ink Wash.safetensors", foreign.read_bytes()) == first
    changed = foreign.read_bytes()[:-1] + b"x"
    assert keep_upload(workspace, "Ink Wash.safetensors", changed).name == "ink-wash-2.safetensors"
