from __future__ import annotations

from pathlib import Path

import pytest

from studio.errors import InputError, NotFoundError
from studio.project import Intent, create_project, open_project, propose_trigger, trigger_problems
from studio.workspace import Workspace


def _intent(name: str = "Blue print", trigger: str = "bluprnt") -> Intent:
    return Intent(kind="style", name=name, trigger=trigger)


def test_two_projects_of_one_name_get_two_folders(workspace: Workspace) -> None:
    first, second = create_project(workspace, _intent()), create_project(workspace, _intent())
    assert (first.slug, second.slug) == ("blue-print", "blue-print-2")
    assert workspace.preferences()["last_project"] == "blue-print-2"


def test_what_was_decided_is_on_disk(workspace: Workspace) -> None:
    project = create_project(workspace, _intent())
    project.save_settings(project.settings.model_copy(update={"rank": 12}), "mine")
    again = open_project(workspace, project.slug)
    assert (again.settings.rank, again.preset, again.intent.trigger) == (12, "mine", "bluprnt")
    assert again.history()[0]["what"] == "project created"


def test_unknown_projects_are_answered_with_the_known(workspace: Workspace) -> None:
    create_project(workspace, _intent())
    with pytest.raises(NotFoundError) as told:
        open_project(workspace, "red-print")
    assert "blue-print" in told.value.fix
    for bad in ("../x", "", "A B"):
        with pytest.raises(InputError):
            open_project(workspace, bad)


def test_a_damaged_file_is_named(workspace: Workspace) -> None:
    project = create_project(workspace, _intent())
    (project.folder / "project.yaml").write_text("kind: song\n")
    with pytest.raises(InputError, match=r"project\.yaml"):
        _ = project.intent
    (project.folder / "settings.yaml").write_text("settings: {rank: 0}\n")
    with pytest.raises(InputError) as told:
        _ = project.settings
    assert told.value.findings[0].where == ("rank",)


@pytest.mark.parametrize(
    ("trigger", "code"),
    [
        ("", "trigger-empty"),
        ("a,b", "trigger-characters"),
        ("(x)", "trigger-characters"),
        ("cat", "trigger-common"),
        ("x" * 41, "trigger-long"),
        ("my style", "trigger-spaces"),
        ("abc", "trigger-short"),
        (" mira", "trigger-characters"),
    ],
)
def test_trigger_words_that_would_not_work(trigger: str, code: str) -> None:
    assert [f.code for f in trigger_problems(trigger)] == [code]


@pytest.mark.parametrize("name", ["Watercolour cats", "Cat", "絵", "Mira", "!!", "a house"])
def test_proposed_triggers_are_accepted(name: str) -> None:
    assert trigger_problems(propose_trigger(name)) == []


def test_trash_gives_back(workspace: Workspace) -> None:
    project = create_project(workspace, _intent())
    trashed = workspace.to_trash(project.folder)
    assert workspace.project_slugs() == []
    workspace.put_back(trashed)
    assert workspace.project_slugs() == [project.slug]
    with pytest.raises(ValueError, match="subpath"):
        workspace.to_trash(Path("/etc"))
