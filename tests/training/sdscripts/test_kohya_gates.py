"""Gates 2 to 4 and the launch behind them, for projects that sd-scripts trains. The dry runs and the run are real jobs; the
script is a stand-in that prints what recorded runs printed, or sd-scripts itself when STUDIO_SD_SCRIPTS names it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from studio import choices, environment, files, gates, launch
from studio.errors import GateError
from studio.project import Project
from studio.training.base import TrainingPlan
from studio.training.sdscripts import install
from studio.workspace import Workspace
from tests.training.sdscripts.kohya_project import add_model, kohya_project
from tests.training.sdscripts.sdscripts_small import stand_in
from tests.training.sdscripts.test_kohya_job import PYTHON, SMALL, SOURCE, small_model, until

HERE = {"failed": {}, "torch": "2.13.0", "cuda": False, "versions": {"accelerate": "1.6.0"}}


@pytest.fixture
def answered(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """sd-scripts' Python is not asked what it can import; this is its answer."""
    told: dict[str, Any] = {**HERE, "failed": {}}
    monkeypatch.setattr(install, "probe", lambda _i, _s, _m=(): told)
    return told


def codes(project: Project, gate: gates.GateName) -> set[str]:
    return {f.code for f in gates.run_gate(project, gate).findings if f.severity == "block"}


def test_the_way_through_the_gates(workspace: Workspace, tmp_path: Path, answered: dict[str, Any]) -> None:
    project = kohya_project(workspace, tmp_path, how="oom")
    for gate in gates.GATES[:3]:
        assert codes(project, gate) == set(), gate
    said = gates.run_gate(project, "dry_run")
    assert "graphics card ran out of memory" in said.findings[0].what
    assert "batch" in said.findings[0].fix
    with pytest.raises(GateError) as told:
        launch.start_training(project)
    assert {f.code for f in told.value.findings} >= {"gate-dry_run-blocked"}
    assert not project.runs_dir.exists()

    (tmp_path / "sd" / "how").write_text("")
    said = gates.run_gate(project, "dry_run")
    assert said.passed, said.findings
    assert (
        said.facts["steps_run"] == 4 and said.facts["forecast_seconds"] > 0 and said.facts["peak_bytes"] > 0
    )
    told = (project.records_dir / "config.md").read_text()
    assert f"**Estimated time**: {said.facts['forecast_words']}, from the steps of the dry run" in told
    assert "**Config file**: `records/config/train.toml`, beside it dataset.toml" in told
    told = (project.records_dir / "environment.md").read_text()
    assert str(install.needed(workspace).source) in told and "- **accelerate**: 1.6.0" in told
    scratch = next(iter(project.jobs_dir.glob("dry-run*")))
    assert TrainingPlan.load(scratch).settings == project.settings, (
        "the user's own settings, in a folder of its own"
    )

    gates.require_gates(project)  # what launching asks: all four pass

    # Another sd-scripts may do otherwise: what was checked and tried with the old one says nothing of it.
    other = stand_in(tmp_path / "other")
    install.adopt(workspace, Path(other["source"]), Path(other["python"]))
    now = {g: s.state for g, s in gates.states(project).items()}
    assert now == {"dataset": "passed", "config": "passed", "environment": "stale", "dry_run": "stale"}
    with pytest.raises(GateError, match="not started"):
        launch.start_training(project)


@pytest.mark.parametrize(("change", "stale"), [
    ({"rank": 8}, {"config", "dry_run"}),
    ({"attention": "xformers"}, {"config", "environment", "dry_run"}),
    ({"optimizer": "prodigy", "learning_rate": 1.0}, {"config", "environment", "dry_run"}),
    ({"extra_options": ("scale_weight_norms = 1",)}, {"config", "dry_run"}),
])  # fmt: skip
def test_a_gate_goes_stale_when_what_it_looked_at_changes(
    workspace: Workspace, tmp_path: Path, answered: dict[str, Any], change: dict[str, Any], stale: set[str]
) -> None:
    project = kohya_project(workspace, tmp_path)
    for gate in gates.GATES[:3]:
        gates.run_gate(project, gate)
    mark = gates.current_fingerprint(project, "dry_run")
    gates.save_verdict(project, "dry_run", [], mark, {"seconds_per_step": 1.0})
    assert {s.state for s in gates.states(project).values()} == {"passed"}
    choices.change(project, change)
    assert {g for g, s in gates.states(project).items() if s.state == "stale"} == stale


def test_the_environment_gate_names_every_failure_and_the_command_that_mends_it(
    workspace: Workspace, tmp_path: Path, answered: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    project = kohya_project(workspace, tmp_path, attention="xformers", optimizer="prodigy", learning_rate=1.0)
    asked: list[tuple[str, ...]] = []
    answered["failed"] = {"xformers": "ImportError: no xformers", "accelerate": "ImportError: no accelerate"}
    monkeypatch.setattr(install, "probe", lambda _i, _s, m=(): asked.append(m) or answered)
    monkeypatch.setattr(environment, "DISK_RESERVE", 10**15)
    found = {f.where[0] if f.where else f.code: f for f in gates.run_gate(project, "environment").findings}
    assert set(asked[0]) == {"prodigyopt", "xformers"}
    python = install.needed(workspace).python
    assert found["xformers"].fix == f'Run: "{python}" -m pip install xformers'
    assert "requirements.txt" in found["accelerate"].fix
    assert "Free some room" in found["disk-short"].fix
    monkeypatch.setattr(environment, "DISK_RESERVE", 0)
    answered["failed"] = {}
    assert gates.run_gate(project, "environment").passed, "safe to repeat"
    install.forget(workspace)
    assert gates.state(project, "environment").state == "stale"
    assert codes(project, "environment") >= {"sdscripts-absent"}


def test_a_model_of_several_files_has_to_be_whole(
    workspace: Workspace, tmp_path: Path, answered: dict[str, Any]
) -> None:
    from tests.modelfiles import headers

    place = headers.write(tmp_path / "flux" / "flux1-dev.safetensors", headers.FLUX)
    add_model(workspace, place, "flux", resolution=1024)
    project = kohya_project(workspace, tmp_path, resolution=1024)
    for gate in ("config", "environment"):
        found = {f.code: f for f in gates.run_gate(project, gate).findings}
        assert set(found["model-absent"].where) == {"clip_l", "t5xxl", "ae"}
    headers.write(place.with_name("clip_l.safetensors"), headers.CLIP_L)
    headers.write(place.with_name("t5xxl.safetensors"), headers.T5)
    headers.write(place.with_name("ae.safetensors"), headers.AE)
    assert codes(project, "environment") == set()
    native = gates.native_files(project)
    for part in ("clip_l", "t5xxl", "ae"):
        assert f'{part} = "{place.with_name(part)}.safetensors"' in native["train.toml"]
    before = gates.current_fingerprint(project, "environment")
    headers.write(place.with_name("ae.safetensors"), {**headers.AE, "more": (2, 2)})
    assert gates.current_fingerprint(project, "environment") != before


def test_a_number_changed_in_a_config_of_the_base_model_makes_the_gates_stale(
    workspace: Workspace, tmp_path: Path, answered: dict[str, Any]
) -> None:
    """It changes neither a file's size nor a header: the dry run of before says nothing of such a model."""
    folder = tmp_path / "model"
    for name, text in (("model_index.json", "{}"), ("unet/config.json", '{"out_channels": 4}')):
        files.write_text(folder / name, text)
    add_model(workspace, folder)
    project = kohya_project(workspace, tmp_path)
    before = {g: gates.current_fingerprint(project, g) for g in gates.GATES}
    files.write_text(folder / "unet" / "config.json", '{"out_channels": 8}')
    after = {g: gates.current_fingerprint(project, g) for g in gates.GATES}
    assert [g for g in gates.GATES if before[g] != after[g]] == ["config", "environment", "dry_run"]


def test_an_entry_for_rented_computers_is_not_trained_here(workspace: Workspace, tmp_path: Path) -> None:
    project = kohya_project(workspace, tmp_path)
    project.save_intent(project.intent.model_copy(update={"base_model": "flux"}))
    assert "model-only-rented" in codes(project, "config")


# --- The real thing


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.skipif(
    not (SOURCE and PYTHON), reason="STUDIO_SD_SCRIPTS and STUDIO_SD_SCRIPTS_PYTHON name no sd-scripts"
)
def test_the_gates_with_the_real_scripts(workspace: Workspace, tmp_path: Path) -> None:
    """Set-up, four gates, dry run with a broken model and with a good one, and a run: real steps of the real script."""
    source = tmp_path / "small"
    source.mkdir()
    for name in ("train_network", "sdxl_train_network", "sd3_train_network", "flux_train_network"):
        (source / f"{name}.py").write_text('if __name__ == "__main__":\n' + "".join(f"    {ln}\n" for ln in SMALL.format(real=SOURCE).splitlines()))  # fmt: skip
    model = small_model(tmp_path / "model")
    add_model(workspace, model, "sd15", resolution=128)
    engine = {"source": str(source), "python": PYTHON}
    project = kohya_project(workspace, tmp_path, engine=engine, resolution=128, repeats=1, epochs=1)
    for gate in gates.GATES[:3]:
        said = gates.run_gate(project, gate)
        assert said.passed, (gate, said.findings)
    config = model / "unet" / "config.json"  # its weights do not fit it any more, which no header tells
    whole = config.read_text()
    config.write_text(whole.replace('"out_channels": 4', '"out_channels": 8'))
    gates.run_gate(project, "config")
    gates.run_gate(project, "environment")
    said = gates.run_gate(project, "dry_run")
    assert not said.passed
    assert all(f.what and f.fix and "Traceback" not in f.what + f.why for f in said.findings), said.findings
    config.write_text(whole)
    gates.run_gate(project, "config")
    gates.run_gate(project, "environment")
    said = gates.run_gate(project, "dry_run")
    assert said.passed, said.findings
    assert said.facts["seconds_per_step"] > 0 and said.facts["peak_bytes"] > 10**8
    run = launch.start_training(project)
    until(lambda: not run.job.is_alive, 900)
    assert run.job.state == "finished", run.job.log_tail()
    assert os.path.getsize(run.checkpoints()[-1].path) > 1000
