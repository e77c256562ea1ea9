"""The training job of the kohya backend: `python -m studio.training.workers.kohya RUN_FOLDER`.

Lays out pictures and captions, writes the config files, starts the script of sd-scripts in its own environment, drains both
of its streams, and tells what they say as events. Whether it succeeded is judged by what it left, never by its exit code.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from studio import files
from studio.errors import EnvironmentalError, StudioError
from studio.jobs.lifeline import Worker
from studio.machine import detect
from studio.training import anomalies
from studio.training.base import SAMPLES, TrainingPlan, find_checkpoints
from studio.training.sdscripts import config, layout, options, tokenizers
from studio.training.sdscripts.explain import Story, conclude
from studio.training.sdscripts.log import LogReader, is_broken
from studio.training.weights import broken_layers

POLL_S = 0.5
MEASURE_EVERY_S = 3.0
SAVE_WAIT_S = 45.0
LOOK_EVERY_STEPS = 25
_SEEN_IN_MEANS = ("loss-nan", "loss-divergence")
_STATE = re.compile(r"-(\d{6})-state$")
_SAMPLE = re.compile(r"_(?:e(?P<epoch>\d{6})|(?P<step>\d{6}))_(?P<index>\d{2})_\d{14}(?:_\d+)?$")


def newest_state(plan: TrainingPlan) -> tuple[Path, int] | None:
    """The state of the latest epoch that was saved whole, and that epoch; None when there is none."""
    found = []
    for folder in (plan.run_folder / config.OUTPUT).glob(f"{plan.output_name}-*-state"):
        epoch = _STATE.search(folder.name)
        # train_state.json is written last.
        if epoch and (folder / "train_state.json").is_file() and any(folder.glob("*.safetensors")):
            found.append((int(epoch[1]), folder))
    if not found:
        return None
    epoch_number, folder = max(found)
    return folder, epoch_number


def command(plan: TrainingPlan, state: tuple[Path, int] | None) -> list[str]:
    """The line that starts the script. state: where to go on from.

    The epoch is told beside the state: a state that was saved by a resumed run counts its steps from 0 again.
    """
    guard = Path(__file__).with_name("sdscripts_guard.py")
    source = Path(plan.engine["source"])
    line = [
        plan.engine["python"], "-m", "accelerate.commands.launch", "--num_processes", "1", "--num_machines", "1",
        "--mixed_precision", plan.settings.precision, "--dynamo_backend", "no",
        "--num_cpu_threads_per_process", str(max(1, psutil.cpu_count(logical=False) or 1)),
    ]  # fmt: skip
    if detect().device == "cpu":
        line.append("--cpu")
    line += [
        str(guard), str(source / f"{options.SCRIPTS[plan.family]}.py"),
        "--config_file", str(plan.run_folder / config.TRAIN),
        "--dataset_config", str(plan.run_folder / config.DATASET),
        "--tokenizer_cache_dir", str(plan.run_folder / config.TOKENIZERS),
    ]  # fmt: skip
    if state:
        line += ["--resume", str(state[0]), "--initial_epoch", str(state[1] + 1)]
    return line


def environment() -> dict[str, str]:
    """What the script sees: the job's own allow-list, wide lines (it wraps paths otherwise), and prints that arrive."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV", "STUDIO_"))}
    # Threads that spin while they wait make a step many times slower when anything else wants the cores.
    kept.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    return {**kept, "COLUMNS": "400", "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8", "PYTHONUTF8": "1"}


class Follower:
    """Turns what the script says and leaves into the run's events."""

    def __init__(self, plan: TrainingPlan, worker: Worker, resumed_epoch: int) -> None:
        self.plan, self.worker = plan, worker
        self.story = Story()
        self.resumed_epoch = resumed_epoch
        self.losses: list[float] = []
        self.times: list[float] = []
        self.stepped_at = 0.0
        self.first_step = 0
        self.began = time.monotonic()
        self.started_steps: float | None = None
        self.epoch = resumed_epoch
        self.peak = 0
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
        self.epoch = self._epoch_of(step)
        self.worker.emit(
            "step", step=step, epoch=self.epoch, loss=loss, loss_avg=loss, s_per_step=pace, memory=self.peak
        )
        self.worker.progress(
            step, event["total"], "steps", f"Step {step} of {event['total']}", stage="train", step=step,
            epoch=self.epoch, epochs=self.story.told.epochs, loss=loss,
        )  # fmt: skip
        if loss is not None:
            self.losses.append(loss)
            if self._steps_per_epoch and step % self._steps_per_epoch == 0:
                self.worker.emit("epoch", epoch=self.epoch, loss_avg=loss)
        if is_broken(loss) or len(self.losses) % LOOK_EVERY_STEPS == 0:
            self._look()

    def _look(self) -> None:
        """The script tells means over the epoch so far, not single losses. NaN and divergence show in them; a plateau is
        judged by the wobble of single losses, and cannot be seen."""
        told = self.story.told
        for finding in anomalies.detect(self.losses, told.plan.get("steps_per_epoch", 0), told.total_steps):
            if finding.code in _SEEN_IN_MEANS and finding.code not in self.noticed:
                self.noticed.add(finding.code)
                self.worker.emit("anomaly", finding=finding.model_dump(mode="json"))

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
        if not at or time.time() - picture.stat().st_mtime < 1:
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
        try:
            tree = [process, *process.children(recursive=True)]
            pids = {p.pid for p in tree}
            used = _gpu_bytes(pids) or sum(p.memory_info().rss for p in tree)
        except psutil.Error:
            return
        self.peak = max(self.peak, used)

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


def _pace(times: list[float]) -> float | None:
    """Seconds a step: the mean of all but the first, which warms caches up."""
    later = times[1:] or times
    return sum(later) / len(later) if later else None


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


def _drain(stream: Any, sink: Any, reader: LogReader, follower: Follower) -> None:
    """Pass a stream on to the log and to the reader until it ends. A full pipe would stop the training."""
    while piece := stream.read1(65536):
        with suppress(OSError):
            sink.write(piece)
            sink.flush()
        for event in reader.feed(piece):
            follower.take(event)
    for event in reader.end():
        follower.take(event)


def train(plan: TrainingPlan, worker: Worker) -> dict[str, Any] | None:
    """Run the script to its end; what came out, or None when it was stopped."""
    worker.progress(0, None, "", "Preparing pictures", stage="prepare")
    laid = layout.lay_out(plan)
    config.write(plan, laid)
    tokenizers.write(plan.run_folder / config.TOKENIZERS)
    state = newest_state(plan) if not plan.limit_steps else None
    steps_before = _steps_at(plan, state)
    line = command(plan, state)
    worker.emit("stage", name="start", message="Starting sd-scripts")
    worker.progress(0, None, "", "Starting sd-scripts", stage="start")
    process = subprocess.Popen(
        line,
        cwd=plan.engine["source"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    follower = Follower(plan, worker, state[1] if state else 0)
    drains = [
        threading.Thread(
            target=_drain, args=(stream, sink, LogReader(offset=steps_before), follower), daemon=True
        )
        for stream, sink in ((process.stdout, sys.stdout.buffer), (process.stderr, sys.stderr.buffer))
    ]
    for d in drains:
        d.start()
    watched, measured = psutil.Process(process.pid), 0.0
    while process.poll() is None:
        if worker.sleep(POLL_S):
            _end(process, follower)
            break
        follower.look_around()
        if time.monotonic() - measured > MEASURE_EVERY_S:
            measured = time.monotonic()
            follower.measure(watched)
    for d in drains:
        d.join(30)
    follower.look_around()
    if worker.should_stop and not follower.story.model_saved:
        worker.emit("stopped", step=follower.story.told.step, reason=worker.stop_reason)
        return None
    return follower.result()


def _steps_at(plan: TrainingPlan, state: tuple[Path, int] | None) -> int | None:
    """Steps before a state; None for a fresh start. The plan event of the first attempt says how long an epoch is."""
    if state is None:
        return None
    events = files.read_jsonl(plan.run_folder / "events.jsonl")[0]
    per_epoch = [
        int(e["steps_per_epoch"]) for e in events if e.get("type") == "plan" and e.get("steps_per_epoch")
    ]
    return state[1] * per_epoch[-1] if per_epoch else None


def _end(process: subprocess.Popen[bytes], follower: Follower) -> None:
    """End the script, but let a checkpoint that it is just writing become whole first."""
    until = time.monotonic() + SAVE_WAIT_S
    while follower.saving and process.poll() is None and time.monotonic() < until:
        time.sleep(POLL_S)
        follower.look_around()
    if process.stdin:
        with suppress(OSError):
            process.stdin.close()  # the guard ends the script
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        for p in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]:
            with suppress(psutil.Error):
                p.kill()
        process.wait()


def main(arguments: list[str]) -> None:
    """Train the plan of the folder named by the only argument."""
    folder = Path(arguments[0])
    with Worker(folder) as worker:
        plan = TrainingPlan.load(folder)
        result = train(plan, worker)
        if result is None:
            worker.finish(None, complete=False)
            return
        worker.finish(result, complete=True)
        for state in (plan.run_folder / config.OUTPUT).glob("*-state"):
            shutil.rmtree(state, ignore_errors=True)  # a finished run has nothing to go on with
        shutil.rmtree(plan.run_folder / layout.FOLDER, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1:])
