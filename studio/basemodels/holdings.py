"""What of a base model is on this computer, from file sizes alone, so that a page may ask at every drawing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from studio import files
from studio.errors import BusyError, InputError, NotFoundError
from studio.files import human_size
from studio.jobs import disk
from studio.jobs.job import Job, active_jobs, list_jobs
from studio.models import BaseModelEntry, ModelFile, get_model, list_models
from studio.workspace import Workspace

KIND = "model-download"
State = Literal["ready", "downloading", "partly", "other-file", "absent", "rented"]


@dataclass(frozen=True)
class Holding:
    """What of a model is here.

    state:   `ready`; `downloading`; `partly`: some files or a part of one are here; `other-file`: a file of that name is here
             which has another size; `absent`; `rented`: it is trained elsewhere.
    missing: files still to be downloaded; bytes_left: what they weigh, less what has arrived of them.
    wrong:   files of another size that stand in the way.
    """

    entry: BaseModelEntry
    state: State
    missing: tuple[ModelFile, ...] = ()
    bytes_left: int = 0
    wrong: tuple[Path, ...] = ()
    job: Job | None = None

    def as_dict(self) -> dict[str, Any]:
        return {
            "state": self.state, "missing": [f.name for f in self.missing], "bytes_left": self.bytes_left,
            "wrong": [str(p) for p in self.wrong], "job": self.job.id if self.job else None,
        }  # fmt: skip


def place_of(workspace: Workspace, file: ModelFile) -> Path:
    """Where a downloaded file lies."""
    return workspace.models_dir / file.name


def arrived(workspace: Workspace, file: ModelFile) -> int:
    """Bytes of a download that was cut off."""
    try:
        place = place_of(workspace, file)  # a file may lie in a folder of its own
        return min(file.bytes, place.with_name(f"{place.name}.part").stat().st_size)
    except OSError:
        return 0


def holding(workspace: Workspace, entry: BaseModelEntry) -> Holding:
    """What of a model is on this computer."""
    if entry.format == "cloud":
        return Holding(entry, "rented")
    if not entry.files:
        return Holding(entry, "ready" if entry.location(workspace) is not None else "absent")
    missing, wrong, left, here = [], [], 0, False
    for f in entry.files:
        place = place_of(workspace, f)
        size = place.stat().st_size if place.is_file() else -1
        if size == f.bytes:
            here = True
            continue
        if size >= 0:
            wrong.append(place)
        missing.append(f)
        got = arrived(workspace, f)
        here = here or got > 0
        left += f.bytes - got
    job = download_of(workspace, entry.id)
    running = job is not None and job.is_alive
    state: State = "downloading" if running else "ready" if not missing else "other-file" if wrong else "partly" if here else "absent"  # fmt: skip
    # What several models share is no sign that this one was begun.
    if state == "partly" and not _own_begun(workspace, entry):
        state = "absent"
    return Holding(entry, state, tuple(missing), left, tuple(wrong), job)


def _own_begun(workspace: Workspace, entry: BaseModelEntry) -> bool:
    shared = {f.name for m in list_models(workspace) if m.id != entry.id for f in m.files}
    return any(
        arrived(workspace, f) or place_of(workspace, f).is_file() for f in entry.files if f.name not in shared
    )


def download_of(workspace: Workspace, model_id: str) -> Job | None:
    """The newest download of a model; None when there was none."""
    for job in list_jobs(workspace.root / "jobs"):
        if job.raw.get("kind") == KIND:
            payload = disk.read_json(job.folder / "payload.json") or {}
            if payload.get("model") == model_id:
                return job
    return None


def downloading(workspace: Workspace) -> Job | None:
    """The download of a base model that is going on; None when there is none."""
    jobs = (j for j in list_jobs(workspace.root / "jobs") if j.raw.get("kind") == KIND)
    return next((j for j in jobs if j.is_alive), None)


def removable(workspace: Workspace, entry: BaseModelEntry) -> list[Path]:
    """Files of a model that were downloaded, what other models on this computer need left out; parts of files too."""
    kept = {
        f.name
        for m in list_models(workspace)
        if m.id != entry.id and m.files and place_of(workspace, m.files[0]).is_file()
        for f in m.files
    }
    places = [place_of(workspace, f) for f in entry.files if f.name not in kept]
    return [p for q in places for p in (q, q.with_name(f"{q.name}.part")) if p.is_file()]


def remove(workspace: Workspace, model_id: str) -> list[Path]:
    """Move a model's downloaded files to the trash of the workspace; where they lie now.

    Text encoders that another downloaded model uses stay. Raises NotFoundError, BusyError while it is being downloaded or
    trained with, InputError for the user's own files, which are only taken off the list.
    """
    entry = get_model(workspace, model_id)
    if entry.path is not None or not entry.files:
        raise InputError(
            f"{entry.title} was not downloaded by the studio.",
            "Its files are yours, or come with the studio."
            if entry.format != "cloud"
            else "It is nowhere on this computer.",
            f"To take an own one off the list: lora-studio models forget {entry.id}",
        )
    found = removable(workspace, entry)
    if not found:
        raise NotFoundError(
            f"Nothing of {entry.title} is on this computer.",
            f"It would lie in {workspace.models_dir}.",
            f"Download it: lora-studio models download {entry.id}",
        )
    busy = downloading(workspace)
    if busy is not None:
        raise BusyError(f"{busy.spec.title} is going on.", "It writes into the same folder.", "Wait, or stop it.")  # fmt: skip
    for job in active_jobs(workspace):
        plan = disk.read_json(job.folder / "plan.json") or {}
        if Path(str(plan.get("model_path", ""))) in found:
            raise BusyError(f"{job.spec.title} is at work with it.", "It reads these files.", "Wait, or stop it.")  # fmt: skip
    for place in found:
        place.with_name(f"{place.name}.json").unlink(missing_ok=True)  # the note of a part
    return [workspace.to_trash(p) for p in found]


def words(now: Holding) -> str:
    """Where a model stands, in a few words."""
    if now.state == "downloading":
        return "being downloaded"
    if now.state == "partly":
        return f"partly here, {human_size(now.bytes_left)} to go"
    if now.state == "other-file":
        return "another file stands in its place"
    return {"ready": "on this computer", "rented": "trained on rented computers"}.get(now.state, "not here")


def refuse_full(workspace: Workspace, now: Holding, reserve: int = 1_000_000_000) -> None:
    """Raise InputError when the disk has no room for what is missing. reserve: bytes that stay free."""
    free = files.free_bytes(workspace.models_dir)
    if free < now.bytes_left + reserve:
        raise InputError(
            f"The disk has no room for {now.entry.title}.",
            f"It needs {human_size(now.bytes_left)}, and {human_size(reserve)} stay free; {human_size(free)} are free.",
            "Free some room, or move the workspace to another disk with STUDIO_HOME.",
        )
