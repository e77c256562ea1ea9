"""Exporting from the dataset page: a job, its result with the path, and never over anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from studio.dataset.exporting import free_target, last_export, start_export
from studio.errors import InputError
from studio.project import Project
from studio.workspace import Workspace
from tests.pages import worlds
from tests.pages.app import open_page, sound, texts


@pytest.fixture
def project(workspace: Workspace, tmp_path: Path) -> Project:
    return worlds.project(workspace, worlds.pictures(tmp_path / "in"), preset=False)


def test_exported_from_the_page_and_again(project: Project, tmp_path: Path) -> None:
    at = open_page("dataset", project.slug)
    at.session_state["export_box"] = True
    sound(at.run())
    sound(at.text_input(key="export_target").input("here").run())
    sound(at.button(key="export_go").click().run())
    assert "does not say in which folder" in texts(at) and last_export(project) is None
    sound(at.text_input(key="export_target").input(str(project.folder / "x")).run())
    sound(at.button(key="export_go").click().run())
    assert "inside the project" in texts(at) and last_export(project) is None

    target = tmp_path / "out" / "mine"
    sound(at.text_input(key="export_target").input(str(target)).run())
    sound(at.button(key="export_go").click().run())
    job = last_export(project)
    assert job is not None
    assert job.wait(60) == "finished", job.error
    sound(at.run())
    assert "8 pictures with 8 captions exported" in texts(at)
    assert str(target) in [c.value for c in at.code]
    assert (
        len(list((target / "img" / "1_bluprnt").glob("*.png"))) == 8 and (target / "dataset.toml").is_file()
    )
    before = {p: p.read_bytes() for p in target.rglob("*") if p.is_file()}
    sound(at.text_input(key="export_target").input(str(target)).run())
    sound(at.button(key="export_go").click().run())
    assert "exists already" in texts(at) and "mine-2" in texts(at)
    assert last_export(project).id == job.id  # type: ignore[union-attr]
    assert {p: p.read_bytes() for p in target.rglob("*") if p.is_file()} == before


def test_a_free_place_is_proposed_and_a_stopped_export_leaves_nothing(
    project: Project, tmp_path: Path
) -> None:
    first = free_target(project, packed=True)
    assert first == project.workspace.root / "exports" / "blueprint.zip"
    first.parent.mkdir()
    first.write_bytes(b"mine")
    assert free_target(project, packed=True).name == "blueprint-2.zip"
    with pytest.raises(InputError, match="exists already"):
        start_export(project, first)
    assert last_export(project) is None and first.read_bytes() == b"mine"
