"""Picture features for the measurements: EfficientNet-Lite0, which comes whole inside a package and needs no network.

Content: its pooled features (1280). Style: mean and standard deviation of each channel of four early feature maps (the
statistics of Huang and Belongie 2017, arXiv 1703.06868), and a soft colour histogram. Trained on ImageNet photographs.
Outline: a histogram of oriented gradients (Dalal and Triggs 2005), which needs no network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter, ImageOps

from studio.dataset.workers.efficientnet import BATCH, EfficientNetLite
from studio.dataset.workers.efficientnet import NAME as NAME
from studio.evaluation.metrics import COLOURS, Floats, Pictures

VERSION = 2
"""Changes whenever the same picture would give other features: what was measured before is then measured anew."""


class Extractor:
    """Turns pictures into features; loads the network once, when the first picture needs it."""

    def __init__(self, device: torch.device | None = None) -> None:
        self._device = device or torch.device("cpu")

    @cached_property
    def _net(self) -> EfficientNetLite:
        return EfficientNetLite(self._device)

    def __call__(self, pictures: Sequence[Image.Image], tick: Callable[[], None] | None = None) -> Pictures:
        """Features of RGB pictures of one size. tick: called between batches; may raise to leave early."""
        contents, styles = [], []
        for start in range(0, len(pictures), BATCH):
            if tick is not None:
                tick()
            content, style = self._net([_input(p) for p in pictures[start : start + BATCH]])
            contents.append(content)
            styles.append(style)
        arrays = [np.asarray(p, dtype=np.float64) / 255 for p in pictures]
        moments = np.concatenate(styles) if styles else np.zeros((0, 1))
        colours = np.stack([colour_histogram(a) for a in arrays]) if arrays else np.zeros((0, COLOURS))
        return Pictures(
            content=np.concatenate(contents).astype(np.float64) if contents else np.zeros((0, 1)),
            style=np.concatenate([moments.astype(np.float64), colours], axis=1),
            outline=np.stack([outline(p) for p in pictures]) if pictures else np.zeros((0, 1)),
            faults=np.stack([fault_levels(a) for a in arrays]) if arrays else np.zeros((0, 6)),
        )


def _input(picture: Image.Image) -> np.ndarray:
    """The picture as a square input: twice its own side, from 128 to 224 pixels (224 is what the network was trained at;
    64-pixel pictures hold no more at 224 than at 128, and cost a third)."""
    side = 128 if max(picture.size) <= 64 else 224
    return np.asarray(picture.resize((side, side), Image.Resampling.BICUBIC), dtype=np.uint8)


def outline(picture: Image.Image) -> Floats:
    """Where edges run, and in which direction, on an 8 × 8 raster: 8 directions without sign, so that a dark line on light and a
    light line on dark are the same, and the square root of each share, so that strong edges do not drown the others."""
    small = picture.convert("L").resize(
        (64, 64), Image.Resampling.BOX if picture.width > 64 else Image.Resampling.BICUBIC
    )
    light = np.asarray(small.filter(ImageFilter.GaussianBlur(1.5)), dtype=np.float64) / 255
    down, right = np.gradient(light)
    strength = np.hypot(right, down)
    direction = np.minimum((np.mod(np.arctan2(down, right), np.pi) / np.pi * 8).astype(int), 7)
    place = np.arange(64) // 8
    index = (place[:, None] * 8 + place[None, :]) * 8 + direction
    found = np.bincount(index.ravel(), strength.ravel(), minlength=512)
    return np.asarray(np.sqrt(found / max(found.sum(), 1e-9)))


def colour_histogram(pixels: Floats) -> Floats:
    """Shares of 4 x 4 x 4 colours, square-rooted so that distances are Hellinger's; each pixel is shared out linearly between
    the two nearest levels of each channel. pixels: H × W × 3 in 0..1."""
    place = np.clip(pixels.reshape(-1, 3) * 3, 0, 3)
    low = np.minimum(place.astype(int), 2)
    part = place - low
    histogram = np.zeros(COLOURS)
    for corner in np.ndindex(2, 2, 2):
        at = low + np.asarray(corner)
        share = np.prod(np.where(np.asarray(corner), part, 1 - part), axis=1)
        np.add.at(histogram, at[:, 0] * 16 + at[:, 1] * 4 + at[:, 2], share)
    return np.asarray(np.sqrt(histogram / max(len(place), 1)))


def fault_levels(pixels: Floats) -> Floats:
    """Share of black and of white pixels, share of flat 8 × 8 tiles, contrast, saturation and sharpness, each 0..1
    (FAULT_NAMES). Sharpness: the mean strength of what a 3 × 3 Laplacian finds, against the contrast; ringing and noise
    raise it, blur lowers it."""
    light = pixels @ np.asarray([0.299, 0.587, 0.114])
    height, width = (s // 8 * 8 for s in light.shape)
    tiles = light[:height, :width].reshape(height // 8, 8, width // 8, 8).std(axis=(1, 3))
    top, bottom = pixels.max(axis=2), pixels.min(axis=2)
    saturation = np.where(top > 0, (top - bottom) / np.maximum(top, 1e-6), 0)
    return np.asarray(
        [
            float((light <= 3 / 255).mean()),
            float((light >= 252 / 255).mean()),
            float((tiles < 1.5 / 255).mean()) if tiles.size else 0.0,
            float(min(1.0, light.std() * 2)),
            float(saturation.mean()),
            sharpness(light),
        ]
    )


def sharpness(light: Floats) -> float:
    """Fine detail against contrast, 0..1. 0 for a plain picture, whose contrast says nothing."""
    spread = float(light.std())
    if spread < 0.01 or min(light.shape) < 3:
        return 0.0
    inner = light[1:-1, 1:-1]
    laplace = 4 * inner - light[:-2, 1:-1] - light[2:, 1:-1] - light[1:-1, :-2] - light[1:-1, 2:]
    return float(min(1.0, np.abs(laplace).mean() / (4 * spread)))


def open_fitted(path: Path, size: tuple[int, int]) -> Image.Image:
    """A picture as shown (turned, on white, RGB), cut from its middle and scaled to the grid's size, so that a training picture
    holds no finer detail than a cell can."""
    with Image.open(path) as raw:
        shown: Image.Image = ImageOps.exif_transpose(raw)
        if "A" in shown.getbands() or "transparency" in shown.info:
            shown = shown.convert("RGBA")
            shown = Image.alpha_composite(Image.new("RGBA", shown.size, "white"), shown)
        return ImageOps.fit(shown.convert("RGB"), size, Image.Resampling.LANCZOS)


def open_all(paths: Iterable[Path], size: tuple[int, int]) -> tuple[list[Image.Image], list[Path]]:
    """The readable ones of the pictures, and their paths."""
    found, there = [], []
    for path in paths:
        try:
            found.append(open_fitted(path, size))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            continue
        there.append(path)
    return found, there
