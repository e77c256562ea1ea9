"""Taking up rented trainings whose follower is gone: they cost money, and their limit is watched only while someone looks."""

from __future__ import annotations

from studio.errors import StudioError
from studio.jobs.launch import relaunch
from studio.project import Project
from studio.secrets import lent
from studio.training.base import TrainingPlan
from studio.training.registry import env_of, get_backend, secrets_of
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
    """Follow each of them again. By run id: "" or, in words, why it could not be.

    No gate is asked, unlike when a run is resumed: nothing is started or paid for, and what is wrong meanwhile, such as a
    token that is gone, the follower says itself. Takes no network, so an app may wait for it.
    """
    said: dict[str, str] = {}
    for run in left_alone(workspace):
        project = Project(workspace, run.folder.parent.parent.name)
        try:
            plan = TrainingPlan.load(run.folder)
            backend = get_backend(plan.settings.backend)
            with lent(workspace, *secrets_of(backend)):
                relaunch(run.job, backend.command(plan), env=env_of(backend) or None)
            project.decided("rented run followed again", run=run.id)
            said[run.id] = ""
        except (StudioError, OSError) as e:
            said[run.id] = str(e)
    return said
