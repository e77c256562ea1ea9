"""A training as a real job: accelerate launches the worker, which is stopped, killed, and goes on."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from studio.jobs.job import Job, JobSpec
from studio.jobs.launch import launch, relaunch
from studio.training.base import TrainingPlan
from studio.training.registry import get_backend

Make = Callable[..., TrainingPlan]
Train = Callable[..., tuple[dict[str, Any] | None, list[dict[str, Any]]]]
PATIENCE_S = 240.0


def steps(job: Job) -> list[int]:
    return [e["step"] for e in job.events()[0] if e.get("type") == "step"]


def until(job: Job, enough: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not enough():
        assert job.is_alive, job.error or job.log_tail(4000)
        assert time.monotonic() < end, "the job is too slow"
        time.sleep(0.05)


def trainer_of(job: Job) -> psutil.Process:
    """The process that trains: the worker below `accelerate launch`."""
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        if (
            "studio.training.workers.train" in line
            and str(job.folder) in line
            and "--config_file" not in line
        ):
            return process
    raise AssertionError("no trainer found")


@pytest.mark.slow
@pytest.mark.timeout(900)  # three starts of PyTorch
@pytest.mark.skipif(os.name == "nt", reason="sends SIGKILL")
def test_a_job_that_is_stopped_and_then_killed_ends_as_if_nothing_had_been(
    make_plan: Make, train: Train
) -> None:
    settings: dict[str, Any] = {"epochs": 12, "save_every_epochs": 4, "sample_every_epochs": 0}
    plan = make_plan(folder="job", **settings)
    (plan.run_folder / "plan.json").unlink()
    plan.save()
    command = get_backend("diffusers").command(plan)
    command[command.index("--num_cpu_threads_per_process") + 1] = "1"
    job = launch(plan.run_folder, JobSpec(kind="training", title="Training", command=command))
    until(job, lambda: len(steps(job)) >= 2)
    job.stop()
    job.wait(PATIENCE_S)
    assert job.state == "stopped"
    stopped_at = steps(job)[-1]
    assert (plan.state_dir / f"{stopped_at:06d}").is_dir()

    job = relaunch(job)
    until(job, lambda: steps(job)[-1] >= stopped_at + 3)
    os.kill(trainer_of(job).pid, signal.SIGKILL)
    job.wait(PATIENCE_S)
    assert job.state == "failed" and job.error

    job = relaunch(job)
    job.wait(PATIENCE_S)
    assert job.state == "finished", job.log_tail(4000)
    events = job.events()[0]
    first, second = [e["step"] for e in events if e["type"] == "resume"]
    # A slow computer saves its state in between, too: that is by the clock.
    assert first == stopped_at <= second
    assert not plan.state_dir.exists()

    whole = make_plan(folder="whole", **settings)
    result, unbroken = train(whole)
    assert result is not None
    wanted = {e["step"]: e["loss"] for e in unbroken if e["type"] == "step"}
    # Steps after the last state were made twice: each time with the same loss.
    assert all(wanted[e["step"]] == e["loss"] for e in events if e["type"] == "step")
    assert len(steps(job)) > len(wanted) == 36
    for name in ("mine.safetensors", "mine-000008.safetensors"):
        from safetensors.numpy import load_file

        ours, theirs = load_file(plan.checkpoints_dir / name), load_file(whole.checkpoints_dir / name)
        assert {k: v.tobytes() for k, v in ours.items()} == {k: v.tobytes() for k, v in theirs.items()}
