"""Aspect-ratio buckets, with the arithmetic of kohya's sd-scripts.

Pictures of one bucket have one size after resizing and cropping, so that they fit in one batch. The functions here
follow `BucketManager.select_bucket`, `make_bucket_resolutions` and `trim_and_resize_if_required` of sd-scripts
(library/train_util.py and library/model_util.py, v0.10.1): the preview, the step plan and the built-in trainer all
use them, and another trainer arrives at the same buckets. Pure Python.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from studio.dataset.scan import Scan
    from studio.settings import TrainingSettings

Size = tuple[int, int]
"""Width and height in pixels."""


@dataclass(frozen=True)
class Placement:
    """How one picture gets into its bucket.

    bucket:  size that the trainer sees.
    resized: size after scaling, before cropping; at least the bucket in both directions.
    left, top: how much of the resized picture is cut at the left and at the top (the crop is centred).
    """

    bucket: Size
    resized: Size
    left: int
    top: int

    def crop_in(self, width: int, height: int) -> tuple[float, float, float, float]:
        """The part that is kept, in the original picture's pixels: left, top, right, bottom."""
        sx, sy = width / self.resized[0], height / self.resized[1]
        return (
            self.left * sx,
            self.top * sy,
            (self.left + self.bucket[0]) * sx,
            (self.top + self.bucket[1]) * sy,
        )

    @property
    def kept(self) -> float:
        """Share of the picture's area that remains after the crop, 0 to 1."""
        return self.bucket[0] * self.bucket[1] / (self.resized[0] * self.resized[1])


@dataclass(frozen=True)
class Bucket:
    """One bucket and the pictures in it."""

    width: int
    height: int
    names: tuple[str, ...]


@lru_cache(maxsize=64)
def bucket_sizes(resolution: int, step: int, smallest: int = 0, largest: int = 0) -> tuple[Size, ...]:
    """All bucket sizes of a resolution, sorted. `smallest` and `largest` bound a side; 0 means half and twice the
    resolution, which is sd-scripts' own default (256 to 1024) at 512."""
    smallest = smallest or max(step, resolution // 2 // step * step)
    largest = max(largest or resolution * 2, resolution)
    area = resolution * resolution
    side = int(math.sqrt(area) // step) * step
    found = {(side, side)}
    width = smallest
    while width <= largest:
        height = min(largest, int((area // width) // step) * step)
        if height >= smallest:
            found |= {(width, height), (height, width)}
        width += step
    return tuple(sorted(found))


def bucket_for(
    width: int,
    height: int,
    resolution: int,
    step: int,
    no_upscale: bool = True,
    *,
    buckets: bool = True,
    smallest: int = 0,
    largest: int = 0,
) -> Placement:
    """The bucket of a picture of `width` x `height` pixels (as shown, that is after EXIF rotation).

    resolution: side in pixels of the square whose area a bucket has at most.
    step:       bucket sides are multiples of it; a resolution below one step is used as it is.
    no_upscale: small pictures keep their size. Only a picture narrower than one step is enlarged, to one step.
    buckets:    False puts every picture in the square.
    Raises ValueError when a number is not positive.
    """
    if min(width, height, resolution, step) < 1:
        raise ValueError("width, height, resolution and step must be positive")
    if not buckets:
        return _fixed(width, height, ((resolution, resolution),))
    step = min(step, resolution)
    if no_upscale:
        return _free(width, height, resolution, step)
    return _fixed(width, height, bucket_sizes(resolution, step, smallest, largest))


def _fixed(width: int, height: int, sizes: tuple[Size, ...]) -> Placement:
    """Scale up or down to the listed size of the nearest aspect ratio."""
    aspect = width / height
    bucket = (
        (width, height) if (width, height) in sizes else min(sizes, key=lambda s: abs(s[0] / s[1] - aspect))
    )
    scale = bucket[1] / height if aspect > bucket[0] / bucket[1] else bucket[0] / width
    # Rounding can fall one pixel short of the bucket on a hair's breadth; the trainer needs at least the bucket.
    resized = (max(bucket[0], int(width * scale + 0.5)), max(bucket[1], int(height * scale + 0.5)))
    return _placed(bucket, resized)


def _free(width: int, height: int, resolution: int, step: int) -> Placement:
    """Scale down only; the bucket is what fits of the picture's own shape in multiples of `step`."""
    area, aspect = resolution * resolution, width / height

    def down(x: float) -> int:
        whole = int(x + 0.5)
        return whole - whole % step

    resized = (width, height)
    if width * height > area:
        ideal_width = math.sqrt(area * aspect)
        ideal_height = area / ideal_width
        w_rounded = down(ideal_width)
        h_in_wr = down(w_rounded / aspect)
        h_rounded = down(ideal_height)
        w_in_hr = down(h_rounded * aspect)
        # An extreme strip has less than one step across; sd-scripts divides by zero there, here that way just loses.
        by_width = abs(w_rounded / h_in_wr - aspect) if h_in_wr else math.inf
        by_height = abs(w_in_hr / h_rounded - aspect) if h_rounded else math.inf
        if by_width < by_height:
            resized = (w_rounded, int(w_rounded / aspect + 0.5))
        elif h_rounded:
            resized = (int(h_rounded * aspect + 0.5), h_rounded)
        else:
            resized = (max(1, int(ideal_width + 0.5)), max(1, int(ideal_height + 0.5)))
    if min(resized) >= step:
        return _placed((resized[0] - resized[0] % step, resized[1] - resized[1] % step), resized)
    # Narrower than one step, which sd-scripts cannot take: enlarged to one step, and only the middle of a strip kept.
    scale = step / min(resized)
    resized = (max(step, int(resized[0] * scale + 0.5)), max(step, int(resized[1] * scale + 0.5)))
    most = max(step, area // step // step * step)
    return _placed(
        (min(resized[0] - resized[0] % step, most), min(resized[1] - resized[1] % step, most)), resized
    )


def too_narrow(width: int, height: int, settings: TrainingSettings) -> bool:
    """Whether sd-scripts finds no bucket for a picture: scaled down to fit, it is less than one bucket step across. The script
    then stops with a division by zero, for one picture among thousands too. The built-in backend enlarges it instead."""
    if not (settings.buckets and settings.bucket_no_upscale):
        return False
    area, step = settings.resolution**2, settings.bucket_step
    if width * height <= area:
        return min(width, height) < step
    aspect = width / height
    ideal = math.sqrt(area * aspect)
    rounded = int(ideal + 0.5) // step * step
    across = int(area / ideal + 0.5) // step * step
    return int(rounded / aspect + 0.5) < step or across < step


def _placed(bucket: Size, resized: Size) -> Placement:
    return Placement(bucket, resized, (resized[0] - bucket[0]) // 2, (resized[1] - bucket[1]) // 2)


def place(width: int, height: int, settings: TrainingSettings) -> Placement:
    """`bucket_for` with the numbers of the training settings."""
    return bucket_for(
        width,
        height,
        settings.resolution,
        settings.bucket_step,
        settings.bucket_no_upscale,
        buckets=settings.buckets,
    )


def group(sizes: Iterable[tuple[str, int, int]], settings: TrainingSettings) -> list[Bucket]:
    """Buckets of pictures given as (name, width, height), smallest bucket first."""
    found: dict[Size, list[str]] = {}
    for name, width, height in sizes:
        found.setdefault(place(width, height, settings).bucket, []).append(name)
    return [Bucket(w, h, tuple(names)) for (w, h), names in sorted(found.items())]


def bucket_preview(scan: Scan, settings: TrainingSettings) -> list[Bucket]:
    """The buckets that training would form of the readable pictures, smallest first."""
    given = (
        settings.resolution,
        settings.bucket_step,
        settings.bucket_no_upscale,
        settings.buckets,
    )
    return list(
        scan.shown.each(
            "buckets",
            lambda: group(((p.name, p.width, p.height) for p in scan.pictures if p.error is None), settings),
            *given,
        )
    )
