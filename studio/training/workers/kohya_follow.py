"""What a script of sd-scripts says and leaves, as the events of a run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from studio import files, vram
from studio.errors import EnvironmentalError, StudioError
from studio.findings import Finding
from studio.jobs.lifeline import Worker
from studio.training import anomalies
from studio.training.base import SAMPLES, TrainingPlan, find_checkpoints
from studio.training.sdscripts import config
from studio.training.sdscripts.explain import Story, conclude
from studio.training.sdscripts.log import is_broken
from studio.training.sdscripts.scalars import LOSS, RATE, Scalars
from studio.training.watching import Watch
from studio.training.weights import broken_layers
from studio.vram.conditions import STATE

LOGS = "logs"
LOOK_EVERY_STEPS = 25
TREE_EVERY_S = 20.0
_SCALED = "d*lr/"
PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
# A card's memory is at its peak within the first steps; later it is asked for more seldom.
SETTLED_S, CARD_EVERY_S = 60.0, 12.0
_SEEN_IN_MEANS = ("loss-nan", "loss-divergence", "loss-guessing")
_SAMPLE = re.compile(r"_(?:e(?P<epoch>\d{6})|(?P<step>\d{6}))_(?P<index>\d{2})_\d{14}(?:_\d+)?$")


class Follower:
    """Turns what the script says and leaves into the run's events.

    steps_before: steps that were done before this start; figures of TensorBoard count from there.
    """

    def __init__(self, plan: TrainingPlan, worker: Worker, resumed_epoch: int, steps_before: int = 0) -> None:
        self.plan, self.worker = plan, worker
        self.steps_before = steps_before
        self.scalars = Scalars(plan.run_folder / LOGS)
        self.watch = Watch(plan.run_folder, self._tell, _save_bytes(plan))
        self.story = Story()
        self.resumed_epoch = resumed_epoch
        self.losses: list[float] = []
        self.raw: dict[int, float] = {}
        self.times: list[float] = []
        self.stepped_at = 0.0
        self.first_step = 0
        self.began = time.monotonic()
        self.started_steps: float | None = None
        self.epoch = resumed_epoch
        self.peak = 0
        self._tree: list[psutil.Process] = []
        self._tree_at = self._card_at = float("-inf")
        self._card = 0
        self.saving: Path | None = None
        self.told: set[str] = set()
        self.noticed: set[str] = set()
        self._lock = threading.Lock()

    def take(self, event: dict[str, Any]) -> None:
        """One event of a stream; both streams call this."""
        with self._lock:
            self.story.take(event)
            handler = getattr(self, f"_on_{event['type']}", None)
            if handler:
                handler(event)

    def _on_plan(self, event: dict[str, Any]) -> None:
        if "total_steps" in event:
            self.worker.emit(
                "plan",
                total_steps=event["total_steps"],
                epochs=event.get("epochs", 0),
                steps_per_epoch=self._steps_per_epoch,
                device=self.story.told.device,
            )

    def _on_stage(self, event: dict[str, Any]) -> None:
        words = {"read caption": "Reading captions"}.get(event["name"], "Preparing pictures")
        self.watch.heard()
        if self.started_steps is None:
            self.worker.progress(event["done"], event["total"], "", words, stage="prepare")

    def _epoch_of(self, step: int) -> int:
        """The epoch of a step. Steps and the script's words about epochs come by two streams, in no certain order."""
        per_epoch = self._steps_per_epoch
        return -(-step // per_epoch) if per_epoch else self.story.told.epoch

    @property
    def _steps_per_epoch(self) -> int:
        told = self.story.told.plan
        return -(-told.get("steps_per_epoch", 0) // max(1, told.get("accumulation", 1)))

    def _on_step(self, event: dict[str, Any]) -> None:
        if self.started_steps is None:
            self.started_steps = time.monotonic()
            self.first_step = event["step"]
        loss, step = event["loss"], event["step"]
        now = time.monotonic()
        # The script's own pace is a mean since the start, which the first step's warming up spoils for long.
        pace = event["seconds_per_step"] if not self.times else now - self.stepped_at
        self.stepped_at = now
        if pace:
            self.times.append(pace)
        self.watch.heard(_pace(self.times[-50:]))
        self.epoch = self._epoch_of(step)
        # The console's figure is a mean over the epoch so far; that of the step alone follows from TensorBoard's file.
        self.worker.emit(
            "step",
            step=step,
            epoch=self.epoch,
            loss=loss,
            loss_avg=loss,
            mean=True,
            s_per_step=pace,
            memory=self.peak,
        )
        self.worker.progress(
            step, event["total"], "steps", f"Step {step} of {event['total']}", stage="train", step=step,
            epoch=self.epoch, epochs=self.story.told.epochs, loss=loss,
        )  # fmt: skip
        if loss is not None:
            self.losses.append(loss)
            if self._steps_per_epoch and step % self._steps_per_epoch == 0:
                self.worker.emit("epoch", epoch=self.epoch, loss_avg=loss)
        if is_broken(loss) or step % max(LOOK_EVERY_STEPS, step // 100) == 0:
            self._look()

    def _look(self) -> None:
        """Judge the losses so far: those of single steps where they are known to the end, else the console's means, in which
        NaN, divergence and guessing show, but not a plateau, which is judged by the wobble of single losses."""
        told = self.story.told
        per_epoch, total = self._steps_per_epoch, told.total_steps + self.steps_before
        found = [f for f in anomalies.detect(self.losses, per_epoch, total) if f.code in _SEEN_IN_MEANS]
        if len(self.raw) > anomalies.LEAST_STEPS:
            found += anomalies.detect([self.raw[k] for k in sorted(self.raw)], per_epoch, total)
        for finding in found:
            self._tell(finding)

    def _tell(self, finding: Finding) -> None:
        if finding.code not in self.noticed:
            self.noticed.add(finding.code)
            self.worker.emit("anomaly", finding=finding.model_dump(mode="json"))

    def read_scalars(self) -> None:
        """Tell the losses of single steps and the learning rates that were written since the last look."""
        new = self.scalars.read()
        if not new:
            return
        steps: dict[int, dict[str, float]] = {}
        for s in new:
            if s.tag == LOSS or s.tag.startswith(RATE):
                steps.setdefault(s.step + self.steps_before, {})[s.tag] = s.value
        self.raw |= {step: told[LOSS] for step, told in steps.items() if LOSS in told}
        numbers = sorted(steps)
        parts = rate_tags({tag for told in steps.values() for tag in told})
        self.worker.emit(
            "scalars",
            steps=numbers,
            loss=[steps[n].get(LOSS) for n in numbers],
            lr={part: [steps[n].get(tag) for n in numbers] for part, tag in parts.items()},
        )

    def _on_saving(self, event: dict[str, Any]) -> None:
        self.saving = Path(event["path"])

    # --- What lies on the disk

    def look_around(self) -> None:
        """Tell checkpoints that are whole, and samples, once each."""
        for c in find_checkpoints(self.plan.run_folder):
            if c.path.name in self.told:
                continue
            self.told.add(c.path.name)
            if self.saving and self.saving.name == c.path.name:
                self.saving = None
            self.worker.emit(
                "checkpoint", path=f"{config.OUTPUT}/{c.path.name}", step=c.step, epoch=c.epoch, final=c.final
            )
        for picture in sorted((self.plan.run_folder / config.OUTPUT / "sample").glob("*.png")):
            self._sample(picture)

    def _sample(self, picture: Path) -> None:
        at = _SAMPLE.search(picture.stem)
        if not at or not _is_whole(picture):
            return
        index = int(at["index"])
        epoch = int(at["epoch"]) if at["epoch"] else self.epoch
        step = int(at["step"]) if at["step"] else epoch * self._steps_per_epoch
        prompts = self.plan.prompts
        prompt = prompts[index] if index < len(prompts) else ""
        target = self.plan.run_folder / SAMPLES / f"{step:06d}_{index}.png"
        target.parent.mkdir(exist_ok=True)
        files.write_json(target.with_suffix(".json"), {"epoch": epoch, "step": step, "prompt": prompt})
        picture.replace(target)
        self.worker.emit("sample", path=f"{SAMPLES}/{target.name}", step=step, epoch=epoch, prompt=prompt)

    def measure(self, process: psutil.Process) -> None:
        """Keep the most memory seen in use: of the graphics card where there is one, else of the script's processes."""
        now = time.monotonic()
        try:
            # Looking through all processes of the computer costs more than all else here. The script has started its own by the
            # first step; until then each look counts, or a dry run that ends within the pause measures the launcher alone.
            begun = self.started_steps is not None
            if not begun or now - self._tree_at > TREE_EVERY_S or not all(p.is_running() for p in self._tree):
                self._tree, self._tree_at = [process, *process.children(recursive=True)], now
            used = self._on_card(now) or sum(p.memory_info().rss for p in self._tree)
        except psutil.Error:
            self._tree = []
            return
        self.peak = max(self.peak, used)

    def _on_card(self, now: float) -> int:
        """Memory of the graphics card in use; 0 without one, and between two questions, of which each starts a program."""
        settled = self.started_steps is not None and now - self.started_steps > SETTLED_S
        if now - self._card_at < (CARD_EVERY_S if settled else 0):
            return self._card
        self._card, self._card_at = _gpu_bytes({p.pid for p in self._tree}), now
        return self._card

    # --- The end

    def result(self) -> dict[str, Any]:
        """What came out. Raises StudioError with the cause when it is worth nothing, whatever the exit code was."""
        told = conclude(self.story)
        self.look_around()
        blocking = [f for f in told.findings if f.severity == "block"]
        if blocking:
            raise StudioError(blocking[0].what, blocking[0].why, blocking[0].fix, blocking)
        final = self.plan.run_folder / config.OUTPUT / f"{self.plan.output_name}.safetensors"
        whole = [c for c in find_checkpoints(self.plan.run_folder) if c.path == final]
        if not whole or not self.story.model_saved:
            raise EnvironmentalError(
                "The training ended without a LoRA.",
                "The script ended, and no whole file of it is there.",
                "Look at the end of the log. Start the run again: it goes on from the last state.",
            )
        bad = broken_layers(final)
        if bad:
            raise StudioError(
                "The LoRA is worth nothing: its weights are no numbers (NaN).",
                f"{len(bad)} of its layers broke during training, such as {bad[0]}. The script saves such a file all the same.",
                "Lower the learning rate, or use bf16 or full precision; then start a new run.",
            )
        steps = told.step
        result = {
            "path": f"{config.OUTPUT}/{final.name}",
            "steps": steps,
            "steps_run": steps - self.first_step + 1 if steps else 0,
            "epochs": told.epochs or self.epoch,
            "seconds_per_step": _pace(self.times),
            "first_step_seconds": self.times[0] if self.times else None,
            "start_seconds": (self.started_steps or time.monotonic()) - self.began,
            "train_seconds": time.monotonic() - (self.started_steps or time.monotonic()),
            "peak_bytes": self.peak,
            "first_loss": told.first_loss,
            "last_loss": told.last_loss,
            "loss_avg": told.last_loss,
        }
        self.worker.emit("done", **result)
        return result


def _is_whole(picture: Path) -> bool:
    """Whether a PNG file was written to its end. Its age would not tell once the clock is set."""
    with suppress(OSError), picture.open("rb") as f:
        f.seek(-len(PNG_END), os.SEEK_END)
        return f.read() == PNG_END
    return False


def _pace(times: list[float]) -> float | None:
    """Seconds a step: the mean of all but the first, which warms caches up."""
    later = times[1:] or times
    return sum(later) / len(later) if later else None


def rate_tags(tags: Iterable[str]) -> dict[str, str]:
    """The learning rates among the script's tags: part -> tag. What the other backends call "te" is "textencoder" here.

    Prodigy multiplies the rate it is given by one of its own finding, which is what the weights are changed by: `d*lr/unet`
    stands for `unet` then. The script tells each rate once more by the number of its group, and the first one as `textencoder`.
    """
    found: dict[str, str] = {}
    for tag in sorted(tags, key=lambda t: _SCALED in t):
        if not tag.startswith(RATE) or "/group" in tag:
            continue
        name = " ".join(tag.removeprefix(RATE).removeprefix(_SCALED).split())
        found[f"te{name[len('textencoder') :]}" if name.startswith("textencoder") else name] = tag
    if any(part.startswith("te ") for part in found):
        found.pop("te", None)
    return dict(sorted(found.items()))


def _save_bytes(plan: TrainingPlan) -> int:
    """About the size of one checkpoint and the state beside it."""
    trained = vram.forecast(vram.conditions(plan.family, plan.settings)).trained
    return int(trained * (2 + 4 + STATE[plan.settings.optimizer]))


def _gpu_bytes(pids: set[int]) -> int:
    """Memory of the graphics card that these processes hold; 0 without one."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return 0
    try:
        done = subprocess.run(
            [tool, "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"],
            capture_output=True, text=True, timeout=10, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return 0
    used = 0
    for line in done.stdout.splitlines():
        pid, _, mebibytes = line.partition(",")
        if pid.strip().isdigit() and int(pid) in pids and mebibytes.strip().isdigit():
            used += int(mebibytes) << 20
    return used
