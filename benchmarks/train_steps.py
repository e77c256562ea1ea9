"""Steps a second of the built-in backend against a plain diffusers + peft loop: same model, pictures, batch, layers, rank.

    python -m benchmarks.train_steps [--steps 60] [--batch 8] [--rank 8] [--model FOLDER] [--pictures FOLDER]
                                     [--text-encoder] [--threads N] [--json]

The peer is written as the LoRA example of diffusers (train_text_to_image_lora.py) does it: a PyTorch DataLoader that opens
and scales pictures, the VAE and the text encoder at each step, peft adapters, accelerate, AdamW, a schedule from diffusers.
Both sides train the same layers, and take turns in blocks of five steps, so that whatever else the computer does meets
both alike. Medians of seconds a step are compared, by the clock and by processor time; getting ready is told apart.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # for both sides; read when torch loads

import numpy as np
import torch
from accelerate import Accelerator
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from diffusers.optimization import get_scheduler
from peft import LoraConfig
from PIL import Image, ImageOps
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from transformers import CLIPTextModel, CLIPTokenizer

from studio.files import human_time
from studio.jobs.lifeline import Worker
from studio.settings import TrainingSettings
from studio.training.base import PlannedPicture, TrainingPlan
from studio.training.diffusers import threads
from studio.training.lora_keys import target_pattern
from studio.training.workers.learner import Learner
from studio.training.workers.pictures import epoch_batches
from studio.training.workers.setup import Stages, prepare
from studio.workspace import shipped

BLOCK = 5
Step = Callable[[], float]


def ours(plan: TrainingPlan) -> Step:
    """A function that makes the built-in backend's next step and gives its loss."""
    setup = prepare(plan, Stages(Worker(plan.run_folder)))
    setup.network.train()
    learner = Learner(setup)

    def batches() -> Iterator[list[int]]:
        epoch = 1
        while True:
            yield from epoch_batches(setup.buckets, setup.items, setup.settings, epoch)
            epoch += 1

    order, losses = batches(), list[float]()

    def step() -> float:
        losses.append(learner.step(len(losses) + 1, [next(order)], losses)[0])
        return losses[-1]

    return step


class _Pictures(Dataset[dict[str, torch.Tensor]]):
    """Opens, scales and crops a picture each time it is asked for, as the example's transforms do."""

    def __init__(self, plan: TrainingPlan, tokenizer: Any) -> None:
        self._plan = plan
        self._ids = tokenizer(
            [p.caption for p in plan.pictures],
            max_length=tokenizer.model_max_length,
            padding="max_length",
            truncation=True,
            return_tensors="pt",
        ).input_ids

    def __len__(self) -> int:
        return len(self._plan.pictures) * self._plan.settings.repeats

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        index %= len(self._plan.pictures)
        side = self._plan.settings.resolution
        with Image.open(self._plan.pictures[index].path) as raw:
            shown = ImageOps.fit(raw.convert("RGB"), (side, side), Image.Resampling.LANCZOS)
        flat = np.asarray(shown, dtype=np.float32) / 127.5 - 1.0
        return {"pixels": torch.from_numpy(flat).permute(2, 0, 1), "ids": self._ids[index]}


def textbook(plan: TrainingPlan) -> Step:
    """A function that makes the plain loop's next step and gives its loss."""
    s, place = plan.settings, plan.model_path
    torch.manual_seed(s.seed)
    accelerator = Accelerator()
    levels = DDPMScheduler.from_pretrained(place, subfolder="scheduler")
    tokenizer = CLIPTokenizer.from_pretrained(place / "tokenizer")
    told: dict[str, Any] = {"torch_dtype": torch.float32}
    encoder = CLIPTextModel.from_pretrained(place, subfolder="text_encoder", dtype=torch.float32)
    vae = AutoencoderKL.from_pretrained(place, subfolder="vae", **told)
    unet = UNet2DConditionModel.from_pretrained(place, subfolder="unet", **told)
    models = [unet, encoder] if s.train_text_encoder else [unet]
    for model in (unet, vae, encoder):
        model.requires_grad_(False)
    for model, part in zip(models, ("unet", "text_encoder"), strict=False):
        pattern = target_pattern("unet" if part == "unet" else "text_encoder", s.targets)
        model.add_adapter(LoraConfig(r=s.rank, lora_alpha=s.alpha, target_modules=pattern))
    weights = [p for model in models for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=s.learning_rate, weight_decay=s.weight_decay)
    loader = DataLoader(_Pictures(plan, tokenizer), shuffle=True, batch_size=s.batch_size)
    schedule = get_scheduler(s.scheduler, optimizer)
    unet, optimizer, loader, schedule = accelerator.prepare(unet, optimizer, loader, schedule)
    for model in models:
        model.train()

    def batches() -> Iterator[Any]:
        while True:
            yield from loader

    order = batches()

    def step() -> float:
        batch = next(order)
        with accelerator.accumulate(unet):
            latents = vae.encode(batch["pixels"]).latent_dist.sample() * vae.config.scaling_factor
            noise = torch.randn_like(latents)
            times = torch.randint(0, levels.config.num_train_timesteps, (latents.shape[0],)).long()
            noisy = levels.add_noise(latents, noise, times)
            words = encoder(batch["ids"], return_dict=False)[0]
            velocity = levels.config.prediction_type == "v_prediction"
            target = levels.get_velocity(latents, noise, times) if velocity else noise
            guess = unet(noisy, times, words, return_dict=False)[0]
            loss = F.mse_loss(guess.float(), target.float(), reduction="mean")
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(weights, s.max_grad_norm)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        return float(loss.detach().item())

    return step


def take_turns(sides: dict[str, Step], steps: int) -> dict[str, dict[str, list[float]]]:
    """`steps` steps of each side in turns: seconds by the clock and of the processor, and the losses, by side."""
    found: dict[str, dict[str, list[float]]] = {n: {"wall": [], "cpu": [], "loss": []} for n in sides}
    for step in sides.values():
        step()  # the first one also makes buffers
    for block in range(-(-steps // BLOCK)):
        names = list(sides) if block % 2 == 0 else list(sides)[::-1]
        for name in names:
            for _ in range(BLOCK):
                wall, cpu = time.perf_counter(), time.process_time()
                loss = sides[name]()
                found[name]["wall"].append(time.perf_counter() - wall)
                found[name]["cpu"].append(time.process_time() - cpu)
                found[name]["loss"].append(loss)
    return found


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Measure, print, and give the figures."""
    about = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    about.add_argument("--steps", type=int, default=60)
    about.add_argument("--batch", type=int, default=8)
    about.add_argument("--rank", type=int, default=8)
    about.add_argument("--model", type=Path, default=shipped("data", "pocket"))
    about.add_argument("--pictures", type=Path, default=shipped("data", "sample"))
    about.add_argument("--resolution", type=int, default=64)
    about.add_argument("--text-encoder", action="store_true", help="teach the text encoder as well")
    about.add_argument("--threads", type=int, default=threads())
    about.add_argument("--json", action="store_true")
    told = about.parse_args(arguments)
    os.environ["OMP_NUM_THREADS"] = str(told.threads)
    torch.set_num_threads(told.threads)
    pictures = tuple(
        PlannedPicture(path=p, caption=p.with_suffix(".txt").read_text(encoding="utf-8").strip())
        for p in sorted(told.pictures.glob("*.png"))
    )
    if not pictures:
        raise SystemExit(f"There are no .png pictures with .txt captions in {told.pictures}.")
    with tempfile.TemporaryDirectory() as scratch:
        plan = TrainingPlan(
            run_folder=Path(scratch),
            model_path=told.model,
            family="pocket",
            prediction="v_prediction",
            pictures=pictures,
            settings=TrainingSettings(
                rank=told.rank,
                alpha=told.rank,
                batch_size=told.batch,
                resolution=told.resolution,
                bucket_step=8,
                learning_rate=1e-3,
                scheduler="constant",
                warmup=0,
                train_text_encoder=told.text_encoder,
                min_snr_gamma=0,
                caption_dropout=0,
                repeats=max(1, 8 * told.batch // len(pictures)),
                epochs=1000,
                sample_every_epochs=0,
            ),
        )
        sides, ready = {}, {}
        for name, make in (("built in", ours), ("textbook", textbook)):
            at = time.perf_counter()
            sides[name] = make(plan)
            ready[name] = time.perf_counter() - at
        found = take_turns(sides, told.steps)
    figures: dict[str, Any] = {"threads": told.threads, "steps": told.steps, "batch": told.batch}
    for name, columns in found.items():
        figures[name] = {
            "seconds_per_step": statistics.median(columns["wall"]),
            "processor_seconds_per_step": statistics.median(columns["cpu"]),
            "steps_per_second": 1 / statistics.median(columns["wall"]),
            "ready_seconds": ready[name],
            "mean_loss": statistics.fmean(columns["loss"]),
        }
    for key in ("seconds_per_step", "processor_seconds_per_step"):
        figures[f"ratio_{key}"] = figures["textbook"][key] / figures["built in"][key]
    if told.json:
        print(json.dumps(figures, indent=2))
        return figures
    print(f"{told.steps} steps of {told.batch} pictures, rank {told.rank}, {told.threads} threads")
    print(
        f"{'':10} {'steps/s':>8} {'s/step':>8} {'processor s/step':>17} {'getting ready':>14} {'mean loss':>10}"
    )
    for name in sides:
        f = figures[name]
        print(
            f"{name:10} {f['steps_per_second']:8.2f} {f['seconds_per_step']:8.3f} "
            f"{f['processor_seconds_per_step']:17.3f} {human_time(f['ready_seconds']):>14} {f['mean_loss']:10.4f}"
        )
    print(
        f"The built-in backend is {figures['ratio_seconds_per_step']:.2f} times as fast by the clock, "
        f"{figures['ratio_processor_seconds_per_step']:.2f} times by processor time."
    )
    return figures


if __name__ == "__main__":
    main(sys.argv[1:])
