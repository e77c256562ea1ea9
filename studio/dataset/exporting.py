"""An export as a job: it outlives the page, tells how far it is, and can be stopped, which leaves nothing behind."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio import files
from studio.dataset.export import Layout, check_target, export_dataset
from studio.jobs.job import list_jobs
from studio.jobs.launch import launch_call
from studio.project import open_project
from studio.workspace import Workspace

if TYPE_CHECKING:
    from studio.jobs.job import Job
    from studio.jobs.lifeline import Worker
    from studio.project import Project

KIND = "export"
_RECENT = 30  # jobs that are looked through for the last export


def free_target(project: Project, *, packed: bool = False) -> Path:
    """A path in the workspace's folder `exports` that nothing has yet, such as `exports/mira-2` or `exports/mira.zip`."""
    folder, suffix = project.workspace.root / "exports", ".zip" if packed else ""
    path, n = folder / f"{project.slug}{suffix}", 2
    while path.exists() or path.is_symlink():
        path, n = folder / f"{project.slug}-{n}{suffix}", n + 1
    return path


def start_export(
    project: Project, target: Path, *, layout: Layout = "folders", own_repeats: bool = False
) -> Job:
    """Export as a job; its result is `ExportReport.as_dict()` with the sentence `words`. Options as `export_dataset`.

    Raises InputError when the target exists or lies inside the project, EnvironmentalError when the job cannot start.
    """
    target = check_target(project, target, layout)
    return launch_call(
        project.jobs_dir / files.new_id(KIND),
        "studio.dataset.exporting:export_job",
        {
            "workspace": str(project.workspace.root),
            "project": project.slug,
            "target": str(target),
            "layout": layout,
            "own_repeats": own_repeats,
        },
        kind=KIND,
        title=f"Export to {target.name}",
        project=project.slug,
    )


def last_export(project: Project) -> Job | None:
    """The newest export job, if there is one."""
    return next((j for j in list_jobs(project.jobs_dir)[:_RECENT] if j.spec.kind == KIND), None)


def export_job(worker: Worker, payload: dict[str, Any]) -> dict[str, Any]:
    """What the export job runs."""
    project = open_project(Workspace(Path(payload["workspace"])), payload["project"])
    report = export_dataset(
        project,
        Path(payload["target"]),
        layout=payload["layout"],
        own_repeats=payload["own_repeats"],
        progress=lambda done, total, name: worker.progress(done, total, "pictures", name),
        should_stop=lambda: worker.should_stop,
    )
    return {**report.as_dict(), "words": report.words}
