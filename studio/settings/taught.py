"""Settings: what is taught to which part of the model, from which pictures, for how long."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

from studio.settings.knob import knob

Targets = Literal["attention", "attention+ff"]


class WhatIsTaught(BaseModel):
    """The model, the network, the length, and how pictures are batched."""

    # --- Model
    backend: str = knob(
        "diffusers",
        "Backend",
        "The engine that trains. 'diffusers' is built in and needs nothing else; 'kohya' starts the sd-scripts that you have; "
        "'replicate' trains on rented computers and costs money.",
        group="Model",
        pattern=r"^[a-z0-9-]+$",
        choices={
            "diffusers": "built in",
            "kohya": "kohya sd-scripts, in an environment of its own",
            "replicate": "Replicate, a paid service in the cloud",
        },
    )
    train_text_encoder: bool = knob(
        True,
        "Teach the text encoder too",
        "Also adapts the part that reads words, so that the trigger word alone calls up what you teach. Turn it off when "
        "memory is short.",
        group="Model",
        level="advanced",
    )
    prediction: Literal["auto", "epsilon", "v_prediction"] = knob(
        "auto",
        "Prediction type",
        "What the base model was trained to predict. 'auto' reads it from the base model; a "
        "wrong value gives noise.",
        group="Model",
        choices={
            "auto": "read it from the base model",
            "epsilon": "noise (SD1.5, SDXL)",
            "v_prediction": "velocity (v-pred models)",
        },
    )

    # --- Network
    rank: int = knob(
        8,
        "Rank",
        "How much the LoRA can hold. Low: small file, gentle. High: more detail, but it copies "
        "pictures sooner and the file grows.",
        group="Network",
        level="basic",
        safe=(4, 64),
        ge=1,
        le=512,
    )
    alpha: float = knob(
        8.0,
        "Alpha",
        "Scales what was learned by alpha / rank. Equal to the rank is the plain choice; half "
        "the rank learns at half the pace.",
        group="Network",
        safe=(1, 64),
        gt=0,
        le=512,
    )
    targets: Targets = knob(
        "attention+ff",
        "Layers taught",
        "Which layers of the base model get an adapter.",
        group="Network",
        choices={
            "attention": "attention only: smaller and gentler",
            "attention+ff": "attention and feed-forward: learns styles better",
        },
    )
    network_dropout: float = knob(
        0.0,
        "Network dropout",
        "Switches off a random share of the adapter at each step; a little helps against copying.",
        group="Network",
        safe=(0, 0.3),
        ge=0,
        lt=1,
    )

    # --- Length
    epochs: int = knob(
        15,
        "Epochs",
        "How many times training goes through all pictures. Too few: the style hardly shows. Too "
        "many: it copies the pictures.",
        group="Length",
        level="basic",
        safe=(1, 100),
        unit="epochs",
        ge=1,
        le=10_000,
    )
    repeats: int = knob(
        1,
        "Repeats",
        "How many times each picture is shown within one epoch. With few pictures, repeats make "
        "an epoch long enough to be worth saving.",
        group="Length",
        level="basic",
        safe=(1, 20),
        ge=1,
        le=1000,
    )
    max_steps: int = knob(
        0,
        "Step limit",
        "Stops after this many steps, whatever the epochs say. 0 means no limit.",
        group="Length",
        zero="no limit",
        unit="steps",
        ge=0,
        le=1_000_000,
    )

    # --- Batch and pictures
    batch_size: int = knob(
        1,
        "Batch size",
        "Pictures learned from at once. More is smoother and faster per picture, and takes more memory.",
        group="Batch and pictures",
        level="basic",
        safe=(1, 16),
        unit="pictures",
        ge=1,
        le=256,
    )
    gradient_accumulation: int = knob(
        1,
        "Gradient accumulation",
        "Adds up this many batches before each change of the LoRA: "
        "acts like a larger batch without its memory.",
        group="Batch and pictures",
        safe=(1, 16),
        ge=1,
        le=256,
    )
    resolution: int = knob(
        512,
        "Resolution",
        "Side of the square whose area each picture is scaled to. Use the base model's own.",
        group="Batch and pictures",
        level="advanced",
        unit="px",
        ge=32,
        le=4096,
        multiple_of=8,
    )
    buckets: bool = knob(
        True,
        "Aspect ratio buckets",
        "Keeps wide and tall pictures in their shape instead of cutting them to a square.",
        group="Batch and pictures",
    )
    bucket_step: int = knob(
        64,
        "Bucket step",
        "Sides of the buckets are multiples of this.",
        group="Batch and pictures",
        unit="px",
        ge=8,
        le=512,
        multiple_of=8,
    )
    bucket_no_upscale: bool = knob(
        True,
        "Never enlarge pictures",
        "Small pictures keep their size instead of being blown up, which would teach blur.",
        group="Batch and pictures",
    )
    flip: bool = knob(
        False,
        "Mirror pictures",
        "Shows each picture mirrored half of the time. Not for faces with a parting, "
        "text, or anything that has a left and a right.",
        group="Batch and pictures",
    )
