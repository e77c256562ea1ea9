"""The training job of the kohya backend: `python -m studio.training.workers.kohya RUN_FOLDER`.

Lays out pictures and captions, writes the config files, starts the script of sd-scripts in its own environment, drains both
of its streams, and tells what they say as events. Whether it succeeded is judged by what it left, never by its exit code.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from studio import files
from studio.errors import StudioError
from studio.jobs.lifeline import Worker
from studio.jobs.processes import oom_kills
from studio.machine import detect
from studio.training import recovery
from studio.training.base import TrainingPlan
from studio.training.record import recorded
from studio.training.sdscripts import config, families, layout, options, tokenizers
from studio.training.sdscripts.causes import cause_of
from studio.training.sdscripts.log import LogReader
from studio.training.workers.kohya_follow import LOGS, Follower

POLL_S = 0.5
MEASURE_EVERY_S = 3.0
SAVE_WAIT_S = 45.0
_STATE = re.compile(r"-(\d{6})-state$")
_CHECKPOINT = re.compile(r"-(\d{6})\.safetensors$")


def newest_state(plan: TrainingPlan) -> tuple[Path, int] | None:
    """The state of the latest epoch that was saved whole, and that epoch; None when there is none."""
    found = []
    for folder in (plan.run_folder / config.OUTPUT).glob(f"{plan.output_name}-*-state"):
        epoch = _STATE.search(folder.name)
        # accelerate writes train_state.json first, then weights, optimizer and scheduler, and the random states last.
        if epoch and (folder / "train_state.json").is_file() and any(folder.glob("random_states_*.pkl")):
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
    if writes_scalars(plan.engine["python"]):
        line += ["--logging_dir", str(plan.run_folder / LOGS), "--log_with", "tensorboard"]
    if state:
        line += ["--resume", str(state[0]), "--initial_epoch", str(state[1] + 1)]
    return line


def writes_scalars(python: str) -> bool:
    """Whether the engine's environment has TensorBoard: asked for without it, the script would end at once."""
    asked = "import importlib.util as u, sys; sys.exit(u.find_spec('tensorboard') is None)"
    try:
        return (
            subprocess.run(
                [python, "-c", asked], check=False, timeout=60, stdin=subprocess.DEVNULL
            ).returncode
            == 0
        )
    except (OSError, subprocess.SubprocessError):
        return False


def environment() -> dict[str, str]:
    """What the script sees: the job's own allow-list, wide lines (it wraps paths otherwise), and prints that arrive."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV", "STUDIO_"))}
    # Threads that spin while they wait make a step many times slower when anything else wants the cores.
    kept.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    return {**kept, "COLUMNS": "400", "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8", "PYTHONUTF8": "1"}


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
    tokenizers.write(plan.run_folder / config.TOKENIZERS, plan.parts.get(families.T5_TOKENIZER))
    state = newest_state(plan) if not plan.limit_steps else None
    steps_before = _steps_at(plan, state)
    line = command(plan, state)
    kills = oom_kills()
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
    follower = Follower(plan, worker, state[1] if state else 0, steps_before or 0)
    drains = [
        threading.Thread(
            target=_drain, args=(stream, sink, LogReader(offset=steps_before), follower), daemon=True
        )
        for stream, sink in ((process.stdout, sys.stdout.buffer), (process.stderr, sys.stderr.buffer))
    ]
    for d in drains:
        d.start()
    watched, measured = psutil.Process(process.pid), 0.0
    # A few quick steps of a dry run fit between two looks, and its peak is what the forecast goes by from then on.
    pause = POLL_S if plan.limit_steps else MEASURE_EVERY_S
    follower.measure(watched)  # a script that ends within half a second had some memory, too
    with follower.watch:
        while process.poll() is None:
            if worker.sleep(POLL_S):
                _end(process, follower)
                break
            follower.look_around()
            if time.monotonic() - measured >= pause:
                measured = time.monotonic()
                follower.measure(watched)
                follower.read_scalars()
        for d in drains:
            d.join(30)
    follower.look_around()
    follower.read_scalars()
    if worker.should_stop and not follower.story.model_saved:
        worker.emit("stopped", step=follower.story.told.step, reason=worker.stop_reason)
        return None
    if process.returncode < 0 and not worker.should_stop and not follower.story.killed:
        # The launcher names the signal only when it is not itself what was killed.
        follower.take({"type": "killed", "signal": _signal_name(-process.returncode)})
    try:
        return follower.result()
    except StudioError as error:
        left = newest_state(plan)
        note = recovery.reduce(
            plan,
            _of_system(error, kills),
            step=follower.story.told.step,
            resumed_at=_steps_at(plan, left) or 0,
        )
    number = len(recovery.halvings(plan.run_folder))
    worker.emit("anomaly", finding=recovery.finding(note, number).model_dump(mode="json"))
    worker.emit("stage", name="retry", message=note.sentence)
    with suppress(OSError):
        print(f"\n[studio] {note.sentence}", flush=True)  # so that the log tells where the next try begins
    return train(recovery.adjusted(plan), worker)


def _signal_name(number: int) -> str:
    with suppress(ValueError):
        return signal.Signals(number).name
    return f"signal {number}"


def _of_system(error: StudioError, kills_before: int | None) -> StudioError:
    """The error; told as a lack of memory when the system ended processes for that while the script was killed."""
    now = oom_kills()
    more = None not in (now, kills_before) and now > kills_before  # type: ignore[operator]
    if not more or "ended-from-outside" not in {f.code for f in error.findings}:
        return error
    told = cause_of("MemoryError: ended by the system")
    return error if told is None else StudioError(told.what, told.why, told.fix, [told])


def _steps_at(plan: TrainingPlan, state: tuple[Path, int] | None) -> int | None:
    """Steps before a state; None for a fresh start. The plan event of the first attempt says how long an epoch is."""
    if state is None:
        return None
    events = files.read_jsonl(plan.run_folder / "events.jsonl")[0]
    per_epoch = [
        int(e["steps_per_epoch"]) for e in events if e.get("type") == "plan" and e.get("steps_per_epoch")
    ]
    return state[1] * per_epoch[-1] if per_epoch else None


def _newest_epoch(plan: TrainingPlan) -> int:
    """The epoch of the newest checkpoint that has a state behind it; 0 before the first."""
    names = (plan.run_folder / config.OUTPUT).glob(f"{plan.output_name}-*.safetensors")
    return max((int(found[1]) for n in names if (found := _CHECKPOINT.search(n.name))), default=0)


def _end(process: subprocess.Popen[bytes], follower: Follower) -> None:
    """End the script, but let a checkpoint that it is just writing become whole first, and the state that it writes next."""
    until = time.monotonic() + SAVE_WAIT_S
    wanted: int | None = None
    while process.poll() is None and time.monotonic() < until:
        if not follower.saving:
            # Going on from an older state would repeat a whole epoch. What is saved after this moment is not waited for.
            wanted = _newest_epoch(follower.plan) if wanted is None else wanted
            state = newest_state(follower.plan)
            if follower.plan.limit_steps or wanted <= (state[1] if state else 0):
                break
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
    with Worker(folder) as worker, recorded(folder):
        plan = TrainingPlan.load(folder)
        result = train(recovery.adjusted(plan), worker)
        if result is None:
            worker.finish(None, complete=False)
            return
        worker.finish(result, complete=True)
        for state in (plan.run_folder / config.OUTPUT).glob("*-state"):
            shutil.rmtree(state, ignore_errors=True)  # a finished run has nothing to go on with
        shutil.rmtree(plan.run_folder / layout.FOLDER, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1:])
