"""Imports and scans that run as jobs, for large folders: they outlive the browser and can be stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio import files
from studio.dataset.intake import import_pictures
from studio.dataset.scan import scan
from studio.errors import InputError
from studio.jobs.launch import launch_call
from studio.project import open_project
from studio.workspace import Workspace

if TYPE_CHECKING:
    from studio.jobs.job import Job
    from studio.jobs.lifeline import Worker
    from studio.project import Project


def start_import(project: Project, sources: Iterable[Path]) -> Job:
    """Import in the background, then look at every new picture. The job's result is `ImportReport.as_dict()`.

    Raises InputError when no source exists, EnvironmentalError when the job cannot be started.
    """
    paths = [Path(s).expanduser().resolve() for s in sources]
    if not any(p.exists() for p in paths):
        raise InputError(
            f"There is nothing at '{paths[0] if paths else ''}'.",
            "The file or folder was moved, or its name is spelled differently.",
            "Give the path of a folder, a ZIP or pictures that exist.",
        )
    name = paths[0].name if len(paths) == 1 else f"{len(paths)} sources"
    return _start(project, "import", f"Import of {name}", "import_job", {"sources": [str(p) for p in paths]})


def start_scan(project: Project) -> Job:
    """Look at every new or changed picture in the background."""
    return _start(project, "scan", "Looking at the pictures", "scan_job", {})


def _start(project: Project, kind: str, title: str, function: str, payload: dict[str, Any]) -> Job:
    payload = {**payload, "workspace": str(project.workspace.root), "project": project.slug}
    return launch_call(
        project.jobs_dir / files.new_id(kind),
        f"studio.dataset.tasks:{function}",
        payload,
        kind=kind,
        title=title,
        project=project.slug,
    )


def import_job(worker: Worker, payload: dict[str, Any]) -> dict[str, Any]:
    """What the import job runs."""
    project = open_project(Workspace(Path(payload["workspace"])), payload["project"])
    report = import_pictures(
        project,
        [Path(s) for s in payload["sources"]],
        progress=_teller(worker),
        should_stop=lambda: worker.should_stop,
    )
    if not report.stopped:
        scan(project, _teller(worker), lambda: worker.should_stop)
    return report.as_dict()


def scan_job(worker: Worker, payload: dict[str, Any]) -> dict[str, Any]:
    """What the scan job runs."""
    project = open_project(Workspace(Path(payload["workspace"])), payload["project"])
    seen = scan(project, _teller(worker), lambda: worker.should_stop)
    return {"pictures": len(seen), "looked_at": seen.looked_at}


def _teller(worker: Worker) -> Callable[[int, int, str], None]:
    return lambda done, total, message: worker.progress(done, total, "pictures", message)
