"""Everything before the first step: pictures, base model, caches, adapters, optimizer."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel

from studio.errors import InputError
from studio.estimate import StepPlan, plan_steps
from studio.jobs.lifeline import Worker
from studio.settings import TrainingSettings
from studio.training.base import TrainingPlan
from studio.training.diffusers import threads
from studio.training.workers.base_model import BaseModel, load
from studio.training.workers.captions import TextReader
from studio.training.workers.network import Network, attach
from studio.training.workers.optim import make_optimizer, make_scheduler
from studio.training.workers.pictures import Item, Latents, into_buckets, read_items, shown_counts

EMA_DECAY = 0.995  # looks back over about the last 200 steps
MAX_SAMPLES = 4
DTYPES = {"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass
class Setup:
    """A run that is ready for its first step.

    items, buckets: the pictures, and their numbers by bucket, the largest bucket first.
    steps, total:   the step plan, and how many steps this run makes of it (fewer in a dry run).
    dtype:          number format of the base model; the adapters are always 32 bit.
    alphas:         share of signal left at each noise level, on the device.
    optimizer:      accelerate's wrapper of `raw_optimizer`, which scales fp16 gradients.
    average:        running average of the adapters, when the settings ask for one.
    prompts:        what samples show; [] when none are drawn.
    """

    plan: TrainingPlan
    accelerator: Accelerator
    device: torch.device
    dtype: torch.dtype
    items: list[Item]
    buckets: list[list[int]]
    steps: StepPlan
    total: int
    base: BaseModel
    latents: Latents
    reader: TextReader
    prompts: list[str]
    network: Network
    parameters: list[torch.nn.Parameter]
    raw_optimizer: torch.optim.Optimizer
    optimizer: Any
    scheduler: Any
    average: EMAModel | None
    alphas: torch.Tensor

    @property
    def settings(self) -> TrainingSettings:
        return self.plan.settings

    def autocast(self) -> AbstractContextManager[Any]:
        """Mixed precision for what runs inside; nothing at full precision."""
        return self.accelerator.autocast()

    def with_average(self, action: Callable[[], Any]) -> Any:
        """Do something with the running average in place of the weights, when there is one."""
        if self.average is None:
            return action()
        self.average.store(self.parameters)
        self.average.copy_to(self.parameters)
        try:
            return action()
        finally:
            self.average.restore(self.parameters)


class Stages:
    """Says which stage the job is in; stops it between two pictures when it was asked to."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._message = ""

    def enter(self, name: str, message: str) -> None:
        """Begin a stage."""
        self._worker.check()
        self._message = message
        self._worker.emit("stage", name=name, message=message)
        self._worker.progress(0, None, "", message, stage=name)

    def pictures(self, name: str, done: int, total: int) -> None:
        """`done` of `total` pictures of the stage are through."""
        self._worker.check()
        self._worker.progress(done, total, "pictures", self._message, stage=name)


def prepare(plan: TrainingPlan, stages: Stages) -> Setup:
    """Get a plan ready. Raises StudioError for pictures, a base model or an optimizer that cannot be used."""
    s = plan.settings
    accelerator = _accelerator(s)
    device, dtype = accelerator.device, DTYPES[s.precision]

    stages.enter("pictures", "Opening the pictures")
    items = read_items(plan, lambda n: stages.pictures("pictures", n, len(plan.pictures)))
    buckets = into_buckets(items)
    steps = plan_steps(shown_counts(buckets, items), s)

    stages.enter("model", f"Loading {plan.model_title or 'the base model'}")
    base = load(plan, dtype)
    _check_sizes(base, items)
    latents = _latents(plan, base, items, device, stages)
    prompts = [] if plan.limit_steps or not s.sample_every_epochs else list(plan.prompts[:MAX_SAMPLES])
    reader = _reader(base, s, items, prompts, device, stages)
    if device.type == "cuda":
        torch.cuda.empty_cache()

    network = attach(base, s, seed=s.seed)
    for model in network.models.values():
        model.to(device)
    network.fuse()
    if s.gradient_checkpointing:
        base.unet.enable_gradient_checkpointing()
        for encoder in base.text_encoders:
            encoder.gradient_checkpointing_enable({"use_reentrant": False})
    parameters = network.parameters()
    optimizer = make_optimizer(network, s, device)
    return Setup(
        plan=plan,
        accelerator=accelerator,
        device=device,
        dtype=dtype,
        items=items,
        buckets=buckets,
        steps=steps,
        total=min(steps.total_steps, plan.limit_steps or steps.total_steps),
        base=base,
        latents=latents,
        reader=reader,
        prompts=prompts,
        network=network,
        parameters=parameters,
        raw_optimizer=optimizer,
        optimizer=accelerator.prepare_optimizer(optimizer),
        # The schedule spans the whole run also in a dry run, whose few steps are then the run's first ones.
        scheduler=make_scheduler(optimizer, s, steps.total_steps),
        average=EMAModel(parameters, decay=EMA_DECAY) if s.ema else None,
        alphas=base.alphas_cumprod.to(device),
    )


def _accelerator(settings: TrainingSettings) -> Accelerator:
    # `accelerate launch` puts the number of threads it was told here.
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or threads()))
    accelerator = Accelerator(mixed_precision=settings.precision)
    if accelerator.device.type == "cuda":  # a CPU repeats itself anyway
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        torch.backends.cudnn.benchmark = False
        torch.cuda.reset_peak_memory_stats()
    return accelerator


def _check_sizes(base: BaseModel, items: list[Item]) -> None:
    factor = base.pixel_factor
    odd = [i for i in items if i.placement.bucket[0] % factor or i.placement.bucket[1] % factor]
    if odd:
        width, height = odd[0].placement.bucket
        raise InputError(
            f"{len(odd)} pictures fall into a bucket that the base model cannot hold, first {odd[0].path.name}.",
            f"Sides have to be multiples of {factor} pixels; this bucket is {width} x {height}.",
            f"Set resolution and bucket step to multiples of {factor}.",
        )


def _latents(
    plan: TrainingPlan, base: BaseModel, items: list[Item], device: torch.device, stages: Stages
) -> Latents:
    s = plan.settings
    folder = plan.cache_dir / plan.model_hash if plan.cache_dir and plan.model_hash else None
    base.vae.to(device)
    latents = Latents(base.vae, items, folder=folder, cached=s.cache_latents, device=device)
    if s.cache_latents:
        stages.enter("latents", "Encoding the pictures")
        latents.prepare(s.flip, lambda n, of: stages.pictures("latents", n, of))
        base.vae.to("cpu")  # it comes back for samples only
    return latents


def _reader(
    base: BaseModel,
    s: TrainingSettings,
    items: list[Item],
    prompts: list[str],
    device: torch.device,
    stages: Stages,
) -> TextReader:
    for encoder in base.text_encoders:
        encoder.to(device)
    remember = s.cache_text_embeddings and not s.train_text_encoder and not s.shuffle_captions
    reader = TextReader(base, device, remember=remember)
    if remember:
        stages.enter("captions", "Reading the captions")
        reader.learn(list(dict.fromkeys(["", *(i.caption for i in items), *prompts])))
        base.text_encoders.clear()
    return reader
