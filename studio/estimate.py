"""What a run will take before anything is spent: steps, memory, time, disk.

The memory is `studio.vram`'s: a sum of terms, each shown to the user, with an error band for each family. After a dry run its
measured figures replace the forecast.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from studio import vram
from studio.errors import StudioError
from studio.findings import Finding
from studio.modelfiles.kinds import Look, look
from studio.models import BaseModelEntry
from studio.settings import TrainingSettings
from studio.vram import GIB, MARGIN
from studio.vram.conditions import STATE
from studio.workspace import Workspace

__all__ = ["GIB", "MARGIN", "Estimate", "StepPlan", "estimate", "file_of", "fitting_batch", "plan_steps"]

# A measured peak moves this much between two runs of the same settings.
MEASURED_BAND = 0.05
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
class Estimate:
    """Forecast of a run.

    terms:        memory in bytes by part, in words, during a step.
    phases:       memory in bytes by phase; the fullest decides.
    memory_bytes: what has to fit; memory_low / memory_high: the error band around it.
    known:        what the band rests on, in words.
    refused:      combinations of settings that cannot work or that cost more than they save.
    seconds:      time of the run, None while nothing was measured on this computer.
    disk_bytes:   checkpoints, states and samples.
    basis:        "measured" after a dry run, else "estimated".
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

    def fits(self, available_bytes: int) -> bool:
        """Whether it fits into `available_bytes` with the margin left free."""
        return self.memory_bytes <= available_bytes * (1 - MARGIN)

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
    file: Look | None = None,
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
    known = (file.inner, file.blocks) if file is not None else (0, ())
    conditions = vram.conditions(family, settings, device, inner=known[0], blocks=known[1])
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
    )


def file_of(entry: BaseModelEntry, workspace: Workspace) -> Look | None:
    """What the file of a base model is, from its header; None when it is not here, is a folder, or cannot be read."""
    if entry.format != "checkpoint":
        return None
    try:
        return look(entry.main_place(workspace))
    except StudioError:
        return None


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
    file: Look | None = None,
) -> int:
    """The largest batch size, halving from the chosen one, that fits with the margin; 0 when even 1 does not."""
    batch = settings.batch_size
    while batch >= 1:
        trial = settings.model_copy(update={"batch_size": batch})
        if estimate(family, trial, shown_per_bucket, device=device, file=file).fits(available_bytes):
            return batch
        batch //= 2
    return 0
