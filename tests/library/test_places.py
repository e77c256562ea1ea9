"""Registered LoRAs in the folders of other programs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from studio import files
from studio.errors import InputError, NotFoundError
from studio.library.entry import LibraryEntry, list_library
from studio.library.places import (
    add_place,
    forget_place,
    get_place,
    placed,
    places,
    plan,
    put_into,
    take_back,
)
from studio.library.register import register
from studio.workspace import Workspace
from tests.pages import worlds


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with one registered LoRA; each test gets a copy."""
    root = tmp_path_factory.mktemp("placed")
    project = worlds.project(Workspace(root / "home"), worlds.pictures(root / "in"))
    run = worlds.run(project)
    register(project, worlds.grid(project, run), run, weight=0.7)
    return root / "home"


@pytest.fixture
def entry(workspace: Workspace, made: Path) -> LibraryEntry:
    shutil.copytree(made, workspace.root, dirs_exist_ok=True)
    return list_library(workspace)[0]


@pytest.mark.parametrize("below", ["models/loras", "models/Lora", ""])
def test_the_file_goes_with_what_browsers_read(
    workspace: Workspace, entry: LibraryEntry, tmp_path: Path, below: str
) -> None:
    program = tmp_path / "program"
    (program / below).mkdir(parents=True)
    placed = put_into(workspace, entry, program)
    assert placed.file.parent == program / below and not placed.linked
    assert placed.file.read_bytes() == entry.file(workspace).read_bytes()
    names = {p.name for p in placed.file.parent.iterdir()}
    assert names == {f"{entry.name}.safetensors", f"{entry.name}.json", f"{entry.name}.preview.png"}
    assert put_into(workspace, entry, program).file == placed.file, "the same again changes nothing"
    placed.file.write_bytes(b"another")
    with pytest.raises(InputError, match="another file"):
        put_into(workspace, entry, program)
    assert placed.file.read_bytes() == b"another"


def test_a_link_shares_the_bytes(workspace: Workspace, entry: LibraryEntry, tmp_path: Path) -> None:
    placed = put_into(workspace, entry, tmp_path, link=True)
    assert placed.linked == placed.file.samefile(entry.file(workspace))
    with pytest.raises(NotFoundError, match="no folder"):
        put_into(workspace, entry, tmp_path / "nowhere")


def test_what_will_be_written_is_said_first_and_can_be_taken_back(
    workspace: Workspace, entry: LibraryEntry, tmp_path: Path
) -> None:
    program = tmp_path / "ComfyUI"
    (program / "models/loras").mkdir(parents=True)
    theirs = program / "models/loras" / f"{entry.name}.json"
    theirs.write_text("{}", encoding="utf-8")
    pieces = plan(workspace, entry, program)
    assert [p.action for p in pieces] == ["copy", "taken", "copy"] and pieces[0].size == entry.size_bytes
    assert sorted(p.name for p in theirs.parent.iterdir()) == [theirs.name], "a plan writes nothing"
    put = put_into(workspace, entry, program)
    assert {p.name for p in put.written} == {p.target.name for p in pieces if p.action == "copy"}
    assert put.skipped == (theirs,)
    assert [p.action for p in plan(workspace, entry, program)] == ["same", "taken", "same"]
    assert [p.file for p in placed(workspace, entry)] == [put.file]
    back = take_back(workspace, entry, program)
    assert set(back.written) == set(put.written) and not back.skipped
    assert list(theirs.parent.iterdir()) == [theirs] and theirs.read_text(encoding="utf-8") == "{}"
    assert placed(workspace, entry) == [] and entry.file(workspace).is_file()
    with pytest.raises(NotFoundError, match="put nothing"):
        take_back(workspace, entry, program)


def test_what_was_changed_meanwhile_stays(workspace: Workspace, entry: LibraryEntry, tmp_path: Path) -> None:
    put = put_into(workspace, entry, tmp_path, link=True)
    mine = tmp_path / f"{entry.name}.json"
    mine.write_text('{"activation text": "mine"}', encoding="utf-8")
    back = take_back(workspace, entry, tmp_path)
    assert back.skipped == (mine,) and mine.is_file()
    assert not put.file.exists() and entry.file(workspace).is_file(), (
        "a link is taken away, not what it points to"
    )


def test_places_are_named_once(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "ComfyUI/models/loras").mkdir(parents=True)
    (tmp_path / "sd-webui").mkdir()
    first = add_place(workspace, tmp_path / "ComfyUI", link=True)
    assert (first.name, first.folder, first.link) == ("ComfyUI", tmp_path / "ComfyUI/models/loras", True)
    add_place(workspace, tmp_path / "sd-webui", "A1111")
    add_place(workspace, tmp_path / "ComfyUI", "Comfy")
    assert [p.name for p in places(workspace)] == ["A1111", "Comfy"]
    assert get_place(workspace, "comfy").link is False
    with pytest.raises(InputError, match="already"):
        add_place(workspace, tmp_path, "a1111")
    with pytest.raises(InputError, match="studio itself"):
        add_place(workspace, workspace.root)
    with pytest.raises(NotFoundError, match="no folder"):
        add_place(workspace, tmp_path / "nowhere")
    forget_place(workspace, "A1111")
    with pytest.raises(NotFoundError, match="Comfy"):
        forget_place(workspace, "A1111")


def test_the_sidecar_holds_the_keys_that_a1111_and_forge_read(
    workspace: Workspace, entry: LibraryEntry, tmp_path: Path
) -> None:
    put_into(workspace, entry, tmp_path)
    told = files.read_json(tmp_path / f"{entry.name}.json")
    assert set(told) == {
        "description",
        "sd version",
        "activation text",
        "preferred weight",
        "negative text",
        "notes",
    }
    assert told["activation text"] == entry.trigger and told["preferred weight"] == entry.weight
    assert told["sd version"] in {"Unknown", "SD1", "SD2", "SDXL", "Flux"}
