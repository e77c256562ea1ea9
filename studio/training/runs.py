"""Runs as they lie on disk: reading only. Starting one is `studio.launch`, behind the gates.

<project>/runs/<id>/   a job folder (see studio.jobs.job) with, on top:
  run.json             what was frozen: settings, dataset, base model, versions, command, gates
  plan.json            the same as the backend wants it
  pictures/            the pictures as they were
  checkpoints/ samples/ state/
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from studio import files
from studio.errors import NotFoundError
from studio.jobs.job import Job
from studio.project import Project
from studio.settings import TrainingSettings
from studio.training.base import Checkpoint, Sample, find_samples
from studio.training.registry import get_backend

MANIFEST = "run.json"
_STAMP = "run-%Y%m%d-%H%M%S"


@dataclass(frozen=True)
class Run:
    """One training run. folder: its job folder; id: the folder's name."""

    folder: Path

    @property
    def id(self) -> str:
        return self.folder.name

    @cached_property
    def job(self) -> Job:
        """The job that trains it; its state is read from the disk at each question."""
        return Job(self.folder)

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """What was frozen when the run was made."""
        return dict(files.read_json(self.folder / MANIFEST) or {})

    @property
    def settings(self) -> TrainingSettings:
        return TrainingSettings.model_validate(self.manifest["settings"])

    @property
    def resumable(self) -> bool:
        """Whether `studio.launch.resume_run` can go on with it."""
        if self.job.state not in ("stopped", "failed", "interrupted"):
            return False
        # A rented training that has ended there, or was cancelled, has nothing left to go on with.
        backend = get_backend(str(self.manifest["settings"]["backend"]))
        return not getattr(backend, "is_over", lambda _folder: False)(self.folder)

    def checkpoints(self) -> list[Checkpoint]:
        """Whole LoRA files, earliest first, the final one last."""
        return get_backend(str(self.manifest["settings"]["backend"])).checkpoints(self.folder)

    def samples(self) -> list[Sample]:
        """Pictures drawn during training, by step."""
        return find_samples(self.folder)

    def events(self, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
        """Events from byte `offset` on, and the offset to go on from."""
        return self.job.events(offset)


def new_run_folder(project: Project) -> Path:
    """Where the next run goes. Its name sorts behind those of all runs before, also after the clock was set back."""
    name = files.new_id("run")
    stamp, _, end = name.rpartition("-")
    for newest in sorted(
        (p.name.rpartition("-")[0] for p in project.runs_dir.glob("run-*-*-*")), reverse=True
    ):
        if stamp > newest:
            break
        with suppress(ValueError):  # a name that somebody made by hand
            stamp = f"{datetime.strptime(newest, _STAMP) + timedelta(seconds=1):{_STAMP}}"
            break
    return project.runs_dir / f"{stamp}-{end}"


def list_runs(project: Project) -> list[Run]:
    """All runs of a project, newest first."""
    found = [Run(p.parent) for p in project.runs_dir.glob(f"*/{MANIFEST}")]
    return sorted(found, key=lambda r: r.id, reverse=True)


def get_run(project: Project, run_id: str = "") -> Run:
    """A run by id; the newest when no id is given. Raises NotFoundError naming those that exist."""
    runs = list_runs(project)
    if not run_id and runs:
        return runs[0]
    for run in runs:
        if run.id == run_id:
            return run
    raise NotFoundError(
        f"There is no run '{run_id}' in '{project.slug}'." if run_id else f"'{project.slug}' has no run yet.",
        f"Its runs are: {', '.join(r.id for r in runs)}." if runs else "Nothing was trained so far.",
        "Choose one of them." if runs else "Pass the four gates, then start training.",
    )
