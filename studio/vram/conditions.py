"""What decides the memory of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from studio.settings import TrainingSettings

# Bytes for each parameter of the frozen base model; nf4 has 4 bits and one 32 bit scale for each 64 values.
STORED: dict[str, float] = {"fp32": 4, "16": 2, "fp8": 1, "int8": 1.02, "nf4": 0.5625}
# Bytes of optimizer state for each trained parameter, beside the parameter and its gradient, which take 4 each (2 each when
# the adapters are 16 bit). Measured: the slope of AdamW, 17.6 bytes in all where 16 are reckoned. The others follow from
# what the optimizers keep. Adafactor keeps next to nothing, but makes one full update at a time.
STATE: dict[str, float] = {"adamw": 8, "adamw8bit": 2, "lion": 4, "lion8bit": 1, "prodigy": 16, "adafactor": 4, "adamw_bf16": 6}  # fmt: skip


@dataclass(frozen=True)
class Conditions:
    """One run.

    family:      as in `studio.vram.families`.
    width, height: of the pictures in pixels. batch: pictures at once.
    teach_text, teach_t5: whether the text encoders get adapters, and T5 among them.
    trained:     None: adapters of `rank` over the family's layers; else the count of trained parameters.
    stored:      how the base model lies in memory ("fp32", "16", "fp8", "int8", "nf4").
    computed:    bytes of a value in the computation, 4 or 2.
    adapters:    bytes of an adapter's value, 4 or 2.
    checkpointing: gradient checkpointing; offloaded: what it keeps waits in the computer's memory.
    swapped:     transformer blocks that wait in the computer's memory.
    linear_only: only linear layers are stored smaller, as other trainers than sd-scripts do it.
    text_before: captions were read before, in a process of their own.
    text_small: the T5 is held as fp8 too, as sd-scripts does with an fp8 base model.
    text_kept, vae_kept: whether the text encoders and the VAE stay in memory during the steps. A CLIP that is taught stays in
                 any case.
    whole_first: the base model comes to the card whole and is made smaller there, as some other trainers do it.
    efficient:   attention that keeps no score matrices (sdpa, xformers, flash).
    sampling:    whether samples are drawn on the way.
    device:      "cuda", "mps" or "cpu"; on the last the memory is the computer's own.
    resident:    text encoders and VAE stay in memory in any case: on a CPU, sd-scripts moves them nowhere else.
    inner, blocks: what the base model's own file was counted to have (see `families.sized`); 0 and () for the original.
    """

    family: str
    width: int
    height: int
    batch: int = 1
    rank: int = 16
    trained: float | None = None
    targets: Literal["attention", "attention+ff"] = "attention+ff"
    teach_text: bool = False
    teach_t5: bool = False
    stored: str = "16"
    computed: int = 2
    adapters: int = 4
    optimizer: str = "adamw"
    checkpointing: bool = True
    offloaded: bool = False
    swapped: int = 0
    linear_only: bool = False
    text_before: bool = False
    text_small: bool = False
    text_read_small: bool = False
    text_kept: bool = False
    vae_kept: bool = False
    whole_first: bool = False
    efficient: bool = True
    sampling: bool = False
    device: str = "cuda"
    resident: bool = False
    inner: int = 0
    blocks: tuple[int, ...] = ()

    @property
    def megapixels(self) -> float:
        return self.width * self.height / 1024**2


def _switched_on(settings: TrainingSettings) -> frozenset[str]:
    """Names of the further options that are switches and on; only kohya's scripts read them."""
    if settings.backend != "kohya":
        return frozenset()
    told = (line.partition("=") for line in settings.extra_options)
    return frozenset(name.strip() for name, _, value in told if value.strip().lower() in ("", "true"))


def _t5_taught(family: str, settings: TrainingSettings) -> bool:
    flow = settings.backend == "kohya" and family in ("sd35", "flux")
    return flow and settings.train_text_encoder and settings.train_t5


def _text_cached(family: str, settings: TrainingSettings) -> bool:
    """Whether captions are read once, before the steps, so that what reads them can leave the card. sd-scripts keeps what T5
    says even while CLIP is taught, and keeps nothing of captions that are left out now and then."""
    taught = settings.train_text_encoder
    if settings.backend == "kohya":
        if settings.caption_dropout:
            return False
        if family in ("sd35", "flux"):
            taught = _t5_taught(family, settings)
    return settings.cache_text_embeddings and not taught and not settings.shuffle_captions


def conditions(
    family: str,
    settings: TrainingSettings,
    device: str = "cuda",
    *,
    inner: int = 0,
    blocks: tuple[int, ...] = (),
    small_t5: bool = False,
) -> Conditions:
    """The conditions that settings mean. Settings that not every version has count as off where they are missing.

    small_t5: the file of T5 is fp8.
    """

    def told(name: str, default: object) -> object:
        return getattr(settings, name, default)

    computed = 4 if settings.precision == "no" else 2
    stored = "fp8" if told("fp8_base", False) else "fp32" if computed == 4 else "16"
    extra = _switched_on(settings)
    full_half = bool({"full_bf16", "full_fp16"} & extra)
    return Conditions(
        family=family,
        width=settings.resolution,
        height=settings.resolution,
        batch=settings.batch_size,
        rank=settings.rank,
        targets=settings.targets,
        teach_text=settings.train_text_encoder,
        teach_t5=_t5_taught(family, settings),
        stored=stored,
        computed=computed,
        adapters=2 if full_half and computed == 2 else 4,
        optimizer=settings.optimizer,
        checkpointing=settings.gradient_checkpointing,
        offloaded="cpu_offload_checkpointing" in extra,
        swapped=int(str(told("blocks_to_swap", 0) or 0)),
        text_small=stored == "fp8",
        text_read_small=small_t5 and stored == "fp8",
        text_kept=not _text_cached(family, settings),
        vae_kept=not settings.cache_latents,
        efficient=told("attention", "sdpa") != "none",
        sampling=bool(settings.sample_every_epochs) and family != "pocket",
        device=device,
        resident=device == "cpu" and settings.backend == "kohya",
        inner=inner,
        blocks=blocks,
    )
