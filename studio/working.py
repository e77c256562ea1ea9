"""What is going on right now, in all projects: each living job with the page that shows it."""

from __future__ import annotations

from dataclasses import dataclass

from studio.errors import StudioError
from studio.jobs.job import Job, active_jobs
from studio.workspace import Workspace


@dataclass(frozen=True)
class Working:
    """A job that is going on: its project ("" when it has none), and the page that shows it."""

    job: Job
    project: str
    page: str


def working(workspace: Workspace) -> list[Working]:
    """Every job that lives now, newest first."""
    found = []
    for job in active_jobs(workspace):
        try:
            spec = job.spec
        except StudioError:
            continue
        page = (
            "evaluation"
            if job.folder.parent.name == "grids"
            else "dataset"
            if spec.kind in ("import", "scan")
            else "run"
        )
        found.append(Working(job, spec.project or "", page))
    return found
