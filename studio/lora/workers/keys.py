"""kohya's key names <-> those of diffusers with peft, for SD1.5, SDXL and the built-in model (FLUX and SD3: `transformer_keys`).

Every layer's names come from the model itself, built without weights from its geometry: nothing is guessed from underscores.
peft's files of diffusers hold no alpha, so the scale alpha / rank moves into `lora_B`; the other way, alpha is the rank, or what
peft's own configuration beside the file says.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

import torch

from studio import files
from studio.errors import InputError
from studio.lora.names import NAMING_WORDS
from studio.lora.workers import transformer_keys
from studio.lora.workers.tensors import LoraFile
from studio.training.lora_keys import prefix
from studio.training.workers.layers import layer_names
from studio.workspace import shipped

_PLACES = {
    "sd15": ("data", "geometry", "sd15"),
    "sdxl": ("data", "geometry", "sdxl"),
    "pocket": ("data", "pocket"),
}


@lru_cache(maxsize=3)
def _models(family: str) -> dict[Any, Any]:
    """The family's parts on the meta device: names and shapes, no numbers."""
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    place = shipped(*_PLACES[family])
    found: dict[Any, Any] = {}
    with torch.device("meta"):
        found["unet"] = UNet2DConditionModel.from_config(
            UNet2DConditionModel.load_config(str(place / "unet"))
        )
        for part in ("text_encoder", "text_encoder_2"):
            if (place / part / "config.json").is_file():
                found[part] = CLIPTextModel(CLIPTextConfig.from_pretrained(str(place / part)))
    return found


def converted(
    source: LoraFile, names: str, family: str, dtype: torch.dtype
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and metadata under other names. names: "kohya" or "diffusers".

    Raises InputError for a family whose layers are not known here, for kinds that the other side cannot hold, and for layers
    that the base model does not have.
    """
    if family not in _PLACES and family not in transformer_keys.FAMILIES:
        raise InputError(
            f"The names of {source.path.name} cannot be converted.",
            f"The studio knows the layers of SD1.5, SDXL, SD3, FLUX and the built-in model; this file is for {family or 'a model it cannot tell'}.",
            "Use the converter of the trainer that made it; the number format can be changed here all the same.",
        )
    if source.naming == names:
        raise InputError(f"{source.path.name} has {NAMING_WORDS[names]} names already.", "There is nothing to convert.", "Use the file as it is.")  # fmt: skip
    odd = [x.name for x in source.layers.values() if not x.is_lora and set(x.parts) - {"alpha"}]
    if odd or any("dora" in x.parts for x in source.layers.values()):
        raise InputError(
            f"The names of {source.path.name} cannot be converted.",
            f"{odd[0] if odd else 'It'} is not a plain LoRA layer; only those mean the same on both sides.",
            "Resize it first, which makes plain LoRA layers of LoHa and LoKr.",
        )
    metadata = {k: v for k, v in source.metadata.items() if k not in ("format", "lora_adapter_metadata")}
    if family in transformer_keys.FAMILIES:
        if names == "diffusers":
            return transformer_keys.to_diffusers(source, family, dtype), {**metadata, "format": "pt"}
        return transformer_keys.to_kohya(source, family, dtype, _peft_alphas(source)), metadata
    known = layer_names(_models(family), family)
    # Of several names the last one is the one that sd-scripts writes (for SDXL that of the original checkpoint).
    mine = {place[1]: name for name, place in known.items() if name.startswith("lora_unet_")}
    told = _peft_alphas(source)
    out: dict[str, torch.Tensor] = {}
    unknown = []
    for stem, layer in source.layers.items():
        bare = stem.removeprefix("base_model.model.")
        place = known.get(bare) or known.get(f"unet.{bare}")
        if place is None:
            unknown.append(stem)
            continue
        part, path, module = place
        up, down = layer.parts["up"], layer.parts["down"]
        spatial = isinstance(module, torch.nn.Conv2d)
        down = down[..., None, None] if spatial and down.dim() == 2 else down
        up = up[..., None, None] if spatial and up.dim() == 2 else up
        if not spatial:
            down, up = down.flatten(1), up.flatten(1)
        if names == "diffusers":
            start = part if part == "unet" else f"{part}.text_model"
            inner = path.removeprefix("text_model.") if part != "unet" else path
            out[f"{start}.{inner}.lora_A.weight"] = down
            out[f"{start}.{inner}.lora_B.weight"] = (up.float() * layer.scale).to(dtype)
        else:
            kohya = _kohya_name(mine, part, path, family)
            out[f"{kohya}.lora_down.weight"], out[f"{kohya}.lora_up.weight"] = down, up
            alpha = float(layer.parts["alpha"]) if "alpha" in layer.parts else told(part, path, layer.rank)
            out[f"{kohya}.alpha"] = torch.tensor(alpha)
    if unknown:
        raise InputError(
            f"The names of {source.path.name} cannot be converted.",
            f"{len(unknown)} of its layers are not in this base model, such as {unknown[0]}.",
            "Check that it is a LoRA for this family.",
        )
    return out, {**metadata, "format": "pt"} if names == "diffusers" else metadata


def _kohya_name(mine: dict[str, str], part: Any, path: str, family: str) -> str:
    """kohya's name of a layer; for SDXL's UNet the one in the names of the original checkpoint."""
    if part != "unet":
        return f"{prefix(part, family)}{path.removeprefix('text_model.').replace('.', '_')}"
    return mine[path]


def _peft_alphas(source: LoraFile) -> Any:
    """(part, path, rank) -> alpha, from diffusers' own metadata or peft's configuration beside the file; else the rank."""
    try:
        told: dict[str, Any] = json.loads(source.metadata.get("lora_adapter_metadata", "{}"))
    except ValueError:
        told = {}
    try:
        beside = (
            files.read_json(source.path.with_name("adapter_config.json")) if source.naming == "peft" else None
        )
    except InputError:
        beside = None
    if isinstance(beside, dict):
        told = {f"unet.{k}": v for k, v in beside.items()} | told

    def alpha(part: str, path: str, rank: int) -> float:
        pattern = told.get(f"{part}.alpha_pattern")
        if isinstance(pattern, dict):
            for end, value in pattern.items():
                if path.endswith(str(end)):
                    return float(value)
        value = told.get(f"{part}.lora_alpha")
        return float(value) if isinstance(value, int | float) else float(rank)

    return alpha
