"""Writes a diffusers folder as one file in the original checkpoints' naming, as SD1.5 and SDXL are handed around."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_TOP = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}


def unet_name(name: str, up_attention: set[int]) -> str:
    """Blocks are counted with two layers each. up_attention: up blocks with attention, whose upsampler comes third."""
    for ours, theirs in _TOP.items():
        if name.startswith(ours + "."):
            return theirs + name.removeprefix(ours)
    m = re.match(r"(down|up)_blocks\.(\d+)\.(resnets|attentions)\.(\d+)\.(.+)", name)
    if m:
        i, j = int(m[2]), int(m[4])
        block = f"input_blocks.{3 * i + j + 1}" if m[1] == "down" else f"output_blocks.{3 * i + j}"
        return f"{block}.{0 if m[3] == 'resnets' else 1}.{_inner(m[3], m[5])}"
    m = re.match(r"down_blocks\.(\d+)\.downsamplers\.0\.conv\.(.+)", name)
    if m:
        return f"input_blocks.{3 * (int(m[1]) + 1)}.0.op.{m[2]}"
    m = re.match(r"up_blocks\.(\d+)\.upsamplers\.0\.conv\.(.+)", name)
    if m:
        return f"output_blocks.{3 * int(m[1]) + 2}.{2 if int(m[1]) in up_attention else 1}.conv.{m[2]}"
    m = re.match(r"mid_block\.(resnets|attentions)\.(\d+)\.(.+)", name)
    assert m, name
    return f"middle_block.{2 * int(m[2]) if m[1] == 'resnets' else 1}.{_inner(m[1], m[3])}"


def _inner(kind: str, rest: str) -> str:
    if kind == "attentions":
        return rest
    head, _, tail = rest.rpartition(".")
    return f"{_RESNET[head]}.{tail}"


def vae_name(name: str, blocks: int) -> str:
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    name = re.sub(r"mid_block\.attentions\.0", "mid.attn_1", name)
    for ours, theirs in (
        ("group_norm", "norm"),
        ("to_q", "q"),
        ("to_k", "k"),
        ("to_v", "v"),
        ("to_out.0", "proj_out"),
    ):
        name = name.replace(f"attn_1.{ours}", f"attn_1.{theirs}")
    name = re.sub(r"down_blocks\.(\d)\.resnets\.(\d)", r"down.\1.block.\2", name)
    name = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", name)
    name = re.sub(
        r"up_blocks\.(\d)\.resnets\.(\d)", lambda m: f"up.{blocks - 1 - int(m[1])}.block.{m[2]}", name
    )
    name = re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{blocks - 1 - int(m[1])}.upsample", name)
    return name.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")


def _open_clip(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The second text encoder of SDXL in the naming of OpenCLIP: query, key and value in one matrix."""
    out: dict[str, torch.Tensor] = {}
    plain = {
        "embeddings.token_embedding.weight": "token_embedding.weight",
        "embeddings.position_embedding.weight": "positional_embedding",
        "final_layer_norm.weight": "ln_final.weight",
        "final_layer_norm.bias": "ln_final.bias",
    }
    inner = {
        "layer_norm1": "ln_1",
        "layer_norm2": "ln_2",
        "mlp.fc1": "mlp.c_fc",
        "mlp.fc2": "mlp.c_proj",
        "self_attn.out_proj": "attn.out_proj",
    }
    for name, tensor in tensors.items():
        short = name.removeprefix("text_model.")
        m = re.match(r"encoder\.layers\.(\d+)\.(.+)\.(weight|bias)", short)
        if name == "text_projection.weight":
            out["text_projection"] = tensor.t().contiguous()
        elif short in plain:
            out[plain[short]] = tensor
        elif m and m[2] in inner:
            out[f"transformer.resblocks.{m[1]}.{inner[m[2]]}.{m[3]}"] = tensor
        elif m and m[2] == "self_attn.q_proj":
            three = [tensors[name.replace("q_proj", p)] for p in ("q_proj", "k_proj", "v_proj")]
            out[f"transformer.resblocks.{m[1]}.attn.in_proj_{m[3]}"] = torch.cat(three)
    return out


def write_checkpoint(folder: Path, target: Path, family: str) -> Path:
    """`folder` (SD1.5 or SDXL geometry) as one .safetensors file at `target`."""
    unet = load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")
    vae = load_file(folder / "vae" / "diffusion_pytorch_model.safetensors")
    text = load_file(folder / "text_encoder" / "model.safetensors")
    up_attention = {int(m[1]) for n in unet if (m := re.match(r"up_blocks\.(\d)\.attentions", n))}
    blocks = 1 + max(int(m[1]) for n in vae if (m := re.match(r"decoder\.up_blocks\.(\d)", n)))
    tensors = {f"model.diffusion_model.{unet_name(n, up_attention)}": t for n, t in unet.items()}
    for name, tensor in vae.items():
        theirs = vae_name(name, blocks)
        matrix = re.search(r"attn_1\.(q|k|v|proj_out)\.weight", theirs)
        tensors[f"first_stage_model.{theirs}"] = tensor[:, :, None, None].contiguous() if matrix else tensor
    start = "conditioner.embedders.0.transformer" if family == "sdxl" else "cond_stage_model.transformer"
    for name, tensor in text.items():
        tensors[f"{start}.text_model.{name.removeprefix('text_model.')}"] = tensor
    if family == "sdxl":
        second = _open_clip(load_file(folder / "text_encoder_2" / "model.safetensors"))
        tensors |= {f"conditioner.embedders.1.model.{n}": t for n, t in second.items()}
    save_file({n: t.contiguous().clone() for n, t in tensors.items()}, target)
    return target
