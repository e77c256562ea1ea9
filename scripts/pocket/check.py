"""Draws subjects x seeds on one contact sheet, for someone to look at and count what is recognisable."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from PIL import Image, ImageDraw

CHECKED = (
    "car", "bicycle", "airplane", "sailboat", "house", "castle", "palm tree", "sunflower", "mushroom", "dog",
    "cat", "rabbit", "penguin", "butterfly", "apple", "banana", "pizza", "umbrella", "guitar", "robot",
)  # fmt: skip
"""The 20 subjects of the adoption rule: of 60 pictures at least 48 must be recognised."""
SEEDS = (1, 2, 3)
STEPS, GUIDANCE = 20, 4.0


def pipeline(folder: Path) -> StableDiffusionPipeline:
    """The pipeline in float32, since half precision is slow or missing on CPUs."""
    loaded = StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32, safety_checker=None)
    loaded.set_progress_bar_config(disable=True)
    return loaded


def draw(loaded: StableDiffusionPipeline, prompts: Sequence[str], seed: int) -> list[Image.Image]:
    """One picture a prompt, all from the same seed."""
    generators = [torch.Generator().manual_seed(seed) for _ in prompts]
    return loaded(
        list(prompts),
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        height=64,
        width=64,
        generator=generators,
    ).images


def sheet(rows: Sequence[Sequence[Image.Image]], labels: Sequence[str], target: Path, zoom: int = 2) -> None:
    """Rows of pictures with a label under each column."""
    side = 64 * zoom
    canvas = Image.new("RGB", (len(labels) * (side + 4), len(rows) * (side + 4) + 14), "white")
    pen = ImageDraw.Draw(canvas)
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            canvas.paste(
                picture.resize((side, side), Image.Resampling.LANCZOS), (x * (side + 4), y * (side + 4))
            )
    for x, label in enumerate(labels):
        pen.text((x * (side + 4) + 2, len(rows) * (side + 4)), label, fill="black")
    canvas.save(target)


def check(folder: Path, target: Path, prompts: Sequence[str] = CHECKED) -> None:
    """Write the sheet: every prompt with every seed, ten prompts to a band."""
    loaded = pipeline(folder)
    drawn = {seed: draw(loaded, prompts, seed) for seed in SEEDS}
    for start in range(0, len(prompts), 10):
        band = target.with_name(f"{target.stem}_{start // 10 + 1}{target.suffix}")
        sheet([drawn[seed][start : start + 10] for seed in SEEDS], prompts[start : start + 10], band)
