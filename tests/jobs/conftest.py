"""Real jobs in temporary folders, and a check that nothing of them stays behind."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from studio.jobs import disk
from studio.jobs.job import Job, JobSpec
from studio.jobs.launch import launch

FAKE = Path(__file__).with_name("fake_worker.py")


def processes_of(folder: Path) -> list[psutil.Process]:
    """Living processes that name the folder in their command."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and str(folder) in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def zombies() -> set[int]:
    """Children of this process that have ended and that nobody has waited for."""
    found = set()
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):  # waited for between the two looks
            if child.status() == psutil.STATUS_ZOMBIE:
                found.add(child.pid)
    return found


def until(
    condition: Callable[[], object], seconds: float = 120.0, told: Callable[[], object] = lambda: ""
) -> float:
    """Wait for something to become true; how long it took. Fails, with what `told` says, when it does not."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, f"it did not happen in time {told()}"
        time.sleep(0.01)
    return time.monotonic() - began


def ids(job: Job) -> dict[str, int]:
    """Process ids of the job: supervisor, worker."""
    found = disk.read_json(job.folder / "process.json") or {}
    return {"supervisor": int(found["supervisor"]), "worker": int(found["worker"])}


def kill(*pids: int) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def all_killed(folder: Path) -> bool:
    """Ends whatever still names the folder; whether there was nothing left."""
    left = processes_of(folder)
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    return not left


def said(job: Job, kind: str) -> bool:
    return any(e.get("type") == kind for e in job.events()[0])


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Job]]:
    """start(mode, ready=True, **spec): a job of the fake worker, in a folder with an awkward name."""
    jobs: list[Job] = []

    def go(mode: str, *, ready: bool = True, name: str = "", **spec: object) -> Job:
        folder = tmp_path / (name or f"Mära's job {len(jobs)}")
        job = launch(
            folder,
            JobSpec("test", f"Test of {mode}", [sys.executable, str(FAKE), mode, str(folder)], **spec),  # type: ignore[arg-type]
        )
        jobs.append(job)
        if ready:
            until(lambda: said(job, "ready") or not job.is_alive)
        return job

    yield go
    for job in jobs:
        all_killed(job.folder)
