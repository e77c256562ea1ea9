"""What a run will take before anything is spent: steps, memory, time, disk.

The memory model is a sum of terms, each shown to the user: weights + adapters + optimizer + activations (+ overhead).
Figures and their origin: parameter counts and activation slopes as printed by public runs of the same geometries (SD1.5 UNet
859.52 M parameters, SDXL UNet 2,567.5 M; activations per megapixel SDXL 0.16 + 1.59 GiB with gradient checkpointing,
0.48 + 7.8 without; SD1.5 1.4 with, 5.0 without). Stated error: SDXL -40 / +15 %, SD1.5 +-25 %; without checkpointing
the error is larger, so the estimate only warns there. After a dry run its measured figures replace these.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from studio.settings import TrainingSettings

GIB = 2**30
MARGIN = 0.20  # Share of memory that stays free; a desktop, a browser and fragmentation need it.


@dataclass(frozen=True)
class _Geometry:
    """Parameter counts; adapter parameters per unit of rank (attention only, attention + feed-forward, text encoders);
    activations in GiB as (fixed, per megapixel and picture) with and without checkpointing; error band (low, high)."""

    unet: float
    text: float
    vae: float
    rank_attention: float
    rank_all: float
    rank_text: float
    act_saved: tuple[float, float]
    act_full: tuple[float, float]
    band: tuple[float, float]


_GEOMETRY: dict[str, _Geometry] = {
    # Pocket: 0.7 GB in all was measured for batch 8 at 64 px on a CPU; the slopes spread that figure.
    "pocket": _Geometry(8.89e6, 1.23e6, 0.65e6, 12_000, 26_000, 12_000, (0.05, 4.0), (0.05, 8.0), (0.3, 0.3)),
    "sd15": _Geometry(
        859.52e6,
        123.06e6,
        83.65e6,
        199_296,
        423_936,
        165_888,
        (0.0, 1.4),
        (0.0, 5.0),
        (0.25, 0.25),
    ),
    "sdxl": _Geometry(
        2567.5e6, 817.8e6, 83.65e6, 1_451_520, 2_659_840, 903_168, (0.16, 1.59), (0.48, 7.8), (0.40, 0.15)
    ),
}
# Bytes of optimizer state for each trained parameter, 32-bit states unless the name says 8 bit.
_STATE_BYTES = {"adamw": 8, "adamw8bit": 2, "prodigy": 16, "lion": 4, "adafactor": 1}


# Families that are only trained on rented computers; bytes of their LoRA files for each rank (half precision, all linear
# layers of the two transformers; about 6 to 11 million bytes).
RENTED = frozenset({"sd35", "flux"})
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

    terms:        memory in bytes by part, in words.
    memory_bytes: their sum; memory_low / memory_high: the error band around it.
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

    def fits(self, available_bytes: int) -> bool:
        """Whether it fits into `available_bytes` with the margin left free."""
        return self.memory_bytes <= available_bytes * (1 - MARGIN)


def estimate(
    family: str,
    settings: TrainingSettings,
    shown_per_bucket: list[int],
    *,
    seconds_per_step: float | None = None,
    peak_bytes: int | None = None,
    overhead_seconds: float = 15.0,
) -> Estimate:
    """Forecast a run.

    shown_per_bucket: as in `plan_steps`.
    seconds_per_step, peak_bytes: what a dry run measured with these settings, when there was one.
    overhead_seconds: starting, loading and caching, before the first step.
    Raises KeyError for a family it does not know.
    """
    if family in RENTED:
        return _rented(settings, shown_per_bucket, seconds_per_step, overhead_seconds)
    g = _GEOMETRY[family]
    steps = plan_steps(shown_per_bucket, settings)
    weight_bytes = 4 if settings.precision == "no" else 2
    trained = settings.rank * (g.rank_all if settings.targets == "attention+ff" else g.rank_attention)
    if settings.train_text_encoder:
        trained += settings.rank * g.rank_text
    keep_text = settings.train_text_encoder or not settings.cache_text_embeddings or settings.shuffle_captions
    resident = g.unet + (g.text if keep_text else 0) + (g.vae if not settings.cache_latents else 0)
    fixed, slope = g.act_saved if settings.gradient_checkpointing else g.act_full
    megapixels = settings.resolution**2 / 1024**2
    activations = (fixed + slope * megapixels * settings.batch_size) * GIB * (weight_bytes / 2)
    terms = {
        "Base model": int(resident * weight_bytes),
        "LoRA and its gradients": int(trained * 8),
        "Optimizer": int(trained * _STATE_BYTES[settings.optimizer]),
        "Pictures being learned": int(activations),
        "Python and PyTorch": int(0.45 * GIB),
    }
    total = peak_bytes or sum(terms.values())
    low, high = (0.05, 0.05) if peak_bytes else g.band
    lora = int(trained * 4)
    kept = math.ceil(steps.epochs / settings.save_every_epochs) if steps.epochs else 1
    if settings.keep_checkpoints:
        kept = min(kept, settings.keep_checkpoints)
    # Two states exist for a moment while the newer replaces the older.
    state = int(trained * (4 + _STATE_BYTES[settings.optimizer])) * 2
    cache = int(steps.pictures_per_epoch / max(1, settings.repeats) * megapixels * 1024**2 / 64 * 4 * 4)
    samples = (
        (steps.epochs // settings.sample_every_epochs if settings.sample_every_epochs else 0)
        * 2
        * int(megapixels * 1.6e6 + 20_000)
    )
    return Estimate(
        steps=steps,
        terms=terms,
        memory_bytes=total,
        memory_low=int(total * (1 - low)),
        memory_high=int(total * (1 + high)),
        seconds=None if seconds_per_step is None else overhead_seconds + seconds_per_step * steps.total_steps,
        disk_bytes=lora * (kept + 1) + state + cache + samples,
        lora_bytes=lora,
        basis="measured" if seconds_per_step is not None else "estimated",
    )


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
    family: str, settings: TrainingSettings, shown_per_bucket: list[int], available_bytes: int
) -> int:
    """The largest batch size, halving from the chosen one, that fits with the margin; 0 when even 1 does not."""
    batch = settings.batch_size
    while batch >= 1:
        trial = settings.model_copy(update={"batch_size": batch})
        if estimate(family, trial, shown_per_bucket).fits(available_bytes):
            return batch
        batch //= 2
    return 0
