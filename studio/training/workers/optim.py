"""Optimizers and learning rate schedules, all from their own libraries."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.optimization import get_scheduler

from studio.errors import EnvironmentalError
from studio.settings import TrainingSettings
from studio.training.workers.network import Network


def make_optimizer(
    network: Network, settings: TrainingSettings, device: torch.device
) -> torch.optim.Optimizer:
    """The optimizer of the settings over the network: one group for the UNet, one for the text encoders.

    Raises EnvironmentalError when its package is missing, or it cannot work on this device.
    """
    rate = settings.learning_rate
    text_rate = rate if settings.optimizer == "prodigy" else (settings.text_encoder_lr or rate)
    groups: list[dict[str, Any]] = [{"params": network.parameters("unet"), "lr": rate, "name": "unet"}]
    text = [p for part in network.trained_parts if part != "unet" for p in network.parameters(part)]
    if text:
        groups.append({"params": text, "lr": text_rate, "name": "te"})
    decay = settings.weight_decay
    try:
        match settings.optimizer:
            case "adamw":
                # One kernel for all tensors instead of a dozen small ones each: there are hundreds of tiny tensors.
                return torch.optim.AdamW(
                    groups, lr=rate, weight_decay=decay, fused=device.type in ("cpu", "cuda")
                )
            case "adamw8bit":
                if device.type != "cuda":
                    raise EnvironmentalError(
                        "AdamW 8-bit needs an NVIDIA graphics card.",
                        "None can be used here.",
                        "Choose AdamW.",
                    )
                import bitsandbytes

                return bitsandbytes.optim.AdamW8bit(groups, lr=rate, weight_decay=decay)
            case "prodigy":
                from prodigyopt import Prodigy

                # As its author advises for diffusion models (konstmish/prodigy, README).
                return Prodigy(
                    groups,
                    lr=rate,
                    betas=(0.9, 0.99),
                    weight_decay=decay,
                    use_bias_correction=True,
                    safeguard_warmup=True,
                )
            case "lion":
                from lion_pytorch import Lion

                return Lion(groups, lr=rate, weight_decay=decay)
            case "adafactor":
                from transformers.optimization import Adafactor

                # A fixed rate: its own relative steps would ignore the learning rate and the schedule.
                return Adafactor(
                    groups,
                    lr=rate,
                    weight_decay=decay,
                    relative_step=False,
                    scale_parameter=False,
                    warmup_init=False,
                )
    except ImportError as e:
        raise EnvironmentalError(
            f"The optimizer {settings.optimizer} cannot be used.",
            f"A package is missing: {e.name or e}.",
            "Install it, or choose AdamW.",
        ) from e


def make_scheduler(optimizer: torch.optim.Optimizer, settings: TrainingSettings, total_steps: int) -> Any:
    """The schedule over `total_steps` changes of the LoRA."""
    return get_scheduler(
        settings.scheduler,
        optimizer,
        num_warmup_steps=round(settings.warmup * total_steps),
        num_training_steps=total_steps,
        num_cycles=settings.scheduler_cycles,
    )


def rates(optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """The learning rate of each group now; for Prodigy the one that it found."""
    return {
        str(g.get("name", i)): float(g["lr"]) * float(g.get("d", 1.0))
        for i, g in enumerate(optimizer.param_groups)
    }
