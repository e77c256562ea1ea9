"""The real thing: the built-in model is taught the sample's style too little, right, and far too fast; the verdicts differ."""

from __future__ import annotations

from pathlib import Path

import pytest

from studio import choices, files, models
from studio.captions.store import CaptionStore
from studio.dataset.intake import import_pictures
from studio.evaluation.grid import grid_lora, plan_grid
from studio.evaluation.sweet_spot import find_sweet_spot
from studio.evaluation.workers import render
from studio.jobs.job import JobSpec
from studio.jobs.launch import launch
from studio.project import Intent, Project, create_project
from studio.training.prepare import freeze
from studio.training.registry import get_backend
from studio.workspace import Workspace, shipped


def taught(project: Project, name: str, rate: float, epochs: int) -> dict[int, Path]:
    """Train for real; the checkpoints by epoch of 13 steps."""
    settings = project.settings.model_copy(
        update={
            "learning_rate": rate,
            "epochs": epochs,
            "scheduler": "constant_with_warmup",
            "save_every_epochs": 1,
            "sample_every_epochs": 0,
        }
    )
    project.save_settings(settings)
    folder = project.runs_dir / name
    entry = models.get_model(project.workspace, "pocket")
    plan = freeze(project, entry, folder, output_name=name)
    backend = get_backend(settings.backend)
    job = launch(folder, JobSpec("training", name, backend.command(plan), project=project.slug))
    assert job.wait(600) == "finished", job.log_tail()
    return {c.epoch: c.path for c in backend.checkpoints(folder) if c.epoch}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_too_little_right_and_too_much_are_told_apart(workspace: Workspace) -> None:
    project = create_project(
        workspace, Intent(kind="style", name="Three ways", trigger="bluprnt", base_model="pocket")
    )
    import_pictures(project, [shipped("data", "sample")])
    CaptionStore(project).all()
    choices.choose_preset(project, "pocket-standard")
    calm, rushed = taught(project, "calm", 1e-3, 8), taught(project, "rushed", 1e-2, 4)
    spec = plan_grid(
        project,
        lora_files=[grid_lora(calm[1], "little"), grid_lora(calm[8], "right"), grid_lora(rushed[4], "much")],
        weights=(0.3, 0.5, 0.7, 1.0),
        prompts=[f"bluprnt, {s}" for s in ("dog", "robot", "umbrella", "sunflower")],
    )
    folder = project.grids_dir / spec.id
    files.write_text(folder / "grid.json", spec.model_dump_json())
    render.main(folder)
    metrics = files.read_json(folder / "metrics.json")
    assert isinstance(metrics, dict)
    verdicts = {
        label: find_sweet_spot(
            {**metrics, "weights": [w for w in metrics["weights"] if w["checkpoint"] == label]}
        )
        for label in ("little", "right", "much")
    }
    told = {label: (v.state, v.weight) for label, v in verdicts.items()}
    assert [state for state, _weight in told.values()] == ["undertrained", "found", "overdone"], told
    weight = verdicts["right"].weight
    assert weight is not None and 0.5 <= weight <= 0.95
    assert find_sweet_spot(metrics).checkpoint == "right"
