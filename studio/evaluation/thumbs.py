"""Small copies of a grid's pictures: a page with sixty full-size pictures would take seconds at every click."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from studio import files
from studio.project import Project

SIDE = 320  # px of the longer side: twice the width of a grid's column, for sharp screens


def cell_thumb(project: Project, picture: Path) -> Path:
    """The small copy of a drawn cell, made when it is first asked for; the picture itself when it is small already.

    Copies lie in the project's cache and may be deleted at any time. A picture that cannot be opened is given back as it
    is: showing it says what is wrong with it.
    """
    small = project.cache_dir / "cells" / f"{picture.stem}.webp"
    if small.is_file():
        return small
    try:
        with Image.open(picture) as full:
            if max(full.size) <= SIDE:
                return picture
            copy = full.convert("RGB")
    except OSError:
        return picture
    copy.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    copy.save(buffer, "WEBP", quality=88)
    files.write_bytes(small, buffer.getvalue())
    return small
