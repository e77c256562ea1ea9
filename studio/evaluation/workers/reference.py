"""What the training pictures are compared as."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image


def as_drawable(
    pictures: list[Image.Image], place: Path, check: Callable[[], None] = lambda: None
) -> list[Image.Image]:
    """The pictures as the base model's autoencoder gives them back: the most that any LoRA for it can reach.

    The built-in model's small autoencoder softens fine lines. Measured against the originals, pencil drawings that were learnt
    well had gone 19% of the way; against what can be drawn, 61%. Those of SD1.5 and SDXL give back nearly what they get.
    place: folder of the autoencoder in diffusers layout; pictures all of one size.
    """
    if not pictures:
        return []
    import torch
    from diffusers import AutoencoderKL

    vae = AutoencoderKL.from_pretrained(
        place, torch_dtype=torch.float32, use_safetensors=True, local_files_only=True
    ).eval()
    found: list[Image.Image] = []
    for start in range(0, len(pictures), 16):
        check()
        pixels = torch.from_numpy(np.stack([np.asarray(p) for p in pictures[start : start + 16]]))
        with torch.inference_mode():
            latents = vae.encode(pixels.permute(0, 3, 1, 2).float() / 127.5 - 1).latent_dist.mode()
            drawn = vae.decode(latents, return_dict=False)[0]
        back = ((drawn.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
        found += [Image.fromarray(p) for p in back]
    return found
