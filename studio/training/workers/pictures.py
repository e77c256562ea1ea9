"""Pictures on their way into training: reading, placing into buckets, encoding once, and the order of an epoch."""

from __future__ import annotations

import hashlib
import io
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from safetensors.torch import load_file, save_file

from studio import files
from studio.dataset.buckets import Placement, Size, place
from studio.dataset.subsets import times_shown
from studio.errors import InputError
from studio.settings import TrainingSettings
from studio.training.base import PlannedPicture, TrainingPlan


@dataclass(frozen=True)
class Item:
    """A picture ready for training.

    original: width and height before scaling, as shown.   times: how often an epoch shows it.
    regularisation: its error counts with the setting `prior_loss_weight`.
    """

    index: int
    path: Path
    caption: str
    sha256: str
    original: Size
    placement: Placement
    times: int = 1
    regularisation: bool = False

    def sdxl_sizes(self, flipped: bool) -> tuple[int, int, int, int, int, int]:
        """What SDXL is told about the picture: original height and width, crop top and left, target height and width.

        Podell et al. 2023 (arXiv 2307.01952), section 2.2. In a mirrored picture the cut at the right is at the left.
        """
        width, height = self.placement.bucket
        left = self.placement.left
        if flipped:
            left = self.placement.resized[0] - width - left
        return (self.original[1], self.original[0], self.placement.top, left, height, width)


def _open(content: bytes) -> Image.Image:
    """The picture as shown: EXIF rotation applied, transparency on white, three channels."""
    with Image.open(io.BytesIO(content)) as raw:
        shown = ImageOps.exif_transpose(raw)
        if shown.mode in ("RGBA", "LA", "PA") or "transparency" in shown.info:
            shown = shown.convert("RGBA")
            ground = Image.new("RGBA", shown.size, "white")
            shown = Image.alpha_composite(ground, shown)
        return shown.convert("RGB")


def read_items(plan: TrainingPlan, step: Callable[[int], None]) -> list[Item]:
    """Open every picture once: whole, as frozen, and which bucket. step: told how many are done. Regularisation
    pictures that no epoch shows are left out.

    Raises InputError naming all pictures that cannot be used.
    """
    items: list[Item] = []
    bad = []
    shown = times_shown(plan.subsets())
    for i, planned in enumerate(plan.pictures):
        try:
            if times := shown.get(planned.path.name, 0):
                items.append(_item(len(items), planned, plan.settings, times))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as e:
            bad.append(f"{planned.path.name}: {str(e).splitlines()[0] if str(e) else type(e).__name__}")
        step(i + 1)
    if bad:
        raise InputError(
            f"{len(bad)} of {len(plan.pictures)} pictures cannot be used: {bad[0]}"
            + (f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""),
            "They are missing, damaged, or not the ones that the run was made with. " + "; ".join(bad[1:6]),
            "Check the dataset and start a new run.",
        )
    if not items:
        raise InputError("There are no pictures to train on.", "The dataset is empty.", "Add pictures.")
    return items


def _item(index: int, planned: PlannedPicture, settings: TrainingSettings, times: int) -> Item:
    content = planned.path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if planned.sha256 and planned.sha256 != digest:
        raise ValueError("its content has changed since the run was made")
    width, height = _open(content).size
    placement = place(width, height, settings)
    return Item(
        index,
        planned.path,
        planned.caption,
        digest,
        (width, height),
        placement,
        times,
        planned.regularisation,
    )


def pixels(item: Item, flipped: bool) -> torch.Tensor:
    """The picture in its bucket, -1 to 1, shape (1, 3, height, width), 32 bit."""
    shown = _open(item.path.read_bytes())
    if flipped:
        shown = ImageOps.mirror(shown)
    p = item.placement
    if shown.size != p.resized:
        shown = shown.resize(p.resized, Image.Resampling.LANCZOS)
    left = p.left if not flipped else p.resized[0] - p.bucket[0] - p.left
    shown = shown.crop((left, p.top, left + p.bucket[0], p.top + p.bucket[1]))
    flat = np.asarray(shown, dtype=np.float32) / 127.5 - 1.0
    return torch.from_numpy(flat).permute(2, 0, 1).unsqueeze(0).contiguous()


class Latents:
    """Encoded pictures. With caching each is encoded once, and kept on disk between runs when a folder is given.

    What is kept is the encoder's answer before its draw (mean and deviation), so that a cached picture is drawn anew at
    each step, just as an uncached one. Pictures are encoded one at a time, which makes the answer independent of what
    else is in a batch.
    """

    def __init__(
        self, vae: Any, items: list[Item], *, folder: Path | None, cached: bool, device: torch.device
    ) -> None:
        self._vae = vae
        self._items = items
        self._folder = folder
        self._cached = cached
        self._device = device
        self._known: dict[tuple[int, bool], tuple[torch.Tensor, torch.Tensor]] = {}
        config = vae.config
        self._scale = float(config.scaling_factor)
        self._shift = float(getattr(config, "shift_factor", None) or 0.0)

    def prepare(self, flips: bool, step: Callable[[int, int], None]) -> None:
        """Encode everything now. step: told (done, total)."""
        wanted = [(i.index, f) for i in self._items for f in ((False, True) if flips else (False,))]
        for n, key in enumerate(wanted):
            self._known[key] = self._stored(*key)
            step(n + 1, len(wanted))

    def draw(self, indices: list[int], flipped: list[bool], generator: torch.Generator) -> torch.Tensor:
        """Latents of a batch, scaled as the UNet wants them; shape (B, C, h, w), on the device."""
        found = [
            self._known[key] if self._cached and key in self._known else self._encode(*key)
            for key in zip(indices, flipped, strict=True)
        ]
        mean = torch.cat([m for m, _ in found])
        deviation = torch.cat([s for _, s in found])
        draw = torch.randn(mean.shape, generator=generator)
        return ((mean + deviation * draw - self._shift) * self._scale).to(self._device)

    def _stored(self, index: int, flipped: bool) -> tuple[torch.Tensor, torch.Tensor]:
        path = self._path(index, flipped)
        if path is None:
            return self._encode(index, flipped)
        if path.is_file():
            try:
                kept = load_file(path)
                return kept["mean"], kept["deviation"]
            except Exception:  # noqa: BLE001  a cut-off cache file is not worth a word: it is made again
                path.unlink(missing_ok=True)
        mean, deviation = self._encode(index, flipped)
        scratch = path.with_name(f".{path.name}.{files.new_id('tmp')}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            save_file({"mean": mean, "deviation": deviation}, scratch)
            scratch.replace(path)
        except Exception as e:  # noqa: BLE001  no room for the cache is no reason not to train
            print(f"{path.name} could not be kept: {e}", file=sys.stderr)
            scratch.unlink(missing_ok=True)
        return mean, deviation

    def _path(self, index: int, flipped: bool) -> Path | None:
        if self._folder is None:
            return None
        item = self._items[index]
        p = item.placement
        key = files.fingerprint(
            [item.sha256, p.bucket, p.resized, p.left, p.top, flipped, str(self._device.type)]
        )
        return self._folder / f"{key}.safetensors"

    @torch.no_grad()
    def _encode(self, index: int, flipped: bool) -> tuple[torch.Tensor, torch.Tensor]:
        picture = pixels(self._items[index], flipped).to(self._device)
        said = self._vae.encode(picture).latent_dist
        return said.mean.float().cpu().contiguous(), said.std.float().cpu().contiguous()


def into_buckets(items: list[Item]) -> list[list[int]]:
    """Picture numbers by bucket, the largest bucket first."""
    found: dict[Size, list[int]] = {}
    for item in items:
        found.setdefault(item.placement.bucket, []).append(item.index)
    return [found[size] for size in sorted(found, key=lambda s: (-s[0] * s[1], s))]


def shown_counts(buckets: list[list[int]], items: list[Item]) -> list[int]:
    """Pictures that an epoch shows in each bucket, repeats counted."""
    return [sum(items[i].times for i in bucket) for bucket in buckets]


def epoch_batches(
    buckets: list[list[int]], items: list[Item], settings: TrainingSettings, epoch: int
) -> list[list[int]]:
    """The batches of an epoch (counted from 1), decided by seed and epoch alone. A batch never mixes buckets."""
    chance = random.Random(f"{settings.seed}/order/{epoch}")
    size = settings.batch_size
    batches = []
    for bucket in buckets:
        rounds = max(items[i].times for i in bucket)
        shown = [i for n in range(rounds) for i in bucket if items[i].times > n]
        chance.shuffle(shown)
        batches += [shown[i : i + size] for i in range(0, len(shown), size)]
    chance.shuffle(batches)
    return batches


def heaviest_first(batches: list[list[int]], items: list[Item]) -> list[list[int]]:
    """The same batches, those with the most pixels first: a dry run should meet the largest need for memory."""

    def weight(batch: list[int]) -> int:
        width, height = items[batch[0]].placement.bucket
        return width * height * len(batch)

    return sorted(batches, key=weight, reverse=True)
