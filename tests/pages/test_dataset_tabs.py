"""The tabs duplicates, variety and buckets of the dataset page."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

from studio.dataset.folder import look
from studio.dataset.origins import picture_repeats, regularisation_pictures
from studio.project import Project
from studio.workspace import Workspace
from tests.dataset.pictures import scene
from tests.pages import worlds
from tests.pages.app import labels, open_page, sound, texts


@pytest.fixture
def project(workspace: Workspace, tmp_path: Path) -> Project:
    """Eight pictures; two of them once more in half the size."""
    made = worlds.project(workspace, worlds.pictures(tmp_path / "in"))
    for i in (1, 2):
        scene(i, (320, 240)).save(made.dataset_dir / f"scene{i}.png")
        scene(i, (320, 240)).resize((160, 120)).save(made.dataset_dir / f"small{i}.png")
    Image.blend(scene(1, (320, 240)), scene(9, (320, 240)), 0.33).save(made.dataset_dir / "alike.png")
    return made


def view(project: Project, name: str) -> AppTest:
    at = open_page("dataset", project.slug)
    at.session_state["dataset_view"] = name
    return sound(at.run())


def names(project: Project) -> set[str]:
    return set(look(project.dataset_dir).pictures)


def test_one_click_keeps_the_best_of_all_and_is_undone(project: Project) -> None:
    before = names(project)
    at = view(project, "Duplicates")
    assert "Nearly the same" in texts(at) and "suggested: largest, 320 x 240" in texts(at)
    sound(at.button(key="keep_all_best").click().run())
    assert before - names(project) == {"small1.png", "small2.png"}
    sound(at.button(key="flash_undo").click().run())
    assert names(project) == before


def test_what_is_called_different_does_not_come_back(project: Project) -> None:
    at = view(project, "Duplicates")
    sound(at.button(key="apart_scene1.png").click().run())
    assert "scene1.png" not in [str(b.key).removeprefix("apart_") for b in at.button]
    assert len([b for b in at.button if str(b.key).startswith("apart_")]) == 1
    sound(at.button(key="ask_again").click().run())
    assert len([b for b in at.button if str(b.key).startswith("apart_")]) == 2


def test_variety_says_why_and_sets_aside(project: Project) -> None:
    before = names(project)
    at = view(project, "Variety")
    said = texts(at)
    assert "Content and style" in said and "Variety of contents" in said and "Deep look" in said
    assert "None of" not in said and "cannot know" in str(labels(at) + [e.label for e in at.expander])
    at.slider(key="subset_size").set_value(8)
    sound(at.run())
    sound(at.button(key="apply_subset").click().run())
    assert len(names(project)) == 8
    sound(at.button(key="flash_undo").click().run())
    assert names(project) == before


def test_regularisation_and_repeats_are_set_by_name(project: Project) -> None:
    at = view(project, "Variety")
    sound(at.text_input(key="subset_names").input("SMALL*").run())
    assert "2 pictures of 13 fit." in texts(at)
    sound(at.button(key="mark_reg").click().run())
    assert regularisation_pictures(project) == {"small1.png", "small2.png"}
    at.number_input(key="own_repeats").set_value(4)
    sound(at.run())
    sound(at.button(key="set_repeats").click().run())
    assert picture_repeats(project) == {"small1.png": 4, "small2.png": 4}


def test_buckets_count_steps_and_put_the_most_cropped_first(project: Project) -> None:
    at = view(project, "Buckets")
    told = {m.label: m.value for m in at.metric}
    assert int(told["Steps per epoch"]) >= 1 and " of " in told["Batches not full"]
    assert "The most cropped first" in texts(at)
    sound(at.selectbox(key="bucket").select_index(1).run())


def test_a_set_of_one_picture_is_no_fault(workspace: Workspace, tmp_path: Path) -> None:
    made = worlds.project(workspace, worlds.pictures(tmp_path / "in"))
    for path in sorted(made.dataset_dir.glob("*.png"))[1:]:
        path.unlink()
    for name in ("Duplicates", "Variety", "Buckets"):
        view(made, name)
    assert "from two training pictures on" in texts(view(made, "Variety"))
