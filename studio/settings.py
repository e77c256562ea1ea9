"""The training settings: backend-neutral, one model, one source.

Each field carries its title, plain-words help, safe range, unit, group and level. The form, the tooltip, the glossary,
the `--help` and the configuration reference are all made from this file; nothing else repeats a default or a range.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from studio.errors import InputError
from studio.findings import Finding

Level = Literal["basic", "advanced"]
GROUPS = (
    "Model",
    "Network",
    "Length",
    "Batch and pictures",
    "Optimizer",
    "Captions",
    "Loss",
    "Memory",
    "Saving",
    "Repeatability",
)

Optimizer = Literal["adamw", "adamw8bit", "prodigy", "lion", "adafactor"]
Scheduler = Literal[
    "constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts", "polynomial"
]
Precision = Literal["no", "fp16", "bf16"]
Targets = Literal["attention", "attention+ff"]


def knob(
    default: Any,
    title: str,
    help: str,
    *,
    group: str,
    level: Level = "advanced",
    safe: tuple[float, float] | None = None,
    unit: str = "",
    choices: dict[str, str] | None = None,
    **limits: Any,
) -> Any:
    """A settings field.

    default: value used when nothing else says so.
    title:   its name in the app.
    help:    one to three plain sentences: what it does, and what happens when it is too low or too high.
    group:   one of GROUPS.
    level:   `basic` fields are asked in Easy mode.
    safe:    range in which it usually works; outside it the config gate warns. Hard limits (`ge`, `le`, `gt`,
             `lt`) go in `limits` and are refused.
    unit:    what the number counts, such as "px" or "epochs".
    choices: for a fixed list: what each value means, in words.
    """
    extra: dict[str, Any] = {"group": group, "level": level, "unit": unit}
    if safe is not None:
        extra["safe"] = list(safe)
    if choices is not None:
        extra["choices"] = choices
    return Field(
        default=default,
        title=title,
        description=help,
        json_schema_extra=extra,
        validate_default=True,
        **limits,
    )


class TrainingSettings(BaseModel):
    """What to train and how, in words that every backend shares."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    # --- Model
    backend: str = knob(
        "diffusers",
        "Backend",
        "The engine that trains. 'diffusers' is built in and needs nothing else.",
        group="Model",
        pattern=r"^[a-z0-9-]+$",
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
        safe=(0, 20),
        ge=0,
        le=100,
    )
    noise_offset: float = knob(
        0.0,
        "Noise offset",
        "Lets the LoRA learn very dark and very bright pictures. 0 turns it off.",
        group="Loss",
        safe=(0, 0.1),
        ge=0,
        le=1,
    )

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
        ge=0,
        le=10_000,
    )
    sample_every_epochs: int = knob(
        1,
        "Sample every",
        "Draws sample pictures after this many epochs. 0 draws none.",
        group="Saving",
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


@dataclass(frozen=True)
class Knob:
    """A settings field as forms and help want it."""

    name: str
    title: str
    help: str
    group: str
    level: Level
    default: Any
    kind: Literal["bool", "int", "float", "choice", "text", "lines"]
    unit: str
    safe: tuple[float, float] | None
    minimum: float | None
    maximum: float | None
    choices: dict[str, str]

    @property
    def range_words(self) -> str:
        """The limits in words, such as "1 to 512, usually 4 to 64"; empty when there are none."""
        parts = []
        if self.minimum is not None and self.maximum is not None:
            parts.append(f"{self.minimum:g} to {self.maximum:g}")
        if self.safe is not None:
            parts.append(f"usually {self.safe[0]:g} to {self.safe[1]:g}")
        return ", ".join(parts) + (f" {self.unit}" if parts and self.unit else "")


def _limit(info: FieldInfo, names: tuple[str, ...]) -> float | None:
    for m in info.metadata:
        for n in names:
            value = getattr(m, n, None)
            if value is not None:
                return float(value)
    return None


def _kind(info: FieldInfo) -> Literal["bool", "int", "float", "choice", "text", "lines"]:
    if info.annotation is bool:
        return "bool"
    if info.annotation is int:
        return "int"
    if info.annotation is float:
        return "float"
    if info.annotation is str:
        return "text"
    return (
        "choice" if get_args(info.annotation) and isinstance(get_args(info.annotation)[0], str) else "lines"
    )


def knobs() -> dict[str, Knob]:
    """All fields by name, in the order of the form."""
    out = {}
    for name, info in TrainingSettings.model_fields.items():
        extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
        kind = _kind(info)
        told = extra.get("choices")
        choices = {str(c): str(w) for c, w in told.items()} if isinstance(told, dict) else {}
        if kind == "choice" and not choices:
            choices = {str(c): str(c) for c in get_args(info.annotation)}
        safe = extra.get("safe")
        out[name] = Knob(
            name=name,
            title=info.title or name,
            help=info.description or "",
            group=str(extra["group"]),
            level="basic" if extra["level"] == "basic" else "advanced",
            default=info.default,
            kind=kind,
            unit=str(extra["unit"]),
            safe=(safe[0], safe[1]) if isinstance(safe, list) else None,  # type: ignore[arg-type]
            minimum=_limit(info, ("ge", "gt")),
            maximum=_limit(info, ("le", "lt")),
            choices=choices,
        )
    return out


def problems(values: dict[str, Any]) -> list[Finding]:
    """Every reason why `values` cannot be settings, as blocking findings; empty when they can."""
    try:
        TrainingSettings.model_validate(values)
    except ValidationError as e:
        return [_as_finding(dict(p)) for p in e.errors(include_url=False)]
    return []


def _as_finding(problem: dict[str, Any]) -> Finding:
    name = str(problem["loc"][0]) if problem["loc"] else "settings"
    known = knobs()
    if problem["type"] == "extra_forbidden":
        near = difflib.get_close_matches(name, known, n=1)
        return Finding(
            severity="block",
            code="setting-unknown",
            what=f"There is no setting called '{name}'.",
            why="An unknown name would be ignored silently, and the run would not be what you meant.",
            fix=f"Did you mean '{near[0]}'?"
            if near
            else "Take it out. `lora-studio config --help` lists all settings.",
            where=(name,),
        )
    k = known.get(name)
    if k is None:
        return Finding(
            severity="block", code="setting-invalid", what=f"{name}: {problem['msg']}.", where=(name,)
        )
    allowed = ", ".join(k.choices) if k.choices else k.range_words
    wanted = {
        "bool": "on or off",
        "int": "a whole number",
        "float": "a number",
        "choice": "one of",
        "text": "text",
        "lines": "a list of lines",
    }[k.kind]
    return Finding(
        severity="block",
        code="setting-invalid",
        what=f"{k.title} ({name}) cannot be {problem['input']!r}.",
        why=k.help,
        fix=f"Use {wanted}{': ' + allowed if allowed and k.kind == 'choice' else ''}"
        f"{' from ' + allowed if allowed and k.kind in ('int', 'float') else ''}.",
        where=(name,),
    )


def parse_settings(values: dict[str, Any]) -> TrainingSettings:
    """`values` as settings. Raises InputError carrying every problem at once."""
    found = problems(values)
    if found:
        raise InputError(
            "These training settings cannot be used.",
            f"{len(found)} of them cannot be understood.",
            "Mend each one as written beside it.",
            found,
        )
    return TrainingSettings.model_validate(values)


def unusual(settings: TrainingSettings) -> list[Finding]:
    """A warning for each value outside of its usual range."""
    found = []
    for k in knobs().values():
        value = getattr(settings, k.name)
        if k.safe is not None and not (k.safe[0] <= value <= k.safe[1]):
            found.append(
                Finding(
                    severity="warn",
                    code="setting-unusual",
                    what=f"{k.title} is {value:g}, outside of the usual {k.safe[0]:g} to {k.safe[1]:g}.",
                    why=k.help,
                    fix="Keep it only if you mean it.",
                    where=(k.name,),
                )
            )
    return found


def changed(
    settings: TrainingSettings, reference: TrainingSettings | None = None
) -> dict[str, tuple[Any, Any]]:
    """Fields that differ from `reference` (the built-in defaults when None): name -> (reference value, value)."""
    base = reference or TrainingSettings()
    return {
        n: (getattr(base, n), getattr(settings, n))
        for n in TrainingSettings.model_fields
        if getattr(base, n) != getattr(settings, n)
    }
