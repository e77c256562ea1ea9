from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

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


def _cards(project: Project) -> AppTest:
    """The page with one picture at a time."""
    at = open_page("captions", project.slug)
    at.session_state["caption_view"] = "One at a time"
    return sound(at.run())


def test_no_pictures_leads_to_the_dataset_page(workspace: Workspace) -> None:
    empty = worlds.create_project(workspace, worlds.Intent(kind="style", name="Empty", trigger="bluprnt"))
    assert "No pictures yet" in texts(open_page("captions", empty.slug))


def test_a_caption_typed_on_the_card_is_on_disk_and_can_be_undone(project: Project) -> None:
    at = _cards(project)
    sound(at.text_area[0].input("an old car").run())
    assert (project.dataset_dir / "01_car.txt").read_text() == "bluprnt, an old car", (
        "the trigger word is put first"
    )
    sound(at.button(key="undo").click().run())
    assert _texts(project)["01_car.png"] == "bluprnt, car"
    sound(at.button(key="redo").click().run())
    assert _texts(project)["01_car.png"] == "bluprnt, an old car"


def test_the_card_follows_the_filter(project: Project) -> None:
    at = _cards(project)
    sound(at.text_input(key="caption_query").input("fox").run())
    assert "1 of 1" in texts(at)
    before = _texts(project)
    sound(at.text_area[0].input("a sly fox").run())
    assert _texts(project) == {**before, "04_fox.png": "bluprnt, a sly fox"}, (
        "no edit lands on another picture"
    )


def test_a_stale_tab_does_not_overwrite(project: Project) -> None:
    at = _cards(project)
    CaptionStore(project).set("01_car.png", "written in the other tab")
    at.text_area[0].input("mine")
    sound(at.run())
    assert _texts(project)["01_car.png"] == "bluprnt, written in the other tab"
    assert "was changed meanwhile" in texts(at)


def test_missing_captions_block_the_way_on(project: Project) -> None:
    (project.dataset_dir / "01_car.txt").unlink()
    at = open_page("captions", project.slug)
    assert at.button(key="go_config").disabled and "1 caption missing" in texts(at)
    CaptionStore(project).set("01_car.png", "car")
    sound(at.run())
    assert not at.button(key="go_config").disabled


def test_a_stray_caption_is_mended_by_one_click(project: Project) -> None:
    (project.dataset_dir / "02_bus.txt").write_text("a bus")
    at = open_page("captions", project.slug)
    assert at.button(key="go_config").disabled
    sound(next(b for b in at.button if "trigger word first" in b.label).click().run())
    assert _texts(project)["02_bus.png"] == "bluprnt, a bus"


def test_approving_all(project: Project) -> None:
    at = open_page("captions", project.slug)
    sound(at.button(key="approve_all").click().run())
    assert {c.status for c in CaptionStore(project).all().values()} == {"approved"}
    assert not any("Approve the" in label for label in labels(at))


def test_a_bulk_edit_shows_what_it_changes_first(project: Project) -> None:
    at = open_page("captions", project.slug)
    at.session_state["bulk"] = True
    sound(at.run())
    sound(at.text_input(key="bulk_find").input("bus").run())
    sound(at.text_input(key="bulk_text").input("tram").run())
    assert "Changes 1 caption" in texts(at)
    assert _texts(project)["02_bus.png"] == "bluprnt, bus", "nothing changes before it was seen"
    sound(at.button(key="bulk_go").click().run())
    assert _texts(project)["02_bus.png"] == "bluprnt, tram"


def test_tags_filter(project: Project) -> None:
    at = _cards(project)
    at.session_state["tags"] = ["apple"]
    sound(at.run())
    assert "1 of 1" in texts(at)
