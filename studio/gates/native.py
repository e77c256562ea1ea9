"""The backend's own config files, as the next run would use them."""

from __future__ import annotations

import shutil
from pathlib import Path

from studio import files
from studio.dataset.scan import scan
from studio.errors import StudioError
from studio.models import get_model
from studio.project import Project
from studio.training.base import PlannedPicture, TrainingPlan
from studio.training.registry import get_backend
from studio.training.sdscripts.parts import parts_of


def native_files(project: Project) -> dict[str, str]:
    """The backend's own config files for the next run, name -> text; {} while there are no pictures. Writes nothing."""
    pictures = [p for p in scan(project).pictures if not p.error]
    if not pictures:
        return {}
    intent, settings = project.intent, project.settings
    entry = get_model(project.workspace, intent.base_model)
    folder = project.runs_dir / "run-next"
    plan = TrainingPlan(
        run_folder=folder,
        model_path=entry.location(project.workspace) or project.workspace.models_dir / entry.id,
        family=entry.family,
        prediction="v_prediction" if entry.prediction == "v_prediction" else "epsilon",
        pictures=tuple(
            PlannedPicture(path=folder / "pictures" / p.name, caption=p.caption, sha256=p.sha256)
            for p in pictures
        ),
        settings=settings,
        trigger=intent.trigger,
        output_name=files.slug(intent.name),
        model_title=entry.title,
        parts=parts_of(entry, project.workspace),
    )
    return get_backend(settings.backend).native_files(plan)


def keep_native_files(project: Project) -> list[Path]:
    """Write them to `records/config/` for people to read, instead of what lay there; where they lie, the main one first.

    [] while there are none to write: no pictures, or settings that the backend cannot express. A run has its own beside it.
    """
    place = project.records_dir / "config"
    try:
        told = native_files(project)
    except StudioError:
        told = {}
    shutil.rmtree(place, ignore_errors=True)
    for name, text in told.items():
        files.write_text(place / Path(name).name, text)
    return [place / Path(name).name for name in told]
