"""Writes base models of random weights that sd-scripts and ComfyUI load, to train a few real steps without a download.

    PYTHON scripts/sdscripts/random_models.py SOURCE OUT [NAME ...]

PYTHON is the interpreter of sd-scripts' environment, SOURCE its folder, OUT where the files go. NAME is one or more of
`sdxl`, `sdxl-v` (says of itself that it predicts v), `flux`, `sd35`, `text` (CLIP-L, CLIP-G and T5-XXL, which FLUX and SD3.5
share), `ae`; all but `sdxl-v` without one. `thin`, always last, makes the folder `thin` of models for what thin.py makes of
sd-scripts (all families, 2 GB). Names and shapes are asked of sd-scripts' own models, which hold no memory while
asked, so a file is as large as the real one (SDXL 6.9 GB, T5 9.5 GB); FLUX has 1 + 2 blocks of the full width and SD3.5 four
blocks, which both programs read off the file. The weights are scaled so that a loss is finite; pictures are noise.
"""

from __future__ import annotations

import json
import math
import runpy
import struct
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

_thin: dict[str, Any] = {}  # what thin.py holds, while models for it are made
Shapes = Mapping[str, tuple[int, ...]]
FLUX_BLOCKS = (1, 2)
SD35_BLOCKS = 4
_NOISE = 4_194_301  # numbers drawn once and repeated; prime, so that no row of a matrix repeats its neighbour
_WORDS = {torch.float16: "F16", torch.bfloat16: "BF16"}


def spread(name: str, shape: tuple[int, ...]) -> float:
    """Standard deviation of a tensor, so that what goes through the layers keeps its size."""
    if "token_embedding" in name or "position_embedding" in name or "positional_embedding" in name:
        return 0.02
    if name.startswith("shared."):
        return 1.0
    if "relative_attention_bias" in name:
        return 0.1
    if name.endswith("pos_embed"):
        return 0.5
    wide = max(1, math.prod(shape[1:]))
    if "SelfAttention.q." in name:  # T5 does not scale its scores
        return (wide * 64) ** -0.5
    return (0.5 if "mod" in name.lower() else 1.0) * wide**-0.5


def write(path: Path, shapes: Shapes, dtype: torch.dtype, *, empty: tuple[str, ...] = ()) -> None:
    """Write a .safetensors file, tensor by tensor, under its name only when it is whole. empty: names without values."""
    header: dict[str, Any] = {}
    at = 0
    for name, shape in {**shapes, **dict.fromkeys(empty, (0,))}.items():
        end = at + math.prod(shape) * 2
        header[name] = {"dtype": _WORDS[dtype], "shape": list(shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    noise = torch.randn(_NOISE, generator=torch.Generator().manual_seed(20))
    part = path.with_name(f"{path.name}.part")
    start = 0
    with part.open("wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for name, shape in shapes.items():
            count = math.prod(shape)
            if len(shape) < 2:
                value = 4.6 if name.endswith("logit_scale") else 0.0 if name.endswith("bias") else 1.0
                f.write(_bytes(torch.full((count,), value, dtype=dtype)))
                continue
            scaled = (noise * spread(name, shape)).to(dtype)
            while count:
                piece = scaled[start : start + count]
                f.write(_bytes(piece))
                count -= len(piece)
                start = (start + len(piece)) % _NOISE
    part.rename(path)
    print(f"{path.name}: {path.stat().st_size / 1e9:.2f} GB", flush=True)


def _bytes(values: torch.Tensor) -> bytes:
    return values.contiguous().view(torch.uint8).numpy().tobytes()


def _shapes(model: Any, start: str = "") -> dict[str, tuple[int, ...]]:
    state = model if isinstance(model, dict) else model.state_dict()
    return {f"{start}{n}": tuple(v.shape) for n, v in state.items()}


def _clip(width: int, layers: int, heads: int, *, projected: bool) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    told = {
        "vocab_size": 49408, "hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": layers,
        "num_attention_heads": heads, "max_position_embeddings": 77, "projection_dim": width,
    }  # fmt: skip
    config = CLIPTextConfig(**(_thin["clip"](told) if _thin else told))
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)


def sdxl() -> dict[str, tuple[int, ...]]:
    """A whole checkpoint of SDXL as it is published: UNet, both text encoders, VAE."""
    from diffusers import AutoencoderKL
    from library import model_util, sdxl_model_util, sdxl_original_unet

    second = sdxl_model_util.convert_text_encoder_2_state_dict_to_sdxl(
        _clip(1280, 32, 20, projected=True).state_dict(), torch.zeros(())
    )
    vae = model_util.convert_vae_state_dict(
        AutoencoderKL(**model_util.create_vae_diffusers_config()).state_dict()
    )
    return {
        **_shapes(sdxl_original_unet.SdxlUNet2DConditionModel(), "model.diffusion_model."),
        **_shapes(_clip(768, 12, 12, projected=False), "conditioner.embedders.0.transformer."),
        **_shapes(second, "conditioner.embedders.1.model."),
        **_shapes(vae, "first_stage_model."),
    }


def flux() -> dict[str, tuple[int, ...]]:
    """The inner part of FLUX.1 dev, with few blocks of the full width."""
    from library import flux_models

    told = flux_models.configs["dev"].params
    return _shapes(flux_models.Flux(replace(told, depth=FLUX_BLOCKS[0], depth_single_blocks=FLUX_BLOCKS[1])))


def ae() -> dict[str, tuple[int, ...]]:
    """The autoencoder of FLUX."""
    from library import flux_models

    return _shapes(flux_models.AutoEncoder(flux_models.configs["dev"].ae_params))


def sd35() -> dict[str, tuple[int, ...]]:
    """SD3.5 Large with few blocks and its autoencoder. Its width is 64 for each block, so it is narrow as well."""
    from library import sd3_models

    told = sd3_models.SD3Params(
        patch_size=2, depth=SD35_BLOCKS, num_patches=192**2, pos_embed_max_size=192, adm_in_channels=2048, qk_norm="rms",
        x_block_self_attn_layers=[], context_embedder_in_features=4096, context_embedder_out_features=64 * SD35_BLOCKS,
        model_type="5-large",
    )  # fmt: skip
    return {
        **_shapes(sd3_models.create_sd3_mmdit(told), "model.diffusion_model."),
        **_shapes(sd3_models.SDVAE(), "first_stage_model."),
    }


def t5() -> dict[str, tuple[int, ...]]:
    """The encoder of T5-XXL, version 1.1."""
    from transformers import T5Config, T5EncoderModel

    told = {
        "d_ff": 10240, "d_kv": 64, "d_model": 4096, "feed_forward_proj": "gated-gelu", "num_heads": 64, "num_layers": 24,
        "vocab_size": 32128, "tie_word_embeddings": False,
    }  # fmt: skip
    config = T5Config(**{**told, **(_thin["t5"]() if _thin else {})})
    return {n: s for n, s in _shapes(T5EncoderModel(config)).items() if n != "encoder.embed_tokens.weight"}


def main(source: str, out: str, *names: str) -> None:
    """Write the named files into a folder; those that are there already are left alone."""
    sys.path.insert(0, source)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    half, brain = torch.float16, torch.bfloat16
    sd35_file = ("sd35-random.safetensors", sd35, brain, ())
    text = [
        ("clip_l.safetensors", lambda: _shapes(_clip(768, 12, 12, projected=True)), half, ()),
        ("clip_g.safetensors", lambda: _shapes(_clip(1280, 32, 20, projected=True)), half, ()),
        ("t5xxl.safetensors", t5, brain, ()),
    ]
    wanted = names or ("sdxl", "flux", "ae", "sd35", "text")
    known = {
        "sdxl": [("sdxl-random.safetensors", sdxl, half, ())],
        "sdxl-v": [("sdxl-random-v.safetensors", sdxl, half, ("v_pred", "ztsnr"))],
        "flux": [("flux-random.safetensors", flux, brain, ())],
        "ae": [("ae.safetensors", ae, brain, ())],
        "sd35": [sd35_file],
        "text": text,
        "thin": [
            ("thin/sdxl-random.safetensors", sdxl, half, ()),
            ("thin/sdxl-random-v.safetensors", sdxl, half, ("v_pred", "ztsnr")),
            ("thin/flux-random.safetensors", flux, brain, ()),
            *(
                (f"thin/{file}", *more)
                for file, *more in [sd35_file, ("ae.safetensors", ae, brain, ()), *text]
            ),
        ],
    }
    for name in wanted:
        if name == "thin":
            (folder / "thin").mkdir(exist_ok=True)
            _thin.update(runpy.run_path(str(Path(__file__).with_name("thin.py"))))
            _thin["apply"]()
        for file, shapes, dtype, empty in known[name]:
            if not (folder / file).exists():
                with torch.device("meta"):
                    told = shapes()
                write(folder / file, told, dtype, empty=empty)


if __name__ == "__main__":
    main(*sys.argv[1:])
