"""Settings as the config files of sd-scripts: train.toml, dataset.toml, and why each line says what it says.

Every key and value is checked against the list of options (see options.py) before it is written, so that nothing is
silently passed over. What the settings ask for and sd-scripts cannot do is a finding, and stops the config gate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from studio.errors import InputError
from studio.findings import Finding
from studio.settings import TrainingSettings
from studio.training.base import TrainingPlan
from studio.training.sdscripts import options
from studio.training.sdscripts.layout import Laid, laid_out

TRAIN, DATASET, EXPLAINED, PROMPTS = "train.toml", "dataset.toml", "explained.md", "sample_prompts.txt"
OUTPUT = "checkpoints"
TOKENIZERS = "tokenizers"

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


def check(family: str, settings: TrainingSettings) -> list[Finding]:
    """What these settings ask for and sd-scripts cannot do for a family, so that it would be left out in silence."""
    found = []
    if settings.targets == "attention":
        found.append(
            _cannot(
                "targets",
                "Only attention layers cannot be taught with sd-scripts.",
                "Its LoRA always takes feed-forward layers too.",
                "Set the layers taught to attention and feed-forward, or use the built-in backend.",
            )
        )
    if settings.ema:
        found.append(
            _cannot(
                "ema",
                "sd-scripts keeps no average of the weights.",
                "It has no such option for LoRAs.",
                "Turn the average off, or use the built-in backend.",
            )
        )
    same = settings.text_encoder_lr in (0, settings.learning_rate)
    if settings.optimizer == "prodigy" and settings.train_text_encoder and not same:
        found.append(
            _cannot(
                "text_encoder_lr",
                "Prodigy takes no learning rate of its own for the text encoder.",
                "It finds one rate for everything, and refuses two.",
                "Set it to 0, or choose AdamW.",
            )
        )
    return found


def _cannot(field: str, what: str, why: str, fix: str) -> Finding:
    return Finding(severity="block", code="sdscripts-cannot", what=what, why=why, fix=fix, where=(field,))


def train_lines(plan: TrainingPlan) -> list[Line]:
    """train.toml of a plan, line by line. Paths are absolute. Raises InputError for a family that it does not train."""
    s = plan.settings
    if plan.family not in options.SCRIPTS:
        raise InputError(
            f"sd-scripts cannot train {plan.family} models.",
            "It has no script for them.",
            "Use the built-in backend.",
        )
    lines = [
        Line("pretrained_model_name_or_path", str(plan.model_path), "the base model"),
        Line("output_dir", str(plan.run_folder / OUTPUT), "where LoRA files go"),
        Line(
            "output_name", plan.output_name, "unlike every other run's: an existing file would be overwritten"
        ),
        Line("save_model_as", "safetensors", "the format that every tool reads, and that holds no code"),
        *_network(s),
        *_length(plan),
        *_optimizer(s),
        *_loss(plan),
        *_memory(plan),
        *_saving(plan),
        Line("seed", s.seed, "Seed"),
        Line("max_data_loader_n_workers", 0, "pictures are cached; more processes only wait and hold memory"),
    ]
    return lines


def _network(s: TrainingSettings) -> list[Line]:
    lines = [
        Line("network_module", "networks.lora", "the plain LoRA"),
        Line("network_dim", s.rank, "Rank"),
        Line("network_alpha", float(s.alpha), "Alpha; always written, since the script's own is 1"),
        Line("network_train_unet_only", not s.train_text_encoder, "Teach the text encoder too"),
    ]
    if s.network_dropout:
        lines.append(Line("network_dropout", float(s.network_dropout), "Network dropout"))
    return lines


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


def _optimizer(s: TrainingSettings) -> list[Line]:
    arguments = [f"weight_decay={s.weight_decay:g}"]
    if s.optimizer == "prodigy":
        arguments += ["betas=0.9,0.99", "use_bias_correction=True", "safeguard_warmup=True"]
    elif s.optimizer == "adafactor":
        arguments += ["scale_parameter=False", "relative_step=False", "warmup_init=False"]
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
    if s.min_snr_gamma:
        lines.append(Line("min_snr_gamma", float(s.min_snr_gamma), "Min-SNR gamma"))
    if s.noise_offset:
        lines.append(Line("noise_offset", float(s.noise_offset), "Noise offset"))
    if any(p.regularisation for p in plan.pictures):
        lines.append(
            Line("prior_loss_weight", float(s.prior_loss_weight), "Weight of regularisation pictures")
        )
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
        Line("sdpa", True, "the attention of PyTorch: fast, and needs no further package"),
    ]
    if plan.family == "sdxl":
        lines.append(
            Line(
                "cache_text_encoder_outputs",
                caches_text(s),
                "Cache text embeddings; only when they stay the same",
            )
        )
        if s.precision == "fp16":
            lines.append(Line("no_half_vae", True, "the VAE of SDXL gives NaN in fp16"))
    if plan.family == "sd15":
        lines.append(
            Line("max_token_length", 225, "long captions are read to their end, not cut after 75 tokens")
        )
    return lines


def caches_text(s: TrainingSettings) -> bool:
    """Whether what the text encoder says can be cached: only when it and the captions stay as they are."""
    return (
        s.cache_text_embeddings
        and not s.train_text_encoder
        and not s.shuffle_captions
        and s.caption_dropout == 0
    )


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


def dataset_config(plan: TrainingPlan, laid: Sequence[Laid]) -> dict[str, Any]:
    """dataset.toml as data. It is strict about types: a whole number where a float is wanted is refused by sd-scripts."""
    s = plan.settings
    from studio.dataset.buckets import bucket_sizes  # the same smallest and largest side as the preview

    sides = [side for size in bucket_sizes(s.resolution, s.bucket_step) for side in size]
    return {
        "general": {
            "caption_extension": ".txt",
            "shuffle_caption": s.shuffle_captions,
            "keep_tokens": s.keep_tokens if s.shuffle_captions else 0,
            "caption_dropout_rate": float(s.caption_dropout),
            "flip_aug": s.flip,
        },
        "datasets": [
            {
                "resolution": s.resolution,
                "batch_size": s.batch_size,
                "enable_bucket": s.buckets,
                "bucket_reso_steps": s.bucket_step,
                "bucket_no_upscale": s.bucket_no_upscale,
                "min_bucket_reso": min(sides),
                "max_bucket_reso": max(sides),
                "subsets": [
                    {
                        "image_dir": str(p.folder),
                        "num_repeats": p.repeats,
                        **({"is_reg": True, "caption_dropout_rate": 0.0} if p.regularisation else {}),
                    }
                    for p in laid
                ],
            }
        ],
    }


def native_files(plan: TrainingPlan) -> dict[str, str]:
    """Every file that sd-scripts reads, name -> text, and each line in words. Writes nothing.

    Raises InputError, with every problem, when a line would not be understood by the script.
    """
    lines = train_lines(plan)
    config = {ln.option: ln.value for ln in lines}
    bad = options.check(options.SCRIPTS[plan.family], config)
    if bad:
        raise InputError(
            "The config for sd-scripts would not be understood.",
            f"{len(bad)} of its lines do not fit the script: {', '.join(w for f in bad for w in f.where)}.",
            "Another version of sd-scripts is installed than the one the studio knows. Install that one.",
            bad,
        )
    told = {
        TRAIN: tomli_w.dumps(config),
        DATASET: tomli_w.dumps(dataset_config(plan, laid_out(plan))),
        EXPLAINED: _explained(plan, lines),
    }
    if "sample_prompts" in config:
        told[PROMPTS] = "".join(f"{_one_prompt(plan, p)}\n" for p in plan.prompts)
    return told


def _one_prompt(plan: TrainingPlan, prompt: str) -> str:
    """A line of the prompts file: the text, and its size, seed, steps and guidance as flags."""
    text = " ".join(prompt.split()).replace(" --", " - -")
    side = plan.settings.resolution
    return f"{text} --w {side} --h {side} --d {plan.settings.seed} --s 20 --l 7"


def _explained(plan: TrainingPlan, lines: Sequence[Line]) -> str:
    rows = [f"| `{ln.option}` | {_shown(ln.value)} | {ln.why} |" for ln in lines]
    return "\n".join(
        [
            f"# {plan.output_name} for sd-scripts",
            "",
            f"Script: {options.SCRIPTS[plan.family]}.py. List of options: commit {options.commit()[:8]}.",
            "",
            "| option | value | why |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )


def _shown(value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if isinstance(value, str) and "/" in text:
        text = Path(text).name
    return text.replace("|", "\\|")


def write(plan: TrainingPlan, laid: Sequence[Laid]) -> dict[str, Path]:
    """Write the files into the run folder; their paths by name. laid: the folders, made before."""
    from studio import files

    told = native_files(plan)
    told[DATASET] = tomli_w.dumps(dataset_config(plan, laid))
    written = {}
    for name, text in told.items():
        written[name] = plan.run_folder / name
        files.write_text(written[name], text)
    return written
