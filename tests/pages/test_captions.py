from __future__ import annotations

from pathlib import Path

import pytest

from studio.captions.store import CaptionStore
from studio.project import Project
from studio.workspace import Workspace
from tests.pages import worlds
from tests.pages.app import labels, open_page, sound, texts


@pytest.fixture
def project(workspace: Workspace, tmp_path: Path) -> Project:
    return worlds.project(workspace, worlds.pictures(tmp_path / "in"))


def _texts(project: Project) -> dict[str, str]:
    return {n: c.text for n, c in CaptionStore(project).all().items()}


def test_no_pictures_leads_to_the_dataset_page(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    empty = worlds.create_project(workspace, worlds.Intent(kind="style", name="Empty", trigger="bluprnt"))
    at = open_page("captions", empty.slug)
    assert "No pictures yet" in texts(at) and "Go to the dataset page" in labels(at)


def test_a_caption_edited_in_the_list_is_on_disk(project: Project) -> None:
    at = open_page("captions", project.slug)
    field = next(t for t in at.text_area if t.label == "Caption of 02_bus.png")
    sound(field.input("an old bus").run())
    assert _texts(project)["02_bus.png"] == "bluprnt, an old bus", "the trigger word is put first by itself"
    assert (project.dataset_dir / "02_bus.txt").read_text() == "bluprnt, an old bus"
    sound(at.button(key="undo").click().run())
    assert _texts(project)["02_bus.png"] == "bluprnt, bus"
    sound(at.button(key="redo").click().run())
    assert _texts(project)["02_bus.png"] == "bluprnt, an old bus"


def test_an_edit_never_lands_on_another_picture(project: Project) -> None:
    at = open_page("captions", project.slug)
    sound(at.text_input(key="captions_query").input("fox").run())
    fields = [t.label for t in at.text_area]
    assert fields == ["Caption of 04_fox.png"]
    sound(at.text_area[0].input("a sly fox").run())
    sound(at.text_input(key="captions_query").input("").run())
    assert _texts(project) == {
        **_texts(project),
        "04_fox.png": "bluprnt, a sly fox",
        "01_car.png": "bluprnt, car",
    }


def test_a_stale_tab_does_not_overwrite(project: Project) -> None:
    at = open_page("captions", project.slug)
    CaptionStore(project).set("01_car.png", "written in the other tab")
    sound(next(t for t in at.text_area if "01_car" in t.label).input("mine").run())
    assert _texts(project)["01_car.png"] == "bluprnt, written in the other tab"
    assert "was changed meanwhile" in texts(at)


def test_missing_captions_and_stray_triggers_block_the_way_on(project: Project) -> None:
    (project.dataset_dir / "01_car.txt").unlink()
    (project.dataset_dir / "02_bus.txt").write_text("a bus")
    at = open_page("captions", project.slug)
    assert at.button(key="go_config").disabled and "have no caption yet" in texts(at)
    sound(next(t for t in at.text_area if "01_car" in t.label).input("car").run())
    assert "do not start with the trigger word" in texts(at)
    sound(at.button(key="add_trigger").click().run())
    assert _texts(project)["02_bus.png"] == "bluprnt, a bus"
    assert not at.button(key="go_config").disabled


def test_approving_all(project: Project) -> None:
    at = open_page("captions", project.slug)
    assert at.button(key="approve_all").label == "Approve 8"
    sound(at.button(key="approve_all").click().run())
    assert {c.status for c in CaptionStore(project).all().values()} == {"approved"}
    assert at.button(key="approve_all").disabled


def test_a_bulk_edit_shows_what_it_changes_first(project: Project) -> None:
    at = open_page("captions", project.slug)
    at.session_state["captions_view"] = "bulk"
    sound(at.run())
    sound(at.text_input(key="bulk_find_replace").input("bus").run())
    sound(at.text_input(key="bulk_text_replace").input("tram").run())
    assert "Changes 1 of 8 captions" in texts(at)
    assert _texts(project)["02_bus.png"] == "bluprnt, bus", "nothing changes before it was seen"
    sound(at.button(key="bulk_apply").click().run())
    assert _texts(project)["02_bus.png"] == "bluprnt, tram"
    sound(at.checkbox(key="bulk_regex").check().run())
    sound(at.text_input(key="bulk_find_replace").input("(").run())
    assert "not a regular expression" in texts(at)


def test_tags_filter(project: Project) -> None:
    at = open_page("captions", project.slug)
    at.session_state["captions_tags"] = ["apple"]
    sound(at.run())
    assert [t.label for t in at.text_area] == ["Caption of 07_apple.png"]


def test_one_by_one(project: Project) -> None:
    at = open_page("captions", project.slug)
    at.session_state["captions_view"] = "one"
    sound(at.run())
    assert "1 of 8" in texts(at) and at.button(key="previous").disabled
    sound(at.button(key="next").click().run())
    assert "2 of 8" in texts(at)
    sound(at.text_area[0].input("a long bus").run())
    assert _texts(project)["02_bus.png"] == "bluprnt, a long bus"
