"""The LoRA itself: adapters in the base model, and their weights in and out. Adapters are peft's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from peft import LoraConfig
from peft.tuners.tuners_utils import BaseTunerLayer

from studio.settings import TrainingSettings
from studio.training.lora_keys import Part, lora_name, target_pattern
from studio.training.workers.base_model import BaseModel
from studio.training.workers.fused import fuse, projections_as_matrices

ADAPTER = "default"


@dataclass
class Network:
    """Adapters in a base model.

    models: part -> the model that carries them, UNet first; layers: (part, path) -> the adapted layer.
    convolutions: whether the base model's own projections are 1 x 1 convolutions; its files have their shape then.
    """

    family: str
    alpha: float
    models: dict[Part, Any]
    layers: dict[tuple[Part, str], Any]
    convolutions: bool

    def weights(self, part: Part | None = None) -> Iterator[tuple[str, torch.nn.Parameter]]:
        """Trained tensors by kohya name with `.lora_down.weight` or `.lora_up.weight`, in a fixed order."""
        for (of, path), layer in self.layers.items():
            if part is None or of == part:
                name = lora_name(of, path, self.family)
                yield f"{name}.lora_down.weight", layer.lora_A[ADAPTER].weight
                yield f"{name}.lora_up.weight", layer.lora_B[ADAPTER].weight

    def parameters(self, part: Part | None = None) -> list[torch.nn.Parameter]:
        return [p for _, p in self.weights(part)]

    @property
    def trained_parts(self) -> list[Part]:
        """Parts that carry adapters, in order."""
        return list(dict.fromkeys(part for part, _ in self.layers))

    def as_file(self, dtype: torch.dtype) -> dict[str, torch.Tensor]:
        """The tensors of a kohya LoRA file: down, up and alpha for each layer, on the CPU, in `dtype`."""
        tensors = {name: p.detach().to("cpu", dtype).contiguous() for name, p in self.weights()}
        for part, path in self.layers:
            name = lora_name(part, path, self.family)
            tensors[f"{name}.alpha"] = torch.tensor(self.alpha, dtype=dtype)
            if self.convolutions and path.endswith((".proj_in", ".proj_out")):
                for half in ("lora_down.weight", "lora_up.weight"):
                    tensors[f"{name}.{half}"] = tensors[f"{name}.{half}"][:, :, None, None]
        return tensors

    def snapshot(self) -> dict[str, torch.Tensor]:
        """Exact copies of the trained tensors, for the state."""
        return {name: p.detach().cpu().contiguous().clone() for name, p in self.weights()}

    @torch.no_grad()
    def restore(self, tensors: dict[str, torch.Tensor]) -> None:
        """Put a snapshot back. Raises KeyError when it lacks a tensor."""
        for name, p in self.weights():
            p.copy_(tensors[name])

    def fuse(self) -> int:
        """Make the adapters faster where that is possible, once the models are on their device; how many it fits."""
        return sum(fuse(layer) for layer in self.layers.values())

    def train(self, on: bool = True) -> None:
        """Training mode for the models with adapters: dropout and gradient checkpointing work only in it."""
        for model in self.models.values():
            model.train(on)


def attach(base: BaseModel, settings: TrainingSettings, *, seed: int) -> Network:
    """Put adapters into the base model. The first matrices start random from `seed`, the second at zero."""
    convolutions = projections_as_matrices(base.unet) > 0
    torch.manual_seed(seed)
    parts: list[Part] = ["unet"]
    models: dict[Part, Any] = {"unet": base.unet}
    if settings.train_text_encoder:
        parts.append("text_encoder")
        models["text_encoder"] = base.text_encoders[0]
        if len(base.text_encoders) > 1:
            parts.append("text_encoder_2")
            models["text_encoder_2"] = base.text_encoders[1]
    layers: dict[tuple[Part, str], Any] = {}
    for part in parts:
        model = models[part]
        pattern = target_pattern(part, settings.targets)
        model.add_adapter(
            LoraConfig(
                r=settings.rank,
                lora_alpha=settings.alpha,
                lora_dropout=settings.network_dropout,
                target_modules=pattern,
                init_lora_weights=True,
            ),
            adapter_name=ADAPTER,
        )
        for path, module in model.named_modules():
            if isinstance(module, BaseTunerLayer):
                for half in (module.lora_A[ADAPTER], module.lora_B[ADAPTER]):
                    half.weight.data = half.weight.data.to(torch.float32)
                    half.weight.requires_grad_(True)
                layers[part, path] = module
    return Network(base.family, settings.alpha, models, layers, convolutions)
