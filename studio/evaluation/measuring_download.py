"""Downloading a model that measures, as a job: gone on with after an interruption, hashes checked, in use when it is whole."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio import files
from studio.basemodels.download import hub
from studio.basemodels.fetching import Wanted, fetch
from studio.errors import BusyError, InputError
from studio.evaluation.measuring_models import CONFIG, choose, entry
from studio.jobs.job import Job, list_jobs
from studio.jobs.launch import launch_call
from studio.workspace import Workspace

if TYPE_CHECKING:
    from studio.jobs.lifeline import Worker

KIND = "measuring-download"


def start_download(
    workspace: Workspace, model_id: str, *, base: str = "", allow: Collection[str] = ()
) -> Job:
    """Download a model of the list; goes on where an earlier download stopped.

    base: another hub; allow: origins besides public https ones, for a mirror in a closed network and for tests.
    Raises NotFoundError, InputError when it is here already or there is no room, BusyError while it is being downloaded.
    """
    found = entry(model_id)
    if found.is_here(workspace):
        raise InputError(
            f"{found.title} is on this computer already.",
            f"It lies in {found.folder(workspace)}.",
            f"Use it: lora-studio setup measuring {found.role} {found.id}",
        )
    running = download_of(workspace, model_id)
    if running is not None and running.is_alive:
        raise BusyError(f"{found.title} is being downloaded.", "Once is enough.", "Wait until it is here.")
    free = files.free_bytes(workspace.root)
    if free < found.size_bytes * 1.05:
        raise InputError(
            f"The disk has no room for {found.title}.",
            f"It needs {files.human_size(found.size_bytes)}; {files.human_size(free)} are free.",
            "Free some room, or move the workspace.",
        )
    return launch_call(
        workspace.root / "jobs" / files.new_id(KIND),
        "studio.evaluation.measuring_download:download_job",
        {"workspace": str(workspace.root), "model": model_id, "hub": base or hub(), "allow": list(allow)},
        kind=KIND,
        title=f"Download of {found.title}",
        stop_grace_s=20.0,
    )


def download_of(workspace: Workspace, model_id: str) -> Job | None:
    """The newest download of a model; None when there was none."""
    for job in list_jobs(workspace.root / "jobs"):
        if job.raw.get("kind") == KIND:
            raw = files.read_json(job.folder / "payload.json") or {}
            if raw.get("model") == model_id:
                return job
    return None


def download_job(worker: Worker, payload: dict[str, Any]) -> dict[str, Any]:
    """What the download runs: each file takes its name only when its hash is right; then the model is in use."""
    workspace = Workspace(Path(payload["workspace"]))
    found = entry(payload["model"])
    folder, before = found.folder(workspace), 0
    for file in sorted(found.files, key=lambda f: f.bytes):
        url = f"{payload['hub']}/{found.repo}/resolve/{found.revision}/{file.path}"
        fetch(
            worker,
            Wanted(url, folder / file.name, file.bytes, file.sha256),
            before,
            found.size_bytes,
            payload["allow"],
        )
        before += file.bytes
    if found.config is not None:
        files.write_json(folder / CONFIG, found.config)
    model = choose(workspace, found.role, folder)
    return {"folder": str(folder), "role": found.role, "mark": model.mark, "bytes": found.size_bytes}
