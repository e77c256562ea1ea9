"""train.toml line by line: each option with its value, and why it says so."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from studio.errors import InputError
from studio.settings import TrainingSettings
from studio.training.base import TrainingPlan
from studio.training.sdscripts import extra, families, options

OUTPUT = "checkpoints"
PROMPTS = "sample_prompts.txt"

_OPTIMIZERS = {
    "adamw": "AdamW",
    "adamw8bit": "AdamW8bit",
    "prodigy": "Prodigy",
    "lion": "Lion",
    "adafactor": "Adafactor",
}
_SAVED_AS = {"no": "float", "fp16": "fp16", "bf16": "bf16"}


@dataclass(frozen=True)
class Line:
    """One line of train.toml. why: the setting it comes from, or the reason it is there, in words."""

    option: str
    value: Any
    why: str


def train_lines(plan: TrainingPlan) -> list[Line]:
    """train.toml of a plan, line by line. Paths are absolute. Raises InputError for a family that it does not train, and for
    further options that cannot be taken."""
    s = plan.settings
    if plan.family not in options.SCRIPTS:
        raise InputError(
            f"sd-scripts cannot train {plan.family} models.",
            "It has no script for them.",
            "Use the built-in backend.",
        )
    told, wrong = extra.read(s.extra_options, plan.family)
    if wrong:
        raise InputError(
            "Some of the further options cannot be taken.",
            "The script would pass over them without a word, or fail late.",
            "Mend each one as written beside it.",
            wrong,
        )
    lines = [
        *_model(plan),
        Line("output_dir", str(plan.run_folder / OUTPUT), "where LoRA files go"),
        Line(
            "output_name", plan.output_name, "unlike every other run's: an existing file would be overwritten"
        ),
        Line("save_model_as", "safetensors", "the format that every tool reads, and that holds no code"),
        *_network(plan, told),
        *_length(plan),
        *_optimizer(s, told),
        *_loss(plan),
        *_memory(plan),
        *_saving(plan),
        Line("seed", s.seed, "Seed"),
        Line("max_data_loader_n_workers", 0, "pictures are cached; more processes only wait and hold memory"),
    ]
    merged = {"network_args", "optimizer_args"}
    lines = [ln for ln in lines if ln.option not in told or ln.option in merged]
    return lines + [Line(n, v, "Further options") for n, v in told.items() if n not in merged]


def _model(plan: TrainingPlan) -> list[Line]:
    lines = [Line("pretrained_model_name_or_path", str(plan.model_path), "the base model")]
    for role in (*families.PARTS.get(plan.family, ()), *families.OPTIONAL_PARTS):
        if role in plan.parts and not (role == "vae" and plan.family == "flux"):
            lines.append(Line(role, str(plan.parts[role]), f"{families.PART_TITLES[role]} of the base model"))
    return lines


def merged_args(own: Iterable[str], told: Iterable[str]) -> list[str]:
    """`name=value` arguments of the studio, with those of the user over them."""
    both = {a.partition("=")[0]: a for a in (*own, *told)}
    return list(both.values())


def _network(plan: TrainingPlan, told: dict[str, Any]) -> list[Line]:
    s = plan.settings
    lines = [
        Line("network_module", families.MODULES[plan.family], "the plain LoRA, for this family"),
        Line("network_dim", s.rank, "Rank"),
        Line("network_alpha", float(s.alpha), "Alpha; always written, since the script's own is 1"),
        Line(
            "network_train_unet_only",
            not s.train_text_encoder,
            f"Teach the text encoder too: {'on' if s.train_text_encoder else 'off'}",
        ),
    ]
    if s.network_dropout:
        lines.append(Line("network_dropout", float(s.network_dropout), "Network dropout"))
    own = ["train_t5xxl=True"] if teaches_t5(plan.family, s) else []
    arguments = merged_args(own, told.get("network_args", ()))
    if arguments:
        lines.append(Line("network_args", arguments, "Teach T5 too, or further options"))
    return lines


def teaches_t5(family: str, s: TrainingSettings) -> bool:
    """Whether T5 gets an adapter: only where there is one, and only with the other text encoders."""
    return family in families.FLOW and s.train_t5 and s.train_text_encoder


def _length(plan: TrainingPlan) -> list[Line]:
    s = plan.settings
    lines = [Line("gradient_accumulation_steps", s.gradient_accumulation, "Gradient accumulation")]
    limit = (
        min(n for n in (plan.limit_steps, s.max_steps or None) if n) if plan.limit_steps or s.max_steps else 0
    )
    if limit:
        # max_train_epochs would override it, so only one of the two is written.
        why = "only a few steps, to try it" if plan.limit_steps else "Step limit"
        return [*lines, Line("max_train_steps", limit, why)]
    return [*lines, Line("max_train_epochs", s.epochs, "Epochs")]


def _optimizer(s: TrainingSettings, told: dict[str, Any]) -> list[Line]:
    arguments = [f"weight_decay={s.weight_decay:g}"]
    if s.optimizer == "prodigy":
        arguments += ["betas=0.9,0.99", "use_bias_correction=True", "safeguard_warmup=True"]
    elif s.optimizer == "adafactor":
        arguments += ["scale_parameter=False", "relative_step=False", "warmup_init=False"]
    arguments = merged_args(arguments, told.get("optimizer_args", ()))
    text_rate = s.text_encoder_lr or s.learning_rate
    lines = [
        Line("optimizer_type", _OPTIMIZERS[s.optimizer], "Optimizer"),
        Line("optimizer_args", arguments, "Weight decay, and what the optimizer's author advises"),
        Line("learning_rate", float(s.learning_rate), "Learning rate"),
        Line("unet_lr", float(s.learning_rate), "Learning rate"),
        Line("lr_scheduler", s.scheduler, "Learning rate schedule"),
        Line("lr_warmup_steps", float(s.warmup), "Warm-up, as a share of the steps"),
        Line("max_grad_norm", float(s.max_grad_norm), "Gradient clipping"),
    ]
    if s.train_text_encoder:
        lines.append(Line("text_encoder_lr", [float(text_rate)], "Text encoder learning rate"))
    if s.scheduler == "cosine_with_restarts":
        lines.append(Line("lr_scheduler_num_cycles", s.scheduler_cycles, "Restarts"))
    return lines


def _loss(plan: TrainingPlan) -> list[Line]:
    s = plan.settings
    lines = []
    if any(p.regularisation for p in plan.pictures):
        lines.append(
            Line("prior_loss_weight", float(s.prior_loss_weight), "Weight of regularisation pictures")
        )
    if plan.family in families.FLOW:  # they have none of what follows
        return lines + [Line(*told) for told in families.flow_options(plan.family, s)]
    if s.min_snr_gamma:
        lines.append(Line("min_snr_gamma", float(s.min_snr_gamma), "Min-SNR gamma"))
    if s.noise_offset:
        lines.append(Line("noise_offset", float(s.noise_offset), "Noise offset"))
    if plan.effective_prediction == "v_prediction":
        lines.append(
            Line("v_parameterization", True, "Prediction type: what the base model was trained to predict")
        )
        if plan.family == "sdxl":
            lines.append(
                Line("zero_terminal_snr", True, "v-prediction models of SDXL are trained up to pure noise")
            )
    return lines


def _memory(plan: TrainingPlan) -> list[Line]:
    s = plan.settings
    lines = [
        Line("mixed_precision", s.precision, "Precision"),
        Line("save_precision", _SAVED_AS[s.precision], "Precision"),
        Line("gradient_checkpointing", s.gradient_checkpointing, "Gradient checkpointing"),
        Line("cache_latents", s.cache_latents, "Cache latents"),
        Line("xformers", True, "Attention: the package xformers")
        if s.attention == "xformers"
        else Line("sdpa", True, "Attention: PyTorch's own, fast and without a further package"),
    ]
    if s.fp8_base:
        lines.append(Line("fp8_base", True, "Base model in 8 bits"))
    if plan.family != "sd15":
        why = "Cache text embeddings; only when they stay the same"
        lines.append(Line("cache_text_encoder_outputs", caches_text(s, plan.family), why))
    if plan.family == "sdxl" and s.precision == "fp16":
        lines.append(Line("no_half_vae", True, "the VAE of SDXL gives NaN in fp16"))
    if plan.family in ("sd15", "sdxl"):
        lines.append(
            Line("max_token_length", 225, "long captions are read to their end, not cut after 75 tokens")
        )
    return lines


def caches_text(s: TrainingSettings, family: str = "sdxl") -> bool:
    """Whether what the text encoder says can be cached: only when it and the captions stay as they are. For SD3.5 and FLUX
    the script keeps what T5 says even while CLIP is taught, unless T5 is taught too."""
    taught = teaches_t5(family, s) if family in families.FLOW else s.train_text_encoder
    return s.cache_text_embeddings and not taught and not s.shuffle_captions and s.caption_dropout == 0


def _saving(plan: TrainingPlan) -> list[Line]:
    s = plan.settings
    if plan.limit_steps:
        return []
    lines = [
        Line("save_every_n_epochs", s.save_every_epochs, "Checkpoint every"),
        Line("save_state", True, "what resuming needs, saved with each checkpoint"),
        Line("save_last_n_epochs_state", s.save_every_epochs, "only the newest state is kept"),
    ]
    if s.keep_checkpoints:
        # The option counts epochs, not files.
        lines.append(Line("save_last_n_epochs", s.keep_checkpoints * s.save_every_epochs, "Checkpoints kept"))
    if s.sample_every_epochs and plan.prompts:
        lines += [
            Line("sample_every_n_epochs", s.sample_every_epochs, "Sample every"),
            Line("sample_prompts", str(plan.run_folder / PROMPTS), "Sample prompts"),
        ]
    return lines
