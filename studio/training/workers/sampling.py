"""Sample pictures during training: a short DDIM drawing with the LoRA as it is now."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from diffusers import DDIMScheduler
from PIL import Image

from studio.training.workers.base_model import BaseModel
from studio.training.workers.captions import Embedded

# Steps and guidance: enough to judge by, cheap enough to draw at every epoch. Pocket was tuned at guidance 4.
_STEPS = {"pocket": 12}
_GUIDANCE = {"pocket": 4.0}


class SampleStopped(Exception):
    """The job shall stop; the drawing was given up."""


def scheduler_for(config: dict[str, Any]) -> DDIMScheduler:
    """DDIM with the noise levels of the base model. A model trained to pure noise has to start from there."""
    told = {**config, "clip_sample": False, "set_alpha_to_one": False}
    if config.get("rescale_betas_zero_snr"):
        told["timestep_spacing"] = "trailing"
    return DDIMScheduler.from_config(told)


@torch.no_grad()
def draw(
    base: BaseModel,
    texts: Embedded,
    empty: Embedded,
    *,
    side: int,
    seed: int,
    device: torch.device,
    autocast: Callable[[], AbstractContextManager[Any]],
    should_stop: Callable[[], bool],
) -> list[Image.Image]:
    """One square picture of `side` pixels for each text, the i-th from seed + i.

    texts: (B, ...) embeddings; empty: (1, ...) embedding of the empty caption, which guidance leads away from.
    Raises SampleStopped when should_stop() turns true.
    """
    count = texts.hidden.shape[0]
    hidden = torch.cat([empty.hidden.expand(count, -1, -1), texts.hidden])
    more: dict[str, Any] = {}
    if texts.pooled is not None and empty.pooled is not None:
        sizes = torch.tensor(
            [[side, side, 0, 0, side, side]] * (2 * count), device=device, dtype=hidden.dtype
        )
        pooled = torch.cat([empty.pooled.expand(count, -1), texts.pooled])
        more["added_cond_kwargs"] = {"text_embeds": pooled, "time_ids": sizes}
    scheduler = scheduler_for(base.scheduler_config)
    scheduler.set_timesteps(_STEPS.get(base.family, 20))
    cells = side // base.pixel_factor
    latents = torch.cat(
        [
            torch.randn(
                (1, base.unet.config.in_channels, cells, cells),
                generator=torch.Generator().manual_seed(seed + i),
            )
            for i in range(count)
        ]
    ).to(device)
    latents = latents * scheduler.init_noise_sigma
    guidance = _GUIDANCE.get(base.family, 7.0)
    for level in scheduler.timesteps:
        if should_stop():
            raise SampleStopped
        with autocast():
            said = base.unet(
                torch.cat([latents, latents]), level, encoder_hidden_states=hidden, **more
            ).sample
        without, with_text = said.float().chunk(2)
        latents = scheduler.step(without + guidance * (with_text - without), level, latents).prev_sample
    return [_decoded(base, one) for one in latents.split(1)]


def _decoded(base: BaseModel, latent: torch.Tensor) -> Image.Image:
    config = base.vae.config
    vae_device = next(base.vae.parameters()).device
    shift = getattr(config, "shift_factor", None) or 0.0
    picture = base.vae.decode((latent / config.scaling_factor + shift).float().to(vae_device)).sample[0]
    flat = ((picture.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).cpu().numpy()
    return Image.fromarray(flat)
