"""Further options of a script that have no setting of their own: read from lines, checked, and refused where they would do harm.

A line is `name = value`, as in a TOML file; text may go without quotation marks.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from studio.findings import Finding
from studio.jobs.environment import Blotter
from studio.settings import TrainingSettings, knobs
from studio.training.sdscripts import families, options

# Options that the studio writes itself, and the setting that decides each; "" where it is no setting's business.
BY_SETTING: Final[dict[str, str]] = {
    "network_dim": "rank", "network_alpha": "alpha", "network_dropout": "network_dropout",
    "network_train_unet_only": "train_text_encoder", "gradient_accumulation_steps": "gradient_accumulation",
    "max_train_steps": "max_steps", "max_train_epochs": "epochs", "optimizer_type": "optimizer",
    "use_8bit_adam": "optimizer", "use_lion_optimizer": "optimizer", "learning_rate": "learning_rate",
    "unet_lr": "learning_rate", "text_encoder_lr": "text_encoder_lr", "lr_scheduler": "scheduler",
    "lr_warmup_steps": "warmup", "lr_scheduler_num_cycles": "scheduler_cycles", "max_grad_norm": "max_grad_norm",
    "min_snr_gamma": "min_snr_gamma", "noise_offset": "noise_offset", "prior_loss_weight": "prior_loss_weight",
    "v_parameterization": "prediction", "mixed_precision": "precision", "save_precision": "precision",
    "gradient_checkpointing": "gradient_checkpointing", "cache_latents": "cache_latents",
    "cache_text_encoder_outputs": "cache_text_embeddings", "sdpa": "attention", "xformers": "attention",
    "fp8_base": "fp8_base", "blocks_to_swap": "blocks_to_swap", "timestep_sampling": "timestep_sampling",
    "discrete_flow_shift": "flow_shift", "training_shift": "flow_shift", "weighting_scheme": "loss_weighting",
    "guidance_scale": "guidance_scale", "apply_t5_attn_mask": "t5_attention_mask",
    "save_every_n_epochs": "save_every_epochs", "save_last_n_epochs": "keep_checkpoints",
    "sample_every_n_epochs": "sample_every_epochs", "sample_prompts": "sample_prompts", "seed": "seed",
    "train_batch_size": "batch_size", "resolution": "resolution", "enable_bucket": "buckets",
    "bucket_reso_steps": "bucket_step", "bucket_no_upscale": "bucket_no_upscale", "flip_aug": "flip",
    "dataset_repeats": "repeats", "shuffle_caption": "shuffle_captions", "keep_tokens": "keep_tokens",
    "caption_dropout_rate": "caption_dropout",
}  # fmt: skip

# What only the studio decides, and why.
BY_STUDIO: Final[dict[str, str]] = {
    **dict.fromkeys(("pretrained_model_name_or_path", "clip_l", "clip_g", "t5xxl", "ae", "vae"), "It follows from the base model."),
    **dict.fromkeys(("train_data_dir", "reg_data_dir", "dataset_config", "dataset_class", "in_json", "conditioning_data_dir"),
                    "The project's own pictures are trained on."),
    **dict.fromkeys(("output_dir", "output_name", "save_model_as", "config_file", "output_config", "tokenizer_cache_dir"),
                    "Each run has its own folder and its own name, so that nothing is overwritten."),
    **dict.fromkeys(("logging_dir", "log_with", "log_prefix", "log_tracker_name", "log_config", "log_tracker_config",
                     "console_log_file", "console_log_simple", "console_log_level", "wandb_run_name"),
                    "The studio follows the run itself."),
    **dict.fromkeys(("resume", "initial_epoch", "initial_step", "skip_until_initial_step", "save_state", "save_state_on_train_end",
                     "save_last_n_epochs_state", "save_last_n_steps_state"), "Resuming is the studio's business."),
    **dict.fromkeys(("save_every_n_steps", "save_last_n_steps", "save_n_epoch_ratio", "sample_every_n_steps"),
                    "Checkpoints and samples go by epochs here, so that they can be compared."),
    "network_module": "It follows from the family of the base model.",
    "caption_extension": "Captions are written as .txt; the script's own is another, and would find none.",
    "caption_extention": "Captions are written as .txt; the script's own is another, and would find none.",
    "max_data_loader_n_workers": "More processes only wait and hold memory, because pictures are cached.",
    "persistent_data_loader_workers": "There are no loader processes to keep.",
    "min_bucket_reso": "It follows from the resolution and the bucket step.",
    "max_bucket_reso": "It follows from the resolution and the bucket step.",
    "debug_dataset": "It would show the pictures and train nothing.",
    "v2": "Base models of SD 2 are not trained here.",
    "dim_from_weights": "The rank is a setting.",
    **dict.fromkeys(("wandb_api_key", "huggingface_token", "huggingface_repo_id", "huggingface_repo_type",
                     "huggingface_path_in_repo", "huggingface_repo_visibility", "save_state_to_huggingface",
                     "resume_from_huggingface", "async_upload"),
                    "Nothing is sent anywhere by a training, and no secret is written into a file."),
}  # fmt: skip

_COMMA: Final = re.compile(r"[-+]?\d+,\d+")
_SECRET: Final = frozenset({"wandb_api_key", "huggingface_token"})

# Lines that the studio writes with a usual value, and that may be told otherwise.
MAY_CHANGE: Final = frozenset(
    {
        "max_token_length",
        "model_prediction_type",
        "no_half_vae",
        "zero_terminal_snr",
        "optimizer_args",
        "network_args",
    }
)

_STEADY = (
    "token_warmup_step",
    "caption_tag_dropout_rate",
    "caption_dropout_every_n_epochs",
    "enable_wildcard",
    "weighted_captions",
)


def read(lines: Iterable[str], family: str) -> tuple[dict[str, Any], list[Finding]]:
    """Options by name with values of the type that the script of a family takes, and everything that is wrong with them."""
    script = options.SCRIPTS[family]
    known = options.options_of(script)
    told: dict[str, Any] = {}
    found: list[Finding] = []
    for line in lines:
        name, sep, raw = line.strip().lstrip("-").partition("=")
        name, raw = name.strip().replace("-", "_"), raw.strip()
        if not name or line.lstrip().startswith("#"):
            continue
        if not sep and known.get(name) and known[name].kind == "bool":
            raw = "true"
        elif not sep:
            found.append(_bad(name, "option-form", f"'{line}' is no option with its value.",
                              "Options are written name = value, one a line.", f"Write {name.split()[0]} = VALUE."))  # fmt: skip
            continue
        if name in told:
            found.append(
                _bad(
                    name,
                    "option-twice",
                    f"'{name}' is given twice.",
                    "Only one of them can hold.",
                    "Keep one.",
                )
            )
            continue
        option = known.get(name)
        told[name] = _typed(raw, option) if option else raw
    unfit = options.check(script, {n: v for n, v in told.items() if not _why_not(n)})
    found += [_with_comma(f, told).model_copy(update={"where": ("extra_options", *f.where)}) for f in unfit]
    for name in told:
        why = _why_not(name)
        if why:
            found.append(_bad(name, "option-managed", f"'{name}' is not taken as a further option.", *why))
    wrong = {w for f in found for w in f.where}
    told = {n: v for n, v in told.items() if n not in wrong}
    for argument in told.get("network_args", []):
        found += _network_argument(str(argument), families.MODULES[family])
    return told, found


def _with_comma(finding: Finding, told: dict[str, Any]) -> Finding:
    """A number written as many countries write it, 1,5: what to write instead."""
    value = told.get(finding.where[0])
    if finding.code != "option-value" or not isinstance(value, str) or not _COMMA.fullmatch(value):
        return finding
    return finding.model_copy(update={"fix": f"{finding.fix} Write {value.replace(',', '.')}, with a point."})


def secrets_in(lines: Iterable[str]) -> list[str]:
    """Names of options whose value is an access token or a key, by the option's name or by the look of the value.

    Settings are written into files, the history and the record of each run, so such a line is not to be kept at all.
    """
    blotter, found = Blotter(), []
    for line in lines:
        name, _, raw = line.strip().lstrip("-").partition("=")
        name = name.strip().replace("-", "_")
        if (name in _SECRET and raw.strip()) or blotter.clean(line.encode()) != line.encode():
            found.append(name if name in _SECRET or raw.strip() else "")
    return found


def _bad(name: str, code: str, what: str, why: str, fix: str) -> Finding:
    return Finding(severity="block", code=code, what=what, why=why, fix=fix, where=("extra_options", name))


def _why_not(name: str) -> tuple[str, str] | None:
    """Why an option is none of the further ones, and what to do; None when it may be one."""
    if name in BY_SETTING:
        title = knobs()[BY_SETTING[name]].title
        return f"The setting '{title}' decides it.", f"Remove it, and set '{title}'."
    if name in BY_STUDIO:
        return BY_STUDIO[name], "Remove it."
    return None


def _typed(raw: str, option: options.Option) -> Any:
    """A value as TOML reads it; bare text as text, a single value of a list as a list."""
    try:
        value = tomllib.loads(f"x = {raw}")["x"]
    except tomllib.TOMLDecodeError:
        value = {"True": True, "False": False}.get(raw, raw)
    if option.many and not isinstance(value, list):
        value = str(value).split() if isinstance(value, str) else [value]
    if option.kind in ("str", "Path") and isinstance(value, (int, float)) and not isinstance(value, bool):
        return raw
    if option.kind == "float" and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value


def _network_argument(argument: str, module: str) -> list[Finding]:
    name, sep, _ = argument.partition("=")
    known = families.NETWORK_ARGS[module]
    if sep and name in known:
        return []
    near = options.nearest(name, known)
    return [
        _bad("network_args", "network-argument-unknown", f"{module} knows no argument '{name}'." if sep else
             f"'{argument}' in network_args has no value.", "It would be passed over without a word.",
             f"Did you mean '{near}'?" if near and near != name else "Write it as \"name=value\", or remove it.")
    ]  # fmt: skip


def combinations(family: str, told: dict[str, Any], s: TrainingSettings, caches_text: bool) -> list[Finding]:
    """What speaks against further options beside these settings, each a fault that the script would find late or never."""
    found = []
    if "clip_skip" in told and family != "sd15":
        found.append(_bad("clip_skip", "clip-skip", "Clip skip has no place here.",
                          "Models of this family are trained without it, and the script does not refuse it.", "Remove it."))  # fmt: skip
    if s.cache_latents and (told.get("color_aug") or told.get("random_crop")):
        found.append(_bad("color_aug", "cache-and-change", "Latents are cached, so colours and crops cannot change.",
                          "What was encoded once stays as it was.", "Turn off caching latents, or remove the option."))  # fmt: skip
    moving = [n for n in _STEADY if told.get(n)]
    if caches_text and moving:
        found.append(_bad(moving[0], "text-cache-and-change", f"Captions are cached, so {moving[0]} cannot go with it.",
                          "What was read once stays as it was.", "Turn off caching text embeddings, or remove the option."))  # fmt: skip
    for name, wanted in (("full_fp16", "fp16"), ("full_bf16", "bf16")):
        if told.get(name) and s.precision != wanted:
            found.append(_bad(name, "full-half", f"{name} needs the precision {wanted}.", f"It is {s.precision}.",
                              f"Set the precision to {wanted}, or remove the option."))  # fmt: skip
    if told.get("masked_loss") and not told.get("alpha_mask"):
        found.append(_bad("masked_loss", "mask-without-source", "There are no masks for the masked loss.",
                          "Only the transparency of the pictures themselves can be the mask here.", "Add alpha_mask = true."))  # fmt: skip
    for name in ("network_weights", "base_weights"):
        absent = [
            w
            for w in ([told[name]] if isinstance(told.get(name), str) else told.get(name, []))
            if not Path(w).is_file()
        ]
        if absent:
            found.append(_bad(name, "weights-absent", f"There is no file {absent[0]}.", f"{name} names it.",
                              "Correct the path, or remove the option."))  # fmt: skip
    if s.noise_offset and told.get("multires_noise_iterations"):
        found.append(Finding(severity="warn", code="two-noises", what="Noise offset and multires noise are both on.",
                             why="They do the same in two ways, and the script warns against the pair.",
                             fix="Keep one of them.", where=("noise_offset", "extra_options")))  # fmt: skip
    if s.min_snr_gamma and told.get("debiased_estimation_loss"):
        found.append(Finding(severity="warn", code="two-weightings", what="Min-SNR and the debiased loss are both on.",
                             why="Both weight the noise levels, and together they say something else.",
                             fix="Set min-SNR gamma to 0, or remove the option.", where=("min_snr_gamma", "extra_options")))  # fmt: skip
    return found
