"""Trains nothing, quickly: `python train.py RUN_FOLDER [SECONDS_A_STEP]`. Same files and events as the built-in trainer."""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path

from studio import files
from studio.errors import InputError
from studio.jobs.lifeline import Worker
from studio.training.base import TrainingPlan

folder, pause = Path(sys.argv[1]), float((sys.argv[2:] or ["0.002"])[0])


def lora(path: Path, about: dict[str, str], value: int) -> None:
    """A whole safetensors file with one tiny layer."""
    body = bytes([value % 256]) * 20
    header = {"__metadata__": about}
    for i, part in enumerate(("lora_down.weight", "lora_up.weight", "alpha")):
        start, end, shape = ((0, 8, [1, 2]), (8, 16, [2, 1]), (16, 20, []))[i]
        header[f"lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q.{part}"] = {
            "dtype": "F32",
            "shape": shape,
            "data_offsets": [start, end],
        }
    text = json.dumps(header).encode()
    files.write_bytes(path, struct.pack("<Q", len(text)) + text + body)


with Worker(folder) as worker:
    plan = TrainingPlan.load(folder)
    if "explode" in plan.settings.sample_prompts and not plan.limit_steps:
        raise InputError("The picture is broken.", "It ends in the middle.", "Remove it.")
    note = folder / "state" / "step.json"
    step = int((files.read_json(note) or {"step": 0})["step"])
    total = plan.limit_steps or 12
    per_epoch = 4
    epochs = max(1, total // per_epoch)
    worker.emit("plan", total_steps=total, epochs=epochs, steps_per_epoch=per_epoch, trainable=4)
    stopped = False
    while step < total:
        worker.sleep(pause)
        step += 1
        epoch, loss = (step - 1) // per_epoch + 1, 1 / (step + 1)
        worker.emit("step", step=step, epoch=epoch, loss=loss, loss_avg=loss)
        worker.progress(
            step,
            total,
            "steps",
            f"Epoch {epoch} of {epochs}",
            step=step,
            epoch=epoch,
            epochs=epochs,
            loss=loss,
        )
        about = {
            "ss_epoch": str(epoch),
            "ss_steps": str(step),
            "ss_network_dim": "8",
            "ss_num_epochs": str(epochs),
        }
        if step % per_epoch == 0:
            worker.emit("epoch", epoch=epoch, step=step, loss_avg=loss)
            if step < total and not plan.limit_steps:
                lora(folder / "checkpoints" / f"{plan.output_name}-{epoch:06d}.safetensors", about, step)
        if worker.should_stop and step < total:
            stopped = True
            break
    files.write_json(note, {"step": step})
    if not stopped:
        lora(folder / "checkpoints" / f"{plan.output_name}.safetensors", about, step)
        result = {
            "seconds_per_step": 0.01, "steps_run": step, "start_seconds": 0.1, "peak_bytes": 1_000_000, "first_loss": 0.5,
            "last_loss": 1 / (step + 1),
        }  # fmt: skip
        worker.emit("done", **result)
        worker.finish(result)
    else:
        worker.finish({"steps": step})
