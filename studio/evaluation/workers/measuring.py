"""From a grid's pictures to its measurements."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np
from PIL import Image

from studio.evaluation.grid import Grid
from studio.evaluation.metrics import MeasuredCell, Pictures, measure
from studio.evaluation.prompts import training_pictures
from studio.evaluation.workers.features import NAME, Extractor, open_all

MAX_TRAINING = 100
"""Most training pictures to compare with; more do not move the means, and cost time."""


def measure_grid(grid: Grid, check: Callable[[], None] = lambda: None) -> dict[str, Any] | None:
    """Measurements of the cells that are there; None when no base cell is. check: called often; may raise to leave early."""
    spec = grid.spec
    cells = [c for c in grid.cells() if c.path is not None]
    if not any(c.weight == 0 for c in cells) or not any(c.weight != 0 for c in cells):
        return None
    size = (spec.width, spec.height)
    shown: dict[str, Image.Image] = {}
    for cell in cells:
        if cell.hash not in shown and cell.path is not None:
            check()
            with Image.open(cell.path) as raw:
                shown[cell.hash] = raw.convert("RGB")
    hashes = list(shown)
    paths = training_pictures(grid.project)
    step = max(1, -(-len(paths) // MAX_TRAINING))
    trained, names = open_all(paths[::step], size)
    extract = Extractor()
    pictures = extract([shown[h] for h in hashes], check)
    train: Pictures | None = None
    if trained:
        plain = extract(trained, check)
        mirrored = extract([p.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for p in trained], check)
        train = Pictures(
            *(np.concatenate([getattr(plain, f.name), getattr(mirrored, f.name)]) for f in fields(Pictures))
        )
    row = {h: i for i, h in enumerate(hashes)}
    base = {(c.prompt.id, c.seed): row[c.hash] for c in cells if c.weight == 0}
    arrays = [np.asarray(shown[h], dtype=np.float64) / 255 for h in hashes]
    change = np.full(len(hashes), np.nan)
    for cell in cells:
        at = base.get((cell.prompt.id, cell.seed))
        if at is not None:
            change[row[cell.hash]] = float(np.abs(arrays[row[cell.hash]] - arrays[at]).mean())
    order = [
        MeasuredCell(c.hash, c.checkpoint, c.weight, c.prompt.id, c.prompt.family, c.seed, c.prompt.pair)
        for c in cells
    ]
    return measure(spec.kind, order, row, pictures, change, train, names, NAME)
