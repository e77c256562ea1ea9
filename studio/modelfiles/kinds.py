"""What a model file is, from the names and shapes of its tensors.

Names first, since they tell the families apart for every width; shapes only where names are shared (SD3 and SD3.5,
one CLIP and another). The names are those that the models are published with, which are also what kohya's loaders ask for.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from studio.modelfiles.header import tensor_header

Kind = Literal["base", "lora", "controlnet", "vae", "text-encoder", "unet", "embedding", "other"]
Prediction = Literal["epsilon", "v_prediction", "flow"]

WORDS: dict[str, str] = {
    "sd15": "a Stable Diffusion 1.x model",
    "sd2": "a Stable Diffusion 2.x model",
    "sdxl": "an SDXL model",
    "sdxl-refiner": "the SDXL refiner",
    "sd3-medium": "a Stable Diffusion 3 Medium model",
    "sd35-medium": "a Stable Diffusion 3.5 Medium model",
    "sd35": "a Stable Diffusion 3.5 Large model",
    "flux": "a FLUX.1 dev model",
    "flux-schnell": "a FLUX.1 schnell model",
    "chroma": "a Chroma model",
    "": "a model of an unknown kind",
}
PART_WORDS: dict[str, str] = {
    "clip_l": "the text encoder CLIP-L",
    "clip_g": "the text encoder CLIP-G",
    "t5xxl": "the text encoder T5-XXL",
    "ae": "the FLUX autoencoder",
    "vae": "an autoencoder (VAE)",
    "sd3-vae": "the SD3 autoencoder",
    "": "a text encoder of another model",
}
_KIND_WORDS: dict[str, str] = {
    "lora": "a LoRA",
    "controlnet": "a ControlNet",
    "unet": "only the inner part (UNet) of a model, without its text encoder",
    "embedding": "a textual inversion (embedding)",
    "other": "something else",
}
_LORA_FOR = {"sd15": "SD1.5", "sd2": "SD2", "sdxl": "SDXL", "sd35": "SD3.5", "flux": "FLUX.1"}
_PREFIX = "model.diffusion_model."
_BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "F8_E4M3": 8, "F8_E5M2": 8, "I8": 8, "U8": 8}


@dataclass(frozen=True)
class Look:
    """What a file is.

    family:     for a base model and for what belongs to one: a key of WORDS; "" when unknown.
    part:       for a text encoder or VAE: `clip_l`, `clip_g`, `t5xxl`, `ae`, `vae`; "" otherwise.
    prediction: what a base model says that it predicts; sure: whether the file says so itself rather than by its family.
    zero_snr:   it was trained with zero terminal SNR.
    parameters: how many numbers it holds; precision: the safetensors type of most of them, such as `F16`.
    inner:      how many of them are the part that draws, without text encoders and autoencoder; 0 unless it is a base model.
    blocks:     its transformer blocks: (double, single) of FLUX, (joint,) of SD3; () for the others.
    """

    kind: Kind
    family: str = ""
    part: str = ""
    prediction: Prediction = "epsilon"
    sure: bool = False
    zero_snr: bool = False
    inpainting: bool = False
    has_text: bool = False
    has_vae: bool = False
    quantised: bool = False
    parameters: int = 0
    precision: str = ""
    inner: int = 0
    blocks: tuple[int, ...] = ()

    @property
    def words(self) -> str:
        """What it is, for a sentence: "an SDXL model", "a LoRA for FLUX.1"."""
        if self.kind == "base":
            return WORDS.get(self.family, WORDS[""]) + (" for inpainting" if self.inpainting else "")
        if self.kind in ("vae", "text-encoder"):
            return PART_WORDS.get(self.part, PART_WORDS[""])
        if self.kind == "lora" and self.family in _LORA_FOR:
            return f"a LoRA for {_LORA_FOR[self.family]}"
        return _KIND_WORDS[self.kind]


def look(path: Path) -> Look:
    """What the .safetensors file at `path` is. Reads its header, once as long as it stays the same.

    Raises InputError when it is not whole, a pickle, or no safetensors file at all.
    """
    try:
        s = path.stat()
    except OSError:
        return recognise(tensor_header(path))
    return _looked(path, s.st_size, s.st_mtime_ns)


@lru_cache(maxsize=64)
def _looked(path: Path, size: int, changed: int) -> Look:
    return recognise(tensor_header(path))


def recognise(header: Mapping[str, Any]) -> Look:
    """What the header of a file says that it is."""
    names = {n for n in header if n != "__metadata__"}
    shapes = {n: tuple(header[n]["shape"]) for n in names}
    bits: dict[str, int] = {}
    count = 0
    for n in names:
        size, kind = math.prod(shapes[n]), str(header[n]["dtype"])
        count += size
        bits[kind] = bits.get(kind, 0) + size * _BITS.get(kind, 16)
    told = header.get("__metadata__")
    metadata = {str(k): str(v) for k, v in told.items()} if isinstance(told, dict) else {}
    found = _what(names, shapes, metadata)
    precision = max(bits, key=lambda k: bits[k]) if bits else ""
    quantised = any(".quant_state." in n or n.endswith((".scale_weight", ".absmax")) for n in names)
    inner, blocks = _inner(shapes, found) if found.kind == "base" else (0, ())
    more = {
        "parameters": count,
        "precision": precision,
        "quantised": quantised,
        "inner": inner,
        "blocks": blocks,
    }
    return Look(**{**vars(found), **more})


_BESIDE = ("text_encoders.", "cond_stage_model.", "conditioner.", "first_stage_model.", "vae.", "model_ema.")
_BLOCK_NAMES = {
    "flux": ("double_blocks.", "single_blocks."),
    "flux-schnell": ("double_blocks.", "single_blocks."),
    "sd35": ("joint_blocks.",),
}


def _inner(shapes: Mapping[str, tuple[int, ...]], found: Look) -> tuple[int, tuple[int, ...]]:
    """Parameters of the part that draws, and how many blocks of each kind it has."""
    own = {n.removeprefix(_PREFIX): s for n, s in shapes.items() if not n.startswith(_BESIDE)}
    blocks = []
    for start in _BLOCK_NAMES.get(found.family, ()):
        numbers = {n[len(start) :].partition(".")[0] for n in own if n.startswith(start)}
        blocks.append(max((int(n) + 1 for n in numbers if n.isdigit()), default=0))
    return sum(math.prod(s) for s in own.values()), tuple(blocks)


def _what(names: set[str], shapes: Mapping[str, tuple[int, ...]], metadata: Mapping[str, str]) -> Look:
    if _any(names, "lora_", "lycoris_", "oft_") or any(_LORA.search(n) for n in names):
        return Look("lora", family=_lora_family(names, shapes))
    if any(
        n.startswith("control_model.") or "input_hint_block" in n or "controlnet_" in n or "zero_conv" in n
        for n in names
    ):
        return Look("controlnet")
    inner = {n.removeprefix(_PREFIX): n for n in names}
    vae = _any(names, "first_stage_model.", "vae.")
    if _any(set(inner), "joint_blocks."):
        return _sd3(inner, shapes, names, vae)
    if _any(set(inner), "double_blocks.", "single_transformer_blocks."):
        return _flux(inner, names, vae)
    if _any(names, f"{_PREFIX}"):
        return _unet(inner, shapes, names, metadata, vae)
    if _any(names, "input_blocks.", "down_blocks."):
        return Look("unet")
    return _part(names, shapes, vae)


_LORA = re.compile(r"\.lora_(?:A|B|up|down)\b|\.lora\.(?:up|down)|hada_w\d|lokr_w\d|\.dora_scale$")


def _any(names: set[str], *starts: str) -> bool:
    return any(n.startswith(starts) for n in names)


def _lora_family(names: set[str], shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Names first; where SD1.x and SDXL share them, how wide the text is that a layer reads (768 or 2048 numbers a word)."""
    text = " ".join(sorted(names)[:4000])
    if "double_blocks" in text or "single_transformer_blocks" in text or "single_blocks" in text:
        return "flux"
    if "joint_blocks" in text or ("add_k_proj" in text and "attn2" not in text):
        return "sd35"
    if "lora_te2" in text or "transformer_blocks_9" in text or "text_encoder_2" in text:
        return "sdxl"
    wide = {s[1] for n, s in shapes.items() if _READS_TEXT.search(n) and len(s) > 1}
    if len(wide) == 1:
        return {768: "sd15", 1024: "sd2", 2048: "sdxl"}.get(wide.pop(), "")
    return "sd15" if "lora_te_" in text else ""


_READS_TEXT = re.compile(r"attn2[._]to_k\.(?:lora_down|lora_A|lora\.down)")


def _sd3(inner: Mapping[str, str], shapes: Mapping[str, tuple[int, ...]], names: set[str], vae: bool) -> Look:
    """SD3 and SD3.5 share their names; the norm of queries came with 3.5, a second attention with 3.5 Medium."""
    if not any(n.startswith("joint_blocks.") and n.endswith(".attn.ln_q.weight") for n in inner):
        family = "sd3-medium"
    elif any(".x_block.attn2." in n for n in inner):
        family = "sd35-medium"
    else:
        family = "sd35"
    return Look("base", family, "", "flow", True, has_text=_any(names, "text_encoders."), has_vae=vae)


def _flux(inner: Mapping[str, str], names: set[str], vae: bool) -> Look:
    """FLUX.1: dev is guided, schnell is not; Chroma has a guide of its own instead of modulations."""
    if _any(set(inner), "distilled_guidance_layer."):
        family = "chroma"
    elif _any(set(inner), "guidance_in.", "time_text_embed.guidance_embedder."):
        family = "flux"
    elif _any(set(inner), "vector_in.", "time_text_embed.", "txt_in.") and not _any(
        set(inner), "double_stream_modulation", "refiner"
    ):
        family = "flux-schnell"
    else:
        family = ""
    text = _any(names, "text_encoders.", "cond_stage_model.")
    return Look("base", family, "", "flow", True, has_text=text, has_vae=vae)


def _unet(
    inner: Mapping[str, str],
    shapes: Mapping[str, tuple[int, ...]],
    names: set[str],
    metadata: Mapping[str, str],
    vae: bool,
) -> Look:
    if _any(names, "conditioner.embedders.1."):
        family = "sdxl"
    elif _any(names, "conditioner.embedders.0.model."):
        family = "sdxl-refiner"
    elif _any(names, "cond_stage_model.transformer."):
        family = "sd15"
    elif _any(names, "cond_stage_model.model."):
        family = "sd2"
    elif _any(set(inner), "input_blocks."):
        return Look("unet", has_vae=vae)
    else:
        return Look("other")
    entry = shapes.get(f"{_PREFIX}input_blocks.0.0.weight", ())
    prediction, sure = _prediction(names, metadata)
    return Look(
        "base", family, "", prediction, sure, zero_snr="ztsnr" in names, has_text=True, has_vae=vae,
        inpainting=len(entry) == 4 and entry[1] in (8, 9),
    )  # fmt: skip


def _prediction(names: set[str], metadata: Mapping[str, str]) -> tuple[Prediction, bool]:
    """A file with an empty tensor `v_pred`, or metadata that says so, predicts v; silence usually means epsilon."""
    told = metadata.get("modelspec.prediction_type", metadata.get("prediction_type", "")).lower()
    if "v_pred" in names or told in ("v", "v_prediction", "v-prediction"):
        return "v_prediction", True
    return "epsilon", told in ("epsilon", "eps")


def _part(names: set[str], shapes: Mapping[str, tuple[int, ...]], vae: bool) -> Look:
    for start in ("", "first_stage_model.", "vae."):
        shape = shapes.get(f"{start}decoder.conv_in.weight", ())
        if len(shape) == 4:
            # Latents of FLUX and SD3 have 16 channels, those of the older models 4. SD3's autoencoder is published inside
            # of its model only.
            return Look("vae", part="ae" if shape[1] == 16 else "vae", has_vae=True)
    if vae:
        return Look("vae", part="vae", has_vae=True)
    width = {n.rpartition("text_model.")[2]: shapes[n] for n in names if "text_model." in n}
    if width:
        table = width.get("embeddings.token_embedding.weight", ())
        part = {768: "clip_l", 1280: "clip_g"}.get(table[1] if len(table) == 2 else 0, "")
        return Look("text-encoder", part=part, has_text=True)
    t5 = next((shapes[n] for n in names if n.endswith("block.0.layer.0.SelfAttention.q.weight")), None)
    if t5 is not None:
        return Look("text-encoder", part="t5xxl" if t5[-1] == 4096 else "", has_text=True)
    if "emb_params" in names or (names and names <= {"clip_l", "clip_g", "t5xxl"}):
        return Look("embedding")
    return Look("text-encoder" if _any(names, "cond_stage_model.", "conditioner.") else "other")
