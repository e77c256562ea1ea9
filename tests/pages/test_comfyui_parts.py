"""ComfyUI on the pages: its card on the set-up page, and a grid's cells that failed."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from studio import files
from studio.evaluation.comfyui import exchange, servers
from studio.evaluation.grid import Grid, plan_grid
from studio.evaluation.spec import plan_cells
from studio.evaluation.store import CellStore
from studio.workspace import Workspace
from tests.fakes.comfyui_server import ComfyServer
from tests.pages import worlds
from tests.pages.app import labels, open_page, sound, texts


@pytest.fixture
def comfy(tmp_path: Path) -> Iterator[ComfyServer]:
    (tmp_path / "loras").mkdir()
    server = ComfyServer(tmp_path / "loras")
    yield server
    server.close()


def _press(at: AppTest, label: str) -> AppTest:
    return sound(next(b for b in at.button if b.label == label).click().run())


def test_a_server_is_added_looked_at_and_taken_off(workspace: Workspace, comfy: ComfyServer) -> None:
    at = open_page("setup")
    at.text_input(key="comfyui_address").set_value("http://8.8.8.8:8188")
    _press(at, "Add server")
    assert "not on this computer or in its network" in texts(at)
    assert at.text_input(key="comfyui_address").value == "http://8.8.8.8:8188", (
        "what was typed can be corrected"
    )
    at.text_input(key="comfyui_address").set_value("http://localhost:abc")
    _press(at, "Add server")
    assert "abc" in texts(at) and "from https://" not in texts(at)
    at.text_input(key="comfyui_address").set_value(comfy.address)
    _press(at, "Add server")
    assert at.text_input(key="comfyui_address").value == ""
    assert "0.27.0 on cpu" in texts(at) and str(comfy.lora_folder) in texts(at)
    sound(at.button(key=f"comfyui_forget_{comfy.address}").click().run())
    assert servers.load(workspace).servers == []


def test_a_server_that_is_not_started_is_told_in_plain_words(workspace: Workspace) -> None:
    with socket.socket() as held:  # bound and not listening: nobody else gets the port, and it refuses
        held.bind(("127.0.0.1", 0))
        servers.add_server(workspace, f"http://127.0.0.1:{held.getsockname()[1]}")
        at = open_page("setup")
    assert "Nothing answers at this address. Is ComfyUI started?" in texts(at)
    assert "Errno" not in texts(at)


def test_failed_cells_have_their_reason_and_a_button(workspace: Workspace, tmp_path: Path) -> None:
    """A grid of the pages' world with two cells taken away again, as a job leaves it that could not draw them."""
    project = worlds.project(workspace, worlds.pictures(tmp_path / "in"))
    grid = worlds.grid(project, worlds.run(project, run_id="run-1"))
    gone = list({c.hash: c for c in grid.cells() if c.weight}.values())[:2]
    for cell in gone:
        CellStore(project).path(cell.hash).unlink()
    files.write_json(
        grid.folder / "failures.json", {c.hash: "The picture came out black: [x](y) *all*." for c in gone}
    )
    at = open_page("evaluation", project.slug, grid=grid.id)
    assert "2 pictures could not be drawn" in [e.label for e in at.expander]
    assert texts(at).count(r"The picture came out black\: \[x\](y) \*all\*.") == 1, (
        "signs in a reason mean nothing"
    )
    assert labels(at).count("Try again") == 2 and "Try these 2 again" in labels(at)


def test_workflows_are_saved_and_a_folder_comes_back(workspace: Workspace, tmp_path: Path) -> None:
    """Matched by name; a picture of another size, of no cell, or that is none is refused by name."""
    from PIL import Image

    project = worlds.project(workspace, worlds.pictures(tmp_path / "in"))
    run = worlds.run(project, run_id="run-1")
    spec = plan_grid(project, run, renderer="comfyui").model_copy(update={"family": "sd15"})
    saved = exchange.save_workflows(project, spec, tmp_path / "out")
    assert saved.cells == len({c.hash for c in plan_cells(spec)})
    assert exchange.columns_of(saved.workflows) == len(list((tmp_path / "out" / "api").iterdir()))
    assert spec.id in (tmp_path / "out" / "READ ME.txt").read_text()
    back = tmp_path / "back"
    back.mkdir()
    first, second = list({c.hash: c for c in plan_cells(spec)})[:2]
    Image.new("RGB", (spec.width, spec.height), "red").save(back / f"{first}_00001_.png")
    Image.new("RGB", (8, 8)).save(back / f"{second}_00001_.png")
    Image.new("RGB", (spec.width, spec.height)).save(back / "holiday.png")
    (back / "broken.png").write_bytes(b"no picture")
    found = exchange.bring_back(Grid(project.grids_dir / spec.id), back)
    assert found.matched == 1 and found.missing == saved.cells - 1
    assert set(found.refused) == {f"{second}_00001_.png", "holiday.png", "broken.png"}
    assert exchange.bring_back(Grid(project.grids_dir / spec.id), back).matched == 0


def test_a_grid_is_drawn_elsewhere_by_the_page(workspace: Workspace, tmp_path: Path) -> None:
    """No server: the workflows go into a folder, the grid waits for its pictures, and takes those of a folder."""
    from PIL import Image

    project = worlds.project(workspace, worlds.pictures(tmp_path / "in"))
    worlds.run(project, run_id="run-1")
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "model_index.json").write_text("{}")
    own = {
        "id": "own",
        "title": "Own",
        "family": "sd15",
        "format": "diffusers",
        "path": str(tmp_path / "own"),
        "resolution": 64,
    }
    files.write_yaml(workspace.models_dir / "models.yaml", {"models": [own]})
    told = files.read_yaml(project.folder / "project.yaml")
    files.write_yaml(project.folder / "project.yaml", {**told, "base_model": "own"})
    workspace.remember(mode="advanced")
    at = open_page("evaluation", project.slug, grid="new")
    at.number_input(key="plan_clip_skip_1").set_value(2)
    at.text_input(key="elsewhere_target").set_value("relative/folder")
    _press(at, "Save the workflows")
    assert "does not say in which folder" in texts(at)
    at.text_input(key="elsewhere_target").set_value(str(tmp_path / "out"))
    _press(at, "Save the workflows")
    assert "READ ME.txt there says what to do" in texts(at)
    grid = Grid(next(iter(project.grids_dir.iterdir())))
    assert grid.spec.clip_skip == 2
    assert grid.id in at.query_params["grid"] and (tmp_path / "out" / "send.py").is_file()
    assert "pictures of this grid are missing" in texts(at) and "wait for a ComfyUI elsewhere" in texts(at)
    first = next(iter({c.hash: c for c in grid.cells()}))
    (tmp_path / "back").mkdir()
    _press(at, "Bring them back")
    assert "No folder was named" in texts(at)
    at.text_input(key="bring_back_folder").set_value(str(tmp_path / "back"))
    _press(at, "Bring them back")
    assert "There is no picture in" in texts(at)
    Image.new("RGB", (8, 8)).save(tmp_path / "back" / f"{first}_00001_.png")
    _press(at, "Bring them back")
    assert "No picture in that folder is one that this grid lacks" in texts(at) and "8 x 8 pixels" in texts(
        at
    )
