"""The lifeline works below `accelerate launch`, and killing any part leaves no orphan."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from studio.jobs.job import Job, JobSpec
from studio.jobs.launch import launch

from .conftest import FAKE, all_killed, ids, kill, processes_of, said, until


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    """A fake trainer below accelerate, already at work."""
    pytest.importorskip("accelerate")
    folder = tmp_path / "a"
    command = [
        sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "1", "--num_machines", "1",
        "--mixed_precision", "no", "--dynamo_backend", "no", "--num_cpu_threads_per_process", "1", "--cpu",
        str(FAKE), "steps", str(folder),
    ]  # fmt: skip
    made = launch(folder, JobSpec("x", "X", command, stop_grace_s=20))
    until(lambda: said(made, "ready") or not made.is_alive, 120)
    assert made.is_alive, made.log_tail()
    yield made
    all_killed(folder)


def test_stop(job: Job) -> None:
    job.stop()
    assert job.wait(60) == "stopped"
    assert (job.folder / "saved.txt").exists()


def test_supervisor_killed(job: Job) -> None:
    kill(ids(job)["supervisor"])
    assert until(lambda: (job.folder / "saved.txt").exists()) < 15
    until(lambda: not processes_of(job.folder))
    assert job.state == "interrupted"


def test_accelerate_killed(job: Job) -> None:
    kill(ids(job)["worker"])
    assert job.wait(60) == "failed"
    assert (job.folder / "saved.txt").exists()
    until(lambda: not processes_of(job.folder))
