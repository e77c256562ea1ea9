"""Trains the autoencoder: 64 x 64 RGB <-> 4 x 16 x 16 latents with zero mean and unit spread per channel."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor

from scripts.pocket import parallel, pictures, styles

BATCH = 16
"""Pictures per step, both processes together."""
EMA = 0.99
STYLED_SHARE = 0.3
KL_WEIGHT = 1e-5


@dataclass(frozen=True)
class Round:
    """One cosine of training; the second starts from the average of the first."""

    name: str
    share: float
    """Share of the training minutes, 0..1."""
    peak_rate: float
    chroma: float
    """Weight of the L1 of colour differences on 4 x pooled pixels."""
    edges: float
    """Weight of the L1 of differences between neighbouring pixels."""
    subjects: float
    """Share of the batch that comes from the 64 subjects; the rest comes from all pictures."""


ROUNDS = (
    # the heavy chroma term has to be there from step 0 on: without it red and green both end up brown
    Round("colours", share=0.677, peak_rate=2e-3, chroma=4.0, edges=0.0, subjects=0.5),
    # once colours are there the same term only keeps details blurred
    Round("details", share=0.33, peak_rate=2e-3, chroma=1.0, edges=1.0, subjects=0.6),
)


def build() -> AutoencoderKL:
    """An untrained autoencoder of 0.65 million parameters."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 32, 64),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=pictures.NATIVE,
        scaling_factor=1.0,
        mid_block_add_attention=False,
        force_upcast=False,
    )


class Drawer:
    """Draws training batches: random pictures on random grounds or in random styles, RGB in -1..1."""

    def __init__(self, data: pictures.Pictures, seed: int, subject_share: float = 0.5) -> None:
        self.subject_share = subject_share
        self.rgba = torch.from_numpy(data.rgba).permute(0, 3, 1, 2).contiguous()
        self.subjects = torch.tensor(data.subjects())
        self.random = torch.Generator().manual_seed(seed)

    def _chance(self, share: float) -> bool:
        return bool(torch.rand((), generator=self.random) < share)

    def one(self) -> Tensor:
        """One picture, 1 x 3 x 64 x 64."""
        pool = self.subjects if self._chance(self.subject_share) else torch.arange(len(self.rgba))
        row = pool[torch.randint(len(pool), (), generator=self.random)]
        rgba = self.rgba[row][None].float() / 255
        if self._chance(0.5):
            rgba = rgba.flip(-1)
        if self._chance(STYLED_SHARE):
            names = list(styles.STYLES)
            chosen = names[int(torch.randint(len(names), (), generator=self.random))]
            return styles.STYLES[chosen](rgba) * 2 - 1
        if self._chance(0.4):
            return styles.on_white(rgba) * 2 - 1
        if self._chance(0.5):
            colours = list(styles.GROUNDS.values())
            ground = torch.tensor([colours[int(torch.randint(len(colours), (), generator=self.random))]])
        else:
            ground = torch.rand(1, 3, generator=self.random)
        return styles.composite(rgba, ground) * 2 - 1

    def batch(self, size: int) -> Tensor:
        """size x 3 x 64 x 64."""
        return torch.cat([self.one() for _ in range(size)])


def chroma(rgb: Tensor) -> Tensor:
    """Colour without lightness (red - green, and blue against both) on 4 x pooled pixels."""
    small = F.avg_pool2d(rgb, 4)
    red, green, blue = small.unbind(1)
    return torch.stack([red - green, blue - (red + green) / 2], dim=1)


def neighbours(rgb: Tensor) -> tuple[Tensor, Tensor]:
    """Differences between pixels side by side, and one above the other."""
    return rgb[..., 1:] - rgb[..., :-1], rgb[..., 1:, :] - rgb[..., :-1, :]


def train(rank: int, work: Path, minutes: float, number: int) -> None:
    """One round in one of the two processes. Process 0 writes `vae_<round>.csv` and at the end `vae_<round>.pt`."""
    this = ROUNDS[number]
    torch.manual_seed(0)
    model = build().train()
    if number:
        model.load_state_dict(torch.load(work / f"vae_{ROUNDS[number - 1].name}.pt", weights_only=True))
    weights = list(model.parameters())
    parallel.share(weights)
    torch.manual_seed(1 + rank + 10 * number)
    drawer = Drawer(
        torch.load(work / "pictures.pt", weights_only=False),
        seed=10 + rank + 10 * number,
        subject_share=this.subjects,
    )
    optimizer = torch.optim.AdamW(weights, lr=this.peak_rate, betas=(0.9, 0.99), weight_decay=0.01)
    average = parallel.Average(model, EMA)
    clock = parallel.Clock(minutes * this.share)
    rows: list[list[float]] = []
    step, progress = 0, 0.0
    while progress < 1:
        rate = clock.rate(this.peak_rate, step, progress, warmup=50)
        for group in optimizer.param_groups:
            group["lr"] = rate
        real = drawer.batch(BATCH // parallel.WORLD)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            posterior = model.encode(real).latent_dist
            drawn = model.decode(posterior.sample()).sample
        drawn = drawn.float()
        mean, log_variance = posterior.mean.float(), posterior.logvar.float()
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
        loss = F.l1_loss(drawn, real) + this.chroma * F.l1_loss(chroma(drawn), chroma(real)) + KL_WEIGHT * kl
        if this.edges:
            sides = zip(neighbours(drawn), neighbours(real), strict=True)
            loss = loss + this.edges * sum(F.l1_loss(a, b) for a, b in sides)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        error = F.mse_loss(drawn, real).item() / 4
        loss_value, error, progress = parallel.average(weights, loss.item(), error, clock.progress())
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        average.update(model)
        step += 1
        if rank == 0:
            rows.append([step, loss_value, -10 * math.log10(max(error, 1e-9))])
            if step % 25 == 0:
                recent = [sum(row[i] for row in rows[-25:]) / 25 for i in (1, 2)]
                print(
                    f"vae {this.name} step {step} progress {progress:.3f} loss {recent[0]:.4f} psnr {recent[1]:.2f}",
                    flush=True,
                )
            if step % 500 == 0:
                torch.save(average.state, work / f"vae_{this.name}_partial.pt")
    if rank == 0:
        with (work / f"vae_{this.name}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["step", "loss", "psnr_db"])
            writer.writerows([[int(a), round(b, 5), round(c, 3)] for a, b, c in rows])
        torch.save(average.state, work / f"vae_{this.name}.pt")


@torch.no_grad()
def whiten(model: AutoencoderKL, images: Tensor) -> None:
    """Fold a shift and a scale per latent channel into quant_conv and post_quant_conv, so that the latents of
    `images` have mean 0 and spread 1 and `scaling_factor` can stay 1.0."""
    latents = torch.cat([model.encode(part).latent_dist.mean for part in images.split(64)])
    mean, spread = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    n = len(mean)
    encoder, decoder = model.quant_conv, model.post_quant_conv
    encoder.weight[:n] /= spread.view(-1, 1, 1, 1)
    encoder.bias[:n] = (encoder.bias[:n] - mean) / spread
    encoder.bias[n:] -= 2 * spread.log()
    decoder.bias += decoder.weight[:, :, 0, 0] @ mean
    decoder.weight *= spread.view(1, -1, 1, 1)


def load(work: Path) -> AutoencoderKL:
    """The trained autoencoder, latents whitened over the pictures that the UNet will see."""
    model = build()
    model.load_state_dict(torch.load(work / f"vae_{ROUNDS[-1].name}.pt", weights_only=True))
    model.eval().requires_grad_(False)
    data: pictures.Pictures = torch.load(work / "pictures.pt", weights_only=False)
    drawer = Drawer(data, seed=7)
    rgba = drawer.rgba[drawer.subjects].float() / 255
    grounds = [styles.composite(rgba, torch.tensor([colour])) for colour in styles.GROUNDS.values()]
    # white three times: it is the ground of most training pictures
    whiten(model, torch.cat([*grounds, styles.on_white(rgba), styles.on_white(rgba)]) * 2 - 1)
    return model
