"""The arithmetic of diffusion training: noise levels, targets, weights. Pure functions on tensors."""

from __future__ import annotations

import torch
from torch.nn import functional as F


def draw_levels(count: int, total: int, generator: torch.Generator) -> torch.Tensor:
    """`count` noise levels in 0..total-1, each uniform, spread over the whole range within a batch.

    Level i lies in the i-th of `count` equal strips, in random order: each alone is uniform, so the mean loss is the
    same as with independent draws, and the loss of a batch wobbles less (stratified sampling). Shape (count,), int64.
    """
    place = torch.rand(count, generator=generator, dtype=torch.float64)
    strip = torch.randperm(count, generator=generator)
    return ((strip + place) / count * total).long().clamp_(0, total - 1)


def add_noise(
    latents: torch.Tensor, noise: torch.Tensor, alphas_cumprod: torch.Tensor, levels: torch.Tensor
) -> torch.Tensor:
    """sqrt(a) x + sqrt(1 - a) e, with a = alphas_cumprod[level] (Ho et al. 2020, eq. 4). Shapes (B, C, H, W), (B,)."""
    a = alphas_cumprod[levels].view(-1, 1, 1, 1)
    return a.sqrt() * latents + (1 - a).sqrt() * noise


def target(
    prediction: str,
    latents: torch.Tensor,
    noise: torch.Tensor,
    alphas_cumprod: torch.Tensor,
    levels: torch.Tensor,
) -> torch.Tensor:
    """What the UNet should say: the noise, or the velocity sqrt(a) e - sqrt(1 - a) x (Salimans & Ho 2022)."""
    if prediction == "epsilon":
        return noise
    a = alphas_cumprod[levels].view(-1, 1, 1, 1)
    return a.sqrt() * noise - (1 - a).sqrt() * latents


def snr_weights(
    prediction: str, alphas_cumprod: torch.Tensor, levels: torch.Tensor, gamma: float
) -> torch.Tensor:
    """Min-SNR weights of the squared error (Hang et al. 2023, arXiv 2303.09556); ones when gamma is 0. Shape (B,).

    The paper weights the error of the clean picture with min(SNR, gamma). An error of the noise is that divided by SNR;
    an error of the velocity is that divided by SNR + 1. Without the + 1 the weight of a velocity model would grow
    without bound at pure noise.
    """
    if gamma <= 0:
        return torch.ones(levels.shape[0], device=alphas_cumprod.device)
    a = alphas_cumprod[levels]
    snr = a / (1 - a).clamp_min(1e-12)
    capped = snr.clamp_max(gamma)
    return capped / (snr.clamp_min(1e-12) if prediction == "epsilon" else snr + 1)


def weighted_error(guess: torch.Tensor, wanted: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Mean squared error of each picture times its weight, averaged over the batch; computed in 32 bit. A scalar."""
    error = F.mse_loss(guess.float(), wanted.float(), reduction="none").mean(dim=(1, 2, 3))
    return (error * weights).mean()
