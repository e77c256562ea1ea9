"""Finding jobs by what a person types."""

from __future__ import annotations

from typing import Any

from studio.cli.values import did_you_mean
from studio.errors import InputError, NotFoundError
from studio.jobs.job import Job, list_jobs
from studio.project import Project

KIND_WORDS = {"training": "training run", "grid": "grid", "dry-run": "dry run"}


def project_jobs(project: Project) -> list[Job]:
    """All jobs of a project: runs, grids and the others, newest first."""
    found = [
        job for folder in (project.runs_dir, project.grids_dir, project.jobs_dir) for job in list_jobs(folder)
    ]
    return sorted(found, key=lambda j: (j.created, j.id), reverse=True)


def find_job(project: Project, name: str) -> Job:
    """The job of an id, or of the end of one that fits no other. Raises NotFoundError or InputError."""
    jobs = project_jobs(project)
    exact = [j for j in jobs if j.id == name]
    fitting = exact or [j for j in jobs if len(name) >= 4 and j.id.endswith(name)]
    if len(fitting) == 1:
        return fitting[0]
    names = [j.id for j in jobs]
    if fitting:
        raise InputError(
            f"'{name}' fits several jobs.",
            f"They are: {', '.join(j.id for j in fitting)}.",
            "Type one of them in full.",
        )
    raise NotFoundError(
        f"There is no job called '{name}' in '{project.slug}'.",
        f"Its newest are: {', '.join(names[:5])}." if names else "It has no jobs yet.",
        f"{did_you_mean(name, names)} `lora-studio jobs` lists them.".strip(),
    )


def as_data(job: Job) -> dict[str, Any]:
    """A job as plain data."""
    return {**job.summary(), "exit": job.exit}
