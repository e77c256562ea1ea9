"""Trains a LoRA on the sample pictures with a plain loop and draws it at growing weights: does the base model learn?"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import StableDiffusionPipeline
from peft import LoraConfig
from PIL import Image

from scripts.pocket import check

TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2")
RANK, ALPHA, BATCH = 8, 8, 8
WARMUP = 20
WEIGHTS = (0.0, 0.3, 0.5, 0.7, 0.9, 1.0)
PROMPTS = ("dog", "car", "house", "robot", "umbrella", "cat")


def train(
    loaded: StableDiffusionPipeline, folder: Path, rate: float, steps: int, batch: int = BATCH, seed: int = 0
) -> list[float]:
    """Fit a LoRA named 'style' into the UNet on `folder`; returns the loss of each step."""
    torch.manual_seed(seed)
    names = sorted(folder.glob("*.png"))
    images = [
        np.asarray(Image.open(n).convert("RGB").resize((64, 64), Image.Resampling.LANCZOS)) for n in names
    ]
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 127.5 - 1
    texts = [name.with_suffix(".txt").read_text(encoding="utf-8").strip() for name in names]
    words = loaded.tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids
    with torch.no_grad():
        latents = loaded.vae.encode(pixels).latent_dist.mean * loaded.vae.config.scaling_factor
        context = loaded.text_encoder(words)[0]
    loaded.unet.requires_grad_(False)
    config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=list(TARGETS), init_lora_weights="gaussian")
    loaded.unet.add_adapter(config, adapter_name="style")
    weights = [p for p in loaded.unet.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=rate, betas=(0.9, 0.99), weight_decay=0.01)
    losses = []
    for step in range(steps):
        ramp = (
            min(1.0, (step + 1) / WARMUP)
            * 0.5
            * (1 + math.cos(math.pi * max(0, step - WARMUP) / (steps - WARMUP)))
        )
        for group in optimizer.param_groups:
            group["lr"] = rate * ramp
        rows = torch.randint(len(names), (batch,))
        noise = torch.randn(batch, *latents.shape[1:])
        times = torch.randint(0, 1000, (batch,))
        noisy = loaded.scheduler.add_noise(latents[rows], noise, times)
        target = loaded.scheduler.get_velocity(latents[rows], noise, times)
        loss = F.mse_loss(loaded.unet(noisy, times, encoder_hidden_states=context[rows]).sample, target)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def grid(loaded: StableDiffusionPipeline, prompts: Sequence[str], target: Path, seed: int = 1) -> list[float]:
    """Columns of growing weight, rows of prompts; returns the mean pixel change (0..255) against weight 0."""
    columns = []
    for weight in WEIGHTS:
        loaded.unet.set_adapters(["style"], weights=[weight])
        columns.append(check.draw(loaded, prompts, seed))
    check.sheet(list(zip(*columns, strict=True)), [f"{weight}" for weight in WEIGHTS], target)
    base = np.stack([np.asarray(picture, dtype=np.float32) for picture in columns[0]])
    return [
        float(np.abs(np.stack([np.asarray(p, dtype=np.float32) for p in c]) - base).mean()) for c in columns
    ]


def verify(
    folder: Path,
    sample: Path,
    trigger: str,
    work: Path,
    rate: float = 1e-3,
    steps: int = 200,
    batch: int = BATCH,
) -> None:
    """Train, draw, and write `lora.json` and `lora.png` into `work`."""
    loaded = check.pipeline(folder)
    start = time.monotonic()
    losses = train(loaded, sample, rate, steps, batch)
    seconds = time.monotonic() - start
    change = grid(loaded, [f"{trigger}, {name}" for name in PROMPTS], work / "lora.png")
    report = {
        "rate": rate, "steps": steps, "batch": batch, "rank": RANK, "alpha": ALPHA, "seconds": round(seconds, 1),
        "loss_first_20": sum(losses[:20]) / 20, "loss_last_20": sum(losses[-20:]) / 20,
        "change": {str(w): round(c, 1) for w, c in zip(WEIGHTS, change, strict=True)},
    }  # fmt: skip
    (work / "lora.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(report))
