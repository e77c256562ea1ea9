"""The cell store: every picture that any grid of a project has drawn, one file a cell hash.

    <project>/grids/cells/<hash>.png     the picture, with its prompt, weight and seed as text in the PNG

All grids share it, so nothing is drawn twice.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from studio import files
from studio.evaluation.spec import Cell, GridSpec
from studio.evaluation.thumbs import keep_small
from studio.project import Project


class CellStore:
    """The pictures of a project's grids, by cell hash."""

    def __init__(self, project: Project) -> None:
        self.project, self.folder = project, project.grids_dir / "cells"

    def path(self, cell_hash: str) -> Path:
        """Where the cell's picture is, or will be."""
        return self.folder / f"{cell_hash}.png"

    def has(self, cell_hash: str) -> bool:
        """Whether the cell has been drawn."""
        return self.path(cell_hash).is_file()

    def known(self) -> set[str]:
        """Hashes of all cells that have been drawn; one folder listing however many there are."""
        if not self.folder.is_dir():
            return set()
        return {p.name.removesuffix(".png") for p in self.folder.iterdir() if p.name.endswith(".png")}

    def versions(self) -> dict[str, int]:
        """Cell hash -> when its picture was written (ms since 1970), for all that have been drawn: an address that names both
        never means another picture. One folder listing however many there are."""
        versions: dict[str, int] = {}
        if not self.folder.is_dir():
            return versions
        with os.scandir(self.folder) as found:
            for entry in found:
                if entry.name.endswith(".png"):
                    with suppress(FileNotFoundError):  # taken away since the listing
                        versions[entry.name.removesuffix(".png")] = entry.stat().st_mtime_ns // 1_000_000
        return versions

    def put(self, cell_hash: str, picture: Image.Image, text: Mapping[str, str]) -> Path:
        """Store a picture atomically, with what made it as PNG text, and its small copy: whoever draws has the pixels at hand,
        and a page of hundreds need not make them. Raises EnvironmentalError when the disk is full."""
        note = PngInfo()
        for key, value in text.items():
            note.add_itxt(key, value)
        buffer = io.BytesIO()
        picture.save(buffer, "PNG", pnginfo=note)
        path = self.path(cell_hash)
        files.write_bytes(path, buffer.getvalue())
        keep_small(self.project, path, picture)
        return path


def cell_text(path: Path) -> dict[str, str]:
    """What made a stored picture: prompt, weight, seed and so on."""
    with Image.open(path) as picture:
        return {str(k): str(v) for k, v in picture.info.items() if isinstance(v, str)}


def cell_note(spec: GridSpec, cell: Cell) -> dict[str, str]:
    """What goes into the PNG: enough to draw it again."""
    lora = next(f for f in spec.lora_files if f.label == cell.checkpoint)
    note = {
        "prompt": cell.prompt.text,
        "weight": f"{cell.weight:g}",
        "seed": str(cell.seed),
        "steps": str(spec.steps),
        "guidance": f"{spec.guidance:g}",
        "sampler": spec.sampler,
        "size": f"{spec.width}x{spec.height}",
        "base model": spec.base_model,
        "negative": spec.negative,
    }
    if cell.weight:
        note |= {"lora": lora.path.name, "lora hash": lora.content}
    return note
