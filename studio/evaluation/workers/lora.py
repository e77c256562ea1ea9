"""Laying a LoRA file over a base model at any weight, either merged into the weights or per sample.

Merged: `W = W0 + weight * up @ down * alpha / rank`, computed in 32 bit from a kept copy of W0, so that weight 0 is the base
model bit for bit and drawing costs nothing extra. All samples of a batch share the weight.

Per sample: hooks add `scale[b] * up(down(x))` to the output of each adapted layer, so one batch holds several weights.
Slower for each sample, but fills a graphics card when a single weight has few cells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

from studio.errors import InputError
from studio.evaluation import lora_files
from studio.lora.names import split
from studio.training.lora_keys import Part
from studio.training.workers.layers import layer_names


@dataclass
class Layer:
    """One adapted layer. down: (rank, in[, kh, kw]); up: (out, rank[, 1, 1]); scale: alpha / rank; base: W0 once it was
    changed."""

    part: Part
    path: str
    module: nn.Module
    down: torch.Tensor
    up: torch.Tensor
    scale: float
    base: torch.Tensor | None = None

    def delta(self, device: torch.device) -> torch.Tensor:
        """up @ down * scale in the shape of the layer's weight, 32 bit."""
        up = self.up.to(device, torch.float32).flatten(1)
        down = self.down.to(device, torch.float32).flatten(1)
        weight: Any = self.module.weight
        return (up @ down).mul_(self.scale).view(weight.shape)

    def low_rank(self, x: torch.Tensor) -> torch.Tensor:
        """up(down(x)) * scale for a batch."""
        down, up = self.down.to(x.device, x.dtype), self.up.to(x.device, x.dtype)
        if isinstance(self.module, nn.Conv2d):
            if down.dim() == 2:
                down, up = down[..., None, None], up[..., None, None]
            inner = F.conv2d(x, down, None, self.module.stride, self.module.padding)
            return F.conv2d(inner, up) * self.scale
        return F.linear(F.linear(x, down.flatten(1)), up.flatten(1)) * self.scale


class Lora:
    """A LoRA file fitted to the parts of a base model, with all that it holds. layers: what it adapts."""

    def __init__(self, path: Path, models: dict[Part, nn.Module], family: str) -> None:
        self.path = path
        self.layers = _fit(path, models, family)
        self.weight = 0.0

    @property
    def parts(self) -> set[Part]:
        return {layer.part for layer in self.layers}

    @property
    def touches_text(self) -> bool:
        """Whether text embeddings depend on the weight."""
        return any(part != "unet" for part in self.parts)

    @torch.no_grad()
    def merge(self, weight: float, part: Part | None = None) -> None:
        """Put the layers (of one part, or all) at a weight; 0 restores the base model bit for bit."""
        for layer in self.layers:
            if part is not None and layer.part != part:
                continue
            tensor: Any = layer.module.weight
            if layer.base is None:
                if weight == 0:
                    continue
                layer.base = tensor.detach().clone()
            if weight == 0:
                tensor.copy_(layer.base)
            else:
                merged = layer.base.to(torch.float32) + weight * layer.delta(tensor.device)
                tensor.copy_(merged.to(tensor.dtype))
        if part is None:
            self.weight = weight

    def release(self) -> None:
        """Restore the base model and let the copies go."""
        self.merge(0.0)
        for layer in self.layers:
            layer.base = None

    @contextmanager
    def per_sample(self, scales: torch.Tensor) -> Iterator[None]:
        """Within it each sample of a batch has its own weight in the UNet. scales: (B,), or (2B,) with guidance."""

        def hook_for(layer: Layer) -> Callable[..., torch.Tensor]:
            def hook(
                _module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor
            ) -> torch.Tensor:
                scale = scales.to(output.device, output.dtype)
                return output + layer.low_rank(inputs[0]) * scale.view(-1, *[1] * (output.dim() - 1))

            return hook

        handles = [
            layer.module.register_forward_hook(hook_for(layer))
            for layer in self.layers
            if layer.part == "unet"
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def _fit(path: Path, models: dict[Part, nn.Module], family: str) -> list[Layer]:
    """Match the file's names to modules. Raises InputError when a layer has no place, shapes differ or numbers are broken:
    a LoRA that is drawn in part is another LoRA."""
    wrong = lora_files.problem(path, family, plain=True)
    if wrong is not None:
        raise wrong
    tensors = load_file(str(path), device="cpu")
    modules = layer_names(models, family)
    grouped: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        stem, role = split(name)
        grouped.setdefault(stem, {})[role] = tensor
    layers, homeless, odd = [], [], []
    for stem, found in grouped.items():
        if not all(torch.isfinite(t).all() for t in found.values()):
            raise InputError(
                f"{path.name} holds numbers that are not finite.",
                "Training broke down: nothing drawn with this file can be a picture.",
                "Use an earlier checkpoint, and train with a lower learning rate.",
            )
        if "down" not in found or "up" not in found:
            if found.keys() & {"down", "up"}:
                raise InputError(
                    f"{path.name} is not whole.",
                    f"The layer {stem} has only one of its two halves.",
                    "Get the file again, or save it again with the tool that made it.",
                )
            continue  # an alpha whose layer was left out changes nothing
        if stem not in modules:
            if found["down"].any() and found["up"].any():
                homeless.append(stem)
            continue
        part, module_path, module = modules[stem]
        down, up = found["down"], found["up"]
        rank = down.shape[0]
        weight: Any = module.weight
        fits = up.flatten(1).shape[1] == rank and up.shape[0] * down[0].numel() == weight.numel()
        if not fits or up.shape[0] != weight.shape[0]:
            odd.append(stem)
            continue
        alpha = float(found["alpha"]) if "alpha" in found else float(rank)
        layers.append(Layer(part, module_path, module, down, up, alpha / rank))
    if odd or homeless or not layers:
        count = len(grouped)
        raise InputError(
            f"{path.name} does not fit this base model.",
            f"{len(odd)} of its {count} layers have other sizes, such as {odd[0]}."
            if odd
            else f"{len(homeless)} of its {count} layers have no place in it, such as {homeless[0]}."
            if homeless
            else "None of its layers changes anything in it.",
            "Choose the base model that it was trained on.",
        )
    return layers
