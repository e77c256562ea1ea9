"""Writing LoRA files: kohya's layout and metadata, atomic, never with a NaN in them."""

from __future__ import annotations

import hashlib
import io
import json
import os
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import save as serialize

from studio import __version__, files
from studio.errors import StudioError
from studio.findings import Finding
from studio.training.base import TrainingPlan
from studio.training.lora_keys import read_header

_ARCHITECTURE = {
    "sd15": "stable-diffusion-v1/lora",
    "sdxl": "stable-diffusion-xl-v1-base/lora",
    "pocket": "lora-studio-pocket/lora",
}
_IMPLEMENTATION = {"sdxl": "https://github.com/Stability-AI/generative-models"}
_BASE_VERSION = {"sd15": "sd_v1", "sdxl": "sdxl_base_v1-0", "pocket": "pocket"}
_TAGS_AT_MOST = 2000


def metadata(
    plan: TrainingPlan,
    *,
    epoch: int,
    step: int,
    epochs: int,
    total_steps: int,
    batches_per_epoch: int,
    bucket_counts: dict[tuple[int, int], int],
    started: float,
    optimizer: str,
) -> dict[str, str]:
    """What a LoRA file says of itself: `ss_*` as sd-scripts names them, `modelspec.*` of the Stability AI model
    metadata standard 1.0.1. All values are text; there is no path in them.

    bucket_counts: pictures that an epoch shows in each.
    epoch, step: how far training is; epochs, total_steps: how far it was to go; started: seconds since 1970.
    """
    s, subsets = plan.settings, plan.subsets()
    tags = Counter(
        tag.strip()
        for p in plan.pictures
        if not p.regularisation
        for tag in p.caption.split(",")
        if tag.strip()
    ).most_common(_TAGS_AT_MOST)
    buckets = {
        str(i): {"resolution": list(size), "count": count}
        for i, (size, count) in enumerate(sorted(bucket_counts.items()))
    }
    dataset: dict[str, Any] = {
        "is_dreambooth": True,
        "batch_size_per_device": s.batch_size,
        "num_train_images": sum(n.repeats * len(n.names) for n in subsets if not n.regularisation),
        "num_reg_images": sum(n.repeats * len(n.names) for n in subsets if n.regularisation),
        "resolution": [s.resolution, s.resolution],
        "enable_bucket": s.buckets,
        "bucket_info": {"buckets": buckets},
        "tag_frequency": {"dataset": dict(tags)},
        "subsets": [
            {
                "img_count": len(n.names),
                "num_repeats": n.repeats,
                "flip_aug": s.flip,
                "shuffle_caption": s.shuffle_captions,
                "keep_tokens": s.keep_tokens,
                "image_dir": "dataset",
                "is_reg": n.regularisation,
            }
            for n in subsets
        ],
    }
    text_rate = s.text_encoder_lr or s.learning_rate
    plain: dict[str, Any] = {
        "ss_output_name": plan.output_name,
        "ss_base_model_version": _BASE_VERSION[plan.family],
        "ss_sd_model_name": plan.model_title or plan.model_path.name,
        "ss_sd_model_hash": plan.model_hash or None,
        "ss_network_module": "networks.lora",
        "ss_network_dim": s.rank,
        "ss_network_alpha": s.alpha,
        "ss_network_dropout": s.network_dropout or None,
        "ss_learning_rate": s.learning_rate,
        "ss_unet_lr": s.learning_rate,
        "ss_text_encoder_lr": text_rate if s.train_text_encoder else None,
        "ss_optimizer": optimizer,
        "ss_lr_scheduler": s.scheduler,
        "ss_lr_warmup_steps": round(s.warmup * total_steps),
        "ss_epoch": epoch,
        "ss_num_epochs": epochs,
        "ss_steps": step,
        "ss_max_train_steps": total_steps,
        "ss_num_batches_per_epoch": batches_per_epoch,
        "ss_num_train_images": len(plan.pictures) * s.repeats,
        "ss_num_reg_images": 0,
        "ss_gradient_accumulation_steps": s.gradient_accumulation,
        "ss_gradient_checkpointing": s.gradient_checkpointing,
        "ss_mixed_precision": s.precision,
        "ss_cache_latents": s.cache_latents,
        "ss_max_grad_norm": s.max_grad_norm,
        "ss_min_snr_gamma": s.min_snr_gamma or None,
        "ss_noise_offset": s.noise_offset or None,
        "ss_prior_loss_weight": s.prior_loss_weight,
        "ss_caption_dropout_rate": s.caption_dropout,
        "ss_seed": s.seed,
        "ss_v2": False,
        "ss_clip_skip": None,
        "ss_training_started_at": started,
        "ss_training_finished_at": time.time(),
        "ss_dataset_dirs": json.dumps({"dataset": {"n_repeats": s.repeats, "img_count": len(plan.pictures)}}),
        "ss_tag_frequency": json.dumps({"dataset": dict(tags)}, ensure_ascii=False),
        "ss_datasets": json.dumps([dataset], ensure_ascii=False),
        "ss_training_comment": f"LoRA Studio {__version__}",
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": _ARCHITECTURE[plan.family],
        "modelspec.implementation": _IMPLEMENTATION.get(plan.family, "diffusers"),
        "modelspec.title": plan.output_name,
        "modelspec.date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S"),
        "modelspec.resolution": f"{s.resolution}x{s.resolution}",
        "modelspec.prediction_type": "v" if plan.effective_prediction == "v_prediction" else "epsilon",
    }
    if plan.trigger:
        plain["modelspec.trigger_phrase"] = plan.trigger
        plain["modelspec.usage_hint"] = f"Start the prompt with '{plan.trigger}'."
    return {k: str(v) for k, v in plain.items()} | plan.metadata


def write_lora(path: Path, tensors: dict[str, torch.Tensor], about: dict[str, str]) -> None:
    """Write a LoRA file atomically and read its header back.

    Adds the hash of the tensor bytes, under the names that galleries look for. Raises StudioError when a tensor is not
    finite (nothing is written), EnvironmentalError when the disk is full.
    """
    broken = [name for name, t in tensors.items() if not torch.isfinite(t).all()]
    if broken:
        raise StudioError(
            "The LoRA holds values that are not numbers, so it was not saved.",
            f"{len(broken)} of {len(tensors)} tensors are NaN or infinite, first {broken[0]}.",
            "Lower the learning rate, use bf16 or full precision instead of fp16, and start again.",
            [
                Finding(
                    severity="block",
                    code="lora-not-finite",
                    what=f"{len(broken)} tensors are not finite.",
                    fix="Lower the learning rate.",
                )
            ],
        )
    ordered = {name: tensors[name] for name in sorted(tensors)}
    bare = serialize(ordered)
    body = hashlib.sha256(bare[8 + int.from_bytes(bare[:8], "little") :]).hexdigest()
    content = serialize(ordered, {**about, "sshs_model_hash": body, "modelspec.hash_sha256": f"0x{body}"})
    files.write_bytes(path, content)
    read_header(path)


def prune(folder: Path, output_name: str, keep: int) -> list[Path]:
    """Remove the oldest numbered checkpoints beyond `keep`; 0 keeps all. The removed ones."""
    if keep <= 0:
        return []
    numbered = sorted(
        p
        for p in folder.glob(f"{_escaped(output_name)}-*.safetensors")
        if p.stem[len(output_name) + 1 :].isdigit() and len(p.stem) == len(output_name) + 7
    )
    gone = numbered[:-keep]
    for path in gone:
        os.unlink(path)
    return gone


def _escaped(text: str) -> str:
    """Text that glob takes literally."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in text)


def write_sample(folder: Path, name: str, picture: Image.Image, about: dict[str, Any]) -> Path:
    """Write `<name>.json` (what was asked for) and then `<name>.png`, each atomically; the picture's path."""
    files.write_json(folder / f"{name}.json", about)
    content = io.BytesIO()
    picture.save(content, format="PNG")
    path = folder / f"{name}.png"
    files.write_bytes(path, content.getvalue())
    return path
