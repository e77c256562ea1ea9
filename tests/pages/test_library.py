"""The library page."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from studio import files
from studio.library.entry import LibraryEntry, list_library
from studio.library.register import register, unregister
from studio.workspace import Workspace
from tests.pages import worlds
from tests.pages.app import open_page, sound, texts


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with one registered LoRA; each test gets a copy."""
    root = tmp_path_factory.mktemp("shelf")
    project = worlds.project(Workspace(root / "home"), worlds.pictures(root / "in"))
    run = worlds.run(project)
    register(project, worlds.grid(project, run), run, weight=0.7, good_for="plans of things")
    return root / "home"


@pytest.fixture
def entry(workspace: Workspace, made: Path) -> LibraryEntry:
    shutil.copytree(made, workspace.root, dirs_exist_ok=True)
    return list_library(workspace)[0]


def test_an_empty_library_says_how_to_fill_it() -> None:
    assert "Nothing registered yet" in texts(open_page("library"))


def test_an_entry_shows_what_one_needs_to_use_it(entry: LibraryEntry, workspace: Workspace) -> None:
    at = open_page("library")
    assert "Blueprint" in texts(at)
    assert "plans of things" in texts(at)
    assert "bluprnt" in [c.value for c in at.code]
    assert str(entry.file(workspace)) in [c.value for c in at.code]
    assert len(at.get("image")) == 1
    assert len(at.get("download_button")) == 1


def test_a_lora_of_the_built_in_model_is_not_sent_elsewhere(
    entry: LibraryEntry, workspace: Workspace
) -> None:
    told = texts(open_page("library"))
    assert "only LoRA Studio can draw with it" in told
    assert "<lora:" not in told and "ComfyUI" not in told
    path = entry.folder(workspace) / "entry.json"
    files.write_json(path, {**files.read_json(path), "family": "sdxl"})
    told = texts(open_page("library"))
    assert "only LoRA Studio" not in told
    assert f"<lora:{entry.name}:0.7> bluprnt" in told and "ComfyUI" in told


def test_removing_can_be_undone(entry: LibraryEntry, workspace: Workspace) -> None:
    at = open_page("library")
    sound(at.button(key=f"remove_{entry.slug}").click().run())
    assert [e.slug for e in list_library(workspace)] == [entry.slug], "it asks first"
    sound(at.button(key=f"keep_{entry.slug}").click().run())
    at.button(key=f"remove_{entry.slug}").click().run()
    sound(at.button(key=f"sure_{entry.slug}").click().run())
    assert list_library(workspace) == []
    assert "was taken out of the library" in texts(at)
    sound(at.button(key="flash_undo").click().run())
    assert [e.slug for e in list_library(workspace)] == [entry.slug]
    assert "was taken out" not in texts(at)


def test_a_removed_lora_comes_back_after_a_reload(entry: LibraryEntry, workspace: Workspace) -> None:
    at = open_page("library")
    at.button(key=f"remove_{entry.slug}").click().run()
    sound(at.button(key=f"sure_{entry.slug}").click().run())
    later = open_page("library")  # a new session: the line with Undo is gone
    assert "flash_undo" not in [b.key for b in later.button]
    assert "Trash (1 LoRA)" in [e.label for e in later.expander]
    sound(next(b for b in later.button if b.label == "Put it back").click().run())
    assert [e.slug for e in list_library(workspace)] == [entry.slug]
    assert "is back in the library" in texts(later)
    assert not later.expander


def test_a_lora_whose_name_was_taken_stays_in_the_trash(entry: LibraryEntry, workspace: Workspace) -> None:
    unregister(workspace, entry.slug)
    (workspace.library_dir / entry.slug).mkdir()
    at = open_page("library")
    sound(next(b for b in at.button if b.label == "Put it back").click().run())
    assert "Another LoRA in the library has that name now." in texts(at)
    assert "Trash (1 LoRA)" in [e.label for e in at.expander]


def test_a_file_that_is_gone_is_said(entry: LibraryEntry, workspace: Workspace) -> None:
    entry.file(workspace).unlink()
    assert "The file is gone." in texts(open_page("library"))


def test_a_damaged_entry_does_not_hide_the_others(entry: LibraryEntry, workspace: Workspace) -> None:
    (workspace.library_dir / "broken").mkdir()
    (workspace.library_dir / "broken" / "entry.json").write_text("{", encoding="utf-8")
    assert "Blueprint" in texts(open_page("library"))


def test_the_weight_is_changed_on_the_card_with_history_and_undo(
    entry: LibraryEntry, workspace: Workspace
) -> None:
    at = open_page("library")
    at.number_input(key=f"weight_{entry.slug}_0.7").set_value(0.6)
    sound(at.button(key=f"weight_{entry.slug}_save").click().run())
    assert "is 0.6 now; it was 0.7" in texts(at) and "Weight **0.6" in texts(at)
    assert list_library(workspace)[0].weight == 0.6
    sound(at.number_input(key=f"weight_{entry.slug}_0.6").set_value(0.0).run())
    sound(at.button(key=f"weight_{entry.slug}_save").click().run())
    assert "0 cannot be recommended" in texts(at) and list_library(workspace)[0].weight == 0.6
    sound(at.button(key=f"weight_{entry.slug}_undo").click().run())
    assert list_library(workspace)[0].weight == 0.7 and "never changed" not in texts(at)
