"""What tests build projects with: the shipped pictures, the built-in model, real jobs."""

from __future__ import annotations

from typing import Any

from studio.dataset.intake import import_pictures
from studio.machine import detect
from studio.models import get_model
from studio.presets import fill, get_preset
from studio.project import Intent, Project, create_project
from studio.settings import parse_settings
from studio.workspace import Workspace, shipped

TINY = {
    "epochs": 2,
    "repeats": 1,
    "batch_size": 4,
    "sample_every_epochs": 0,
    "save_every_epochs": 1,
    "warmup": 0.0,
}
"""Settings of a run of a few seconds: two epochs of a few steps."""


def sample_project(
    workspace: Workspace, *, pictures: int = 8, name: str = "Blue print", **settings: Any
) -> Project:
    """A project of the built-in model with the first `pictures` sample pictures; settings on top of TINY."""
    project = create_project(
        workspace, Intent(kind="style", name=name, trigger="bluprnt", base_model="pocket")
    )
    chosen = sorted(shipped("data", "sample").glob("*.png"))[:pictures]
    report = import_pictures(project, chosen)
    assert len(report.added) == pictures, report
    entry = get_model(workspace, "pocket")
    base = fill(get_preset(workspace, "pocket-standard"), entry, pictures, detect())
    project.save_settings(
        parse_settings({**base.model_dump(mode="json"), **TINY, **settings}), "pocket-standard"
    )
    return project
