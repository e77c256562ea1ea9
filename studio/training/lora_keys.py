"""Names inside LoRA files, and safe reading of their headers. Needs no torch.

A LoRA file of the kohya convention holds, for each adapted layer, `<name>.lora_down.weight`, `<name>.lora_up.weight` and
`<name>.alpha`. `<name>` is a prefix for the part of the model and the layer's path with dots turned into underscores:

    UNet                     lora_unet_
    text encoder, SD1.5      lora_te_text_model_
    text encoders, SDXL      lora_te1_text_model_ (CLIP-L), lora_te2_text_model_ (bigG)

For SDXL the UNet's blocks carry the names of the original checkpoint (input_blocks, middle_block, output_blocks), for
SD1.5 those of diffusers (down_blocks, mid_block, up_blocks). These are the names that sd-scripts writes, and that
diffusers, ComfyUI, A1111 and Forge read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from studio.errors import InputError
from studio.models import tensor_header

Part = Literal["unet", "text_encoder", "text_encoder_2"]
PARTS: tuple[Part, ...] = ("unet", "text_encoder", "text_encoder_2")

# Layers per block of the SDXL UNet's down path; its up path has one more. Decides how block numbers are counted.
SDXL_LAYERS_PER_BLOCK = 2

_UNET_LAYER = re.compile(
    r"^(?P<proj>proj_in|proj_out)$|"
    r"^transformer_blocks_(?P<block>\d+)_(?:(?P<attn>attn[12])_(?P<to>to_q|to_k|to_v|to_out_0)|ff_net_(?P<ff>0_proj|2))$"
)
_TEXT_LAYER = re.compile(
    r"^encoder_layers_(?P<layer>\d+)_(?:self_attn_(?P<attn>q_proj|k_proj|v_proj|out_proj)|mlp_(?P<mlp>fc1|fc2))$"
)


def prefix(part: Part, family: str) -> str:
    """The start of every name of a part, such as `lora_te1_text_model_`."""
    if part == "unet":
        return "lora_unet_"
    number = {"text_encoder": "1", "text_encoder_2": "2"}[part] if family == "sdxl" else ""
    return f"lora_te{number}_text_model_"


def lora_name(part: Part, module: str, family: str) -> str:
    """The kohya name of a layer.

    module: its dotted path in the diffusers or transformers model, such as
            `down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q`.
    """
    if part != "unet":
        return prefix(part, family) + module.removeprefix("text_model.").replace(".", "_")
    if family == "sdxl":
        module = _to_original_blocks(module)
    return prefix(part, family) + module.replace(".", "_")


def _to_original_blocks(module: str) -> str:
    """A diffusers path of the UNet's transformers in the original checkpoint's counting.

    Down: each block has `layers` pairs and one downsampler, after the first convolution, so attention j of block i is
    input block 1 + i (layers + 1) + j. Up: layers + 1 pairs a block, so output block i (layers + 1) + j.
    """
    step = SDXL_LAYERS_PER_BLOCK + 1
    m = re.match(r"^(down|up)_blocks\.(\d+)\.attentions\.(\d+)\.(.+)$", module)
    if m:
        i, j = int(m[2]), int(m[3])
        return (
            f"input_blocks.{1 + i * step + j}.1.{m[4]}"
            if m[1] == "down"
            else f"output_blocks.{i * step + j}.1.{m[4]}"
        )
    m = re.match(r"^mid_block\.attentions\.0\.(.+)$", module)
    if m:
        return f"middle_block.1.{m[1]}"
    raise ValueError(f"no original name for {module}")


def layer_of(name: str, family: str) -> tuple[Part, str] | None:
    """The part and dotted path that a kohya name stands for; None when it is not a layer that the studio adapts.

    The opposite of `lora_name`: text encoder paths come without a leading `text_model.`.
    """
    for part in PARTS:
        start = prefix(part, family)
        if not name.startswith(start):
            continue
        rest = name.removeprefix(start)
        if part == "unet":
            path = _unet_path(rest, family)
        else:
            m = _TEXT_LAYER.match(rest)
            path = None
            if m:
                path = f"encoder.layers.{m['layer']}." + (
                    f"self_attn.{m['attn']}" if m["attn"] else f"mlp.{m['mlp']}"
                )
        return (part, path) if path else None
    return None


def _unet_path(rest: str, family: str) -> str | None:
    step = SDXL_LAYERS_PER_BLOCK + 1
    if family == "sdxl":
        m = re.match(r"^(input_blocks|output_blocks)_(\d+)_1_(.+)$|^middle_block_1_(.+)$", rest)
        if not m:
            return None
        layer = m[3] or m[4]
        if m[1] == "input_blocks":
            i, j = divmod(int(m[2]) - 1, step)
            block = f"down_blocks.{i}.attentions.{j}"
        elif m[1] == "output_blocks":
            i, j = divmod(int(m[2]), step)
            block = f"up_blocks.{i}.attentions.{j}"
        else:
            block = "mid_block.attentions.0"
    else:
        m = re.match(r"^(?:(down|up)_blocks_(\d+)|(mid_block))_attentions_(\d+)_(.+)$", rest)
        if not m:
            return None
        layer = m[5]
        block = f"mid_block.attentions.{m[4]}" if m[3] else f"{m[1]}_blocks.{m[2]}.attentions.{m[4]}"
    found = _UNET_LAYER.match(layer)
    if not found:
        return None
    if found["proj"]:
        return f"{block}.{found['proj']}"
    inner = (
        f"{found['attn']}.{found['to'].replace('to_out_0', 'to_out.0')}"
        if found["attn"]
        else f"ff.net.{found['ff'].replace('_', '.')}"
    )
    return f"{block}.transformer_blocks.{found['block']}.{inner}"


def target_pattern(part: Part, targets: str) -> str:
    """A regular expression that fully matches the paths of the layers to adapt.

    targets: "attention" (query, key, value, output) or "attention+ff" (also feed-forward and the transformer's
             projections, which is the set that sd-scripts adapts).
    """
    if part == "unet":
        inner = r"transformer_blocks\.\d+\.attn[12]\.(?:to_q|to_k|to_v|to_out\.0)"
        if targets == "attention+ff":
            inner = rf"(?:{inner}|transformer_blocks\.\d+\.ff\.net\.(?:0\.proj|2)|proj_in|proj_out)"
        return rf"(?:down_blocks\.\d+|up_blocks\.\d+|mid_block)\.attentions\.\d+\.{inner}"
    inner = r"self_attn\.(?:q_proj|k_proj|v_proj|out_proj)"
    if targets == "attention+ff":
        inner = rf"(?:{inner}|mlp\.(?:fc1|fc2))"
    return rf"(?:text_model\.)?encoder\.layers\.\d+\.{inner}"


@dataclass(frozen=True)
class LoraHeader:
    """What the header of a LoRA file says.

    shapes:   tensor name -> shape.
    metadata: text fields such as `ss_output_name` and `modelspec.title`.
    """

    shapes: dict[str, tuple[int, ...]]
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def layers(self) -> list[str]:
        """Kohya names of all adapted layers, sorted."""
        return sorted({n.split(".", 1)[0] for n in self.shapes if ".lora_down." in n})

    @property
    def rank(self) -> int:
        """The largest rank of any layer; 0 when there is none."""
        return max((s[0] for n, s in self.shapes.items() if n.endswith(".lora_down.weight") and s), default=0)

    @property
    def has_text_encoder(self) -> bool:
        return any(n.startswith("lora_te") for n in self.shapes)

    @property
    def family(self) -> str:
        """sd15, sdxl or pocket as the names and metadata tell; empty when they do not."""
        told = self.metadata.get("ss_base_model_version", "")
        if told.startswith("sdxl") or any(
            n.startswith(("lora_te1_", "lora_te2_", "lora_unet_input_blocks_")) for n in self.shapes
        ):
            return "sdxl"
        if told == "pocket":
            return "pocket"
        return (
            "sd15"
            if told == "sd_v1" or any(n.startswith("lora_unet_down_blocks_") for n in self.shapes)
            else ""
        )


def read_header(path: Path) -> LoraHeader:
    """The header of a LoRA file. Loads no tensor and runs nothing that is in the file.

    Raises InputError when the file is missing, is a pickle, is cut short, or holds no LoRA layers.
    """
    raw = tensor_header(path)
    told: Any = raw.pop("__metadata__", None)
    metadata = {str(k): str(v) for k, v in told.items()} if isinstance(told, dict) else {}
    shapes = {
        name: tuple(int(n) for n in about.get("shape", ()))
        for name, about in raw.items()
        if isinstance(about, dict)
    }
    header = LoraHeader(shapes, metadata)
    if not any("lora_" in n or ".hada_" in n or ".lokr_" in n for n in shapes):
        raise InputError(
            f"{path.name} is not a LoRA.",
            "None of its tensors has a LoRA's name.",
            "Choose a .safetensors file that a LoRA training wrote.",
        )
    return header
