"""Home: two doors, cards with the next step, delete and its way back."""

from __future__ import annotations

from pathlib import Path

import pytest

from studio import guidance, shelf
from studio.project import Intent, Project, create_project
from studio.workspace import Workspace
from tests.pages import worlds
from tests.pages.app import labels, open_page, sound, texts


@pytest.fixture
def project(workspace: Workspace, tmp_path: Path) -> Project:
    return worlds.project(workspace, worlds.pictures(tmp_path / "in"))


def test_an_empty_workspace_has_two_doors_and_one_primary_button(workspace: Workspace) -> None:
    at = open_page("home")
    assert at.title[0].value == "Teach a model something new"
    assert labels(at)[-2:] == ["Try it with the sample", "Start with my pictures"]
    assert [b.label for b in at.button if b.proto.type == "primary"] == ["Try it with the sample"]


def test_the_sample_door_leads_to_a_project_that_is_ready_for_the_gates(workspace: Workspace) -> None:
    at = open_page("home")
    sound(at.button(key="door_sample_go").click().run())
    (slug,) = workspace.project_slugs()
    assert at.title[0].value == "Dataset"
    assert at.query_params["project"] == slug
    assert {m.label: m.value for m in at.metric}["Captioned"] == "20 of 20"
    assert "Nothing to mend" in "".join(x.proto.title for x in at.success)


def test_the_other_door_leads_to_the_interview(workspace: Workspace) -> None:
    at = open_page("home")
    sound(at.button(key="door_own_go").click().run())
    assert at.title[0].value == "New project"


def test_a_card_says_where_it_stands_and_leads_on(project: Project) -> None:
    guidance.findings(project)
    at = open_page("home")
    assert "0 of 5 steps done, 3 to check · run: not trained yet" in texts(at)
    assert "you were here last" in texts(at)
    sound(at.button(key=f"next_{project.slug}").click().run())
    assert at.title[0].value == "Run"


def test_only_the_project_of_the_last_visit_has_a_primary_button(
    workspace: Workspace, project: Project
) -> None:
    create_project(workspace, Intent(kind="object", name="Other", trigger="othxq"))
    at = open_page("home", project.slug)
    assert [b.key for b in at.button if b.proto.type == "primary"] == [f"next_{project.slug}"]


def test_a_deleted_project_can_be_put_back(workspace: Workspace, project: Project) -> None:
    shelf.delete_project(project)
    at = open_page("home")
    assert at.title[0].value == "Teach a model something new"
    (back,) = [b for b in at.button if b.label == "Put it back"]
    sound(back.click().run())
    assert workspace.project_slugs() == [project.slug]
    assert "is back" in texts(at)
    assert at.title[0].value == "Your projects"


def test_a_name_with_signs_of_markdown_is_shown_as_it_is(workspace: Workspace, tmp_path: Path) -> None:
    odd = create_project(workspace, Intent(kind="style", name="Plans *a* \\", trigger="bluprnt"))
    shown = "Plans \\*a\\* \\\\"
    at = open_page("home")
    assert f"#### {shown}" in [m.value for m in at.markdown]
    shelf.delete_project(odd)
    at = open_page("home")
    assert f"**{shown}** :small" in texts(at)
    sound(next(b for b in at.button if str(b.key).startswith("back_")).click().run())
    assert f"**{shown}** is back." in texts(at)


def test_a_name_that_was_taken_meanwhile_is_told(workspace: Workspace, project: Project) -> None:
    intent = project.intent
    shelf.delete_project(project)
    create_project(workspace, intent)
    at = open_page("home")
    (back,) = [b for b in at.button if b.label == "Put it back"]
    sound(back.click().run())
    assert "cannot be put back" in texts(at)


def test_a_damaged_project_does_not_hide_the_others(workspace: Workspace, project: Project) -> None:
    other = create_project(workspace, Intent(kind="object", name="Other", trigger="othxq"))
    (other.folder / "project.yaml").write_text("kind: nothing", encoding="utf-8")
    at = open_page("home", project.slug)
    assert "cannot be used" in texts(at)
    assert at.button(key=f"next_{project.slug}")
