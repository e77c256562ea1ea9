"""Ending what a test started in its workspace, so that no training outlives it."""

from __future__ import annotations

from pathlib import Path

from studio.jobs.job import active_jobs
from studio.workspace import Workspace


def stop_everything(home: Path) -> None:
    """Ask every job that still lives to stop, and wait for it."""
    jobs = active_jobs(Workspace(home))
    for job in jobs:
        job.stop()
    for job in jobs:
        job.wait(60)
