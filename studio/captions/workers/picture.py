"""Pictures as engines want to see them: turned as EXIF says, on white, small. Originals are only read."""

from __future__ import annotations

import hashlib
import io
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from studio.captions.proposals import Ask, Trouble
from studio.dataset.formats import MAX_FILE_BYTES, TooManyPixels, open_picture
from studio.dataset.pixels import as_shown

_ROOM = 2
"""Pictures are first reduced to no less than this many times the side that is wanted; the rest is done exactly."""


def opened(ask: Ask, side: int) -> Image.Image | Trouble:
    """A picture as RGB, its longer side at least `side` where it has that, and cheaply made smaller beyond twice that."""
    try:
        if ask.path.stat().st_size > MAX_FILE_BYTES:
            return Trouble(ask.name, f"{ask.name} is larger than any picture.", "", "Set it aside.")
        image = open_picture(ask.path.read_bytes())
        least = side * _ROOM
        if image.format in ("JPEG", "MPO") and max(image.size) > least:
            # The JPEG decoder gives halves, quarters and eighths for a fraction of the work.
            scale = least / max(image.size)
            image.draft(None, (math.ceil(image.width * scale), math.ceil(image.height * scale)))
        shown = as_shown(image)
        factor = max(shown.size) // least
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


def tagger_input(image: Image.Image, side: int) -> NDArray[np.float32]:
    """A picture as the WD taggers want it: padded to a white square, bicubic, (side, side, 3) float32, BGR, 0 to 255."""
    longest = max(image.size)
    square = Image.new("RGB", (longest, longest), "white")
    square.paste(image, ((longest - image.width) // 2, (longest - image.height) // 2))
    if longest != side:
        square = square.resize((side, side), Image.Resampling.BICUBIC)
    return np.ascontiguousarray(np.asarray(square, dtype=np.float32)[:, :, ::-1])


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
