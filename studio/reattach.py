"""Taking up rented trainings whose follower is gone: they cost money, and their limit is watched only while someone looks."""

from __future__ import annotations

from studio.errors import StudioError
from studio.launch import resume_run
from studio.project import Project
from studio.training.registry import get_backend
from studio.training.runs import Run, list_runs
from studio.workspace import Workspace


def left_alone(workspace: Workspace) -> list[Run]:
    """Runs whose training goes on elsewhere while nobody follows it, such as after a restart of this computer.

    A run that the user stopped is not among them: its training was cancelled. One whose training has ended meanwhile is: its
    result is still to be fetched.
    """
    found = []
    for slug in workspace.project_slugs():
        for run in list_runs(Project(workspace, slug)):
            try:
                backend = get_backend(str(run.manifest["settings"]["backend"]))
                paid_for = getattr(backend, "is_paid_for", None)
                if paid_for is not None and run.job.state == "interrupted" and paid_for(run.folder):
                    found.append(run)
            except (StudioError, KeyError, TypeError):
                continue  # a record that cannot be read is shown by its own page
    return found


def reattach(workspace: Workspace) -> dict[str, str]:
    """Follow each of them again; nothing is started that costs money. By run id: "" or, in words, why it could not be.

    Asks the network, as resuming does.
    """
    said: dict[str, str] = {}
    for run in left_alone(workspace):
        try:
            resume_run(Project(workspace, run.folder.parent.parent.name), run.id)
            said[run.id] = ""
        except StudioError as e:
            said[run.id] = str(e)
    return said
