"""The library page beyond its cards: side by side, other programs, new grids, publishing, and the tools for LoRA files."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from streamlit.testing.v1 import AppTest

from studio import files
from studio.library.bring_in import bring_in
from studio.library.entry import list_library
from studio.library.register import register
from studio.lora.file import metadata_of
from studio.workspace import Workspace
from tests.pages import worlds
from tests.pages.app import labels, open_page, sound, tables, texts

STEM = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"


def foreign(path: Path) -> Path:
    told = {"ss_base_model_version": "sd_v1", "ss_tag_frequency": '{"5_ann": {"inkwsh": 9}}', "ss_sd_model_name": "/home/ann/sd15.safetensors"}  # fmt: skip
    tensors = {
        f"{STEM}.lora_down.weight": np.ones((4, 768), np.float16),
        f"{STEM}.lora_up.weight": np.ones((320, 4), np.float16),
        f"{STEM}.alpha": np.array(2, np.float16),
    }
    save_file(tensors, str(path), metadata=told)
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two measured LoRAs of one run, and one from elsewhere with a title that looks like Markdown."""
    root = tmp_path_factory.mktemp("library-page")
    workspace = Workspace(root / "home")
    project = worlds.project(workspace, worlds.pictures(root / "in"))
    run = worlds.run(project)
    grid = worlds.grid(project, run)
    found = [x.label for x in grid.spec.lora_files]
    register(project, grid, run, found[0], 0.5, name="Early")
    register(project, grid, run, found[-1], 0.9, name="Late")
    bring_in(
        workspace,
        foreign(root / "ink.safetensors"),
        kind="style",
        weight=0.8,
        title="**Ink** [x](y)",
        trigger="inkwsh",
    )
    return root / "home"


@pytest.fixture
def ws(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    home = tmp_path / "home"
    shutil.copytree(made, home)
    monkeypatch.setenv("STUDIO_HOME", str(home))
    monkeypatch.setenv("HF_TOKEN", "hf_of-a-test-only")
    yield Workspace(home)


def show(at: AppTest, view: str) -> AppTest:
    return sound(at.segmented_control(key="library_view").set_value(view).run())


def test_a_title_is_text_and_not_markdown(ws: Workspace) -> None:
    told = texts(open_page("library"))
    assert r"\*\*Ink\*\* \[x\](y)" in told


def test_put_into_another_program_and_back(ws: Workspace, tmp_path: Path) -> None:
    folder = tmp_path / "ComfyUI" / "models" / "loras"
    folder.mkdir(parents=True)
    slug = next(e.slug for e in list_library(ws) if e.trigger == "inkwsh")
    at = open_page("library")
    sound(at.button(key=f"put_{slug}").click().run())
    at.text_input(key="place_folder").set_value(str(tmp_path / "ComfyUI"))
    sound(next(b for b in at.button if b.label == "Remember this folder").click().run())
    assert f"`{slug}.safetensors`" in texts(at) and "is copied" in texts(at)
    assert list(folder.iterdir()) == [], "shown first"
    sound(at.button(key="put_go").click().run())
    assert {p.name for p in folder.iterdir()} == {f"{slug}.safetensors", f"{slug}.json"}
    assert "In 1 other program" in texts(at)
    sound(at.button(key="flash_undo").click().run())
    assert list(folder.iterdir()) == []


def test_side_by_side(ws: Workspace) -> None:
    at = show(open_page("library"), "compare")
    sound(at.multiselect(key="compare_entries").set_value(["early", "late"]).run())
    told = tables(at)
    assert "0.5" in told and "0.9" in told and "Nearness" in told
    assert "The same prompts" in texts(at)


def test_a_new_grid_says_what_it_takes(ws: Workspace) -> None:
    at = open_page("library")
    sound(at.button(key="evaluate_early").click().run())
    assert "A new grid of Early" in texts(at) and "pictures are there already" in texts(at)
    assert any(label.startswith(("Draw", "Put this grid together")) for label in labels(at))
    assert len(list((ws.projects_dir / "blueprint" / "grids").glob("grid-*"))) == 1, (
        "nothing starts by itself"
    )


def test_publishing_shows_everything_and_waits(ws: Workspace) -> None:
    slug = next(e.slug for e in list_library(ws) if e.trigger == "inkwsh")
    at = open_page("library")
    sound(at.button(key=f"publish_{slug}").click().run())
    assert "Name the repository first" in texts(at)
    sound(at.text_input(key="publish_repo").set_value("ann/--").run())
    assert "no name for a repository" in "".join(str(getattr(e.proto, "title", "")) for e in at.error)
    sound(at.text_input(key="publish_repo").set_value("ann/ink").run())
    assert any("instance_prompt: inkwsh" in c.value for c in at.code) and "README.md" in tables(at)
    assert any(label.startswith("Send ") and "visible only to you" in label for label in labels(at))
    assert not list((ws.root / "jobs").glob("publish-*"))


def test_a_file_is_brought_in_by_its_path(ws: Workspace, tmp_path: Path) -> None:
    at = open_page("library")
    sound(at.button(key="bring_in").click().run())
    wrong = tmp_path / "old.ckpt"
    wrong.write_bytes(b"\x80\x02K\x01.")
    sound(at.text_input(key="library_brought_path").set_value(str(wrong)).run())
    assert "not a .safetensors" in "".join(str(getattr(e.proto, "title", "")) for e in at.error)
    sound(
        at.text_input(key="library_brought_path").set_value(str(foreign(tmp_path / "Wash.safetensors"))).run()
    )
    assert at.text_input(key="add_trigger").value == "inkwsh"
    assert "would tell less" in "".join(e.label for e in at.expander)
    sound(next(b for b in at.button if b.label == "Bring it in").click().run())
    entry = next(e for e in list_library(ws) if e.slug == "wash")
    assert metadata_of(entry.file(ws))["ss_sd_model_name"] == "sd15.safetensors"
    assert "is in the library" in texts(at)


def test_tools_look_inside_and_show_what_was_kept(ws: Workspace) -> None:
    entry = next(e for e in list_library(ws) if e.trigger == "inkwsh")
    made = ws.root / "loras" / "small.safetensors"
    made.parent.mkdir()
    shutil.copy(entry.file(ws), made)
    folder = ws.root / "jobs" / files.new_id("lora")
    blocks = [
        {"block": f"down {n}", "layers": 1, "kept": 0.9, "rank_low": 2, "rank_high": 2} for n in range(3)
    ]
    result = {"file": str(made), "size_bytes": 1000, "was_bytes": 3000, "layers": 3, "rank_low": 2, "rank_high": 2, "kept": 0.9, "worst": [], "blocks": blocks}  # fmt: skip
    folder.mkdir(parents=True)
    files.write_json(folder / "payload.json", {"tool": "resize", "file": str(entry.file(ws).resolve())})
    worlds._job(folder, "lora", "Resize", "finished")
    files.write_json(folder / "exit.json", {**files.read_json(folder / "exit.json"), "result": result})
    at = show(open_page("library"), "tools")
    sound(at.selectbox(key="tool_file").set_value(str(entry.file(ws))).run())
    assert "kohya" in tables(at) and "Stable Diffusion 1.5" in texts(at)
    sound(at.segmented_control(key="lora_tool").set_value("resize").run())
    assert "90.0%" in texts(at) and len(at.get("plotly_chart")) == 1
    assert str(made) in [c.value for c in at.code]
    sound(at.button(key="tool_add").click().run())
    assert at.text_input(key="library_brought_path").value == str(made)


def test_metadata_is_shown_before_and_after(ws: Workspace) -> None:
    entry = next(e for e in list_library(ws) if e.trigger == "inkwsh")
    at = show(open_page("library"), "tools")
    at.selectbox(key="tool_file").set_value(str(entry.file(ws)))
    sound(at.segmented_control(key="lora_tool").set_value("metadata").run())
    assert "/home/ann/sd15.safetensors" in tables(at)
    sound(at.button(key="tool_go").click().run())
    clean = ws.root / "loras" / f"{entry.name}-clean.safetensors"
    assert (
        metadata_of(clean)["ss_sd_model_name"] == "sd15.safetensors"
        and "5_ann" not in metadata_of(clean)["ss_tag_frequency"]
    )
