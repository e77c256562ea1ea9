"""Registered LoRAs in the folders of other programs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from studio import files
from studio.errors import InputError, NotFoundError
from studio.library.entry import LibraryEntry, get_entry, list_library
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
from studio.library.weight import set_weight, undo_weight
from studio.lora.file import metadata_of
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


@pytest.mark.parametrize("link", [False, True])
def test_another_weight_is_told_everywhere_and_taken_back(
    workspace: Workspace, entry: LibraryEntry, tmp_path: Path, link: bool
) -> None:
    """Entry, file, JSON beside it, the page, and what other programs have; a file that somebody changed there stays."""
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    put_into(workspace, entry, one, link=link)
    put_into(workspace, entry, other)
    (other / f"{entry.name}.json").write_text("{}", encoding="utf-8")
    before = load_file(entry.file(workspace))
    range_before = (entry.weight_low, entry.weight_high)

    changed = set_weight(workspace, entry.slug, 1.6)
    now = get_entry(workspace, entry.slug)
    assert changed.entry == now and (now.weight, now.weight_low, changed.before) == (1.6, None, 0.7)
    assert [(w.weight, w.weight_low, w.weight_high) for w in now.weights_before] == [(0.7, *range_before)]
    file = now.file(workspace)
    assert (
        now.sha256 == files.sha256_file(file) and metadata_of(file)["lora_studio.recommended_weight"] == "1.6"
    )
    assert metadata_of(file)["modelspec.usage_hint"] == "weight 1.6"
    after = load_file(file)
    assert before.keys() == after.keys() and all((before[k] == after[k]).all() for k in before)
    assert "**Recommended weight**: 1.6" in (workspace.root / "studio.md").read_text(encoding="utf-8")
    for folder in (one, other):
        assert (folder / file.name).read_bytes() == file.read_bytes()
    assert (one / file.name).samefile(file) == link
    assert files.read_json(one / f"{entry.name}.json")["preferred weight"] == 1.6
    assert (other / f"{entry.name}.json").read_text(encoding="utf-8") == "{}"
    assert changed.stays == (other / f"{entry.name}.json",) and len(changed.followed) == 3
    assert {p.name for p in one.iterdir()} == {file.name, f"{entry.name}.json", f"{entry.name}.preview.png"}

    assert set_weight(workspace, entry.slug, 1.6).entry == now, "the same again is no change"
    with pytest.raises(InputError, match="changed since"):
        undo_weight(workspace, entry.slug, 0.9)
    assert undo_weight(workspace, entry.slug, 1.6).entry.weights_before == ()
    back = get_entry(workspace, entry.slug)
    assert (back.weight, back.weight_low, back.weight_high) == (0.7, *range_before)
    assert len(take_back(workspace, back, one).written) == 3, "what followed counts as the studio's own"
    with pytest.raises(InputError, match="never changed"):
        undo_weight(workspace, entry.slug)
    for wrong in (0.0, 0.0001, 2.5, -1.5, float("nan"), float("inf")):
        with pytest.raises(InputError, match="cannot be recommended"):
            set_weight(workspace, entry.slug, wrong)


def test_a_weight_inside_the_range_keeps_it(workspace: Workspace, entry: LibraryEntry) -> None:
    files.write_json(
        entry.folder(workspace) / "entry.json",
        {**entry.model_dump(mode="json"), "weight_low": 0.5, "weight_high": 0.9},
    )
    assert set_weight(workspace, entry.slug, 0.6).entry.weight_words == "0.6 (0.5 to 0.9)"
    told = set_weight(workspace, entry.slug, 1.0).entry
    assert told.weight_words == "1" and [w.words for w in told.weights_before] == [
        "0.7 (0.5 to 0.9)",
        "0.6 (0.5 to 0.9)",
    ]
