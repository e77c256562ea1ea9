"""Two runs side by side."""

from __future__ import annotations

from pathlib import Path

import pytest

from studio import choices, compare, files
from studio.project import Project
from studio.training.runs import MANIFEST, list_runs
from studio.workspace import Workspace
from tests.pages import worlds


@pytest.fixture
def project(workspace: Workspace, tmp_path: Path) -> Project:
    return worlds.project(workspace, worlds.pictures(tmp_path / "in"))


def test_differences_name_settings_pictures_model_and_versions(project: Project) -> None:
    first = worlds.run(project, run_id="run-1")
    choices.change(project, {"epochs": 7, "flip": True})
    second = worlds.run(project, run_id="run-2")
    manifest = files.read_json(second.folder / MANIFEST)
    manifest["machine"]["packages"]["torch"] = "9.9"
    manifest["dataset"]["fingerprint"] = "other"
    manifest["base_model"] = {"id": "x", "title": "Another", "fingerprint": "b2"}
    files.write_json(second.folder / MANIFEST, manifest)
    second = list_runs(project)[0]
    found = {d.what: (d.before, d.after) for d in compare.differences(first, second)}
    assert found["Epochs"] == ("5", "7")
    assert found["Mirror pictures"] == ("off", "on")
    assert found["Base model"] == ("Pocket (built in)", "Another")
    assert found["Pictures and captions"] == ("as they were", "changed")
    assert found["Version of torch"][1] == "9.9"


def test_a_base_model_whose_files_changed_is_not_called_the_same(project: Project) -> None:
    first, second = worlds.run(project, run_id="run-1"), worlds.run(project, run_id="run-2")
    manifest = files.read_json(second.folder / MANIFEST)
    manifest["base_model"]["fingerprint"] = "b2"
    files.write_json(second.folder / MANIFEST, manifest)
    assert compare.differences(first, list_runs(project)[0]) == [
        compare.Difference("Base model", "as it was", "its files changed")
    ]


def test_the_same_run_twice_has_no_differences(project: Project) -> None:
    first, second = worlds.run(project, run_id="run-1"), worlds.run(project, run_id="run-2")
    assert compare.differences(first, second) == []
    assert compare.previous(second, list_runs(project)) == first
    assert compare.previous(first, list_runs(project)) is None


def test_outcome_of_a_run(project: Project) -> None:
    told = compare.outcome(worlds.run(project))
    assert (told.steps, told.total_steps, told.checkpoints, told.seconds) == (65, 65, 5, 26.0)
    assert told.first_loss is not None
    assert told.last_loss is not None
    assert told.last_loss < told.first_loss


def test_a_run_without_steps_has_no_losses(project: Project) -> None:
    told = compare.outcome(worlds.run(project, state="failed", steps=0))
    assert (told.steps, told.first_loss, told.last_loss, told.checkpoints) == (0, None, None, 0)


def test_the_newest_run_with_a_checkpoint(project: Project) -> None:
    assert compare.newest_trained([]) is None
    worlds.run(project, run_id="run-1")
    worlds.run(project, run_id="run-2", state="failed", steps=3)
    found = compare.newest_trained(list_runs(project))
    assert found is not None
    assert found.id == "run-1"


def test_running_again_tells_first_what_is_different(project: Project) -> None:
    run = worlds.run(project, run_id="run-1")
    choices.change(project, {"epochs": 7})
    manifest = files.read_json(run.folder / MANIFEST)
    manifest["dataset"] = {"fingerprint": "other", "pictures": 99}
    manifest["machine"]["packages"]["torch"] = "9.9"
    manifest["engine"] = {"commit": "0123456789abcdef"}
    manifest["intent"]["trigger"] = "oldword"
    files.write_json(run.folder / MANIFEST, manifest)
    again = list_runs(project)[0]
    found = {d.what: (d.before, d.after) for d in compare.since(again, project)}
    assert found["Pictures"][0] == "99"
    assert found["Version of torch"][0] == "9.9"
    assert found["Version of the engine"] == ("0123456789ab", "none")
    assert found["Trigger word"] == ("oldword", project.intent.trigger)
    assert "Epochs" not in found, "settings are brought back"
    compare.bring_back(again, project)
    assert project.settings == again.settings
    assert project.history()[-1]["what"] == "run again"


def test_the_progress_page_tells_reductions_and_memory(project: Project) -> None:
    from studio import launch
    from studio.training import recovery

    run = worlds.run(project, run_id="run-1")
    files.write_json(
        run.folder / recovery.FILE, {"halvings": [{"batch": [4, 2], "accumulation": [1, 2], "step": 7}]}
    )
    launch.write_records(project, run)
    text = (project.records_dir / "progress.md").read_text()
    assert "reduced for lack of memory**: once" in text
    assert "Memory ran out at step 8: the batch went from 4 to 2" in text
    assert "Most memory in use" in text


def test_a_changed_model_and_a_changed_dataset_are_named_picture_by_picture(
    project: Project, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The frozen run against what lies on the disk now: nothing is made up in the manifest."""
    from PIL import Image

    from studio.captions.store import CaptionStore
    from studio.dataset.gate import dataset_fingerprint
    from studio.models import model_fingerprint
    from studio.workspace import shipped

    run = worlds.run(project, run_id="run-1")
    manifest = files.read_json(run.folder / MANIFEST)
    model = workspace.root / "model.safetensors"
    model.write_bytes(next((shipped("data", "pocket") / "vae").glob("*.safetensors")).read_bytes())
    manifest["dataset"]["fingerprint"] = dataset_fingerprint(project)
    manifest["base_model"]["fingerprint"] = model_fingerprint(model)
    files.write_json(run.folder / MANIFEST, manifest)
    again = list_runs(project)[0]
    entry = choices.entry_of(project)
    monkeypatch.setattr(compare, "get_model", lambda *_: entry)
    monkeypatch.setattr(type(entry), "location", lambda *_: model)
    assert compare.since(again, project) == []
    names = sorted(p.name for p in project.dataset_dir.glob("*.png"))
    Image.new("RGB", (96, 96), "red").save(project.dataset_dir / names[0])
    Image.new("RGB", (96, 96), "green").save(project.dataset_dir / "new.png")
    (project.dataset_dir / names[1]).unlink()
    store = CaptionStore(project)
    (project.dataset_dir / names[2]).with_suffix(".txt").write_text("bluprnt, other words", encoding="utf-8")
    store.all()
    with model.open("r+b") as f:  # one weight at its end, the size as it was
        f.seek(-4, 2)
        f.write(b"\x01\x02\x03\x04")
    found = {d.what: (d.before, d.after) for d in compare.since(again, project)}
    assert found["Base model"] == ("as it was", "its files changed")
    assert found["Pictures with another content"][1] == names[0]
    assert (found["Pictures added"][1], found["Pictures removed"][1]) == ("new.png", names[1])
    assert found["Captions"][1] == names[2]
