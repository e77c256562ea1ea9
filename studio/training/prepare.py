"""Freezing a project into a training plan: pictures, captions, settings and base model as they are now."""

from __future__ import annotations

import os
from pathlib import Path

from studio import files
from studio.captions.store import CaptionStore
from studio.dataset.origins import picture_repeats, regularisation_pictures
from studio.dataset.scan import scan
from studio.dataset.subsets import taught_caption
from studio.errors import EnvironmentalError, InputError
from studio.findings import blocking
from studio.models import BaseModelEntry, file_findings, model_fingerprint
from studio.project import Project
from studio.training.base import PlannedPicture, TrainingPlan
from studio.training.registry import get_backend
from studio.training.sdscripts.parts import parts_of

PICTURES = "pictures"


def freeze(
    project: Project, entry: BaseModelEntry, folder: Path, *, output_name: str, limit_steps: int | None = None
) -> TrainingPlan:
    """Write `folder/plan.json` and the pictures it names; the plan.

    The pictures are hard links where the disk allows (no room is used; the studio never writes into a picture, it
    only replaces files), else copies: a resumed run finds what it started with, whatever happened to the dataset.
    Raises InputError without pictures, or when a file of the base model is not what it should be; EnvironmentalError when
    the base model is not here.
    """
    place = entry.location(project.workspace)
    if place is None:
        raise EnvironmentalError(
            f"The base model {entry.title} is not on this computer.",
            "Its files were not found.",
            "See the environment gate.",
        )
    wrong = blocking(file_findings(project.workspace, entry))
    if wrong:
        raise InputError(wrong[0].what, wrong[0].why, wrong[0].fix, wrong if len(wrong) > 1 else None)
    pictures = taught(project)
    if not pictures:
        raise InputError(
            "There are no pictures to train on.", "The dataset is empty.", "Add pictures on the dataset page."
        )
    if all(p.regularisation for p in pictures):
        raise InputError(
            "There are no pictures to train on.",
            "All of them are marked as regularisation pictures, which teach nothing.",
            "Take the mark off the pictures that show what you teach.",
        )
    frozen = folder / PICTURES
    frozen.mkdir(parents=True, exist_ok=True)
    planned = []
    for p in pictures:
        target = frozen / p.path.name
        _link(p.path, target)
        planned.append(p.model_copy(update={"path": target}))
    intent = project.intent
    plan = TrainingPlan(
        run_folder=folder,
        model_path=place,
        family=entry.family,
        prediction="v_prediction" if entry.prediction == "v_prediction" else "epsilon",
        pictures=tuple(planned),
        settings=project.settings,
        trigger=intent.trigger,
        output_name=output_name,
        limit_steps=limit_steps,
        cache_dir=project.cache_dir / "latents",
        model_title=entry.title,
        model_hash=model_fingerprint(place),
        engine=_engine(project),
        parts=parts_of(entry, project.workspace),
        metadata={"studio_project": project.slug, "studio_kind": intent.kind},
    )
    plan.save()
    return plan


def taught(project: Project) -> list[PlannedPicture]:
    """The pictures of a project as a run would be taught them now, where they lie in the dataset; those that do not open are
    left out."""
    captions = CaptionStore(project).all()
    repeats, extra = picture_repeats(project), regularisation_pictures(project)
    found = []
    for p in scan(project).pictures:
        if p.error:
            continue
        caption = captions[p.name].text if p.name in captions else ""
        found.append(
            PlannedPicture(
                path=project.dataset_dir / p.name,
                caption=taught_caption(caption, project.intent.trigger, p.name in extra),
                sha256=p.sha256,
                repeats=repeats.get(p.name, 1),
                regularisation=p.name in extra,
            )
        )
    return found


def _engine(project: Project) -> dict[str, str]:
    where = getattr(get_backend(project.settings.backend), "engine", None)
    return dict(where(project.workspace)) if where else {}


def _link(source: Path, target: Path) -> None:
    if target.exists():
        return
    try:
        os.link(source, target)
    except OSError:  # another disk, or a file system without links
        files.copy_atomic(source, target)
