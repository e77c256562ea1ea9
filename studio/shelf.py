"""Projects as things: the sample project, deleting one, and getting it back."""

from __future__ import annotations

from pathlib import Path

from studio import files, presets
from studio.dataset.intake import import_pictures
from studio.dataset.scan import scan
from studio.errors import BusyError, EnvironmentalError
from studio.jobs.job import active_jobs
from studio.machine import detect
from studio.models import get_model
from studio.project import Intent, Project, create_project, open_project
from studio.workspace import Trashed, Workspace, shipped

SAMPLE_NAME = "Sample blueprint"
SAMPLE_TRIGGER = "bluprnt"
SAMPLE_PRESET = "pocket-standard"


def sample_project(workspace: Workspace) -> Project:
    """A new project with the sample pictures, their captions and a preset: everything up to the gates is ready.

    Raises EnvironmentalError when the sample is not there or the disk refuses.
    """
    source = shipped("data", "sample")
    if not source.is_dir():
        raise EnvironmentalError(
            "The sample pictures are not here.",
            f"There is no {source}.",
            "Get the studio's files again, whole.",
        )
    project = create_project(
        workspace,
        Intent(
            kind="style",
            name=SAMPLE_NAME,
            trigger=SAMPLE_TRIGGER,
            description="White lines on blue, as on an old plan.",
            base_model="pocket",
            notes="Twenty different things in one style, so that the model can tell the style from the things.",
        ),
    )
    import_pictures(project, [source])
    count = len(scan(project))
    preset = presets.get_preset(workspace, SAMPLE_PRESET)
    entry = get_model(workspace, "pocket")
    project.save_settings(presets.fill(preset, entry, count, detect()), preset.id, repeats_follow=True)
    project.decided("preset chosen", preset=preset.id)
    return project


def delete_project(project: Project) -> Path:
    """Move a project, with everything in it, to the trash; its place there, for `put_back`.

    What it registered stays in the library. Raises BusyError while a job of it runs, NotFoundError when it is gone.
    """
    open_project(project.workspace, project.slug)
    mine = [j for j in active_jobs(project.workspace) if project.folder in j.folder.parents]
    if mine:
        raise BusyError(
            f"'{project.intent.name}' is working right now.",
            f"{mine[0].spec.title} is still going on.",
            "Stop it first, then delete the project.",
        )
    return project.workspace.to_trash(project.folder)


def put_back(workspace: Workspace, trashed: Path) -> Project:
    """Undo `delete_project`. Raises InputError when another project took the name meanwhile."""
    folder = workspace.put_back(trashed)
    return open_project(workspace, folder.name)


def deleted_projects(workspace: Workspace) -> list[Trashed]:
    """The projects in the trash, the one deleted last first, for `put_back`. What cannot be read is left out."""
    return workspace.trashed("projects", _name)


def _name(place: Path) -> str:
    told = files.read_yaml(place / "project.yaml")
    return "" if told is None else str(told.get("name", place.name))
