"""Jobs, runs and grids by what a person types: the whole id, its end, or "latest"."""

from __future__ import annotations

import pytest

from studio.cli.jobs import _one
from studio.errors import InputError, NotFoundError
from studio.project import Intent, Project, create_project
from studio.workspace import Workspace

IDS = ["run-20261121-120000-a1b2", "run-20261120-120000-c3d4", "run-20261119-110000-c3d4"]  # newest first


@pytest.fixture
def project(workspace: Workspace) -> Project:
    return create_project(
        workspace, Intent(kind="style", name="Names", trigger="nmsxq", base_model="pocket", description="")
    )


@pytest.mark.parametrize(
    ("typed", "meant"),
    [(IDS[1], IDS[1]), ("a1b2", IDS[0]), ("120000-c3d4", IDS[1]), ("latest", IDS[0])],
)
def test_one_is_found(project: Project, typed: str, meant: str) -> None:
    assert _one(IDS, typed, project, "run", "Train.") == meant


@pytest.mark.parametrize("typed", ["1b2", "", "nothing-like-it", "run-2026", "latest!", "../a1b2"])
def test_none_is_said_with_those_that_exist(project: Project, typed: str) -> None:
    with pytest.raises(NotFoundError) as told:
        _one(IDS, typed, project, "run", "Train.")
    assert IDS[0] in told.value.why and "'latest'" in told.value.fix


def test_several_are_named(project: Project) -> None:
    with pytest.raises(InputError) as told:
        _one(IDS, "c3d4", project, "run", "Train.")
    assert IDS[1] in told.value.why and IDS[2] in told.value.why


def test_without_any_it_says_how_to_get_one(project: Project) -> None:
    for typed in ("latest", "a1b2"):
        with pytest.raises(NotFoundError) as told:
            _one([], typed, project, "grid", "Draw one.")
        assert told.value.fix == "Draw one."
