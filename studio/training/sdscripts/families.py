"""What is particular to each family of base models in sd-scripts.

Read in the scripts themselves at the commit that the list of options was made from: which files a base model consists of,
which network module makes its LoRA, which bucket steps are accepted.
"""

from __future__ import annotations

from typing import Any, Final

FLOW: Final = frozenset({"sd35", "flux"})
"""Families that are trained by rectified flow: no min-SNR, no noise offset, no v-prediction."""

PARTS: Final[dict[str, tuple[str, ...]]] = {
    "sd35": ("clip_l", "clip_g", "t5xxl"),
    "flux": ("clip_l", "t5xxl", "ae"),
}
"""Files that a base model needs beside its checkpoint; each is an option of the script of the same name."""

OPTIONAL_PARTS: Final = ("vae",)
"""Files that may be given beside a checkpoint which has one of its own. FLUX takes `ae` instead."""

T5_TOKENIZER: Final = "t5_tokenizer"
"""The part that holds T5's word table, so that no run needs the internet for it."""

PART_TITLES: Final = {
    "clip_l": "the text encoder CLIP-L",
    "clip_g": "the text encoder CLIP-G",
    "t5xxl": "the text encoder T5-XXL",
    "ae": "the autoencoder",
    "vae": "the VAE",
}

MODULES: Final = {
    "sd15": "networks.lora",
    "sdxl": "networks.lora",
    "sd35": "networks.lora_sd3",
    "flux": "networks.lora_flux",
}

BUCKET_STEP: Final = {"sd15": 64, "sdxl": 32, "sd35": 32, "flux": 32}
"""Pixels; a bucket step that is no multiple of this is refused (`verify_bucket_reso_steps`)."""

SAMPLE_FLAGS: Final = {
    "sd15": "--s 20 --l 7",
    "sdxl": "--s 20 --l 7",
    "sd35": "--s 28 --l 4.5",
    "flux": "--s 20 --g 3.5 --l 1",
}
"""Steps, guidance of the picture (`l`), and what FLUX is told its guidance is (`g`), as its makers advise."""

_SHARED_ARGS = frozenset(
    {"conv_dim", "conv_alpha", "rank_dropout", "module_dropout", "loraplus_lr_ratio", "loraplus_unet_lr_ratio",
     "loraplus_text_encoder_lr_ratio"}
)  # fmt: skip
NETWORK_ARGS: Final[dict[str, frozenset[str]]] = {
    "networks.lora": _SHARED_ARGS
    | {"block_dims", "block_alphas", "conv_block_dims", "conv_block_alphas", "down_lr_weight", "mid_lr_weight",
       "up_lr_weight", "block_lr_zero_threshold"},
    "networks.lora_sd3": _SHARED_ARGS
    | {"context_attn_dim", "context_mlp_dim", "context_mod_dim", "x_attn_dim", "x_mlp_dim", "x_mod_dim", "emb_dims",
       "train_block_indices", "split_qkv", "train_t5xxl", "verbose"},
    "networks.lora_flux": _SHARED_ARGS
    | {"img_attn_dim", "txt_attn_dim", "img_mlp_dim", "txt_mlp_dim", "img_mod_dim", "txt_mod_dim", "single_dim",
       "single_mod_dim", "in_dims", "train_double_block_indices", "train_single_block_indices", "train_blocks",
       "split_qkv", "ggpo_beta", "ggpo_sigma", "train_t5xxl", "verbose", "network_reg_lrs", "network_reg_dims"},
}  # fmt: skip
"""Names that the network modules read from `network_args`; any other is passed over without a word."""


def flow_options(family: str, settings: Any) -> list[tuple[str, Any, str]]:
    """Options that only SD3.5 and FLUX have: (option, value, why). settings: TrainingSettings."""
    s = settings
    found: list[tuple[str, Any, str]] = []
    if family == "flux":
        sampling = "flux_shift" if s.timestep_sampling == "auto" else s.timestep_sampling
        found += [
            ("timestep_sampling", sampling, "Timestep sampling; the script's own, sigma, is not FLUX's"),
            ("model_prediction_type", "raw", "what FLUX predicts as it is; the script's own rescales it"),
            ("guidance_scale", float(s.guidance_scale), "Guidance while training; the script's own is 3.5"),
        ]
        if sampling == "shift":
            found.append(("discrete_flow_shift", float(s.flow_shift or 3.1582), "Timestep shift"))
        if sampling == "sigma":
            found.append(("weighting_scheme", s.loss_weighting, "Loss weighting"))
    else:
        found += [
            ("weighting_scheme", s.loss_weighting, "Loss weighting"),
            ("training_shift", float(s.flow_shift or 1.0), "Timestep shift"),
        ]
    if s.t5_attention_mask:
        found.append(("apply_t5_attn_mask", True, "Mask empty T5 tokens"))
    if s.blocks_to_swap:
        found.append(("blocks_to_swap", s.blocks_to_swap, "Blocks swapped"))
    return found
