"""What the studio costs a training: the same command bare and under the studio, taking turns.

    python -m benchmarks.overhead [--blocks 2] [--steps 40] [--windows 16] [--model FOLDER] [--json]

With STUDIO_SD_SCRIPTS and STUDIO_SD_SCRIPTS_PYTHON set (see CONTRIBUTING) the command is sd-scripts' own, on a small model with
random weights unless --model names another; without, it is the built-in trainer on the pocket model. Three figures:

    processor   processor time of the studio's own processes (supervisor, guard and, with sd-scripts, the worker that reads its
                output) as a share of the training's, counted between the first step and the last look. Other work on this
                computer does not blur it: it is the figure to trust on a busy one.
    windows     seconds a step in one long run, while the studio's processes work and while they are held (SIGSTOP) for as
                long, in turns. No start-up lies between the two sides, so there are many pairs. After each hold they catch up
                on what was said meanwhile, which counts against the studio.
    runs        seconds a step of whole runs, bare and under the studio, in turns (bare, studio, studio, bare). The literal
                comparison, and the one that a busy computer blurs most.

Both sides have the same environment. The clock is the trainer's own: its events, or TensorBoard's file with sd-scripts.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import psutil

from benchmarks.interleaved import Ratio, abba, ratio
from studio import files
from studio.jobs.environment import allowed
from studio.jobs.job import Job, JobSpec
from studio.jobs.launch import launch
from studio.settings import TrainingSettings
from studio.training.base import PlannedPicture, TrainingPlan
from studio.training.registry import get_backend
from studio.training.sdscripts.scalars import LOSS, scalars_of
from studio.training.workers import kohya
from studio.workspace import shipped

SOURCE, PYTHON = os.environ.get("STUDIO_SD_SCRIPTS", ""), os.environ.get("STUDIO_SD_SCRIPTS_PYTHON", "")
REAL = bool(SOURCE and PYTHON)
HOLD_S = 1.5
WARM = 5  # steps at the beginning that count for nothing


def make_plan(folder: Path, steps: int, model: Path, source: Path) -> TrainingPlan:
    """A run over eight sample pictures in a folder of its own."""
    pictures = sorted(shipped("data", "sample").glob("*.png"))[:8]
    settings = TrainingSettings(
        backend="kohya" if REAL else "diffusers", batch_size=1 if REAL else 8, resolution=256 if REAL else 64,
        bucket_step=64 if REAL else 8, epochs=10_000, max_steps=steps, rank=4, save_every_epochs=10_000,
        sample_every_epochs=0,
    )  # fmt: skip
    plan = TrainingPlan(
        run_folder=folder,
        model_path=model,
        family="sd15" if REAL else "pocket",
        pictures=tuple(PlannedPicture(path=p, caption=f"bluprnt, {p.stem}") for p in pictures),
        settings=settings,
        trigger="bluprnt",
        engine={"source": str(source), "python": PYTHON, "commit": ""} if REAL else {},
    )
    folder.mkdir(parents=True)
    plan.save()
    return plan


def small_engine(home: Path) -> tuple[Path, Path]:
    """The scripts' own code over a small geometry, and a model for it: as the tests against the real scripts use them."""
    from tests.training.sdscripts.test_kohya_job import SMALL, small_model

    source = home / "small"
    source.mkdir()
    (source / "train_network.py").write_text(SMALL.format(real=SOURCE), encoding="utf-8")
    return source, small_model(home / "model")


# --- The trainer's own clock


def moments(folder: Path) -> list[float]:
    """When each step was finished, in seconds since 1970."""
    if not REAL:
        told = files.read_jsonl(folder / "events.jsonl")[0]
        return [float(e["t"]) for e in told if e.get("type") == "step"]
    found = []
    for path in sorted((folder / "logs").glob("*/network_train/events.out.tfevents.*")):
        data, at = path.read_bytes(), 0
        while len(data) - at >= 12:
            (size,) = struct.unpack_from("<Q", data, at)
            record = data[at + 12 : at + 12 + size]
            at += 16 + size
            # wall_time is the first field of each event.
            if record[:1] == b"\x09" and any(s.tag == LOSS for s in scalars_of(record)):
                found.append(struct.unpack_from("<d", record, 1)[0])
    return found


def pace(folder: Path) -> float:
    """Seconds a step, the median."""
    return statistics.median(b - a for a, b in pairwise(moments(folder)[WARM:]))


# --- The two sides


def environment() -> dict[str, str]:
    """What a job gets: only the studio itself shall differ."""
    shared = {"COLUMNS": "400", "LINES": "50", "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8", "OMP_WAIT_POLICY": "PASSIVE"}  # fmt: skip
    return {**shared, **(kohya.environment() if REAL else allowed())}


def bare(plan: TrainingPlan) -> None:
    """The command alone, its output in a file."""
    command, folder = get_backend(plan.settings.backend).command(plan), plan.run_folder
    if REAL:
        kohya.config.write(plan, kohya.layout.lay_out(plan))
        kohya.tokenizers.write(folder / kohya.config.TOKENIZERS)
        command = kohya.command(plan, None)
    with (folder / "output.txt").open("wb") as out:
        # An open standard input: its end would tell the trainer to stop.
        process = subprocess.Popen(
            command, cwd=plan.engine.get("source"), env=environment(), stdin=subprocess.PIPE, stdout=out, stderr=out,
        )  # fmt: skip
        if process.wait() != 0:
            raise SystemExit(
                f"The bare run failed: {(folder / 'output.txt').read_text('utf-8', 'replace')[-2000:]}"
            )


def processor(pid: int) -> float:
    """Processor seconds of a process, all its threads together; 0 when it has gone."""
    if sys.platform == "linux":  # its own clock, in ns; the times in /proc go by hundredths of a second
        try:
            return time.clock_gettime((~pid << 3) | 2)
        except OSError:
            return 0.0
    try:
        told = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return 0.0
    return float(told.user + told.system)


class Watched:
    """A run under the studio, and which processes are the studio's and which the training's."""

    def __init__(self, plan: TrainingPlan) -> None:
        self.plan, self.folder = plan, plan.run_folder
        command = get_backend(plan.settings.backend).command(plan)
        self.job: Job = launch(self.folder, JobSpec("training", "Training", command))
        while self.job.is_alive and not self._stepped():
            time.sleep(0.2)
        told = files.read_json(self.folder / "process.json") or {}
        if not self.job.is_alive:
            raise SystemExit(f"The run did not begin: {self.job.error}\n{self.job.log_tail()[-2000:]}")
        supervisor, worker = psutil.Process(int(told["supervisor"])), psutil.Process(int(told["worker"]))
        guards = [p.pid for p in supervisor.children() if p.pid != worker.pid]
        below = [p.pid for p in worker.children(recursive=True)]
        self.studio = [supervisor.pid, *guards, *([worker.pid] if REAL else [])]
        self.training = below if REAL else [worker.pid, *below]
        self.first = self._spent()
        self.last = self.first

    def _stepped(self) -> bool:
        try:
            return b'"type": "step"' in (self.folder / "events.jsonl").read_bytes()
        except OSError:
            return False

    def _spent(self) -> tuple[float, float]:
        return sum(map(processor, self.studio)), sum(map(processor, self.training))

    def look(self) -> bool:
        """Note what was used so far; whether it still runs."""
        now = self._spent()
        # What has ended counts nothing any more, so the last look counts at which all of it was there.
        if all(map(processor, [*self.studio, *self.training])):
            self.last = now
        return self.job.is_alive

    def hold(self, held: bool) -> None:
        """Hold the studio's processes, or let them go on."""
        for pid in self.studio:
            os.kill(pid, signal.SIGSTOP if held else signal.SIGCONT)

    def end(self) -> float:
        """Wait for the end; the studio's share."""
        while self.look():
            time.sleep(0.25)
        if self.job.wait() not in ("finished", "stopped"):
            raise SystemExit(f"The run did not finish: {self.job.error}")
        return self.share

    @property
    def share(self) -> float:
        """The studio's processor time as a share of the training's, from the first step to the last look."""
        return (self.last[0] - self.first[0]) / (self.last[1] - self.first[1])


def in_windows(watched: Watched, blocks: int) -> Ratio:
    """Steps while the studio works against steps while it is held; each block of four windows gives two pairs."""
    spans: list[tuple[str, float, float]] = []
    time.sleep(HOLD_S)
    try:
        for side in abba(blocks, "works", "held"):
            watched.hold(side == "held")
            began = time.time()
            time.sleep(HOLD_S)
            spans.append((side, began, time.time()))
            if side == "works" and not watched.look():
                break
    finally:
        watched.hold(False)
    watched.job.stop()
    watched.end()
    at = moments(watched.folder)
    steps = list(pairwise(at))
    means = []
    for side, began, ended in spans:
        inside = [b - a for a, b in steps if began <= a and b <= ended]
        if inside:
            means.append((side, statistics.fmean(inside)))
    pairs = []
    for a, b in zip(means[::2], means[1::2], strict=False):
        both = dict((a, b))
        if len(both) == 2:
            pairs.append((both["works"], both["held"]))
    return ratio(pairs)


def main() -> None:
    """Measure, and say what it came to."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument(
        "--blocks",
        type=int,
        default=2,
        help="of four whole runs each; 0: none (and no windows either: one run, for the processor time alone)",
    )
    asked.add_argument("--steps", type=int, default=40, help="of a whole run")
    asked.add_argument("--windows", type=int, default=16, help="blocks of four windows; 0: none")
    asked.add_argument("--model", type=Path)
    asked.add_argument("--json", action="store_true")
    args = asked.parse_args()
    home = Path(tempfile.mkdtemp(prefix="overhead-"))
    source, model = Path(SOURCE), args.model or shipped("data", "pocket")
    result: dict[str, object] = {"engine": "sd-scripts" if REAL else "built in", "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None}  # fmt: skip
    shares: list[float] = []
    said: list[str] = []
    try:
        if REAL and args.model is None:
            source, model = small_engine(home)
        if args.windows:
            watched = Watched(make_plan(home / "long", 100_000, model, source))
            told = in_windows(watched, args.windows)
            result["windows"] = told.as_dict()
            shares.append(watched.share)
            said.append(
                f"A step takes longer by {told.words} while the studio's processes work than while they are held."
            )
        paces: dict[str, list[float]] = {"bare": [], "studio": []}
        for n, side in enumerate(abba(args.blocks, "bare", "studio")):
            plan = make_plan(home / f"{side}-{n}", args.steps, model, source)
            if side == "bare":
                bare(plan)
            else:
                shares.append(Watched(plan).end())
            paces[side].append(pace(plan.run_folder))
            shutil.rmtree(plan.run_folder)
        if not (args.blocks or args.windows):
            shares.append(Watched(make_plan(home / "run", args.steps, model, source)).end())
        if args.blocks:
            told = ratio(list(zip(paces["studio"], paces["bare"], strict=True)))
            result["runs"] = {
                **told.as_dict(),
                **{k: round(statistics.median(v), 4) for k, v in paces.items()},
            }
            said.append(
                f"A step takes {statistics.median(paces['bare']):.4f} s bare; under the studio {told.words}."
            )
        result["processor"] = round(statistics.median(shares), 5)
        said.append(f"The studio's own processes take {statistics.median(shares):.2%} of the training's processor time "
                    f"({len(shares)} runs, {min(shares):.2%} to {max(shares):.2%}).")  # fmt: skip
    finally:
        shutil.rmtree(home, ignore_errors=True)
    print(json.dumps(result) if args.json else "\n".join(said))


if __name__ == "__main__":
    main()
