"""What the live page of a run costs the server, and the history of many runs.

    python -m benchmarks.live [--sizes 1000,100000] [--runs 50] [--times 12] [--json]

Served by one process, asked by a visitor who speaks Streamlit's own protocol. A run counts as alive while this program holds
its lock; between two refreshes five steps are added to its events, as a trainer would. Told are processor seconds of the server
(medians), for each part that refreshes by itself and how often it does, and their sum as a share of one core.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import shutil
import statistics
import tempfile
from pathlib import Path
from typing import Any

from filelock import FileLock

from benchmarks.visitor import Server, Visitor
from studio import files
from studio.project import Project
from studio.training.runs import Run
from studio.workspace import Workspace
from tests.pages import worlds

PER_EPOCH = 100


def step(n: int, chance: random.Random) -> dict[str, Any]:
    """One step as the trainer says it."""
    loss = 0.1 + 0.4 * math.exp(-n / 4000) + chance.uniform(-0.05, 0.05)
    return {"type": "step", "t": 1_795_000_000 + n * 0.2, "elapsed": n * 0.2, "step": n, "epoch": -(-n // PER_EPOCH), "loss": loss,
            "loss_avg": loss, "lr": {"unet": 1e-4}, "s_per_step": 0.2, "memory": 750_000_000}  # fmt: skip


def lengthen(run: Run, steps: int) -> None:
    """Give a run so many steps, and a plan of a quarter more."""
    chance, total = random.Random(1), round(steps * 1.25)
    plan = {"type": "plan", "total_steps": total, "epochs": -(-total // PER_EPOCH), "steps_per_epoch": PER_EPOCH, "device": "cpu"}  # fmt: skip
    lines = [plan, *(step(n, chance) for n in range(1, steps + 1))]
    (run.folder / "events.jsonl").write_text("".join(json.dumps(e) + "\n" for e in lines), encoding="utf-8")
    manifest = files.read_json(run.folder / "run.json")
    manifest["steps"] = {"total": total, "per_epoch": PER_EPOCH, "epochs": plan["epochs"]}
    manifest["forecast_seconds"] = total * 0.2
    files.write_json(run.folder / "run.json", manifest)


def alive(run: Run) -> FileLock:
    """Let the run count as alive until the lock is let go of."""
    (run.folder / "exit.json").unlink(missing_ok=True)
    files.write_json(run.folder / "process.json", {"attempt": 1, "pid": 1})
    files.write_json(run.folder / "progress.json", {"attempt": 1, "fraction": 0.8, "message": "Step", "eta_seconds": 60.0})  # fmt: skip
    lock = FileLock(run.folder / "lock", thread_local=False)
    lock.acquire()
    return lock


def refreshes(server: Server, project: Project, run: Run, steps: int, times: int) -> dict[str, Any]:
    """Cost of drawing the page of a living run once, and of each of its parts again and again."""
    chance, visitor = random.Random(2), Visitor(server, "run", project.slug)
    visitor.query += f"&run={run.id}"
    try:
        whole = visitor.rerun()
        parts = [(f, every) for f, every in visitor.refreshing.items() if every]
        costs: dict[str, list[float]] = {f: [] for f, _ in parts}
        for _ in range(times):
            for name, _every in parts:
                for _new in range(5):
                    steps += 1
                    files.append_jsonl(run.folder / "events.jsonl", step(steps, chance))
                costs[name].append(visitor.rerun(name).cpu)
    finally:
        visitor.close()
    rows = [{"every_s": every, "cpu_s": round(statistics.median(costs[f]), 4)} for f, every in parts]
    return {
        "first_cpu_s": round(whole.cpu, 3),
        "parts": rows,
        "share_of_a_core": round(sum(r["cpu_s"] / r["every_s"] for r in rows), 4),
    }


def main() -> None:
    """Measure and print."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--sizes", default="1000,100000")
    asked.add_argument("--runs", type=int, default=50)
    asked.add_argument("--times", type=int, default=12)
    asked.add_argument("--port", type=int, default=8640)
    asked.add_argument("--json", action="store_true")
    args = asked.parse_args()
    home = Path(tempfile.mkdtemp(prefix="live-"))
    result: dict[str, Any] = {"refresh": {}}
    try:
        project = worlds.project(Workspace(home), worlds.pictures(home / "in"))
        worlds.pass_gates(project)
        first = worlds.run(project, run_id="run-000")
        lengthen(first, 2000)
        for n in range(1, args.runs):
            shutil.copytree(first.folder, project.runs_dir / f"run-{n:03}")
        with Server(home, args.port) as server:
            visitor = Visitor(server, "run", project.slug)
            visitor.rerun()
            visitor.put("run_view", string_array_value=[f"History ({args.runs})"])
            result["history"] = [round(visitor.rerun().cpu, 3) for _ in range(4)]
            visitor.close()
            for steps in map(int, args.sizes.split(",")):
                run = worlds.run(project, run_id=f"run-{500 + len(result['refresh'])}")
                lengthen(run, steps)
                lock = alive(run)
                try:
                    result["refresh"][steps] = refreshes(server, project, run, steps, args.times)
                finally:
                    lock.release()
                    shutil.rmtree(run.folder)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    if args.json:
        print(json.dumps(result))
        return
    print(
        f"History of {args.runs} runs of 2,000 steps: {result['history'][0]} s of processor at first, then {result['history'][1:]}."
    )
    for steps, told in result["refresh"].items():
        parts = ", ".join(f"{p['cpu_s']} s each {p['every_s']:g} s" for p in told["parts"])
        print(
            f"{steps:,} steps: first drawn in {told['first_cpu_s']} s; refreshed {parts}: {told['share_of_a_core']:.1%} of a core."
        )


if __name__ == "__main__":
    main()
