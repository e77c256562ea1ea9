"""Loading a base model into the parts that training needs. Reads safetensors only, and nothing from the network."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer
from transformers.utils import logging as transformers_logging

from studio.errors import EnvironmentalError, InputError, StudioError
from studio.models import tensor_header
from studio.training.base import TrainingPlan
from studio.workspace import shipped

transformers_logging.disable_progress_bar()


@dataclass
class BaseModel:
    """A base model in parts, all frozen.

    unet, text_encoders: in the number format of the computation. vae: always 32 bit, because the SDXL one overflows in
    fp16 and encoding happens once. tokenizers: one for each text encoder. alphas_cumprod: share of signal left at each of
    the noise levels, 32 bit, shape (levels,). scheduler_config: for drawing samples with the same noise levels.
    """

    family: str
    unet: Any
    vae: Any
    tokenizers: list[Any]
    text_encoders: list[Any]
    alphas_cumprod: torch.Tensor
    scheduler_config: dict[str, Any]

    @property
    def pixel_factor(self) -> int:
        """Pixels of a side for one latent."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    @property
    def is_sdxl(self) -> bool:
        return self.family == "sdxl"


def load(plan: TrainingPlan, dtype: torch.dtype) -> BaseModel:
    """The plan's base model; see `load_base`."""
    return load_base(plan.model_path, plan.family, plan.effective_prediction, dtype, plan.model_title)


def load_base(place: Path, family: str, prediction: str, dtype: torch.dtype, title: str = "") -> BaseModel:
    """A base model on the CPU, for training or drawing.

    place: folder in diffusers layout, or a single file. prediction: epsilon or v_prediction. dtype: number format of UNet
    and text encoders. title: its name in errors. Raises InputError when the files are not a whole model of the family.
    """
    try:
        parts = (
            _from_folder(place, family, dtype) if place.is_dir() else _from_checkpoint(place, family, dtype)
        )
    except StudioError:
        raise
    except (OSError, ValueError, KeyError, RuntimeError, AttributeError) as e:
        raise InputError(
            f"The base model {title or place.name} cannot be loaded.",
            f"{str(e).strip().splitlines()[0] if str(e).strip() else type(e).__name__} ({place})",
            "Get its files again, or choose another base model.",
        ) from e
    unet, vae, tokenizers, text_encoders, config = parts
    config = {**config, "prediction_type": prediction}
    if not place.is_dir() and "ztsnr" in tensor_header(place):
        config["rescale_betas_zero_snr"] = True
    for module in (unet, vae, *text_encoders):
        module.requires_grad_(False)
        module.eval()
    levels = DDPMScheduler.from_config(config)
    return BaseModel(
        family,
        unet,
        vae,
        tokenizers,
        text_encoders,
        levels.alphas_cumprod.to(torch.float32),
        dict(config),
    )


def _variant(folder: Path, stem: str) -> str | None:
    """ "fp16" when only the half-precision files are there."""
    whole = any(folder.glob(f"{stem}.safetensors")) or any(folder.glob(f"{stem}-0*.safetensors"))
    return None if whole or not any(folder.glob(f"{stem}.fp16*.safetensors")) else "fp16"


def _from_folder(
    place: Path, family: str, dtype: torch.dtype
) -> tuple[Any, Any, list[Any], list[Any], dict[str, Any]]:
    def options(part: str, stem: str, number: torch.dtype) -> dict[str, Any]:
        found: dict[str, Any] = {
            "subfolder": part,
            "torch_dtype" if stem.startswith("diffusion") else "dtype": number,
            "use_safetensors": True,
            "local_files_only": True,
        }
        variant = _variant(place / part, stem)
        return {**found, "variant": variant} if variant else found

    diffusion = "diffusion_pytorch_model"
    unet = UNet2DConditionModel.from_pretrained(place, **options("unet", diffusion, dtype))
    vae = AutoencoderKL.from_pretrained(place, **options("vae", diffusion, torch.float32))
    tokenizers = [CLIPTokenizer.from_pretrained(place / "tokenizer", local_files_only=True)]
    encoders = [CLIPTextModel.from_pretrained(place, **options("text_encoder", "model", dtype))]
    if family == "sdxl":
        tokenizers.append(CLIPTokenizer.from_pretrained(place / "tokenizer_2", local_files_only=True))
        encoders.append(
            CLIPTextModelWithProjection.from_pretrained(place, **options("text_encoder_2", "model", dtype))
        )
    config = json.loads((place / "scheduler" / "scheduler_config.json").read_text(encoding="utf-8"))
    return unet, vae, tokenizers, encoders, config


def _from_checkpoint(
    place: Path, family: str, dtype: torch.dtype
) -> tuple[Any, Any, list[Any], list[Any], dict[str, Any]]:
    """A single file. Its geometry and tokenizer, which the file lacks, come with the studio (data/geometry).

    A folder of the same name beside the file, in diffusers layout, replaces the shipped geometry: for models whose sizes
    differ.
    """
    # Pipelines import much that training never needs; a folder does without them.
    from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

    beside = place.with_suffix("")
    own = (beside / "model_index.json").is_file()
    geometry = beside if own else shipped("data", "geometry", family)
    words = beside / "tokenizer" if own else shipped("data", "geometry", "tokenizer")
    if not (geometry / "model_index.json").is_file() or not words.is_dir():
        raise EnvironmentalError(
            f"The geometry of {family} models is missing.",
            f"{geometry} and {words} should hold it.",
            "Install the studio again.",
        )
    told: dict[str, Any] = {"config": str(geometry), "local_files_only": True}
    vae = AutoencoderKL.from_single_file(str(place), torch_dtype=torch.float32, subfolder="vae", **told)
    tokenizers = [CLIPTokenizer.from_pretrained(words, local_files_only=True)]
    given: dict[str, Any] = {"vae": vae, "tokenizer": tokenizers[0]}
    if family == "sdxl":
        # The second encoder was trained with "!" (token 0) as padding.
        tokenizers.append(CLIPTokenizer.from_pretrained(words, local_files_only=True, pad_token="!"))
        given["tokenizer_2"] = tokenizers[1]
    else:
        given["safety_checker"] = None
    kind = StableDiffusionXLPipeline if family == "sdxl" else StableDiffusionPipeline
    pipe = kind.from_single_file(str(place), torch_dtype=dtype, **given, **told)
    encoders = [pipe.text_encoder, *([pipe.text_encoder_2] if family == "sdxl" else [])]
    return pipe.unet, vae, tokenizers, encoders, dict(pipe.scheduler.config)
