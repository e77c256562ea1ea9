"""The set-up page: this computer in words, base models, storage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from studio import files, machine, models, secrets
from studio.training.sdscripts import install, options
from studio.workspace import Workspace
from tests.modelfiles import headers
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


def test_the_pocket_model_is_ready_and_others_can_be_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(secrets.HUGGING_FACE, raising=False)
    at = open_page("setup")
    told = texts(at)
    assert "Pocket" in told
    assert "Licence" in told
    assert at.button(key="get_sdxl").label == "Download · 6.9 GB"
    assert "gated_flux-dev" not in [b.key for b in at.button] and "Needs a Hugging Face account" in [
        e.label for e in at.expander
    ]
    assert 'HF_TOKEN = "hf_..."' in told
    monkeypatch.setenv(secrets.HUGGING_FACE, "hf_" + "a" * 30)
    at = open_page("setup")
    assert at.button(key="get_flux-dev").label == "Download · 34.2 GB"
    monkeypatch.setattr(files, "free_bytes", lambda _: 2_000_000_000)
    sound(at.button(key="get_flux-dev").click().run())
    assert "no room for FLUX.1 dev" in texts(at)


def test_what_a_model_lacks_is_on_its_card(workspace: Workspace, tmp_path: Path) -> None:
    (workspace.models_dir).mkdir(parents=True)
    (workspace.models_dir / "sd_xl_base_1.0.safetensors").write_bytes(b"cut off")
    models.add_local_model(workspace, headers.write(tmp_path / "my-flux.safetensors", headers.FLUX))
    at = open_page("setup")
    told = texts(at)
    assert "Another file stands in its place" in told
    assert "my-flux lacks the text encoder CLIP-L" in told
    sound(at.button(key="remove_sdxl").click().run())
    assert "in the trash" in texts(at) and not (workspace.models_dir / "sd_xl_base_1.0.safetensors").exists()
    sound(at.button(key="flash_undo").click().run())
    assert (workspace.models_dir / "sd_xl_base_1.0.safetensors").exists()


def test_sdscripts_is_not_there_ready_or_needs_mending(workspace: Workspace, tmp_path: Path) -> None:
    at = open_page("setup")
    assert at.button(key="sdscripts_install").label.startswith("Install · up to")
    assert "lora-studio setup sd-scripts install" in [c.value for c in at.code]
    folder = tmp_path / "sd-scripts"
    (folder / "venv" / "bin").mkdir(parents=True)
    (folder / "venv" / "bin" / "python").write_text("")
    for script in options.SCRIPTS.values():
        (folder / f"{script}.py").write_text("")
    used = install.adopt(workspace, folder)
    install.checked(workspace, used, [], {"torch": "2.6.0+cu124", "cuda": True, "gpu": "A card"})
    told = texts(open_page("setup"))
    assert "PyTorch 2.6.0+cu124 · A card" in told and str(folder) in told
    install.checked(workspace, used, install.judged(used, {"failed": {"diffusers": "ImportError: x"}}), {})
    told = texts(open_page("setup"))
    assert "cannot load 'diffusers'" in told and "requirements.txt" in told
    (folder / "train_network.py").unlink()
    assert "holds no train_network.py any more" in texts(open_page("setup"))


def test_a_folder_that_is_no_sdscripts_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    at = open_page("setup")
    at.text_input(key="sdscripts_folder").set_value(str(tmp_path))
    sound(at.button(key="sdscripts_adopt").click().run())
    assert "is not a folder of sd-scripts" in texts(at)
    at.text_input(key="sdscripts_source").set_value("http://example.com/x")
    sound(at.button(key="sdscripts_install_other").click().run())
    assert "not https" in texts(at)
    sound(at.button(key="sdscripts_adopt").click().run())
    assert install.current(workspace) is None and not (workspace.root / "jobs").exists()


def _add(at: AppTest) -> Any:
    """The button of the form that adds a base model."""
    return next(b for b in at.form_submit_button if b.label == "Add this model")


def test_a_path_that_leads_nowhere_is_said(workspace: Workspace) -> None:
    at = open_page("setup")
    at.text_input(key="model_path").set_value("/nowhere/model.safetensors")
    sound(_add(at).click().run())
    assert "There is nothing at" in texts(at)
    at.text_input(key="model_path").set_value("  ")
    sound(_add(at).click().run())
    assert "No path was given" in texts(at)
    assert [m for m in models.list_models(workspace) if m.path] == []


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.safetensors"
    path.write_text("hello")
    at = open_page("setup")
    at.text_input(key="model_path").set_value(str(path))
    sound(_add(at).click().run())
    assert "notes.safetensors" in texts(at)
    assert at.error


def test_storage_names_the_folder(workspace: Workspace) -> None:
    at = open_page("setup")
    assert str(workspace.root) in texts(at)
    assert "Versions" in [e.label for e in at.expander]
    assert "torch" in tables(at)
