"""Making a better file of a picture: ordinary colours, upright, flattened, trimmed, in a format that trainers read.

Works on bytes only; `studio.dataset.derived` keeps the imported copy and can put it back.
"""

from __future__ import annotations

import io
from collections.abc import Collection
from contextlib import suppress
from typing import Literal

import numpy as np
from PIL import Image, ImageCms

from studio.dataset.bars import Sides, find_bars
from studio.dataset.formats import open_picture
from studio.dataset.pixels import eight_bits, on_white, orientation, shrink, turned

Way = Literal["convert", "flatten", "trim"]
WAYS: tuple[Way, ...] = ("convert", "flatten", "trim")
"""convert: what is always done. flatten: transparent parts become white. trim: letterbox bars are cut off."""

QUALITY = 95
"""JPEG quality, without colour subsampling, of pictures that came from a lossy camera format."""
_KEPT = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "BMP": ".bmp"}
_OTHER = {"HEIF": "JPEG", "AVIF": "JPEG", "MPO": "JPEG", "TIFF": "PNG", "GIF": "PNG"}
_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def remade(raw: bytes, ways: Collection[str]) -> tuple[bytes, str]:
    """The bytes of the new file and its ending, such as `.png`.

    In all cases: the first frame, upright, 8 bits a channel, sRGB, no metadata. JPEG, PNG, WebP and BMP stay what they
    are (WebP without loss), HEIC and AVIF become JPEG of QUALITY, everything else PNG.
    Raises TooManyPixels, OSError and what Pillow's decoders raise for a damaged file.
    """
    image = open_picture(raw)
    kind = image.format or "PNG"
    turn = orientation(image)
    profile = image.info.get("icc_profile")
    image.load()
    image = turned(_plain_colours(image, profile), turn)
    if "flatten" in ways:
        image = on_white(image)[0]
    if "trim" in ways:
        left, top, right, bottom = exact_bars(image)
        image = image.crop((left, top, image.width - right, image.height - bottom))
    return _encoded(image, _OTHER.get(kind, kind))


def _plain_colours(image: Image.Image, profile: bytes | None) -> Image.Image:
    """The picture in mode RGB or RGBA, its numbers meaning sRGB."""
    if image.mode.startswith(("I", "F")):
        return eight_bits(image).convert("RGB")
    if image.mode in ("P", "PA", "LA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
    alpha = image.getchannel("A") if image.mode == "RGBA" else None
    if alpha is not None and alpha.getextrema() == (255, 255):
        image, alpha = image.convert("RGB"), None
    colour = image.convert("RGB") if alpha is not None else image
    if profile:
        # A profile that does not fit its picture is as good as none.
        with suppress(ImageCms.PyCMSError, OSError, ValueError):
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            done = ImageCms.profileToProfile(colour, source, _SRGB, outputMode="RGB")
            colour = done if done is not None else colour
    colour = colour.convert("RGB")
    if alpha is not None:
        colour.putalpha(alpha)
    return colour


def exact_bars(image: Image.Image) -> Sides:
    """The bars in pixels of the whole picture. A soft edge that only shows small is cut a little further inside."""
    found = find_bars(np.asarray(on_white(image)[0].convert("L")))
    if any(found):
        return found
    small = on_white(shrink(image))[0].convert("L")
    left, top, right, bottom = find_bars(np.asarray(small))
    across, down = image.width / small.width, image.height / small.height

    def whole(bar: int, scale: float) -> int:
        return round((bar + 1) * scale) if bar else 0

    return whole(left, across), whole(top, down), whole(right, across), whole(bottom, down)


def _encoded(image: Image.Image, kind: str) -> tuple[bytes, str]:
    if image.mode == "RGBA" and kind in ("JPEG", "BMP"):
        kind = "PNG"
    out = io.BytesIO()
    image.info = {}  # neither EXIF nor profile: the pixels are upright and sRGB now
    if kind == "JPEG":
        image.save(out, "JPEG", quality=QUALITY, subsampling=0, optimize=True)
    elif kind == "WEBP":
        image.save(out, "WEBP", lossless=True, quality=70, method=4, exact=True)
    else:
        image.save(out, kind)
    return out.getvalue(), _KEPT[kind]
