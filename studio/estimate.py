"""What a run will take before anything is spent: steps, memory, time, disk.

The memory is `studio.vram`'s: a sum of terms, each shown to the user, with an error band for each family. After a dry run its
measured figures replace the forecast.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from studio import vram
from studio.errors import StudioError
from studio.files import human_memory
from studio.findings import Finding
from studio.modelfiles.kinds import Look, look
from studio.models import BaseModelEntry
from studio.settings import TrainingSettings
from studio.vram import GIB, MARGIN
from studio.vram.conditions import STATE
from studio.vram.families import Transformer, sized
from studio.workspace import Workspace

__all__ = [
    "GIB",
    "MARGIN",
    "BaseFile",
    "Estimate",
    "StepPlan",
    "estimate",
    "file_of",
    "fitting_batch",
    "plan_steps",
]

# A measured peak moves this much between two runs of the same settings.
MEASURED_BAND = 0.05
# Reading captions takes the text encoders' weights and hardly anything else, so less has to stay free than for the steps.
READING_MARGIN = 0.10
RENTED = "replicate"
# Bytes of a LoRA file from rented computers for each rank (half precision, all linear layers; about 6 to 11 million bytes).
RENTED_LORA_BYTES_PER_RANK = 10_700_000


@dataclass(frozen=True)
class StepPlan:
    """steps_per_epoch and total_steps count changes of the LoRA (after accumulation); pictures_per_epoch counts repeats."""

    pictures_per_epoch: int
    steps_per_epoch: int
    total_steps: int
    epochs: int


def plan_steps(shown_per_bucket: list[int], settings: TrainingSettings) -> StepPlan:
    """Steps of a run. shown_per_bucket: pictures shown in an epoch in each bucket, repeats and regularisation pictures
    included (`studio.dataset.subsets.shown_per_bucket`).

    A batch never mixes buckets, so batches are counted per bucket: sum of ceil(n / batch), as sd-scripts counts them.
    The last accumulation of an epoch may be smaller.
    """
    counts = [n for n in shown_per_bucket if n > 0]
    batches = sum(math.ceil(n / settings.batch_size) for n in counts)
    per_epoch = math.ceil(batches / settings.gradient_accumulation)
    total = per_epoch * settings.epochs
    if settings.max_steps:
        total = min(total, settings.max_steps)
    epochs = math.ceil(total / per_epoch) if per_epoch else 0
    return StepPlan(sum(counts), per_epoch, total, epochs)


@dataclass(frozen=True)
class BaseFile:
    """What the files of a base model say of its size; the original of its family by default.

    inner:    parameters of the part that draws. blocks: its transformer blocks; both as in `modelfiles.kinds.Look`.
    small_t5: its T5 is a file in fp8.
    """

    inner: int = 0
    blocks: tuple[int, ...] = ()
    small_t5: bool = False


@dataclass(frozen=True)
class Estimate:
    """Forecast of a run.

    terms:        memory in bytes by part, in words, during a step.
    phases:       memory in bytes by phase; the fullest decides.
    memory_bytes: what has to fit; memory_low / memory_high: the error band around it.
    steps_bytes, text_bytes: of it, what everything else needs, and what reading captions before the steps
                  needs; 0 where they are not read then. Once measured, steps_bytes is all.
    small_t5:     T5's file is fp8.
    known:        what the band rests on, in words.
    refused:      combinations of settings that cannot work or that cost more than they save.
    seconds:      time of the run, None while nothing was measured on this computer.
    disk_bytes:   checkpoints, states and samples.
    basis:        "measured" after a dry run, else "estimated".
    helps:        what takes less memory and is not done yet.
    """

    steps: StepPlan
    terms: dict[str, int]
    memory_bytes: int
    memory_low: int
    memory_high: int
    seconds: float | None
    disk_bytes: int
    lora_bytes: int
    basis: Literal["measured", "estimated"]
    phases: dict[str, int] = field(default_factory=dict)
    known: str = ""
    refused: tuple[Finding, ...] = ()
    text_bytes: int = 0
    steps_bytes: int = 0
    small_t5: bool = False
    helps: tuple[str, ...] = ()

    def fits(self, available_bytes: int) -> bool:
        """Whether it fits into `available_bytes` with the margin left free."""
        return self._steps_fit(available_bytes) and self.text_bytes <= available_bytes * (1 - READING_MARGIN)

    def _steps_fit(self, available_bytes: int) -> bool:
        return self.steps_bytes <= available_bytes * (1 - MARGIN)

    def short_of(self, available_bytes: int) -> tuple[str, str]:
        """Why it does not fit into `available_bytes`, and what helps."""
        why, fix = [], []
        if not self._steps_fit(available_bytes):
            room = human_memory(available_bytes * (1 - MARGIN))
            why.append(f"With {MARGIN:.0%} kept free, {room} can be used. Even a batch of one does not fit.")
            fix.append(" ".join(self.helps))
        if self.text_bytes > available_bytes * (1 - READING_MARGIN):
            need = human_memory(self.text_bytes)
            why.append(
                f"Before the first step the text encoders read all captions: {need}, however the base model is stored."
            )
            fix.append(
                "Its text encoders are too large in any case."
                if self.small_t5
                else "Add the base model again with a T5 file in fp8 (t5xxl_fp8_e4m3fn.safetensors), and keep it in 8 bits."
            )
        return " ".join(why), " ".join(fix)

    @property
    def band_words(self) -> str:
        """How far the truth can lie from the number, such as "40 % below to 15 % above"."""
        if not self.memory_bytes:
            return ""
        low, high = (
            abs(round((v / self.memory_bytes - 1) * 100)) for v in (self.memory_low, self.memory_high)
        )
        return f"{low} % below to {high} % above"

    @property
    def known_words(self) -> str:
        """Where the number comes from, in a sentence or two."""
        if self.basis == "measured":
            return "Measured here by the dry run."
        return f"Reckoned, not measured here. {self.known}"


def estimate(
    family: str,
    settings: TrainingSettings,
    shown_per_bucket: list[int],
    *,
    seconds_per_step: float | None = None,
    peak_bytes: int | None = None,
    overhead_seconds: float = 15.0,
    device: str = "cuda",
    file: Look | BaseFile | None = None,
) -> Estimate:
    """Forecast a run.

    shown_per_bucket: as in `plan_steps`.
    seconds_per_step, peak_bytes: what a dry run measured with these settings, when there was one.
    overhead_seconds: starting, loading and caching, before the first step.
    device: where it is to run, as `studio.machine` names it.
    file: what the base model's own file is, where it is here (see `file_of`); else the original of its family is reckoned with.
    Raises KeyError for a family it does not know.
    """
    if settings.backend == RENTED:
        return _rented(settings, shown_per_bucket, seconds_per_step, overhead_seconds)
    own = file if file is not None else BaseFile()
    small = isinstance(own, BaseFile) and own.small_t5
    conditions = vram.conditions(family, settings, device, inner=own.inner, blocks=own.blocks, small_t5=small)
    told = vram.forecast(conditions)
    steps = plan_steps(shown_per_bucket, settings)
    total = peak_bytes or told.total
    # LoRA files are written at 16 bit after mixed precision.
    lora = told.trained * conditions.computed
    kept = math.ceil(steps.epochs / settings.save_every_epochs) if steps.epochs else 1
    if settings.keep_checkpoints:
        kept = min(kept, settings.keep_checkpoints)
    # Two states exist for a moment while the newer replaces the older.
    state = int(told.trained * (4 + STATE[settings.optimizer])) * 2
    megapixels = conditions.megapixels
    cache = int(steps.pictures_per_epoch / max(1, settings.repeats) * megapixels * 1024**2 / 64 * 4 * 4)
    samples = (
        (steps.epochs // settings.sample_every_epochs if settings.sample_every_epochs else 0)
        * 2
        * int(megapixels * 1.6e6 + 20_000)
    )
    return Estimate(
        steps=steps,
        terms=told.terms,
        memory_bytes=total,
        memory_low=int(total * (1 - MEASURED_BAND)) if peak_bytes else told.low,
        memory_high=int(total * (1 + MEASURED_BAND)) if peak_bytes else told.high,
        seconds=None if seconds_per_step is None else overhead_seconds + seconds_per_step * steps.total_steps,
        disk_bytes=lora * (kept + 1) + state + cache + samples,
        lora_bytes=lora,
        basis="measured" if seconds_per_step is not None else "estimated",
        phases=told.phases,
        known=told.known,
        refused=tuple(vram.refusals(conditions)),
        steps_bytes=total if peak_bytes else told.steps,
        text_bytes=0 if peak_bytes else told.reading,
        small_t5=small,
        helps=_helps(conditions),
    )


_SMALL_SIDE, _SMALL_RANK = 512, 8
"""Below these, less saves little memory and costs much of what is learned."""


def _helps(c: vram.Conditions) -> tuple[str, ...]:
    """What takes less memory and is not done yet, what costs the result least first; a smaller base model at last."""
    shape = sized(c.family, c.inner, c.blocks).shape
    most = shape.swap_limit if isinstance(shape, Transformer) and c.device == "cuda" else 0
    told = (
        ("Set the precision to half (bf16 or fp16).", c.computed == 4 and c.family != "pocket"),
        ("Turn on gradient checkpointing.", not c.checkpointing),
        (f"Swap more blocks, up to {most}.", c.swapped < most),
        ("Lower the resolution.", min(c.width, c.height) > _SMALL_SIDE),
        ("Lower the rank.", c.rank > _SMALL_RANK),
        ("Choose a smaller base model.", True),
    )
    return tuple(words for words, so in told if so)


def file_of(entry: BaseModelEntry, workspace: Workspace) -> BaseFile | None:
    """What a base model's files are, from their headers; None when it is not here, is a folder, or cannot be read."""
    if entry.format != "checkpoint":
        return None
    try:
        own = look(entry.main_place(workspace))
    except StudioError:
        return None
    return BaseFile(own.inner, own.blocks, _is_fp8(entry.part_paths(workspace).get("t5xxl")))


def _is_fp8(path: Path | None) -> bool:
    try:
        return path is not None and look(path).precision.startswith("F8")
    except StudioError:
        return False


def _rented(
    settings: TrainingSettings,
    shown_per_bucket: list[int],
    seconds_per_step: float | None,
    overhead_seconds: float,
) -> Estimate:
    """Forecast of a run that only waits here: no memory, and room for the packed dataset and one LoRA."""
    steps = plan_steps(shown_per_bucket, settings)
    lora = settings.rank * RENTED_LORA_BYTES_PER_RANK
    return Estimate(
        steps=steps,
        terms={},
        memory_bytes=0,
        memory_low=0,
        memory_high=0,
        seconds=None if seconds_per_step is None else overhead_seconds + seconds_per_step * steps.total_steps,
        disk_bytes=100_000_000 + 3 * lora,
        lora_bytes=lora,
        basis="estimated",
    )


def fitting_batch(
    family: str,
    settings: TrainingSettings,
    shown_per_bucket: list[int],
    available_bytes: int,
    *,
    device: str = "cuda",
    file: Look | BaseFile | None = None,
) -> int:
    """The largest batch size, halving from the chosen one, that fits with the margin; 0 when even 1 does not."""
    batch = settings.batch_size
    while batch >= 1:
        trial = settings.model_copy(update={"batch_size": batch})
        if estimate(family, trial, shown_per_bucket, device=device, file=file).fits(available_bytes):
            return batch
        batch //= 2
    return 0
