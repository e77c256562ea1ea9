"""What a LoRA file is, from its header alone: kind, naming, base model, ranks, how it was trained. For files of any origin."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from studio.errors import InputError
from studio.lora.names import NAMING_WORDS, kind_of, naming, split
from studio.lora.reader import DTYPE_WORDS, Tensors, opened

PART_WORDS = {"unet": "image part", "text": "text encoder", "other": "other"}
_TRAINING: tuple[tuple[str, str], ...] = (
    ("ss_output_name", "Name when it was trained"),
    ("ss_sd_model_name", "Trained on"),
    ("ss_base_model_version", "Base model version"),
    ("ss_num_epochs", "Epochs"),
    ("ss_steps", "Steps"),
    ("ss_num_train_images", "Pictures, repeats counted"),
    ("ss_num_reg_images", "Regularisation pictures"),
    ("ss_batch_size_per_device", "Batch size"),
    ("ss_learning_rate", "Learning rate"),
    ("ss_unet_lr", "Learning rate, image part"),
    ("ss_text_encoder_lr", "Learning rate, text encoder"),
    ("ss_lr_scheduler", "Schedule"),
    ("ss_optimizer", "Optimizer"),
    ("ss_network_module", "Network"),
    ("ss_resolution", "Resolution"),
    ("ss_clip_skip", "CLIP skip"),
    ("ss_noise_offset", "Noise offset"),
    ("ss_min_snr_gamma", "Min-SNR gamma"),
    ("ss_seed", "Seed"),
    ("ss_mixed_precision", "Precision"),
    ("ss_training_comment", "Comment"),
    ("modelspec.architecture", "Architecture"),
    ("modelspec.title", "Title"),
    ("modelspec.author", "Author"),
    ("modelspec.license", "Licence"),
    ("modelspec.trigger_phrase", "Trigger words"),
    ("modelspec.usage_hint", "Usage"),
    ("modelspec.merged_from", "Merged from"),
)
"""Text fields that sd-scripts (`ss_*`) and the model metadata standard 1.0.0 (`modelspec.*`) write, and how they are shown."""

_IN_WORDS = {("ss_mixed_precision", "no"): "full (fp32)"}
"""Values that say nothing beside their label."""


@dataclass(frozen=True)
class LoraInfo:
    """What is known of a LoRA file.

    kinds:    kind -> layers: LoRA, LoCon, LoHa, LoKr, OFT, IA3, GLoRA, full.
    dora:     layers whose size and direction are trained apart (DoRA).
    naming:   whose key names it has; family: sd15, sd2, sdxl, sd3, flux, pocket or "" when it cannot be told.
    parts:    layers in the image part (UNet or transformer) and in text encoders.
    ranks, alphas: value -> layers; alphas without a value of their own count as their rank.
    types:    number format -> tensors.
    trained:  how it was trained, as the file tells it: label -> text.
    words:    words of its captions with their counts, most used first, as far as the file tells them.
    trigger:  the word that calls it up, as the file tells it; else "".
    metadata: all text fields as they are.
    """

    path: Path
    size_bytes: int
    kinds: dict[str, int]
    dora: int
    naming: str
    family: str
    parts: dict[str, int]
    layers: int
    numbers: int
    ranks: dict[int, int]
    alphas: dict[float, int]
    types: dict[str, int]
    trained: dict[str, str] = field(default_factory=dict)
    words: dict[str, int] = field(default_factory=dict)
    trigger: str = ""
    date: str = ""
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """Its kind in one word: the rarest one that is not plain LoRA names the file, since it decides who can read it."""
        special = [k for k in ("LoKr", "LoHa", "OFT", "IA3", "GLoRA", "LoCon") if k in self.kinds]
        word = special[0] if special else ("LoRA" if "LoRA" in self.kinds else next(iter(self.kinds), ""))
        return f"{word} with DoRA" if self.dora else word

    @property
    def rank_words(self) -> str:
        """The rank, or the range of ranks: "16", "4 to 32"."""
        return _range(self.ranks)

    @property
    def alpha_words(self) -> str:
        return _range(self.alphas)

    def as_dict(self) -> dict[str, Any]:
        """As plain data, for `--json`."""
        return {
            **asdict(self),
            "path": str(self.path),
            "kind": self.kind,
            "naming_words": NAMING_WORDS[self.naming],
        }


def _range(found: dict[Any, int]) -> str:
    if not found:
        return "unknown"
    low, high = min(found), max(found)
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def describe(path: Path) -> LoraInfo:
    """Look inside a LoRA file; reads its header and the alphas, nothing else.

    Raises InputError when it is missing, a pickle, not whole, or holds no adapter layers.
    """
    with opened(path) as tensors:
        return _describe(path, tensors)


def _describe(path: Path, tensors: Tensors) -> LoraInfo:
    layers: dict[str, dict[str, str]] = defaultdict(dict)
    for name in tensors.header:
        stem, role = split(name)
        if role:
            layers[stem][role] = name
    kinds: Counter[str] = Counter()
    ranks: Counter[int] = Counter()
    alphas: Counter[float] = Counter()
    parts: Counter[str] = Counter()
    dora = 0
    for stem, roles in layers.items():
        shapes = [tensors.shape(n) for n in roles.values()]
        kind = kind_of(roles, spatial=any(len(s) == 4 and max(s[2:]) > 1 for s in shapes))
        if not kind:
            continue
        kinds[kind] += 1
        parts[part_of(stem)] += 1
        dora += "dora" in roles
        rank = rank_of(roles, tensors)
        if rank:
            ranks[rank] += 1
            alpha = float(tensors.read(roles["alpha"]).reshape(-1)[0]) if "alpha" in roles else float(rank)
            alphas[round(alpha, 4)] += 1
    if not kinds:
        raise InputError(
            f"{path.name} is not a LoRA.",
            "None of its tensors has the name of an adapter's layer.",
            "Choose a file that a LoRA training wrote; a whole checkpoint belongs to the base models.",
        )
    told = tensors.metadata
    words = caption_words(told)
    return LoraInfo(
        path=path,
        size_bytes=path.stat().st_size,
        kinds=dict(kinds.most_common()),
        dora=dora,
        naming=naming(tensors.header),
        family=family_of(tensors),
        parts=dict(parts.most_common()),
        layers=sum(kinds.values()),
        numbers=sum(_count(tensors.shape(n)) for n in tensors.header),
        ranks=dict(sorted(ranks.items())),
        alphas=dict(sorted(alphas.items())),
        types=dict(
            Counter(DTYPE_WORDS.get(tensors.dtype(n), tensors.dtype(n)) for n in tensors.header).most_common()
        ),
        trained={
            label: _IN_WORDS.get((key, told[key]), told[key])
            for key, label in _TRAINING
            if told.get(key, "").strip() not in ("", "None", "null")
        },
        words=words,
        trigger=told.get("modelspec.trigger_phrase", "").strip() or _likely_trigger(told),
        date=_date(told),
        metadata=told,
    )


def part_of(stem: str) -> str:
    """unet, text or other, by a layer's name."""
    bare = stem.removeprefix("base_model.model.")
    if bare.startswith(("lora_te", "text_encoder", "te1", "te2", "lycoris_te", "clip_l", "clip_g", "t5xxl")):
        return "text"
    if (
        bare.startswith(
            (
                "lora_unet",
                "unet.",
                "transformer.",
                "lora_transformer",
                "diffusion_model.",
                "lycoris_",
                "model.diffusion_model.",
            )
        )
        or "transformer_blocks" in bare
        or "down_blocks" in bare
    ):
        return "unet"
    return "other"


def rank_of(roles: dict[str, str], tensors: Tensors) -> int:
    """A layer's rank from the shapes of its factors; 0 when it has none (full differences, whole LoKr factors)."""
    for role, axis in (("down", 0), ("hada_w1_b", 0), ("lokr_w2_b", 0), ("lokr_w1_b", 0)):
        if role in roles:
            shape = tensors.shape(roles[role])
            return int(shape[axis]) if shape else 0
    return 0


def family_of(tensors: Tensors) -> str:
    """The base model's family: told by the file, else by its layers' names and by how wide its cross-attention reads text
    (768 numbers a token in SD1.5, 1024 in SD2, 2048 in SDXL). "" when neither tells."""
    told = (
        tensors.metadata.get("ss_base_model_version", "")
        + " "
        + tensors.metadata.get("modelspec.architecture", "")
    ).lower()
    for word, family in (
        ("pocket", "pocket"), ("sdxl", "sdxl"), ("xl-v1", "sdxl"), ("flux", "flux"), ("sd3", "sd3"), ("diffusion-3", "sd3"),
        ("sd_v1", "sd15"), ("diffusion-v1", "sd15"), ("sd_v2", "sd2"), ("diffusion-v2", "sd2"),
    ):  # fmt: skip
        if word in told:
            return family
    names = list(tensors.header)
    if any("double_blocks" in n or "single_transformer_blocks" in n or "single_blocks" in n for n in names):
        return "flux"
    if any(
        "joint_blocks" in n or ("transformer_blocks" in n and "add_k_proj" in n and "attn2" not in n)
        for n in names
    ):
        return "sd3"
    for name in names:
        # diffusers' names of both are alike where only attention is trained; its width tells (FLUX 3072, SD3 and SD3.5 1536 or 2432).
        stem, role = split(name)
        if role == "down" and re.search(r"(?<!\w)transformer_blocks\.\d+\.attn\.to_[qkv]$", stem):
            shape = tensors.shape(name)
            return {3072: "flux", 1536: "sd3", 2432: "sd3"}.get(shape[1] if len(shape) > 1 else 0, "")
    for name in names:
        stem, role = split(name)
        if role == "down" and stem.replace(".", "_").endswith("attn2_to_k"):
            shape = tensors.shape(name)
            return {768: "sd15", 1024: "sd2", 2048: "sdxl"}.get(shape[1] if len(shape) > 1 else 0, "")
    if any(
        n.startswith(("lora_te1_", "lora_te2_", "text_encoder_2.", "lora_unet_input_blocks_")) for n in names
    ):
        return "sdxl"
    return ""


def caption_words(told: dict[str, str], most: int = 40) -> dict[str, int]:
    """The words of the captions with their counts over all folders (`ss_tag_frequency`), most used first; {} when not told."""
    try:
        raw = json.loads(told.get("ss_tag_frequency", "{}"))
    except ValueError:
        return {}
    counted: Counter[str] = Counter()
    for folder in raw.values() if isinstance(raw, dict) else ():
        if isinstance(folder, dict):
            for word, count in folder.items():
                if isinstance(count, int | float) and count > 0:
                    counted[str(word).strip()] += int(count)
    return dict(counted.most_common(most))


def _likely_trigger(told: dict[str, str]) -> str:
    """The word that begins every caption: the most used one, when no other is as frequent; else ""."""
    counted = list(caption_words(told, 2).items())
    if counted and (len(counted) == 1 or counted[0][1] > counted[1][1]):
        return counted[0][0]
    return ""


def _date(told: dict[str, str]) -> str:
    try:
        return datetime.fromtimestamp(float(told["ss_training_finished_at"]), UTC).isoformat(
            timespec="seconds"
        )
    except (KeyError, ValueError, OverflowError, OSError):
        return told.get("modelspec.date", "")


def _count(shape: tuple[int, ...]) -> int:
    total = 1
    for n in shape:
        total *= n
    return total
