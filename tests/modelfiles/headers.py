"""Model files that have the true header of what they stand for (names, shapes, full length) and no data: sparse files."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Shapes = Mapping[str, tuple[int, ...]]
_BYTES = {"F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "U8": 1}
M = "model.diffusion_model."

CLIP_L: Shapes = {
    "text_model.embeddings.position_embedding.weight": (77, 768),
    "text_model.embeddings.token_embedding.weight": (49408, 768),
    "text_model.encoder.layers.0.self_attn.q_proj.weight": (768, 768),
    "text_model.encoder.layers.11.mlp.fc1.weight": (3072, 768),
    "text_model.final_layer_norm.weight": (768,),
}
CLIP_G: Shapes = {
    "text_model.embeddings.token_embedding.weight": (49408, 1280),
    "text_model.encoder.layers.31.mlp.fc1.weight": (5120, 1280),
    "text_projection.weight": (1280, 1280),
}
T5: Shapes = {
    "encoder.block.0.layer.0.SelfAttention.q.weight": (4096, 4096),
    "encoder.block.23.layer.1.DenseReluDense.wi_0.weight": (10240, 4096),
    "shared.weight": (32128, 4096),
}
AE: Shapes = {
    "decoder.conv_in.weight": (512, 16, 3, 3),
    "decoder.up.0.block.0.conv1.weight": (128, 256, 3, 3),
    "encoder.conv_in.weight": (128, 3, 3, 3),
    "encoder.conv_out.weight": (32, 512, 3, 3),
}
SD_VAE: Shapes = {
    "decoder.conv_in.weight": (512, 4, 3, 3),
    "encoder.conv_in.weight": (128, 3, 3, 3),
    "post_quant_conv.weight": (4, 4, 1, 1),
}


def _below(start: str, shapes: Shapes) -> dict[str, tuple[int, ...]]:
    return {f"{start}{n}": s for n, s in shapes.items()}


SD15: Shapes = {
    **_below("cond_stage_model.transformer.", CLIP_L),
    **_below("first_stage_model.", SD_VAE),
    f"{M}input_blocks.0.0.weight": (320, 4, 3, 3),
    f"{M}input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (320, 768),
    f"{M}time_embed.0.weight": (1280, 320),
}
SD2: Shapes = {
    "cond_stage_model.model.transformer.resblocks.0.attn.in_proj_weight": (3072, 1024),
    "cond_stage_model.model.token_embedding.weight": (49408, 1024),
    f"{M}input_blocks.0.0.weight": (320, 4, 3, 3),
    f"{M}input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (320, 1024),
}
SDXL: Shapes = {
    **_below("conditioner.embedders.0.transformer.", CLIP_L),
    "conditioner.embedders.1.model.transformer.resblocks.0.attn.in_proj_weight": (3840, 1280),
    "conditioner.embedders.1.model.token_embedding.weight": (49408, 1280),
    **_below("first_stage_model.", SD_VAE),
    f"{M}input_blocks.0.0.weight": (320, 4, 3, 3),
    f"{M}input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight": (640, 2048),
    f"{M}label_emb.0.0.weight": (1280, 2816),
}
SDXL_V: Shapes = {**SDXL, "v_pred": (0,), "ztsnr": (0,)}
REFINER: Shapes = {
    "conditioner.embedders.0.model.transformer.resblocks.0.attn.in_proj_weight": (3840, 1280),
    f"{M}input_blocks.0.0.weight": (384, 4, 3, 3),
    f"{M}label_emb.0.0.weight": (1536, 2560),
}
INPAINT: Shapes = {**SD15, f"{M}input_blocks.0.0.weight": (320, 9, 3, 3)}
SD3_MEDIUM: Shapes = {
    f"{M}joint_blocks.0.x_block.attn.qkv.weight": (4608, 1536),
    f"{M}joint_blocks.23.x_block.mlp.fc1.weight": (6144, 1536),
    f"{M}x_embedder.proj.weight": (1536, 16, 2, 2),
    "first_stage_model.decoder.conv_in.weight": (512, 16, 3, 3),
}
SD35_LARGE: Shapes = {
    f"{M}joint_blocks.0.x_block.attn.qkv.weight": (7296, 2432),
    f"{M}joint_blocks.0.x_block.attn.ln_q.weight": (64,),
    f"{M}joint_blocks.0.context_block.attn.ln_k.weight": (64,),
    f"{M}joint_blocks.37.x_block.mlp.fc1.weight": (9728, 2432),
    f"{M}x_embedder.proj.weight": (2432, 16, 2, 2),
    "first_stage_model.decoder.conv_in.weight": (512, 16, 3, 3),
}
SD35_MEDIUM: Shapes = {
    **SD3_MEDIUM,
    f"{M}joint_blocks.0.x_block.attn.ln_q.weight": (64,),
    f"{M}joint_blocks.0.x_block.attn2.ln_k.weight": (64,),
    f"{M}joint_blocks.0.x_block.attn2.qkv.weight": (4608, 1536),
}
FLUX_SCHNELL: Shapes = {
    "double_blocks.0.img_attn.qkv.weight": (9216, 3072),
    "double_blocks.18.txt_mlp.0.weight": (12288, 3072),
    "single_blocks.37.linear1.weight": (21504, 3072),
    "txt_in.weight": (3072, 4096),
    "vector_in.in_layer.weight": (3072, 768),
}
FLUX: Shapes = {
    **FLUX_SCHNELL,
    "guidance_in.in_layer.weight": (3072, 256),
    "guidance_in.in_layer.bias": (3072,),
}
CHROMA: Shapes = {
    "distilled_guidance_layer.in_proj.weight": (5120, 64),
    "double_blocks.0.img_attn.qkv.weight": (9216, 3072),
    "single_blocks.37.linear1.weight": (21504, 3072),
    "txt_in.weight": (3072, 4096),
}
LORA: Shapes = {
    "lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": (8, 768),
    "lora_unet_down_blocks_0_attentions_0_proj_in.lora_up.weight": (320, 8),
}
FLUX_LORA: Shapes = {"transformer.single_transformer_blocks.0.attn.to_k.lora_A.weight": (16, 3072)}
CONTROLNET: Shapes = {
    "control_model.input_hint_block.0.weight": (16, 3, 3, 3),
    "control_model.zero_convs.0.0.weight": (320, 320, 1, 1),
}
UNET: Shapes = {"down_blocks.0.resnets.0.conv1.weight": (320, 320, 3, 3), "conv_in.weight": (320, 4, 3, 3)}
EMBEDDING: Shapes = {"emb_params": (4, 768)}
UPSCALER: Shapes = {"params_ema.conv_first.weight": (64, 3, 3, 3)}
NF4: Shapes = {**FLUX, "double_blocks.0.img_attn.qkv.weight.quant_state.bitsandbytes__nf4": (100,)}


def write(
    path: Path, shapes: Shapes, *, dtype: str = "F16", metadata: dict[str, str] | None = None, cut: int = 0
) -> Path:
    """A .safetensors file of these tensors in their full length, less `cut` bytes; it takes next to no room on the disk."""
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    at = 0
    for name, shape in shapes.items():
        end = at + math.prod(shape) * _BYTES[dtype]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        f.truncate(8 + len(text) + at - cut)
    return path
