"""Writes the trained parts as a StableDiffusionPipeline folder in fp16."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline

from scripts.pocket import curves, tokenizer, unet, vae


def export(work: Path, weights: Path, target: Path) -> None:
    """`weights` is one saved average of unet.py; everything lands in `target` in diffusers' layout."""
    pair = unet.load(work, weights)
    pipeline = StableDiffusionPipeline(
        vae=vae.load(work),
        text_encoder=pair.text,
        tokenizer=tokenizer.load(work / "tokenizer"),
        unet=pair.unet,
        scheduler=unet.scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.to(dtype=torch.float16).save_pretrained(target, safe_serialization=True)
    tokenizer.save(work / "tokenizer", target / "tokenizer")
    for file in target.rglob("*.safetensors"):
        file.chmod(0o644)  # safetensors writes them for the owner alone, and git would keep that from others
    curves.write(work, target)
    size = sum(file.stat().st_size for file in target.rglob("*") if file.is_file())
    print(f"{target}: {size / 1e6:.1f} MB")
