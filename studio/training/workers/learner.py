"""One step of training.

Everything that chance decides in a step (noise levels, noise, mirroring, caption dropout and order, network dropout) is
drawn from generators made of the seed and the step's number. So a run repeats itself bit for bit on one computer, and
one that was stopped goes on as if it had not been.
"""

from __future__ import annotations

import math
import random
from typing import Any

import torch

from studio.training.workers import failures, loss
from studio.training.workers.captions import Embedded, caption_for
from studio.training.workers.setup import Setup


class Learner:
    """Makes the steps of a run that is set up."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup

    def step(self, number: int, group: list[list[int]], losses: list[float]) -> tuple[float, float]:
        """Step `number` (from 1): one change of the LoRA from one or more batches of picture numbers.

        losses: of the steps before, to judge a failure by. Returns the loss, and the length of the gradient before
        clipping. Raises StudioError when either is not a number.
        """
        it, s = self._setup, self._setup.settings
        it.optimizer.zero_grad(set_to_none=True)
        value = 0.0
        for n, batch in enumerate(group):
            part = self._loss(batch, random.Random(f"{s.seed}/step/{number}/{n}")) / len(group)
            one = float(part.detach())
            if not math.isfinite(one):
                raise failures.not_finite(it.plan, number, losses, "loss")
            value += one
            it.accelerator.backward(part)
        it.accelerator.unscale_gradients(it.optimizer)
        limit = s.max_grad_norm or math.inf
        norm = float(torch.nn.utils.clip_grad_norm_(it.parameters, limit, foreach=True))
        if it.accelerator.scaler is None and not math.isfinite(norm):
            raise failures.not_finite(it.plan, number, losses, "gradient")
        it.optimizer.step()
        if not it.accelerator.optimizer_step_was_skipped:
            it.scheduler.step()
        if it.average is not None:
            it.average.step(it.parameters)
        return value, norm

    def _loss(self, batch: list[int], chance: random.Random) -> torch.Tensor:
        it, s = self._setup, self._setup.settings
        generator = torch.Generator().manual_seed(chance.getrandbits(62))
        if s.network_dropout:
            torch.manual_seed(chance.getrandbits(62))  # dropout draws from torch's own generator
        flipped = [s.flip and chance.random() < 0.5 for _ in batch]
        captions = [caption_for(it.items[i].caption, s, it.plan.trigger, chance) for i in batch]
        latents = it.latents.draw(batch, flipped, generator)
        levels = loss.draw_levels(len(batch), len(it.alphas), generator)
        noise = torch.randn(latents.shape, generator=generator)
        if s.noise_offset:
            noise += s.noise_offset * torch.randn((*latents.shape[:2], 1, 1), generator=generator)
        noise, levels = noise.to(it.device), levels.to(it.device)
        noisy = loss.add_noise(latents, noise, it.alphas, levels).to(it.dtype)
        with it.autocast():
            texts = it.reader.read(captions)
            guess = it.base.unet(
                noisy,
                levels,
                texts.hidden.to(it.dtype),
                **self._sizes(batch, flipped, texts),
                return_dict=False,
            )[0]
        prediction = it.plan.effective_prediction
        wanted = loss.target(prediction, latents, noise, it.alphas, levels)
        weights = loss.snr_weights(prediction, it.alphas, levels, s.min_snr_gamma)
        if any(it.items[i].regularisation for i in batch):
            prior = [s.prior_loss_weight if it.items[i].regularisation else 1.0 for i in batch]
            weights = weights * torch.tensor(prior, device=weights.device)
        return loss.weighted_error(guess, wanted, weights)

    def _sizes(self, batch: list[int], flipped: list[bool], texts: Embedded) -> dict[str, Any]:
        it = self._setup
        if texts.pooled is None:
            return {}
        told = [it.items[i].sdxl_sizes(f) for i, f in zip(batch, flipped, strict=True)]
        return {
            "added_cond_kwargs": {
                "text_embeds": texts.pooled.to(it.dtype),
                "time_ids": torch.tensor(told, device=it.device, dtype=it.dtype),
            }
        }
