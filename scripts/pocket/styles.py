"""Plain grounds and drawing styles: RGBA pictures -> RGB in 0..1 (torch, channels first, batched)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

GROUNDS: dict[str, tuple[float, float, float]] = {
    "white": (1.0, 1.0, 1.0), "black": (0.05, 0.05, 0.05), "gray": (0.55, 0.55, 0.55),
    "red": (0.85, 0.15, 0.15), "orange": (1.0, 0.6, 0.15), "yellow": (1.0, 0.9, 0.25),
    "green": (0.3, 0.7, 0.3), "blue": (0.2, 0.4, 0.9), "purple": (0.55, 0.3, 0.75),
    "pink": (1.0, 0.7, 0.8), "brown": (0.5, 0.33, 0.2), "cyan": (0.4, 0.85, 0.9),
}  # fmt: skip
"""Colour word -> RGB in 0..1 of the plain ground."""

LUMA = (0.299, 0.587, 0.114)


def composite(rgba: Tensor, ground: Tensor) -> Tensor:
    """rgba: N x 4 x H x W in 0..1, ground: N x 3 -> N x 3 x H x W in 0..1."""
    alpha = rgba[:, 3:]
    return (rgba[:, :3] * alpha + ground[:, :, None, None] * (1 - alpha)).clamp(0, 1)


def on_white(rgba: Tensor) -> Tensor:
    """The pictures on white."""
    return composite(rgba, torch.ones(len(rgba), 3))


def luma(rgb: Tensor) -> Tensor:
    """Perceived lightness, N x 1 x H x W in 0..1."""
    return (rgb * torch.tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)


def _edges(rgb: Tensor) -> Tensor:
    """Sobel edge strength of the strongest channel, N x 1 x H x W in 0..1; lines as thick at any picture size."""
    step = max(1, rgb.shape[-1] // 64)
    kernel = torch.tensor([[1.0, 0, -1], [2, 0, -2], [1, 0, -1]]) / 4
    weight = torch.stack([kernel, kernel.T])[:, None]
    n, c, h, w = rgb.shape
    padded = F.pad(rgb.reshape(n * c, 1, h, w), (step,) * 4, mode="replicate")
    size = F.conv2d(padded, weight, dilation=step).square().sum(1).sqrt().view(n, c, h, w)
    return (size.amax(1, keepdim=True) * 1.6).clamp(0, 1)


def _between(low: tuple[float, float, float], high: tuple[float, float, float], amount: Tensor) -> Tensor:
    a, b = (torch.tensor(colour).view(1, 3, 1, 1) for colour in (low, high))
    return (a + (b - a) * amount).clamp(0, 1)


def blueprint(rgba: Tensor) -> Tensor:
    """White lines on deep blue; the body of the subject in a blue that follows its lightness, so that eyes, doors and
    windows stay visible."""
    rgb = on_white(rgba)
    body = rgba[:, 3:] * (0.08 + 0.6 * luma(rgb))
    lines = _edges(rgb) * rgba[:, 3:].sqrt()
    return _between((0.05, 0.16, 0.5), (0.93, 0.97, 1.0), torch.maximum(body, lines))


def sepia(rgba: Tensor) -> Tensor:
    """Brown ink on old paper."""
    return _between((0.24, 0.13, 0.05), (0.97, 0.9, 0.74), luma(on_white(rgba)))


def sketch(rgba: Tensor) -> Tensor:
    """Dark pencil lines on white."""
    return (1 - 0.85 * _edges(on_white(rgba))).expand(-1, 3, -1, -1).clone()


def neon(rgba: Tensor) -> Tensor:
    """Lines that glow in the subject's colours on near black."""
    rgb = on_white(rgba)
    return (0.05 + _edges(rgb) * (0.35 + 0.65 * rgb)).clamp(0, 1)


def monochrome(rgba: Tensor) -> Tensor:
    """Shades of gray on white."""
    return luma(on_white(rgba)).expand(-1, 3, -1, -1).clone()


def pastel(rgba: Tensor) -> Tensor:
    """Pale colours on cream."""
    return (0.55 * composite(rgba, torch.tensor([[1.0, 0.95, 0.85]])) + 0.45).clamp(0, 1)


def negative(rgba: Tensor) -> Tensor:
    """All colours turned round."""
    return 1 - on_white(rgba)


STYLES: dict[str, Callable[[Tensor], Tensor]] = {
    "blueprint": blueprint, "sepia": sepia, "sketch": sketch, "neon": neon,
    "monochrome": monochrome, "pastel": pastel, "negative": negative,
}  # fmt: skip
"""What the autoencoder must be able to draw, so that a LoRA can learn it."""

KNOWN_STYLES: dict[str, str] = {
    "monochrome": "in gray", "pastel": "in pastel colors", "negative": "as a negative", "neon": "in neon light",
}  # fmt: skip
"""Styles that the UNet is shown too, with their caption words. Blueprint, sepia and sketch are left out on purpose:
they are for LoRAs to teach."""
