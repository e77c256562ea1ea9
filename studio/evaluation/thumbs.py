"""Small copies of a grid's pictures: a page with sixty full-size pictures would take seconds at every click."""

from __future__ import annotations

import base64
import io
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import Image, ImageOps

from studio import files
from studio.errors import InputError, StudioError
from studio.project import Project

SIDE = 320  # px of the longer side: twice the width of a grid's column, for sharp screens


def cell_thumb(project: Project, picture: Path) -> Path:
    """The small copy of a drawn cell, made anew when the picture is newer; the picture itself when it is small already.

    Copies lie in the project's cache and may be deleted at any time. A picture that cannot be opened is given back as it
    is: showing it says what is wrong with it.
    """
    small = _small_path(project, picture)
    with suppress(OSError):
        if small.stat().st_mtime_ns >= picture.stat().st_mtime_ns:
            return small
    try:
        with Image.open(picture) as full:
            if max(full.size) <= SIDE:
                return picture
            full.draft("RGB", (SIDE, SIDE))
            return keep_small(project, picture, full) or picture
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return picture


def keep_small(project: Project, picture: Path, full: Image.Image) -> Path | None:
    """Write the small copy of a picture that lies at `picture` and is open as `full`; its path, or None when the picture is
    small already. A cache that cannot be written costs no picture."""
    if max(full.size) <= SIDE:
        return None
    copy = full.convert("RGB")
    copy.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS, reducing_gap=2.0)
    buffer = io.BytesIO()
    copy.save(buffer, "WEBP", quality=86, method=2)
    small = _small_path(project, picture)
    try:
        files.write_bytes(small, buffer.getvalue())
    except (OSError, StudioError):
        return None
    return small


def _small_path(project: Project, picture: Path) -> Path:
    return project.cache_dir / "cells" / f"{picture.stem}.webp"


LARGE = 1536
"""px of the longer side beyond which the large view shows a smaller copy."""


@dataclass(frozen=True)
class PictureUrl:
    """A picture as an address that holds it whole, and its size in pixels."""

    address: str
    width: int
    height: int


def picture_url(path: Path) -> PictureUrl:
    """A picture for the large view, as it would be shown (turned, on white). Raises InputError when it cannot be opened."""
    try:
        stat = path.stat()
    except OSError as e:
        raise InputError(
            f"The picture {path.name} is not there any more.",
            "It was moved or deleted.",
            "Draw the grid again.",
        ) from e
    return _picture_url(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=64)
def _picture_url(path: Path, _size: int, _time: int) -> PictureUrl:
    try:
        with Image.open(path) as raw:
            shown: Image.Image = ImageOps.exif_transpose(raw).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as e:
        raise InputError(
            f"{path.name} cannot be opened.", "The file is damaged or no picture.", "Draw the cell again."
        ) from e
    shown.thumbnail((LARGE, LARGE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    if max(shown.size) <= 256:
        shown.save(buffer, "PNG")
        kind = "png"
    else:
        shown.save(buffer, "WEBP", quality=92)
        kind = "webp"
    address = f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
    return PictureUrl(address, *shown.size)


def small_url(project: Project, path: Path) -> str:
    """A cell's small copy as an address that holds it whole; "" when it cannot be read."""
    small = cell_thumb(project, path)
    kind = "webp" if small.suffix == ".webp" else "png"
    try:
        return f"data:image/{kind};base64,{base64.b64encode(small.read_bytes()).decode('ascii')}"
    except OSError:
        return ""
