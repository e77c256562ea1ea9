"""Settings: how the run spends memory, what it saves and draws, and what makes it repeatable."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

from studio.settings.knob import knob

Precision = Literal["no", "fp16", "bf16"]


class HowItRuns(BaseModel):
    """Memory, saving, and repeatability."""

    # --- Memory
    precision: Precision = knob(
        "no",
        "Precision",
        "Number format of the computation. bf16 for recent NVIDIA cards, fp16 for "
        "older ones, full precision on a CPU.",
        group="Memory",
        choices={"no": "full (32 bit)", "fp16": "half (16 bit)", "bf16": "brain half (16 bit, steadier)"},
    )
    gradient_checkpointing: bool = knob(
        False,
        "Gradient checkpointing",
        "Saves much memory and costs about a third more time.",
        group="Memory",
    )
    cache_latents: bool = knob(
        True,
        "Cache latents",
        "Encodes every picture once instead of at each step: faster, less memory.",
        group="Memory",
    )
    cache_text_embeddings: bool = knob(
        True,
        "Cache text embeddings",
        "Reads every caption once. Only takes effect when the text encoder "
        "is not taught and tags are not shuffled.",
        group="Memory",
    )

    # --- Saving
    save_every_epochs: int = knob(
        1,
        "Checkpoint every",
        "Saves a LoRA file after this many epochs, so that you can choose the best one later.",
        group="Saving",
        unit="epochs",
        ge=1,
        le=10_000,
    )
    keep_checkpoints: int = knob(
        0,
        "Checkpoints kept",
        "Only the newest this many are kept. 0 keeps all.",
        group="Saving",
        zero="all",
        ge=0,
        le=10_000,
    )
    sample_every_epochs: int = knob(
        1,
        "Sample every",
        "Draws sample pictures after this many epochs. 0 draws none.",
        group="Saving",
        zero="none",
        unit="epochs",
        ge=0,
        le=10_000,
    )
    sample_prompts: tuple[str, ...] = knob(
        (),
        "Sample prompts",
        "What the sample pictures show, one a line. Empty: two captions of the dataset.",
        group="Saving",
    )

    # --- Repeatability
    seed: int = knob(
        42,
        "Seed",
        "Start of all chance in the run. The same seed, pictures and settings give the same LoRA on the "
        "same computer.",
        group="Repeatability",
        ge=0,
        le=2**32 - 1,
    )
    ema: bool = knob(
        False,
        "Average of weights (EMA)",
        "Saves a running average of the LoRA; smoother, but needs long runs.",
        group="Repeatability",
    )
