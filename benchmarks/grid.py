"""The built-in renderer against one-by-one diffusers: the same grid, the same pictures, in one run.

    python -m benchmarks.grid [--lora FILE] [--model FOLDER] [--prompts 6] [--steps 20] [--rounds 3] [--threads N]

The peer is what a script of one's own would do: StableDiffusionPipeline with `load_lora_weights`, `set_adapters` for each
weight, one call a picture. Loading is left out on both sides. Prints seconds, processor seconds (which
other programs disturb less), the ratio, and the largest difference of any pixel (of 255).
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from studio.evaluation.spec import DEFAULT_WEIGHTS, GridLora, GridPrompt, GridSpec, lora_content, plan_cells
from studio.evaluation.workers.drawing import Drawer, NotFinite, pick_device
from studio.evaluation.workers.lora import Lora
from studio.evaluation.workers.render import batches
from studio.models import model_fingerprint
from studio.training.lora_keys import PARTS, lora_name, target_pattern
from studio.workspace import shipped

SUBJECTS = ("dog", "car", "house", "robot", "umbrella", "cat", "sunflower", "penguin")


def random_lora(model: Path, target: Path) -> Path:
    """A rank-8 LoRA over UNet and text encoder, so that no training is needed to measure."""
    import re

    from diffusers import UNet2DConditionModel
    from safetensors.torch import save_file
    from transformers import CLIPTextModel

    generator = torch.Generator().manual_seed(0)
    loaded = (
        UNet2DConditionModel.from_pretrained(model / "unet"),
        CLIPTextModel.from_pretrained(model / "text_encoder"),
    )
    tensors = {}
    for part, module in zip(PARTS, loaded, strict=False):
        for path, layer in module.named_modules():
            if re.fullmatch(target_pattern(part, "attention+ff"), path):
                weight, stem = layer.weight.detach().float(), lora_name(part, path, "pocket")
                tail = (1,) * (weight.dim() - 2)
                size = float(weight.std()) * 0.1
                tensors[f"{stem}.lora_down.weight"] = (
                    torch.randn(8, weight.shape[1], *tail, generator=generator) * size
                )
                tensors[f"{stem}.lora_up.weight"] = torch.randn(
                    weight.shape[0], 8, *tail, generator=generator
                )
                tensors[f"{stem}.alpha"] = torch.tensor(8.0)
    save_file(tensors, str(target))
    return target


def one_by_one(spec: GridSpec, device: torch.device) -> Callable[[], list[np.ndarray]]:
    """The peer, loaded; calling it draws the grid's cells in order."""
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(spec.base_path, safety_checker=None).to(
        device, torch.float32
    )
    pipe.set_progress_bar_config(disable=True)
    pipe.load_lora_weights(str(spec.lora_files[0].path), adapter_name="lora")

    def draw() -> list[np.ndarray]:
        pictures = []
        for cell in plan_cells(spec):
            pipe.set_adapters(["lora"], [cell.weight])
            drawn = pipe(
                cell.prompt.text,
                num_inference_steps=spec.steps,
                guidance_scale=spec.guidance,
                width=spec.width,
                height=spec.height,
                generator=torch.Generator().manual_seed(cell.seed),
            )
            pictures.append(np.asarray(drawn.images[0], dtype=np.int16))
        return pictures

    return draw


def ours(spec: GridSpec, device: torch.device, *, mixed: bool) -> Callable[[], list[np.ndarray]]:
    """The built-in renderer, loaded. mixed: several weights in a batch (per-sample scale), else one weight a batch."""
    drawer = Drawer(spec, device)
    lora = Lora(spec.lora_files[0].path, drawer.models, spec.family)
    cells = plan_cells(spec)

    def draw() -> list[np.ndarray]:
        drawer._embedded.clear()
        drawer.use(lora, "lora")
        found = {}
        for batch in batches(cells, drawer.batch, mixed=mixed):
            for cell, picture in zip(batch, drawer.draw(batch), strict=True):
                assert not isinstance(picture, NotFinite)
                found[cell.hash] = np.asarray(picture, dtype=np.int16)
        return [found[c.hash] for c in cells]

    return draw


def main() -> None:
    """Measure and print."""
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--model", type=Path, default=shipped("data", "pocket"))
    parse.add_argument("--lora", type=Path)
    parse.add_argument("--prompts", type=int, default=6)
    parse.add_argument("--steps", type=int, default=20)
    parse.add_argument("--rounds", type=int, default=3)
    parse.add_argument("--threads", type=int, default=0, help="processor threads; 0: as PyTorch chooses")
    parse.add_argument("--json", action="store_true")
    told = parse.parse_args()
    if told.threads:
        torch.set_num_threads(told.threads)
    warnings.simplefilter("ignore")
    for library in (diffusers_logging, transformers_logging):
        library.set_verbosity_error()
        library.disable_progress_bar()
    device = pick_device()
    with tempfile.TemporaryDirectory() as folder:
        lora = told.lora or random_lora(told.model, Path(folder) / "random.safetensors")
        spec = GridSpec(
            id="benchmark",
            project="benchmark",
            base_model=told.model.name,
            base_path=told.model,
            base_fingerprint=model_fingerprint(told.model),
            family="pocket",
            prediction="v_prediction",
            lora_files=(GridLora(path=lora, label="lora", content=lora_content(lora)),),
            weights=DEFAULT_WEIGHTS,
            prompts=tuple(
                GridPrompt(
                    id=str(i), text=f"bluprnt, {SUBJECTS[i % len(SUBJECTS)]}{' ' * (i // len(SUBJECTS))}"
                )
                for i in range(told.prompts)
            ),
            steps=told.steps,
        )
        ways = {
            "one by one (diffusers)": one_by_one(spec, device),
            "built in, a weight a batch": ours(spec, device, mixed=False),
            "built in, a scale per sample": ours(spec, device, mixed=True),
        }
        times: dict[str, list[float]] = {name: [] for name in ways}
        work: dict[str, list[float]] = {name: [] for name in ways}
        pictures = {}
        for _ in range(told.rounds):  # in turn, so that a busy moment hits all alike
            for name, draw in ways.items():
                start, worked = time.perf_counter(), time.process_time()
                pictures[name] = draw()
                times[name].append(time.perf_counter() - start)
                work[name].append(time.process_time() - worked)
    names = list(ways)
    peer = min(times[names[0]])
    rows = [
        {
            "way": name,
            "seconds": round(min(times[name]), 2),
            "median": round(statistics.median(times[name]), 2),
            "ratio": round(peer / min(times[name]), 2),
            "processor seconds": round(min(work[name]), 2),
            "processor ratio": round(min(work[names[0]]) / min(work[name]), 2),
            "largest difference": max(
                int(np.abs(a - b).max()) for a, b in zip(pictures[name], pictures[names[0]], strict=True)
            ),
        }
        for name in names
    ]
    facts = {
        "cells": len(plan_cells(spec)),
        "steps": spec.steps,
        "device": device.type,
        "threads": torch.get_num_threads(),
    }
    if told.json:
        print(json.dumps({**facts, "results": rows}, indent=2))
        return
    print(", ".join(f"{k} {v}" for k, v in facts.items()))
    for row in rows:
        print(
            f"{row['way']:<30} {row['seconds']:>7.2f} s  {row['ratio']:>5.2f}x    processor {row['processor seconds']:>7.2f} s  "
            f"{row['processor ratio']:>5.2f}x    largest difference {row['largest difference']} of 255"
        )


if __name__ == "__main__":
    main()
