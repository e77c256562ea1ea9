"""What speaks against training with the built-in backend: computer, optimizer, network, pictures, captions."""

from __future__ import annotations

import sys
from pathlib import Path

from studio.errors import StudioError
from studio.findings import Finding
from studio.machine import Machine
from studio.modelfiles import checking
from studio.models import BaseModelEntry
from studio.settings import TrainingSettings

# The rate that AdamW is usually given for each family: presets of the studio and the trainers' own defaults.
USUAL_RATE = {"pocket": 1.2e-3, "sd15": 5e-4, "sdxl": 3e-4, "sd35": 1e-4, "flux": 1e-4}
_PACKAGES = {"adamw8bit": "bitsandbytes", "prodigy": "prodigyopt", "lion": "lion-pytorch"}


def check(
    families: tuple[str, ...],
    settings: TrainingSettings,
    machine: Machine,
    entry: BaseModelEntry,
    trigger: str,
    *,
    flow: bool = False,
    packages_here: bool = True,
) -> list[Finding]:
    """All findings about these settings; `families` are those that the backend can train.

    flow: it trains models of rectified flow, too. packages_here: it runs in the studio's own environment, so that an optimizer
    has to be installed there.
    """
    if entry.family not in families or (entry.prediction == "flow" and not flow):
        name = {True: "This backend", False: "The built-in backend"}[flow]
        return [
            Finding(
                severity="block",
                code="family-not-supported",
                what=f"{name} cannot train {entry.title}.",
                why=f"It knows {', '.join(families)} models{'' if flow else ' that predict noise or velocity'}.",
                fix="Choose another base model or another backend.",
                where=("backend",),
            )
        ]
    return [
        *_check_machine(settings, machine, entry),
        *_check_optimizer(settings, machine, entry, packages_here),
        *_check_network(settings),
        *_check_pictures(settings, entry),
        *_check_captions(settings, entry, trigger),
    ]


def _check_machine(s: TrainingSettings, machine: Machine, entry: BaseModelEntry) -> list[Finding]:
    found = []
    on_cpu = machine.device == "cpu"
    if s.precision == "fp16" and on_cpu:
        found.append(
            Finding(
                severity="block",
                code="fp16-without-gpu",
                what="Half precision (fp16) needs a graphics card.",
                why="A CPU computes it slowly and overflows, so the loss becomes NaN.",
                fix="Set precision to full (no).",
                where=("precision",),
            )
        )
    if s.precision == "bf16" and on_cpu:
        found.append(
            Finding(
                severity="info",
                code="bf16-on-cpu",
                what="bf16 on a CPU is only faster on recent server processors.",
                why="Other processors imitate it, which is slower and less exact than full precision.",
                fix="Use full precision, unless a dry run shows that bf16 is faster here.",
                where=("precision",),
            )
        )
    if entry.family != "pocket" and on_cpu:
        found.append(
            Finding(
                severity="warn",
                code="large-model-on-cpu",
                what=f"{entry.title} on a CPU takes minutes for each step.",
                why="No graphics card was found; the dry run will measure how long a step takes.",
                fix="Use a computer with an NVIDIA card, or the built-in Pocket model to learn the steps.",
                where=("base_model",),
            )
        )
    if s.precision == "no" and entry.family != "pocket" and not on_cpu:
        found.append(
            Finding(
                severity="info",
                code="full-precision",
                what="Full precision doubles the memory and halves the speed.",
                why="LoRAs trained in bf16 look the same.",
                fix="Set precision to bf16 (RTX 30 and newer) or fp16.",
                where=("precision",),
            )
        )
    return found


def _check_optimizer(
    s: TrainingSettings, machine: Machine, entry: BaseModelEntry, packages_here: bool
) -> list[Finding]:
    found = []
    package = _PACKAGES.get(s.optimizer)
    if s.optimizer == "adamw8bit" and machine.device != "cuda":
        found.append(
            Finding(
                severity="block",
                code="adamw8bit-without-gpu",
                what="AdamW 8-bit needs an NVIDIA graphics card.",
                why="Its arithmetic runs on the card only.",
                fix="Choose AdamW; without a card its memory is not the limit.",
                where=("optimizer",),
            )
        )
    elif packages_here and package and package not in machine.packages:
        found.append(
            Finding(
                severity="block",
                code="optimizer-missing",
                what=f"The optimizer {s.optimizer} is not installed.",
                why=f"It comes with the package {package}.",
                fix=f"Run: {Path(sys.executable).name} -m pip install {package}; or choose AdamW.",
                where=("optimizer",),
            )
        )
    usual = USUAL_RATE.get(entry.family, 1e-4)
    rate = s.learning_rate
    if s.optimizer == "prodigy":
        if rate != 1:
            found.append(
                Finding(
                    severity="warn",
                    code="prodigy-rate",
                    what=f"Prodigy with a learning rate of {rate:g}.",
                    why="Prodigy finds the rate itself and multiplies it by this number; below 1 it hardly learns.",
                    fix="Set the learning rate to 1.",
                    where=("learning_rate",),
                    action="set-learning-rate",
                )
            )
        if s.train_text_encoder and s.text_encoder_lr not in (0, rate):
            found.append(
                Finding(
                    severity="warn",
                    code="prodigy-one-rate",
                    what="Prodigy ignores a separate text encoder rate.",
                    why="It keeps one rate for everything that it trains.",
                    fix="Set the text encoder learning rate to 0.",
                    where=("text_encoder_lr",),
                )
            )
        return found
    if rate >= 0.1:
        found.append(
            Finding(
                severity="block",
                code="rate-far-too-high",
                what=f"A learning rate of {rate:g} breaks the LoRA within a few steps.",
                why="Only Prodigy takes a rate near 1.",
                fix=f"Use about {_usual_for(s.optimizer, usual):g}, or choose Prodigy.",
                where=("learning_rate",),
            )
        )
    elif s.optimizer == "lion" and rate > usual / 2:
        found.append(
            Finding(
                severity="warn",
                code="lion-rate",
                what=f"A learning rate of {rate:g} is AdamW's size, not Lion's.",
                why="Lion moves every weight by the full rate; it wants a third to a tenth of AdamW's.",
                fix=f"Use {usual / 10:.1g} to {usual / 3:.1g}, and a weight decay three to ten times as large.",
                where=("learning_rate",),
            )
        )
    elif rate > usual * 5:
        found.append(
            Finding(
                severity="warn",
                code="rate-high",
                what=f"A learning rate of {rate:g} is high for {entry.title}.",
                why=f"About {usual:g} is usual; higher ones often break the pictures.",
                fix=f"Start with {_usual_for(s.optimizer, usual):g}.",
                where=("learning_rate",),
            )
        )
    elif rate < usual / 100:
        found.append(
            Finding(
                severity="warn",
                code="rate-low",
                what=f"A learning rate of {rate:g} is very low for {entry.title}.",
                why=f"About {usual:g} is usual; with a hundredth of it nothing will be seen.",
                fix=f"Start with {_usual_for(s.optimizer, usual):g}.",
                where=("learning_rate",),
            )
        )
    if s.train_text_encoder and s.text_encoder_lr > rate:
        found.append(
            Finding(
                severity="warn",
                code="text-encoder-rate-high",
                what="The text encoder learns faster than the rest.",
                why="It overfits first; trainers give it half to a fifth of the rate.",
                fix=f"Use {rate / 2:g} or less, or 0 for the same rate.",
                where=("text_encoder_lr",),
            )
        )
    if s.scheduler == "constant" and s.warmup > 0:
        found.append(
            Finding(
                severity="info",
                code="warmup-unused",
                what="The schedule 'constant' has no warm-up.",
                fix="Choose 'constant_with_warmup' if you want one.",
                where=("warmup",),
            )
        )
    return found


def _usual_for(optimizer: str, usual: float) -> float:
    return float(f"{usual / 5:.1g}") if optimizer == "lion" else usual


def _check_network(s: TrainingSettings) -> list[Finding]:
    found = []
    if s.alpha > s.rank:
        found.append(
            Finding(
                severity="warn",
                code="alpha-above-rank",
                what=f"Alpha {s.alpha:g} is above rank {s.rank}.",
                why=f"Everything learned counts {s.alpha / s.rank:.1f} times; it acts like a higher learning rate.",
                fix=f"Use {s.rank} or {max(1, s.rank // 2)}.",
                where=("alpha",),
            )
        )
    if s.ema:
        found.append(
            Finding(
                severity="info",
                code="ema-short-run",
                what="The running average (EMA) lags behind in short runs.",
                why="It looks back over about the last 200 steps.",
                fix="Use it for runs of 500 steps and more.",
                where=("ema",),
            )
        )
    return found


def _check_pictures(s: TrainingSettings, entry: BaseModelEntry) -> list[Finding]:
    found = []
    ratio = s.resolution / entry.resolution
    if ratio >= 4 or ratio <= 0.25:
        found.append(
            Finding(
                severity="block",
                code="resolution-impossible",
                what=f"{s.resolution} px is too far from the {entry.resolution} px of {entry.title}.",
                why="At such a size it draws nothing but patterns, and the LoRA would learn those.",
                fix=f"Set the resolution to {entry.resolution}.",
                where=("resolution",),
            )
        )
    elif ratio > 1.5 or ratio < 0.67:
        found.append(
            Finding(
                severity="warn",
                code="resolution-far",
                what=f"{s.resolution} px is far from the {entry.resolution} px of {entry.title}.",
                why="Base models draw well only near the size that they were trained at.",
                fix=f"Set the resolution to {entry.resolution}.",
                where=("resolution",),
            )
        )
    if s.buckets and s.bucket_step % entry.bucket_step:
        found.append(
            Finding(
                severity="warn",
                code="bucket-step-odd",
                what=f"Bucket step {s.bucket_step} is not a multiple of {entry.bucket_step}.",
                why=f"{entry.title} halves its pictures several times; other sizes leave a remainder at the edges.",
                fix=f"Set the bucket step to {entry.bucket_step}.",
                where=("bucket_step",),
            )
        )
    if s.buckets and s.bucket_step > s.resolution // 2:
        found.append(
            Finding(
                severity="warn",
                code="bucket-step-large",
                what=f"A bucket step of {s.bucket_step} px leaves only squares at {s.resolution} px.",
                why="Wide and tall pictures are cut to the square.",
                fix=f"Set the bucket step to {entry.bucket_step}.",
                where=("bucket_step",),
            )
        )
    if s.prediction not in ("auto", entry.prediction):
        certain = _prediction_is_certain(entry)
        found.append(
            Finding(
                severity="block" if certain else "warn",
                code="prediction-differs",
                what=f"{entry.title} predicts {entry.prediction}, the settings say {s.prediction}.",
                why="With the wrong one the LoRA learns to draw noise.",
                fix="Set the prediction type to auto."
                if certain
                else "Set the prediction type to auto, unless the page that you got the model from says otherwise.",
                where=("prediction",),
            )
        )
    said = entry.prediction if s.prediction == "auto" else s.prediction
    if said == "v_prediction" and entry.family == "sdxl" and s.noise_offset:
        # arXiv 2305.08891: training up to pure noise is the cure for what offset noise makes up for.
        found.append(
            Finding(
                severity="info",
                code="noise-offset-with-v",
                what="A model that predicts v needs no noise offset.",
                why="It is trained up to pure noise and so reaches deep shadows and bright lights by itself; the offset was made for "
                "models that cannot.",
                fix="Set the noise offset to 0, unless your pictures come out too even.",
                where=("noise_offset",),
            )
        )
    return found


def _prediction_is_certain(entry: BaseModelEntry) -> bool:
    """Whether what a model predicts is known: it is one of the list, or its file says so itself. Where neither is so, the
    settings may know better."""
    if entry.files or not entry.path:
        return True
    try:
        return checking.base_model(entry.path).sure
    except StudioError:  # told of by another finding
        return False


def _check_captions(s: TrainingSettings, entry: BaseModelEntry, trigger: str) -> list[Finding]:
    found = []
    if s.cache_text_embeddings and (s.train_text_encoder or s.shuffle_captions):
        reason = "the text encoder is taught" if s.train_text_encoder else "tags are shuffled"
        found.append(
            Finding(
                severity="info",
                code="text-cache-unused",
                what=f"Captions are read anew at each step, because {reason}.",
                why="A cached caption could not change.",
                fix="Nothing to do.",
                where=("cache_text_embeddings",),
            )
        )
    if s.shuffle_captions and entry.caption_style == "sentences":
        found.append(
            Finding(
                severity="warn",
                code="shuffle-sentences",
                what=f"Tags are shuffled, but {entry.title} is captioned in sentences.",
                why="Sentences that are cut at their commas and mixed teach muddled language.",
                fix="Turn shuffling off, unless your captions are tags.",
                where=("shuffle_captions",),
            )
        )
    lacking = [p for p in s.sample_prompts if trigger and trigger.lower() not in p.lower()]
    if lacking:
        found.append(
            Finding(
                severity="info",
                code="sample-without-trigger",
                what=f"{len(lacking)} of {len(s.sample_prompts)} sample prompts lack the trigger word '{trigger}'.",
                why="They show what the LoRA does when it is not called.",
                fix=f"Put '{trigger}' first if that is not what you want to see.",
                where=("sample_prompts",),
            )
        )
    return found
