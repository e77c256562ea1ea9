"""Settings: how the LoRA learns."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

from studio.settings.knob import knob

Optimizer = Literal["adamw", "adamw8bit", "prodigy", "lion", "adafactor"]
Scheduler = Literal[
    "constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts", "polynomial"
]


class HowItLearns(BaseModel):
    """The optimizer, what it makes of captions, and the loss."""

    # --- Optimizer
    optimizer: Optimizer = knob(
        "adamw",
        "Optimizer",
        "How the LoRA is changed at each step.",
        group="Optimizer",
        level="basic",
        choices={
            "adamw": "the reliable standard",
            "adamw8bit": "AdamW with less memory (NVIDIA GPU)",
            "prodigy": "finds its own learning rate; set the rate to 1",
            "lion": "little memory; wants a rate about a third to a tenth of AdamW's",
            "adafactor": "least memory, slower to learn",
        },
    )
    learning_rate: float = knob(
        1e-4,
        "Learning rate",
        "Size of each change. Too low: nothing is learned. Too high: pictures break. Prodigy wants 1.",
        group="Optimizer",
        level="basic",
        gt=0,
        le=10,
    )
    text_encoder_lr: float = knob(
        0.0,
        "Text encoder learning rate",
        "A rate of its own for the text encoder; 0 uses the learning rate above.",
        group="Optimizer",
        zero="the same as the learning rate",
        ge=0,
        le=10,
    )
    weight_decay: float = knob(
        0.01,
        "Weight decay",
        "Pulls the LoRA gently back towards zero; keeps it from growing wild.",
        group="Optimizer",
        safe=(0, 0.5),
        ge=0,
        le=1,
    )
    scheduler: Scheduler = knob(
        "cosine",
        "Learning rate schedule",
        "How the learning rate moves over the run.",
        group="Optimizer",
        choices={
            "constant": "the same throughout",
            "constant_with_warmup": "rises, then stays",
            "linear": "falls in a straight line",
            "cosine": "falls smoothly to zero",
            "cosine_with_restarts": "falls, jumps up, falls again",
            "polynomial": "falls along a curve",
        },
    )
    scheduler_cycles: int = knob(
        1,
        "Restarts",
        "Only for cosine with restarts: how many times it starts again.",
        group="Optimizer",
        safe=(1, 10),
        ge=1,
        le=100,
    )
    warmup: float = knob(
        0.05,
        "Warm-up",
        "Share of the run during which the learning rate rises from zero; avoids a rough start.",
        group="Optimizer",
        safe=(0, 0.2),
        ge=0,
        lt=1,
    )
    max_grad_norm: float = knob(
        1.0,
        "Gradient clipping",
        "Cuts the largest jumps. 0 turns it off.",
        group="Optimizer",
        zero="off",
        safe=(0, 10),
        ge=0,
        le=1000,
    )

    # --- Captions
    shuffle_captions: bool = knob(
        False,
        "Shuffle tags",
        "Mixes the order of comma-separated tags at each step; the trigger word "
        "stays first. Good for tags, wrong for sentences.",
        group="Captions",
    )
    keep_tokens: int = knob(
        1,
        "Tags kept in place",
        "How many tags at the front are never shuffled. 1 keeps the trigger word.",
        group="Captions",
        ge=1,
        le=75,
    )
    caption_dropout: float = knob(
        0.05,
        "Caption dropout",
        "Share of steps that train without a caption, so that the LoRA also works with short prompts.",
        group="Captions",
        safe=(0, 0.2),
        ge=0,
        le=1,
    )

    # --- Loss
    min_snr_gamma: float = knob(
        5.0,
        "Min-SNR gamma",
        "Evens out how much easy and hard noise levels count; 5 is the value of its paper. 0 turns it off.",
        group="Loss",
        zero="off",
        safe=(0, 20),
        ge=0,
        le=100,
    )
    prior_loss_weight: float = knob(
        1.0,
        "Weight of regularisation pictures",
        "How much a regularisation picture counts in the loss: 1 as much as one that teaches, which is what trainers start "
        "from. Lower, what you teach counts for more. Users report that 0.2 to 0.3 helps when such pictures pull the result "
        "away; nobody has published a comparison. Does nothing without such pictures.",
        group="Loss",
        safe=(0.1, 1),
        ge=0,
        le=10,
    )
    noise_offset: float = knob(
        0.0,
        "Noise offset",
        "Lets the LoRA learn very dark and very bright pictures. 0 turns it off.",
        group="Loss",
        zero="off",
        safe=(0, 0.1),
        ge=0,
        le=1,
    )
