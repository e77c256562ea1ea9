"""Sample pictures during training: a short DDIM drawing with the LoRA as it is now."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from diffusers import DDIMScheduler
from PIL import Image

from studio.jobs.lifeline import Worker
from studio.training.workers import saving
from studio.training.workers.base_model import BaseModel
from studio.training.workers.setup import Setup

# Steps and guidance: enough to judge by, cheap enough to draw at every epoch. Pocket was tuned at guidance 4.
_STEPS = {"pocket": 12}
_GUIDANCE = {"pocket": 4.0}


class SampleStopped(Exception):
    """The job shall stop; the drawing was given up."""


def scheduler_for(config: dict[str, Any]) -> DDIMScheduler:
    """DDIM with the noise levels of the base model. A model trained to pure noise has to start from there."""
    told = {**config, "clip_sample": False, "set_alpha_to_one": False}
    if config.get("rescale_betas_zero_snr"):
        told["timestep_spacing"] = "trailing"
    return DDIMScheduler.from_config(told)


class Sampler:
    """Draws a run's samples into its samples folder: `<step>_<number>.png`, and what was asked for in a .json beside it."""

    def __init__(self, setup: Setup, worker: Worker) -> None:
        self._setup = setup
        self._worker = worker

    def draw_missing(self, step: int, epoch: int) -> bool:
        """Draw the samples of this moment unless they are there; False when the job was asked to stop meanwhile."""
        folder, prompts = self._setup.plan.samples_dir, self._setup.prompts
        names = [f"{step:06d}_{i}" for i in range(len(prompts))]
        if all((folder / f"{name}.png").is_file() for name in names):
            return not self._worker.should_stop
        try:
            pictures = self._setup.with_average(self._draw)
        except SampleStopped:
            return False
        for name, picture, prompt in zip(names, pictures, prompts, strict=True):
            saving.write_sample(folder, name, picture, {"prompt": prompt, "epoch": epoch, "step": step})
            self._worker.emit("sample", path=f"samples/{name}.png", step=step, epoch=epoch, prompt=prompt)
        return not self._worker.should_stop

    def _draw(self) -> list[Image.Image]:
        it = self._setup
        it.network.train(False)
        it.base.vae.to(it.device)
        try:
            return draw(
                it,
                it.prompts,
                side=self._side(),
                seed=it.settings.seed,
                should_stop=lambda: self._worker.should_stop,
            )
        finally:
            if it.settings.cache_latents:
                it.base.vae.to("cpu")
            it.network.train()

    def _side(self) -> int:
        """The resolution, as a multiple of what the UNet can halve without a remainder."""
        base = self._setup.base
        unit = base.pixel_factor * 2 ** (len(base.unet.config.block_out_channels) - 1)
        return int(max(unit, self._setup.settings.resolution // unit * unit))


@torch.no_grad()
def draw(
    it: Setup, prompts: list[str], *, side: int, seed: int, should_stop: Callable[[], bool]
) -> list[Image.Image]:
    """One square picture of `side` pixels for each prompt, the i-th from seed + i; guidance leads away from no caption.

    Raises SampleStopped when should_stop() turns true.
    """
    base, count = it.base, len(prompts)
    with it.autocast():
        texts = it.reader.read([""] * count + prompts).to(it.device, it.dtype)
    more: dict[str, Any] = {}
    if texts.pooled is not None:
        sizes = torch.tensor([[side, side, 0, 0, side, side]] * (2 * count), device=it.device, dtype=it.dtype)
        more["added_cond_kwargs"] = {"text_embeds": texts.pooled, "time_ids": sizes}
    scheduler = scheduler_for(base.scheduler_config)
    scheduler.set_timesteps(_STEPS.get(base.family, 20))
    shape = (1, base.unet.config.in_channels, side // base.pixel_factor, side // base.pixel_factor)
    starts = [torch.randn(shape, generator=torch.Generator().manual_seed(seed + i)) for i in range(count)]
    latents = torch.cat(starts).to(it.device) * scheduler.init_noise_sigma
    guidance = _GUIDANCE.get(base.family, 7.0)
    for level in scheduler.timesteps:
        if should_stop():
            raise SampleStopped
        with it.autocast():
            doubled = torch.cat([latents, latents]).to(it.dtype)
            said = base.unet(doubled, level, encoder_hidden_states=texts.hidden, **more).sample
        without, with_text = said.float().chunk(2)
        latents = scheduler.step(without + guidance * (with_text - without), level, latents).prev_sample
    return [_decoded(base, one) for one in latents.split(1)]


def _decoded(base: BaseModel, latent: torch.Tensor) -> Image.Image:
    config = base.vae.config
    vae_device = next(base.vae.parameters()).device
    shift = getattr(config, "shift_factor", None) or 0.0
    picture = base.vae.decode((latent / config.scaling_factor + shift).float().to(vae_device)).sample[0]
    flat = ((picture.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).cpu().numpy()
    return Image.fromarray(flat)
