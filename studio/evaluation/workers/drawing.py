"""Drawing cells with diffusers: embeddings once, noise of a seed the same for each weight, batches."""

from __future__ import annotations

import gc
import threading
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import diffusers
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from PIL import Image

from studio.errors import StudioError
from studio.evaluation.spec import Cell, GridSpec
from studio.evaluation.workers.lora import Lora
from studio.training.lora_keys import Part
from studio.training.workers import base_model

# Schedulers that add no noise on the way: a picture then depends on its own noise only, not on the batch around it.
_QUIET = {
    "DDIMScheduler",
    "PNDMScheduler",
    "EulerDiscreteScheduler",
    "DPMSolverMultistepScheduler",
    "UniPCMultistepScheduler",
    "LMSDiscreteScheduler",
    "HeunDiscreteScheduler",
}


@dataclass(frozen=True)
class Embedding:
    """Text for one cell, on the CPU. hidden, unsaid: (1, tokens, width) for the prompt and the negative one; pooled ones for
    SDXL, else None."""

    hidden: torch.Tensor
    unsaid: torch.Tensor
    pooled: torch.Tensor | None = None
    pooled_unsaid: torch.Tensor | None = None


class NotFinite(StudioError):
    """A picture came out as not-a-number."""


def pick_device() -> torch.device:
    """The graphics card when there is one, else the processor."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


class _LeftError(Exception):
    """A lane ended because another one did."""


class Drawer:
    """A base model ready to draw the cells of a grid.

    batch: most cells drawn together, in `lanes` side by side. mixed: whether cells of different weights share a batch (per-sample scale).
    """

    def __init__(self, spec: GridSpec, device: torch.device | None = None) -> None:
        self.spec = spec
        self.device = device or pick_device()
        self.dtype = (
            torch.float16 if self.device.type == "cuda" and spec.family != "pocket" else torch.float32
        )
        self.base = base_model.load_base(
            spec.base_path, spec.family, spec.prediction, self.dtype, spec.base_model
        )
        self.pipe: Any = _pipeline(self.base, spec)
        self.pipe.to(self.device)
        self.base.vae.to(self.device)
        # Convolutions read channels-last faster on a card, and on a processor too (measured: a tenth).
        self.base.unet.to(memory_format=torch.channels_last)
        self.lanes = lane_count(spec, self.device)
        self.batch = batch_limit(spec, self.device) * self.lanes
        self._embedded: dict[tuple[str, float, str], Embedding] = {}
        self._lora: Lora | None = None
        self._key = ""

    @property
    def models(self) -> dict[Part, Any]:
        """The parts that a LoRA may adapt."""
        found: dict[Part, Any] = {"unet": self.base.unet, "text_encoder": self.base.text_encoders[0]}
        if len(self.base.text_encoders) > 1:
            found["text_encoder_2"] = self.base.text_encoders[1]
        return found

    def use(self, lora: Lora | None, key: str = "") -> None:
        """Draw with this LoRA from now on; the one before leaves no trace. key: tells LoRAs apart."""
        if self._lora is not None:
            self._lora.release()
            gc.collect()
        self._lora, self._key = lora, key

    def mixed(self, cells: Sequence[Cell]) -> bool:
        """Whether these cells are drawn faster with a scale per sample. On a processor a merged batch is as fast as the base
        model itself (measured: benchmarks/grid.py); a graphics card wants full batches."""
        if self._lora is None or self.device.type != "cuda":
            return False
        per_weight = len(cells) / max(1, len({c.weight for c in cells}))
        return per_weight < self.batch

    def embed(self, cells: Sequence[Cell]) -> None:
        """Encode what the cells say and has not been encoded yet, once a text and text-encoder weight."""
        wanted: dict[float, list[str]] = {}
        for cell in cells:
            key = self._text_key(cell)
            if key not in self._embedded and cell.prompt.text not in wanted.setdefault(key[1], []):
                wanted[key[1]].append(cell.prompt.text)
        for weight, texts in wanted.items():
            if not texts:
                continue
            self._merge_text(weight)
            try:
                for text, embedding in zip(texts, self._encode(texts), strict=True):
                    key = (self._key if weight else "", weight, text)
                    self._embedded[key] = embedding
            finally:
                self._merge_text(0.0)

    def draw(
        self, cells: Sequence[Cell], tick: Callable[[int], None] | None = None
    ) -> list[Image.Image | NotFinite]:
        """The pictures of the cells, in order; NotFinite in place of one that came out as not-a-number.

        tick: called after each step with its number; may raise to leave early.
        """
        with warnings.catch_warnings():
            # What the library wants to change in itself later is nothing that a user can act on. Set here and not where
            # it is called: filters belong to the whole process, and lanes would put each other's back.
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", FutureWarning)
            return self._draw(cells, tick)

    def _draw(
        self, cells: Sequence[Cell], tick: Callable[[int], None] | None
    ) -> list[Image.Image | NotFinite]:
        self.embed(cells)
        weights = {c.weight for c in cells}
        told = [self._embedded[self._text_key(c)] for c in cells]
        latents = torch.cat([self.noise(c.seed) for c in cells])
        if self._lora is None or weights == {0.0}:
            if self._lora is not None:
                self._lora.merge(0.0, "unet")
            return self._side_by_side(told, latents, tick)
        if len(weights) == 1:
            self._lora.merge(next(iter(weights)), "unet")
            return self._side_by_side(told, latents, tick)
        self._lora.merge(0.0, "unet")
        scales = torch.tensor([c.weight for c in cells])
        guided = torch.cat([scales, scales]) if self._guided else scales
        with self._lora.per_sample(guided):
            return self._sample(told, latents, tick)

    def noise(self, seed: int) -> torch.Tensor:
        """The seed's starting noise (1, C, h, w): the same on every device and for every weight."""
        factor = self.base.pixel_factor
        shape = (1, self.base.unet.config.in_channels, self.spec.height // factor, self.spec.width // factor)
        return torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed), dtype=torch.float32)

    @property
    def _guided(self) -> bool:
        return self.spec.guidance > 1

    def _text_key(self, cell: Cell) -> tuple[str, float, str]:
        bends = self._lora is not None and self._lora.touches_text
        weight = cell.weight if bends else 0.0
        return (self._key if weight else "", weight, cell.prompt.text)

    def _merge_text(self, weight: float) -> None:
        if self._lora is not None:
            for part in ("text_encoder", "text_encoder_2"):
                self._lora.merge(weight, part)

    @torch.inference_mode()
    def _encode(self, texts: list[str]) -> list[Embedding]:
        spec = self.spec
        common: dict[str, Any] = {
            "device": self.device,
            "num_images_per_prompt": 1,
            "do_classifier_free_guidance": True,
            "negative_prompt": [spec.negative] * len(texts),
        }
        if spec.family == "sdxl":
            # SDXL reads the layer before the last already: what people call clip skip 2 is its default.
            skip = spec.clip_skip - 2 if spec.clip_skip > 2 else None
            hidden, unsaid, pooled, pooled_unsaid = self.pipe.encode_prompt(texts, clip_skip=skip, **common)
            rows = [t.to("cpu").split(1) for t in (hidden, unsaid, pooled, pooled_unsaid)]
            return [Embedding(*row) for row in zip(*rows, strict=True)]
        skip = spec.clip_skip - 1 or None
        hidden, unsaid = self.pipe.encode_prompt(texts, clip_skip=skip, **common)
        return [
            Embedding(h, u) for h, u in zip(hidden.to("cpu").split(1), unsaid.to("cpu").split(1), strict=True)
        ]

    def _side_by_side(
        self, told: list[Embedding], latents: torch.Tensor, tick: Callable[[int], None] | None
    ) -> list[Image.Image | NotFinite]:
        """Sample in lanes: each draws its share of the cells on one processor core.

        An operation on a picture this small is over before a second core has been woken for it, and all wait for the
        slowest core after each one. Lanes only meet at the end.
        """
        lanes = min(self.lanes, len(told))
        if lanes < 2:
            return self._sample(told, latents, tick)
        threads, over = torch.get_num_threads(), threading.Event()
        steps, lock = [0] * lanes, threading.Lock()

        def draw(lane: int) -> list[Image.Image | NotFinite]:
            torch.set_num_threads(1)

            def after(step: int) -> None:
                if over.is_set():
                    raise _LeftError
                with lock:
                    before = min(steps)
                    steps[lane] = step
                    if tick is not None and min(steps) > before:
                        tick(min(steps))

            first, last = lane * len(told) // lanes, (lane + 1) * len(told) // lanes
            try:
                return self._sample(told[first:last], latents[first:last], after)
            except BaseException:
                over.set()
                raise

        try:
            with ThreadPoolExecutor(lanes, "lane") as pool:
                waiting = [pool.submit(draw, lane) for lane in range(lanes)]
            # One lane's error ends the others; theirs then only says that they were ended.
            faults = [e for f in waiting if (e := f.exception()) is not None]
            for fault in sorted(faults, key=lambda e: isinstance(e, _LeftError)):
                raise fault
            return [picture for f in waiting for picture in f.result()]
        finally:
            torch.set_num_threads(threads)

    @torch.inference_mode()
    def _sample(
        self, told: list[Embedding], latents: torch.Tensor, tick: Callable[[int], None] | None
    ) -> list[Image.Image | NotFinite]:
        spec = self.spec
        pipe = _pipeline(self.base, spec)  # its own counters and sampler, the same models
        pipe.set_progress_bar_config(disable=True)

        def after(_pipe: Any, step: int, _time: Any, values: dict[str, Any]) -> dict[str, Any]:
            if tick is not None:
                tick(step + 1)
            return values

        def stack(rows: list[torch.Tensor | None]) -> torch.Tensor:
            return torch.cat([r for r in rows if r is not None]).to(self.device, self.dtype)

        words: dict[str, Any] = {"prompt_embeds": stack([t.hidden for t in told])}
        if self._guided:
            words["negative_prompt_embeds"] = stack([t.unsaid for t in told])
        if spec.family == "sdxl":
            words["pooled_prompt_embeds"] = stack([t.pooled for t in told])
            if self._guided:
                words["negative_pooled_prompt_embeds"] = stack([t.pooled_unsaid for t in told])
        drawn = pipe(
            **words,
            latents=latents.to(self.device, self.dtype),
            num_inference_steps=spec.steps,
            guidance_scale=spec.guidance,
            height=spec.height,
            width=spec.width,
            output_type="latent",
            callback_on_step_end=after,
            callback_on_step_end_tensor_inputs=["latents"],
        ).images
        pictures: list[Image.Image | NotFinite] = []
        # Decoding one by one keeps the peak of memory low; it is a small part of the time.
        chunk = 16 if spec.family == "pocket" else 1
        for part in drawn.split(chunk):
            pictures += self._decode(part)
        return pictures

    def _decode(self, latents: torch.Tensor) -> list[Image.Image | NotFinite]:
        vae = self.base.vae
        pixels = vae.decode(latents.to(torch.float32) / vae.config.scaling_factor, return_dict=False)[0]
        whole = torch.isfinite(pixels).flatten(1).all(dim=1).tolist()
        shown = self.pipe.image_processor.postprocess(torch.nan_to_num(pixels), output_type="pil")
        return [
            picture
            if fine
            else NotFinite(
                "The picture came out as not-a-number.",
                "The numbers grew beyond what the model can hold, often because the LoRA is overdone at this weight.",
                "Use a lower weight or an earlier checkpoint.",
            )
            for picture, fine in zip(shown, whole, strict=True)
        ]


def lane_count(spec: GridSpec, device: torch.device) -> int:
    """How many cores draw cells side by side: all that PyTorch would use, on a processor while pictures are small.
    Larger ones keep all cores busy within one operation."""
    if device.type != "cpu" or spec.width * spec.height > 128 * 128:
        return 1
    return max(1, min(16, torch.get_num_threads()))


def batch_limit(spec: GridSpec, device: torch.device) -> int:
    """Most cells to draw together in one lane, from the size of the pictures and the memory of the device.

    A processor gains from batches only while a picture is small (measured: benchmarks/grid.py); on a card a cell takes
    about 1.2 GB (SD1.5 at 512) or 3.5 GB (SDXL at 1024) of working memory with guidance. When a batch does not fit after
    all, the worker halves it.
    """
    pixels = spec.width * spec.height
    if device.type != "cuda":
        return max(1, min(12, 12 * 64 * 64 // pixels))
    free, _total = torch.cuda.mem_get_info()
    per_cell = {"sdxl": 3.5e9 * pixels / 1024**2, "sd15": 1.2e9 * pixels / 512**2}.get(spec.family, 2e7)
    return max(1, min(64, int(free * 0.6 / per_cell)))


def _pipeline(base: base_model.BaseModel, spec: GridSpec) -> Any:
    parts: dict[str, Any] = {
        "vae": base.vae,
        "unet": base.unet,
        "tokenizer": base.tokenizers[0],
        "text_encoder": base.text_encoders[0],
        "scheduler": scheduler(spec.sampler, base.scheduler_config),
    }
    if base.is_sdxl:
        return StableDiffusionXLPipeline(
            **parts,
            tokenizer_2=base.tokenizers[1],
            text_encoder_2=base.text_encoders[1],
            add_watermarker=False,
        )
    return StableDiffusionPipeline(
        **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )


def scheduler(sampler: str, config: dict[str, Any]) -> Any:
    """The sampler by its name in the spec, with the base model's noise levels."""
    own = str(config.get("_class_name", ""))
    names = {
        "model": own if own in _QUIET else "DDIMScheduler",
        "ddim": "DDIMScheduler",
        "euler": "EulerDiscreteScheduler",
        "dpmpp_2m": "DPMSolverMultistepScheduler",
    }
    extra: dict[str, Any] = {"use_karras_sigmas": True} if sampler == "dpmpp_2m" else {}
    if names[sampler] != own:
        # Settings of another scheduler that mean something else here.
        config = {k: v for k, v in config.items() if k not in ("skip_prk_steps", "set_alpha_to_one")}
    return getattr(diffusers, names[sampler]).from_config(config, **extra)
