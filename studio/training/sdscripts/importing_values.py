"""How single values of other programs become settings: one small function for each option.

Each takes the value, the whole file as options, and the family; and gives settings by name. `further` among them holds options
that stay options. NotTaken says in words why a value stays behind.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any, Final

from studio.settings import knobs
from studio.training.sdscripts import families, options

_OPTIMIZERS: Final = {
    "adamw": "adamw",
    "adamw8bit": "adamw8bit",
    "prodigy": "prodigy",
    "lion": "lion",
    "adafactor": "adafactor",
}
# What the studio writes by itself for an optimizer, so that an import does not repeat it.
_OWN_ARGS: Final = {"scale_parameter=False", "relative_step=False", "warmup_init=False", "use_bias_correction=True",
                    "safeguard_warmup=True", "betas=0.9,0.99"}  # fmt: skip


class NotTaken(Exception):
    """Why a value stays behind, in words."""


Convert = Callable[[Any, Mapping[str, Any], str], dict[str, Any]]


def typed(value: Any, option: options.Option) -> Any:
    """A value in the type that the option takes, as far as it can be; None for one that stands for nothing."""
    if value is None or value == "" or value == []:
        return None
    if option.many:
        parts = (
            shlex.split(value) if isinstance(value, str) else value if isinstance(value, list) else [value]
        )
        return [_one(p, option.kind) for p in parts]
    return _one(value, option.kind)


def _one(value: Any, kind: str) -> Any:
    try:
        if kind == "bool":
            return (
                value if isinstance(value, bool) else str(value).strip().lower() in ("1", "true", "yes", "on")
            )
        if kind == "int":
            return int(float(value)) if not isinstance(value, bool) else value
        if kind in ("float", "int_or_float"):
            return float(value) if not isinstance(value, bool) else value
    except (TypeError, ValueError, OverflowError):
        return value
    return value if isinstance(value, (str, list)) else str(value)


def _as(setting: str, make: Callable[[Any], Any] = lambda v: v) -> Convert:
    return lambda value, _flat, _family: {setting: make(value)}


def _optimizer(value: Any, _flat: Mapping[str, Any], _family: str) -> dict[str, Any]:
    name = _OPTIMIZERS.get(str(value).rpartition(".")[2].lower())
    if name is None:
        raise NotTaken(f"There is no such optimizer here. Choose one of: {', '.join(_OPTIMIZERS)}.")
    return {"optimizer": name}


def _rate(value: Any, flat: Mapping[str, Any], _family: str) -> dict[str, Any]:
    unet = flat.get("unet_lr")
    try:
        own = float(unet) if unet not in (None, "") else 0.0
    except (TypeError, ValueError):
        own = 0.0
    return {"learning_rate": own or value}


def _text_rate(value: Any, flat: Mapping[str, Any], _family: str) -> dict[str, Any]:
    rates = value if isinstance(value, list) else [value]
    rate = float(rates[0])
    if rate == 0:
        return {"train_text_encoder": False}
    if len(set(rates)) > 1:
        raise NotTaken("Several rates for several text encoders; here one holds for all of them.")
    main = _rate(flat.get("learning_rate") or rate, flat, "")["learning_rate"]
    return {"text_encoder_lr": 0.0 if float(main) == rate else rate}


def _warmup(value: Any, flat: Mapping[str, Any], _family: str) -> dict[str, Any]:
    if 0 <= value < 1:
        return {"warmup": float(value)}
    try:
        total = float(flat.get("max_train_steps") or 0)
    except (TypeError, ValueError):
        total = 0.0
    if flat.get("max_train_epochs") or not total or value >= total:
        raise NotTaken(
            "It is a number of steps; here warm-up is a share of the run, and the file does not say how long that is."
        )
    return {"warmup": round(value / total, 4)}


def _steps(value: Any, flat: Mapping[str, Any], _family: str) -> dict[str, Any]:
    if flat.get("max_train_epochs"):
        raise NotTaken("The file also says epochs, which count more.")
    return {"max_steps": value}


def _scheduler(value: Any, _flat: Mapping[str, Any], _family: str) -> dict[str, Any]:
    if value not in knobs()["scheduler"].choices:
        raise NotTaken(
            f"There is no such schedule here. Choose one of: {', '.join(knobs()['scheduler'].choices)}."
        )
    return {"scheduler": value}


def _module(value: Any, _flat: Mapping[str, Any], family: str) -> dict[str, Any]:
    wanted = families.MODULES[family]
    if value != wanted:
        raise NotTaken(f"The studio makes plain LoRAs ({wanted}); this is another kind of network.")
    return {}


def _sides(value: Any, _flat: Mapping[str, Any], _family: str) -> dict[str, Any]:
    parts = value if isinstance(value, list) else str(value).replace("x", ",").split(",")
    try:
        sides = [int(float(p)) for p in parts if str(p).strip()]
        side = sides[0] if len(sides) == 1 else round(math.sqrt(sides[0] * sides[1]) / 8) * 8
    except (TypeError, ValueError, IndexError, OverflowError):
        raise NotTaken("It is no size in pixels.") from None
    return {"resolution": side}


def _keep(value: Any, _flat: Mapping[str, Any], _family: str) -> dict[str, Any]:
    return {"keep_tokens": max(1, int(value))}


def _kept(value: Any, flat: Mapping[str, Any], _family: str) -> dict[str, Any]:
    every = int(float(flat.get("save_every_n_epochs") or 1))
    return {"keep_checkpoints": max(1, int(value) // max(1, every))}


def _prompts(value: Any, _flat: Mapping[str, Any], _family: str) -> dict[str, Any]:
    text = str(value).strip()
    lines = [ln.partition(" --")[0].strip() for ln in text.splitlines()]
    lines = [ln for ln in lines if ln and not ln.startswith("#")]
    if len(lines) == 1 and PurePath(lines[0]).suffix.lower() in (".txt", ".toml", ".json"):
        raise NotTaken("It names a file of prompts; copy its lines into 'Sample prompts'.")
    return {"sample_prompts": tuple(lines)} if lines else {}


def _same_precision(value: Any, flat: Mapping[str, Any], _family: str) -> dict[str, Any]:
    if {"float": "no"}.get(str(value), str(value)) != flat.get("mixed_precision"):
        raise NotTaken("LoRAs are saved in the precision that they are trained in.")
    return {}


def _optimizer_args(value: Any, _flat: Mapping[str, Any], _family: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    rest = []
    for argument in value:
        name, _, number = str(argument).partition("=")
        if name == "weight_decay":
            try:
                found["weight_decay"] = float(number)
            except ValueError:
                rest.append(argument)
        elif argument not in _OWN_ARGS:
            rest.append(argument)
    return {**found, **({"further": {"optimizer_args": rest}} if rest else {})}


def _shift(value: Any, flat: Mapping[str, Any], _family: str) -> dict[str, Any]:
    if flat.get("timestep_sampling") != "shift":
        raise NotTaken("It has no effect without the timestep sampling 'shift'.")
    return {"flow_shift": value}


def _clip_skip(value: Any, _flat: Mapping[str, Any], family: str) -> dict[str, Any]:
    if int(value) <= 1:
        return {}
    if family != "sd15":
        raise NotTaken("Models of this family are trained without clip skip.")
    return {"further": {"clip_skip": int(value)}}


def _extension(value: Any, _flat: Mapping[str, Any], _family: str) -> dict[str, Any]:
    if value != ".txt":
        raise NotTaken("Captions are written as .txt here.")
    return {}


def _token_length(value: Any, _flat: Mapping[str, Any], family: str) -> dict[str, Any]:
    if family not in ("sd15", "sdxl"):
        return {}
    if int(float(value)) == 150:
        return {"further": {"max_token_length": 150}}
    if int(float(value)) == 75:
        raise NotTaken("Captions are read to their end here, up to 225 tokens.")
    return {}


def _if(setting: str, becomes: str) -> Convert:
    """A switch that stands for one value of a setting; off, it says nothing."""
    return lambda value, _flat, _family: {setting: becomes} if value else {}


def _noted(why: str) -> Convert:
    def convert(value: Any, _flat: Mapping[str, Any], _family: str) -> dict[str, Any]:
        if not value:
            return {}
        raise NotTaken(why)

    return convert


CONVERT: Final[dict[str, Convert]] = {
    "network_module": _module,
    "network_dim": _as("rank"),
    "network_alpha": _as("alpha", float),
    "network_dropout": _as("network_dropout"),
    "network_train_unet_only": _as("train_text_encoder", lambda v: not v),
    "gradient_accumulation_steps": _as("gradient_accumulation"),
    "max_train_epochs": _as("epochs"),
    "max_train_steps": _steps,
    "optimizer_type": _optimizer,
    "optimizer_args": _optimizer_args,
    "use_8bit_adam": _if("optimizer", "adamw8bit"),
    "use_lion_optimizer": _if("optimizer", "lion"),
    "learning_rate": _rate,
    "unet_lr": _rate,
    "text_encoder_lr": _text_rate,
    "lr_scheduler": _scheduler,
    "lr_warmup_steps": _warmup,
    "lr_scheduler_num_cycles": _as("scheduler_cycles"),
    "max_grad_norm": _as("max_grad_norm"),
    "min_snr_gamma": _as("min_snr_gamma"),
    "noise_offset": _as("noise_offset"),
    "prior_loss_weight": _as("prior_loss_weight"),
    "v_parameterization": _if("prediction", "v_prediction"),
    "mixed_precision": _as("precision"),
    "save_precision": _same_precision,
    "gradient_checkpointing": _as("gradient_checkpointing"),
    "cache_latents": _as("cache_latents"),
    "cache_text_encoder_outputs": _as("cache_text_embeddings"),
    "sdpa": _if("attention", "sdpa"),
    "xformers": _if("attention", "xformers"),
    "mem_eff_attn": _noted("Attention is PyTorch's own or xformers here."),
    "fp8_base": _as("fp8_base"),
    "fp8_base_unet": lambda value, _flat, _family: {"fp8_base": True} if value else {},
    "blocks_to_swap": _as("blocks_to_swap"),
    "split_mode": _noted("sd-scripts gave it up; set 'Blocks swapped' to 18 for the same."),
    "timestep_sampling": _as("timestep_sampling"),
    "discrete_flow_shift": _shift,
    "training_shift": _as("flow_shift"),
    "weighting_scheme": _as("loss_weighting"),
    "guidance_scale": _as("guidance_scale"),
    "apply_t5_attn_mask": _as("t5_attention_mask"),
    "save_every_n_epochs": _as("save_every_epochs"),
    "save_last_n_epochs": _kept,
    "sample_every_n_epochs": _as("sample_every_epochs"),
    "sample_prompts": _prompts,
    "seed": _as("seed"),
    "train_batch_size": _as("batch_size"),
    "resolution": _sides,
    "enable_bucket": _as("buckets"),
    "bucket_reso_steps": _as("bucket_step"),
    "bucket_no_upscale": _as("bucket_no_upscale"),
    "flip_aug": _as("flip"),
    "dataset_repeats": _as("repeats"),
    "shuffle_caption": _as("shuffle_captions"),
    "keep_tokens": _keep,
    "caption_dropout_rate": _as("caption_dropout"),
    "caption_extension": _extension,
    "clip_skip": _clip_skip,
    "max_token_length": _token_length,
}

# What the scripts do when a file says nothing, for all that changes the result: setting -> value.
UNSAID: Final[dict[str, Any]] = {
    "alpha": 1.0, "network_dropout": 0.0, "train_text_encoder": True, "gradient_accumulation": 1, "optimizer": "adamw",
    "weight_decay": 0.01, "scheduler": "constant", "warmup": 0.0, "max_grad_norm": 1.0, "min_snr_gamma": 0.0,
    "noise_offset": 0.0, "precision": "no", "text_encoder_lr": 0.0,
}  # fmt: skip
UNSAID_OF_DATASET: Final[dict[str, Any]] = {"shuffle_captions": False, "caption_dropout": 0.0, "flip": False}

# --- the JSON that the kohya_ss window saves: its own names, and 0 or "" for what is not set

_GUI_NAMES: Final = {
    "optimizer": "optimizer_type", "max_resolution": "resolution", "sdxl_cache_text_encoder_outputs": "cache_text_encoder_outputs",
    "flux1_cache_text_encoder_outputs": "cache_text_encoder_outputs", "sd3_cache_text_encoder_outputs": "cache_text_encoder_outputs",
    "flux1_cache_text_encoder_outputs_to_disk": "cache_text_encoder_outputs_to_disk",
    "sd3_cache_text_encoder_outputs_to_disk": "cache_text_encoder_outputs_to_disk", "sdxl_no_half_vae": "no_half_vae",
    "flux_fp8_base": "fp8_base", "flux_fp8_base_unet": "fp8_base_unet", "sd3_fp8_base": "fp8_base",
    "lora_network_weights": "network_weights",
}  # fmt: skip
_GUI_MARKS: Final = {
    "sdxl_": "sdxl",
    "flux1_": "flux1_checkbox",
    "flux_": "flux1_checkbox",
    "sd3_": "sd3_checkbox",
}
_GUI_KINDS: Final = {"Standard": "networks.lora", "Flux1": "networks.lora_flux", "SD3": "networks.lora_sd3"}
_GUI_NETWORK_ARGS: Final = ("rank_dropout", "module_dropout", "loraplus_lr_ratio", "loraplus_unet_lr_ratio",
                            "loraplus_text_encoder_lr_ratio", "block_dims", "block_alphas", "down_lr_weight", "mid_lr_weight",
                            "up_lr_weight", "train_double_block_indices", "train_single_block_indices", "train_blocks", "split_qkv")  # fmt: skip
# Values of the window that stand for "as usual".
_GUI_USUAL: Final = {"dynamo_backend": ("no",), "min_timestep": (0,), "max_timestep": (1000,), "clip_skip": (1,), "vae_batch_size": (0,),
                     "multires_noise_discount": (0, 0.3), "train_blocks": ("all",), "train_double_block_indices": ("all",),
                     "train_single_block_indices": ("all",)}  # fmt: skip
# Of the window itself, of LyCORIS networks, or about starting the process: nothing that a run here could use.
_GUI_OWN: Final = frozenset(
    {"LyCORIS_preset", "bypass_mode", "constrain", "conv_alpha", "conv_dim", "conv_block_dims", "conv_block_alphas",
     "block_lr_zero_threshold", "decompose_both", "dora_wd", "factor", "unit", "use_cp", "use_scalar", "use_tucker", "rescaled",
     "train_norm", "train_on_input", "rank_dropout_scale", "model_list", "save_as_bool", "gpu_ids", "multi_gpu", "num_machines",
     "num_processes", "num_cpu_threads_per_process", "main_process_port", "extra_accelerate_launch_args", "dynamo_mode",
     "dynamo_use_dynamic", "dynamo_use_fullgraph", "sdxl", "flux1_checkbox", "sd3_checkbox", "LoRA_type", "lowvram",
     "noise_offset_type", "no_token_padding", "use_wandb", "sample_sampler", "huber_schedule", "huber_c", "training_comment"}
)  # fmt: skip


def gui_to_options(
    raw: Mapping[str, Any], leave: Callable[[Any], None], left: Callable[[str, Any, str], Any]
) -> dict[str, Any]:
    """The window's JSON under the scripts' own names. leave(left(name, value, why)) is called for what has none."""
    flat: dict[str, Any] = {}
    arguments = []
    kind = str(raw.get("LoRA_type", "Standard"))
    if kind in _GUI_KINDS:
        flat["network_module"] = _GUI_KINDS[kind]
    else:
        leave(
            left(
                "LoRA_type",
                kind,
                "The studio makes plain LoRAs; this is another kind of network, with settings of its own.",
            )
        )
    for name, value in raw.items():
        if (
            value in (None, "", 0, False, "0")
            or name in _GUI_OWN
            or str(value) in map(str, _GUI_USUAL.get(name, ()))
        ):
            if name in ("text_encoder_lr", "lr_warmup") or (
                value is False and name in ("enable_bucket", "cache_latents")
            ):
                pass  # 0 and false say something here
            else:
                continue
        if name == "lr_warmup":
            flat["lr_warmup_steps"] = float(value or 0) / 100
        elif name == "lr_warmup_steps":
            flat[name] = value
        elif name == "epoch":
            flat.setdefault("max_train_epochs", value)
        elif name == "xformers":
            if value in ("xformers", "sdpa", True):
                flat["sdpa" if value == "sdpa" else "xformers"] = True
        elif name in _GUI_NETWORK_ARGS:
            arguments.append(f"{name}={value}")
        elif name.startswith("stop_text_encoder_training"):
            leave(left(name, value, "The text encoder is taught for the whole run, or not at all."))
        elif name == "additional_parameters":
            flat |= _command_line(str(value), leave, left)
        else:
            flat[_GUI_NAMES.get(name, name)] = value
    if arguments and kind in _GUI_KINDS:
        flat["network_args"] = arguments
    return flat


def _command_line(
    text: str, leave: Callable[[Any], None], left: Callable[[str, Any, str], Any]
) -> dict[str, Any]:
    try:
        parts = shlex.split(text)
    except ValueError:
        leave(left("additional_parameters", text, "Its quotation marks do not match."))
        return {}
    found: dict[str, Any] = {}
    name = ""
    for part in parts:
        if part.startswith("--"):
            name, sep, value = part[2:].partition("=")
            found[name] = value if sep else True
        elif name:
            found[name] = part if found[name] is True else f"{found[name]} {part}"
    return found
