"""Pictures as engines want to see them: turned as EXIF says, on white, small. Originals are only read."""

from __future__ import annotations

import hashlib
import io
import math
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from studio.captions.proposals import Ask, Trouble
from studio.captions.tagger import Resize
from studio.dataset.formats import MAX_FILE_BYTES, TooManyPixels, open_picture
from studio.dataset.pixels import as_shown

_ROOM = 2
"""Pictures are first reduced to no less than this many times the side that is wanted; the rest is done exactly."""


def opened(ask: Ask, side: int, *, whole: bool = False) -> Image.Image | Trouble:
    """A picture as RGB, its longer side at least `side` where it has that, and cheaply made smaller beyond twice that.

    whole: every pixel of the file, for whoever makes it smaller exactly.
    """
    try:
        if ask.path.stat().st_size > MAX_FILE_BYTES:
            return Trouble(ask.name, f"{ask.name} is larger than any picture.", "", "Set it aside.")
        image = open_picture(ask.path.read_bytes())
        least = side * _ROOM
        if image.format in ("JPEG", "MPO") and max(image.size) > least and not whole:
            # The JPEG decoder gives halves, quarters and eighths for a fraction of the work.
            scale = least / max(image.size)
            image.draft(None, (math.ceil(image.width * scale), math.ceil(image.height * scale)))
        shown = as_shown(image)
        factor = 1 if whole else max(shown.size) // least
        return shown.reduce(factor) if factor > 1 else shown
    except FileNotFoundError:
        return Trouble(
            ask.name,
            f"{ask.name} is no longer in the dataset.",
            "It was set aside or removed meanwhile.",
            "Restore it.",
        )
    except TooManyPixels as e:
        return Trouble(
            ask.name, f"{ask.name} is too large to be decoded.", f"{e} pixels.", "Make it smaller."
        )
    except Exception as e:  # noqa: BLE001  Pillow's decoders raise whatever a damaged file leads them to
        return Trouble(
            ask.name,
            f"{ask.name} cannot be opened.",
            f"Its content is damaged ({type(e).__name__}).",
            "Look at it on the dataset page; replace it or set it aside.",
        )


def tagger_input(image: Image.Image, side: int, resize: Resize = "bicubic") -> NDArray[np.float32]:
    """A picture as the WD taggers want it: padded to a white square, (side, side, 3) float32, BGR, 0 to 255.

    resize: `bicubic` as the taggers' authors do; `area` as the script of sd-scripts does, which enlarges by Lanczos.
    """
    longest = max(image.size)
    if resize == "area" and longest > side:
        return _blue_first(area_square(np.asarray(image), side))
    square = Image.new("RGB", (longest, longest), "white")
    square.paste(image, ((longest - image.width) // 2, (longest - image.height) // 2))
    if longest != side:
        way = Image.Resampling.LANCZOS if resize == "area" else Image.Resampling.BICUBIC
        square = square.resize((side, side), way)
    return _blue_first(np.asarray(square))


def _blue_first(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """RGB of bytes as BGR of floats; turned while it is small."""
    return np.take(pixels, (2, 1, 0), axis=2).astype(np.float32)


def area_square(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """A picture (height, width, channels) in the middle of a white square, as the mean over exactly the area that each
    point of the smaller square covers: what OpenCV calls INTER_AREA, up to the rounding of a few exact halves.

    The square must be larger than `side`. In whole numbers: a point spans as many parts as the square has pixels, a
    pixel as many as the small square has points. Those of the first step fit float32 exactly, those of the second float64.
    """
    height, width, channels = pixels.shape
    large = max(height, width)
    lines = pixels.reshape(height, -1)
    rows = np.full((side, width * channels), 255 * large, np.float32)
    for band in _bands(height, large, side, 1, np.float32):
        np.matmul(band.parts.T, lines[band.pixels].astype(np.float32), out=rows[band.points])
        if band.white.any():
            rows[band.points] += 255 * band.white[:, None]
    sums = np.full((side, side * channels), 255 * large**2, np.float64)
    for band in _bands(width, large, side, channels, np.float64):
        np.matmul(rows[:, band.pixels].astype(np.float64), band.parts, out=sums[:, band.points])
        if band.white.any():
            sums[:, band.points] += 255 * large * band.white
    mean = sums.reshape(side, side, channels) / large**2
    # Exact halves: OpenCV's way for just half the size rounds them up, its others to the even number.
    return (np.floor(mean + 0.5) if large == 2 * side else np.rint(mean)).astype(np.uint8)


_BAND = 8
"""Points reckoned in one product: more of them are fewer products, but with more weights of nothing. 4 to 16 cost alike."""


class _Band(NamedTuple):
    """points: which of the small side. pixels: which of the picture's they cover. parts: how much of each pixel lies in
    each point, (pixels, points). white: what is left of each point for the white around, (points,)."""

    points: slice
    pixels: slice
    parts: NDArray[Any]
    white: NDArray[Any]


@lru_cache(maxsize=4)  # the pictures of a dataset are often of one size, upright or lying
def _bands(
    count: int, large: int, side: int, channels: int, kind: type[np.float32] | type[np.float64]
) -> tuple[_Band, ...]:
    """How `side` points lie over `count` pixels in the middle of `large` of them; bands that are all white are left out.

    channels: numbers of a pixel that lie side by side, each with the weights of its pixel for its own channel and none
    for the others. Turning the picture over instead would cost more than these weights of nothing.
    """
    before = (large - count) // 2
    found = []
    for n in range(0, side, _BAND):
        begin = np.arange(n, min(side, n + _BAND)) * large - before * side  # a pixel is `side` parts thick
        first, last = max(0, int(begin[0]) // side), min(count, -(-(int(begin[-1]) + large) // side))
        if first >= last:
            continue
        edges = np.arange(first, last)[:, None] * side
        parts = np.minimum(edges + side, begin + large) - np.maximum(edges, begin)
        parts = np.maximum(parts, 0).astype(kind)
        wide = np.zeros((last - first, channels, len(begin), channels), kind)
        for c in range(channels):
            wide[:, c, :, c] = parts
        found.append(
            _Band(
                slice(n * channels, (n + len(begin)) * channels),
                slice(first * channels, last * channels),
                wide.reshape(len(parts) * channels, -1),
                np.repeat(large - parts.sum(axis=0), channels),
            )
        )
    return tuple(found)


def small(image: Image.Image, side: int) -> Image.Image:
    """At most `side` a side; smaller pictures stay as they are."""
    if max(image.size) <= side:
        return image
    image = image.copy()
    image.thumbnail((side, side), Image.Resampling.BICUBIC)
    return image


def jpeg(image: Image.Image, side: int, most_bytes: int = 0) -> bytes:
    """The picture as JPEG of at most `side` a side, without EXIF; where `most_bytes` asks for it of less quality, then
    smaller."""
    data = b""
    for quality, part in ((88, 1.0), (75, 1.0), (60, 1.0), (60, 0.75), (60, 0.5), (50, 0.35)):
        out = io.BytesIO()
        small(image, max(64, int(side * part))).save(out, "JPEG", quality=quality)
        data = out.getvalue()
        if not most_bytes or len(data) <= most_bytes:
            break
    return data


def content_hash(path: Path) -> str:
    """SHA-256 of a file; empty when it cannot be read."""
    try:
        with path.open("rb") as f:
            return hashlib.file_digest(f, "sha256").hexdigest()
    except OSError:
        return ""
