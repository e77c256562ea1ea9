"""The set-up page: this computer in words, base models, storage."""

from __future__ import annotations

from pathlib import Path

import pytest

from studio import machine, models
from studio.workspace import Workspace
from tests.pages.app import open_page, sound, tables, texts


def test_the_computer_is_told_in_words() -> None:
    at = open_page("setup")
    assert machine.detect().words in texts(at)
    assert "The pocket model trains in about a minute" in texts(at)
    assert "free on the disk" in texts(at)


def test_engines_are_ready_or_name_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "ready" in texts(open_page("setup"))
    here = machine.detect()
    bare = {k: v for k, v in here.packages.items() if k != "peft"}
    monkeypatch.setattr("studio.machine.detect", lambda: machine.Machine(**{**vars(here), "packages": bare}))
    at = open_page("setup")
    assert "Missing: peft" in texts(at)
    assert any("pip install" in c.value for c in at.code)


def test_the_pocket_model_is_ready_and_others_say_where_they_come_from() -> None:
    told = texts(open_page("setup"))
    assert "Pocket" in told
    assert "Licence" in told
    assert "Get it from" in told


def test_a_path_that_leads_nowhere_is_said(workspace: Workspace) -> None:
    at = open_page("setup")
    at.text_input(key="model_path").set_value("/nowhere/model.safetensors")
    sound(at.form_submit_button[0].click().run())
    assert "There is nothing at" in texts(at)
    at.text_input(key="model_path").set_value("  ")
    sound(at.form_submit_button[0].click().run())
    assert "No path was given" in texts(at)
    assert [m for m in models.list_models(workspace) if m.path] == []


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.safetensors"
    path.write_text("hello")
    at = open_page("setup")
    at.text_input(key="model_path").set_value(str(path))
    sound(at.form_submit_button[0].click().run())
    assert "notes.safetensors" in texts(at)
    assert at.error


def test_storage_names_the_folder(workspace: Workspace) -> None:
    at = open_page("setup")
    assert str(workspace.root) in texts(at)
    assert "Versions" in [e.label for e in at.expander]
    assert "torch" in tables(at)
