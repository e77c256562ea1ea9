"""Packing a run's pictures and captions into one ZIP for a trainer elsewhere. The originals are only read."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps

from studio import files
from studio.errors import InputError
from studio.training.base import PlannedPicture

AS_THEY_ARE = frozenset({".jpg", ".jpeg", ".png", ".webp"})
"""Kinds of pictures that trainers everywhere read."""
LARGEST_SIDE_FACTOR = 2.0
"""Pictures larger than this many times the largest trained size are scaled down to it: the trainer would do so anyway,
while every byte has to travel first."""
_DATE = (2020, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Packed:
    """pictures, captions: how many went in; scaled: how many were scaled down or converted; size: bytes."""

    pictures: int
    captions: int
    scaled: int
    size: int


def pack(
    pictures: tuple[PlannedPicture, ...],
    target: Path,
    *,
    largest: int,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
    check: Callable[[], None] = lambda: None,
) -> Packed:
    """Write the ZIP. Regularisation pictures stay out: trainers elsewhere do not know them.

    largest: pixels of the largest trained size. The same pictures give the same bytes; camera data (place, time, device)
    stays here. check: asked between pictures, may raise. Raises InputError when a picture is not the one that was frozen.
    """
    chosen = [p for p in pictures if not p.regularisation]
    scaled = captions = 0
    with files.atomic_file(target) as out, zipfile.ZipFile(out, "w") as z:
        for n, picture in enumerate(chosen):
            check()
            if picture.sha256 and files.sha256_file(picture.path) != picture.sha256:
                raise InputError(
                    f"{picture.path.name} is not the picture that the run was made with.",
                    "Its content changed since.",
                    "Start a new run.",
                )
            content, suffix, changed = _fitted(picture.path, largest)
            scaled += changed
            _add(z, f"{n + 1:05}{suffix}", content, zipfile.ZIP_STORED)
            if picture.caption.strip():
                captions += 1
                _add(z, f"{n + 1:05}.txt", picture.caption.strip().encode(), zipfile.ZIP_DEFLATED)
            progress(n + 1, len(chosen))
    return Packed(len(chosen), captions, scaled, target.stat().st_size)


def _add(z: zipfile.ZipFile, name: str, content: bytes, how: int) -> None:
    info = zipfile.ZipInfo(name, _DATE)
    info.compress_type = how
    info.external_attr = 0o644 << 16
    z.writestr(info, content)


def _fitted(path: Path, largest: int) -> tuple[bytes, str, bool]:
    """A picture's bytes for the ZIP, its ending, and whether it was changed. What is small enough, of a common kind and
    without camera data goes as it is; anything else is written anew, upright."""
    suffix = path.suffix.lower()
    with Image.open(path) as picture:
        limit = int(largest * LARGEST_SIDE_FACTOR)
        fits = max(picture.size) <= limit
        if fits and suffix in AS_THEY_ARE and not picture.getexif():
            return path.read_bytes(), suffix, False
        upright = ImageOps.exif_transpose(picture)
        if not fits:
            upright.thumbnail((limit, limit), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        if suffix in (".jpg", ".jpeg"):
            upright.convert("RGB").save(
                buffer, "JPEG", quality=95, subsampling=0, icc_profile=picture.info.get("icc_profile")
            )
            return buffer.getvalue(), ".jpg", True
        mode = upright.mode if upright.mode in ("RGB", "RGBA", "L") else "RGB"
        upright.convert(mode).save(buffer, "PNG", icc_profile=picture.info.get("icc_profile"))
        return buffer.getvalue(), ".png", True


def zipped(texts: Mapping[str, str]) -> bytes:
    """Small text files as a ZIP, the same bytes for the same texts."""
    told = io.BytesIO()
    with zipfile.ZipFile(told, "w") as z:
        for name, text in texts.items():
            _add(z, name, text.encode(), zipfile.ZIP_DEFLATED)
    return told.getvalue()
