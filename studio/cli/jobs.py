"""Finding jobs, runs and grids by what a person types."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from studio.cli.values import did_you_mean
from studio.errors import InputError, NotFoundError
from studio.jobs.job import Job, list_jobs
from studio.project import Project

if TYPE_CHECKING:
    from studio.evaluation.grid import Grid
    from studio.training.runs import Run

SHORTEST_END = 4  # letters of the end of an id that are taken for it; fewer fit by accident
KIND_WORDS = {"training": "training run", "grid": "grid", "dry-run": "dry run"}


def project_jobs(project: Project) -> list[Job]:
    """All jobs of a project: runs, grids and the others, newest first."""
    found = [
        job for folder in (project.runs_dir, project.grids_dir, project.jobs_dir) for job in list_jobs(folder)
    ]
    return sorted(found, key=lambda j: (j.created, j.id), reverse=True)


def _fitting(ids: Sequence[str], name: str) -> list[str]:
    """The ids that `name` means: itself, the newest for "latest" (ids come newest first), or those that end with it."""
    if name in ids:
        return [name]
    if name == "latest":
        return list(ids[:1])
    return [i for i in ids if len(name) >= SHORTEST_END and i.endswith(name)]


def _one(ids: Sequence[str], name: str, project: Project, kind: str, begin: str) -> str:
    """The one id that `name` means. kind: "job", "run" or "grid"; begin: how to get a first one."""
    fitting = _fitting(ids, name)
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise InputError(
            f"'{name}' fits several {kind}s.", f"They are: {', '.join(fitting)}.", "Type one of them in full."
        )
    raise NotFoundError(
        f"There is no {kind} called '{name}' in '{project.slug}'.",
        f"Its newest are: {', '.join(ids[:5])}." if ids else f"It has no {kind}s yet.",
        f"{did_you_mean(name, list(ids))} Name one of them, or 'latest'.".strip() if ids else begin,
    )


def find_job(project: Project, name: str) -> Job:
    """The job of an id, of the end of one that fits no other, or the latest. Raises NotFoundError or InputError."""
    jobs = {j.id: j for j in project_jobs(project)}
    return jobs[_one(list(jobs), name, project, "job", "`lora-studio gates` starts the first.")]


def find_run(project: Project, name: str | None) -> Run:
    """A run by id, end of one, or "latest"; the newest with a checkpoint when none is named. Raises NotFoundError or
    InputError."""
    from studio.training.runs import get_run, list_runs

    runs = {r.id: r for r in list_runs(project)}
    if name is not None:
        return runs[_one(list(runs), name, project, "run", "Start one with `lora-studio train`.")]
    for run in runs.values():
        if run.checkpoints():
            return run
    get_run(project)  # raises when there is none at all
    raise NotFoundError(
        f"No run of '{project.slug}' has written a checkpoint yet.",
        "A grid is drawn with a LoRA file.",
        "Wait for the first checkpoint, or look at `lora-studio status`.",
    )


def find_grid(project: Project, name: str | None) -> Grid:
    """A grid by id, end of one, or "latest"; the newest when none is named. Raises NotFoundError or InputError."""
    from studio.evaluation.grid import get_grid, list_grids

    if name is None:
        return get_grid(project)
    ids = [g.id for g in list_grids(project)]
    return get_grid(project, _one(ids, name, project, "grid", "Draw one: `lora-studio evaluate`."))


def as_data(job: Job) -> dict[str, Any]:
    """A job as plain data."""
    return {**job.summary(), "exit": job.exit}
