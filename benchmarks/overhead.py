"""What the studio costs a training: the same command bare and under the studio, in pairs that take turns.

    python -m benchmarks.overhead [--pairs 3] [--steps 60] [--json]

With STUDIO_SD_SCRIPTS and STUDIO_SD_SCRIPTS_PYTHON set (see CONTRIBUTING) the command is sd-scripts' own; --model names the
base model then. Without, it is the built-in trainer on the pocket model. Two figures are told: seconds a step, the
medians of both sides; and processor time of the studio's own processes (supervisor, guard and, with sd-scripts, the worker that
reads its output) as a share of the training's, counted from the first step on, which other work on this computer does not blur.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil

from studio import files
from studio.jobs.environment import allowed
from studio.jobs.job import JobSpec
from studio.jobs.launch import launch
from studio.settings import TrainingSettings
from studio.training.base import PlannedPicture, TrainingPlan
from studio.training.registry import get_backend
from studio.training.workers import kohya
from studio.workspace import shipped

SOURCE, PYTHON = os.environ.get("STUDIO_SD_SCRIPTS", ""), os.environ.get("STUDIO_SD_SCRIPTS_PYTHON", "")


def make_plan(folder: Path, steps: int, model: Path | None) -> TrainingPlan:
    """A run over eight sample pictures in a folder of its own."""
    pictures = sorted(shipped("data", "sample").glob("*.png"))[:8]
    real = bool(SOURCE and PYTHON)
    settings = TrainingSettings(
        backend="kohya" if real else "diffusers", batch_size=1 if real else 8, resolution=128 if real else 64,
        bucket_step=64 if real else 8, epochs=10_000, max_steps=steps, rank=4, save_every_epochs=10_000, sample_every_epochs=0,
    )  # fmt: skip
    plan = TrainingPlan(
        run_folder=folder,
        model_path=model or shipped("data", "pocket"),
        family="sd15" if real else "pocket",
        pictures=tuple(PlannedPicture(path=p, caption=f"bluprnt, {p.stem}") for p in pictures),
        settings=settings,
        trigger="bluprnt",
        engine={"source": SOURCE, "python": PYTHON, "commit": ""} if real else {},
    )
    folder.mkdir(parents=True)
    plan.save()
    return plan


def paces(folder: Path) -> list[float]:
    """Seconds between the steps of a run, from its events."""
    at = [
        float(e["elapsed"]) for e in files.read_jsonl(folder / "events.jsonl")[0] if e.get("type") == "step"
    ]
    return [b - a for a, b in pairwise(at[1:])]


def bare(plan: TrainingPlan) -> float:
    """Seconds a step of the command alone."""
    if plan.settings.backend != "kohya":
        command = get_backend("diffusers").command(plan)
        subprocess.run(
            command,
            check=True,
            env=allowed(),  # what the job gets, too: only the studio itself shall differ
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        return statistics.median(paces(plan.run_folder))
    kohya.config.write(plan, kohya.layout.lay_out(plan))
    kohya.tokenizers.write(plan.run_folder / kohya.config.TOKENIZERS)
    reader, at = kohya.LogReader(), []
    with subprocess.Popen(
        kohya.command(plan, None), cwd=SOURCE, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        env=kohya.environment(),
    ) as process:  # fmt: skip
        assert process.stderr is not None
        while piece := process.stderr.read1(65536):  # type: ignore[attr-defined]
            at += [time.monotonic() for e in reader.feed(piece) if e["type"] == "step"]
    return statistics.median(b - a for a, b in pairwise(at[1:]))


def _processor(process: psutil.Process) -> float:
    try:
        used = process.cpu_times()
    except psutil.Error:
        return 0.0
    return used.user + used.system


def watched(plan: TrainingPlan) -> tuple[float, float]:
    """Seconds a step under the studio, and the studio's processor time as a share of the training's."""
    job = launch(
        plan.run_folder, JobSpec("training", "Training", get_backend(plan.settings.backend).command(plan))
    )
    first: dict[str, float] = {}
    last: dict[str, float] = {}
    while job.is_alive:
        told = files.read_json(plan.run_folder / "process.json") or {}
        if told and paces(plan.run_folder):
            try:
                # A process that has just ended counts nothing any more, so what was seen of it before stays.
                last = {k: max(v, last.get(k, 0.0)) for k, v in _shares(told, plan).items()}
            except psutil.Error:
                break
            first = first or last
        time.sleep(0.5)
    if job.wait() != "finished":
        raise SystemExit(f"The run did not finish: {job.error}")
    spent = {k: last[k] - first[k] for k in last}
    return statistics.median(paces(plan.run_folder)), spent["studio"] / spent["training"]


def _shares(told: dict[str, Any], plan: TrainingPlan) -> dict[str, float]:
    supervisor, worker = (psutil.Process(int(told[k])) for k in ("supervisor", "worker"))
    below = worker.children(recursive=True)
    guards = [p for p in supervisor.children() if p.pid != worker.pid]
    own = [supervisor, *guards, *([worker] if plan.settings.backend == "kohya" else [])]
    training = below if plan.settings.backend == "kohya" else [worker, *below]
    return {"studio": sum(map(_processor, own)), "training": sum(map(_processor, training))}


def main() -> None:
    """Run the pairs and print what they say."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--pairs", type=int, default=3)
    asked.add_argument("--steps", type=int, default=60)
    asked.add_argument("--model", type=Path)
    asked.add_argument("--json", action="store_true")
    args = asked.parse_args()
    home = Path(tempfile.mkdtemp(prefix="overhead-"))
    alone, under, shares = [], [], []
    try:
        for n in range(args.pairs):
            # The side that begins changes, so that a computer that grows slower meets both.
            for side in ("bare", "studio") if n % 2 == 0 else ("studio", "bare"):
                plan = make_plan(home / f"{side}-{n}", args.steps, args.model)
                if side == "bare":
                    alone.append(bare(plan))
                else:
                    pace, share = watched(plan)
                    under.append(pace)
                    shares.append(share)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    result = {
        "bare_seconds_per_step": statistics.median(alone),
        "studio_seconds_per_step": statistics.median(under),
        "ratio": statistics.median(u / a for a, u in zip(alone, under, strict=True)),
        "processor_share": statistics.median(shares),
        "pairs": args.pairs,
    }
    if args.json:
        print(json.dumps(result))
        return
    print(f"A step takes {result['bare_seconds_per_step']:.4f} s bare and {result['studio_seconds_per_step']:.4f} s under the studio "
          f"({result['ratio'] - 1:+.1%}, median of {args.pairs} pairs).")  # fmt: skip
    print(
        f"The studio's own processes take {result['processor_share']:.2%} of the training's processor time."
    )


if __name__ == "__main__":
    main()
