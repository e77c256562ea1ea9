"""Pictures with planted duplicates: scenes, studio shots that look alike but are not the same, and thirteen kinds of copies.

Everything is drawn on the spot from a seed, so that anyone can make the same set. A studio shot is a figure in the
middle of plain white: what buries the owner of a character or product set when a detector looks at layout only.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps

SIDE = 1280


def scene(seed: int) -> Image.Image:
    """A landscape of coloured clouds with things in it and fine texture, 1280 pixels wide."""
    rng = np.random.default_rng(seed)
    width, height = SIDE, int(SIDE * rng.choice([0.66, 0.75, 1.0, 1.25]))
    image = np.zeros((height, width, 3), np.float32)
    for octave, share in ((3, 90), (7, 50), (17, 25), (48, 12)):
        raster = rng.normal(0, share, (octave, octave, 3)).astype(np.float32)
        raster += rng.normal(0, share * 0.7, (octave, octave, 1)).astype(np.float32)
        image += np.stack([_stretched(raster[..., c], width, height) for c in range(3)], axis=-1)
    image += rng.uniform(60, 190, 3).astype(np.float32)
    picture = Image.fromarray(np.clip(image, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(4, 16))):
        _thing(draw, rng, rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0.05, 0.28) * width)
    grain = rng.normal(0, 6, (height, width, 1)).astype(np.float32)
    return Image.fromarray(np.clip(np.asarray(picture, np.float32) + grain, 0, 255).astype(np.uint8))


def studio(seed: int) -> Image.Image:
    """A figure in the middle of white, in a pose of its own; ten shots in a row are of one figure in its clothes."""
    rng = np.random.default_rng(seed)
    clothes = np.random.default_rng(seed // 10)
    picture = Image.new("RGB", (960, 1280), "white")
    draw = ImageDraw.Draw(picture)
    skin, coat, legs, hair = (tuple(int(c) for c in clothes.integers(20, 225, 3)) for _ in range(4))
    x, scale = 480 + rng.uniform(-25, 25), rng.uniform(0.9, 1.12)
    hip, neck = (x + rng.uniform(-15, 15), 760), (x + rng.uniform(-25, 25), 760 - 340 * scale)
    for side in (-1, 1):
        knee = (hip[0] + side * rng.uniform(20, 110), hip[1] + 190 * scale)
        foot = (knee[0] + side * rng.uniform(-50, 70), knee[1] + 190 * scale)
        draw.line([hip, knee, foot], legs, int(62 * scale), "curve")
        hand = _bent(rng, neck, side, 150 * scale, 170 * scale)
        draw.line([(neck[0] + side * 50, neck[1] + 40), *hand], coat, int(46 * scale), "curve")
        draw.ellipse([hand[1][0] - 24, hand[1][1] - 24, hand[1][0] + 24, hand[1][1] + 24], skin)
    broad = clothes.uniform(75, 120) * scale
    draw.polygon([(neck[0] - broad, neck[1] + 30), (neck[0] + broad, neck[1] + 30), (hip[0] + broad * 0.8, hip[1] + 40),
                  (hip[0] - broad * 0.8, hip[1] + 40)], coat)  # fmt: skip
    for _ in range(int(clothes.integers(2, 7))):
        _thing(draw, clothes, neck[0] + clothes.uniform(-60, 60), neck[1] + clothes.uniform(60, 300), 55)
    head = (neck[0] + rng.uniform(-18, 18), neck[1] - 65 * scale)
    draw.ellipse([head[0] - 74, head[1] - 96, head[0] + 74, head[1] + 60], hair)
    draw.ellipse([head[0] - 58, head[1] - 74, head[0] + 58, head[1] + 72], skin)
    for side in (-1, 1):
        eye = head[0] + side * 22 + rng.uniform(-8, 8)
        draw.ellipse([eye - 8, head[1] - 14, eye + 8, head[1] + 2], "black")
    grain = rng.normal(0, 2.5, (1280, 960, 1)).astype(np.float32)
    return Image.fromarray(np.clip(np.asarray(picture, np.float32) + grain, 0, 255).astype(np.uint8))


def _bent(
    rng: np.random.Generator, neck: tuple[float, float], side: int, upper: float, lower: float
) -> list[tuple[float, float]]:
    first, second = rng.uniform(-0.4, 1.6), rng.uniform(-1.2, 1.8)
    elbow = (neck[0] + side * (50 + upper * math.cos(first)), neck[1] + 40 + upper * math.sin(first))
    return [elbow, (elbow[0] + side * lower * math.cos(second), elbow[1] + lower * math.sin(second))]


def _stretched(raster: np.ndarray, width: int, height: int) -> np.ndarray:
    return np.asarray(Image.fromarray(raster, "F").resize((width, height), Image.Resampling.BICUBIC))


def _thing(draw: ImageDraw.ImageDraw, rng: np.random.Generator, x: float, y: float, size: float) -> None:
    colour = tuple(int(c) for c in rng.integers(0, 256, 3))
    kind = int(rng.integers(0, 4))
    if kind == 0:
        wide = size * rng.uniform(0.4, 1)
        draw.ellipse([x - size / 2, y - wide / 2, x + size / 2, y + wide / 2], colour)
    elif kind == 1:
        angles = np.sort(rng.uniform(0, 2 * math.pi, int(rng.integers(3, 8))))
        draw.polygon([(x + size / 2 * math.cos(a), y + size / 2 * math.sin(a)) for a in angles], colour)
    elif kind == 2:
        end = (x + size * rng.uniform(-1, 1), y + size * rng.uniform(-1, 1))
        draw.line([(x, y), end], colour, max(2, int(size / 12)))
    else:
        draw.rectangle([x, y, x + size * rng.uniform(0.2, 1), y + size * rng.uniform(0.2, 1)], colour)


def _jpeg(image: Image.Image, quality: int) -> Image.Image:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality)
    return Image.open(out).convert("RGB")


def _cropped(share: float) -> Callable[[Image.Image, np.random.Generator], Image.Image]:
    """Cut off this share of each side's length, unevenly placed."""

    def cut(image: Image.Image, rng: np.random.Generator) -> Image.Image:
        w, h = image.size
        left, top = rng.uniform(0, share, 2)
        return image.crop(
            (int(left * w), int(top * h), int((1 - share + left) * w), int((1 - share + top) * h))
        )

    return cut


def _letterboxed(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    w, h = image.size
    bar = int(rng.uniform(0.08, 0.2) * h)
    ground = Image.new("RGB", (w, h + 2 * bar), "black" if rng.random() < 0.7 else "white")
    ground.paste(image, (0, bar))
    return ground


def _watermarked(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    marked = image.copy()
    draw = ImageDraw.Draw(marked)
    draw.text((image.width * rng.uniform(0.05, 0.5), image.height * 0.85), "sample.example", "white", font_size=image.width // 16,
              stroke_width=3, stroke_fill="black")  # fmt: skip
    return marked


def _warmed(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    tint = np.array([1 + rng.uniform(0.05, 0.2), 1.0, 1 - rng.uniform(0.05, 0.2)], np.float32)
    return Image.fromarray(np.clip(np.asarray(image, np.float32) * tint, 0, 255).astype(np.uint8))


def _plain(
    change: Callable[[Image.Image], Image.Image],
) -> Callable[[Image.Image, np.random.Generator], Image.Image]:
    return lambda image, _rng: change(image)


KINDS: dict[str, Callable[[Image.Image, np.random.Generator], Image.Image]] = {
    "half the size": _plain(lambda i: i.resize((i.width // 2, i.height // 2), Image.Resampling.LANCZOS)),
    "fifth of the size": _plain(lambda i: i.resize((i.width // 5, i.height // 5), Image.Resampling.BILINEAR)),
    "JPEG quality 20": _plain(lambda i: _jpeg(i, 20)),
    "mirrored": _plain(ImageOps.mirror),
    "brighter": lambda i, r: ImageEnhance.Brightness(i).enhance(r.uniform(1.2, 1.45)),
    "less contrast": lambda i, r: ImageEnhance.Contrast(i).enhance(r.uniform(0.5, 0.75)),
    "greyscale": _plain(lambda i: i.convert("L").convert("RGB")),
    "warmer": _warmed,
    "blurred": lambda i, r: i.filter(ImageFilter.GaussianBlur(r.uniform(2, 5))),
    "crop 4 %": _cropped(0.04),
    "crop 10 %": _cropped(0.10),
    "letterboxed": _letterboxed,
    "watermark": _watermarked,
}
"""The kinds of near copies: name -> how one is made."""


def plant(
    folder: Path, count: int, *, copies: float = 0.2, studios: float = 0.1, seed: int = 0
) -> dict[str, Any]:
    """Write `count` pictures, a share of them copies and a share studio shots; what is a copy of what.

    The answer: {"copies": {name: [original, kind]}, "studio": [names]}.
    """
    folder.mkdir(parents=True, exist_ok=True)
    planted = int(count * copies)
    shots = int(count * studios)
    originals: list[str] = []
    rng = np.random.default_rng(seed)
    for i in range(count - planted):
        name = f"{'studio' if i < shots else 'scene'}{i:05}.{'png' if i % 10 == 9 else 'jpg'}"
        image = studio(seed * 1_000_003 + i) if i < shots else scene(seed * 1_000_003 + i)
        _save(folder / name, image, int(rng.integers(86, 96)))
        originals.append(name)
    told: dict[str, list[str]] = {}
    kinds = list(KINDS)
    chosen = rng.permutation(len(originals))[:planted]
    for i, which in enumerate(chosen):
        kind = kinds[i % len(kinds)]
        with Image.open(folder / originals[which]) as original:
            copy = KINDS[kind](original.convert("RGB"), rng)
        name = f"copy{i:05}.jpg"
        _save(folder / name, copy, int(rng.integers(80, 94)))
        told[name] = [originals[which], kind]
    return {"copies": told, "studio": originals[:shots]}


def _save(path: Path, image: Image.Image, quality: int) -> None:
    if path.suffix == ".jpg":
        image.save(path, quality=quality)
    else:
        image.save(path, compress_level=1)
