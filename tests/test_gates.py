"""The four gates on real pictures with real jobs."""

from __future__ import annotations

import ast
import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest

from studio import choices, environment, files, gates, launch
from studio.captions.store import CaptionStore
from studio.dataset.set_aside import remove_pictures
from studio.errors import BusyError, EnvironmentalError, GateError, InputError, NotFoundError
from studio.gates import config as gate_config
from studio.machine import Machine, detect
from studio.project import Project
from studio.training import dry_run, prepare
from studio.workspace import Workspace, shipped
from tests.helpers import sample_project
from tests.pages import worlds

ROOT = Path(__file__).resolve().parent.parent


def _states(project: Project) -> list[str]:
    return [s.state for s in gates.states(project).values()]


def test_nothing_starts_before_the_gates(workspace: Workspace) -> None:
    project = sample_project(workspace)
    assert _states(project) == ["missing"] * 4
    with pytest.raises(GateError) as told:
        launch.start_training(project)
    assert [f.code for f in told.value.findings] == [f"gate-{g}-missing" for g in gates.GATES]
    with pytest.raises(GateError):
        gates.start_dry_run(project)
    assert not project.runs_dir.exists() and not project.jobs_dir.exists()
    with pytest.raises(NotFoundError, match="colour"):
        gates.run_gate(project, "colour")  # type: ignore[arg-type]


def test_only_one_place_launches_training() -> None:
    """No other module of the product makes a job of the training kind."""
    found = []
    for path in [*(ROOT / "studio").rglob("*.py"), *(ROOT / "pages").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
                kinds = [ast.unparse(k.value) for k in node.keywords if k.arg == "kind"]
                if (
                    name == "JobSpec"
                    and kinds
                    and kinds[0] in ("KIND", "'training'")
                    and "train" in path.read_text()
                ):
                    found.append(path.relative_to(ROOT).as_posix())
    assert [f for f in found if "evaluation" not in f] == ["studio/launch.py"]


def test_gate_one_refuses_the_planted_flaws_and_passes_after_the_fixes(workspace: Workspace) -> None:
    from studio.dataset.gate import fix_finding
    from studio.dataset.intake import import_pictures

    project = sample_project(workspace, pictures=0)
    import_pictures(project, [shipped("data", "sample_flawed")])
    said = gates.run_gate(project, "dataset")
    assert not said.passed
    blocking = {f.code for f in said.findings if f.severity == "block"}
    assert blocking == {"picture-damaged", "caption-missing", "trigger-missing", "duplicate-exact"}
    near = [f for f in said.findings if "duplicate" in f.code]
    assert near and any("11_house_again.jpg" in f.where for f in near)
    for _ in range(3):
        for f in [
            f for f in gates.run_gate(project, "dataset").findings if f.severity == "block" and f.action
        ]:
            fix_finding(project, f.action, list(f.where))
    store = CaptionStore(project)
    for name, caption in store.all().items():
        if not caption.text.strip():
            store.set(name, "airplane", "person")
    said = gates.run_gate(project, "dataset")
    assert said.passed, said.findings
    assert "GO" in (project.records_dir / "dataset-report.md").read_text()


def test_verdicts_go_stale_with_their_inputs(workspace: Workspace) -> None:
    project = sample_project(workspace)
    for gate in gates.GATES[:3]:
        assert gates.run_gate(project, gate).passed
    assert _states(project) == ["passed", "passed", "passed", "missing"]
    project.save_settings(project.settings.model_copy(update={"rank": 4}))
    assert _states(project)[:3] == ["passed", "stale", "passed"]
    gates.run_gate(project, "config")
    first = next(iter(CaptionStore(project).all()))
    CaptionStore(project).set(first, "bluprnt, something else", "person")
    assert _states(project)[:3] == ["stale", "stale", "passed"]
    gates.run_gate(project, "dataset")
    remove_pictures(project, [first])
    assert _states(project)[0] == "stale"
    # A caption changed by another program counts as well.
    gates.run_gate(project, "dataset")
    second = next(iter(CaptionStore(project).all()))
    (project.dataset_dir / second).with_suffix(".txt").write_text("bluprnt, changed elsewhere")
    assert _states(project)[0] == "stale"
    pages = {
        p: (project.records_dir / p).read_text() for p in ("dataset-report.md", "config.md", "environment.md")
    }
    assert all("GO" in text for text in pages.values())
    for wanted in (
        "**Estimated memory**",
        "**Estimated time**: not measured",
        "about a minute on two CPU cores",
        "records/config/plan.json",
    ):
        assert wanted in pages["config.md"], wanted
    assert (project.records_dir / "config" / "plan.json").is_file()
    for wanted in (
        "**Graphics card**",
        "**PyTorch**",
        "**Training backend**",
        "**Memory**",
        "**Disk**",
        "- **diffusers**",
    ):
        assert wanted in pages["environment.md"], wanted


def test_a_damaged_verdict_counts_as_none(workspace: Workspace) -> None:
    project = sample_project(workspace)
    gates.run_gate(project, "dataset")
    (project.gates_dir / "dataset.json").write_text('{"gate": "dataset", "passed": true}')
    assert _states(project)[0] == "missing"


def test_a_verdict_written_by_hand_does_not_open_the_gate(workspace: Workspace) -> None:
    """The fingerprint must fit the inputs; saying "passed" is not enough."""
    project = sample_project(workspace)
    files.write_json(
        project.gates_dir / "dataset.json",
        {
            "gate": "dataset",
            "passed": True,
            "findings": [],
            "fingerprint": "0" * 16,
            "at": files.now(),
            "facts": {},
        },
    )
    assert _states(project)[0] == "stale"


def _with_memory(monkeypatch: pytest.MonkeyPatch, ram_bytes: int) -> None:
    small: Machine = dataclasses.replace(detect(), ram_bytes=ram_bytes)
    monkeypatch.setattr("studio.machine.detect", lambda: small)


def test_the_batch_is_reduced_with_a_message(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    project = sample_project(workspace, batch_size=16)
    need = gates.forecast(project, project.settings.model_copy(update={"batch_size": 8})).memory_bytes
    _with_memory(monkeypatch, int(need / 0.8) + 1000)
    said = gates.run_gate(project, "config")
    assert said.passed and "batch-reduced" in [f.code for f in said.findings]
    assert (project.settings.batch_size, project.settings.gradient_accumulation) == (8, 2)
    assert gates.state(project, "config").state == "passed", (
        "the reduced settings are what the verdict is about"
    )


@pytest.mark.parametrize(("batch", "accumulation", "words"), [
    (64, 1, "A batch of 64 is never full: no bucket shows more than"),
    (4, 64, "One step takes 256 pictures, and an epoch shows"),
    (4, 1, ""),
])  # fmt: skip
def test_a_batch_larger_than_the_dataset_is_told(
    workspace: Workspace, tmp_path: Path, batch: int, accumulation: int, words: str
) -> None:
    project = worlds.project(workspace, worlds.pictures(tmp_path / "in"))
    choices.change(project, {"batch_size": batch, "gradient_accumulation": accumulation, "repeats": 4})
    said = gates.run_gate(project, "config")
    told = [f for f in said.findings if f.code == "config-batch-large"]
    assert [words in f.what for f in told] == ([True] if words else [])


def test_too_little_memory_blocks(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    project = sample_project(workspace)
    _with_memory(monkeypatch, 200_000_000)
    said = gates.run_gate(project, "config")
    assert not said.passed and [f.code for f in said.findings if f.severity == "block"] == ["memory-short"]


def test_settings_never_chosen_come_from_the_standard_preset(workspace: Workspace) -> None:
    project = sample_project(workspace)
    (project.folder / "settings.yaml").unlink()
    said = gates.run_gate(project, "config")
    assert said.passed and "settings-from-preset" in [f.code for f in said.findings]
    assert project.preset == "pocket-standard" and project.settings.resolution == 64
    assert "settings-from-preset" not in [f.code for f in gates.run_gate(project, "config").findings]


def test_an_absent_base_model_blocks_the_environment(workspace: Workspace) -> None:
    project = sample_project(workspace)
    project.save_intent(project.intent.model_copy(update={"base_model": "sd15"}))
    said = gates.run_gate(project, "environment")
    absent = [f for f in said.findings if f.code == "model-absent"]
    assert not said.passed and "v1-5-pruned-emaonly.safetensors" in absent[0].fix + absent[0].why


@pytest.mark.slow
def test_a_base_model_that_does_not_load_fails_the_dry_run_in_words(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its headers may look right, and the gates before the dry run read no more."""
    for asks in (environment, prepare, gate_config):
        monkeypatch.setattr(asks, "file_findings", lambda _w, _e: [])
    broken = tmp_path / "broken"
    shutil.copytree(shipped("data", "pocket"), broken)
    weights = broken / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100_000])
    pocket = files.read_yaml(shipped("data", "models.yaml"))["models"][0]
    files.write_yaml(
        workspace.models_dir / "models.yaml",
        {"models": [{**pocket, "id": "broken", "embedded": False, "path": str(broken)}]},
    )
    project = sample_project(workspace)
    project.save_intent(project.intent.model_copy(update={"base_model": "broken"}))
    for gate in gates.GATES[:3]:
        assert gates.run_gate(project, gate).passed
    said = gates.run_gate(project, "dry_run")
    finding = next(f for f in said.findings if f.severity == "block")
    assert not said.passed and finding.fix and "Traceback" not in finding.what + finding.why
    with pytest.raises(GateError):
        launch.start_training(project)


@pytest.mark.slow
def test_the_way_through_the_gates_and_a_run(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    project = sample_project(workspace, epochs=400, save_every_epochs=100)
    for gate in gates.GATES:
        assert gates.run_gate(project, gate).passed, gate
    facts = gates.measured(project)
    assert (
        facts["seconds_per_step"] > 0 and facts["peak_bytes"] > 100_000_000 and 2 <= facts["steps_run"] <= 5
    )
    assert gates.forecast(project).basis == "measured"
    with monkeypatch.context() as m:
        m.setattr(files, "free_bytes", lambda _p: 1000)
        with pytest.raises(EnvironmentalError, match=r"(?s)free on the disk.*500 MB have to stay free"):
            launch.start_training(project)
    run = launch.start_training(project)
    with pytest.raises(BusyError, match="Another training"):
        launch.start_training(project)
    with pytest.raises(InputError, match="cannot be resumed"):
        launch.resume_run(project, run.id)
    while run.job.is_alive and not any(e["type"] == "step" and e["step"] >= 3 for e in run.events()[0]):
        run.job.wait(timeout=0.2)
    launch.stop_run(run)
    assert run.job.wait(timeout=300) == "stopped", run.job.log_tail()
    reached = max(e["step"] for e in run.events()[0] if e["type"] == "step")
    assert 3 <= reached < 800
    # Going on with it is tried in test_training_job and in the browser.
    launch.write_records(project, run)
    assert "STOPPED" in (project.records_dir / "progress.md").read_text()


@pytest.mark.slow
def test_what_changes_during_the_dry_run_makes_it_stale(workspace: Workspace) -> None:
    project = sample_project(workspace)
    for gate in gates.GATES[:3]:
        gates.run_gate(project, gate)
    job = gates.start_dry_run(project)
    assert gates.state(project, "dry_run").state == "running"
    with pytest.raises(BusyError):
        gates.start_dry_run(project)
    project.save_settings(project.settings.model_copy(update={"rank": 4}))
    job.wait(timeout=dry_run.LIMIT_SECONDS)
    assert gates.state(project, "dry_run").state == "stale"


@pytest.mark.parametrize("change", [{"rank": 3}, {"extra_options": ("loss_type = huber",)}])
def test_a_config_changed_while_the_run_is_being_frozen_is_not_trained(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, object]
) -> None:
    """As by the command line in the same moment: the gates had passed, and what was frozen is something else."""
    project = worlds.project(workspace, worlds.pictures(tmp_path / "in"))
    worlds.pass_gates(project, monkeypatch)
    gates.require_gates(project)
    freeze = launch.freeze

    def slow(*told: Any, **more: Any) -> Any:
        choices.change(project, change)
        return freeze(*told, **more)

    monkeypatch.setattr(launch, "freeze", slow)
    with pytest.raises(GateError, match="changed at this very moment"):
        launch.start_training(project)
    assert list(project.runs_dir.iterdir()) == []
