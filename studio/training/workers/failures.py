"""Names for the ways in which training fails: what happened, why, how to fix it."""

from __future__ import annotations

import math

import torch

from studio.errors import EnvironmentalError, StudioError
from studio.findings import Finding
from studio.training.base import TrainingPlan


def named(error: Exception, plan: TrainingPlan, when: str) -> StudioError | None:
    """A shortage of memory as a StudioError; None for anything else.

    when: such as "at step 3". The finding's code `out-of-memory` lets a caller try again with half the batch.
    """
    text = str(error)
    on_card = (
        isinstance(error, torch.OutOfMemoryError)
        or "CUDA out of memory" in text
        or "CUDA error: out of memory" in text
    )
    if not on_card and not isinstance(error, MemoryError) and "can't allocate memory" not in text:
        return None
    s = plan.settings
    ways = []
    if s.batch_size > 1:
        ways.append(f"set the batch size to {s.batch_size // 2}")
    if not s.gradient_checkpointing:
        ways.append("turn gradient checkpointing on")
    if s.precision == "no" and on_card:
        ways.append("use bf16 or fp16")
    if s.train_text_encoder:
        ways.append("leave the text encoder out")
    if not s.cache_latents:
        ways.append("cache latents")
    ways.append("lower the resolution or the rank")
    where = "The graphics card" if on_card else "The computer"
    size = f"batch {s.batch_size} at {s.resolution} px, rank {s.rank}"
    fix = (
        f"{ways[0][0].upper()}{ways[0][1:]}; if that is not enough, {', then '.join(ways[1:3])}."
        if ways[1:]
        else ways[0]
    )
    return EnvironmentalError(
        f"{where} ran out of memory {when}.",
        f"{size} needs more than there is. {text.splitlines()[0][:200] if text else ''}".strip(),
        fix,
        [Finding(severity="block", code="out-of-memory", what=f"{where} ran out of memory.", fix=fix)],
    )


def not_finite(plan: TrainingPlan, step: int, losses: list[float], what: str) -> StudioError:
    """The loss or the gradient is NaN or infinite at `step`: why it probably happened, judged by the run so far."""
    s = plan.settings
    before = [v for v in losses[-5:] if math.isfinite(v)]
    rising = len(losses) > 20 and before and sum(before) / len(before) > 3 * (sum(losses[:20]) / 20)
    if s.precision == "fp16":
        why = "Numbers grew beyond what fp16 can hold; its range ends at 65,504."
        fix = "Use bf16, or full precision on cards without it."
    elif rising or (losses and s.optimizer != "prodigy"):
        why = "The LoRA grew out of bounds, most often because the learning rate is too high."
        fix = f"Lower the learning rate to {s.learning_rate / 5:.2g} and keep gradient clipping at 1."
    elif not losses:
        why = "It happened in the first step, so the base model or a picture already holds broken values."
        fix = "Try another base model file, or its fp32 version; check the dataset."
    else:
        why = "The optimizer took a step that was too large."
        fix = "Choose AdamW with the learning rate of a preset."
    if s.max_grad_norm == 0:
        fix += " Turn gradient clipping on (1)."
    finding = Finding(
        severity="block", code="loss-nan", what=f"The {what} is not a number.", why=why, fix=fix
    )
    return StudioError(f"The {what} became NaN at step {step}; training was stopped.", why, fix, [finding])
